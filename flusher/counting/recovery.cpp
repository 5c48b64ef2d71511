#include "flusher/counting/recovery.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "common/os/errors.hpp"
#include "common/shm/page_id.hpp"
#include "common/shm/shared_text.hpp"

namespace visitd {

namespace {

// Stands for the node of a page whose entry is linked next, so that a page that was carried twice is linked once.
constexpr std::uint32_t provisional_node = ~std::uint32_t{0};

}  // namespace

std::vector<LaneStart> lane_starts(const SpoolState& spool, std::uint64_t ring_id, std::span<const std::uint64_t> heads,
                                   std::span<const std::uint64_t> freed) {
  const auto note = std::ranges::find(spool.rings, ring_id, &RingNote::id);
  const bool known = note != spool.rings.end();
  std::vector<LaneStart> starts(heads.size());
  for (std::size_t lane = 0; lane < heads.size(); ++lane) {
    LaneStart& start = starts[lane];
    const std::uint64_t noted = known && lane < note->positions.size() ? note->positions[lane] : 0;
    const std::uint64_t seen = lane < freed.size() ? freed[lane] : 0;
    if (known && noted < heads[lane]) {
      throw error(
          "the spool is older than the ring: of lane {} it holds what was recorded up to position {}, and everything "
          "up to {} had been made durable in a newer spool. Put the newer spool back, or start once with "
          "--renew-spool to set this one aside and count on from where the newer one was",
          lane, noted, heads[lane]);
    }
    start = known              ? LaneStart{noted, LaneStart::By::spool}
            : heads[lane] != 0 ? LaneStart{heads[lane], LaneStart::By::cache}
                               : LaneStart{};
    if (seen > start.position) start = {seen, known ? LaneStart::By::ring_blindly : LaneStart::By::ring, noted};
  }
  return starts;
}

std::vector<std::uint64_t> positions_of(const SpoolState& spool, std::uint64_t ring_id,
                                        std::span<const std::uint64_t> heads, std::span<const std::uint64_t> freed) {
  std::vector<std::uint64_t> positions;
  for (const LaneStart& start : lane_starts(spool, ring_id, heads, freed)) positions.push_back(start.position);
  return positions;
}

std::vector<CarriedEntry> carried_entries(const ViewMemory& shown, std::uint32_t buckets) {
  std::vector<CarriedEntry> carried;
  const CacheShape& shape = shown.shape;
  if (shape.buckets != buckets) return carried;
  const auto get = [](const Word& word) { return word.load(std::memory_order_acquire); };
  for (std::uint64_t chain = 0; chain < shape.chains(); ++chain) {
    std::uint32_t steps = 0;
    for (std::uint64_t n = get(shown.first(chain)); n != 0 && n <= shape.entries && ++steps <= chain_limit;
         n = get(shown.node(n).next)) {
      const NodeHead& node = shown.node(n);
      const std::uint64_t length = get(node.page_length);
      if (length == 0 || length > shape.page_id_limit) break;
      CarriedEntry entry;
      if (!shown.each_part(n, words_for(length), [&](std::span<const Word> part, std::size_t) {
            entry.page += load_text(part, 8 * part.size());
            return true;
          })) {
        break;
      }
      entry.page.resize(length);
      entry.bucket = page_bucket(entry.page, buckets);
      entry.base = get(node.base);
      entry.expires = get(node.expires);
      entry.state = is_damaged_state(get(node.state)) ? CountState::damaged : CountState::fine;
      entry.fix = fix_in_state(get(node.state));
      entry.answered = get(shown.answered(entry.bucket));
      carried.push_back(std::move(entry));
    }
  }
  return carried;
}

std::vector<CarriedEntry> entries_known_to(const SpoolState& spool, ShownUntilNow shown) {
  const auto note = std::ranges::find(spool.rings, shown.ring_id, &RingNote::id);
  if (note == spool.rings.end()) return {};
  for (std::size_t lane = 0; lane < std::min(shown.heads.size(), note->positions.size()); ++lane) {
    if (note->positions[lane] < shown.heads[lane]) return {};
  }
  return std::move(shown.entries);
}

void recover_pending(SpoolState& spool, std::uint64_t hash_seed, std::uint32_t buckets, PendingSeries& pending,
                     OpenVisits& open, Batches& batches) {
  const auto find_or_insert = [&](std::string_view series) {
    return pending.find_or_insert(series, hash_seed, buckets);
  };
  for (const BucketMark& mark : spool.marks) {
    if (mark.bucket < buckets) batches.recover_mark(mark);
  }
  // There may be hundreds of megabytes of them: none is in memory twice.
  for (; !spool.kept.empty(); spool.kept.pop_front()) {
    if (spool.kept.front().bucket < buckets) batches.recover_kept(std::move(spool.kept.front()));
  }
  batches.kept_recovered(spool.loaded_at);
  open.recover(spool, find_or_insert);
  spool.open = {};
  spool.journal = {};
  for (Batch& batch : spool.unanswered) {
    std::vector<std::uint32_t> numbers;
    for (const Effect& effect : batch.effects) {
      if (batch.correction) break;  // its pages count as they did until it is answered
      numbers.push_back(find_or_insert(effect.series));
      pending.recover_inflight(numbers.back(), effect.operand);
    }
    batches.recover_unanswered(std::move(batch), std::move(numbers));
  }
}

void recover_entries(const SpoolState& spool, std::span<const CarriedEntry> carried, std::uint64_t hash_seed,
                     FlusherView& view, PendingSeries& pending, const OpenVisits& open, const Batches& batches,
                     Lookups& lookups) {
  for (std::uint32_t bucket = 0; bucket < batches.buckets(); ++bucket)
    view.note_answered(bucket, batches.last_seq(bucket));
  std::vector<std::pair<std::uint32_t, const CarriedEntry*>> kept;
  const CacheShape& shape = view.memory().shape;
  std::uint32_t cells_left = shape.entries;
  for (const CarriedEntry& entry : carried) {
    const std::uint32_t cells = shape.cells_for(entry.page.size());
    if (entry.answered != batches.last_seq(entry.bucket) || entry.page.size() > shape.page_id_limit ||
        cells > cells_left)
      continue;
    const std::uint32_t number =
        pending.find_or_insert(entry.page, hash_seed, static_cast<std::uint32_t>(batches.buckets()));
    if (std::exchange(pending[number].node, provisional_node) != 0) continue;
    kept.emplace_back(number, &entry);
    cells_left -= cells;
  }
  std::vector<std::uint32_t> numbers;
  numbers.reserve(kept.size());
  for (const auto& [number, entry] : kept) numbers.push_back(number);
  const auto spilled = open.spilled_of(
      spool, numbers, [&](std::string_view page) { return pending.find(page_hash(page, hash_seed), page); });
  for (const auto& [number, entry] : kept) {
    SeriesVisits& page = pending[number];
    const auto also = spilled.find(number);
    page.node = view.link(page.hash, entry->page, entry->base, entry->expires, page.inflight,
                          page.open + (also == spilled.end() ? 0 : also->second), entry->state, entry->fix);
    lookups.recovered_entry(number);
  }
}

}  // namespace visitd
