#include "flusher/cache_source.hpp"

#include "common/counter/ring_registry.hpp"
#include "common/os/invariant.hpp"
#include "common/os/log.hpp"

namespace visitd {

static std::vector<std::uint64_t> heads_of(const CacheHeader& cache, std::uint32_t lanes) {
  std::vector<std::uint64_t> heads;
  heads.reserve(lanes);
  for (std::uint32_t lane = 0; lane < lanes; ++lane) heads.push_back(value_of(at_index(cache.head, lane).word));
  return heads;
}

void say_where_lanes_start(const SpoolState& spool, const Ring& ring, const CacheHeader& cache) {
  std::vector<std::uint64_t> freed;
  freed.reserve(ring.shape().lanes);
  for (std::uint32_t n = 0; n < ring.shape().lanes; ++n) freed.push_back(freed_of(ring, n));
  const auto starts = lane_starts(spool, ring.id(), heads_of(cache, ring.shape().lanes), freed);
  for (std::uint32_t n = 0; n < starts.size(); ++n) {
    const LaneStart& start = starts[n];
    switch (start.by) {
      case LaneStart::By::spool:
      case LaneStart::By::nobody:
        break;
      case LaneStart::By::cache:
        log::warning(
            "lane {}: this spool does not know ring segment {}; counting goes on at position {}, up to which a cache "
            "says that a former spool held everything: visits that were only in that spool are lost with it",
            n, ring.note().segment, start.position);
        break;
      case LaneStart::By::ring:
        log::warning(
            "lane {}: neither this spool nor a cache knows ring segment {}; counting goes on at position {}, which is "
            "what the lane's frontend noted as freed, once a second: visits that became durable in the former spool "
            "after that note may be counted twice, visits that were only in that spool are lost with it",
            n, ring.note().segment, start.position);
        break;
      case LaneStart::By::ring_blindly:
        log::error(
            "lane {}: this spool holds ring segment {} up to position {}, and the lane's frontend had seen freed up to "
            "{}: the spool is an old copy, and a newer one held what lies between. Counting goes on at {}. Stop the "
            "flusher and put the newer spool back, where there is one",
            n, ring.note().segment, start.spool, start.position, start.position);
        break;
    }
  }
}

CacheSource::CacheSource(const RuntimeDirectory& directory, const CacheShape& shape, const Ring& ring)
    : directory_(directory) {
  if (const auto note = directory.cache()) {
    auto attached = Cache::attach(*note, SharedSegment::Access::read_write);
    if (auto* cache = std::get_if<Cache>(&attached)) {
      former_ = std::move(*cache);
    } else if (const AttachFault fault = std::get<AttachFault>(attached); fault == AttachFault::other_version) {
      other_version_ = CacheFront::attach(*note, SharedSegment::Access::read_write);
      log::info("cache segment {}: {}; making another one", note->segment, describe(fault));
    } else if (fault != AttachFault::gone) {
      log::warning("cache segment {}: {}; making another one", note->segment, describe(fault));
    }
  }
  if (former_) {
    if (const std::uint64_t active = former_->header().active.word.load(std::memory_order_acquire); active != 0) {
      shown_.ring_id = former_->ring_id();
      shown_.heads = heads_of(former_->header(), former_->shape().lanes);
      shown_.entries = carried_entries(former_->view(active), shape.buckets);
    }
  }
  const bool fits = former_ && former_->shape() == shape && former_->ring_id() == ring.id() &&
                    former_->header().retired.word.load(std::memory_order_relaxed) == 0 &&
                    !former_->segment().status().removed;
  if (fits) {
    cache_ = std::move(former_);
    former_.reset();
    return;
  }
  cache_ = Cache::make(shape, ring.id());
  unnoted_ = true;
  log::info("made cache segment {}: {} entries", cache_->note().segment, shape.entries);
  if (former_ && former_->ring_id() == ring.id()) {
    continue_from(former_->header());
  } else if (other_version_ && other_version_->ring_id() == ring.id()) {
    continue_from(other_version_->header());
  }
  // Where the runtime directory no longer names it: frontends that follow it still have it attached.
  for (const CacheFront& found : caches_of(ring.id())) {
    if (found.note().segment != cache_->note().segment) continue_from(found.header());
  }
}

void CacheSource::continue_from(const CacheHeader& former) noexcept {
  const auto copy = [](Word& to, const Word& from) {
    const std::uint64_t value = from.load(std::memory_order_acquire);
    if (value > to.load(std::memory_order_relaxed)) to.store(value, std::memory_order_release);
  };
  for (std::uint32_t lane = 0; lane < cache_->shape().lanes; ++lane) {
    copy(at_index(cache_->header().head, lane).word, at_index(former.head, lane).word);
    copy(at_index(cache_->header().requests_read, lane), at_index(former.requests_read, lane));
  }
}

void CacheSource::tell_former_version(std::span<const std::uint64_t> heads) noexcept {
  if (!other_version_) return;
  for (std::size_t lane = 0; lane < heads.size(); ++lane) {
    at_index(other_version_->header().head, lane)
        .word.store(heads[lane], std::memory_order_release);  // partner: is_durable
  }
}

CacheSource::~CacheSource() {
  if (unnoted_) cache_->segment().remove();
}

void CacheSource::bring_into_use() {
  directory_.note_cache(cache_->note());
  unnoted_ = false;
  // Not retired: frontends of that version, who can follow no other, read on in it as if the flusher were away. That
  // stays right, because the space of what it does not show is not freed for them.
  if (other_version_) other_version_->segment().remove();
  if (!former_) return;
  former_->header().retired.word.store(1, std::memory_order_release);  // partner: the readers' look after head
  former_->segment().remove();
  former_.reset();
}

}  // namespace visitd
