#include "flusher/counting/bucket_sums.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace visitd {

namespace {

// The server does nothing else while it answers one command: these take it about a millisecond. The next one follows at
// once, so commands of others come in between.
constexpr std::size_t most_buckets_of_command = 128;
constexpr std::uint64_t most_pages_of_command = 2000;
// A bucket that is on its way to another shard is there within the time of some answers.
constexpr std::uint64_t sum_retry_ms = 20;

}  // namespace

void BucketSums::tick(std::uint64_t now_ms) {
  now_ms_ = now_ms;
  shards_.set_time(now_ms);
  if (!round_ && !waiting_.empty()) begin_round();
  if (!round_) return;
  tell_late_of_waiting();
  tell_late();
  if (!round_ || asks_writers_) return;
  if (!round_->later.empty() && now_ms_ >= round_->later_at_ms) {
    for (const std::uint32_t bucket : std::exchange(round_->later, {})) {
      round_->to_ask[parts_.placement.shard_of(bucket)].push_back(bucket);
    }
  }
  for (std::uint32_t shard = 0; shard < asking_.size(); ++shard) ask(shard);
  if (round_->open != 0) return;
  tell_totals();
  find_top();
}

void BucketSums::set_shards(std::size_t count) {
  asking_.resize(count);
  if (!round_) return;
  for (std::size_t gone = count; gone < round_->to_ask.size(); ++gone) {
    for (const std::uint32_t bucket : round_->to_ask[gone]) ask_again(bucket);
  }
  round_->to_ask.resize(count);
}

void BucketSums::begin_round() {
  round_ = std::make_shared<Round>();
  round_->askers = std::exchange(waiting_, {});
  round_->told.buckets = parts_.placement.buckets();
  round_->open = parts_.placement.buckets();
  for (std::uint32_t shard = 0; shard < asking_.size(); ++shard) {
    const auto& buckets = parts_.placement.buckets_on(shard);
    round_->to_ask.emplace_back(buckets.begin(), buckets.end());
    asking_[shard].buckets_at_once = most_buckets_of_command;
  }
  // A former round may have asked, and not have waited.
  if (std::exchange(asks_writers_, true)) return;
  port_.ask_writers([this](std::vector<std::string> writers) {
    writers_ = std::move(writers);
    asks_writers_ = false;
  });
}

/// One command at a time.
void BucketSums::ask(std::uint32_t shard) {
  if (asking_[shard].is_asked || round_->to_ask[shard].empty()) return;
  if (const std::string why = shards_.why_unknown(shard); !why.empty()) {
    for (const std::uint32_t bucket : std::exchange(round_->to_ask[shard], {})) give_up(bucket, why);
    return;
  }
  if (!shards_.may_ask(shard)) return;
  std::vector<std::uint32_t> buckets = next_buckets(shard);
  if (buckets.empty()) return;
  Asking& asking = asking_[shard];
  asking.is_asked = true;
  asking.read = asking.known = 0;
  shards_.asked(shard);
  const auto told = [this, shard, asked = buckets.size(), round = std::weak_ptr(round_)](
                        const std::vector<ShardSession::SomeSum>& sums, bool all) {
    if (!round.expired()) on_sums(shard, sums);
    if (all) on_all(shard, asked, round.expired());
  };
  if (port_.ask_sums(shard, {buckets, most_pages_of_command, writers_}, told)) return;
  asking.is_asked = false;
  shards_.not_sent(shard);
  for (const std::uint32_t bucket : buckets) ask_again(bucket);
}

std::vector<std::uint32_t> BucketSums::next_buckets(std::uint32_t shard) {
  std::deque<std::uint32_t>& to_ask = round_->to_ask[shard];
  std::vector<std::uint32_t> buckets;
  for (; buckets.size() < asking_[shard].buckets_at_once && !to_ask.empty(); to_ask.pop_front()) {
    const std::uint32_t bucket = to_ask.front();
    if (parts_.placement.shard_of(bucket) != shard) {
      ask_again(bucket);
    } else if (!parts_.open.is_in_memory(bucket)) {
      round_->waits_for = "visits of it wait in the spool alone, and could not be read in time";
      parts_.open.want_for_read(bucket);
      ask_again(bucket);
    } else {
      buckets.push_back(bucket);
    }
  }
  return buckets;
}

void BucketSums::on_sums(std::uint32_t shard, const std::vector<ShardSession::SomeSum>& sums) {
  for (const auto& [bucket, held, why] : sums) {
    if (held) asking_[shard].read += held->read;
    if (!why.empty()) {
      give_up(bucket, fmt::format("shard {} answers: {}", port_.name(shard), why));
    } else if (!held || !parts_.open.is_in_memory(bucket)) {
      // Or it was spilled meanwhile: the answer would lack what is pending.
      ask_again(bucket);
    } else if (!held->known) {
      round_->to_ask[shard].push_front(bucket);
    } else {
      ++asking_[shard].known;
      take(bucket, *held);
    }
  }
}

/// A command of so many buckets is answered.
void BucketSums::on_all(std::uint32_t shard, std::size_t asked, bool is_late) {
  using Burst = AskableShards::Burst;
  Asking& asking = asking_[shard];
  asking.is_asked = false;
  shards_.answered(shard, asking.read + least_pages_of_bucket * asked,
                   asking.read == 0 ? Burst::goes_on : Burst::ends_with_last);
  if (is_late) return shards_.end(shard);
  // Of buckets whose pages have to be read, no more than the command has room for.
  asking.buckets_at_once =
      asking.known == asked ? std::min(2 * asked, most_buckets_of_command) : std::max<std::size_t>(asking.known, 1);
  // Where nothing was answered, the connection may just be breaking: the next turn knows.
  if (asking.known != 0) ask(shard);
}

/// What is pending here is not in it: the session has seen that the bucket has no batch that it does not know of.
void BucketSums::take(std::uint32_t bucket, const Sums::Held& held) {
  Told& told = round_->told;
  if (!told.total.add(held.sum)) return give_up(bucket, "what its field of the sum says is none");
  told.unknown_pages += held.odd;
  std::uint64_t most = 0;
  for (const std::uint32_t number : parts_.series_of(bucket)) {
    told.total.add(parts_.visits_of(number));
    most = std::max(most, parts_.visits_of(number));
  }
  const std::uint64_t room = std::numeric_limits<std::uint64_t>::max() - held.largest;
  if (held.largest != 0 || most != 0) round_->bounds.push_back({held.largest + std::min(most, room), bucket});
  --round_->open;
}

void BucketSums::give_up(std::uint32_t bucket, const std::string& why) {
  Told& told = round_->told;
  if (told.unknown_buckets++ == 0) told.why = fmt::format("bucket {}: {}", bucket, why);
  --round_->open;
}

void BucketSums::ask_again(std::uint32_t bucket) {
  if (round_->later.empty()) round_->later_at_ms = now_ms_ + sum_retry_ms;
  round_->later.push_back(bucket);
}

void BucketSums::find_top() {
  std::size_t limit = 0;
  for (const Asker& asker : round_->askers) limit = std::max(limit, asker.limit);
  if (limit == 0) return end_round();
  if (round_->top == nullptr) {
    round_->top = std::make_unique<TopPages>(parts_, shards_, port_, limit, std::move(round_->bounds));
  }
  if (!round_->top->tick()) return;
  for (const Asker& asker : std::exchange(round_->askers, {})) {
    Told told = round_->told;
    told.pages = round_->top->pages(asker.limit);
    told.unknown_pages += round_->top->unknown_pages();
    if (told.why.empty()) told.why = round_->top->why_unknown();
    told.unknown_buckets += round_->top->unknown_buckets();
    asker.done(std::move(told));
  }
  end_round();
}

void BucketSums::tell_totals() {
  const auto totals = std::ranges::partition(round_->askers, [](const Asker& asker) { return asker.limit != 0; });
  std::vector<Asker> done(std::make_move_iterator(totals.begin()), std::make_move_iterator(totals.end()));
  round_->askers.erase(totals.begin(), totals.end());
  for (const Asker& asker : done) asker.done(round_->told);
}

/// Takes out those for whom it is too late.
std::vector<BucketSums::Asker> BucketSums::take_late(std::vector<Asker>& askers) const {
  const auto late = std::ranges::partition(askers, [this](const Asker& asker) { return now_ms_ < asker.until_ms; });
  std::vector<Asker> taken(std::make_move_iterator(late.begin()), std::make_move_iterator(late.end()));
  askers.erase(late.begin(), late.end());
  return taken;
}

void BucketSums::tell_late_of_waiting() {
  const std::uint64_t buckets = parts_.placement.buckets();
  for (const Asker& asker : take_late(waiting_)) {
    asker.done({{}, {}, buckets, buckets, 0, "all buckets: others who had asked before were not answered in time"});
  }
}

/// What was found by then. A bucket that is not read by then is not known.
void BucketSums::tell_late() {
  for (const Asker& asker : take_late(round_->askers)) {
    Told told = round_->told;
    told.unknown_buckets += round_->open;
    if (round_->top != nullptr) told.pages = round_->top->pages(asker.limit);
    if (told.why.empty()) {
      told.why = round_->open == 0 ? std::string("not all buckets that may have such pages could be read in time")
                                   : fmt::format("{} buckets: {}", round_->open, round_->waits_for);
    }
    asker.done(std::move(told));
  }
  if (round_->askers.empty()) end_round();
}

void BucketSums::end_round() {
  round_.reset();
  for (std::uint32_t shard = 0; shard < asking_.size(); ++shard) {
    if (!asking_[shard].is_asked) shards_.end(shard);
  }
}

}  // namespace visitd
