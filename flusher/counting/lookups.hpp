// Requests for counts → one read of Redis a page → entries in the view. Decides; knows no clock, loop or socket.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/shm/statistics.hpp"
#include "flusher/counting/counting_memory.hpp"
#include "flusher/counting/flusher_view.hpp"
#include "flusher/counting/pending_series.hpp"
#include "flusher/counting/uncountable_pages.hpp"

namespace visitd {

class Lookups {
 public:
  /// `later`: the page's bucket comes into memory first.
  enum class Asked : std::uint8_t { yes, later, no };
  /// Asks the page's shard.
  using Ask = std::function<Asked(std::uint32_t page)>;

  Lookups(const CountingMemory& memory, std::uint32_t buckets, std::uint64_t ttl_ms, FlusherView& view,
          PendingSeries& pending, FlusherStatistics statistics, Ask ask);

  /// Another TTL for the counts that shards say from now on.
  void use(std::uint64_t ttl_ms) noexcept { ttl_ms_ = ttl_ms; }

  /// Takes the requests that the frontends posted. True: there were some.
  bool run(std::uint64_t now_ms);
  /// Whether no request waits to be taken.
  [[nodiscard]] bool is_empty() const noexcept;

  /// What Redis said of a page that was asked for. `fix`: the number of its bucket's last correction; 0: none.
  void counted(std::uint32_t page, std::uint64_t count, std::uint64_t fix, std::uint64_t now_ms);
  /// What Redis holds of a page that was asked for is no count.
  void unreadable(std::uint32_t page, std::uint64_t now_ms);
  /// Asks for the pages that had to wait for their buckets, as far as these have come.
  void ask_waiting();
  /// Asks whether pages that could not be counted can be now, some of them with each call.
  void ask_uncountable();
  /// There will be no answer (a broken connection): who waits looks again.
  void dropped(std::uint32_t page);
  /// The entry of a page that came with a view built anew.
  void recovered_entry(std::uint32_t page);
  /// Entries of buckets whose truth has changed are made anew when somebody asks. `buckets`: by number.
  void forget_buckets(const std::vector<bool>& buckets);
  /// How many pages of these buckets have an entry, and the sum of their counts in Redis as last seen.
  [[nodiscard]] std::pair<std::uint64_t, std::uint64_t> known_of(const std::vector<bool>& buckets) const;
  [[nodiscard]] UncountablePages& uncountable() noexcept { return uncountable_; }
  [[nodiscard]] const UncountablePages& uncountable() const noexcept { return uncountable_; }

  /// The lanes whose frontends have something to look at since the last call, one bit each.
  [[nodiscard]] std::uint64_t take_lanes_to_wake() noexcept { return std::exchange(wake_, 0); }

 private:
  void request(std::uint32_t lane, std::uint64_t hash, std::string_view page, std::uint64_t now_ms);
  /// `lanes`: who waits for it, one bit each.
  void ask_shard(std::uint32_t page, std::uint64_t lanes);
  void damaged(std::uint32_t page, std::uint64_t now_ms);
  void make_entry(std::uint32_t page, std::uint64_t count, std::uint64_t now_ms, CountState state, std::uint64_t fix);
  void evict_one();
  void drop_entry(std::uint32_t node);
  void remember(std::uint32_t page);

  std::vector<LaneMemory> lanes_;
  std::vector<LaneRecords> requests_;
  CacheHeader& cache_;
  std::uint64_t hash_seed_;
  std::uint32_t buckets_;
  std::uint32_t page_id_limit_;
  std::uint64_t ttl_ms_;
  FlusherView& view_;
  PendingSeries& pending_;
  FlusherStatistics statistics_;
  Ask ask_;
  UncountablePages uncountable_;
  std::vector<std::uint64_t> read_;                           ///< requests taken, bytes, one a lane
  std::unordered_map<std::uint32_t, std::uint64_t> waiting_;  ///< page → lanes that wait for it
  std::vector<std::uint32_t> for_bucket_;                     ///< pages of them that wait for their buckets first
  std::vector<std::uint32_t> page_of_node_;
  std::vector<std::uint8_t> used_;  ///< nodes asked for since the hand of the clock came by
  std::uint32_t hand_ = 0;
  std::uint64_t wake_ = 0;
};

}  // namespace visitd
