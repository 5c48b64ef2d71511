#include "flusher/counting/bucket_mover.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "flusher/counting/layout.hpp"

namespace visitd {

namespace {

constexpr std::uint64_t first_at_once = 8;
// While a server's disk is busy, the mover asks it no more often than this.
constexpr std::uint64_t ask_disk_ms = 20;

}  // namespace

BucketMover::BucketMover(MoverSettings settings, const Placement& placement, MoverPort& port)
    : settings_(std::move(settings)),
      placement_(placement),
      port_(port),
      disks_(placement.shards()),
      // Until one was seen: few at once.
      large_content_bytes_(settings_.content_bytes / first_at_once) {
  for (std::uint32_t bucket = 0; bucket < placement_.buckets(); ++bucket) {
    if (placement_.moves(bucket)) to_move_.push_back(bucket);
  }
  progress_.buckets = to_move_.size();
}

std::string BucketMover::marker(std::uint32_t bucket) const {
  return move_marker(settings_.places[placement_.next_of(bucket)], settings_.version);
}

void BucketMover::tick(std::uint64_t now_ms) {
  now_ms_ = now_ms;
  take_turn(now_ms);
  progress_.ours = now_ms < turn_until_ms_;
  if (!progress_.ours) return;
  for (; !later_.empty() && later_.front().at_ms <= now_ms; later_.pop_front())
    to_move_.push_back(later_.front().bucket);
  for (std::uint32_t shard = 0; shard < disks_.size(); ++shard) ask_persistence(shard);
  if (progress_.moved == progress_.buckets) return port_.all_moved();
  begin_more();
}

bool BucketMover::is_answered() const noexcept {
  return moving_ == 0 && !asking_turn_ && std::ranges::none_of(disks_, &Disk::asking);
}

void BucketMover::begin_more() {
  if (!progress_.ours || now_ms_ < retry_at_ms_) return;
  std::uint32_t room = this->room();
  for (std::size_t looked = to_move_.size(); looked > 0 && room > 0; --looked) {
    const std::uint32_t bucket = to_move_.front();
    to_move_.pop_front();
    const bool can =
        port_.connection(placement_.first_of(bucket)) != 0 && port_.connection(placement_.next_of(bucket)) != 0;
    if (can) {
      --room;
      credit_ -= std::min<std::uint64_t>(credit_, 1000);
      copy_out(bucket);
    } else {
      to_move_.push_back(bucket);
    }
  }
}

std::uint32_t BucketMover::room() {
  const std::uint64_t fit = settings_.content_bytes / std::max<std::uint64_t>(large_content_bytes_, 1);
  const auto most =
      static_cast<std::uint32_t>(std::clamp<std::uint64_t>(fit, 1, std::max(settings_.buckets_at_once, 1U)));
  const std::uint32_t at_once = most - std::min(moving_, most);
  // Little by little: many at once would keep the shards from everything else for a while.
  const std::uint64_t rate = this->rate();
  const std::uint64_t most_credit = std::max<std::uint64_t>(1000, rate * 1000 / 4);
  credit_ = std::min(most_credit, credit_ + rate * (now_ms_ - std::exchange(credited_ms_, now_ms_)));
  return rate == 0 ? at_once : std::min(at_once, static_cast<std::uint32_t>(credit_ / 1000));
}

std::uint64_t BucketMover::rate() const {
  if (settings_.rate != 0) return settings_.rate;
  return port_.reads_come() ? settings_.rate_beside_reads : 0;
}

/// One that says so again keeps its turn: asked for again when half of it is over.
void BucketMover::take_turn(std::uint64_t now_ms) {
  if (asking_turn_ || now_ms < ask_turn_at_ms_) return;
  const std::uint32_t deciding = port_.deciding();
  if (port_.connection(deciding) == 0) return;
  asking_turn_ = true;
  ask_turn_at_ms_ = now_ms + settings_.turn_ms / 2;
  port_.send(deciding, TakeMoves{settings_.writer, settings_.turn_ms},
             [this, now_ms, deciding](const ShardAnswer& answer) {
               asking_turn_ = false;
               const auto* const taken = std::get_if<MovesTaken>(&answer);
               if (taken != nullptr) turn_until_ms_ = taken->ours ? now_ms + settings_.turn_ms : 0;
               const auto* const refused = std::get_if<Refused>(&answer);
               if (refused != nullptr) {
                 progress_.problem = fmt::format("shard {} does not say who moves buckets, in visits:mover: {}",
                                                 settings_.shards[deciding], refused->error);
               } else if (turn_refused_) {
                 progress_.problem.clear();
               }
               turn_refused_ = refused != nullptr;
             });
}

void BucketMover::again(std::uint32_t bucket, const std::string& problem) {
  to_move_.push_back(bucket);
  progress_.problem = problem;
  if (!problem.empty()) retry_at_ms_ = now_ms_ + settings_.retry_ms;
}

void BucketMover::later(std::uint32_t bucket) {
  later_.push_back({bucket, now_ms_ + settings_.redirect_retry_ms});
}

void BucketMover::step(MoveBucket::Step step, std::uint32_t bucket, std::string content, const Then& then) {
  const bool next = step == MoveBucket::Step::copy_in;
  const std::uint32_t shard = next ? placement_.next_of(bucket) : placement_.first_of(bucket);
  if (port_.connection(shard) == 0) return again(bucket, {});
  ++moving_;
  // Kept for a node that is to be asked in the place of this one, and not copied: the content may be large.
  const auto move =
      std::make_shared<ShardCommand>(MoveBucket{step, bucket, port_.bucket_id(), marker(bucket), std::move(content)});
  port_.send(shard, *move, [this, move, bucket, shard, then](const ShardAnswer& answer) {
    const auto* const redirect = std::get_if<Redirect>(&answer);
    if (redirect == nullptr || !redirect->once) return on_step(bucket, shard, then, answer);
    // Its slot is on its way to another node.
    const auto node = std::ranges::find(settings_.shards, redirect->node);
    const auto other = static_cast<std::uint32_t>(node - settings_.shards.begin());
    if (node == settings_.shards.end()) return on_step(bucket, shard, then, Redirect{redirect->node});
    std::get<MoveBucket>(*move).once = true;
    port_.ask_node(redirect->node, *move,
                   [this, bucket, other, then](const ShardAnswer& said) { on_step(bucket, other, then, said); });
  });
}

void BucketMover::on_step(std::uint32_t bucket, std::uint32_t shard, const Then& then, const ShardAnswer& answer) {
  --moving_;
  if (stopped_) return;
  const std::string where = fmt::format("bucket {} at shard {}", bucket, settings_.shards[shard]);
  if (const auto* redirect = std::get_if<Redirect>(&answer)) {
    if (!redirect->once) port_.redirected(bucket, redirect->node);
    later(bucket);
  } else if (const auto* refused = std::get_if<Refused>(&answer)) {
    again(bucket, fmt::format("{}: {}", where, refused->error));
  } else if (const auto* said = std::get_if<MoveAnswer>(&answer); said == nullptr) {
    again(bucket, {});
  } else if (said->kind == MoveAnswer::Kind::refused) {
    again(bucket, fmt::format("{}: {}", where, said->text));
  } else {
    then(*said, shard);
    // At once: with a tick between them, the next buckets would wait for it.
    begin_more();
  }
}

void BucketMover::copy_out(std::uint32_t bucket) {
  step(MoveBucket::Step::copy_out, bucket, {}, [this, bucket](const MoveAnswer& answer, std::uint32_t by) {
    if (answer.kind != MoveAnswer::Kind::content) return look_for_dropped(bucket, by);
    large_content_bytes_ = std::max<std::uint64_t>(answer.text.size(), large_content_bytes_ - large_content_bytes_ / 8);
    copy_in(bucket, answer.text);
  });
}

void BucketMover::copy_in(std::uint32_t bucket, std::string content) {
  step(MoveBucket::Step::copy_in, bucket, std::move(content),
       [this, bucket](const MoveAnswer&, std::uint32_t by) { send_away(bucket, by, port_.connection(by)); });
}

void BucketMover::look_for_dropped(std::uint32_t bucket, std::uint32_t former) {
  const std::uint64_t connection = port_.connection(former);
  step(MoveBucket::Step::copy_in, bucket, {},
       [this, bucket, former, connection](const MoveAnswer& answer, std::uint32_t) {
         if (answer.kind == MoveAnswer::Kind::absent) {
           return again(bucket,
                        fmt::format("bucket {} is gone: shard {} has dropped it, and shard {}, which had it durably, "
                                    "holds it no more; restore the data of that shard",
                                    bucket, settings_.shards[placement_.first_of(bucket)],
                                    settings_.shards[placement_.next_of(bucket)]));
         }
         port_.moved(bucket);
         disks_[former].drops.push_back({bucket, connection});
       });
}

void BucketMover::send_away(std::uint32_t bucket, std::uint32_t copy_on, std::uint64_t connection) {
  step(MoveBucket::Step::send_away, bucket, {}, [this, bucket, copy_on, connection](const MoveAnswer&, std::uint32_t) {
    progress_.problem.clear();
    port_.moved(bucket);
    disks_[copy_on].copies.push_back({bucket, connection});
  });
}

void BucketMover::ask_persistence(std::uint32_t shard) {
  Disk& disk = disks_[shard];
  for (std::deque<Done>* const done : {&disk.copies, &disk.drops}) {
    for (auto fresh = done->rbegin(); fresh != done->rend() && !fresh->since_ms; ++fresh) fresh->since_ms = now_ms_;
  }
  const bool due = !disk.drops.empty() || is_old(disk.copies, settings_.durable_after_ms, now_ms_);
  const std::uint64_t connection = port_.connection(shard);
  if (!due || connection == 0 || disk.asking || now_ms_ < disk.ask_at_ms) return;
  disk.asking = true;
  disk.ask_at_ms = now_ms_ + ask_disk_ms;
  port_.send(shard, AskPersistence{}, [this, shard, connection, asked_ms = now_ms_](const ShardAnswer& answer) {
    disks_[shard].asking = false;
    const auto* const persistence = std::get_if<Persistence>(&answer);
    if (persistence != nullptr && !stopped_) on_persistence(shard, *persistence, {asked_ms, connection});
  });
}

bool BucketMover::is_old(const std::deque<Done>& done, std::uint64_t age_ms, std::uint64_t at_ms) noexcept {
  return !done.empty() && done.front().since_ms && *done.front().since_ms + age_ms <= at_ms;
}

/// If the machine of the former shard stops just as its drops are settled, one may be lost all the same, which costs
/// memory alone: no host asks there any more. So nobody waits for that.
void BucketMover::on_persistence(std::uint32_t shard, const Persistence& persistence, const Asked& asked) {
  Disk& disk = disks_[shard];
  if (persistence.replicas >= port_.least_replicas()) {
    progress_.moved += take_safe(disk.drops, 0, persistence, asked).size();
    const auto safe = take_safe(disk.copies, settings_.durable_after_ms, persistence, asked);
    if (!safe.empty()) progress_.problem.clear();
    for (const std::uint32_t bucket : safe) look_and_drop(bucket, shard);
  }
  if (is_old(disk.copies, settings_.durable_after_ms + settings_.patience_ms, asked.at_ms))
    progress_.problem = why_not_safe(shard, persistence);
}

std::string BucketMover::why_not_safe(std::uint32_t shard, const Persistence& persistence) const {
  const std::string& name = settings_.shards[shard];
  const std::uint32_t least = port_.least_replicas();
  if (persistence.replicas < least) {
    return fmt::format(
        "shard {}: it has {} of the {} replicas that redis.wait_replicas wants; until it has them, the "
        "former shards keep what moved there",
        name, persistence.replicas, least);
  }
  if (persistence.waits) {
    return fmt::format(
        "shard {}: its disk is slow, or a replica is just being filled; until that is over, the former "
        "shards keep what moved there",
        name);
  }
  return fmt::format(
      "shard {}: a replica lacks {} bytes of its stream; until it has them, the former shards keep what "
      "moved there",
      name, persistence.written - persistence.replicated);
}

/// What was done over another connection may have gone with the server: it is looked for again.
std::vector<std::uint32_t> BucketMover::take_safe(std::deque<Done>& done, std::uint64_t age_ms,
                                                  const Persistence& persistence, const Asked& asked) {
  for (auto fresh = done.rbegin(); fresh != done.rend() && !fresh->written; ++fresh) {
    if (fresh->since_ms && *fresh->since_ms <= asked.at_ms) fresh->written = persistence.written;
  }
  std::vector<std::uint32_t> safe;
  while (!persistence.waits && is_old(done, age_ms, asked.at_ms)) {
    const Done oldest = done.front();
    const bool here = oldest.connection == asked.connection;
    if (here && *oldest.written > persistence.replicated) break;
    done.pop_front();
    if (here) {
      safe.push_back(oldest.bucket);
    } else {
      again(oldest.bucket, {});
    }
  }
  return safe;
}

/// A node may have given the slot away before its disk had the copy.
void BucketMover::look_and_drop(std::uint32_t bucket, std::uint32_t copy_on) {
  if (!placement_.is_node(copy_on)) return drop(bucket);
  step(MoveBucket::Step::copy_in, bucket, {}, [this, bucket, copy_on](const MoveAnswer& answer, std::uint32_t by) {
    if (answer.kind == MoveAnswer::Kind::done && by == copy_on) return drop(bucket);
    later(bucket);
  });
}

void BucketMover::drop(std::uint32_t bucket) {
  step(MoveBucket::Step::drop, bucket, {}, [this, bucket](const MoveAnswer&, std::uint32_t by) {
    disks_[by].drops.push_back({bucket, port_.connection(by)});
  });
}

}  // namespace visitd
