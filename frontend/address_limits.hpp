// How many connections each client address has, where that is limited. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "frontend/client_address.hpp"

namespace visitd {

/// IPv6 clients are told apart by their /64 network: every household has one, with as many addresses as it likes.
class AddressLimits {
 public:
  /// `most`: of one address; 0: no limit. `exempt`: networks without a limit, as settings name them.
  AddressLimits(std::uint32_t most, const std::vector<std::string>& exempt) : most_(most), exempt_(exempt) {}

  [[nodiscard]] bool is_reached(const ClientAddress& client) const {
    if (!is_limited(client)) return false;
    const auto found = counts_.find(key_of(*client));
    return found != counts_.end() && found->second >= most_;
  }
  void add(const ClientAddress& client) {
    if (is_limited(client)) ++counts_[key_of(*client)];
  }
  void remove(const ClientAddress& client) {
    if (!is_limited(client)) return;
    const auto found = counts_.find(key_of(*client));
    if (found != counts_.end() && --found->second == 0) counts_.erase(found);
  }
  [[nodiscard]] bool is_same(const ClientAddress& a, const ClientAddress& b) const noexcept {
    return a && b && key_of(*a) == key_of(*b);
  }
  /// Addresses that have connections.
  [[nodiscard]] std::size_t addresses() const noexcept { return counts_.size(); }

 private:
  [[nodiscard]] bool is_limited(const ClientAddress& client) const noexcept {
    return most_ != 0 && client && !exempt_.include(client);
  }
  static std::string key_of(const IpAddress& address) {
    const std::size_t size = address.is_ipv4() ? 16 : 8;
    return {address.bytes.begin(), address.bytes.begin() + static_cast<std::ptrdiff_t>(size)};
  }

  std::uint32_t most_;
  TrustedProxies exempt_;
  std::unordered_map<std::string, std::uint32_t> counts_;
};

}  // namespace visitd
