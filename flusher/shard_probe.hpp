// A look at a server that is to become a shard, or at a node of a cluster that is to hold buckets, over a connection of
// its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/config/settings.hpp"
#include "flusher/counting/shard_protocol.hpp"
#include "flusher/flusher_loop.hpp"
#include "flusher/redis/shard_link.hpp"

namespace visitd {

class ShardProbe final : private ShardLink::Listener {
 public:
  struct Seen {
    struct Bucket {
      std::uint32_t number;
      Marks::Held held;
    };
    std::string failure = {};  ///< not empty: why nothing could be seen
    Facts facts = {};
    std::optional<Nodes> nodes = std::nullopt;  ///< of the cluster, where the server was looked at as a node of one
    std::vector<Bucket> buckets = {};
  };
  using Done = std::function<void(const Seen&)>;

  /// Looks at the server, and at these buckets where it is what it is taken for: a server of its own, or a node.
  /// `done` is called once, on the loop. `settings`: how long an answer may take. Destroying it ends the look, but not
  /// from within `done`.
  ShardProbe(FlusherLoop& loop, const ShardSettings& shard, const RedisSettings& settings, const std::string& writer,
             std::vector<std::uint32_t> buckets, Done done);

 private:
  void on_connected() override;
  void on_answer(const Completion& done, ShardAnswer answer) override;
  void on_broken(const std::string& why) override { fail(why); }
  void on_turned_away(const std::string& why) override { fail(why); }
  void on_fault(const std::string& what) noexcept override { loop_.end_with(what); }

  /// `then` is called with the answer, unless it is an error, or the server goes away: then the look has failed.
  template <typename Answer>
  void ask(const ShardCommand& command, std::function<void(Answer)> then);
  void ask_nodes();
  void ask_marks(std::size_t first);
  void fail(const std::string& why);
  void finish();

  FlusherLoop& loop_;
  bool as_node_;
  std::vector<std::uint32_t> buckets_;
  Seen seen_;
  Done done_;
  ShardLink link_;
};

}  // namespace visitd
