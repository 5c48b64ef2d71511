// The deciders that know what is pending, for whoever adds that to what shards hold.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "flusher/counting/batches.hpp"
#include "flusher/counting/open_visits.hpp"
#include "flusher/counting/pending_pages.hpp"
#include "flusher/counting/placement.hpp"
#include "flusher/counting/uncountable_pages.hpp"

namespace visitd {

struct PendingParts {
  const Placement& placement;
  const PendingPages& pages;
  OpenVisits& open;
  const Batches& batches;
  UncountablePages& uncountable;
  std::uint64_t hash_seed = 0;

  /// The bucket's pages that are open or in flight, in the order of their numbers. Those that are spilled are not among
  /// them.
  [[nodiscard]] std::vector<std::uint32_t> pages_of(std::uint32_t bucket) const;
  /// Of such a page.
  [[nodiscard]] std::uint64_t visits_of(std::uint32_t number) const noexcept {
    return pages[number].open + pages[number].inflight;
  }
  /// The page's number; PendingPages::none: nothing is known of it here.
  [[nodiscard]] std::uint32_t find(std::string_view page) const noexcept;
  /// What a page counts that has `held` in its shard, and `pending` here. nullopt: nobody can say.
  [[nodiscard]] std::optional<std::uint64_t> count_of(std::string_view page, std::optional<std::uint64_t> held,
                                                      std::uint64_t pending) const;
};

}  // namespace visitd
