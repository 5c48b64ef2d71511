// What each client address has: connections, where their number is limited, and bytes of bodies. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>

#include "frontend/http/client_address.hpp"
#include "frontend/server/deadlines.hpp"

namespace visitd {

/// What one address has.
struct AddressShare {
  std::uint32_t connections = 0;
  std::uint64_t uploading_bytes = 0;  ///< of its requests that wait for their body or their answer
  DeadlineList idle{0};               ///< its idle connections, the one that is idle longest first
  DeadlineList uploads{0};            ///< its requests of these bytes, the one without progress for longest first
};

class AddressLimits {
 public:
  /// `most`: connections of one address; 0: no limit. `exempt`: clients that are not looked at; they outlive it.
  AddressLimits(std::uint32_t most, const TrustedProxies& exempt) noexcept : most_(most), exempt_(&exempt) {}

  /// Counts a connection. What it returns stays where it is until the last connection of the address is removed;
  /// nullptr: a proxy, or a Unix socket's other end.
  [[nodiscard]] AddressShare* add(const ClientAddress& client) {
    if (!client || exempt_->include(client)) return nullptr;
    AddressShare& share = shares_[key_of(*client)];
    ++share.connections;
    return &share;
  }
  void remove(const ClientAddress& client) {
    if (!client) return;
    const auto found = shares_.find(key_of(*client));
    if (found != shares_.end() && --found->second.connections == 0) shares_.erase(found);
  }
  /// The share of an address that may have no other connection; nullptr: it may.
  [[nodiscard]] AddressShare* reached(const ClientAddress& client) {
    if (most_ == 0 || !client) return nullptr;
    const auto found = shares_.find(key_of(*client));
    return found != shares_.end() && found->second.connections >= most_ ? &found->second : nullptr;
  }
  /// Addresses that have connections.
  [[nodiscard]] std::size_t addresses() const noexcept { return shares_.size(); }

 private:
  static std::string key_of(const IpAddress& address) {
    const IpAddress network = network_of(address);
    return {network.bytes.begin(), network.bytes.end()};
  }

  std::uint32_t most_;
  const TrustedProxies* exempt_;
  std::unordered_map<std::string, AddressShare> shares_;
};

}  // namespace visitd
