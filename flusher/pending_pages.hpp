// What the flusher holds of each page in memory: visits that Redis has not acknowledged, and the page's entry in the
// view.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace visitd {

struct PendingPage {
  std::uint64_t hash = 0;       ///< seeded by the ring
  std::uint64_t open = 0;       ///< applied, not sealed
  std::uint64_t inflight = 0;   ///< sealed, not acknowledged
  std::uint64_t unspooled = 0;  ///< the part of open that no transaction holds yet
  std::uint32_t bucket = 0;
  std::uint32_t node = 0;  ///< of its entry in the view; 0: none
  bool in_bucket = false;  ///< stands in its bucket's list of open pages
  bool looked_up = false;  ///< somebody waits for its count
  std::string page;

  /// Nothing is known of it that could not be forgotten.
  [[nodiscard]] bool idle() const noexcept {
    return open == 0 && inflight == 0 && unspooled == 0 && node == 0 && !in_bucket && !looked_up;
  }
};

/// A hash table of pages; their numbers stay the same as long as they are in it.
class PendingPages {
 public:
  static constexpr std::uint32_t none = ~std::uint32_t{0};

  PendingPages();

  [[nodiscard]] std::uint32_t find(std::uint64_t hash, std::string_view page) const noexcept;
  /// A page that is not there yet.
  std::uint32_t insert(std::uint64_t hash, std::string_view page, std::uint32_t bucket);
  void erase(std::uint32_t number) noexcept;
  void erase_if_idle(std::uint32_t number) noexcept {
    if (pages_[number].idle()) erase(number);
  }

  [[nodiscard]] PendingPage& operator[](std::uint32_t number) noexcept { return pages_[number]; }
  [[nodiscard]] const PendingPage& operator[](std::uint32_t number) const noexcept { return pages_[number]; }
  [[nodiscard]] std::size_t size() const noexcept { return pages_.size() - free_.size(); }

  template <typename Each>
  void each(Each call) const {
    for (const PendingPage& page : pages_) call(page);  // a free place is an empty page
  }

 private:
  /// The upper half of the hash and the page's number: most mismatches are told without looking at the page.
  struct Slot {
    std::uint32_t tag = 0;
    std::uint32_t number = none;
  };
  [[nodiscard]] static std::uint32_t tag_of(std::uint64_t hash) noexcept {
    return static_cast<std::uint32_t>(hash >> 32U);
  }
  void place(std::uint64_t hash, std::uint32_t number) noexcept;
  void grow();

  std::vector<Slot> slots_;
  std::size_t mask_;
  std::vector<PendingPage> pages_;
  std::vector<std::uint32_t> free_;
};

}  // namespace visitd
