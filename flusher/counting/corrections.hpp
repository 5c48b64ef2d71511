// What an owner changes in counts. A correction is worked out from what Redis holds, as differences, and these are
// sealed as the next batch of the bucket: durable before it is sent, applied once, sent again where the shard loses it.
// Visits that come meanwhile add to it. Where somebody else has corrected the bucket between the read and the batch,
// the shard does not take it, and it is worked out anew.
//
//   applying → flushing → reading → sealed → told
//                 ↑___________________|        (somebody else was faster)
//
// First the host's own visits that were recorded before go to Redis, so that they are among what is corrected. Decides;
// knows no clock, loop or socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "flusher/counting/batches.hpp"
#include "flusher/counting/shard_protocol.hpp"

namespace visitd {

/// What is to become of a page's count.
struct PageChange {
  enum class Kind : std::uint8_t {
    set,    ///< it becomes `count`
    take,   ///< it becomes 0, and what it was is added to `into`
    add,    ///< it becomes `count` more
    lower,  ///< it becomes `count` less; where that is below 0, it stays
  };
  Kind kind = Kind::set;
  std::string page;
  std::uint64_t count = 0;
  std::string into = {};
};

struct ChangeOrder {
  std::string by;  ///< who asks for it, for people
  std::vector<PageChange> changes;
  std::uint64_t until_ms = 0;  ///< what could not be begun by then is not done
  /// Not empty: the changes all add, are a part of an import with this id, and are done once, whenever they come.
  std::string import = {};
  /// Not empty: it is one change, the same question may be asked again after this life, and is done once.
  std::string question = {};
};

/// What became of a change, in the order in which they were asked for.
struct ChangedPage {
  std::string page;
  std::uint64_t before = 0;  ///< in Redis; of `add` not known, 0
  std::uint64_t after = 0;   ///< in Redis; of `add` what was added
  std::string problem = {};  ///< why nothing was changed, or what is not known, for people; empty: it is done
  bool is_below_0 = false;   ///< it would have been: it stays as it was before
};

/// What corrections make happen outside.
class CorrectionPort {
 public:
  virtual ~CorrectionPort() = default;
  /// Up to where the lanes are written, and whether they are applied up to there.
  [[nodiscard]] virtual std::vector<std::uint64_t> tails() const = 0;
  [[nodiscard]] virtual bool has_applied(const std::vector<std::uint64_t>& tails) const = 0;
  [[nodiscard]] virtual std::uint32_t bucket_of(const std::string& page) const = 0;
  /// Why the bucket cannot be read and written now, for people; empty: it can.
  [[nodiscard]] virtual std::string why_not(std::uint32_t bucket) const = 0;
  /// What Redis holds of a page; nullopt: it cannot be asked now, or went away.
  virtual void read(const std::string& page, std::function<void(std::optional<Count>)> done) = 0;
  /// What every bucket of the deployment bears.
  [[nodiscard]] virtual const std::string& bucket_id() const = 0;
  /// As a CorrectionListener is told.
  virtual void corrected(const CorrectedPage& page) = 0;
  virtual void given(const std::string& page, std::uint64_t visits) = 0;
  /// Whether there is memory for more visits that come out of no lane.
  [[nodiscard]] virtual bool has_room() const = 0;
};

class Corrections final : public CorrectionListener {
 public:
  using Told = std::function<void(const std::vector<ChangedPage>&)>;

  /// `most_pages`: of one correction of a bucket.
  Corrections(Batches& batches, CorrectionPort& port, std::size_t most_pages)
      : batches_(batches), port_(port), most_pages_(most_pages) {}

  /// Does it, and tells what became of each change; of an import that was done before, nothing. Throws Error where the
  /// order is none, and changes nothing.
  void ask(ChangeOrder order, Told told, std::uint64_t unix_now);
  void tick(std::uint64_t now_ms);
  /// Nothing is under way.
  [[nodiscard]] bool is_idle() const noexcept { return parts_.empty() && giving_.empty() && imports_.empty(); }

  /// Something is to become part of a batch at once.
  [[nodiscard]] bool waits_for_seal() const noexcept { return !parts_.empty(); }

  /// The newest that were done, in all lives; the oldest first.
  [[nodiscard]] const std::deque<CorrectedPage>& done() const noexcept { return done_; }
  /// From the spool, before its batches are: what earlier lives did, or began.
  void recover(SpoolState& spool);

  void corrected(const CorrectedPage& page) override;
  void noted(const CorrectedPage& page) override;
  void given(const std::string& page, std::uint64_t visits, const std::optional<Mark>& loser) override;
  void withdrawn(std::uint32_t bucket, std::size_t pages) override;

 private:
  struct Order {
    ChangeOrder asked;
    std::uint64_t asked_at = 0;  ///< Unix seconds
    std::vector<ChangedPage> changed;
    std::size_t left = 0;  ///< changes of which nothing is known yet
    Told told;
  };
  /// The changes of one bucket.
  struct Part : std::enable_shared_from_this<Part> {
    enum class Step : std::uint8_t { applying, flushing, reading, sealed };
    explicit Part(std::shared_ptr<Order> of) : order(std::move(of)) {}

    std::shared_ptr<Order> order;
    std::vector<std::size_t> changes = {};  ///< of the order, by number, that are not done
    std::size_t withdrawn = 0;              ///< of them
    Step step = Step::applying;
    std::vector<std::uint64_t> tails = {};
    std::uint64_t flush = 0;
    std::vector<std::optional<Count>> counts = {};  ///< of the changes
    std::size_t unread = 0;
    std::uint64_t read_again_ms = 0;
  };

  /// What an earlier life did, or began, of the same question. False: nothing.
  [[nodiscard]] bool was_asked_before(const std::shared_ptr<Order>& order);
  void add(const std::shared_ptr<Order>& order, std::size_t i);
  /// From now on it is waited for until the page is shown with the change's visits. False: they are none, and the
  /// change is settled.
  bool begin_giving(const std::shared_ptr<Order>& order, std::size_t i);
  void import(const std::shared_ptr<Order>& order);
  void import_waiting();
  void step(std::uint32_t bucket, Part& part, std::uint64_t now_ms);
  void read(const std::shared_ptr<Part>& part);
  void plan(std::uint32_t bucket, Part& part, std::uint64_t now_ms);
  void settle_earlier(const CorrectedPage& page);
  void give_up(std::uint32_t bucket, Part& part);
  /// The change is done, or will not be.
  void finish(Part& part, std::size_t change, ChangedPage changed);
  static void settle(Order& order, std::size_t change, ChangedPage changed);
  [[nodiscard]] Part* sealed_part(std::uint32_t bucket);

  Batches& batches_;
  CorrectionPort& port_;
  std::size_t most_pages_;
  std::map<std::uint32_t, std::deque<std::shared_ptr<Part>>> parts_;  ///< by bucket, one after the other
  std::map<std::uint32_t, std::size_t> to_note_;  ///< by bucket: corrected pages of which noted() has not come yet
  /// What is done once entries show what its page was given.
  struct Giving {
    std::shared_ptr<Order> order;
    std::size_t change = 0;
    std::string page;
    std::uint64_t visits = 0;
    ChangedPage changed;
    std::optional<Mark> loser = std::nullopt;  ///< of an earlier life's, too, a page may just be given as much
  };
  std::deque<Giving> giving_;
  std::set<std::string> imported_;              ///< ids, durably or soon
  std::deque<std::shared_ptr<Order>> imports_;  ///< that wait for memory, the first one first
  std::deque<CorrectedPage> done_;
  std::map<std::string, QuestionNote> asked_before_;   ///< in earlier lives, by id
  std::map<std::uint32_t, std::string> begun_before_;  ///< of those, by bucket, the ones that are sealed
};

}  // namespace visitd
