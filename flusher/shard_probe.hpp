// A look at a server that is to become a shard, over a connection of its own.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
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
    std::string failure;  ///< not empty: why nothing could be seen
    Facts facts = {};
    std::vector<Marks::Held> buckets;  ///< by number
  };
  using Done = std::function<void(const Seen&)>;

  /// Looks at the server; `done` is called once, on the loop. `settings`: how many buckets, and how long an answer may
  /// take. Destroying it ends the look, but not from within `done`.
  ShardProbe(FlusherLoop& loop, const ShardSettings& shard, const RedisSettings& settings, const std::string& writer,
             Done done);

 private:
  void on_connected() override;
  void on_answer(const Completion& done, ShardAnswer answer) override;
  void on_broken(const std::string& why) override { fail(why); }
  void on_turned_away(const std::string& why) override { fail(why); }
  void on_fault(const std::string& what) noexcept override { loop_.end_with(what); }

  void ask_marks(std::uint32_t first);
  void fail(const std::string& why);
  void finish();

  FlusherLoop& loop_;
  std::uint32_t buckets_;
  Seen seen_;
  Done done_;
  ShardLink link_;
};

}  // namespace visitd
