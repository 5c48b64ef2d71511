#include "flusher/counting/bucket_mover.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

namespace visitd {

namespace {

constexpr std::uint64_t first_at_once = 8;

}  // namespace

BucketMover::BucketMover(MoverSettings settings, const Placement& placement, MoverPort& port)
    : settings_(std::move(settings)),
      placement_(placement),
      port_(port),
      next_shards_(placement.shards()),
      // Until one was seen: few at once.
      large_content_bytes_(settings_.content_bytes / first_at_once) {
  for (std::uint32_t bucket = 0; bucket < placement_.buckets(); ++bucket) {
    if (placement_.moves(bucket)) to_move_.push_back(bucket);
  }
  progress_.buckets = to_move_.size();
}

std::string BucketMover::marker(std::uint32_t bucket) const {
  return fmt::format("{} {}", settings_.places[placement_.next_of(bucket)], settings_.version);
}

void BucketMover::tick(std::uint64_t now_ms) {
  now_ms_ = now_ms;
  take_turn(now_ms);
  progress_.ours = now_ms < turn_until_ms_;
  if (!progress_.ours) return;
  for (; !later_.empty() && later_.front().at_ms <= now_ms; later_.pop_front())
    to_move_.push_back(later_.front().bucket);
  for (std::uint32_t shard = 0; shard < next_shards_.size(); ++shard) ask_persistence(shard);
  if (progress_.moved == progress_.buckets) return port_.all_moved();
  begin_more();
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
  port_.send(deciding, TakeMoves{settings_.writer, settings_.turn_ms}, [this, now_ms](const ShardAnswer& answer) {
    asking_turn_ = false;
    const auto* const taken = std::get_if<MovesTaken>(&answer);
    if (taken != nullptr) turn_until_ms_ = taken->ours ? now_ms + settings_.turn_ms : 0;
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
  step(MoveBucket::Step::copy_out, bucket, {}, [this, bucket](const MoveAnswer& answer, std::uint32_t) {
    if (answer.kind != MoveAnswer::Kind::content) return copy_in(bucket, {});
    large_content_bytes_ = std::max<std::uint64_t>(answer.text.size(), large_content_bytes_ - large_content_bytes_ / 8);
    copy_in(bucket, answer.text);
  });
}

void BucketMover::copy_in(std::uint32_t bucket, std::string content) {
  const bool dropped = content.empty();
  step(MoveBucket::Step::copy_in, bucket, std::move(content),
       [this, bucket, dropped](const MoveAnswer& answer, std::uint32_t by) {
         if (answer.kind == MoveAnswer::Kind::absent) {
           return again(bucket,
                        fmt::format("bucket {} is gone: shard {} has dropped it, and shard {}, which had it durably, "
                                    "holds it no more; restore the data of that shard",
                                    bucket, settings_.shards[placement_.first_of(bucket)],
                                    settings_.shards[placement_.next_of(bucket)]));
         }
         if (!dropped) return send_away(bucket, by, port_.connection(by));
         port_.moved(bucket);
         ++progress_.moved;
       });
}

void BucketMover::send_away(std::uint32_t bucket, std::uint32_t copy_on, std::uint64_t connection) {
  step(MoveBucket::Step::send_away, bucket, {}, [this, bucket, copy_on, connection](const MoveAnswer&, std::uint32_t) {
    progress_.problem.clear();
    port_.moved(bucket);
    next_shards_[copy_on].kept.push_back({bucket, connection, now_ms_});
  });
}

void BucketMover::ask_persistence(std::uint32_t shard) {
  NextShard& next = next_shards_[shard];
  const std::uint64_t connection = port_.connection(shard);
  if (connection == 0 || next.asking || next.kept.empty() ||
      now_ms_ < next.kept.front().since_ms + settings_.durable_after_ms) {
    return;
  }
  next.asking = true;
  port_.send(shard, AskPersistence{}, [this, shard, connection, asked_ms = now_ms_](const ShardAnswer& answer) {
    next_shards_[shard].asking = false;
    const auto* const persistence = std::get_if<Persistence>(&answer);
    if (persistence != nullptr && !persistence->waits) on_persistent(shard, asked_ms, connection);
  });
}

/// What was copied over another connection may have gone with the server: it is looked for again.
void BucketMover::on_persistent(std::uint32_t shard, std::uint64_t asked_ms, std::uint64_t connection) {
  std::deque<Kept>& kept = next_shards_[shard].kept;
  while (!kept.empty() && kept.front().since_ms + settings_.durable_after_ms <= asked_ms) {
    const Kept oldest = kept.front();
    kept.pop_front();
    if (oldest.connection == connection) {
      look_and_drop(oldest.bucket, shard);
    } else {
      again(oldest.bucket, {});
    }
  }
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
  step(MoveBucket::Step::drop, bucket, {}, [this](const MoveAnswer&, std::uint32_t) { ++progress_.moved; });
}

}  // namespace visitd
