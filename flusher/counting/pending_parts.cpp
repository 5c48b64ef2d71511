#include "flusher/counting/pending_parts.hpp"

#include <algorithm>

#include "common/shm/count.hpp"
#include "common/shm/page_id.hpp"

namespace visitd {

std::vector<std::uint32_t> PendingParts::series_of(std::uint32_t bucket) const {
  std::vector<std::uint32_t> numbers = open.open_series(bucket);
  const std::vector<std::uint32_t> sealed = batches.sealed_series(bucket);
  numbers.insert(numbers.end(), sealed.begin(), sealed.end());
  std::ranges::sort(numbers);
  numbers.erase(std::ranges::unique(numbers).begin(), numbers.end());
  return numbers;
}

std::uint32_t PendingParts::find(std::string_view page) const noexcept {
  return pending.find(page_hash(page, hash_seed), page);
}

std::optional<std::uint64_t> PendingParts::count_of(std::string_view page, std::optional<std::uint64_t> held,
                                                    std::uint64_t visits) const {
  const bool has_room = held && *held <= count_limit - std::min(visits, count_limit);
  return has_room && uncountable.counted(page, *held) ? std::optional(*held + visits) : std::nullopt;
}

}  // namespace visitd
