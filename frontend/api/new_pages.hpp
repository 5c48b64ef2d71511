// How many pages that nobody has counted before requests from outside may bring along. Knows no socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/config/settings.hpp"
#include "frontend/api/token_bucket.hpp"
#include "frontend/http/refusals.hpp"

namespace visitd {

class NewPages {
 public:
  explicit NewPages(const Settings& settings) { take_settings(settings); }

  /// What was taken stays taken.
  void take_settings(const Settings& settings) {
    per_minute_ = settings.http.public_new_pages_per_minute;
    if (per_minute_ != 0) rate_ = TokenRate::per_minute(per_minute_, per_minute_);
  }

  [[nodiscard]] bool any() const noexcept { return per_minute_ != 0; }
  [[nodiscard]] std::uint64_t left(std::uint64_t now_ms) const noexcept {
    return rate_.left(full_at_, now_ms * ns_per_ms);
  }
  void take(std::uint64_t pages, std::uint64_t now_ms) noexcept {
    if (pages != 0) full_at_ = rate_.taken(full_at_, now_ms * ns_per_ms, pages);
  }

  /// What is said of one page too many; its detail lives until the next call. `entry`: of a list; nullptr: of none.
  [[nodiscard]] Problem problem(std::string_view page, const std::size_t* entry);
  /// Seconds until one more may come, at least 1.
  [[nodiscard]] std::uint32_t wait_s(std::uint64_t now_ms) const noexcept;

 private:
  std::uint32_t per_minute_ = 0;  ///< 0: no limit
  TokenRate rate_;
  std::uint64_t full_at_ = 0;
  std::string detail_;
};

}  // namespace visitd
