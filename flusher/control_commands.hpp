// What a running flusher does when it is asked to flush, to accept a shard, or about a page, the shards,
// the writers, or a list of pages.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/config/settings.hpp"
#include "common/shm/cache_layout.hpp"
#include "flusher/control.hpp"
#include "flusher/counting/engine.hpp"
#include "flusher/flusher_loop.hpp"
#include "flusher/shard_changes.hpp"
#include "flusher/shard_links.hpp"

namespace visitd {

class ControlCommands : public ControlHandler {
 public:
  /// `cache`: whose statistics answers tell. All of them outlive it.
  ControlCommands(FlusherLoop& loop, Engine& engine, const ShardLinks& links, ShardChanges& changes, CacheHeader& cache,
                  const Settings& settings)
      : loop_(loop),
        engine_(engine),
        links_(links),
        changes_(changes),
        statistics_(cache.statistics),
        settings_(settings) {}

  void handle(const ControlRequest& request, ControlReply reply) override;
  void on_fault(const std::string& what) noexcept override { loop_.end_with(what); }

  /// In each turn: begins flushes and lists whose lanes are applied, and answers those that are done or late.
  void tell(Now at);
  [[nodiscard]] bool any_waits() const noexcept {
    return !flushes_.empty() || !lists_.empty() || engine_.lists_pages() || engine_.is_correcting();
  }

 private:
  struct WaitingFlush {
    std::vector<std::uint64_t> tails;    ///< what is in the lanes up to here is flushed too
    std::optional<std::uint64_t> flush;  ///< begun once the lanes are applied up to there
    std::uint64_t deadline_ms = 0;
    std::uint64_t visits = 0;
    std::uint64_t pages_set_aside = 0;  ///< by then
    ControlReply reply;
  };

  struct WaitingList {
    /// Asks the engine; the time until when it may take.
    std::function<void(std::uint64_t until_ms)> begin;
    std::vector<std::uint64_t> tails;  ///< what is in the lanes up to here is listed too
    std::uint64_t deadline_ms = 0;
    ControlReply reply;
  };

  void accept(const ControlRequest& request, const ControlReply& reply);
  void list_writers(ControlReply reply) const;
  void forget(const ControlRequest& request, ControlReply reply);
  void forget_now(const ControlRequest& request, ControlReply reply);
  void correct(const ControlRequest& request, ControlReply reply);
  void import(const ControlRequest& request, ControlReply reply);
  void list_corrections(const ControlReply& reply) const;
  void list_shards(const ControlReply& reply) const;
  /// Has `begin` called once all is applied that is recorded by now.
  void wait_to_list(const ControlRequest& request, const ControlReply& reply,
                    std::function<void(std::uint64_t until_ms)> begin);
  void list_pages(const ControlRequest& request, const ControlReply& reply);
  void find_top(const ControlRequest& request, const ControlReply& reply);
  void add_up(const ControlRequest& request, const ControlReply& reply);
  void inspect_page(const std::string& page, ControlReply reply);
  /// True: it has begun, or was answered.
  [[nodiscard]] bool begin_list(WaitingList& waiting, Now at);
  /// True: it was answered.
  [[nodiscard]] bool tell_flush(WaitingFlush& waiting, Now at);
  [[nodiscard]] std::string why_late() const;
  [[nodiscard]] std::string uncountable_names() const;

  FlusherLoop& loop_;
  Engine& engine_;
  const ShardLinks& links_;
  ShardChanges& changes_;
  FlusherStatistics statistics_;
  const Settings& settings_;
  std::vector<WaitingFlush> flushes_;
  std::vector<WaitingList> lists_;
};

}  // namespace visitd
