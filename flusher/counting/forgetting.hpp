// A writer is taken out of all buckets of the deployment, each at the shard where it is, also while buckets move.
// Decides; knows no clock, loop or socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "flusher/counting/placement.hpp"
#include "flusher/counting/shard_session.hpp"

namespace visitd {

class Forgetting : public std::enable_shared_from_this<Forgetting> {
 public:
  struct Shard {
    std::string name;
    ShardSession* session = nullptr;
    std::size_t buckets_at_once = 1;  ///< of one command
  };
  struct Told {
    std::uint64_t buckets = 0;      ///< that had the writer's field
    std::vector<std::string> left;  ///< names of shards that may know it still; to be repeated
  };
  /// `until_ms`: a bucket that cannot be asked is tried again until then. What it refers to outlives it, or its last
  /// answer.
  Forgetting(std::string writer, std::vector<Shard> shards, const Placement& placement, std::uint64_t until_ms,
             std::function<void(Told)> done);

  void begin();
  /// The last shards go, of which none has to answer; or one more comes.
  void drop_shards(std::size_t count);
  void add_shard(Shard shard);
  /// Tries again, when it is time.
  void tick(std::uint64_t now_ms);
  /// All is told.
  [[nodiscard]] bool is_over() const noexcept { return !done_; }

 private:
  void send_next(std::uint32_t shard);
  void send_all();
  void end_if_over();
  void leave(std::deque<std::uint32_t>& buckets);

  std::string writer_;
  std::vector<Shard> shards_;
  const Placement& placement_;
  std::uint64_t until_ms_;
  std::function<void(Told)> done_;
  std::vector<std::deque<std::uint32_t>> to_ask_;  ///< by shard: buckets
  std::deque<std::uint32_t> later_;                ///< buckets that are moving
  std::uint64_t retry_at_ms_ = 0;
  std::vector<std::size_t> asking_;  ///< by shard: commands without an answer
  std::uint64_t taken_out_ = 0;
  std::set<std::string> left_;
};

}  // namespace visitd
