#include "flusher/counting/pending_series.hpp"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <new>
#include <utility>

#include "common/shm/page_id.hpp"

namespace visitd {

PendingSeries::PendingSeries() : parts_(parts) {
  for (Part& part : parts_) part.slots.assign(least_slots, {});
}

std::uint32_t PendingSeries::find(std::uint64_t hash, std::string_view series) const noexcept {
  const std::vector<Slot>& slots = parts_[hash >> 56U].slots;
  const std::size_t mask = slots.size() - 1;
  for (std::size_t i = tag_of(hash) & mask; slots[i].number != none; i = (i + 1) & mask) {
    if (slots[i].tag != tag_of(hash)) continue;
    const SeriesVisits& candidate = (*this)[slots[i].number];
    if (candidate.hash == hash && candidate.name() == series) return slots[i].number;
  }
  return none;
}

std::uint32_t PendingSeries::insert(std::uint64_t hash, std::string_view series, std::uint32_t bucket) {
  assert(series.size() < 4096 && bucket <= 0xffff);
  Part& part = part_of(hash);
  if ((part.used + 1) * 4 > part.slots.size() * 3) resize(part, part.slots.size() * 2);
  const std::uint32_t number = take_place(series.size());
  auto* const made = new (at(number)) SeriesVisits;
  made->hash = hash;
  made->bucket = static_cast<std::uint16_t>(bucket);
  made->length = series.size() & 0xfffU;
  std::memcpy(reinterpret_cast<char*>(made + 1), series.data(), series.size());
  place(part.slots, {tag_of(hash), number});
  ++part.used;
  ++size_;
  return number;
}

std::uint32_t PendingSeries::find_or_insert(std::string_view series, std::uint64_t hash_seed, std::uint32_t buckets) {
  const std::uint64_t hash = page_hash(series, hash_seed);
  const std::uint32_t known = find(hash, series);
  return known != none ? known : insert(hash, series, page_bucket(series, buckets));
}

void PendingSeries::erase(std::uint32_t number) noexcept {
  SeriesVisits& series = (*this)[number];
  assert(series.counted == 0 && "a series with visits is not forgotten");
  Part& part = part_of(series.hash);
  remove_slot(part, tag_of(series.hash), number);
  give_back(number);
  --part.used;
  --size_;
  if (part.slots.size() > least_slots && part.used * 8 < part.slots.size()) resize(part, part.slots.size() / 2);
}

void PendingSeries::count(SeriesVisits& series) noexcept {
  const bool pending = series.open + series.inflight > 0;
  if (pending == (series.counted != 0)) return;
  series.counted = pending ? 1 : 0;
  const std::uint64_t bytes = bytes_of(series.length);
  with_visits_ += pending ? 1 : ~std::uint64_t{0};
  pending_bytes_ += pending ? bytes : ~bytes + 1;
}

std::size_t PendingSeries::table_bytes() const noexcept {
  std::size_t slots = 0;
  for (const Part& part : parts_) slots += part.slots.size();
  return slots * sizeof(Slot) + blocks_with_memory_ * block_bytes + blocks_.size() * sizeof(Block);
}

// ---- the index

void PendingSeries::place(std::vector<Slot>& slots, Slot slot) noexcept {
  const std::size_t mask = slots.size() - 1;
  std::size_t i = slot.tag & mask;
  while (slots[i].number != none) i = (i + 1) & mask;
  slots[i] = slot;
}

void PendingSeries::resize(Part& part, std::size_t slots) {
  std::vector<Slot> resized(slots);
  for (const Slot& slot : part.slots) {
    if (slot.number != none) place(resized, slot);
  }
  part.slots = std::move(resized);
}

void PendingSeries::remove_slot(Part& part, std::uint32_t tag, std::uint32_t number) noexcept {
  std::vector<Slot>& slots = part.slots;
  const std::size_t mask = slots.size() - 1;
  std::size_t hole = tag & mask;
  while (slots[hole].number != number) hole = (hole + 1) & mask;
  // Linear probing without tombstones: what comes behind moves up if its own place allows it.
  for (std::size_t i = (hole + 1) & mask; slots[i].number != none; i = (i + 1) & mask) {
    const std::size_t home = slots[i].tag & mask;
    if (((i - home) & mask) < ((i - hole) & mask)) continue;
    slots[hole] = slots[i];
    hole = i;
  }
  slots[hole] = {};
}

// ---- places

std::uint32_t PendingSeries::take_place(std::size_t name_length) {
  const auto words = static_cast<std::uint32_t>((name_length + 7) / 8);
  if (with_room_.size() <= words) with_room_.resize(words + 1);
  std::set<std::uint32_t>& with_room = with_room_[words];
  const std::uint32_t number = with_room.empty() ? make_block(words) : *with_room.begin();
  Block& block = blocks_[number];
  std::uint32_t taken = block.free;
  if (taken != none) {
    std::memcpy(&block.free, at(number << place_bits | taken), sizeof block.free);
  } else {
    taken = block.touched++;
  }
  if (++block.used == block.capacity) with_room.erase(number);
  return number << place_bits | taken;
}

std::uint32_t PendingSeries::make_block(std::uint32_t words) {
  if (unused_blocks_.empty()) {
    unused_blocks_.push_back(static_cast<std::uint32_t>(blocks_.size()));
    blocks_.emplace_back();
  }
  const std::uint32_t number = unused_blocks_.back();
  Block& block = blocks_[number];
  const std::size_t size = record_size(std::size_t{words} * 8);
  block = Block{std::make_unique_for_overwrite<std::byte[]>(block_bytes),
                words,
                0,
                none,
                0,
                static_cast<std::uint32_t>(std::min<std::size_t>(block_bytes / size, 1U << place_bits))};
  unused_blocks_.pop_back();
  ++blocks_with_memory_;
  with_room_[words].insert(number);
  return number;
}

void PendingSeries::give_back(std::uint32_t number) noexcept {
  const std::uint32_t block_number = number >> place_bits;
  Block& block = blocks_[block_number];
  std::set<std::uint32_t>& with_room = with_room_[block.words];
  std::memcpy(static_cast<void*>(at(number)), &block.free, sizeof block.free);
  block.free = number & ((1U << place_bits) - 1);
  if (block.used-- == block.capacity) with_room.insert(block_number);
  // One without series is kept, for one that comes and goes.
  if (block.used != 0 || with_room.size() < 2) return;
  with_room.erase(block_number);
  block = Block{};
  unused_blocks_.push_back(block_number);
  --blocks_with_memory_;
}

}  // namespace visitd
