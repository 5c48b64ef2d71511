// Whose turn it is: connections that are paused, and looks at parked reads. A turn of them is short, so that the
// sockets are looked at in between.
#pragma once

#include <cstdint>
#include <limits>

#include "common/os/uv_handles.hpp"
#include "frontend/server/connection_share.hpp"
#include "frontend/server/deadlines.hpp"

namespace visitd {

class Turns {
 public:
  /// The share outlives it.
  explicit Turns(ConnectionShare& share);

  /// A connection is paused: it goes on in the next round of the loop.
  void take_soon() noexcept;
  /// A connection is parked: it is looked at now and then.
  void look_now_and_then() noexcept;
  /// Looks at all parked reads, at once or, after looks that came to nothing, when they have rested.
  void look_at_parked();
  void stop() noexcept;

 private:
  /// A pass looks at the parked reads one after the other, in several turns. again: something may have become known
  /// meanwhile, so that another pass follows.
  enum class Pass : std::uint8_t { none, once, again };

  void take();
  bool go_on(const DeadlineList& list);
  void begin_pass() noexcept;
  void end_pass(std::uint64_t now_ns);

  ConnectionShare& share_;
  DeadlineList to_look_at_{std::numeric_limits<std::int64_t>::max()};  ///< parked reads, in a pass
  Pass pass_ = Pass::none;
  std::uint64_t vain_ns_ = 0;       ///< spent in this pass on reads that are parked as before
  std::uint64_t next_pass_ns_ = 0;  ///< not before
  UvHandle<uv_timer_t> look_timer_;
  UvHandle<uv_timer_t> pass_timer_;
  UvHandle<uv_idle_t> idle_;
};

}  // namespace visitd
