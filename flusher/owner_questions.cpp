#include "flusher/owner_questions.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/os/errors.hpp"
#include "common/os/log.hpp"
#include "common/os/text.hpp"
#include "flusher/owner_key.hpp"

namespace visitd {

namespace {

using Verdict = OwnerAnswer::Verdict;

// Whoever tries keys fills no disk.
constexpr std::uint64_t refusals_told_every_ms = 1000;

std::string_view describe(Verdict verdict) noexcept {
  switch (verdict) {
    case Verdict::answered:
      return "it was answered";
    case Verdict::key_needed:
      return "it bears no key";
    case Verdict::key_wrong:
      return "its key is not the owner's";
    case Verdict::key_unset:
      return "no owner's key is set (owner.key_file)";
  }
  return "unknown";
}

}  // namespace

OwnerQuestions::OwnerQuestions(const Ring& ring, const Cache& cache, ControlHandler& commands, const Settings& settings,
                               std::function<void(std::uint32_t lane)> wake)
    : ring_(ring),
      commands_(commands),
      settings_(settings),
      answers_(std::make_shared<Answers>(Answers{cache, std::move(wake), {}})) {
  // What an earlier life has answered is not asked again. What it had not, it may have done: changes are known by their
  // ids, and lists are the same done again, as long as somebody waits for them.
  for (std::uint32_t lane = 0; lane < ring_.shape().lanes; ++lane) {
    answers_->taken.push_back(cache.answer(lane).number());
  }
}

void OwnerQuestions::look(std::uint64_t now_ms) {
  tell_untold(now_ms);
  if (!ring_.has_own_layout()) return;
  for (std::uint32_t lane = 0; lane < answers_->taken.size(); ++lane) {
    const std::uint64_t number = ring_.question(lane).number();
    if (number != 0 && number != answers_->taken[lane]) take(lane, number, now_ms);
  }
}

void OwnerQuestions::take(std::uint32_t lane, std::uint64_t number, std::uint64_t now_ms) {
  const auto text = ring_.question(lane).read(number);
  if (!text) return;
  answers_->taken[lane] = number;
  try {
    OwnerQuestion question = decode_question(*text);
    if (now_ms >= question.until_ms) return;
    if (!may_be_asked(question.request)) throw Error("no frontend may ask the flusher for that");
    const Verdict verdict = judge(question);
    if (verdict != Verdict::answered) {
      tell_refused(question, verdict, now_ms);
      return answers_->write(lane, number, {verdict});
    }
    ControlRequest& request = question.request;
    request.by = fmt::format("the owner over HTTP, from {}", question.from);
    request.question = fmt::format("{}/{}/{}", hex(ring_.id()), lane, hex(number));
    request.answer_bytes = answer_slot_bytes;
    request.timeout_ms =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(request.timeout_ms, question.until_ms - now_ms));
    commands_.handle(request, [answers = std::weak_ptr(answers_), lane, number](ControlAnswer answer) {
      if (const auto open = answers.lock()) open->write(lane, number, {Verdict::answered, std::move(answer)});
    });
  } catch (const std::exception& fault) {
    answers_->write(lane, number, {Verdict::answered, {false, fault.what(), {}, {}}});
  }
}

/// Whoever may reach a private address is the owner's, unless the settings say that this is not enough.
Verdict OwnerQuestions::judge(const OwnerQuestion& question) const {
  const OwnerSettings& owner = settings_.owner;
  if (question.at_private_address && !owner.key_at_private_address) return Verdict::answered;
  if (owner.public_lists && !changes_counts(question.request)) return Verdict::answered;
  if (owner.key.text.empty()) return Verdict::key_unset;
  if (question.key.empty()) return Verdict::key_needed;
  return is_owner_key(question.key, owner.key.text) ? Verdict::answered : Verdict::key_wrong;
}

void OwnerQuestions::tell_refused(const OwnerQuestion& question, Verdict verdict, std::uint64_t now_ms) {
  if (now_ms < next_told_ms_) {
    ++untold_;
    return;
  }
  log::warning("refused what {} asks for as the owner ({}): {}", question.from,
               changes_counts(question.request) ? "to change a count" : "a list", describe(verdict));
  next_told_ms_ = now_ms + refusals_told_every_ms;
}

void OwnerQuestions::tell_untold(std::uint64_t now_ms) {
  if (untold_ == 0 || now_ms < next_told_ms_) return;
  log::warning("{} more were refused what they ask for as the owner; `visitctl refusals` counts them by kind", untold_);
  untold_ = 0;
  next_told_ms_ = now_ms + refusals_told_every_ms;
}

void OwnerQuestions::Answers::write(std::uint32_t lane, std::uint64_t number, const OwnerAnswer& answer) const {
  if (number != taken[lane]) return;
  const TextSlot slot = cache.answer(lane);
  std::string text = encode_owner_answer(answer);
  if (text.size() > slot.room()) {
    text = encode_owner_answer(
        {Verdict::answered,
         {false,
          fmt::format("the answer has {} bytes, and a frontend is given at most {}: visitctl has room for it",
                      text.size(), slot.room()),
          {},
          {}}});
  }
  slot.write(number, text);
  wake(lane);
}

}  // namespace visitd
