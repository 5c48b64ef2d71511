// An instance without processes: a runtime directory and segments of it, made and filled by the test.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "common/os/clock.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/lane.hpp"
#include "common/shm/ring.hpp"
#include "common/shm/shared_text.hpp"
#include "ctl/commands.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace visitd::test {

class Instance {
 public:
  Instance() { settings.paths.runtime_directory = folder_.path(); }
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;
  ~Instance() {
    for (Ring& ring : rings_) ring.segment().remove();
    if (cache_) cache_->segment().remove();
  }

  /// Another ring, in use from now on.
  Ring& make_ring(const RingShape& shape = {2, 65536, 64}) {
    std::vector<FileIdentity> locks;
    for (std::uint32_t n = 0; n < shape.lanes; ++n) locks.push_back(ensure_lock_file(directory.lane_lock(n)));
    rings_.push_back(Ring::make(shape, locks));
    note_rings();
    return rings_.back();
  }
  void note_rings() const {
    std::vector<SegmentNote> notes;
    for (const Ring& ring : rings_) notes.push_back(ring.note());
    directory.note_rings(notes);
  }
  [[nodiscard]] Ring& ring() { return rings_.back(); }

  /// A frontend takes a lane of the newest ring. Its lock is held until the returned lease goes.
  [[nodiscard]] FileLease own_lane(std::uint32_t lane) {
    auto& about = ring().lane(lane).about;
    about.owner.store(static_cast<std::uint64_t>(getpid()));
    about.owners.store(about.owners.load() + 1);
    about.state.store(static_cast<std::uint64_t>(LaneState::open));
    about.heartbeat_ns.store(monotonic_ns());
    auto lease = FileLease::try_take(directory.lane_lock(lane));
    REQUIRE(lease);
    return std::move(*lease);
  }

  void publish(std::uint32_t lane, std::string_view page, std::uint32_t visits = 1) {
    LaneProducer producer(ring().lane(lane).tail.word, ring().records(lane),
                          cache_ ? &cache_->header().head[lane].word : nullptr);
    REQUIRE(producer.publish(RecordKind::visit, page, visits, 1'700'000'000, hash_of(page)) == Published::published);
  }
  [[nodiscard]] std::uint64_t tail(std::uint32_t lane) { return ring().lane(lane).tail.word.load(); }
  [[nodiscard]] std::uint64_t hash_of(std::string_view page) { return page_hash(page, ring().hash_seed()); }

  /// A flusher's cache of the newest ring, with two shards; no view is shown yet.
  Cache& make_cache(const CacheShape& shape = {2, 16, 8, 64}) {
    cache_ = Cache::make(shape, ring().id());
    CacheHeader& header = cache_->header();
    header.shards.store(2);
    store_text(header.shard[0].name, "redis_7070");
    store_text(header.shard[1].name, "redis_7071");
    set_shard_state(header.shard[0], ShardState::up, "");
    set_shard_state(header.shard[1], ShardState::down, "connection refused");
    for (std::uint32_t bucket = 0; bucket < shape.buckets; ++bucket) cache_->shard_of_bucket(bucket).store(bucket % 2);
    header.heartbeat_ns.word.store(monotonic_ns());
    directory.note_cache(cache_->note());
    return *cache_;
  }
  [[nodiscard]] Cache& cache() { return *cache_; }
  void remove_cache() {
    cache_->segment().remove();
    cache_.reset();
  }

  /// Shows an empty view with these positions.
  ViewWriter<> show_view(std::array<std::uint64_t, 2> applied = {}) {
    ViewWriter<> view(cache_->view(1));
    view.clear(applied);
    cache_->header().active.word.store(1);
    return view;
  }
  void set_statistic(FlusherStatistic which, std::uint64_t value) {
    FlusherStatistics(&cache_->header().statistics[0]).set(which, value);
  }

 private:
  TemporaryFolder folder_;

 public:
  RuntimeDirectory directory{folder_.path()};
  Settings settings;

 private:
  std::vector<Ring> rings_;
  std::optional<Cache> cache_;
};

}  // namespace visitd::test
