#include "ctl/page_sums.hpp"

#include <algorithm>

#include "common/shm/hash.hpp"

namespace visitd {

namespace {

constexpr std::size_t least_slots = 1024;

}  // namespace

std::uint64_t& PageSums::of(std::string_view page) {
  if (2 * (pages_.size() + 1) > slots_.size()) grow();
  const std::uint64_t hash = hash_bytes(page);
  Slot& slot = slot_of(hash, page);
  if (slot.number == 0) {
    pages_.emplace_back(page, 0);
    slot = {hash, pages_.size()};
  }
  return pages_[slot.number - 1].second;
}

PageCounts PageSums::take() && {
  slots_.clear();
  std::erase_if(pages_, [](const auto& page) { return page.second == 0; });
  return std::move(pages_);
}

/// That of the page, or the free one that it would take.
PageSums::Slot& PageSums::slot_of(std::uint64_t hash, std::string_view page) {
  for (std::size_t at = hash & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
    Slot& slot = slots_[at];
    if (slot.number == 0 || (slot.hash == hash && pages_[slot.number - 1].first == page)) return slot;
  }
}

void PageSums::grow() {
  std::vector<Slot> former(std::max(least_slots, 2 * slots_.size()));
  former.swap(slots_);
  for (const Slot& slot : former) {
    if (slot.number != 0) slot_of(slot.hash, pages_[slot.number - 1].first) = slot;
  }
}

}  // namespace visitd
