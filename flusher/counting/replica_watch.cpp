#include "flusher/counting/replica_watch.hpp"

#include <fmt/format.h>

#include <utility>

namespace visitd {

namespace {

// A server that does not know the command, or does not allow it, is seldom another one a moment later.
constexpr std::uint64_t refused_retry_ms = 60'000;

/// The server will say the same of the next one.
bool is_lasting(const std::string& error) {
  return error.starts_with("NOPERM") || error.starts_with("ERR unknown command") ||
         error.starts_with("ERR WAITAOF cannot be used when");
}

}  // namespace

ReplicaWatch::ReplicaWatch(ShardBuckets buckets, Batches& batches, SessionLink& link, const BatchesInFlight& in_flight)
    : buckets_(buckets), shard_(buckets.shard()), batches_(batches), link_(link), in_flight_(in_flight) {
  use();
}

void ReplicaWatch::use() {
  const std::pair wanted(link_.settings().wait_replicas, link_.settings().wait_aof);
  if (wanted != std::exchange(wanted_, wanted)) {
    // What fewer replicas have, more of them may not.
    begin_anew();
    told_behind_ = false;
  }
  follow_refusals();
}

void ReplicaWatch::follow_refusals() {
  batches_.set_waits(shard_, is_wanted());
}

bool ReplicaWatch::is_wanted() const noexcept {
  return wants_disk() || (link_.settings().wait_replicas > 0 && !no_replicas_);
}

std::optional<ReplicaWatch::Report> ReplicaWatch::report() const {
  if (!is_wanted()) return std::nullopt;
  return Report{link_.settings().wait_replicas, have_, behind_since_ms_ == 0 ? 0 : link_.now_ms() - behind_since_ms_};
}

void ReplicaWatch::begin_anew() {
  batches_.unconfirm(shard_);
  ++question_;  // the answer that is on its way says nothing any more
  have_.reset();
}

// ---- the question

void ReplicaWatch::tick(const std::optional<Facts>& server) {
  if ((no_disk_ || no_replicas_) && link_.now_ms() >= refused_until_ms_) {
    no_disk_ = no_replicas_ = false;
    follow_refusals();
  }
  if (!is_wanted() || !batches_.kept().any_unconfirmed(shard_) || buckets_.all().empty()) {
    behind_since_ms_ = 0;
    return;
  }
  if (behind_since_ms_ == 0) behind_since_ms_ = link_.now_ms();
  note_dropped();
  // What the shard lost, or has not said to have, is on no replica either.
  const bool has_all = !in_flight_.is_repairing() && in_flight_.arriving().empty();
  if (!asking_ && has_all && link_.now_ms() >= ask_at_ms_) ask(server ? server->run_id.value_or("") : "");
}

void ReplicaWatch::ask(const std::string& run_id) {
  asking_ = true;
  asked_at_ms_ = link_.now_ms();
  ask_at_ms_ = asked_at_ms_ + link_.settings().check_ms;
  covers_ = batches_.kept().newest();
  asked_disk_ = wants_disk();
  link_.send(AskReplicas{buckets_.all().front(), no_replicas_ ? 0 : link_.settings().wait_replicas, asked_disk_,
                         link_.settings().wait_ms, run_id},
             [this, question = ++question_](const ShardAnswer& answer) {
               asking_ = false;
               if (question == question_) on_answer(answer);
             });
}

void ReplicaWatch::on_answer(const ShardAnswer& answer) {
  const SessionSettings& settings = link_.settings();
  if (const auto* const refused = std::get_if<Refused>(&answer)) return on_refused(refused->error);
  const auto* const said = std::get_if<Replicas>(&answer);
  if (said == nullptr) {
    have_.reset();
    return note_behind("the shard does not say whether its replicas follow");
  }
  have_ = said->replicas;
  if (!no_replicas_ && said->replicas < settings.wait_replicas) {
    return note_behind(fmt::format("{} of the {} replicas that redis.wait_replicas wants have what it answered",
                                   said->replicas, settings.wait_replicas));
  }
  if (asked_disk_ && !said->on_disk) return note_behind("its own disk does not have what it answered");
  batches_.confirm(shard_, covers_);
  behind_since_ms_ = batches_.kept().any_unconfirmed(shard_) ? asked_at_ms_ : 0;
  if (std::exchange(told_behind_, false)) {
    warn(fmt::format("shard {}: its replicas have what it answered again; kept batches go as usual", settings.shard));
  }
}

void ReplicaWatch::on_refused(const std::string& error) {
  const SessionSettings& settings = link_.settings();
  if (!is_lasting(error)) {
    have_.reset();
    return note_behind(fmt::format("the shard does not say whether its replicas follow ({})", error));
  }
  (asked_disk_ ? no_disk_ : no_replicas_) = true;
  refused_until_ms_ = link_.now_ms() + refused_retry_ms;
  ask_at_ms_ = link_.now_ms();
  follow_refusals();
  const std::string what = fmt::format(
      "shard {} refuses {} ({}): {}; allow the command (WAITAOF: Redis 7.2 with appendonly yes), or take {} out",
      settings.shard, asked_disk_ ? "WAITAOF" : "WAIT", error,
      is_wanted() ? "only its replicas are asked, not the disks"
                  : "kept batches go after flusher.keep_batches_s, whether replicas have them or not",
      asked_disk_ ? "redis.wait_aof" : "redis.wait_replicas");
  if (what != std::exchange(warned_, what)) warn(what);
}

// ---- for people

void ReplicaWatch::note_behind(const std::string& what) {
  if (std::exchange(told_behind_, true)) return;
  warn(
      fmt::format("shard {}: {}, for {} s: kept batches stay beyond flusher.keep_batches_s until it is so, or until "
                  "flusher.keep_batches_bytes is full; look at INFO replication of the shard",
                  link_.settings().shard, what, (link_.now_ms() - behind_since_ms_) / 1000));
}

void ReplicaWatch::note_dropped() {
  const std::uint64_t dropped = batches_.kept().dropped(shard_);
  const bool first = dropped_ == 0 && dropped != 0;
  dropped_ = dropped;
  if (!first) return;
  warn(
      fmt::format("shard {}: kept batches that its replicas do not have yet are dropped, because "
                  "flusher.keep_batches_bytes is full: a failover now would hold the shard",
                  link_.settings().shard));
}

void ReplicaWatch::warn(const std::string& what) {
  link_.port().warn(what);
}

}  // namespace visitd
