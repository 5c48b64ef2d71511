// Records visits: the producer's side of the lane, and the doorbell of a flusher that sleeps. Knows no socket.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "common/counter/ring_membership.hpp"
#include "common/shm/statistics.hpp"
#include "frontend/api/backend.hpp"

namespace visitd {

class LaneRecorder final : public VisitRecorder {
 public:
  LaneRecorder(RingMembership& membership, FrontendStatistics statistics)
      : membership_(membership), statistics_(statistics) {}

  [[nodiscard]] Recorded record(std::string_view page, std::uint32_t visits) noexcept override;
  [[nodiscard]] Recorded record_together(std::span<const std::string_view> pages) noexcept override;
  void ignore(std::uint64_t visits) noexcept override { statistics_.add(FrontendStatistic::visits_ignored, visits); }
  /// The ring is being left: nothing is recorded from now on.
  void close() noexcept { closed_ = true; }

 private:
  [[nodiscard]] Published publish(std::string_view page, std::uint32_t visits) noexcept;
  void wake_flusher() noexcept;

  RingMembership& membership_;
  FrontendStatistics statistics_;
  bool closed_ = false;
};

}  // namespace visitd
