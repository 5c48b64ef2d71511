#include "frontend/api/lane_questions.hpp"

#include <algorithm>
#include <exception>
#include <iterator>
#include <utility>

#include "common/os/log.hpp"

namespace visitd {

namespace {

// Beyond, somebody else than an owner asks: each of them is told to come again.
constexpr std::size_t most_waiting = 64;

}  // namespace

LaneQuestions::LaneQuestions(RingMembership& membership) : membership_(membership) {
  slot().clear();  // what the lane's former owner asked for: nobody waits for it
}

LaneQuestions::~LaneQuestions() {
  slot().clear();
}

std::uint64_t LaneQuestions::ask(const OwnerQuestion& question) {
  if (waiting_.size() >= most_waiting) return 0;
  std::string text = encode_question(question);
  if (text.size() > slot().room()) return 0;
  // Random: a flusher tells the questions of all of a lane's owners apart.
  const std::uint64_t number = random_id();
  // A change of a count waits for what is asked at the moment, and for no further piece of a list.
  const bool changes = changes_counts(question.request);
  auto place = waiting_.end();
  if (changes && !waiting_.empty()) {
    place = std::find_if(std::next(waiting_.begin()), waiting_.end(), [](const Waiting& one) { return !one.changes; });
  }
  waiting_.insert(place, {number, question.until_ms, changes, std::move(text)});
  if (waiting_.size() == 1) post();
  return number;
}

std::optional<OwnerAnswer> LaneQuestions::take_answer(std::uint64_t number) {
  look();
  const auto found = answers_.find(number);
  if (found == answers_.end()) return std::nullopt;
  OwnerAnswer answer = std::move(found->second);
  answers_.erase(found);
  return answer;
}

bool LaneQuestions::concerns(std::uint64_t number, std::uint64_t now_ms) noexcept {
  try {
    look();
  } catch (const std::exception& fault) {
    log::error("{}", fault.what());
  }
  if (answers_.contains(number)) return true;
  const auto found = std::ranges::find(waiting_, number, &Waiting::number);
  return found == waiting_.end() || now_ms >= found->until_ms;
}

void LaneQuestions::forget(std::uint64_t number) noexcept {
  answers_.erase(number);
  const auto found = std::ranges::find(waiting_, number, &Waiting::number);
  if (found == waiting_.end()) return;
  if (found == waiting_.begin()) return end_first();
  waiting_.erase(found);
}

void LaneQuestions::look() {
  while (!waiting_.empty() && membership_.cache() != nullptr) {
    const std::uint64_t number = waiting_.front().number;
    const auto text = membership_.cache()->answer(membership_.lane()).read(number);
    if (!text) return;
    end_first();
    answers_.emplace(number, decode_owner_answer(*text));
  }
}

void LaneQuestions::post() noexcept {
  slot().write(waiting_.front().number, waiting_.front().text);
  membership_.flusher_bell().ring();
}

/// Its key stays in memory no longer than it takes.
void LaneQuestions::end_first() noexcept {
  slot().clear();
  waiting_.pop_front();
  if (!waiting_.empty()) post();
}

}  // namespace visitd
