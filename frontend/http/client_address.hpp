// Who a client is: the other end of its connection, or whom trusted proxies name in its place.
#pragma once

#include <sys/socket.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/os/ip_network.hpp"
#include "frontend/http/entrance.hpp"

namespace visitd {

/// nullopt: the other end of a Unix socket, which is a process of this host.
using ClientAddress = std::optional<IpAddress>;

/// What an address is limited with: itself, or of IPv6 its /64 network. Every household has one, with as many addresses
/// as it likes.
[[nodiscard]] IpAddress network_of(const IpAddress& address) noexcept;

/// Of a socket address as accept() and the like give it.
[[nodiscard]] ClientAddress client_address(const sockaddr_storage& address) noexcept;

class TrustedProxies {
 public:
  /// `networks`: as settings name them, checked.
  explicit TrustedProxies(const std::vector<std::string>& networks) : networks_(networks) {}

  /// Whether what this client says of others counts. That of this host's processes does.
  [[nodiscard]] bool include(const ClientAddress& client) const noexcept;

  /// Whom a request is from: the nearest address in Forwarded (RFC 7239), or else in X-Forwarded-For, that is not of a
  /// trusted proxy; the connection's where that one is not trusted, and where what is named is no address. Through a
  /// Unix socket that is open to every user nobody is believed.
  [[nodiscard]] ClientAddress client_behind(const ClientAddress& client, std::string_view fields,
                                            Entrance entrance) const;
  /// The same for people: "192.0.2.7", "a process of this host".
  [[nodiscard]] std::string origin_of(const ClientAddress& client, std::string_view fields, Entrance entrance) const;

 private:
  IpNetworks networks_;
};

}  // namespace visitd
