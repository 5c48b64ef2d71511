// How the engine hangs on its shards: a session with each of them, and the mover of buckets. Only the engine's own
// files include this.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "common/os/invariant.hpp"
#include "common/shm/hash.hpp"
#include "common/shm/page_id.hpp"
#include "flusher/counting/engine.hpp"

namespace visitd {

/// So long after the last read of a shard, more of them are expected.
inline constexpr std::uint64_t reads_come_ms = 500;

[[nodiscard]] SessionSettings session_settings(const EngineSettings& settings, std::uint32_t shard);
/// What comes before the map of the cluster in the spool's note of it.
[[nodiscard]] std::string name_in_note(const ShardPlace& cluster);

/// A ShardSession with its port.
class Engine::Session : public SessionPort {
 public:
  Session(Engine& engine, std::uint32_t shard, std::string identity, std::string new_identity)
      : engine_(engine),
        shard_(shard),
        session(session_settings(engine.settings_, shard), std::move(identity), std::move(new_identity),
                ShardBuckets(engine.placement_, shard), engine.deployment_, engine.batches_, engine.lookups_,
                engine.statistics_, *this) {}

  void connect() override { engine_.port_.connect(shard_); }
  void close() override { engine_.port_.close(shard_); }
  void send(const ShardCommand& command, Completion done) override {
    engine_.port_.send(shard_, command, std::move(done));
  }
  void state_changed(ShardState state, const std::string& why) override {
    set_shard_state(at_index(engine_.memory_.cache->shard, shard_), state, why);
    engine_.batches_.set_takes_batches(shard_, state == ShardState::up);
    engine_.ask_waiting_ = true;
    engine_.port_.shard_changed(shard_, state, why);
    // A frontend that waits for a shard stops waiting when the shard goes away.
    engine_.port_.wake_lanes(~std::uint64_t{0} >> (64 - engine_.memory_.lanes.size()));
  }
  void unfit(const std::string& why) override { engine_.port_.shard_unfit(shard_, why); }
  void warn(const std::string& what) override { engine_.port_.shard_warned(shard_, what); }
  void moved(std::uint32_t bucket, const std::string& marker) override {
    if (engine_.placement_.moves(bucket) && marker == engine_.marker_of(bucket)) {
      return engine_.move_bucket(bucket, engine_.placement_.next_of(bucket));
    }
    session.expect_later_layout(fmt::format("shard {}: bucket {} has moved ({}); looking at the shard again",
                                            engine_.settings_.shards[shard_], bucket, marker));
  }
  void redirected(std::uint32_t bucket, const std::string& node) override { engine_.follow(bucket, node); }
  void ask_node(const std::string& node, const ShardCommand& command, Completion done) override {
    engine_.ask_node(node, command, std::move(done));
  }
  void look_at_next(std::uint32_t bucket, std::function<void(bool)> done) override {
    engine_.look_at_next(bucket, std::move(done));
  }
  void arrived(std::uint32_t) override { engine_.ask_waiting_ = true; }
  void layout_changed(const std::string& layout) override { engine_.port_.layout_changed(layout); }

 private:
  Engine& engine_;
  std::uint32_t shard_;

 public:
  ShardSession session;
};

/// The port of what reads many pages.
class Engine::Scanner : public ScanPort {
 public:
  explicit Scanner(Engine& engine) : engine_(engine) {}

  [[nodiscard]] ShardState state(std::uint32_t shard) const override { return engine_.shard_state(shard); }
  [[nodiscard]] const std::string& name(std::uint32_t shard) const override { return engine_.settings_.shards[shard]; }
  [[nodiscard]] std::uint64_t source(std::uint32_t shard) const override {
    return hash_bytes(fmt::format("{} {} {} {} {}", engine_.memory_.ring_id, engine_.writers_.self().incarnation,
                                  engine_.layout_.version, shard, engine_.sessions_[shard]->session.connections()));
  }
  bool list_pages(const AskPages& asked, std::function<void(ShardSession::SomePages)> done) override {
    return engine_.sessions_[engine_.placement_.shard_of(asked.bucket)]->session.list_pages(asked, std::move(done));
  }
  bool ask_sums(std::uint32_t shard, AskSums asked, ShardSession::TellSums told) override {
    return engine_.sessions_[shard]->session.ask_sums(std::move(asked), std::move(told));
  }
  void ask_writers(std::function<void(std::vector<std::string>)> done) override {
    engine_.writers_.ask([this, done = std::move(done)](const WriterBook::Told& told) {
      std::vector<std::string> others;
      for (const auto& [id, writer] : told.list.writers()) {
        if (id != engine_.writers_.self().id) others.push_back(id);
      }
      done(std::move(others));
    });
  }
  [[nodiscard]] std::uint64_t now_us() const override {
    return engine_.settings_.now_us ? engine_.settings_.now_us() : engine_.now_ms_ * 1000;
  }

 private:
  Engine& engine_;
};

class Engine::Corrector : public CorrectionPort {
 public:
  explicit Corrector(Engine& engine) : engine_(engine) {}

  [[nodiscard]] std::vector<std::uint64_t> tails() const override { return engine_.tails(); }
  [[nodiscard]] bool has_applied(const std::vector<std::uint64_t>& tails) const override {
    return engine_.has_applied(tails);
  }
  [[nodiscard]] std::uint32_t bucket_of(const std::string& page) const override {
    return page_bucket(page, engine_.settings_.buckets);
  }
  [[nodiscard]] std::string why_not(std::uint32_t bucket) const override;
  void read(const std::string& page, ShardSession::Inspection done) override { engine_.inspect(page, std::move(done)); }
  [[nodiscard]] const std::string& bucket_id() const override { return engine_.deployment_.bucket_id(); }
  [[nodiscard]] bool has_room() const override;
  void corrected(const CorrectedPage& page) override { engine_.port_.corrected(page); }
  void given(const std::string& page, std::uint64_t visits) override { engine_.port_.given(page, visits); }

 private:
  Engine& engine_;
};

/// A BucketMover with its port.
class Engine::Mover : public MoverPort {
 public:
  Mover(Engine& engine, const std::string& writer)
      : engine_(engine), mover(mover_settings(engine, writer), engine.placement_, *this) {}

  [[nodiscard]] std::uint64_t connection(std::uint32_t shard) const override {
    const ShardSession& session = engine_.sessions_[shard]->session;
    // A marker that visits:topology does not explain would have other hosts hold the shard.
    return session.knows_layout() ? session.connections() : 0;
  }
  void send(std::uint32_t shard, const ShardCommand& command, Completion done) override {
    engine_.sessions_[shard]->session.send(command, std::move(done));
  }
  [[nodiscard]] const std::string& bucket_id() const override { return engine_.deployment_.bucket_id(); }
  [[nodiscard]] bool reads_come() const override { return engine_.now_ms_ < engine_.asked_ms_ + reads_come_ms; }
  [[nodiscard]] std::uint32_t deciding() const override { return engine_.deciding_shard_index(); }
  void ask_node(const std::string& node, const ShardCommand& command, Completion done) override {
    engine_.ask_node(node, command, std::move(done));
  }
  [[nodiscard]] std::uint32_t least_replicas() const override { return engine_.settings_.wait_replicas; }
  void redirected(std::uint32_t bucket, const std::string& node) override { engine_.follow(bucket, node); }
  void moved(std::uint32_t bucket) override { engine_.move_bucket(bucket, engine_.placement_.next_of(bucket)); }
  void all_moved() override {
    if (!engine_.next_shards_know() || !engine_.why_layout_stays().empty()) return;
    engine_.change_layout(end_move(engine_.layout_), [](const std::string&) {});
  }

 private:
  static MoverSettings mover_settings(const Engine& engine, const std::string& writer) {
    MoverSettings settings;
    settings.writer = writer;
    settings.version = engine.layout_.version;
    settings.shards = engine.settings_.shards;
    for (std::uint32_t shard = 0; shard < engine.settings_.shards.size(); ++shard) {
      settings.places.push_back(place_name(engine.settings_, shard));
    }
    settings.buckets_at_once = engine.settings_.buckets_moved_at_once;
    settings.rate = engine.layout_.rate;
    settings.durable_after_ms = engine.settings_.durable_after_ms;
    settings.turn_ms = engine.settings_.move_turn_ms;
    return settings;
  }

  Engine& engine_;

 public:
  BucketMover mover;
};

}  // namespace visitd
