// The read of a count, with all its rules: an entry's snapshot, what the lanes hold beyond it, whether all of that is
// still the truth, and whether it may be shown now. A function of memory and time: it knows no socket, clock, file or
// thread, and asks nobody. The simulation runs this very code.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "common/counter/backlog.hpp"
#include "common/shm/cache_layout.hpp"
#include "common/shm/view.hpp"

namespace visitd {

class CountReader {
 public:
  /// What a reader sees of the cache that serves its ring.
  struct CacheMemory {
    const CacheHeader* header = nullptr;  ///< nullptr: no flusher has made a cache yet
    const LonelyWord* heads = nullptr;    ///< of the lanes; nullptr: no space is ever freed
    std::array<ViewMemory, 2> views;
    std::span<const Word> shard_of_bucket;  ///< empty: no page is placed
  };

  /// Milliseconds.
  struct Limits {
    std::uint64_t flusher_away = 0;   ///< a flusher that has not shown itself for so long is away
    std::uint64_t flusher_start = 0;  ///< the same for a page without an entry: the flusher may be starting again
    std::uint64_t stale = 0;          ///< for so long past its TTL a count is shown, marked stale
  };

  enum class Kind : std::uint8_t {
    fresh,    ///< the count
    stale,    ///< the last known count, past its TTL
    wait,     ///< the flusher has to be asked, or is about to say it: to be read again
    unknown,  ///< there is no count to show
  };

  /// Why a count is not fresh.
  enum class Why : std::uint8_t {
    none,              ///< it is
    no_cache,          ///< no flusher has served this ring yet
    changing,          ///< the flusher was changing the entry at each try
    absent,            ///< the page has no entry
    expired,           ///< its TTL is over
    shard_connecting,  ///< one of the two before, and the shard cannot be asked just now
    flusher_away,      ///< nobody can ask the shard
    shard_down,
    shard_held,  ///< for the operator
    damaged,     ///< the page has no count in Redis
    retired,     ///< another cache serves the ring
    superseded,  ///< frontends record into a newer ring, which this reader does not see
  };

  struct Reading {
    Kind kind = Kind::unknown;
    Why why = Why::none;
    bool has_entry = false;  ///< what stands below was read, whether it may be shown or not
    bool damaged = false;
    std::uint64_t count = 0;
    std::uint64_t expires_ms = 0;
    bool cache_retired = false;     ///< to be read again with the cache that has taken its place, if there is one
    std::uint32_t tries_again = 0;  ///< snapshots that had to be taken again
  };

  /// `superseded`: the ring's word. `index_limit`, `short_bytes`: see Backlog.
  CountReader(std::vector<Backlog::Lane> lanes, const Word& superseded, std::size_t index_limit,
              std::uint64_t short_bytes = Backlog::usual_short_bytes)
      : superseded_(superseded), backlog_(std::move(lanes), index_limit, short_bytes) {}

  /// From now on this cache, which outlives the reader or the next call.
  void follow(const CacheMemory& cache) noexcept { cache_ = cache; }
  void limit(const Limits& limits) noexcept { limits_ = limits; }

  /// `now_ms`: of the monotonic clock.
  [[nodiscard]] Reading read(std::uint64_t hash, std::string_view page, std::uint64_t now_ms);
  /// What a reading that is to wait comes to for somebody who waits no longer: stale or unknown.
  [[nodiscard]] Reading give_up(const Reading& waiting, std::uint64_t now_ms) const noexcept {
    return last_known(waiting, waiting.why, now_ms);
  }

  /// When the page's entry expires; 0: it has none. nullopt: it is just being changed. Reads no lane.
  [[nodiscard]] std::optional<std::uint64_t> expiry(std::uint64_t hash, std::string_view page) noexcept;
  /// Changes whenever anything of a page's chain in the view does.
  [[nodiscard]] std::uint64_t chain_mark(std::uint64_t hash) const noexcept;
  /// The number of the page's shard in the cache; nullopt: the page is not placed.
  [[nodiscard]] std::optional<std::uint64_t> shard_of(std::string_view page) const noexcept;

  struct Page {
    std::uint64_t hash = 0;
    std::string_view page;
  };
  /// Where each read would read all lanes, they are read once, now, for all of these pages, which read() is asked for
  /// next, in this order. The pages live until forget().
  void gather(std::span<const Page> pages);
  void forget() noexcept { gathered_ = {}; }
  /// Whether gather() would read anything.
  [[nodiscard]] bool gathers() const noexcept { return cache_.header != nullptr && backlog_.is_scanned(); }

  /// What a count is the sum of, for people. Whatever stands in memory is read; nothing of it need be right.
  struct Parts {
    /// none: the page has an entry; `snapshot` holds it. absent, no_cache: the page has no entry. If it is any other,
    /// do not trust snapshot and lanes.
    Why why = Why::none;
    Snapshot snapshot;
    std::vector<Backlog::LaneVisits> lanes;
  };
  [[nodiscard]] Parts parts(std::uint64_t hash, std::string_view page);

  /// See Backlog.
  [[nodiscard]] std::uint64_t direct_scans() const noexcept { return backlog_.direct_scans(); }

 private:
  struct Gathered {
    Page page;
    Reading reading;
  };

  /// One try, without regard to time. none: the reading has an entry.
  [[nodiscard]] Why try_read(std::uint64_t hash, std::string_view page, Reading& reading);
  /// Takes a snapshot of the page's entry. none: there is one.
  [[nodiscard]] Why take_snapshot(std::uint64_t hash, std::string_view page, Snapshot& snapshot) const noexcept;
  [[nodiscard]] bool take_gathered(std::uint64_t hash, std::string_view page, Reading& reading) noexcept;
  [[nodiscard]] Why why_untrue() const noexcept;
  void judge(Why why, std::string_view page, std::uint64_t now_ms, Reading& reading) const noexcept;
  [[nodiscard]] Reading last_known(const Reading& reading, Why why, std::uint64_t now_ms) const noexcept;
  [[nodiscard]] ShardState state_of_shard(std::string_view page) const noexcept;
  static void sum_up(const Snapshot& snapshot, std::uint64_t visits, Reading& reading) noexcept;

  const Word& superseded_;
  CacheMemory cache_;
  Limits limits_;
  Backlog backlog_;
  Snapshot snapshot_;
  std::vector<Gathered> gathered_;  ///< those that were not asked for yet, the next one last
};

}  // namespace visitd
