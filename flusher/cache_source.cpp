#include "flusher/cache_source.hpp"

#include "common/log.hpp"

namespace visitd {

CacheSource::CacheSource(const RuntimeDirectory& directory, const CacheShape& shape, const Ring& ring)
    : directory_(directory) {
  if (const auto note = directory.cache()) {
    auto attached = Cache::attach(*note, SharedSegment::Access::read_write);
    if (auto* cache = std::get_if<Cache>(&attached)) {
      former_ = std::move(*cache);
    } else if (const AttachFault fault = std::get<AttachFault>(attached); fault != AttachFault::gone) {
      log::warning("cache segment {}: {}; making another one", note->segment, describe(fault));
    }
  }
  if (former_) {
    if (const std::uint64_t active = former_->header().active.word.load(std::memory_order_acquire); active != 0) {
      carried_ = carried_entries(former_->view(active), shape.buckets);
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
    for (std::uint32_t lane = 0; lane < shape.lanes; ++lane) {
      const auto copy = [&](Word& to, const Word& from) {
        to.store(from.load(std::memory_order_acquire), std::memory_order_release);
      };
      copy(cache_->header().head[lane].word, former_->header().head[lane].word);
      copy(cache_->header().requests_read[lane], former_->header().requests_read[lane]);
    }
  }
}

CacheSource::~CacheSource() {
  if (unnoted_) cache_->segment().remove();
}

void CacheSource::use() {
  directory_.note_cache(cache_->note());
  unnoted_ = false;
  if (!former_) return;
  former_->header().retired.word.store(1, std::memory_order_release);  // partner: the readers' look after head
  former_->segment().remove();
  former_.reset();
}

}  // namespace visitd
