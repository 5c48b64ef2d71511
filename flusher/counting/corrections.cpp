#include "flusher/counting/corrections.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "common/os/errors.hpp"
#include "common/shm/cache_layout.hpp"

namespace visitd {

namespace {

// After an answer that was of no use.
constexpr std::uint64_t read_again_after_ms = 50;

std::string too_many_wait() {
  return fmt::format(
      "with these, more than {} of its visits would wait for its shard. Add them once the shard has what waits "
      "(visitctl flush)",
      count_limit);
}

}  // namespace

void Corrections::ask(ChangeOrder asked, Told told, std::uint64_t unix_now) {
  if (asked.changes.empty()) throw Error("there is nothing to change");
  std::set<std::string> pages;
  for (const PageChange& change : asked.changes) {
    if (!pages.insert(change.page).second) throw error("'{}' is to be changed twice: once at a time", change.page);
    if (change.kind == PageChange::Kind::take && change.into == change.page) {
      throw error("'{}' cannot become itself", change.page);
    }
    if (change.count > count_limit) throw error("'{}': the largest count is {}", change.page, count_limit);
  }
  const auto order = std::make_shared<Order>();
  order->asked = std::move(asked);
  order->told = std::move(told);
  order->left = order->asked.changes.size();
  order->changed.resize(order->left);
  order->asked_at = unix_now;
  if (!order->asked.question.empty() && was_asked_before(order)) return;
  if (!order->asked.import.empty()) return import(order);
  const std::vector<std::uint64_t> tails = port_.tails();
  for (std::size_t i = 0; i < order->asked.changes.size(); ++i) {
    const PageChange& change = order->asked.changes[i];
    if (change.kind == PageChange::Kind::add) {
      add(order, i);
      continue;
    }
    auto& parts = parts_[port_.bucket_of(change.page)];
    if (parts.empty() || parts.back()->order != order || parts.back()->changes.size() >= most_pages_) {
      parts.push_back(std::make_shared<Part>(order));
      parts.back()->tails = tails;
    }
    parts.back()->changes.push_back(i);
  }
}

void Corrections::add(const std::shared_ptr<Order>& order, std::size_t i) {
  const ChangeOrder& asked = order->asked;
  const PageChange& change = asked.changes[i];
  if (change.count != 0 && !batches_.can_add(change.page, change.count)) {
    return settle(*order, i, {change.page, 0, 0, too_many_wait()});
  }
  if (begin_giving(order, i)) batches_.add(change.page, change.count, asked.by, asked.question, order->asked_at);
}

bool Corrections::begin_giving(const std::shared_ptr<Order>& order, std::size_t i) {
  const PageChange& change = order->asked.changes[i];
  if (change.count == 0) {
    settle(*order, i, {change.page, 0, 0, {}});
    return false;
  }
  giving_.push_back({order, i, change.page, change.count, {change.page, 0, change.count, {}}});
  return true;
}

void Corrections::recover(SpoolState& spool) {
  done_ = std::move(spool.corrected);
  imported_.insert(spool.imported.begin(), spool.imported.end());
  for (QuestionNote& note : spool.questions) {
    const auto is_its_batch = [&](const Batch& batch) { return batch.bucket == note.bucket && batch.correction; };
    if (note.state == QuestionNote::State::sealed) {
      // A version that knows no questions may have gone on with the spool in between.
      if (std::ranges::none_of(spool.unanswered, is_its_batch)) continue;
      batches_.recover_question(note.bucket, note.id);
      begun_before_[note.bucket] = note.id;
    }
    asked_before_[note.id] = std::move(note);
  }
}

bool Corrections::was_asked_before(const std::shared_ptr<Order>& order) {
  if (order->asked.changes.size() != 1) throw Error("a question that has an id changes one page");
  const auto before = asked_before_.find(order->asked.question);
  if (before == asked_before_.end()) return false;
  const QuestionNote note = std::move(before->second);
  asked_before_.erase(before);
  if (note.state == QuestionNote::State::done) {
    settle(*order, 0, {order->asked.changes.front().page, note.before, note.after, {}});
    return true;
  }
  begun_before_.erase(note.bucket);
  // Ahead of what waits for that batch.
  const auto part = std::make_shared<Part>(order);
  part->step = Part::Step::sealed;
  part->tails = port_.tails();
  part->changes = {0};
  parts_[note.bucket].push_front(part);
  return true;
}

/// One that is under way is told once its visits are durable, like the first one that asked for it.
void Corrections::import(const std::shared_ptr<Order>& order) {
  const auto adds = [](const PageChange& change) { return change.kind == PageChange::Kind::add; };
  if (!std::ranges::all_of(order->asked.changes, adds)) throw Error("an import adds, and changes nothing else");
  const auto is_same = [&](const std::shared_ptr<Order>& other) { return other->asked.import == order->asked.import; };
  const bool waits = std::ranges::any_of(imports_, is_same) ||
                     std::ranges::any_of(giving_, [&](const Giving& giving) { return is_same(giving.order); });
  if (waits) throw PassingError("this part of the import is just being counted: ask again in a moment");
  if (imported_.contains(order->asked.import)) return order->told({});
  imports_.push_back(order);
  import_waiting();
}

void Corrections::import_waiting() {
  while (!imports_.empty() && port_.has_room()) {
    const std::shared_ptr<Order> order = imports_.front();
    imports_.pop_front();
    const auto too_many = std::ranges::find_if(
        order->asked.changes, [&](const PageChange& change) { return !batches_.can_add(change.page, change.count); });
    if (too_many != order->asked.changes.end()) {
      order->told({{too_many->page, 0, 0, fmt::format("'{}': {}", too_many->page, too_many_wait())}});
      continue;
    }
    CorrectedPage sum;
    std::uint64_t visits = 0;
    for (std::size_t i = 0; i < order->asked.changes.size(); ++i) {
      const PageChange& change = order->asked.changes[i];
      if (!begin_giving(order, i)) continue;
      batches_.import(change.page, change.count);
      visits += std::min(count_limit - visits, change.count);
    }
    sum.difference = static_cast<std::int64_t>(visits);  // or more: it is for people
    sum.page = fmt::format("({} pages)", order->asked.changes.size());
    sum.by = fmt::format("{}, import {}", order->asked.by, order->asked.import);
    sum.at = order->asked_at;
    imported_.insert(order->asked.import);
    batches_.note_imported(std::move(sum), order->asked.import);
  }
}

void Corrections::tick(std::uint64_t now_ms) {
  import_waiting();
  for (auto parts = parts_.begin(); parts != parts_.end();) {
    const std::shared_ptr<Part> part = parts->second.front();
    step(parts->first, *part, now_ms);
    if (part->changes.empty()) parts->second.pop_front();
    parts = parts->second.empty() ? parts_.erase(parts) : std::next(parts);
  }
}

void Corrections::step(std::uint32_t bucket, Part& part, std::uint64_t now_ms) {
  if (now_ms >= part.order->asked.until_ms) return give_up(bucket, part);
  if (part.step == Part::Step::applying && port_.has_applied(part.tails)) {
    part.flush = batches_.begin_flush_of_bucket(bucket);
    part.step = Part::Step::flushing;
  }
  // What is still to be noted is of another batch, maybe an earlier life's: it is no answer to what is sealed next.
  if (part.step == Part::Step::flushing && now_ms >= part.read_again_ms && !to_note_.contains(bucket) &&
      batches_.is_bucket_flushed(bucket, part.flush) && port_.why_not(bucket).empty()) {
    part.step = Part::Step::reading;
    read(part.shared_from_this());
  }
  if (part.step == Part::Step::reading && part.unread == 0) plan(bucket, part, now_ms);
  if (part.step == Part::Step::sealed && part.withdrawn == part.changes.size()) {
    part.withdrawn = 0;
    // One that an earlier life sealed has not had this life's visits flushed.
    part.step = part.flush == 0 ? Part::Step::applying : Part::Step::flushing;
  }
}

void Corrections::read(const std::shared_ptr<Part>& part) {
  part->counts.assign(part->changes.size(), std::nullopt);
  part->unread = part->changes.size();
  for (std::size_t i = 0; i < part->changes.size(); ++i) {
    port_.read(part->order->asked.changes[part->changes[i]].page, [part, i](std::optional<Count> count) {
      part->counts[i] = std::move(count);
      --part->unread;
    });
  }
}

/// Everything was asked: the counts lead to differences, unless they are not of one moment between two corrections.
void Corrections::plan(std::uint32_t bucket, Part& part, std::uint64_t now_ms) {
  const auto is_of_use = [&](const std::optional<Count>& count) {
    return count && count->moved.empty() && count->id == port_.bucket_id() && count->fix == part.counts[0]->fix;
  };
  if (!std::ranges::all_of(part.counts, is_of_use)) {
    part.step = Part::Step::flushing;
    part.read_again_ms = now_ms + read_again_after_ms;
    return;
  }
  const std::vector<std::size_t> changes = part.changes;
  std::vector<Effect> differences;
  Correction correction{part.counts[0]->fix, part.order->asked.by, {}};
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const PageChange& change = part.order->asked.changes[changes[i]];
    const std::uint64_t held = part.counts[i]->count;
    const bool lowers = change.kind == PageChange::Kind::lower;
    const std::uint64_t wanted = lowers ? held - change.count : change.count;
    if (!part.counts[i]->readable) {
      finish(part, changes[i],
             {change.page, 0, 0,
              fmt::format("Redis holds no count of it; HDEL visits:{{{}}} and the page's name make it 0", bucket)});
    } else if (lowers && held < change.count) {
      finish(part, changes[i],
             {change.page, held, held, fmt::format("its count is {}, and is not lowered by {}", held, change.count),
              true});
    } else if (held == wanted) {
      finish(part, changes[i], {change.page, held, held, {}});
    } else {
      differences.push_back({change.page, wanted - held});
      correction.into.push_back(change.into);
    }
  }
  if (differences.empty()) return;
  part.step = Part::Step::sealed;
  batches_.correct(bucket, std::move(differences), std::move(correction), part.order->asked.question);
}

void Corrections::give_up(std::uint32_t bucket, Part& part) {
  std::string why = port_.why_not(bucket);
  const bool is_sealed = part.step == Part::Step::sealed && !batches_.cancel_correction(bucket);
  if (why.empty()) why = "visits of its bucket that were recorded before did not get there in time";
  const std::string problem =
      is_sealed ? "it is noted and will be done once its shard takes it: " + why : "nothing was changed: " + why;
  for (const std::size_t change : std::vector<std::size_t>(part.changes)) {
    finish(part, change, {part.order->asked.changes[change].page, 0, 0, problem});
  }
}

void Corrections::finish(Part& part, std::size_t change, ChangedPage changed) {
  std::erase(part.changes, change);
  settle(*part.order, change, std::move(changed));
}

void Corrections::settle(Order& order, std::size_t change, ChangedPage changed) {
  order.changed[change] = std::move(changed);
  if (--order.left == 0) order.told(order.changed);
}

Corrections::Part* Corrections::sealed_part(std::uint32_t bucket) {
  const auto parts = parts_.find(bucket);
  if (parts == parts_.end() || parts->second.front()->step != Part::Step::sealed) return nullptr;
  return parts->second.front().get();
}

void Corrections::corrected(const CorrectedPage& page) {
  port_.corrected(page);
  if (page.count) ++to_note_[page.bucket];
}

/// Only now: of an answer that no spool holds, the next life may find that the shard has lost it, and that somebody
/// else has corrected the page since.
void Corrections::noted(const CorrectedPage& page) {
  if (page.count && --to_note_.at(page.bucket) == 0) to_note_.erase(page.bucket);
  done_.push_back(page);
  if (done_.size() > corrections_shown) done_.pop_front();
  if (page.count) settle_earlier(page);
  Part* const part = page.count ? sealed_part(page.bucket) : nullptr;
  if (part == nullptr) return;  // or of an earlier life
  const auto change = std::ranges::find_if(
      part->changes, [&](std::size_t number) { return part->order->asked.changes[number].page == page.page; });
  if (change == part->changes.end()) return;
  const auto difference = static_cast<std::uint64_t>(page.difference);
  ChangedPage changed{page.page, *page.count - difference, *page.count, {}};
  if (page.into.empty()) return finish(*part, *change, std::move(changed));
  giving_.push_back({part->order, *change, page.into, ~difference + 1, std::move(changed), page.mark});
  part->changes.erase(change);
}

/// It may be asked for still.
void Corrections::settle_earlier(const CorrectedPage& page) {
  const auto begun = begun_before_.find(page.bucket);
  if (begun == begun_before_.end()) return;
  QuestionNote& note = asked_before_.at(begun->second);
  note = {begun->second, QuestionNote::State::done, 0, *page.count - static_cast<std::uint64_t>(page.difference),
          *page.count};
  begun_before_.erase(begun);
}

void Corrections::withdrawn(std::uint32_t bucket, std::size_t pages) {
  if (pages == 0) return;
  if (const auto begun = begun_before_.find(bucket); begun != begun_before_.end()) {
    asked_before_.erase(begun->second);
    begun_before_.erase(begun);
  }
  if (Part* const part = sealed_part(bucket)) part->withdrawn += pages;
}

void Corrections::given(const std::string& page, std::uint64_t visits, const std::optional<Mark>& loser) {
  port_.given(page, visits);
  const auto given = std::ranges::find_if(giving_, [&](const Giving& giving) {
    return giving.page == page && giving.visits == visits && giving.loser == loser;
  });
  if (given == giving_.end()) return;
  Giving done = std::move(*given);
  giving_.erase(given);
  settle(*done.order, done.change, std::move(done.changed));
}

}  // namespace visitd
