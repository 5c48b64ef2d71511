// The writers of the deployment, asked of all its shards: who they are, and how one that is gone is forgotten; and what
// this one notes down of itself. Decides; knows no clock, loop or socket.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "flusher/counting/batches.hpp"
#include "flusher/counting/forgetting.hpp"
#include "flusher/counting/shard_session.hpp"
#include "flusher/counting/writers.hpp"

namespace visitd {

class WriterBook {
 public:
  /// Who we are.
  struct Self {
    std::string id;
    std::string host;
    std::string version;
    std::uint64_t incarnation = 0;
  };
  /// `batches`: ours; they and the placement outlive it.
  WriterBook(Self self, const Batches& batches, const Placement& placement)
      : self_(std::move(self)), batches_(batches), placement_(placement) {}

  /// One shard more, in the order of their numbers. The session outlives the last answer. `in_cluster`: it is a node of
  /// the cluster, of which one keeps the notes of all.
  void add_shard(const std::string& name, ShardSession& session, bool in_cluster);
  /// So many stay: the last ones go, of which none has to answer.
  void drop_shards(std::size_t count);

  /// A flush of the shard is answered in full: it is told who we are, and that we live.
  void note(std::uint32_t shard, std::uint64_t unix_now);

  struct Told {
    WriterList list;
    std::vector<std::string> unasked;  ///< names of shards that cannot be asked now
  };
  /// Asks each shard that is up.
  void ask(const std::function<void(Told)>& done) const;

  /// Notes that the writer is forgotten, and takes it out of all buckets of the shards that are up; see Forgetting.
  /// Throws Error where it is this one.
  void forget(const std::string& writer, std::uint64_t unix_now, std::uint64_t until_ms,
              std::function<void(Forgetting::Told)> done);
  void tick(std::uint64_t now_ms);
  [[nodiscard]] const Self& self() const noexcept { return self_; }

 private:
  struct Shard {
    std::string name;
    ShardSession* session = nullptr;
    bool in_cluster = false;
    std::uint64_t noted_batches = 0;     ///< that the last note knew of
    std::uint64_t noted_connection = 0;  ///< over which a note said that this writer is not forgotten
  };

  [[nodiscard]] static Forgetting::Shard to_forget(const Shard& shard);
  /// What a note on this shard tells.
  [[nodiscard]] Batches::Written written_as_of(std::uint32_t shard) const noexcept;
  [[nodiscard]] bool is_known_to_all() const;

  Self self_;
  const Batches& batches_;
  const Placement& placement_;
  std::vector<Shard> shards_;
  std::vector<std::shared_ptr<Forgetting>> forgettings_;
};

}  // namespace visitd
