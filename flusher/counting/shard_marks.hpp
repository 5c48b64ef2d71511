// What a shard holds of ours: the marks of its buckets, those that differ from what was left there, and what an
// operator gives up who accepts them. Decides; knows no clock, loop or socket.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "flusher/counting/batches.hpp"
#include "flusher/counting/batches_in_flight.hpp"
#include "flusher/counting/deployment.hpp"
#include "flusher/counting/lookups.hpp"
#include "flusher/counting/session_link.hpp"

namespace visitd {

/// What a held shard would lose by being accepted as it is.
struct AcceptOffer {
  std::uint64_t token = 0;        ///< of what was found; another one once something else is found
  std::uint64_t buckets = 0;      ///< that hold something else than was left there
  std::uint64_t pages = 0;        ///< in them, that this host knows a count of
  std::uint64_t visits = 0;       ///< of those pages, as last seen
  std::uint64_t kept_visits = 0;  ///< that come back, out of kept batches
};

class ShardMarks {
 public:
  ShardMarks(ShardBuckets buckets, Deployment& deployment, Batches& batches, Lookups& lookups, SessionLink& link,
             BatchesInFlight& in_flight);

  /// Asks for the marks of all its buckets, also of those that we know nothing of. `stamped`: every bucket has the
  /// deployment's identity. `known` is called unless the connection goes.
  void ask(bool stamped, std::function<void()> known);
  /// Gives the deployment's identity to the buckets that have none. `done` is called once every bucket has it.
  void stamp(std::function<void()> done);
  /// The bucket is on this shard from now on: it is used once its marks are known.
  void arrive(std::uint32_t bucket);
  /// While the shard is up: asks again for buckets that have not come.
  void tick();
  /// The shard is held once all its marks are known.
  void fault(const std::string& why, bool acceptable);
  /// All marks are known. True: there is a fault, and the shard is held now.
  [[nodiscard]] bool hold_if_faulty();

  /// What accepting this shard would give up; throws Error where it is not held, or cannot be accepted.
  [[nodiscard]] AcceptOffer offer() const;
  /// The next look at this shard takes what it holds as the truth, if that is still what was offered. Throws Error
  /// where it cannot be accepted, or something else has been found since.
  void accept(std::uint64_t token);
  [[nodiscard]] bool is_accepting() const noexcept { return accepting_; }
  /// All marks are known, and what the operator was shown is what is there: it is the truth from now on. False: it is
  /// something else, and the shard is held.
  [[nodiscard]] bool take_accepted();

  void on_hold(bool acceptable);
  /// Nothing of the old connection survives.
  void leave();

  [[nodiscard]] const std::vector<std::uint32_t>& buckets() const noexcept { return buckets_.all(); }
  /// Whether the bucket's unanswered batch, or the last answered one, left this field.
  [[nodiscard]] bool was_left(std::uint32_t bucket, const std::string& field) const;

 private:
  /// A bucket that does not hold what we left there.
  struct Differing {
    std::uint32_t bucket = 0;
    std::string field;
    bool comes_back = false;  ///< what it lacks is in kept batches
  };

  /// Looks at an answer, whose buckets begin at this place of asked_.
  using Look = void (ShardMarks::*)(std::size_t first, const Marks& marks);
  void ask_all(const std::string& stamp, Look look, std::function<void()> done);
  void on_marks(std::size_t first, const Marks& marks);
  void note_identity(std::uint32_t bucket, const std::string& id);
  [[nodiscard]] bool has_come(std::uint32_t bucket, const Marks::Held& held);
  /// Of a cluster: whether another node's visits:topology may say why a bucket has moved away, once it is looked at.
  [[nodiscard]] bool may_be_said_elsewhere();
  /// `stamped`: when the marks were asked for, every bucket had the deployment's identity.
  void on_mark(std::uint32_t bucket, const Marks::Held& held, bool stamped);
  void on_arrivals(const std::vector<std::uint32_t>& asked, const Marks& marks, bool stamped);
  /// False: the shard is held.
  [[nodiscard]] bool on_arrival(std::uint32_t bucket, const Marks::Held& held, bool stamped);
  void on_redirect(std::uint32_t bucket, const Redirect& redirect);
  /// Whether every bucket should have the deployment's identity.
  [[nodiscard]] bool is_stamped() const noexcept;
  [[nodiscard]] std::string stamp_of_arrivals() const;
  /// The bucket's place is right: compares what it holds of ours with what was left there.
  void compare(std::uint32_t bucket, const Marks::Held& held);
  void on_stamped(std::size_t first, const Marks& marks);
  /// One answer less is awaited.
  void looked();
  [[nodiscard]] std::uint64_t digest_of_found() const;
  [[nodiscard]] std::uint64_t digest_of_given_up() const;

  ShardBuckets buckets_;
  Deployment& deployment_;
  Batches& batches_;
  Lookups& lookups_;
  SessionLink& link_;
  BatchesInFlight& in_flight_;

  bool accepting_ = false;
  std::uint64_t accepted_ = 0;  ///< what is given up: its digest

  // of a held shard
  bool acceptable_ = false;
  std::uint64_t token_ = 0;
  std::uint64_t given_up_ = 0;
  std::vector<Differing> held_differing_;
  std::vector<std::pair<std::uint32_t, std::string>> held_gone_;

  std::optional<std::uint64_t>
      unsaid_since_;  ///< a bucket has moved, which the deployment's looks up to then do not say

  // of the current connection
  /// Buckets with a tombstone of ours, and what it says, of which nobody has said that it may be put back.
  std::vector<std::pair<std::uint32_t, std::string>> gone_;
  bool stamped_ = false;
  bool asked_stamped_ = false;        ///< when the marks of all buckets were asked for
  std::vector<std::uint32_t> asked_;  ///< buckets; those on the shard when it was asked
  bool asking_arrivals_ = false;
  std::uint64_t arrivals_at_ms_ = 0;
  std::size_t awaited_ = 0;
  std::function<void()> done_;  ///< once all of them are looked at
  std::string fault_;           ///< the first one found
  bool fault_acceptable_ = false;
  std::vector<Differing> differing_;
};

}  // namespace visitd
