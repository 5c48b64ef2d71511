#include "flusher/pending_pages.hpp"

namespace visitd {

PendingPages::PendingPages() : slots_(1024), mask_(slots_.size() - 1) {}

std::uint32_t PendingPages::find(std::uint64_t hash, std::string_view page) const noexcept {
  for (std::size_t i = hash & mask_; slots_[i].number != none; i = (i + 1) & mask_) {
    if (slots_[i].tag != tag_of(hash)) continue;
    const PendingPage& candidate = pages_[slots_[i].number];
    if (candidate.hash == hash && candidate.page == page) return slots_[i].number;
  }
  return none;
}

std::uint32_t PendingPages::insert(std::uint64_t hash, std::string_view page, std::uint32_t bucket) {
  if (size() * 2 >= slots_.size()) grow();
  std::uint32_t number = 0;
  if (free_.empty()) {
    number = static_cast<std::uint32_t>(pages_.size());
    pages_.emplace_back();
  } else {
    number = free_.back();
    free_.pop_back();
  }
  PendingPage& made = pages_[number];
  made.hash = hash;
  made.bucket = bucket;
  made.page = page;
  place(hash, number);
  return number;
}

void PendingPages::erase(std::uint32_t number) noexcept {
  std::size_t hole = pages_[number].hash & mask_;
  while (slots_[hole].number != number) hole = (hole + 1) & mask_;
  // Linear probing without tombstones: what comes behind moves up where its own place allows it.
  for (std::size_t i = (hole + 1) & mask_; slots_[i].number != none; i = (i + 1) & mask_) {
    const std::size_t home = pages_[slots_[i].number].hash & mask_;
    if (((i - home) & mask_) < ((i - hole) & mask_)) continue;
    slots_[hole] = slots_[i];
    hole = i;
  }
  slots_[hole] = {};
  pages_[number] = {};
  free_.push_back(number);
}

void PendingPages::place(std::uint64_t hash, std::uint32_t number) noexcept {
  std::size_t i = hash & mask_;
  while (slots_[i].number != none) i = (i + 1) & mask_;
  slots_[i] = {tag_of(hash), number};
}

void PendingPages::grow() {
  const std::vector<Slot> old = std::move(slots_);
  slots_.assign(old.size() * 2, {});
  mask_ = slots_.size() - 1;
  for (const Slot& slot : old) {
    if (slot.number != none) place(pages_[slot.number].hash, slot.number);
  }
}

}  // namespace visitd
