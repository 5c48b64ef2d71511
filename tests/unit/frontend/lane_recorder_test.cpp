#include "frontend/api/lane_recorder.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "tests/unit/frontend/frontend_host.hpp"

using namespace visitd;
using test::FrontendHost;

TEST_CASE("a visit is published in the frontend's own lane, whole, before it is called recorded") {
  FrontendHost host;
  const RingMembership other(host.settings);
  RingMembership membership(host.settings);
  LaneRecorder recorder(membership, host.statistics());
  const std::uint32_t before = unix_seconds();
  CHECK(recorder.record("home", 3) == Recorded::recorded);
  CHECK(recorder.record("über uns", 1) == Recorded::recorded);
  const Ring& ring = membership.ring();
  CHECK(membership.lane() == 1);
  CHECK(ring.lane(0).tail.word.load() == 0);
  const auto seen = test::records_between(ring.records(1), 0, ring.lane(1).tail.word.load());
  REQUIRE(seen.size() == 2);
  CHECK(seen[0].page == "home");
  CHECK(seen[0].record.kind == RecordKind::visit);
  CHECK(seen[0].record.visits == 3);
  CHECK(seen[0].record.page_hash == page_hash("home", ring.hash_seed()));
  CHECK(seen[0].record.time >= before);
  CHECK(seen[0].record.time <= unix_seconds());
  CHECK(seen[1].page == "über uns");
  CHECK(host.statistic(FrontendStatistic::visits) == 4);
}

TEST_CASE("a full lane refuses every visit until the flusher has freed space, and what it holds stays") {
  FrontendHost host;
  host.settings.ring.lane_bytes = 4096;
  RingMembership membership(host.settings);
  LaneRecorder recorder(membership, host.statistics());
  std::uint64_t recorded = 0;
  while (recorder.record("home", 1) == Recorded::recorded) ++recorded;
  CHECK(recorded == 4096 / record_bytes(4));
  CHECK(recorder.record("home", 7) == Recorded::full);
  CHECK(host.statistic(FrontendStatistic::visits) == recorded);
  CHECK(host.statistic(FrontendStatistic::visits_refused_full) == 8);
  const Ring& ring = membership.ring();
  CHECK(test::records_between(ring.records(0), 0, ring.lane(0).tail.word.load()).size() == recorded);

  // A cache comes, and with it the word of what is durable.
  const Cache& cache = host.make_cache(ring);
  cache.header().head[0].word.store(record_bytes(4));
  CHECK(recorder.record("home", 1) == Recorded::full);
  membership.follow_cache();
  CHECK(recorder.record("home", 1) == Recorded::recorded);
  CHECK(recorder.record("home", 1) == Recorded::full);
}

TEST_CASE("visits that belong together are all recorded, or none of them is") {
  FrontendHost host;
  host.settings.ring.lane_bytes = 4096;
  RingMembership membership(host.settings);
  LaneRecorder recorder(membership, host.statistics());
  const std::string longest(64, 'x');
  const std::vector<std::string_view> pages{"home", longest, "site:a"};
  const Ring& ring = membership.ring();
  const auto tail = [&] { return ring.lane(0).tail.word.load(); };
  std::uint64_t recorded = 0;
  while (recorder.record_together(pages) == Recorded::recorded) ++recorded;
  CHECK(test::records_between(ring.records(0), 0, tail()).size() == 3 * recorded);
  CHECK(host.statistic(FrontendStatistic::visits) == 3 * recorded);
  CHECK(host.statistic(FrontendStatistic::visits_refused_full) == 3);

  // Wherever the lane's end lies, what is refused leaves nothing behind.
  const Cache& cache = host.make_cache(ring);
  membership.follow_cache();
  std::uint64_t freed = 0;
  for (int round = 0; round < 2000; ++round) {
    const std::uint64_t before = tail();
    if (recorder.record_together(pages) == Recorded::recorded) {
      ++recorded;
      CHECK(test::records_between(ring.records(0), before, tail()).size() == 3);
    } else {
      CHECK(tail() == before);
      freed = tail();
      cache.header().head[0].word.store(freed);
      static_cast<void>(recorder.record("odd" + std::string(static_cast<std::size_t>(round % 40), 'o'), 1));
    }
  }
  CHECK(recorded > 1000);
  CHECK(freed > 8 * 4096);
  recorder.close();
  CHECK(recorder.record_together(pages) == Recorded::closed);
}

TEST_CASE("once the ring is being left nothing is recorded, and that is said") {
  FrontendHost host;
  RingMembership membership(host.settings);
  LaneRecorder recorder(membership, host.statistics());
  CHECK(recorder.record("home", 1) == Recorded::recorded);
  const std::uint64_t tail = membership.lane_header().tail.word.load();
  recorder.close();
  CHECK(recorder.record("home", 5) == Recorded::closed);
  CHECK(membership.lane_header().tail.word.load() == tail);
  CHECK(host.statistic(FrontendStatistic::visits_refused_closed) == 5);
}

TEST_CASE("the flusher is rung when it sleeps, and left alone when it does not") {
  FrontendHost host;
  RingMembership membership(host.settings);
  LaneRecorder recorder(membership, host.statistics());
  const Doorbell bell = Doorbell::open(host.directory.flusher_bell());
  CHECK(recorder.record("home", 1) == Recorded::recorded);
  CHECK_FALSE(FrontendHost::was_rung(bell));  // there is no flusher
  const Cache& cache = host.make_cache(membership.ring());
  membership.follow_cache();
  CHECK(recorder.record("home", 1) == Recorded::recorded);
  CHECK_FALSE(FrontendHost::was_rung(bell));
  cache.header().sleeping.word.store(1);
  CHECK(recorder.record("home", 1) == Recorded::recorded);
  CHECK(FrontendHost::was_rung(bell));
  cache.header().sleeping.word.store(0);
  CHECK(recorder.record("home", 1) == Recorded::recorded);
  CHECK_FALSE(FrontendHost::was_rung(bell));
}
