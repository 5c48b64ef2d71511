// What an owner asks of a host through a frontend: it stands in the ring until it is answered, so each life of the
// flusher finds it there, and it must be done once.
#include <fmt/format.h>

#include <utility>

#include "tests/simulation/simulated_host.hpp"

namespace visitd {

void SimulatedHost::ask_question() {
  if (standing_.size() >= lanes) return;
  constexpr PageChange::Kind kinds[] = {PageChange::Kind::set, PageChange::Kind::add, PageChange::Kind::lower};
  ChangeOrder order{fmt::format("question {} of host {}", asked_.size(), number_),
                    {},
                    stage_.now.ms + (chance(4) == 0 ? chance(300) : 1'000'000)};
  order.question = order.by;
  order.changes.push_back({kinds[chance(std::size(kinds))], stage_.names[chance(Stage::pages)], chance(30)});
  ++stage_.statistics.questions;
  standing_.insert(order.question);
  Question& question = asked_[order.question];
  question.order = std::move(order);
  if (engine_ != nullptr) hand(question);
}

void SimulatedHost::ask_again() {
  for (const std::string& id : std::set<std::string>(standing_)) {
    Question& question = asked_.at(id);
    if (stage_.now.ms >= question.order.until_ms) {
      standing_.erase(id);
      continue;
    }
    ++stage_.statistics.asked_again;
    hand(question);
  }
}

void SimulatedHost::hand(Question& question) {
  order(question.order, [this, &question](const std::vector<ChangedPage>& changed) {
    check_answer(question, changed.front());
    // Or the answer is lost with the cache, and the next life is asked.
    if (!changed.front().problem.empty() || chance(4) != 0) standing_.erase(question.order.question);
  });
}

void SimulatedHost::check_answer(const Question& question, const ChangedPage& changed) const {
  const PageChange& change = question.order.changes.front();
  const bool adds = change.kind == PageChange::Kind::add;
  const std::uint64_t done = changed.before != changed.after ? 1 : 0;
  bool is_so = true;
  if (!changed.problem.empty()) {
    // Of what could not be done in time nothing more is said.
    if (!changed.is_below_0) return;
    is_so = change.kind == PageChange::Kind::lower && changed.before < change.count;
  } else if (change.kind == PageChange::Kind::lower) {
    is_so = changed.before - changed.after == change.count;
  } else {
    // Others count between the look and the change, and may have corrected it again before a shard answers that it has
    // the batch; and a shard that lost its tail may lack what they have.
    is_so = changed.after == change.count || (!adds && (hosts_ > 1 || stage_.loses_tails));
  }
  if (is_so && question.done == done) return;
  throw Broken(fmt::format("{}, by {}, is answered with {} before and {} after, and was done {} times",
                           question.order.question, change.count, changed.before, changed.after, question.done));
}

void SimulatedHost::note_done(const CorrectedPage& page) {
  const auto asked = asked_.find(page.by);
  if (asked == asked_.end()) return;
  if (++asked->second.done > 1) throw Broken(fmt::format("{} is done twice", page.by));
}

}  // namespace visitd
