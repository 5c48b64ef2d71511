// Internet addresses and networks, as settings and header fields write them. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace visitd {

/// An IPv6 address, or an IPv4 address mapped into one (RFC 4291, ::ffff:0:0/96).
struct IpAddress {
  std::array<std::uint8_t, 16> bytes{};

  /// Without port and brackets; nullopt: it is none.
  [[nodiscard]] static std::optional<IpAddress> parse(std::string_view text) noexcept;
  [[nodiscard]] static IpAddress from_ipv4(const std::uint8_t (&octets)[4]) noexcept;
  [[nodiscard]] bool is_ipv4() const noexcept;
  /// 127.0.0.0/8 or ::1: only this host's processes have it.
  [[nodiscard]] bool is_loopback() const noexcept;
  [[nodiscard]] std::string text() const;

  friend bool operator==(const IpAddress&, const IpAddress&) = default;
};

/// All addresses that begin with the same bits.
class IpNetwork {
 public:
  /// ADDRESS or ADDRESS/BITS; nullopt: it is none, or has bits behind the prefix.
  [[nodiscard]] static std::optional<IpNetwork> parse(std::string_view text) noexcept;
  [[nodiscard]] bool contains(const IpAddress& address) const noexcept;

 private:
  IpAddress address_;
  unsigned bits_ = 128;
};

/// Networks as settings name them, which are checked.
class IpNetworks {
 public:
  explicit IpNetworks(const std::vector<std::string>& texts);
  [[nodiscard]] bool empty() const noexcept { return networks_.empty(); }
  [[nodiscard]] bool contain(const IpAddress& address) const noexcept;

 private:
  std::vector<IpNetwork> networks_;
};

}  // namespace visitd
