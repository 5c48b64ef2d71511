// A frontend's place in the ring: the segment (made where there is none), one lane of it, and the cache that serves it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/config/settings.hpp"
#include "common/counter/lane_lease.hpp"
#include "common/counter/ring_registry.hpp"
#include "common/os/doorbell.hpp"
#include "common/os/runtime_directory.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/lane.hpp"
#include "common/shm/ring.hpp"

namespace visitd {

/// Who makes what the frontends need: the ring's segment, and the files in the runtime directory.
enum class RingMaker {
  each_frontend,  ///< where it is missing
  prepared,       ///< prepare_ring(), in another process; this one may be able to write no file, and makes nothing
};

/// Makes the ring where there is none that can be used, and the files around it, and takes no lane. Waits where a ring
/// of other settings is just being left. Throws Error as RingMembership does.
void prepare_ring(const Settings& settings);

/// How long other processes may take.
struct RingPatience {
  std::chrono::milliseconds prepare{10'000};  ///< to prepare a ring, where this one makes none
  std::chrono::milliseconds leave{60'000};    ///< to leave a ring of other settings, and to make its visits durable
  std::chrono::milliseconds make{90'000};     ///< to make or leave a ring, before this one may: longer than `leave`
};

class RingMembership {
 public:
  /// Opens the ring in use, or makes one, and takes a free lane of it. Waits where a ring of other settings is just
  /// being left. Throws Error where there is no free lane, the ring is of another version, or none was prepared.
  /// Throws Error too where another process takes longer than `patience`, and says what it waited for.
  explicit RingMembership(const Settings& settings, RingMaker maker = RingMaker::each_frontend,
                          const RingPatience& patience = {});
  RingMembership(const RingMembership&) = delete;
  RingMembership& operator=(const RingMembership&) = delete;
  ~RingMembership();

  [[nodiscard]] const Ring& ring() const noexcept { return *ring_; }
  [[nodiscard]] std::uint32_t lane() const noexcept { return lease_->lane(); }
  [[nodiscard]] LaneHeader& lane_header() const noexcept { return ring_->lane(lane()); }
  /// nullptr while no flusher has made one for this ring.
  [[nodiscard]] const Cache* cache() const noexcept { return cache_ ? &*cache_ : nullptr; }
  [[nodiscard]] LaneProducer& records() noexcept { return *records_; }
  [[nodiscard]] LaneProducer& requests() noexcept { return *requests_; }
  /// Rung by the flusher.
  [[nodiscard]] const Doorbell& own_bell() const noexcept { return own_bell_; }
  [[nodiscard]] const Doorbell& flusher_bell() const noexcept { return flusher_bell_; }
  /// Counts how often another cache was attached.
  [[nodiscard]] std::uint64_t cache_changes() const noexcept { return cache_changes_; }

  /// Once a second: shows that this frontend lives, gives free memory back, follows the cache. Returns why the ring
  /// must be left; empty: it need not.
  [[nodiscard]] std::string check();
  /// Attaches the cache that serves the ring now, if it is another one.
  void follow_cache();

  /// Publishes no more, for ever. The lane is then done once it is durable.
  void close_lane() noexcept;
  /// Everything that was recorded in this lane is durable in the spool.
  [[nodiscard]] bool is_durable() const noexcept;

 private:
  friend void prepare_ring(const Settings& settings);
  enum class Task { join, make_and_join, make };
  RingMembership(const Settings& settings, Task task, const RingPatience& patience);
  /// False: there is none that can be used, and it is for another process to make one.
  [[nodiscard]] bool open_ring(const Settings& settings);
  bool use_ring(Ring ring, const RingShape& wanted);
  bool take_lane();

  RuntimeDirectory directory_;
  RingRegistry registry_;
  Task task_;
  RingPatience patience_;
  std::optional<Ring> ring_;
  std::optional<LaneLease> lease_;
  std::optional<Cache> cache_;
  std::uint64_t cache_changes_ = 0;
  std::optional<LaneProducer> records_;
  std::optional<LaneProducer> requests_;
  Doorbell own_bell_;
  Doorbell flusher_bell_;
};

}  // namespace visitd
