// How many visits each client address may add, so that one client does not make a count. Of IPv6 one address stands for
// its /64 network. A frontend knows of its own clients alone, and of so many addresses at a time as settings say: of
// those that share a place in the table, the one whose bucket is fullest is forgotten first. Knows no socket.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "common/os/ip_network.hpp"
#include "frontend/api/answers.hpp"
#include "frontend/api/token_bucket.hpp"
#include "frontend/http/refusals.hpp"

namespace visitd {

class AddressRates {
 public:
  explicit AddressRates(const Settings& settings);

  /// Addresses are remembered if as many of them are as before.
  void take_settings(const Settings& settings);

  [[nodiscard]] bool any() const noexcept { return !slots_.empty(); }

  /// Why the client may add nothing now, and the seconds that it has to wait; nullopt: it may. The problem's detail
  /// lives until the next call.
  struct Exceeded {
    Problem problem;
    std::uint32_t wait_s;
  };
  [[nodiscard]] std::optional<Exceeded> problem_with(const IpAddress& client, std::uint64_t now_ms);

  /// Notes visits that the client adds, be they more than it has left.
  void take(const IpAddress& client, std::uint64_t visits, std::uint64_t now_ms) noexcept;

  /// The fields RateLimit and RateLimit-Policy of an answer to this client.
  void show(const IpAddress& client, std::uint64_t now_ms, Answer& answer) noexcept;

 private:
  struct Slot {
    std::array<std::uint8_t, 16> network{};
    std::uint64_t full_at = 0;
  };

  void use(const Settings& settings);
  [[nodiscard]] Slot& slot_of(const IpAddress& client) noexcept;

  TokenRate rate_;
  std::vector<Slot> slots_;  ///< sets of places, one behind the other; empty: no limit
  std::uint64_t seed_;       ///< so that nobody outside knows who shares a set with whom
  std::uint32_t per_minute_ = 0;
  std::string policy_;
  std::string detail_;
};

}  // namespace visitd
