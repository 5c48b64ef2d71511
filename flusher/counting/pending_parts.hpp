// The deciders that know what is pending, for whoever adds that to what shards hold.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "flusher/counting/batches.hpp"
#include "flusher/counting/open_visits.hpp"
#include "flusher/counting/pending_series.hpp"
#include "flusher/counting/placement.hpp"
#include "flusher/counting/uncountable_pages.hpp"

namespace visitd {

struct PendingParts {
  const Placement& placement;
  const PendingSeries& pending;
  OpenVisits& open;
  const Batches& batches;
  UncountablePages& uncountable;
  std::uint64_t hash_seed = 0;

  /// The bucket's series that are open or in flight, in the order of their numbers. Those that are spilled are not
  /// among them.
  [[nodiscard]] std::vector<std::uint32_t> series_of(std::uint32_t bucket) const;
  /// Of such a series.
  [[nodiscard]] std::uint64_t visits_of(std::uint32_t number) const noexcept {
    return pending[number].open + pending[number].inflight;
  }
  /// The page's number; PendingSeries::none: nothing is known of it here.
  [[nodiscard]] std::uint32_t find(std::string_view page) const noexcept;
  /// What a page counts that has `held` in its shard, and `visits` pending here. nullopt: nobody can say.
  [[nodiscard]] std::optional<std::uint64_t> count_of(std::string_view page, std::optional<std::uint64_t> held,
                                                      std::uint64_t visits) const;
};

}  // namespace visitd
