// Watches for what a process finds that is a copy of a running one, or that was copied: another machine, boot, host or
// namespace, or a wall clock that jumped.
#pragma once

#include <cstdint>
#include <string>

#include "flusher/host_identity.hpp"
#include "flusher/now.hpp"

namespace visitd {

class CopiesWatch {
 public:
  /// Why this life should end, so that the next one has a mark of its own, and what either copy counts is told apart;
  /// empty: nothing changed since it began. Says in the log that the wall clock was set.
  [[nodiscard]] std::string look(std::uint64_t now_ms);

 private:
  [[nodiscard]] std::int64_t wall_clock_jump_s();

  std::int64_t wall_ahead_s_ = even_time().wall_ahead_s();
  HostIdentity host_ = host_identity();
};

}  // namespace visitd
