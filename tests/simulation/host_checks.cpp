// What must hold of a host at any moment, and at the end.
#include <fmt/format.h>

#include <algorithm>

#include "tests/simulation/simulated_host.hpp"

namespace visitd {

namespace {

std::uint64_t visits_of(const std::string& page, const std::map<std::string, std::uint64_t>& pages) {
  const auto found = pages.find(page);
  return found == pages.end() ? 0 : found->second;
}

}  // namespace

/// What a bucket held stays at its former shard until its next one has it durably.
void SimulatedHost::check_moves() const {
  const auto progress = engine_->move_progress();
  if (progress && progress->problem.find(" is gone") != std::string::npos) {
    throw Broken(fmt::format("host {}: {}", number_, progress->problem));
  }
}

void SimulatedHost::read(std::size_t page, std::size_t reader) {
  if (reader != list_reader) return read_one(page, reader);
  std::vector<CountReader::Page> pages;
  for (std::size_t n = 0; n < Stage::pages; ++n) {
    const std::size_t next = (page + n) % Stage::pages;
    pages.push_back({stage_.hashes[next], stage_.names[next]});
  }
  readers_[reader].gather(pages);
  for (std::size_t n = 0; n < Stage::pages; ++n) read_one((page + n) % Stage::pages, reader);
  readers_[reader].forget();
}

void SimulatedHost::read_one(std::size_t page, std::size_t reader) {
  const CountReader::Reading read = readers_[reader].read(stage_.hashes[page], stage_.names[page], stage_.now.ms);
  // What was read of an entry is the truth, whether it may be shown at this time or not.
  if (!read.has_entry) return;
  ++stage_.statistics.reads;
  if (read.damaged && stage_.ever_spoiled[page]) {
    ++stage_.statistics.reads_damaged;
    return;
  }
  check_read(page, reader, read);
}

void SimulatedHost::check_read(std::size_t page, std::size_t reader, const CountReader::Reading& read) {
  // What is put aside in a transaction that is not durable yet may come back: no count without it may be shown.
  const auto ours = static_cast<std::int64_t>(stage_.filled[page] + recorded_[page] - durably_aside(page));
  const auto count = static_cast<std::int64_t>(read.count);
  // What Redis said was true when it was asked: at most a timeout before its answer, and that a TTL ago.
  constexpr std::uint64_t oldest_ms = Stage::ttl_ms + Stage::answer_timeout_ms;
  const std::uint64_t asked_ms = std::max(read.expires_ms, oldest_ms) - oldest_ms;
  auto [least, most] = doubts(page);
  for (std::size_t other = 0; other < hosts_; ++other) {
    if (other == number_) continue;
    const auto [low, high] = stage_.range_since(other, page, asked_ms);
    least += low;
    most += high;
  }
  // Redis was asked before somebody raised the page there.
  for (const Raise& raise : raises_) {
    if (raise.page == page && raise.at_ms >= asked_ms) least -= static_cast<std::int64_t>(raise.visits);
  }
  if (read.damaged || count < ours + least || count > ours + most || aside_since_[page]) {
    throw Broken(fmt::format("host {}: reader {} counts {}{} of {}, of which {} were recorded here, and {} to {} there",
                             number_, reader, read.count, read.damaged ? " (damaged)" : "", stage_.names[page], ours,
                             least, most));
  }
  if (count > ours) ++stage_.statistics.reads_of_others;
  LastRead& seen = last_read_[page];
  const std::uint64_t evicted = evicted_before_ + statistic(FlusherStatistic::entries_evicted);
  const std::uint64_t view = cache().active.word.load();
  if (seen.life == life_ && seen.view == view && seen.evicted == evicted && seen.went_on == went_on_ &&
      read.count < seen.count && !(stage_.corrects && stage_.lowered_ms[page] >= seen.asked_ms)) {
    throw Broken(fmt::format("host {}: reader {} counts {} of {} after {}", number_, reader, read.count,
                             stage_.names[page], seen.count));
  }
  // Visits that were put aside are not counted any more.
  if (stage_.harm != Harm::spoiled) seen = {life_, view, evicted, went_on_, read.count, asked_ms};
}

std::uint64_t SimulatedHost::shown(std::size_t page) {
  return readers_[0].read(stage_.hashes[page], stage_.names[page], stage_.now.ms).count;
}

bool SimulatedHost::knows_since(std::size_t page, std::uint64_t ms) {
  const CountReader::Reading read = readers_[0].read(stage_.hashes[page], stage_.names[page], stage_.now.ms);
  return read.has_entry && read.expires_ms >= ms + Stage::ttl_ms + Stage::answer_timeout_ms;
}

std::uint64_t SimulatedHost::durably_aside(std::size_t page) const {
  return visits_of(stage_.names[page], spool_.set_aside());
}

std::uint64_t SimulatedHost::aside(std::size_t page) const {
  return durably_aside(page) + visits_of(stage_.names[page], captured_aside_);
}

std::optional<std::size_t> SimulatedHost::being_put_aside() const {
  if (captured_aside_.empty()) return std::nullopt;
  return stage_.page_of(captured_aside_.begin()->first);
}

std::array<std::uint64_t, Stage::pages> SimulatedHost::in_lanes() const {
  std::array<std::uint64_t, Stage::pages> visits{};
  for (std::uint32_t n = 0; n < lanes; ++n) {
    const LaneRecords records{std::span<const Word>(lanes_[n].records)};
    const std::uint64_t tail = lanes_[n].tail.word.load();
    Record record;
    for (std::uint64_t at = cache().head[n].word.load(); at < tail; at += record.size) {
      if (records.read(at, tail, record) != RecordCheck::whole) throw Broken("a record above head is damaged");
      if (record.kind != RecordKind::visit) continue;
      const auto page = std::ranges::find(stage_.hashes, record.page_hash) - stage_.hashes.begin();
      visits[static_cast<std::size_t>(page)] += record.visits;
    }
  }
  return visits;
}

bool SimulatedHost::all_in_shards() const {
  const auto waiting = in_lanes();
  for (std::size_t page = 0; page < Stage::pages; ++page) {
    if (waiting[page] + stage_.in_shards(number_, page) != recorded_[page]) return false;
  }
  return std::ranges::none_of(stage_.shards, &SimulatedShard::has_late);
}

void SimulatedHost::check_nothing_lost() const {
  const auto waiting = in_lanes();
  for (std::size_t page = 0; page < Stage::pages; ++page) {
    const std::uint32_t bucket = stage_.bucket_of(page);
    const std::uint64_t there = stage_.in_shards(number_, page);
    const std::uint64_t pending = spool_.pending(stage_.names[page], bucket, [&](const Batch& batch) {
      return std::ranges::any_of(stage_.shards,
                                 [&](const SimulatedShard& shard) { return shard.has_applied(bucket, batch.mark); });
    });
    if (waiting[page] + pending + there == recorded_[page]) continue;
    throw Broken(
        fmt::format("host {}: {} visits of {} are in the shards, {} in the spool and {} in the lanes, {} were "
                    "recorded",
                    number_, there, stage_.names[page], pending, waiting[page], recorded_[page]));
  }
}

bool SimulatedHost::is_up() const {
  if (engine_ == nullptr) return false;
  for (std::uint32_t number = 0; number < engine_->placement().shards(); ++number) {
    if (engine_->shard_state(number) != ShardState::up) return false;
  }
  return true;
}

bool SimulatedHost::is_settled() const {
  if (engine_ == nullptr || !engine_->is_durable()) return false;
  if (stage_.layout.is_moving() || engine_->layout() != stage_.layout) return false;
  // One of an earlier life may be on its way.
  const bool any_refuses = std::ranges::any_of(stage_.shards, &SimulatedShard::refuses);
  if (stage_.corrects && !any_refuses &&
      (engine_->is_correcting() || statistic(FlusherStatistic::unanswered_batches) != 0)) {
    return false;
  }
  for (std::uint32_t number = 0; number < engine_->placement().shards(); ++number) {
    const std::uint32_t shard = server_of(number);
    if (stage_.shards[shard].refuses()) continue;
    const bool held = engine_->shard_state(number) == ShardState::held;
    // Of a host that was forgotten, everything comes back once somebody says so.
    if (stage_.may_hold && held && !stage_.forgets) continue;
    if (stage_.exchanged[shard] || engine_->shard_state(number) != ShardState::up) return false;
    for (std::size_t page = 0; page < Stage::pages; ++page) {
      // What a cluster has may be on a node that this life does not know.
      const bool here = stage_.home_of(page) == shard || stage_.has_cluster();
      if (here && stage_.in_shards(number_, page) != recorded(page)) return false;
    }
  }
  return true;
}

}  // namespace visitd
