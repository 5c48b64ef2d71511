// A host with a runtime directory of its own, on which frontends take their places and the test plays the flusher.
#pragma once

#include <poll.h>

#include <cstdint>
#include <deque>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "common/os/clock.hpp"
#include "common/os/doorbell.hpp"
#include "common/os/runtime_directory.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/lane.hpp"
#include "common/shm/page_id.hpp"
#include "common/shm/ring.hpp"
#include "common/shm/shared_text.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace visitd::test {

class FrontendHost {
 public:
  FrontendHost() {
    settings.paths.runtime_directory = directory.path();
    settings.ring.lanes = 2;
    settings.ring.lane_bytes = 65536;
    settings.pages.page_id_limit_bytes = 64;
  }
  FrontendHost(const FrontendHost&) = delete;
  FrontendHost& operator=(const FrontendHost&) = delete;
  /// Every segment of this host goes.
  ~FrontendHost() {
    std::vector<SegmentNote> notes = directory.rings();
    for (const SegmentNote& note : rings_of(instance_of(directory))) notes.push_back(note);
    for (const SegmentNote& note : notes) {
      if (auto segment = SharedSegment::attach(note.segment, SharedSegment::Access::read_only)) segment->remove();
    }
    for (Cache& cache : caches_) cache.segment().remove();
  }

  /// A flusher that lives makes a cache of the ring, with two shards that are up; bucket b is placed on shard b % 2.
  Cache& make_cache(const Ring& ring) {
    const CacheShape shape{ring.shape().lanes, 16, 8, 64};
    Cache& cache = caches_.emplace_back(Cache::make(shape, ring.id()));
    CacheHeader& header = cache.header();
    header.shards.store(2);
    for (std::uint32_t shard = 0; shard < 2; ++shard) {
      store_text(header.shard[shard].name, shard == 0 ? "redis_7070" : "redis_7071");
      set_shard_state(header.shard[shard], ShardState::up, "");
    }
    for (std::uint32_t bucket = 0; bucket < shape.buckets; ++bucket) cache.shard_of_bucket(bucket).store(bucket % 2);
    header.heartbeat_ns.word.store(monotonic_ns());
    directory.note_cache(cache.note());
    return cache;
  }
  [[nodiscard]] static ShardSlot& shard_of(const Cache& cache, std::string_view page) {
    return cache.header().shard[cache.shard_of_bucket(page_bucket(page, cache.shape().buckets)).load()];
  }
  /// Shows an empty view, in which the lanes are applied up to here.
  static ViewWriter<> show_view(const Cache& cache, std::span<const std::uint64_t> applied = {}) {
    const std::uint64_t active = cache.header().active.word.load() + 1;
    ViewWriter<> view(cache.view(active));
    view.clear(applied);
    cache.header().active.word.store(active);
    return view;
  }

  /// Whether somebody rang since the last look.
  [[nodiscard]] static bool was_rung(const Doorbell& bell) {
    pollfd look{bell.fd(), POLLIN, 0};
    const bool rung = poll(&look, 1, 0) == 1;
    bell.hush();
    return rung;
  }
  [[nodiscard]] std::uint64_t statistic(FrontendStatistic which) { return FrontendStatistics(words_).get(which); }
  [[nodiscard]] FrontendStatistics statistics() { return FrontendStatistics(words_); }

 private:
  TemporaryFolder folder_;
  Word words_[frontend_statistics_words]{};
  std::deque<Cache> caches_;

 public:
  RuntimeDirectory directory{folder_.path() + "/run"};
  Settings settings;
};

/// The records between two positions of a lane or of its requests.
struct SeenRecord {
  Record record;
  std::string page;
};
[[nodiscard]] inline std::vector<SeenRecord> records_between(std::span<const Word> words, std::uint64_t from,
                                                             std::uint64_t tail) {
  std::vector<SeenRecord> seen;
  const LaneRecords records(words);
  while (from < tail) {
    SeenRecord next;
    char buffer[max_page_id_bytes];
    if (records.read(from, tail, next.record) != RecordCheck::whole) break;
    if (next.record.kind != RecordKind::pad) {
      next.page = records.page(from, next.record, buffer);
      seen.push_back(next);
    }
    from += next.record.size;
  }
  return seen;
}

}  // namespace visitd::test
