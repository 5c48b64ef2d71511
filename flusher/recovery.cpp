#include "flusher/recovery.hpp"

#include <algorithm>

#include "common/errors.hpp"
#include "common/page_id.hpp"
#include "common/shared_text.hpp"

namespace visitd {

std::vector<std::uint64_t> positions_of(const SpoolState& spool, std::uint64_t ring_id,
                                        std::span<const std::uint64_t> heads) {
  const auto note = std::ranges::find(spool.rings, ring_id, &RingNote::id);
  if (note == spool.rings.end()) return {heads.begin(), heads.end()};
  std::vector<std::uint64_t> positions = note->positions;
  positions.resize(heads.size());
  for (std::size_t lane = 0; lane < heads.size(); ++lane) {
    if (positions[lane] >= heads[lane]) continue;
    throw error(
        "the spool is older than the ring: of lane {} it holds what was recorded up to position {}, and everything up "
        "to {} had been "
        "made durable in a newer spool. Put the newer spool back, or start once with --renew-spool to set this one "
        "aside and count on "
        "from where the newer one was",
        lane, positions[lane], heads[lane]);
  }
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
      entry.page = load_text({shown.page_words(n), words_for(length)}, length);
      entry.bucket = page_bucket(entry.page, buckets);
      entry.base = get(node.base);
      entry.expires = get(node.expires);
      entry.state = get(node.state) == 0 ? CountState::fine : CountState::damaged;
      entry.answered = get(shown.answered(entry.bucket));
      carried.push_back(std::move(entry));
    }
  }
  return carried;
}

void recover_pending(SpoolState& spool, std::uint64_t hash_seed, std::uint32_t buckets, PendingPages& pages,
                     Batches& batches, Drain& drain) {
  const auto find_or_insert = [&](const std::string& page) {
    const std::uint64_t hash = page_hash(page, hash_seed);
    const std::uint32_t known = pages.find(hash, page);
    if (known != PendingPages::none) return known;
    drain.page_recovered();
    return pages.insert(hash, page, page_bucket(page, buckets));
  };
  for (const BucketMark& mark : spool.marks) {
    if (mark.bucket < buckets) batches.recover_mark(mark);
  }
  for (const KeptBatch& kept : spool.kept) {
    if (kept.batch.bucket < buckets) batches.recover_kept(kept);
  }
  batches.kept_recovered(spool.loaded_at);
  for (const auto& [page, visits] : spool.open) {
    if (visits == 0) continue;
    const std::uint32_t number = find_or_insert(page);
    pages[number].open += visits;
    if (!pages[number].in_bucket) batches.page_opened(number);
  }
  for (Batch& batch : spool.unanswered) {
    std::vector<std::uint32_t> numbers;
    for (const auto& [page, visits] : batch.pages) {
      numbers.push_back(find_or_insert(page));
      pages[numbers.back()].inflight += visits;
    }
    batches.recover_unanswered(std::move(batch), std::move(numbers));
  }
}

void recover_entries(std::span<const CarriedEntry> carried, std::uint64_t hash_seed, FlusherView& view,
                     PendingPages& pages, const Batches& batches, Lookups& lookups) {
  for (std::uint32_t bucket = 0; bucket < batches.buckets(); ++bucket)
    view.note_answered(bucket, batches.last_seq(bucket));
  for (const CarriedEntry& entry : carried) {
    if (view.full()) break;
    if (entry.answered != batches.last_seq(entry.bucket) || entry.page.size() > view.memory().shape.page_id_limit)
      continue;
    const std::uint64_t hash = page_hash(entry.page, hash_seed);
    std::uint32_t number = pages.find(hash, entry.page);
    if (number == PendingPages::none) number = pages.insert(hash, entry.page, entry.bucket);
    PendingPage& page = pages[number];
    if (page.node != 0) continue;
    page.node = view.link(hash, entry.page, entry.base, entry.expires, page.inflight, page.open, entry.state);
    lookups.recovered_entry(number);
  }
}

}  // namespace visitd
