#include "common/control/owner_question.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "common/os/errors.hpp"
#include "common/os/text.hpp"

namespace visitd {

namespace {

constexpr std::array<std::pair<OwnerAnswer::Verdict, std::string_view>, 4> verdict_words{{
    {OwnerAnswer::Verdict::answered, "answered"},
    {OwnerAnswer::Verdict::key_needed, "key needed"},
    {OwnerAnswer::Verdict::key_wrong, "key wrong"},
    {OwnerAnswer::Verdict::key_unset, "key unset"},
}};

std::string one_line(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  return text;
}

}  // namespace

bool changes_counts(const ControlRequest& request) noexcept {
  return request.command == ControlCommand::correct;
}

/// A question is done once, and noted with its change: one page's.
static bool is_of_one_page(const std::string& argument) noexcept {
  const auto verb = verb_named(std::string_view(argument).substr(0, argument.find('\t')));
  return verb && *verb != ControlVerb::take && argument.find('\n') == argument.size() - 1;
}

bool may_be_asked(const ControlRequest& request) noexcept {
  switch (request.command) {
    case ControlCommand::pages:
    case ControlCommand::top:
    case ControlCommand::total:
      return true;
    case ControlCommand::correct:
      return is_of_one_page(request.argument);
    default:
      return false;
  }
}

std::string encode_question(const OwnerQuestion& question) {
  return fmt::format("{}\n{}\n{}\n{}\n{}", question.until_ms, question.at_private_address ? "private" : "public",
                     one_line(question.from), one_line(question.key), encode_request(question.request));
}

OwnerQuestion decode_question(std::string_view text) {
  OwnerQuestion question;
  std::string_view rest = text;
  const bool is_number = parse_decimal(take_until(rest, '\n'), question.until_ms);
  const std::string_view entrance = take_until(rest, '\n');
  if (!is_number || (entrance != "private" && entrance != "public")) throw Error("this is no question of an owner");
  question.at_private_address = entrance == "private";
  question.from = take_until(rest, '\n');
  question.key = take_until(rest, '\n');
  question.request = decode_request(take_until(rest, '\n'));
  return question;
}

std::string encode_owner_answer(const OwnerAnswer& answer) {
  const auto* const word = std::ranges::find(verdict_words, answer.verdict, [](const auto& one) { return one.first; });
  return fmt::format("{}\n{}", word->second, encode_answer(answer.answer));
}

OwnerAnswer decode_owner_answer(std::string_view text) {
  std::string_view rest = text;
  const std::string_view said = take_until(rest, '\n');
  const auto* const word = std::ranges::find(verdict_words, said, [](const auto& one) { return one.second; });
  if (word == verdict_words.end()) throw error("'{}' is no answer to a question of an owner", said);
  return {word->first, word->first == OwnerAnswer::Verdict::answered ? decode_answer(rest) : ControlAnswer{}};
}

}  // namespace visitd
