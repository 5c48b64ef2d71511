#include "flusher/cache_source.hpp"

#include "common/log.hpp"

namespace visitd {

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
    continue_from(former_->header(), shape.lanes);
  } else if (other_version_ && other_version_->ring_id() == ring.id()) {
    continue_from(other_version_->header(), shape.lanes);
  }
}

void CacheSource::continue_from(const CacheHeader& former, std::uint32_t lanes) noexcept {
  const auto copy = [](Word& to, const Word& from) {
    to.store(from.load(std::memory_order_acquire), std::memory_order_release);
  };
  for (std::uint32_t lane = 0; lane < lanes; ++lane) {
    copy(cache_->header().head[lane].word, former.head[lane].word);
    copy(cache_->header().requests_read[lane], former.requests_read[lane]);
  }
}

void CacheSource::tell_former_version(std::span<const std::uint64_t> heads) noexcept {
  if (!other_version_) return;
  for (std::size_t lane = 0; lane < heads.size(); ++lane) {
    other_version_->header().head[lane].word.store(heads[lane], std::memory_order_release);  // partner: is_durable
  }
}

CacheSource::~CacheSource() {
  if (unnoted_) cache_->segment().remove();
}

void CacheSource::use() {
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
