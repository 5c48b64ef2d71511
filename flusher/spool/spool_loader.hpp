// Reads what stands in the spool, and checks it.
#pragma once

#include <cstdint>

#include "flusher/counting/spool_state.hpp"
#include "flusher/spool/spool_database.hpp"

namespace visitd {

class SpoolLoader {
 public:
  /// Has the tables. Outlives the loader and what it loads.
  explicit SpoolLoader(SpoolDatabase& database) noexcept : database_(database) {}

  /// All of it. `incarnation`: of this start. Throws Error naming the damaged row.
  [[nodiscard]] SpoolState load(const Incarnation& incarnation);
  /// Visits that are not in a batch yet.
  [[nodiscard]] std::uint64_t open_visits(std::uint32_t buckets);
  [[nodiscard]] std::uint64_t unanswered_batches();

 private:
  void load_rings(SpoolState& state);
  void load_open(SpoolState& state);
  void load_batches(SpoolState& state);
  void load_corrections(SpoolState& state);

  SpoolDatabase& database_;
};

}  // namespace visitd
