#include "flusher/counting/top_pages.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

#include "common/shm/page_id.hpp"

namespace visitd {

namespace {

constexpr std::size_t most_readings_at_once = 32;

CountedPages sorted(const std::unordered_map<std::string, std::uint64_t>& found, std::size_t limit) {
  CountedPages pages(found.begin(), found.end());
  const auto before = [](const auto& a, const auto& b) {
    return std::tie(b.second, a.first) < std::tie(a.second, b.first);
  };
  const std::size_t wanted = std::min(limit, pages.size());
  std::ranges::partial_sort(pages, pages.begin() + static_cast<std::ptrdiff_t>(wanted), before);
  pages.resize(wanted);
  return pages;
}

}  // namespace

TopPages::TopPages(PendingParts parts, AskableShards& shards, ScanPort& port, std::size_t limit,
                   std::vector<Bound> bounds)
    : parts_(parts),
      shards_(shards),
      port_(port),
      limit_(limit),
      bounds_(std::move(bounds)),
      lives_(std::make_shared<const bool>(true)) {
  std::ranges::sort(
      bounds_, [](const Bound& a, const Bound& b) { return std::tie(b.most, a.bucket) < std::tie(a.most, b.bucket); });
}

bool TopPages::tick() {
  for (const std::shared_ptr<Reading>& reading : std::vector(readings_)) step(reading);
  std::erase_if(readings_, [](const std::shared_ptr<Reading>& reading) { return reading->over; });
  // As many buckets as pages are read in any case.
  const std::size_t at_once = std::min(limit_, most_readings_at_once);
  while (readings_.size() < at_once && next_ < bounds_.size() && needs(bounds_[next_])) {
    readings_.push_back(std::make_shared<Reading>(Reading{bounds_[next_++].bucket}));
    step(readings_.back());
  }
  return readings_.empty();
}

/// What is being read may make it needless; that costs some buckets more, and saves waiting for each of them.
bool TopPages::needs(const Bound& next) const {
  return next.most != 0 && (found_.size() < limit_ || least_of_best() < next.most);
}

std::uint64_t TopPages::least_of_best() const {
  std::vector<std::uint64_t> counts;
  counts.reserve(found_.size());
  for (const auto& [page, count] : found_) counts.push_back(count);
  const auto last = counts.begin() + static_cast<std::ptrdiff_t>(limit_ - 1);
  std::ranges::nth_element(counts, last, std::greater());
  return *last;
}

CountedPages TopPages::pages(std::size_t limit) const {
  return sorted(found_, limit);
}

/// Those that are no more among the best ones go, now and then.
void TopPages::keep_best(Found& found) const {
  if (found.size() < 2 * limit_ + 1024) return;
  CountedPages best = sorted(found, limit_);
  found = Found(std::make_move_iterator(best.begin()), std::make_move_iterator(best.end()));
}

void TopPages::step(const std::shared_ptr<Reading>& reading) {
  if (reading->asking || reading->over) return;
  const std::uint32_t shard = parts_.placement.shard_of(reading->bucket);
  if (const std::string why = shards_.why_unknown(shard); !why.empty()) return give_up(*reading, why);
  if (reading->cursor != 0 && reading->source != port_.source(shard)) *reading = {reading->bucket};
  if (!parts_.open.is_in_memory(reading->bucket)) return parts_.open.want_for_read(reading->bucket);
  if (!shards_.may_ask(shard)) return;
  reading->asking = true;
  shards_.asked(shard);
  const AskPages asked{reading->bucket, reading->cursor, most_pages_listed};
  const bool sent = port_.list_pages(asked, [this, &shards = shards_, reading, shard,
                                             lives = std::weak_ptr(lives_)](const ShardSession::SomePages& some) {
    shards.answered(shard, std::max(some.pages ? some.pages->pages.size() : 0, least_pages_of_bucket),
                    AskableShards::Burst::goes_on);
    if (lives.expired()) return shards.end(shard);
    reading->asking = false;
    if (!some.why.empty()) return give_up(*reading, fmt::format("shard {} answers: {}", port_.name(shard), some.why));
    // Spilled meanwhile: the answer would lack what is pending.
    if (some.pages && parts_.open.is_in_memory(reading->bucket)) take(*reading, *some.pages);
  });
  if (sent) return;
  reading->asking = false;
  shards_.not_sent(shard);
}

void TopPages::give_up(Reading& reading, const std::string& why) {
  reading.over = true;
  if (unknown_buckets_++ == 0) why_unknown_ = fmt::format("bucket {}: {}", reading.bucket, why);
}

/// As PageScan lists them: first what is pending, which HSCAN may name or not once it is acknowledged. If HSCAN does,
/// that count holds.
void TopPages::take(Reading& reading, const Pages& pages) {
  if (reading.cursor == 0) {
    for (const std::uint32_t number : parts_.series_of(reading.bucket)) {
      if (parts_.visits_of(number) != 0)
        reading.found[std::string(parts_.pending[number].name())] = parts_.visits_of(number);
    }
  }
  for (const Pages::Page& page : pages.pages) {
    // What somebody else wrote into the hash is no page if no request could name it.
    if (check_page_id(page.id, max_page_id_bytes) != PageIdFault::none) continue;
    const std::uint32_t number = parts_.find(page.id);
    const auto count =
        parts_.count_of(page.id, page.count, number == PendingSeries::none ? 0 : parts_.visits_of(number));
    if (count) {
      reading.found[page.id] = *count;
    } else {
      reading.found.erase(page.id);
      // The sum of its bucket knows of the others.
      if (page.count) ++reading.unknown_pages;
    }
  }
  keep_best(reading.found);
  reading.cursor = pages.cursor;
  reading.source = port_.source(parts_.placement.shard_of(reading.bucket));
  if (reading.cursor == 0) end(reading);
}

void TopPages::end(Reading& reading) {
  reading.over = true;
  unknown_pages_ += reading.unknown_pages;
  for (auto& [page, count] : reading.found) found_[page] = count;
  keep_best(found_);
}

}  // namespace visitd
