// Asks a shard's sentinels where its primary is, and listens to one of them for the next change, on the loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/config/settings.hpp"
#include "common/os/uv_handles.hpp"
#include "flusher/redis/codec.hpp"
#include "flusher/redis/primary_search.hpp"
#include "flusher/redis/sentinel_dialect.hpp"
#include "flusher/redis/wire.hpp"

namespace visitd {

class PrimaryFinder final : private Wire::Listener {
 public:
  /// Called on the loop, never from within find(). Each may be the last thing that is done: what is told may destroy
  /// the finder.
  class Listener {
   public:
    /// The primary that was looked for.
    virtual void on_primary(const ServerAddress& primary) = 0;
    /// There is none to be found. `why` is for people.
    virtual void on_no_primary(const std::string& why) = 0;
    /// The one that was found last is the primary no more.
    virtual void on_primary_left(const std::string& why) = 0;
    virtual void on_fault(const std::string& what) noexcept = 0;

   protected:
    ~Listener() = default;
  };

  /// `timeout_ms`: for a sentinel to be reached and to answer; it is asked for a sign as often. The loop is run once
  /// more after the destructor.
  PrimaryFinder(uv_loop_t* loop, const ShardSettings& shard, std::uint32_t timeout_ms, Listener& listener);
  PrimaryFinder(const PrimaryFinder&) = delete;
  PrimaryFinder& operator=(const PrimaryFinder&) = delete;
  ~PrimaryFinder();

  void set_timeout(std::uint32_t timeout_ms) noexcept;
  void use(const ShardSettings& shard);

  /// Looks for the primary, anew where it was found before.
  void find();
  /// What was found is not wanted any more.
  void cancel() noexcept { search_.cancel(); }
  /// It was one.
  void settle() noexcept { search_.settle(); }

 private:
  void on_begin() override;
  void on_reply(Reply reply) override;
  void on_end(const std::string& why) override;
  void on_fault(const std::string& what) noexcept override { listener_.on_fault(what); }
  [[nodiscard]] std::optional<std::uint64_t> waits_since() const noexcept override;

  void take(const PrimarySearch::Step& step);
  void ask(std::size_t sentinel);
  void on_time();
  void start_timer(std::uint64_t after_ms);

  Listener& listener_;
  std::uint64_t timeout_ms_;
  PrimarySearch search_;
  SentinelDialect dialect_;
  RequestText text_;
  std::vector<std::shared_ptr<Wire>> wires_;  ///< one a sentinel; at most one of them is in use
  std::size_t asked_ = 0;                     ///< whose that is
  std::uint64_t said_at_ms_ = 0;              ///< when something was said that has no answer
  UvHandle<uv_timer_t> timer_;                ///< of the next sign that is asked for, or of the next sentinel
};

}  // namespace visitd
