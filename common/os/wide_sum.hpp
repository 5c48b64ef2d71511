// A sum of counts that does not wrap: counts have 63 bits, their sum may have more.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace visitd {

class WideSum {
 public:
  void add(std::uint64_t count) noexcept;
  /// Digits of a sum, at most 36 of them. False: the text is something else, and nothing was added.
  [[nodiscard]] bool add(std::string_view digits) noexcept;
  /// Its digits.
  [[nodiscard]] std::string text() const;
  /// nullopt: it is no number of 64 bits.
  [[nodiscard]] std::optional<std::uint64_t> number() const noexcept;

 private:
  static constexpr std::uint64_t limb = 1'000'000'000'000'000'000U;
  std::uint64_t low_ = 0;   ///< below `limb`
  std::uint64_t high_ = 0;  ///< of `limb`
};

}  // namespace visitd
