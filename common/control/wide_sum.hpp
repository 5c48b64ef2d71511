// A sum of counts that does not wrap.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace visitd {

class WideSum {
 public:
  void add(std::uint64_t count) noexcept;
  /// Its digits.
  [[nodiscard]] std::string text() const;
  /// nullopt: it needs more than 64 bits.
  [[nodiscard]] std::optional<std::uint64_t> number() const noexcept;

 private:
  static constexpr std::uint64_t limb = 1'000'000'000'000'000'000U;
  std::uint64_t low_ = 0;   ///< below `limb`
  std::uint64_t high_ = 0;  ///< of `limb`
};

}  // namespace visitd
