// What a server counts of itself.
#pragma once

#include <cstdint>

namespace visitd {

/// Counted since start, but for what is open now.
struct ServerStatistics {
  std::uint64_t requests = 0;      ///< answered
  std::uint64_t reads_parked = 0;  ///< reads that had to wait
  std::uint64_t connections_accepted = 0;
  std::uint64_t connections_open = 0;     ///< now
  std::uint64_t connections_evicted = 0;  ///< closed to make room for others
  std::uint64_t connections_timed_out = 0;
  std::uint64_t connections_over_address_limit = 0;  ///< closed at once, or in place of another of their address
  std::uint64_t connections_evicted_sending = 0;     ///< closed because answers that nobody took filled their room
};

}  // namespace visitd
