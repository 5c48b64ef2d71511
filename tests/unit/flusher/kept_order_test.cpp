#include "flusher/counting/kept_order.hpp"

#include <doctest/doctest.h>

#include <vector>

using namespace visitd;

namespace {

constexpr KeptLimits ten_seconds{10, 1000};

/// Buckets 0 and 1 are on shard 0, bucket 2 is on shard 1.
struct Kept {
  Placement placement{{0, 0, 1}, 2};
  KeptOrder order{placement};

  void add(std::uint32_t bucket, std::uint64_t seq, std::uint64_t answered_at, std::uint32_t bytes = 10) {
    order.add({bucket, bytes, seq, answered_at});
  }
  /// The seqs of what goes.
  std::vector<std::uint64_t> forget(std::uint64_t unix_now, const KeptLimits& limits = ten_seconds) {
    std::vector<std::uint64_t> seqs;
    for (const KeptOrder::Entry& entry : order.forget_old(limits, unix_now)) seqs.push_back(entry.seq);
    return seqs;
  }
};

using Seqs = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("batches of a bucket that moves stay, whatever was confirmed, as long as there is room") {
  const Placement placement({0, 0}, 2, {1, 0});
  KeptOrder order(placement);
  order.add({0, 10, 1, 100});
  order.add({1, 10, 2, 100});
  order.confirm(0, order.newest());
  const auto forgotten = order.forget_old(ten_seconds, 1000);
  REQUIRE(forgotten.size() == 1);
  CHECK(forgotten.front().bucket == 1);
  CHECK(order.forget_old({10, 5}, 1000).size() == 1);
}

TEST_CASE("what is kept is kept for its full time once other buckets move") {
  Kept kept;
  kept.add(0, 1, 100);
  kept.add(2, 2, 105);
  kept.placement = Placement({0, 0, 0}, 1);
  kept.order.keep_anew(109);
  kept.order.set_shards(1);
  CHECK(kept.forget(118).empty());
  CHECK(kept.forget(119) == Seqs{1, 2});
}

TEST_CASE("an old batch stays until it is confirmed, and those of other shards go meanwhile") {
  Kept kept;
  kept.order.set_waits(0, true);
  kept.add(0, 1, 100);
  kept.add(2, 2, 101);
  kept.add(1, 3, 102);
  CHECK(kept.forget(111) == Seqs{2});
  CHECK(kept.order.overdue() == 1);
  CHECK(kept.forget(112).empty());
  CHECK(kept.order.overdue() == 2);
  kept.add(0, 4, 103);
  kept.order.confirm(0, 3);
  CHECK(kept.order.any_unconfirmed(0));
  CHECK(kept.order.overdue() == 0);
  CHECK(kept.forget(120) == Seqs{1, 3});
  CHECK(kept.order.overdue() == 1);
  kept.order.confirm(0, kept.order.newest());
  CHECK_FALSE(kept.order.any_unconfirmed(0));
  CHECK(kept.forget(120) == Seqs{4});
  CHECK(kept.order.bytes() == 0);
  CHECK(kept.order.dropped() == 0);
}

TEST_CASE("a confirmed batch is kept for its time all the same") {
  Kept kept;
  kept.order.set_waits(0, true);
  kept.add(0, 1, 100);
  kept.order.confirm(0, 1);
  CHECK(kept.forget(109).empty());
  CHECK(kept.order.overdue() == 0);
  CHECK(kept.forget(110) == Seqs{1});
}

TEST_CASE("what was confirmed before another connection is not confirmed any more") {
  Kept kept;
  kept.order.set_waits(0, true);
  kept.add(0, 1, 100);
  kept.order.confirm(0, 1);
  kept.order.unconfirm(0);
  CHECK(kept.order.any_unconfirmed(0));
  CHECK(kept.forget(120).empty());
}

TEST_CASE("without room the oldest go, confirmed or not, and are counted where somebody waited for them") {
  Kept kept;
  kept.order.set_waits(0, true);
  kept.add(0, 1, 100, 400);
  kept.add(2, 2, 100, 400);
  kept.add(0, 3, 100, 400);
  CHECK(kept.forget(200) == Seqs{1, 2});
  CHECK(kept.order.dropped(0) == 1);
  CHECK(kept.order.dropped() == 1);
  kept.add(0, 4, 100, 700);
  CHECK(kept.forget(200) == Seqs{3});
  CHECK(kept.order.overdue() == 1);
  CHECK(kept.order.bytes() == 700);
}

TEST_CASE("once nobody waits any more, what is overdue goes") {
  Kept kept;
  kept.order.set_waits(0, true);
  kept.add(0, 1, 100);
  CHECK(kept.forget(120).empty());
  kept.order.set_waits(0, false);
  CHECK(kept.forget(120) == Seqs{1});
}

TEST_CASE("after a start nothing is confirmed") {
  Kept kept;
  kept.order.set_waits(0, true);
  kept.order.recover({0, 10, 1, 100});
  kept.order.recover({0, 10, 2, 90});
  kept.order.recover({2, 10, 3, 50});
  kept.order.recovered(200);
  CHECK(kept.order.any_unconfirmed(0));
  CHECK(kept.forget(210) == Seqs{3});
  kept.order.confirm(0, kept.order.newest());
  CHECK(kept.forget(210) == Seqs{1, 2});
}
