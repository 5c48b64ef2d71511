// Reads the list of all pages from the flusher, a piece at a time, and shows on a terminal how far it is.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/config/settings.hpp"
#include "ctl/report.hpp"

namespace visitd {

/// A page and its count; nullopt: it is not known.
using EachPage = std::function<void(std::string_view page, std::optional<std::uint64_t> count)>;

/// A sum of counts that does not wrap.
class WideSum {
 public:
  void add(std::uint64_t count) noexcept;
  /// Its digits.
  [[nodiscard]] std::string text() const;
  /// A number where it is one of 64 bits, else its digits as text.
  [[nodiscard]] Json json() const;

 private:
  static constexpr std::uint64_t limb = 1'000'000'000'000'000'000U;
  std::uint64_t low_ = 0;   ///< below `limb`
  std::uint64_t high_ = 0;  ///< of `limb`
};

/// Puts the lines of pieces together: a page comes once, and pages of a bucket come in the order of their names.
class PageLines {
 public:
  explicit PageLines(EachPage each) : each_(std::move(each)) {}

  /// Throws Error where they are of another version.
  void take(std::string_view lines);
  /// There are no more.
  void end();

  [[nodiscard]] std::uint64_t unknown_buckets() const noexcept { return unknown_buckets_; }
  /// Why the first of them is not known.
  [[nodiscard]] const std::string& why_unknown() const noexcept { return why_unknown_; }

 private:
  void begin(std::uint64_t bucket);

  EachPage each_;
  std::optional<std::uint64_t> bucket_;                                 ///< that is being listed
  std::unordered_map<std::string, std::optional<std::uint64_t>> held_;  ///< its pages
  std::uint64_t unknown_buckets_ = 0;
  std::string why_unknown_;
};

/// Whether a page's id matches a pattern, as a shell matches file names, but that '*' stands for a slash too. An empty
/// pattern matches all.
[[nodiscard]] bool is_chosen(const std::string& glob, std::string_view page);

/// Has `each` called with every page. Throws Error where the flusher cannot be asked. Returns why the list is not
/// complete, for people; empty: it is.
[[nodiscard]] std::string list_pages(const Settings& settings, const EachPage& each);

}  // namespace visitd
