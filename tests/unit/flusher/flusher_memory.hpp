// What the flusher's deciders work on, in plain memory: lanes with their producers, a cache with its two views.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/shm/cache_layout.hpp"
#include "common/shm/lane.hpp"
#include "common/shm/page_id.hpp"
#include "common/shm/view.hpp"
#include "flusher/counting/counting_memory.hpp"
#include "tests/unit/common/view_memory.hpp"

namespace visitd::test {

class FlusherMemory {
 public:
  static constexpr std::uint64_t hash_seed = 42;
  static constexpr std::uint64_t ring_id = 7;
  static constexpr std::uint64_t lane_bytes = 65536;

  explicit FlusherMemory(const CacheShape& cache_shape = {2, 16, 8, 64}, std::uint64_t bytes_of_a_lane = lane_bytes)
      : shape(cache_shape), cache_bytes_(shape.bytes()) {
    for (std::uint32_t n = 0; n < shape.lanes; ++n) {
      Lane& lane = lanes_.emplace_back(bytes_of_a_lane);
      lane.producer = std::make_unique<LaneProducer>(lane.tail, lane.records, &cache().head[n].word);
      lane.asker = std::make_unique<LaneProducer>(lane.requests_tail, lane.requests, &cache().requests_read[n]);
    }
  }

  [[nodiscard]] CacheHeader& cache() const noexcept { return *reinterpret_cast<CacheHeader*>(cache_bytes_.data()); }
  [[nodiscard]] ViewMemory view(std::uint64_t which) const noexcept {
    return {shape, cache_bytes_.data() + shape.view_offset(which & 1U)};
  }
  /// The view that readers are shown.
  [[nodiscard]] ViewMemory shown() const noexcept { return view(cache().active.word.load()); }
  [[nodiscard]] CountingMemory memory() {
    CountingMemory memory;
    memory.ring_id = ring_id;
    memory.ring_segment = 1;
    memory.hash_seed = hash_seed;
    for (Lane& lane : lanes_) memory.lanes.push_back({&lane.tail, &lane.requests_tail, lane.records, lane.requests});
    memory.cache = &cache();
    memory.views = {view(0), view(1)};
    return memory;
  }
  [[nodiscard]] FlusherStatistics statistics() const noexcept { return FlusherStatistics(&cache().statistics[0]); }
  [[nodiscard]] std::uint64_t statistic(FlusherStatistic which) const noexcept { return statistics().get(which); }

  [[nodiscard]] static std::uint64_t hash_of(std::string_view page) { return page_hash(page, hash_seed); }
  [[nodiscard]] std::uint32_t bucket_of(std::string_view page) const { return page_bucket(page, shape.buckets); }
  /// The nth page of a bucket: names that are found by trying.
  [[nodiscard]] std::string page_in(std::uint32_t bucket, std::uint32_t nth = 0) const {
    for (std::uint32_t i = 0;; ++i) {
      std::string page = "page-" + std::to_string(i);
      if (bucket_of(page) == bucket && nth-- == 0) return page;
    }
  }

  Published publish(std::uint32_t lane, std::string_view page, std::uint32_t visits = 1) {
    return producer(lane).publish(RecordKind::visit, page, visits, 1'700'000'000, hash_of(page));
  }
  Published ask(std::uint32_t lane, std::string_view page) { return ask_with_hash(lane, page, hash_of(page)); }
  Published ask_with_hash(std::uint32_t lane, std::string_view page, std::uint64_t hash) {
    return lanes_[lane].asker->publish(RecordKind::request, page, 0, 0, hash);
  }
  [[nodiscard]] LaneProducer& producer(std::uint32_t lane) { return *lanes_[lane].producer; }
  [[nodiscard]] Word& tail(std::uint32_t lane) { return lanes_[lane].tail; }
  [[nodiscard]] std::vector<Word>& records(std::uint32_t lane) { return lanes_[lane].records; }
  /// The lane's owner is gone, and another one appends from here on.
  void replace_owner(std::uint32_t lane) {
    lanes_[lane].producer =
        std::make_unique<LaneProducer>(lanes_[lane].tail, lanes_[lane].records, &cache().head[lane].word);
  }

  /// What a reader sees of a page besides the lanes; nothing where it has no entry.
  struct Entry {
    bool there = false;
    std::uint64_t base = 0;
    std::uint64_t expires = 0;
    std::uint64_t inflight = 0;
    std::uint64_t open = 0;
    bool damaged = false;
    friend bool operator==(const Entry&, const Entry&) = default;
  };
  [[nodiscard]] Entry entry(std::string_view page) const {
    const std::array<ViewMemory, 2> views = {view(0), view(1)};
    Snapshot snapshot;
    if (take_snapshot(cache().active.word, views, hash_of(page), page, snapshot) != SnapshotOutcome::entry) return {};
    return {true, snapshot.base, snapshot.expires, snapshot.inflight, snapshot.open, snapshot.is_damaged()};
  }

  CacheShape shape;

 private:
  struct Lane {
    explicit Lane(std::uint64_t bytes) : records(bytes / 8), requests(4096 / 8) {}
    Word tail{0};
    Word requests_tail{0};
    std::vector<Word> records;
    std::vector<Word> requests;
    std::unique_ptr<LaneProducer> producer;
    std::unique_ptr<LaneProducer> asker;
  };

  AlignedWords cache_bytes_;
  std::deque<Lane> lanes_;
};

}  // namespace visitd::test
