#include "flusher/shard_session.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace visitd {

ShardSession::ShardSession(SessionSettings settings, std::string identity, std::string new_identity,
                           std::vector<std::uint32_t> buckets, Batches& batches, Lookups& lookups, Drain& drain,
                           FlusherStatistics statistics, SessionPort& port)
    : settings_(std::move(settings)),
      identity_(std::move(identity)),
      new_identity_(std::move(new_identity)),
      buckets_(std::move(buckets)),
      batches_(batches),
      lookups_(lookups),
      drain_(drain),
      statistics_(statistics),
      port_(port),
      sent_here_(batches.buckets()),
      ever_sent_(batches.buckets()) {
  for (const std::uint32_t bucket : buckets_) ever_sent_[bucket] = batches_.unanswered(bucket) != nullptr;
}

// ---- connection

void ShardSession::tick(std::uint64_t now_ms) {
  now_ms_ = now_ms;
  if (step_ != Step::away || now_ms < connect_at_ms_) return;
  step_ = Step::connecting;
  port_.connect();
}

void ShardSession::on_connected() {
  step_ = Step::facts;
  send({Sent::Kind::facts, 0, 0, {}, {}}, AskFacts{});
}

void ShardSession::on_broken(const std::string& why, std::uint64_t now_ms) {
  now_ms_ = now_ms;
  leave();
  connect_at_ms_ = now_ms + settings_.reconnect_ms;
  if (state_ != ShardState::held) set_state(ShardState::down, why);
}

/// Nothing of the old connection survives.
void ShardSession::leave() {
  step_ = Step::away;
  sent_here_.assign(sent_here_.size(), false);
  to_send_.clear();
  repairs_.clear();
  fault_.clear();
  batches_in_flight_ = 0;
  marks_awaited_ = 0;
  for (const Sent& sent : std::exchange(sent_, {})) {
    if (sent.kind == Sent::Kind::count) lookups_.dropped(sent.page);
    if (sent.inspection) sent.inspection(std::nullopt);
  }
}

void ShardSession::reconnect(const std::string& why) {
  port_.close();
  leave();
  connect_at_ms_ = now_ms_ + settings_.reconnect_ms;
  set_state(ShardState::connecting, why);
}

void ShardSession::hold(const std::string& why) {
  accepting_ = false;  // what the operator accepted was another look's
  port_.close();
  leave();
  connect_at_ms_ = now_ms_ + settings_.held_recheck_ms;
  set_state(ShardState::held, why);
}

void ShardSession::set_state(ShardState state, const std::string& why) {
  if (state == state_ && why == why_) return;
  state_ = state;
  why_ = why;
  port_.state_changed(state, why);
}

void ShardSession::accept(std::uint64_t now_ms) {
  now_ms_ = now_ms;
  accepting_ = true;
  port_.close();
  leave();
  connect_at_ms_ = now_ms;
}

// ---- who it is

void ShardSession::on_facts(const Facts& facts) {
  std::string unfit;
  if (!settings_.accept_eviction && facts.maxmemory_policy && *facts.maxmemory_policy != "noeviction") {
    unfit = fmt::format(
        "shard {} evicts keys when its memory is full (maxmemory-policy is {}): counts would be lost; set "
        "maxmemory-policy to noeviction, or accept it with redis.accept_eviction = true",
        settings_.shard, *facts.maxmemory_policy);
  } else if (!settings_.accept_no_append_only && facts.append_only && *facts.append_only != "yes") {
    unfit = fmt::format(
        "shard {} has no append-only file: a restart of it would lose counts; set appendonly to yes, or accept it "
        "with redis.accept_no_append_only = true",
        settings_.shard);
  }
  if (!unfit.empty()) {
    port_.unfit(unfit);
    hold(unfit);
    return;
  }
  if (!facts.topology.empty()) {
    on_topology(facts.topology);
    return;
  }
  const bool known =
      !identity_.empty() || std::ranges::any_of(buckets_, [&](std::uint32_t b) { return !batches_.field(b).empty(); });
  if (known && !accepting_) {
    hold(
        fmt::format("shard {} has been emptied or replaced: it holds no visits:topology although counts were written "
                    "to it; restore "
                    "its data, or accept it as it is with: visitctl accept {}",
                    settings_.shard, settings_.shard));
    return;
  }
  step_ = Step::topology;
  send({Sent::Kind::topology, 0, 0, {}, {}}, MakeTopology{new_identity_ + " " + settings_.layout});
}

void ShardSession::on_topology(const std::string& topology) {
  const std::size_t space = topology.find(' ');
  const std::string identity = topology.substr(0, space);
  const std::string layout = space == std::string::npos ? std::string() : topology.substr(space + 1);
  if (layout != settings_.layout) {
    hold(
        fmt::format("shard {} was laid out as '{}', the settings say '{}': set redis.shards, redis.virtual_nodes and "
                    "redis.buckets as "
                    "they were",
                    settings_.shard, layout, settings_.layout));
    return;
  }
  if (!identity_.empty() && identity != identity_ && !accepting_) {
    hold(
        fmt::format("shard {} is another server, or was made anew: its identity is {}, and {} was known; put the "
                    "address right, restore "
                    "its data, or accept it as it is with: visitctl accept {}",
                    settings_.shard, identity, identity_, settings_.shard));
    return;
  }
  adopt(identity);
  ask_marks();
}

void ShardSession::adopt(const std::string& identity) {
  if (identity == identity_) return;
  identity_ = identity;
  batches_.note_identity({settings_.shard, identity});
}

// ---- what it holds of ours

void ShardSession::ask_marks() {
  step_ = Step::marks;
  for (const std::uint32_t bucket : buckets_) {
    if (!batches_.was_written(bucket)) continue;
    ++marks_awaited_;
    send({Sent::Kind::mark, bucket, 0, {}, {}}, AskMark{bucket});
  }
  if (marks_awaited_ == 0) on_marks_known();
}

void ShardSession::on_mark(std::uint32_t bucket, const std::string& field) {
  --marks_awaited_;
  const Batch* batch = batches_.unanswered(bucket);
  const bool agrees = field == batches_.field(bucket) || (batch != nullptr && field == to_text(batch->mark));
  if (!agrees) {
    if (auto lost = batches_.lost_since(bucket, field)) {
      std::ranges::move(*lost, std::back_inserter(repairs_));
    } else if (accepting_) {
      if (batches_.accept(bucket, field)) lookups_.forget_bucket(bucket);
    } else if (fault_.empty()) {
      Mark held;
      const Mark ours = [&] {
        Mark mark;
        static_cast<void>(parse_mark(batches_.field(bucket), mark));
        return mark;
      }();
      const char* const what =
          !parse_mark(field, held) ? "holds nothing of what was acknowledged: it was emptied, or restored from a copy "
                                     "older than the batches that are kept"
          : held.seq < ours.seq || (held.seq == ours.seq && batches_.last_seq(bucket) > held.seq)
              ? "was restored from a copy older than the batches that are kept"
          : held.incarnation.number > ours.incarnation.number
              ? "was written by a newer flusher with this spool's identity: this spool is an old copy, or a clone"
              : "holds batches that this spool does not know: the spool is older than the shard, or a clone";
      fault_ = fmt::format(
          "shard {}: bucket {} {} (it holds '{}', '{}' was expected). Restore the data that belongs together, accept "
          "the "
          "shard as it is with: visitctl accept {} — or, where the spool is the old copy, stop the flusher and start "
          "it once with --renew-spool",
          settings_.shard, bucket, what, field, batches_.field(bucket), settings_.shard);
    }
  }
  if (marks_awaited_ == 0) on_marks_known();
}

void ShardSession::on_marks_known() {
  if (!fault_.empty()) {
    hold(std::exchange(fault_, {}));
    return;
  }
  accepting_ = false;
  step_ = Step::up;
  for (Batch& lost : std::exchange(repairs_, {})) {
    auto repair = std::make_unique<Batch>(std::move(lost));
    const Batch* const batch = repair.get();
    statistics_.add(FlusherStatistic::batches_sent_again);
    send({Sent::Kind::repair, batch->bucket, 0, std::move(repair), {}}, SendBatch{batch});
  }
  for (const std::uint32_t bucket : buckets_) {
    if (batches_.unanswered(bucket) != nullptr) to_send_.push_back(bucket);
  }
  set_state(ShardState::up, "");
  pump();
}

// ---- batches and reads

void ShardSession::batch_ready(std::uint32_t bucket) {
  if (step_ != Step::up) return;
  to_send_.push_back(bucket);
  pump();
}

void ShardSession::pump() {
  while (batches_in_flight_ < settings_.batches_in_flight && !to_send_.empty()) {
    const std::uint32_t bucket = to_send_.front();
    to_send_.pop_front();
    send_batch(bucket);
  }
}

void ShardSession::send_batch(std::uint32_t bucket) {
  const Batch* const batch = batches_.unanswered(bucket);
  if (batch == nullptr || sent_here_[bucket]) return;
  sent_here_[bucket] = true;
  ever_sent_[bucket] = true;
  ++batches_in_flight_;
  statistics_.add(FlusherStatistic::batches_sent);
  send({Sent::Kind::batch, bucket, 0, {}, {}}, SendBatch{batch});
}

bool ShardSession::look_up(std::uint32_t page, std::uint32_t bucket, const std::string& id) {
  if (step_ != Step::up) return false;
  // A batch that an earlier connection may have executed goes first: then its answer, not a guess, says what the read
  // includes.
  if (ever_sent_[bucket]) send_batch(bucket);
  send({Sent::Kind::count, bucket, page, {}, {}}, AskCount{bucket, id});
  return true;
}

void ShardSession::inspect(std::uint32_t bucket, const std::string& id, Inspection done) {
  if (step_ != Step::up) {
    done(std::nullopt);
    return;
  }
  send({Sent::Kind::inspection, bucket, 0, {}, std::move(done)}, AskCount{bucket, id});
}

void ShardSession::send(Sent sent, const ShardCommand& command) {
  sent_.push_back(std::move(sent));
  port_.send(command);
}

void ShardSession::on_answer(ShardAnswer answer, std::uint64_t now_ms, std::uint64_t unix_now) {
  now_ms_ = now_ms;
  if (std::holds_alternative<Refused>(answer)) return;  // the connection breaks next, and says why
  if (sent_.empty()) {
    reconnect(fmt::format("shard {} answered what it was not asked", settings_.shard));
    return;
  }
  const Sent sent = std::move(sent_.front());
  sent_.pop_front();
  switch (sent.kind) {
    case Sent::Kind::facts:
      on_facts(std::get<Facts>(answer));
      break;
    case Sent::Kind::topology:
      on_topology(std::get<Topology>(answer).topology);
      break;
    case Sent::Kind::mark:
      on_mark(sent.bucket, std::get<MarkHeld>(answer).field);
      break;
    case Sent::Kind::batch:
      on_batch_answer(sent.bucket, std::get<BatchAnswer>(answer), now_ms, unix_now);
      break;
    case Sent::Kind::repair: {
      const auto& repaired = std::get<BatchAnswer>(answer);
      if (repaired.kind != BatchAnswer::Kind::applied && repaired.kind != BatchAnswer::Kind::duplicate) {
        reconnect(fmt::format("shard {} did not take a batch again that it had lost; looking at it once more",
                              settings_.shard));
      }
      break;
    }
    case Sent::Kind::inspection:
      sent.inspection(std::get<Count>(std::move(answer)));
      break;
    case Sent::Kind::count:
      on_count(sent, std::get<Count>(answer), now_ms);
      break;
  }
}

void ShardSession::on_batch_answer(std::uint32_t bucket, const BatchAnswer& answer, std::uint64_t now_ms,
                                   std::uint64_t unix_now) {
  --batches_in_flight_;
  switch (answer.kind) {
    case BatchAnswer::Kind::duplicate:
      statistics_.add(FlusherStatistic::batches_duplicate);
      [[fallthrough]];
    case BatchAnswer::Kind::applied:
      sent_here_[bucket] = false;
      ever_sent_[bucket] = false;
      batches_.answered(bucket, answer.totals, drain_, now_ms, unix_now);
      pump();
      return;
    case BatchAnswer::Kind::have:
      reconnect(fmt::format("shard {}: bucket {} holds '{}', '{}' was expected; looking at the shard again",
                            settings_.shard, bucket, answer.have, batches_.field(bucket)));
      return;
    case BatchAnswer::Kind::refused:
      if (answer.bad_pages.empty()) {
        hold(fmt::format("shard {}: bucket {} cannot be written: {}", settings_.shard, bucket, answer.why));
        return;
      }
      sent_here_[bucket] = false;
      ever_sent_[bucket] = false;
      batches_.refused(bucket, answer.bad_pages, answer.why);
      pump();
      return;
    case BatchAnswer::Kind::moved:
      hold(fmt::format("shard {}: bucket {} has been moved away: {}", settings_.shard, bucket, answer.why));
      return;
  }
}

void ShardSession::on_count(const Sent& sent, const Count& count, std::uint64_t now_ms) {
  if (!count.moved.empty()) {
    lookups_.dropped(sent.page);
    hold(fmt::format("shard {}: bucket {} has been moved away: {}", settings_.shard, sent.bucket, count.moved));
  } else if (count.field != batches_.field(sent.bucket)) {
    lookups_.dropped(sent.page);
    reconnect(fmt::format("shard {}: bucket {} holds '{}', '{}' was expected; looking at the shard again",
                          settings_.shard, sent.bucket, count.field, batches_.field(sent.bucket)));
  } else if (!count.readable) {
    lookups_.unreadable(sent.page, now_ms);
  } else {
    lookups_.counted(sent.page, count.count, now_ms);
  }
}

}  // namespace visitd
