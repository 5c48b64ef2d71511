// What a host says that all counts come to, and which pages have the largest ones.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "tests/simulation/simulated_host.hpp"

namespace visitd {

void SimulatedHost::add_up() {
  if (engine_ == nullptr) return;
  const auto told = [this](const BucketSums::Told&) { ++stage_.statistics.added_up; };
  const std::uint64_t until_ms = stage_.now.ms + chance(400);
  if (chance(2) == 0) return engine_->total(until_ms, told);
  engine_->top(1 + chance(3), until_ms, told);
}

bool SimulatedHost::ask_sums(std::size_t limit) {
  if (engine_ == nullptr || !engine_->has_applied(engine_->tails())) return false;
  constexpr std::uint64_t for_ever = std::numeric_limits<std::uint64_t>::max();
  total_.reset();
  top_.reset();
  life_asked_ = life_;
  engine_->total(for_ever, [this](BucketSums::Told told) { total_ = std::move(told); });
  engine_->top(limit, for_ever, [this](BucketSums::Told told) { top_ = std::move(told); });
  return true;
}

void SimulatedHost::check_sums(const std::array<std::uint64_t, Stage::pages>& truth, std::size_t limit) {
  stage_.statistics.added_up += 2;
  if (total_->unknown_pages != 0 || top_->unknown_pages != 0)
    throw Broken(fmt::format("host {}: pages are not known to a sum", number_));
  const std::uint64_t sum = std::accumulate(truth.begin(), truth.end(), std::uint64_t{0});
  if (total_->total.number() != sum)
    throw Broken(fmt::format("host {}: the total is said to be {}, and is {}", number_, total_->total.text(), sum));
  std::vector<std::uint64_t> counts(truth.begin(), truth.end());
  std::erase(counts, 0U);
  std::ranges::sort(counts, std::greater());
  counts.resize(std::min(counts.size(), limit));
  std::vector<std::uint64_t> said;
  for (const auto& [page, count] : top_->pages) {
    // A page that was made with no visits is not among the best ones before all others are.
    if (count != 0) said.push_back(count);
    if (count != truth.at(stage_.page_of(page)))
      throw Broken(fmt::format("host {}: {} is said to have {}, and has {}", number_, page, count,
                               truth.at(stage_.page_of(page))));
  }
  if (said != counts)
    throw Broken(fmt::format("host {}: the best pages are said to have {} first, and have {}", number_,
                             said.empty() ? 0 : said.front(), counts.empty() ? 0 : counts.front()));
}

}  // namespace visitd
