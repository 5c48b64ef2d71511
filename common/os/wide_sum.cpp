#include "common/os/wide_sum.hpp"

#include <fmt/format.h>

#include "common/os/text.hpp"

namespace visitd {

namespace {

constexpr std::size_t limb_digits = 18;

}  // namespace

void WideSum::add(std::uint64_t count) noexcept {
  low_ += count % limb;
  high_ += count / limb + low_ / limb;
  low_ %= limb;
}

bool WideSum::add(std::string_view digits) noexcept {
  std::uint64_t low = 0;
  std::uint64_t high = 0;
  const bool has_high = digits.size() > limb_digits;
  if (has_high &&
      (digits.size() > 2 * limb_digits || !parse_decimal(digits.substr(0, digits.size() - limb_digits), high))) {
    return false;
  }
  if (!parse_decimal(has_high ? digits.substr(digits.size() - limb_digits) : digits, low)) return false;
  add(low);
  high_ += high;
  return true;
}

std::string WideSum::text() const {
  return high_ == 0 ? fmt::format("{}", low_) : fmt::format("{}{:018}", high_, low_);
}

std::optional<std::uint64_t> WideSum::number() const noexcept {
  std::uint64_t sum = 0;
  if (__builtin_mul_overflow(high_, limb, &sum) || __builtin_add_overflow(sum, low_, &sum)) return std::nullopt;
  return sum;
}

}  // namespace visitd
