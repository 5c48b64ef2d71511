// Sums by page, made for millions of pages. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace visitd {

/// Pages and their counts.
using PageCounts = std::vector<std::pair<std::string, std::uint64_t>>;

/// A table of hashes beside the pages: half the time of the standard library's, which keeps each page in a place of its
/// own.
class PageSums {
 public:
  /// The page's sum, from 0 on; until the next call.
  [[nodiscard]] std::uint64_t& of(std::string_view page);
  /// In the order in which the pages came first, without those whose sum is 0.
  [[nodiscard]] PageCounts take() &&;

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint64_t number = 0;  ///< of the page in `pages_`, from 1 on; 0: free
  };

  [[nodiscard]] Slot& slot_of(std::uint64_t hash, std::string_view page);
  void grow();

  PageCounts pages_;
  std::vector<Slot> slots_;  ///< a power of two of them, at most half of them taken
};

}  // namespace visitd
