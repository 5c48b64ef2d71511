// One question to a shard's server, whether its replicas follow, over a connection of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "common/config/settings.hpp"
#include "flusher/counting/shard_protocol.hpp"
#include "flusher/flusher_loop.hpp"
#include "flusher/redis/shard_link.hpp"

namespace visitd {

class ReplicaQuestion final : private ShardLink::Listener {
 public:
  using Done = std::function<void(ShardAnswer)>;

  /// Asks the server; `done` is called once, on the loop: with Lost where it does not answer, or another one does.
  /// `timeout_ms`: for connecting, and what the server may take beside the time that it is given to wait. Destroying it
  /// ends the question, but not from within `done`.
  ReplicaQuestion(FlusherLoop& loop, const ShardSettings& shard, const std::string& writer, std::uint32_t timeout_ms,
                  AskReplicas asked, Done done);

 private:
  void on_connected() override;
  void on_answer(const Completion& done, ShardAnswer answer) override;
  void on_broken(const std::string& why) override;
  void on_turned_away(const std::string& why) override { on_broken(why); }
  void on_fault(const std::string& what) noexcept override { loop_.end_with(what); }

  void on_facts(const ShardAnswer& answer);
  void finish(ShardAnswer answer);

  FlusherLoop& loop_;
  AskReplicas asked_;
  Done done_;
  ShardLink link_;
};

}  // namespace visitd
