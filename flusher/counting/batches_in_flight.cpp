#include "flusher/counting/batches_in_flight.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace visitd {

namespace {

constexpr std::uint64_t first_retry_ms = 1000;
// A bucket that is being moved takes no batches for the time of two answers.
constexpr std::uint64_t moving_retry_ms = 50;
// Other hosts find out within seconds what the shard lost.
constexpr std::uint64_t warn_of_low_after_ms = 30'000;

}  // namespace

BatchesInFlight::BatchesInFlight(ShardBuckets buckets, const Deployment& deployment, Batches& batches,
                                 FlusherStatistics statistics, SessionLink& link)
    : buckets_(buckets),
      deployment_(deployment),
      batches_(batches),
      statistics_(statistics),
      link_(link),
      ever_sent_(batches.buckets()),
      sent_there_(batches.buckets()),
      sent_here_(batches.buckets()) {
  for (const std::uint32_t bucket : buckets_.all()) ever_sent_[bucket] = batches_.unanswered(bucket) != nullptr;
}

void BatchesInFlight::begin() {
  for (const std::uint32_t bucket : buckets_.all()) {
    if (repairs_.contains(bucket)) to_send_.push_back(bucket);
  }
  for (const std::uint32_t bucket : buckets_.all()) {
    if (batches_.unanswered(bucket) != nullptr) to_send_.push_back(bucket);
  }
  say_how_it_is();
  pump();
}

void BatchesInFlight::leave() {
  sent_here_.assign(sent_here_.size(), false);
  to_send_.clear();
  moving_.clear();
  stays_.clear();
  repairs_.clear();
  low_.clear();
  in_flight_ = 0;
  probing_ = false;
  replica_of_.clear();
  refusal_.clear();
  write_backoff_.reset();
}

void BatchesInFlight::repair(std::uint32_t bucket, std::vector<Batch> lost) {
  repairs_[bucket].assign(std::move_iterator(lost.begin()), std::move_iterator(lost.end()));
}

void BatchesInFlight::say_how_it_is() {
  if (writes_wait()) {
    link_.set_state(ShardState::refuses_writes, replica_of_.empty() ? refusal_ : replica_of_);
  } else {
    link_.set_state(ShardState::up, "");
  }
}

// ---- a bucket comes, or goes

void BatchesInFlight::arrived(std::uint32_t bucket) {
  arriving_.erase(bucket);
  // Where it was before, its batch may have been executed.
  ever_sent_[bucket] = batches_.unanswered(bucket) != nullptr;
  to_send_.push_back(bucket);
  pump();
}

void BatchesInFlight::left(std::uint32_t bucket) {
  ever_sent_[bucket] = false;
  repairs_.erase(bucket);
  moving_.erase(bucket);
  arriving_.erase(bucket);
}

// ---- out

void BatchesInFlight::tick() {
  if (!moving_.empty() && link_.now_ms() >= moving_retry_at_ms_) {
    to_send_.insert(to_send_.end(), moving_.begin(), moving_.end());
    moving_.clear();
    pump();
  }
  if (is_refused()) pump();
}

void BatchesInFlight::ready(std::uint32_t bucket) {
  if (!link_.is_up()) return;
  to_send_.push_back(bucket);
  pump();
}

void BatchesInFlight::pump() {
  if (!link_.is_up() || !replica_of_.empty()) return;
  if (!refusal_.empty() && (link_.now_ms() < retry_at_ms_ || in_flight_ > 0)) return;
  const std::size_t window = refusal_.empty() ? link_.settings().batches_in_flight : 1;
  while (in_flight_ < window && !to_send_.empty()) {
    const std::uint32_t bucket = to_send_.front();
    to_send_.pop_front();
    send(bucket);
  }
  probing_ = !refusal_.empty() && in_flight_ > 0;
}

const Batch* BatchesInFlight::next_batch(std::uint32_t bucket, bool repair) const {
  return repair ? &repairs_.at(bucket).front() : batches_.unanswered(bucket);
}

/// One at a time of a bucket: first what the shard lost, then what it has not answered.
void BatchesInFlight::send(std::uint32_t bucket) {
  if (is_on_its_way(bucket) || !buckets_.has(bucket) || is_arriving(bucket)) return;
  const bool repair = is_repairing(bucket);
  const Batch* const batch = next_batch(bucket, repair);
  if (batch == nullptr || (batch->correction && !may_correct(bucket))) return;
  const SendBatch request = request_for(bucket, *batch, repair);
  sent_here_[bucket] = true;
  if (!repair) ever_sent_[bucket] = true;
  ++in_flight_;
  if (!repair || !is_rejoin(*batch)) {
    statistics_.add(repair ? FlusherStatistic::batches_sent_again : FlusherStatistic::batches_sent);
  }
  link_.send(request, [this, bucket, repair](const ShardAnswer& answer) { on_answer(bucket, repair, answer); });
}

/// A shard that has lost its tail may have forgotten that the bucket left. What is added there comes to the right place
/// all the same, out of kept batches; but a correction that was done there, and here is refused, or the reverse, would
/// make two counts of one.
bool BatchesInFlight::may_correct(std::uint32_t bucket) {
  if (!buckets_.moves_away(bucket) || stays_.contains(bucket)) return true;
  if (!looking_.insert(bucket).second) return false;
  link_.port().look_at_next(
      bucket, [this, bucket, alive = std::weak_ptr(alive_), connection = link_.connections()](bool is_here) {
        if (alive.expired()) return;
        looking_.erase(bucket);
        if (!buckets_.has(bucket)) return;
        if (!is_here || link_.connections() != connection) return try_later(bucket);
        stays_.insert(bucket);
        ready(bucket);
      });
  return false;
}

/// A correction that is sent again brings the bucket to the number that our next correction was worked out from: that
/// one still fits then, unless somebody else has corrected the bucket since. Any other that the shard may have had is
/// numbered above what the shard has forgotten with its tail.
SendBatch BatchesInFlight::request_for(std::uint32_t bucket, const Batch& batch, bool repair) const {
  const bool may_be_there = repair || ever_sent_[bucket];
  SendBatch request{&batch, deployment_.bucket_id(), false, link_.unix_ms() + (may_be_there ? 1 : 0), repair};
  if (!repair || !batch.correction) return request;
  const std::deque<Batch>& lost = repairs_.at(bucket);
  const auto corrects = [](const Batch& next) { return next.correction.has_value(); };
  const auto next = std::find_if(std::next(lost.begin()), lost.end(), corrects);
  const Batch* const after = next != lost.end() ? &*next : batches_.unanswered(bucket);
  if (after != nullptr && after->correction) request.fix_at_least = after->correction->fix;
  return request;
}

// ---- back

void BatchesInFlight::on_answer(std::uint32_t bucket, bool repair, const ShardAnswer& answer) {
  if (std::holds_alternative<Lost>(answer)) return;  // leave() follows
  --in_flight_;
  if (const auto* refused = std::get_if<Refused>(&answer)) return on_refused(bucket, without_script(refused->error));
  if (const auto* redirect = std::get_if<Redirect>(&answer)) return on_redirect(bucket, repair, *redirect);
  const auto& said = std::get<BatchAnswer>(answer);
  if (repair) {
    on_repair(bucket, said);
  } else {
    on_batch(bucket, said);
  }
}

/// An error is an answer as well: the batch is kept and tried again.
void BatchesInFlight::on_refused(std::uint32_t bucket, std::string error) {
  sent_here_[bucket] = false;
  to_send_.push_back(bucket);
  // Batches that were on their way already say nothing new.
  if (refusal_.empty() || std::exchange(probing_, false)) {
    retry_at_ms_ = link_.now_ms() + write_backoff_.next_ms(first_retry_ms);
  }
  refusal_ = std::move(error);
  say_how_it_is();
}

void BatchesInFlight::try_later(std::uint32_t bucket) {
  if (!link_.is_up()) return;  // begin() sends it
  moving_.insert(bucket);
  moving_retry_at_ms_ = link_.now_ms() + moving_retry_ms;
}

void BatchesInFlight::on_redirect(std::uint32_t bucket, bool repair, const Redirect& redirect) {
  sent_here_[bucket] = false;
  if (redirect.once) {
    sent_there_[bucket] = true;
    SendBatch request = request_for(bucket, *next_batch(bucket, repair), repair);
    request.once = true;
    link_.port().ask_node(redirect.node, request,
                          [this, bucket, repair, connection = link_.connections()](const ShardAnswer& answer) {
                            on_answer_there(bucket, repair, connection, answer);
                          });
  } else {
    try_later(bucket);
    link_.port().redirected(bucket, redirect.node);
  }
  writes_go_on();
}

/// Here the connection may have gone meanwhile, and what the bucket lost is looked for anew with the next one.
void BatchesInFlight::on_answer_there(std::uint32_t bucket, bool repair, std::uint64_t connection,
                                      const ShardAnswer& answer) {
  sent_there_[bucket] = false;
  const auto* const said = std::get_if<BatchAnswer>(&answer);
  if (said == nullptr || !link_.is_up() || link_.connections() != connection) return try_later(bucket);
  if (repair) {
    on_repair(bucket, *said);
  } else {
    on_batch(bucket, *said);
  }
}

void BatchesInFlight::try_soon() {
  write_backoff_.reset();
  retry_at_ms_ = std::min(retry_at_ms_, link_.now_ms());
  // What no batch can find out.
  if (link_.is_up() && in_flight_ == 0 && to_send_.empty() && !std::exchange(refusal_, {}).empty()) say_how_it_is();
}

void BatchesInFlight::refuse(std::string why) {
  if (refusal_.empty()) retry_at_ms_ = link_.now_ms() + write_backoff_.next_ms(first_retry_ms);
  refusal_ = std::move(why);
  say_how_it_is();
}

void BatchesInFlight::writes_go_on() {
  link_.worked();
  probing_ = false;
  write_backoff_.reset();
  if (!std::exchange(refusal_, {}).empty()) say_how_it_is();
  pump();
}

void BatchesInFlight::holds_other(std::uint32_t bucket, const std::string& field) {
  link_.reconnect(fmt::format("shard {}: bucket {} holds '{}', '{}' was expected; looking at the shard again",
                              link_.settings().shard, bucket, field, batches_.field(bucket)));
}

void BatchesInFlight::is_foreign(std::uint32_t bucket, const std::string& id) {
  link_.reconnect(fmt::format("shard {}: bucket {} has the identity '{}', not '{}'; looking at the shard again",
                              link_.settings().shard, bucket, id, deployment_.bucket_id()));
}

void BatchesInFlight::is_forgotten(std::uint32_t bucket) {
  link_.reconnect(
      fmt::format("shard {}: bucket {} has a tombstone of this host, which was forgotten; looking at the shard again",
                  link_.settings().shard, bucket));
}

void BatchesInFlight::on_batch(std::uint32_t bucket, const BatchAnswer& answer) {
  const std::string& shard = link_.settings().shard;
  switch (answer.kind) {
    case BatchAnswer::Kind::duplicate:
      statistics_.add(FlusherStatistic::batches_duplicate);
      [[fallthrough]];
    case BatchAnswer::Kind::applied:
      sent_here_[bucket] = false;
      ever_sent_[bucket] = false;
      if (batches_.is_fencing(bucket)) {
        batches_.fenced(bucket, link_.unix_now());
      } else {
        batches_.answered(bucket, answer.totals, answer.fix, link_.now_ms(), link_.unix_now());
      }
      return writes_go_on();
    case BatchAnswer::Kind::have:
      return holds_other(bucket, answer.have);
    case BatchAnswer::Kind::foreign:
      return is_foreign(bucket, answer.have);
    case BatchAnswer::Kind::forgotten:
      return is_forgotten(bucket);
    case BatchAnswer::Kind::refused:
      if (answer.bad_series.empty()) {
        return link_.hold(fmt::format("shard {}: bucket {} cannot be written: {}", shard, bucket, answer.why));
      }
      sent_here_[bucket] = false;
      ever_sent_[bucket] = false;
      batches_.refused(bucket, answer.bad_series, answer.why);
      to_send_.push_front(bucket);
      return writes_go_on();
    case BatchAnswer::Kind::corrected:
    case BatchAnswer::Kind::low:
      sent_here_[bucket] = false;
      ever_sent_[bucket] = false;
      batches_.outdated(bucket);
      to_send_.push_front(bucket);
      return writes_go_on();
    case BatchAnswer::Kind::moving:
      sent_here_[bucket] = false;
      try_later(bucket);
      return writes_go_on();
    case BatchAnswer::Kind::moved:
      sent_here_[bucket] = false;
      link_.port().moved(bucket, answer.why);
      if (buckets_.has(bucket)) try_later(bucket);  // until a later layout says where it is
      return writes_go_on();
  }
}

/// Other hosts have not sent again yet what a correction of ours took away; or another host has corrected the page
/// while it lacked ours. Which of both only people can know.
void BatchesInFlight::warn_of_low(std::uint32_t bucket, const BatchAnswer& answer) {
  const auto [low, is_new] = low_.try_emplace(bucket, link_.now_ms());
  if (is_new || low->second == 0 || link_.now_ms() < low->second + warn_of_low_after_ms) return;
  low->second = 0;  // said once
  const Effect& taken = repairs_.at(bucket).front().effects.at(answer.bad_series.front());
  link_.port().warn(fmt::format(
      "shard {0}: bucket {1} waits: this host took {3} from page {2}, the shard lost that, and it holds less than {3} "
      "now. Visits of other hosts that it lost too have not come again: start those hosts; if they are gone for good, "
      "raise the page by what they had. Or somebody else has corrected the page before this host could say it again: "
      "raise the page by {3}. To raise it: HINCRBY visits:{{{1}}} PAGE VISITS, then HINCRBY visits:{{{1}}} $'\\x01fix' "
      "1",
      link_.settings().shard, bucket, taken.series, -difference_of(taken)));
}

void BatchesInFlight::on_repair(std::uint32_t bucket, const BatchAnswer& answer) {
  sent_here_[bucket] = false;
  if (answer.kind == BatchAnswer::Kind::moving || answer.kind == BatchAnswer::Kind::moved) {
    return on_batch(bucket, answer);
  }
  if (answer.kind == BatchAnswer::Kind::low) {
    warn_of_low(bucket, answer);
    try_later(bucket);
    return writes_go_on();
  }
  const bool done = answer.kind == BatchAnswer::Kind::applied || answer.kind == BatchAnswer::Kind::duplicate;
  if (!done && (answer.kind != BatchAnswer::Kind::refused || answer.bad_series.empty())) {
    link_.reconnect(fmt::format(
        "shard {} did not take a batch again that it had lost, or a mark that was taken out; looking at it once more",
        link_.settings().shard));
    return;
  }
  std::deque<Batch>& lost = repairs_[bucket];
  if (done) {
    if (is_rejoin(lost.front())) batches_.rejoined(bucket);
    low_.erase(bucket);
    lost.pop_front();
    if (lost.empty()) repairs_.erase(bucket);
  } else {
    // The rest of it goes under the same mark, which the next one expects.
    batches_.set_aside_of_kept(lost.front(), answer.bad_series, answer.why);
  }
  to_send_.push_front(bucket);
  writes_go_on();
}

}  // namespace visitd
