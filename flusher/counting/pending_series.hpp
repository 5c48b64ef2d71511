// What the flusher holds of each series in memory: visits that Redis has not acknowledged, and where the page's entry
// in the view is. Made for millions of series. One with a name of 32 bytes takes at most 112 bytes, with all that
// refers to it. No single call moves more than a small part of the table. Once series are gone, their memory goes back.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace visitd {

/// One series; its name lies behind it: of a page's total the page's id.
struct SeriesVisits {
  std::uint64_t hash = 0;       ///< seeded by the ring
  std::uint64_t open = 0;       ///< applied, not sealed, not spilled
  std::uint64_t inflight = 0;   ///< sealed, not acknowledged
  std::uint64_t unspooled = 0;  ///< the part of open that no transaction holds yet
  std::uint32_t node = 0;       ///< of its page's entry in the view; 0: none
  std::uint16_t bucket = 0;
  std::uint16_t length : 12 = 0;    ///< of its name, bytes
  std::uint16_t in_bucket : 1 = 0;  ///< stands in its bucket's list of open series
  std::uint16_t looked_up : 1 = 0;  ///< somebody waits for its count
  std::uint16_t counted : 1 = 0;    ///< among those with visits

  SeriesVisits() = default;
  SeriesVisits(const SeriesVisits&) = delete;
  SeriesVisits& operator=(const SeriesVisits&) = delete;

  [[nodiscard]] std::string_view name() const noexcept { return {reinterpret_cast<const char*>(this + 1), length}; }
  /// Nothing is known of it that could not be forgotten.
  [[nodiscard]] bool idle() const noexcept {
    return open == 0 && inflight == 0 && unspooled == 0 && node == 0 && in_bucket == 0 && looked_up == 0;
  }
};
static_assert(sizeof(SeriesVisits) == 40);

/// A hash table of series; their numbers and places stay the same as long as they are in it.
class PendingSeries {
 public:
  static constexpr std::uint32_t none = ~std::uint32_t{0};
  /// What a series takes besides itself and its name: its place in the index (8 bytes, at least three eighths of the
  /// places are taken), in its bucket's list and in the list of what is not durable (4 bytes each, doubled by growth).
  static constexpr std::size_t overhead_bytes = 40;

  PendingSeries();

  [[nodiscard]] std::uint32_t find(std::uint64_t hash, std::string_view series) const noexcept;
  /// One that is not there yet, with a name of at most 4095 bytes.
  std::uint32_t insert(std::uint64_t hash, std::string_view series, std::uint32_t bucket);
  /// Its number, also of one that was not there yet. Its hash is seeded by `hash_seed`, its bucket one of
  /// `buckets`.
  std::uint32_t find_or_insert(std::string_view series, std::uint64_t hash_seed, std::uint32_t buckets);
  void erase(std::uint32_t number) noexcept;
  void erase_if_idle(std::uint32_t number) noexcept {
    if ((*this)[number].idle()) erase(number);
  }

  [[nodiscard]] SeriesVisits& operator[](std::uint32_t number) noexcept { return *at(number); }
  [[nodiscard]] const SeriesVisits& operator[](std::uint32_t number) const noexcept { return *at(number); }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  // -- visits: what is pending is counted here, and changed by these alone

  /// Visits came out of a lane; no transaction holds them yet. Returns the series.
  SeriesVisits& apply(std::uint32_t number, std::uint64_t visits) {
    SeriesVisits& series = (*this)[number];
    if (series.unspooled == 0) unspooled_.push_back(number);
    series.unspooled += visits;
    visits_ += visits;
    series.open += visits;
    count(series);
    return series;
  }
  /// The same of visits that came out of no lane: no entry shows them before a transaction holds them.
  SeriesVisits& give(std::uint32_t number, std::uint64_t visits) {
    unshown_[number] += visits;
    return apply(number, visits);
  }
  /// What an entry shows of a page's open visits.
  [[nodiscard]] std::uint64_t shown_open(std::uint32_t number) const noexcept {
    const auto given = unshown_.find(number);
    return (*this)[number].open - (given == unshown_.end() ? 0 : given->second);
  }
  /// These of the given visits are durable: entries show them.
  void show(std::uint32_t number, std::uint64_t visits) noexcept {
    const auto given = unshown_.find(number);
    given->second -= visits;
    if (given->second == 0) unshown_.erase(given);
  }
  /// Open visits that the spool holds already.
  void recover_open(std::uint32_t number, std::uint64_t visits) noexcept {
    visits_ += visits;
    (*this)[number].open += visits;
    count((*this)[number]);
  }
  /// Of an unanswered batch.
  void recover_inflight(std::uint32_t number, std::uint64_t visits) noexcept {
    visits_ += visits;
    (*this)[number].inflight += visits;
    count((*this)[number]);
  }
  /// Visits that only the spool holds.
  void recover_spilled(std::uint64_t visits) noexcept { visits_ += visits; }
  /// Open visits became part of a batch.
  void seal(std::uint32_t number, std::uint64_t visits) noexcept {
    (*this)[number].open -= visits;
    (*this)[number].inflight += visits;
  }
  /// A batch's visits were acknowledged, or set aside. The series may be gone afterwards.
  void settle(std::uint32_t number, std::uint64_t visits) noexcept {
    visits_ -= visits;
    (*this)[number].inflight -= visits;
    count((*this)[number]);
    erase_if_idle(number);
  }
  /// Open visits are in the spool alone from now on; they are pending still.
  void spill(std::uint32_t number, std::uint64_t visits) noexcept {
    (*this)[number].open -= visits;
    count((*this)[number]);
  }
  /// Spilled visits are here again.
  void recall(std::uint32_t number, std::uint64_t visits) noexcept {
    (*this)[number].open += visits;
    count((*this)[number]);
  }

  /// Calls `each` with every series that has visits no transaction holds, which then holds them.
  template <typename Each>
  void take_unspooled(Each each) {
    for (const std::uint32_t number : std::exchange(unspooled_, {})) {
      each(std::as_const((*this)[number]));
      (*this)[number].unspooled = 0;
    }
  }
  [[nodiscard]] bool has_unspooled() const noexcept { return !unspooled_.empty(); }
  /// No further series is applied before a transaction has taken these: one that holds more would keep the loop too
  /// long.
  [[nodiscard]] bool unspooled_is_full() const noexcept { return unspooled_.size() >= unspooled_limit; }

  // -- what is pending

  /// The series comes to its bucket's list of open ones, or goes from it.
  void set_in_bucket(SeriesVisits& series, bool in_bucket) noexcept {
    if ((series.in_bucket != 0) == in_bucket) return;
    series.in_bucket = in_bucket ? 1 : 0;
    open_bytes_ += in_bucket ? bytes_of(series.length) : ~bytes_of(series.length) + 1;
  }
  /// The memory of the series in these lists.
  [[nodiscard]] std::uint64_t open_bytes() const noexcept { return open_bytes_; }
  /// Visits that Redis has not acknowledged, here and spilled.
  [[nodiscard]] std::uint64_t visits() const noexcept { return visits_; }
  /// Series with such visits.
  [[nodiscard]] std::uint64_t with_visits() const noexcept { return with_visits_; }
  /// The memory that they take.
  [[nodiscard]] std::uint64_t pending_bytes() const noexcept { return pending_bytes_; }
  [[nodiscard]] static std::uint64_t bytes_of(std::size_t name_length) noexcept {
    return record_size(name_length) + overhead_bytes;
  }

  /// The memory of the table itself: of all series, with visits or without.
  [[nodiscard]] std::size_t table_bytes() const noexcept;

 private:
  /// The lower half of the hash and the series' number: growing needs no look at the series, and most mismatches
  /// neither.
  struct Slot {
    std::uint32_t tag = 0;
    std::uint32_t number = none;
  };
  /// The index in parts, by the top of the hash: each grows and shrinks on its own.
  struct Part {
    std::vector<Slot> slots;
    std::size_t used = 0;
  };
  /// A block has places for series. The names of all of them take the same number of words. Of a series' number, the
  /// upper bits say the block, and the lower bits say the place in the block.
  struct Block {
    std::unique_ptr<std::byte[]> memory;
    std::uint32_t words = 0;  ///< of a name
    std::uint32_t used = 0;
    std::uint32_t free = none;  ///< the first place that was given back; each names the next one
    std::uint32_t touched = 0;  ///< places from here on were never used
    std::uint32_t capacity = 0;
  };
  static constexpr std::size_t parts = 256;
  static constexpr std::size_t least_slots = 16;
  static constexpr std::uint32_t place_bits = 10;
  static constexpr std::size_t block_bytes = (64U << 10U) - 64;
  /// About 5 MiB of deltas with names of 32 bytes, which the loop gathers in some 20 ms.
  static constexpr std::size_t unspooled_limit = 131072;

  [[nodiscard]] static constexpr std::size_t record_size(std::size_t name_length) noexcept {
    return sizeof(SeriesVisits) + (name_length + 7) / 8 * 8;
  }
  [[nodiscard]] SeriesVisits* at(std::uint32_t number) const noexcept {
    const Block& block = blocks_[number >> place_bits];
    return reinterpret_cast<SeriesVisits*>(block.memory.get() + std::size_t{number & ((1U << place_bits) - 1)} *
                                                                    record_size(std::size_t{block.words} * 8));
  }
  [[nodiscard]] static std::uint32_t tag_of(std::uint64_t hash) noexcept { return static_cast<std::uint32_t>(hash); }
  [[nodiscard]] Part& part_of(std::uint64_t hash) noexcept { return parts_[hash >> 56U]; }
  /// The series' open or inflight visits changed: whether it is one with visits.
  void count(SeriesVisits& series) noexcept;
  static void place(std::vector<Slot>& slots, Slot slot) noexcept;
  static void resize(Part& part, std::size_t slots);
  void remove_slot(Part& part, std::uint32_t tag, std::uint32_t number) noexcept;
  [[nodiscard]] std::uint32_t take_place(std::size_t name_length);
  [[nodiscard]] std::uint32_t make_block(std::uint32_t words);
  void give_back(std::uint32_t number) noexcept;

  std::vector<Part> parts_;
  std::vector<Block> blocks_;
  std::vector<std::uint32_t> unused_blocks_;        ///< numbers of blocks without memory
  std::vector<std::set<std::uint32_t>> with_room_;  ///< by words of a name: blocks; the lowest is filled first
  std::vector<std::uint32_t> unspooled_;
  std::unordered_map<std::uint32_t, std::uint64_t> unshown_;  ///< by series: given visits
  std::size_t size_ = 0;
  std::uint64_t visits_ = 0;
  std::size_t blocks_with_memory_ = 0;
  std::uint64_t with_visits_ = 0;
  std::uint64_t pending_bytes_ = 0;
  std::uint64_t open_bytes_ = 0;
};

}  // namespace visitd
