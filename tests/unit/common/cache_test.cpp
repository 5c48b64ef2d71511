#include "common/shm/cache.hpp"

#include <doctest/doctest.h>

#include <array>
#include <string>

using namespace visitd;

namespace {

constexpr CacheShape small_cache{3, 100, 16, 255};

/// Gone with the test: removed at once, it lives on while attached.
Cache removed_cache() {
  Cache cache = Cache::make(small_cache, 4711);
  cache.segment().remove();
  return cache;
}

std::string cache_outcome(const SegmentNote& note) {
  const auto attached = Cache::attach(note, SharedSegment::Access::read_only);
  const auto* fault = std::get_if<AttachFault>(&attached);
  return fault == nullptr ? "attached" : std::string(describe(*fault));
}

}  // namespace

TEST_CASE("a cache is attached as it was made, and shows no view yet") {
  const Cache made = removed_cache();
  const auto attached = Cache::attach(made.note(), SharedSegment::Access::read_only);
  REQUIRE(std::holds_alternative<Cache>(attached));
  const Cache& cache = std::get<Cache>(attached);
  CHECK(cache.shape() == small_cache);
  CHECK(cache.id() == made.id());
  CHECK(cache.ring_id() == 4711);
  CHECK(cache.header().active.word.load() == 0);
  CHECK(cache.header().retired.word.load() == 0);
  made.shard_of_bucket(15).store(3);
  CHECK(cache.shard_of_bucket(15).load() == 3);
}

TEST_CASE("what the flusher writes into a view is read through another, read-only attachment") {
  const Cache made = removed_cache();
  const auto attached = Cache::attach(made.note(), SharedSegment::Access::read_only);
  const Cache& cache = std::get<Cache>(attached);
  ViewWriter<> writer(made.view(1));
  writer.clear(std::array<std::uint64_t, 3>{8, 16, 24});
  writer.link(1234, "page", 40, 0, 1, 1);
  made.header().active.word.store(1);
  Snapshot snapshot;
  REQUIRE(take_snapshot(cache.header().active.word, cache.views(), 1234, "page", snapshot) == SnapshotOutcome::entry);
  CHECK(snapshot.base + snapshot.inflight + snapshot.open == 42);
  CHECK(snapshot.applied[2] == 24);
}

TEST_CASE("each way in which a segment is not the cache has its name") {
  const Cache made = removed_cache();
  CacheHeader& header = made.header();
  SegmentNote note = made.note();
  REQUIRE(cache_outcome(note) == "attached");

  SUBCASE("gone") {
    SegmentNote gone;
    {
      const Cache other = removed_cache();
      gone = other.note();
    }
    CHECK(cache_outcome(gone) == describe(AttachFault::gone));
  }
  SUBCASE("not ready") {
    header.magic.store(0);
    CHECK(cache_outcome(note) == describe(AttachFault::not_ready));
  }
  SUBCASE("a ring") {
    header.magic.store(ring_magic);
    CHECK(cache_outcome(note) == describe(AttachFault::foreign));
  }
  SUBCASE("another's id") {
    note.id += 1;
    CHECK(cache_outcome(note) == describe(AttachFault::foreign));
  }
  SUBCASE("another's segment, smaller than a header") {
    SharedSegment small = SharedSegment::make(4096);
    small.remove();
    CHECK(cache_outcome({note.id, small.id()}) == describe(AttachFault::foreign));
  }
  SUBCASE("another version") {
    header.layout_version.store(cache_layout_version + 1);
    CHECK(cache_outcome(note) == describe(AttachFault::other_version));
  }
  SUBCASE("corrupt") {
    const auto is_corrupt = [&](Word& word, std::uint64_t value) {
      const std::uint64_t was = word.load();
      word.store(value);
      const bool found = cache_outcome(note) == describe(AttachFault::corrupt);
      word.store(was);
      return found && cache_outcome(note) == "attached";
    };
    const std::uint64_t huge = std::uint64_t{1} << 63U;
    for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{65}, huge, huge + 3}) {
      CHECK(is_corrupt(header.lanes, value));
    }
    for (const std::uint64_t value :
         {std::uint64_t{0}, std::uint64_t{129}, std::uint64_t{1'000'000}, huge, huge + 100}) {
      CHECK(is_corrupt(header.entries, value));
    }
    for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{64}, std::uint64_t{256}, huge, huge + 128}) {
      CHECK(is_corrupt(header.chains, value));
    }
    for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{1'000'000}, huge, huge + 16}) {
      CHECK(is_corrupt(header.buckets, value));
    }
    for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{1025}, huge}) {
      CHECK(is_corrupt(header.page_id_limit, value));
    }
    CHECK(is_corrupt(header.shards, 65));
  }
}

TEST_CASE("a shard's state says since when and why") {
  const Cache made = removed_cache();
  ShardSlot& slot = made.header().shard[2];
  set_shard_state(slot, ShardState::held, "emptied: it was expected to hold batch 12");
  CHECK(shard_reason(slot) == "emptied: it was expected to hold batch 12");
  CHECK(slot.state.load() == static_cast<std::uint64_t>(ShardState::held));
  const std::uint64_t since = slot.since_ns.load();
  CHECK(since != 0);
  set_shard_state(slot, ShardState::held, "still");
  CHECK(slot.since_ns.load() == since);
  set_shard_state(slot, ShardState::up, "");
  CHECK(shard_reason(slot).empty());
  set_shard_state(slot, ShardState::down, std::string(1000, 'x'));
  CHECK(shard_reason(slot) == std::string(8 * shard_reason_words - 3, 'x') + "…");
  slot.reason_version.store(slot.reason_version.load() + 1);  // its writer died over it
  CHECK(shard_reason(slot).empty());
  set_shard_state(slot, ShardState::up, "next");
  CHECK(shard_reason(slot) == "next");
  CHECK(name_of(ShardState::held) == "held");
}
