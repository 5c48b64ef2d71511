// What is said to one shard, and when: identity first, then what it lost, then what it has not answered, then reads.
// Decides; knows no clock, loop or socket.
//
//   away → who it is → our marks → (the deployment's identity for each bucket) → up
//              └───────────┴→ held: the shard is not what we left; looked at again now and then, or accepted
// A broken connection leads back to away. An error that the server answers is an answer: a batch is kept and tried
// again, while reads go on (`refuses_writes`); before the shard is up, the next connection waits longer each time.
//
// Here are the events, and the reads. The steps are in ShardAdmission, the marks in ShardMarks, the batches in
// BatchesInFlight; and what leads from one connection to the next in SessionLink.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "flusher/counting/batches.hpp"
#include "flusher/counting/batches_in_flight.hpp"
#include "flusher/counting/deployment.hpp"
#include "flusher/counting/lookups.hpp"
#include "flusher/counting/replica_watch.hpp"
#include "flusher/counting/session_link.hpp"
#include "flusher/counting/shard_admission.hpp"
#include "flusher/counting/shard_marks.hpp"

namespace visitd {

class ShardSession final : private SessionLink::Parts {
 public:
  /// `identity`: what the spool knows of the shard; empty: nothing. `new_identity`: for a deployment that has none yet.
  ShardSession(SessionSettings settings, std::string identity, std::string new_identity, ShardBuckets buckets,
               Deployment& deployment, Batches& batches, Lookups& lookups, FlusherStatistics statistics,
               SessionPort& port);
  ShardSession(const ShardSession&) = delete;
  ShardSession& operator=(const ShardSession&) = delete;

  /// Other limits and intervals, and maybe another layout, from now on; the shard's name is as it was.
  void use(SessionSettings settings);

  void tick(std::uint64_t now_ms);
  void on_connected() { admission_.ask(); }
  /// `done`: what came with the command.
  void on_answer(const Completion& done, ShardAnswer answer, std::uint64_t now_ms, std::uint64_t unix_now);
  void on_broken(const std::string& why, std::uint64_t now_ms);
  /// The server answered with an error before the connection could be used.
  void on_turned_away(const std::string& why, std::uint64_t now_ms);

  /// The bucket has an unanswered batch that is durable.
  void batch_ready(std::uint32_t bucket) { in_flight_.ready(bucket); }
  /// The bucket is on this shard from now on, or no more.
  void arrive(std::uint32_t bucket) {
    replicas_.begin_anew();
    marks_.arrive(bucket);
  }
  void left(std::uint32_t bucket) { in_flight_.left(bucket); }
  [[nodiscard]] bool is_on_its_way(std::uint32_t bucket) const { return in_flight_.is_on_its_way(bucket); }
  /// What kept the shard away, or batches from being taken, may be over.
  void try_soon(std::uint64_t now_ms);
  /// The cluster takes no batches for now.
  void refuse(const std::string& why, std::uint64_t now_ms);
  [[nodiscard]] bool is_arriving(std::uint32_t bucket) const { return in_flight_.is_arriving(bucket); }
  /// Whether the shard is being sent again what it lost of the bucket.
  [[nodiscard]] bool is_repairing(std::uint32_t bucket) const { return in_flight_.is_repairing(bucket); }
  /// Makes this layout, if nobody has made another one; see ShardAdmission.
  void change_layout(const std::string& layout, std::uint64_t version, ShardAdmission::Changed done) {
    admission_.change_layout(layout, version, std::move(done));
  }
  /// As ShardAdmission has them.
  void expect_later_layout(std::string why) { admission_.expect_later_layout(std::move(why)); }
  [[nodiscard]] bool knows_layout() const noexcept { return admission_.knows_layout(); }
  /// The shard has left the deployment. Whatever has no answer is Lost before this returns; then the session may only
  /// be destroyed.
  void end() { link_.look_again(); }
  /// A command beside those of the session, while it is up.
  void send(const ShardCommand& command, Completion done) { link_.send(command, std::move(done)); }
  [[nodiscard]] bool is_up() const noexcept { return link_.is_up(); }
  /// Of a cluster: whether this node has said that visits:topology lies on it.
  [[nodiscard]] bool holds_topology() const noexcept { return admission_.holds_topology(); }
  /// How many connections have come up.
  [[nodiscard]] std::uint64_t connections() const noexcept { return link_.connections(); }

  /// Reads a page's count. False: not now.
  bool look_up(std::uint32_t page, std::uint32_t bucket, const std::string& id);
  /// What the shard says of a page, for people; nullopt: it cannot be asked now, or went away.
  using Inspection = std::function<void(std::optional<Count>)>;
  void inspect(std::uint32_t bucket, const std::string& id, Inspection done);
  /// Some pages of a bucket as the shard holds them, with all that this host has acknowledged and nothing else of it.
  struct SomePages {
    std::optional<Pages> pages = std::nullopt;
    std::string why = {};  ///< no pages: what the shard says against it, for people; empty: ask again in a moment
  };
  /// False: not now.
  bool list_pages(const AskPages& asked, std::function<void(SomePages)> done);
  /// What a bucket's counts come to, without what this host has pending of it.
  struct SomeSum {
    std::uint32_t bucket = 0;
    std::optional<Sums::Held> held = std::nullopt;
    std::string why = {};  ///< none: what the shard says against it, for people; empty: ask again in a moment
  };
  /// Told at the moment of the answer: what is pending then is what a sum lacks. Buckets for which another node is
  /// asked are told with its answers. `all`: each bucket is told.
  using TellSums = std::function<void(const std::vector<SomeSum>& sums, bool all)>;
  /// False: not now.
  bool ask_sums(AskSums asked, TellSums told);
  /// Notes this writer down, unless the shard takes no writes now or the note before has no answer. `noted` is
  /// called once it is noted. `here`: this shard has noted it; else another node of the cluster does, when its session
  /// asks for the same.
  void note_writer(NoteWriter note, std::function<void(bool here)> noted);
  /// The shard's writers; nullopt: it cannot be asked now, or went away.
  void ask_writers(std::function<void(std::optional<Writers>)> done);
  /// Forgets another writer in buckets that are on this shard.
  struct ForgottenSome {
    std::uint64_t taken_out = 0;            ///< buckets that had a mark of it
    std::vector<std::uint32_t> later = {};  ///< buckets to be asked again, at the shard where they are then
    bool failed = false;                    ///< it may not be forgotten in some of the others
  };
  void forget(const std::string& writer, std::vector<std::uint32_t> buckets,
              std::function<void(const ForgottenSome&)> done);
  /// What accepting this shard would give up; throws Error where it is not held, or cannot be accepted.
  [[nodiscard]] AcceptOffer offer() const { return marks_.offer(); }
  /// The next look at this shard takes what it holds as the truth, if that is still what was offered. Throws Error
  /// where it cannot be accepted, or something else has been found since.
  void accept(std::uint64_t token, std::uint64_t now_ms);

  /// What the server last said of itself; nullopt: it was never asked.
  [[nodiscard]] const std::optional<Facts>& server() const noexcept { return admission_.server(); }
  /// How its replicas follow; nullopt: nobody wants to know.
  [[nodiscard]] std::optional<ReplicaWatch::Report> replicas() const { return replicas_.report(); }
  [[nodiscard]] ShardState state() const noexcept { return link_.state(); }
  [[nodiscard]] const std::string& why() const noexcept { return link_.why(); }

 private:
  void on_hold(bool acceptable) override { marks_.on_hold(acceptable); }
  void on_leave() override;
  void on_look_up(std::uint32_t bucket, std::uint32_t page, const ShardAnswer& answer);
  void on_count(std::uint32_t bucket, std::uint32_t page, const Count& count);
  [[nodiscard]] SomePages on_pages(std::uint32_t bucket, ShardAnswer answer);
  /// Whether the bucket is the deployment's, is here, and holds of this host what it acknowledged. Else that is seen
  /// to.
  template <typename Read>
  [[nodiscard]] bool is_as_left(std::uint32_t bucket, const Read& read);
  void send_if_executed(std::uint32_t bucket);
  [[nodiscard]] bool may_be_forgotten(std::uint32_t bucket) const;
  struct AskedSums;
  void on_sums(const std::shared_ptr<AskedSums>& asked, ShardAnswer answer);
  void on_sum_elsewhere(const std::shared_ptr<AskedSums>& asked, std::uint32_t bucket, ShardAnswer answer);
  [[nodiscard]] SomeSum on_sum(std::uint32_t bucket, Sums::Held held);
  [[nodiscard]] ForgottenSome on_forgotten(const std::vector<std::uint32_t>& buckets, const ShardAnswer& answer);

  ShardBuckets buckets_;
  const Deployment& deployment_;
  const Batches& batches_;
  Lookups& lookups_;
  bool noting_ = false;  ///< a note is on its way
  SessionLink link_;
  BatchesInFlight in_flight_;
  ShardMarks marks_;
  ShardAdmission admission_;
  ReplicaWatch replicas_;
};

}  // namespace visitd
