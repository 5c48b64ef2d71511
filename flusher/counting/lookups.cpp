#include "flusher/counting/lookups.hpp"

#include <algorithm>
#include <utility>

#include "common/os/invariant.hpp"
#include "common/shm/page_id.hpp"

namespace visitd {

namespace {

// Far more pages than any shard is asked for at once; what is beyond is asked again by the frontends' timers.
constexpr std::size_t waiting_limit = 65536;

}  // namespace

Lookups::Lookups(const CountingMemory& memory, std::uint32_t buckets, std::uint64_t ttl_ms, FlusherView& view,
                 PendingSeries& pending, FlusherStatistics statistics, Ask ask)
    : lanes_(memory.lanes),
      cache_(*memory.cache),
      hash_seed_(memory.hash_seed),
      buckets_(buckets),
      page_id_limit_(view.memory().shape.page_id_limit),
      ttl_ms_(ttl_ms),
      view_(view),
      pending_(pending),
      statistics_(statistics),
      ask_(std::move(ask)),
      uncountable_(statistics),
      page_of_node_(view.memory().shape.entries + 1, PendingSeries::none),
      used_(view.memory().shape.entries + 1) {
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    requests_.emplace_back(lanes_[lane].requests);
    read_.push_back(at_index(cache_.requests_read, lane).load(std::memory_order_relaxed));
  }
}

bool Lookups::run(std::uint64_t now_ms) {
  bool any = false;
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    const std::uint64_t tail = lanes_[lane].requests_tail->load(std::memory_order_acquire);
    if (tail == read_[lane]) continue;
    any = true;
    const LaneRecords& requests = requests_[lane];
    std::uint64_t position = read_[lane];
    char buffer[max_page_id_bytes];
    const bool sane = tail > position && tail - position <= requests.capacity() && tail % 8 == 0;
    while (sane && position < tail) {
      Record record;
      if (requests.read(position, tail, record) != RecordCheck::whole)
        break;  // requests may be lost: they are posted again
      if (record.kind == RecordKind::request)
        request(lane, record.page_hash, requests.page(position, record, buffer), now_ms);
      position += record.size;
    }
    read_[lane] = tail;
    at_index(cache_.requests_read, lane)
        .store(tail, std::memory_order_release);  // partner: the producer's look at head
  }
  return any;
}

bool Lookups::is_empty() const noexcept {
  for (std::uint32_t lane = 0; lane < lanes_.size(); ++lane) {
    if (lanes_[lane].requests_tail->load(std::memory_order_seq_cst) != read_[lane]) return false;
  }
  return true;
}

void Lookups::request(std::uint32_t lane, std::uint64_t hash, std::string_view page, std::uint64_t now_ms) {
  const std::uint64_t lane_bit = std::uint64_t{1} << lane;
  std::uint32_t number = pending_.find(hash, page);
  if (number != PendingSeries::none) {
    const SeriesVisits& known = pending_[number];
    if (known.node != 0 && view_.expires(known.node) > now_ms + refresh_ahead_ms(ttl_ms_)) {
      used_[known.node] = 1;
      wake_ |= lane_bit;
      return;
    }
    if (known.looked_up != 0) {
      waiting_[number] |= lane_bit;
      return;
    }
  } else {
    // Another hash would make a second page of the same id: see Drain::apply.
    if (check_page_id(page, page_id_limit_) != PageIdFault::none || page_hash(page, hash_seed_) != hash) return;
    number = pending_.insert(hash, page, page_bucket(page, buckets_));
  }
  ask_shard(number, lane_bit);
}

void Lookups::ask_shard(std::uint32_t number, std::uint64_t lanes) {
  const Asked asked = waiting_.size() < waiting_limit ? ask_(number) : Asked::no;
  if (asked == Asked::no) {
    wake_ |= lanes;
    pending_.erase_if_idle(number);
    return;
  }
  // From now on its visits stay in memory: the answer is to find all of them there.
  pending_[number].looked_up = 1;
  waiting_[number] = lanes;
  if (asked == Asked::later) {
    for_bucket_.push_back(number);
  } else {
    statistics_.add(FlusherStatistic::lookups);
  }
}

void Lookups::ask_waiting() {
  for (const std::uint32_t number : std::exchange(for_bucket_, {})) {
    switch (ask_(number)) {
      case Asked::yes:
        statistics_.add(FlusherStatistic::lookups);
        break;
      case Asked::later:
        for_bucket_.push_back(number);
        break;
      case Asked::no:
        dropped(number);
        break;
    }
  }
}

void Lookups::counted(std::uint32_t number, std::uint64_t count, std::uint64_t fix, std::uint64_t now_ms) {
  SeriesVisits& page = pending_[number];
  if (!uncountable_.counted(page.name(), count)) {
    damaged(number, now_ms);
  } else if (page.node != 0) {
    view_.refresh(page.node, view_.base_after(page.node, count, fix), now_ms + ttl_ms_, fix);
    used_[page.node] = 1;
  } else if (page.length <= page_id_limit_) {
    make_entry(number, count, now_ms, CountState::fine, fix);
  }
  dropped(number);
}

void Lookups::unreadable(std::uint32_t number, std::uint64_t now_ms) {
  uncountable_.unreadable(pending_[number].name());
  damaged(number, now_ms);
  dropped(number);
}

/// Shown as damaged for a TTL, so that readers have an answer and Redis is asked no more often than of other pages.
void Lookups::damaged(std::uint32_t number, std::uint64_t now_ms) {
  SeriesVisits& page = pending_[number];
  if (page.node != 0) {
    view_.damage(page.node, now_ms + ttl_ms_);
    used_[page.node] = 1;
  } else if (page.length <= page_id_limit_) {
    make_entry(number, 0, now_ms, CountState::damaged, 0);
  }
}

void Lookups::ask_uncountable() {
  for (const std::string& page : uncountable_.to_ask_again()) {
    const std::uint32_t number = pending_.find_or_insert(page, hash_seed_, buckets_);
    if (pending_[number].looked_up == 0) ask_shard(number, 0);
  }
}

void Lookups::dropped(std::uint32_t number) {
  const auto waiting = waiting_.find(number);
  if (waiting == waiting_.end()) return;
  wake_ |= waiting->second;
  waiting_.erase(waiting);
  pending_[number].looked_up = 0;
  pending_.erase_if_idle(number);
}

void Lookups::make_entry(std::uint32_t number, std::uint64_t count, std::uint64_t now_ms, CountState state,
                         std::uint64_t fix) {
  while (!view_.has_room(pending_[number].length)) evict_one();
  SeriesVisits& page = pending_[number];
  page.node = view_.link(page.hash, page.name(), count, now_ms + ttl_ms_, page.inflight, pending_.shown_open(number),
                         state, fix);
  remember(number);
}

void Lookups::recovered_entry(std::uint32_t number) {
  if (view_.is_damaged(pending_[number].node)) uncountable_.recover_damaged(pending_[number].name());
  remember(number);
}

void Lookups::remember(std::uint32_t number) {
  const std::uint32_t node = pending_[number].node;
  page_of_node_[node] = number;
  used_[node] = 1;
  statistics_.set(FlusherStatistic::entries, view_.entries());
}

void Lookups::evict_one() {
  must_hold(view_.entries() > 0, "a view without entries has room for any page id");
  // Twice round finds an entry that nobody asked for since the hand came by. Further cells of long ids are passed over.
  do {
    hand_ = hand_ % static_cast<std::uint32_t>(page_of_node_.size() - 1) + 1;
  } while (page_of_node_[hand_] == PendingSeries::none || std::exchange(used_[hand_], std::uint8_t{0}) != 0);
  drop_entry(hand_);
  statistics_.add(FlusherStatistic::entries_evicted);
}

void Lookups::drop_entry(std::uint32_t node) {
  const std::uint32_t number = std::exchange(page_of_node_[node], PendingSeries::none);
  pending_[number].node = 0;
  view_.unlink(node);
  pending_.erase_if_idle(number);
}

void Lookups::forget_buckets(const std::vector<bool>& buckets) {
  for (std::uint32_t node = 1; node < page_of_node_.size(); ++node) {
    const std::uint32_t number = page_of_node_[node];
    if (number == PendingSeries::none || !buckets[pending_[number].bucket]) continue;
    drop_entry(node);
  }
  statistics_.set(FlusherStatistic::entries, view_.entries());
}

std::pair<std::uint64_t, std::uint64_t> Lookups::known_of(const std::vector<bool>& buckets) const {
  std::pair<std::uint64_t, std::uint64_t> known;
  for (std::uint32_t node = 1; node < page_of_node_.size(); ++node) {
    const std::uint32_t number = page_of_node_[node];
    if (number == PendingSeries::none || !buckets[pending_[number].bucket]) continue;
    ++known.first;
    known.second += view_.base(node);
  }
  return known;
}

}  // namespace visitd
