// Where the engine's buckets are, and what it does when that changes.
#include <algorithm>
#include <memory>
#include <utility>

#include "common/os/errors.hpp"
#include "flusher/counting/engine_shards.hpp"

namespace visitd {

namespace {

// A bucket of a cluster follows no more often.
constexpr std::uint64_t follow_gap_ms = 100;

}  // namespace

/// Of a cluster, the node that holds visits:topology; where none says so, one that certainly is not up.
std::uint32_t Engine::deciding_shard_index() const {
  const std::string& deciding = deciding_shard(layout_);
  std::uint32_t first = 0;
  while (place_name(settings_, first) != deciding) ++first;
  for (std::uint32_t node = first; node < sessions_.size() && is_node(node); ++node) {
    if (sessions_[node]->session.holds_topology()) return node;
  }
  return first;
}

bool Engine::next_shards_know() const {
  for (std::uint32_t shard = 0; shard < sessions_.size(); ++shard) {
    const bool is_next =
        std::ranges::find(layout_.next, place_name(settings_, shard), &ShardPlace::name) != layout_.next.end();
    if (is_next && !sessions_[shard]->session.knows_layout()) return false;
  }
  return true;
}

void Engine::note_cluster() {
  const ShardPlace& cluster = *cluster_of(layout_);
  batches_.note_identity({cluster_row, name_in_note(cluster) + to_text(*settings_.cluster)});
}

std::optional<BucketMover::Progress> Engine::move_progress() const {
  return mover_ == nullptr ? std::nullopt : std::optional(mover_->mover.progress());
}

void Engine::follow(std::uint32_t bucket, const std::string& node) {
  const auto known = std::ranges::find(settings_.shards, node);
  if (known == settings_.shards.end()) return port_.node_unknown(node);
  // Nodes that have not heard of each other yet may send a bucket back and forth.
  if (now_ms_ < may_follow_ms_[bucket]) return;
  may_follow_ms_[bucket] = now_ms_ + follow_gap_ms;
  const auto to = static_cast<std::uint32_t>(known - settings_.shards.begin());
  const std::uint32_t here = placement_.shard_of(bucket);
  // The batch's answer leads here again.
  if (is_node(here) && sessions_[here]->session.is_on_its_way(bucket)) return;
  placement_.follow_slot(bucket, to);
  if (is_node(here)) move_bucket(bucket, to);
}

void Engine::ask_node(const std::string& node, const ShardCommand& command, Completion done) {
  const auto known = std::ranges::find(settings_.shards, node);
  // A node that is given its first slot is known once it serves that.
  if (known == settings_.shards.end()) return done(Lost{});
  ShardSession& there = sessions_[static_cast<std::size_t>(known - settings_.shards.begin())]->session;
  if (!there.is_up()) return done(Lost{});
  there.send(command, std::move(done));
}

std::string Engine::marker_of(std::uint32_t bucket) const {
  return move_marker(place_name(settings_, placement_.next_of(bucket)), layout_.version);
}

void Engine::look_at_next(std::uint32_t bucket, std::function<void(bool is_here)> done) {
  ask_to_move(bucket, MoveBucket::Step::copy_in, placement_.next_of(bucket),
              [this, bucket, done = std::move(done)](std::optional<MoveAnswer::Kind> there) {
                if (there != MoveAnswer::Kind::done) return done(there == MoveAnswer::Kind::absent);
                // Where it was, other hosts ask as long as nothing there says that it left.
                ask_to_move(bucket, MoveBucket::Step::send_away, placement_.first_of(bucket),
                            [this, bucket, done](std::optional<MoveAnswer::Kind> away) {
                              if (away == MoveAnswer::Kind::done) move_bucket(bucket, placement_.next_of(bucket));
                              done(false);
                            });
              });
}

void Engine::ask_to_move(std::uint32_t bucket, MoveBucket::Step step, std::uint32_t shard,
                         std::function<void(std::optional<MoveAnswer::Kind>)> done) {
  ShardSession& session = sessions_[shard]->session;
  // As with the mover: a marker that visits:topology does not explain would have other hosts hold the shard.
  if (!session.is_up() || !session.knows_layout()) return done(std::nullopt);
  session.send(MoveBucket{step, bucket, deployment_.bucket_id(), marker_of(bucket)},
               [this, bucket, version = layout_.version, done = std::move(done)](const ShardAnswer& answer) {
                 if (layout_.version != version) return done(std::nullopt);
                 const auto* const redirect = std::get_if<Redirect>(&answer);
                 if (redirect != nullptr && !redirect->once) follow(bucket, redirect->node);
                 const auto* const said = std::get_if<MoveAnswer>(&answer);
                 done(said != nullptr ? std::optional(said->kind) : std::nullopt);
               });
}

void Engine::mark_left(const std::vector<LeftBucket>& left, std::function<void(const std::string& why)> done) {
  struct Marking {
    std::size_t awaited;
    std::string why;
    std::function<void(const std::string&)> done;
  };
  const auto marking = std::make_shared<Marking>(left.size(), std::string(), std::move(done));
  for (const LeftBucket& one : left) {
    ask_to_move(one.bucket, MoveBucket::Step::send_away, one.shard,
                [this, one, marking](std::optional<MoveAnswer::Kind> said) {
                  if (said != MoveAnswer::Kind::done) {
                    marking->why = fmt::format("shard {} cannot be told that bucket {} has left it; look again",
                                               settings_.shards[one.shard], one.bucket);
                  }
                  if (--marking->awaited == 0) marking->done(marking->why);
                });
  }
}

void Engine::cluster_is_down(const std::string& why, Now now) {
  for (std::uint32_t shard = 0; shard < sessions_.size(); ++shard) {
    if (is_node(shard)) sessions_[shard]->session.refuse(why, now.ms);
  }
}

void Engine::cluster_is_well(const ClusterMap& map, Now now) {
  cluster_is_known_ = true;
  if (map != *settings_.cluster) {
    settings_.cluster = map;
    note_cluster();
  }
  for (std::uint32_t shard = 0; shard < sessions_.size(); ++shard) {
    if (is_node(shard) && shard_state(shard) != ShardState::up) sessions_[shard]->session.try_soon(now.ms);
  }
}

void Engine::move_bucket(std::uint32_t bucket, std::uint32_t to) {
  const std::uint32_t from = placement_.shard_of(bucket);
  // Where a batch of it is on its way, the batch's answer leads here again.
  if (from == to || sessions_[from]->session.is_on_its_way(bucket)) return;
  sessions_[from]->session.left(bucket);
  batches_.leave_shard(bucket);
  placement_.move(bucket, to);
  batches_.enter_shard(bucket);
  port_.bucket_moved(bucket, to);
  sessions_[to]->session.arrive(bucket);
}

std::string Engine::why_layout_stays() const {
  const std::uint32_t deciding = deciding_shard_index();
  if (changing_layout_) return "the shards are being changed already; try again in a moment";
  if (!deployment_.all_answered() || !deployment_.is_made()) {
    return "not every shard has answered since this flusher started; try again once all of them are up";
  }
  const ShardState state = shard_state(deciding);
  if (state != ShardState::up) {
    return fmt::format("shard {}, which decides which change comes first, is {}; try again once it is up",
                       settings_.shards[deciding], name_of(state));
  }
  if (!sessions_[deciding]->session.knows_layout()) {
    return fmt::format("shard {} is just being told of change {}; try again in a moment", settings_.shards[deciding],
                       layout_.version);
  }
  return {};
}

// ---- another layout

LayoutStep Engine::look_at_layout(const Layout& layout) {
  if (cluster_of(layout_) != nullptr || cluster_of(layout) != nullptr || layout.version != layout_.version + 1) {
    return LayoutStep::next_life;
  }
  const bool begins = !layout_.is_moving() && layout.is_moving() && layout.shards == layout_.shards;
  const bool ends = layout_.is_moving() && !layout.is_moving() && layout.shards == layout_.next;
  const std::vector<std::string> next = names_of(all_shards(layout));
  const auto [here, there] = std::ranges::mismatch(settings_.shards, next);
  const bool keep_their_numbers = here == settings_.shards.end() || there == next.end();
  if (!keep_their_numbers || !(begins || ends)) return LayoutStep::next_life;
  bool all_there = true;
  for (std::uint32_t bucket = 0; bucket < placement_.buckets(); ++bucket) {
    // Another host may have moved it, and nothing has been sent there since.
    move_bucket(bucket, placement_.next_of(bucket));
    all_there = all_there && placement_.shard_of(bucket) == placement_.next_of(bucket);
  }
  return all_there ? LayoutStep::take : LayoutStep::wait;
}

void Engine::take_layout(const EngineSettings& settings, Now now) {
  const std::size_t former = sessions_.size();
  const std::size_t count = settings.shards.size();
  if (mover_ != nullptr) {
    mover_->mover.stop();
    former_movers_.push_back(std::move(mover_));
  }
  for (std::size_t gone = count; gone < former; ++gone) {
    sessions_[gone]->session.end();
    deployment_.remove_shard(settings_.shards[gone]);
  }
  settings_ = settings;
  layout_ = *settings.changed;
  batches_.set_shards(count, now.unix);
  flushes_.set_shards(count);
  askable_.set_shards(count);
  sums_.set_shards(count);
  placement_ = place_buckets(layout_);
  if (count < former) {
    writers_.drop_shards(count);
    sessions_.resize(count);
  }
  for (auto come = static_cast<std::uint32_t>(former); come < count; ++come) {
    deployment_.add_shard(settings.shards[come]);
    // What joins is asked for nothing that an earlier part of the deployment by that name had.
    sessions_.push_back(std::make_unique<Session>(*this, come, "", ""));
    writers_.add_shard(settings.shards[come], sessions_.back()->session, false);
  }
  if (layout_.is_moving()) mover_ = std::make_unique<Mover>(*this, writers_.self().id);
  batches_.note_identity({layout_row, to_text(layout_)});
  use(settings, now);
}

void Engine::change_layout(const Layout& layout, std::function<void(const std::string& why)> done) {
  if (const std::string why = why_layout_stays(); !why.empty()) throw Error(why);
  changing_layout_ = true;
  sessions_[deciding_shard_index()]->session.change_layout(
      to_text(layout), layout.version, [this, done = std::move(done), text = to_text(layout)](const auto& held) {
        changing_layout_ = false;
        if (!held)
          return done("the shard that decides went away: whether the shards were changed is not known; look again");
        done(held->layout == text ? "" : "somebody else has changed the shards at the same time; look again");
        if (held->version > layout_.version) port_.layout_changed(held->layout);
      });
}

}  // namespace visitd
