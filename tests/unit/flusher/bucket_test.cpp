#include "flusher/counting/bucket.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace visitd;
using State = Bucket::State;

namespace {

constexpr Incarnation life{1, 0xabc};

/// A batch of these pages, numbered from 0 on, one visit each.
UnansweredBatch batch_of(const std::vector<std::string>& pages) {
  UnansweredBatch made;
  for (const std::string& page : pages) {
    made.series.push_back(static_cast<std::uint32_t>(made.series.size()));
    made.batch.effects.push_back({page, 1});
  }
  made.blob = encode_effects(made.batch.effects);
  return made;
}

/// Its batch is durable.
Bucket ready_bucket(const std::vector<std::string>& pages = {"a", "b"}) {
  Bucket bucket(7);
  bucket.seal(batch_of(pages), life, 1);
  bucket.committed();
  return bucket;
}

/// One batch after the other, each answered and kept.
Bucket bucket_with_kept(std::uint64_t batches) {
  Bucket bucket(7);
  for (std::uint64_t n = 1; n <= batches; ++n) {
    bucket.seal(batch_of({"page"}), life, n);
    bucket.committed();
    UnansweredBatch done = bucket.answered();
    bucket.keep({done.batch.mark, done.batch.expected, done.blob});
  }
  return bucket;
}

}  // namespace

TEST_CASE("a batch is sent from when it is durable until it is answered") {
  Bucket bucket(7);
  CHECK(bucket.state() == State::quiet);
  CHECK_FALSE(bucket.was_written());
  bucket.seal(batch_of({"a"}), life, 5);
  CHECK(bucket.state() == State::sealing);
  CHECK(bucket.to_send() == nullptr);
  CHECK(bucket.was_written());
  bucket.committed();
  CHECK(bucket.state() == State::ready);
  REQUIRE(bucket.to_send() != nullptr);
  CHECK(bucket.to_send()->bucket == 7);
  CHECK(bucket.to_send()->expected.empty());
  CHECK(bucket.to_send()->mark == Mark{life, 1, 5});
  const UnansweredBatch done = bucket.answered();
  CHECK(bucket.state() == State::quiet);
  CHECK(bucket.seq() == 1);
  CHECK(bucket.field() == to_text(done.batch.mark));
  CHECK(bucket.unanswered() == nullptr);
}

TEST_CASE("the next batch expects the mark of the one before") {
  Bucket bucket = ready_bucket();
  const std::string first = to_text(bucket.answered().batch.mark);
  bucket.seal(batch_of({"a"}), life, 6);
  CHECK(bucket.unanswered()->batch.expected == first);
  CHECK(bucket.unanswered()->batch.mark.seq == 2);
}

TEST_CASE("a batch without the pages that the shard refused is sent once that is durable") {
  Bucket bucket = ready_bucket({"a", "bad", "c"});
  const Mark refused = bucket.to_send()->mark;
  bucket.refuse({1}, "no integer");
  CHECK(bucket.state() == State::fencing);
  REQUIRE(bucket.to_send() != nullptr);
  CHECK(bucket.to_send()->effects.empty());
  CHECK(bucket.to_send()->expected.empty());
  CHECK(bucket.to_send()->mark.seq == 1);
  CHECK(bucket.to_send()->mark != refused);
  const std::string fence = to_text(bucket.to_send()->mark);
  CHECK(bucket.may_leave(fence));
  CHECK(bucket.may_leave(to_text(refused)));
  bucket.fenced(life);
  CHECK(bucket.state() == State::changed);
  CHECK(bucket.to_send() == nullptr);
  CHECK(bucket.seq() == 1);
  CHECK(bucket.field() == fence);
  const auto bad = bucket.take_bad_series();
  REQUIRE(bad.effects.size() == 1);
  CHECK(bad.numbers == std::vector<std::uint32_t>{1});
  CHECK(bad.effects[0].series == "bad");
  CHECK(bucket.unanswered()->why_bad == "no integer");
  CHECK(to_text(bucket.rewrite(9)->mark) == fence);
  CHECK(bucket.state() == State::rewriting);
  CHECK(bucket.to_send() == nullptr);
  bucket.committed();
  REQUIRE(bucket.to_send() != nullptr);
  CHECK(bucket.to_send()->effects == std::vector<Effect>{{"a", 1}, {"c", 1}});
  CHECK(bucket.unanswered()->series == std::vector<std::uint32_t>{0, 2});
  CHECK(bucket.to_send()->mark == Mark{life, 2, 9});
  CHECK(bucket.to_send()->expected == fence);
}

TEST_CASE(
    "a copy of a refused batch that was faster than its fence is the batch; a fence of a former life is gone on with") {
  Bucket bucket = ready_bucket({"a", "bad"});
  const Batch whole = *bucket.to_send();
  bucket.found("");
  CHECK(bucket.state() == State::ready);
  bucket.refuse({1}, "no integer");
  bucket.found("");
  CHECK(bucket.state() == State::fencing);
  bucket.found(to_text(whole.mark));
  CHECK(bucket.state() == State::ready);
  CHECK(bucket.to_send()->effects == whole.effects);

  bucket.found(to_text(fence_of(whole).mark));
  CHECK(bucket.state() == State::fencing);
  CHECK(bucket.to_send()->mark == fence_of(whole).mark);
  bucket.fenced(life);
  CHECK(bucket.take_bad_series().effects.empty());
  CHECK(bucket.rewrite(9));
  bucket.committed();
  CHECK(bucket.to_send()->effects == whole.effects);
}

TEST_CASE("a fence that was not applied is not needed once the shard is accepted") {
  Bucket bucket = ready_bucket({"a", "bad"});
  bucket.refuse({1}, "no integer");
  CHECK(bucket.accept("held"));
  CHECK(bucket.state() == State::changed);
  CHECK(bucket.take_bad_series().effects.size() == 1);
  CHECK_FALSE(bucket.rewrite(9));
  bucket.committed();
  CHECK(bucket.to_send()->expected == "held");
  CHECK(bucket.to_send()->mark == Mark{life, 1, 9});
}

TEST_CASE("a batch that changes while its transaction is on its way waits for the next one") {
  Bucket sealing(7);
  sealing.seal(batch_of({"a"}), life, 5);
  CHECK(sealing.accept("held"));
  sealing.committed();
  CHECK(sealing.state() == State::changed);
  CHECK(sealing.to_send() == nullptr);

  Bucket rewriting = ready_bucket();
  rewriting.refuse({0}, "bad");
  rewriting.fenced(life);
  static_cast<void>(rewriting.take_bad_series());
  CHECK(rewriting.rewrite(2));
  CHECK(rewriting.accept("held"));
  rewriting.committed();
  CHECK(rewriting.state() == State::changed);
  CHECK_FALSE(rewriting.rewrite(2));
  rewriting.committed();
  REQUIRE(rewriting.to_send() != nullptr);
  CHECK(rewriting.to_send()->expected == "held");
}

TEST_CASE("what a shard lost is sent again from the mark that it holds") {
  const Bucket bucket = bucket_with_kept(3);
  REQUIRE(bucket.lost_since(""));
  CHECK(bucket.lost_since("")->size() == 3);
  const std::string first = to_text(bucket.lost_since("")->front().mark);
  REQUIRE(bucket.lost_since(first));
  CHECK(bucket.lost_since(first)->size() == 2);
  CHECK(bucket.lost_since(first)->front().effects == std::vector<Effect>{{"page", 1}});
  CHECK_FALSE(bucket.lost_since("something else"));
  CHECK_FALSE(bucket.lost_since(bucket.field()));
}

TEST_CASE("the oldest kept batch is forgotten, and only once") {
  Bucket bucket = bucket_with_kept(2);
  CHECK_FALSE(bucket.forget(2));
  CHECK(bucket.forget(1));
  CHECK_FALSE(bucket.forget(1));
  CHECK(bucket.forget(2));
}

TEST_CASE("a bucket that is accepted keeps nothing, and expects what the shard holds") {
  Bucket bucket = bucket_with_kept(2);
  CHECK(bucket.accept("held") == std::vector<std::uint64_t>{1, 2});
  CHECK(bucket.field() == "held");
  CHECK(bucket.state() == State::quiet);
  CHECK_FALSE(bucket.lost_since(""));
  CHECK_FALSE(bucket.accept("held"));
  bucket.seal(batch_of({"a"}), life, 5);
  CHECK(bucket.unanswered()->batch.expected == "held");
  CHECK(bucket.unanswered()->batch.mark.seq == 3);
}
