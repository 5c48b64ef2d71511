#include "common/control/wide_sum.hpp"

#include <fmt/format.h>

namespace visitd {

void WideSum::add(std::uint64_t count) noexcept {
  low_ += count % limb;
  high_ += count / limb + low_ / limb;
  low_ %= limb;
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
