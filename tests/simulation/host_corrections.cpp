// A host that corrects counts, and what must hold of it.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "tests/simulation/simulated_host.hpp"

namespace visitd {

void SimulatedHost::correct() {
  if (engine_ == nullptr) return;
  ChangeOrder order{fmt::format("order {} of host {}", ++orders_, number_),
                    {},
                    stage_.now.ms + (chance(4) == 0 ? chance(300) : 1'000'000)};
  for (std::uint64_t changes = 1 + chance(2); order.changes.size() < changes;) {
    const std::size_t page = chance(Stage::pages);
    const std::size_t other = (page + 1 + chance(Stage::pages - 1)) % Stage::pages;
    if (!order.changes.empty() && order.changes.front().page == stage_.names[page]) continue;
    PageChange change{PageChange::Kind::set, stage_.names[page], chance(4) == 0 ? 0 : chance(80)};
    if (const std::uint64_t kind = chance(3); kind == 1) {
      change = {PageChange::Kind::take, stage_.names[page], 0, stage_.names[other]};
    } else if (kind == 2) {
      change = {PageChange::Kind::add, stage_.names[page], 1 + chance(5)};
    }
    order.changes.push_back(std::move(change));
  }
  this->order(std::move(order), [](const std::vector<ChangedPage>&) {});
}

void SimulatedHost::order(ChangeOrder order, Corrections::Told told) {
  const std::string by = order.by;
  for (const PageChange& change : order.changes) {
    if (change.kind == PageChange::Kind::set) to_become_[{by, change.page}] = change.count;
  }
  engine_->correct(
      std::move(order),
      [this, by, told = std::move(told)](const std::vector<ChangedPage>& changed) {
        for (const ChangedPage& page : changed) check_durable(by, page);
        told(changed);
      },
      stage_.now);
}

void SimulatedHost::corrected(const CorrectedPage& page) {
  if (!page.count) return;  // given() follows
  const std::string key = to_text(page.mark) + page.page;
  const std::size_t number = stage_.page_of(page.page);
  undurable_[key] = {page};
  if (page.difference < 0) stage_.lowered_ms[number] = stage_.now.ms;
  if (!told_.insert(key).second) return;
  note_done(page);
  recorded_[number] += static_cast<std::uint64_t>(page.difference);
  ++stage_.statistics.corrected;
  const auto target = to_become_.find({page.by, page.page});
  if (target == to_become_.end() || stage_.loses_tails) return;
  for (const SimulatedShard& shard : stage_.shards) {
    const auto* const totals = shard.totals_of(page.bucket, page.mark);
    // One page at a time is looked at: the others of the batch stand in it by an order that is not known here.
    if (totals != nullptr && totals->size() == 1 && totals->front() < target->second) {
      throw Broken(fmt::format("host {}: {} was to become {} and became {}", number_, page.page, target->second,
                               totals->front()));
    }
  }
}

void SimulatedHost::given(const std::string& page, std::uint64_t visits) {
  const std::size_t number = stage_.page_of(page);
  recorded_[number] += visits;
  gained_[number] += visits;
  durably_given_[number] -= visits;
  ++stage_.statistics.given;
}

/// What somebody was told stays, whatever ends and is lost afterwards.
void SimulatedHost::check_durable(const std::string& by, const ChangedPage& told) const {
  if (!told.problem.empty() || told.before == told.after || durably_done_.contains({by, told.page})) return;
  throw Broken(
      fmt::format("host {}: {} is told that {} became {}, and no spool knows", number_, by, told.page, told.after));
}

void SimulatedHost::settle_doubts(const Transaction& transaction) {
  for (const CorrectedPage& page : transaction.corrected) undurable_.erase(to_text(page.mark) + page.page);
  std::erase_if(undurable_, [&](const auto& entry) {
    const auto& [key, undurable] = entry;
    const CorrectedPage& page = undurable.page;
    if (!undurable.in_doubt || spool_.waits(page.bucket, page.mark)) return false;
    told_.erase(key);
    if (const auto asked = asked_.find(page.by); asked != asked_.end()) --asked->second.done;
    recorded_[stage_.page_of(page.page)] -= static_cast<std::uint64_t>(page.difference);
    return true;
  });
}

std::pair<std::int64_t, std::int64_t> SimulatedHost::doubts(std::size_t page) const {
  std::pair<std::int64_t, std::int64_t> doubts{0, 0};
  for (const auto& [key, undurable] : undurable_) {
    if (!undurable.in_doubt || undurable.page.page != stage_.names[page]) continue;
    doubts.first += std::min<std::int64_t>(0, -undurable.page.difference);
    doubts.second += std::max<std::int64_t>(0, -undurable.page.difference);
  }
  return doubts;
}

void SimulatedHost::note_durable(const Transaction& transaction) {
  settle_doubts(transaction);
  for (const CorrectedPage& page : transaction.corrected) {
    durably_done_.emplace(page.by, page.page);
    if (!page.count) note_done(page);
    const std::string& to = !page.count ? page.page : page.into;
    if (to.empty()) continue;
    const auto visits = static_cast<std::uint64_t>(!page.count ? page.difference : -page.difference);
    durably_given_[stage_.page_of(to)] += visits;
  }
}

}  // namespace visitd
