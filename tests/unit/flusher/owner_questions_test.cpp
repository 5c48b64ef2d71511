#include "flusher/owner_questions.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <vector>

#include "common/os/errors.hpp"
#include "flusher/owner_key.hpp"

namespace visitd {

namespace {

const std::string owners_key = "sixteen-or-more-bytes";

/// Answers when it is told to.
struct Commands : ControlHandler {
  void handle(const ControlRequest& request, ControlReply reply) override {
    if (throws) throw Error("there is no such page");
    asked.push_back(request);
    replies.push_back(std::move(reply));
  }
  void on_fault(const std::string&) noexcept override {}

  std::vector<ControlRequest> asked;
  std::vector<ControlReply> replies;
  bool throws = false;
};

/// A ring and a cache of two lanes, and whoever looks at them.
struct QuestionHost {
  QuestionHost()
      : ring(Ring::make({2, 4096, 64}, std::vector<FileIdentity>(2))), cache(Cache::make({2, 16, 8, 64}, ring.id())) {
    settings.owner.key.text = owners_key;
    begin();
  }
  QuestionHost(const QuestionHost&) = delete;
  QuestionHost& operator=(const QuestionHost&) = delete;
  ~QuestionHost() {
    ring.segment().remove();
    cache.segment().remove();
  }

  /// A flusher's life.
  void begin() {
    questions.emplace(ring, cache, commands, settings, [this](std::uint32_t lane) { woken.push_back(lane); });
  }
  void ask(std::uint64_t number, OwnerQuestion question, std::uint32_t lane = 0) {
    ring.question(lane).write(number, encode_question(question));
    questions->look(1000);
  }
  [[nodiscard]] std::optional<OwnerAnswer> answer(std::uint64_t number, std::uint32_t lane = 0) const {
    const auto text = cache.answer(lane).read(number);
    return text ? std::optional(decode_owner_answer(*text)) : std::nullopt;
  }
  [[nodiscard]] OwnerAnswer::Verdict verdict(OwnerQuestion question) {
    static std::uint64_t number = 1000;
    commands.replies.clear();
    ask(++number, std::move(question));
    if (!commands.replies.empty()) commands.replies[0]({true, "", {}, {}});
    return answer(number)->verdict;
  }

  Ring ring;
  Cache cache;
  Commands commands;
  Settings settings;
  std::vector<std::uint32_t> woken;
  std::optional<OwnerQuestions> questions;
};

OwnerQuestion to_list(bool at_private_address = true, std::string key = {}) {
  return {5000, at_private_address, "192.0.2.1", std::move(key), {ControlCommand::pages, "0", 9000}};
}
OwnerQuestion to_set(bool at_private_address = true, std::string key = {}) {
  return {5000, at_private_address, "192.0.2.1", std::move(key), {ControlCommand::correct, "set\tpage\t5\n", 9000}};
}

}  // namespace

TEST_CASE("a question is handed on once, and its answer wakes the lane") {
  QuestionHost host;
  host.ask(7, to_set(), 1);
  host.questions->look(1001);
  REQUIRE(host.commands.asked.size() == 1);
  CHECK(host.commands.asked[0].by == "the owner over HTTP, from 192.0.2.1");
  CHECK(host.commands.asked[0].timeout_ms == 4000);
  CHECK(host.commands.asked[0].answer_bytes == answer_slot_bytes);
  CHECK(host.woken.empty());
  CHECK_FALSE(host.answer(7, 1).has_value());
  host.commands.replies[0]({true, "", {{"page", "page"}}, {}});
  CHECK(host.answer(7, 1)->answer.text[0].second == "page");
  CHECK(host.woken == std::vector<std::uint32_t>{1});
}

TEST_CASE("a later life does not do again what was answered, and does what was not") {
  QuestionHost host;
  host.ask(7, to_set());
  host.commands.replies[0]({true, "", {}, {}});
  host.ask(8, to_set(), 1);
  host.begin();
  host.questions->look(1000);
  CHECK(host.commands.asked.size() == 3);
  host.commands.replies[1]({true, "", {}, {}});
  CHECK_FALSE(host.answer(8, 1).has_value());  // of the life before: it has ended
  host.commands.replies[2]({true, "", {}, {}});
  CHECK(host.answer(8, 1).has_value());
}

TEST_CASE("the answer to a question that was forgotten takes no other one's place") {
  QuestionHost host;
  host.ask(7, to_list());
  host.ask(8, to_set());
  host.commands.replies[1]({true, "", {}, {}});
  host.commands.replies[0]({true, "", {}, {}});
  CHECK(host.answer(8).has_value());
  CHECK(host.woken.size() == 1);
}

TEST_CASE("a question that nobody waits for any more is not done") {
  QuestionHost host;
  OwnerQuestion late = to_set();
  late.until_ms = 1000;
  host.ask(7, late);
  CHECK(host.commands.asked.empty());
}

TEST_CASE("what goes wrong is answered") {
  QuestionHost host;
  host.commands.throws = true;
  host.ask(7, to_set());
  CHECK(host.answer(7)->answer.error == "there is no such page");
  host.ring.question(0).write(8, "this is none");
  host.questions->look(1000);
  CHECK_FALSE(host.answer(8)->answer.ok);
  host.ask(9, {5000, true, "", "", {ControlCommand::flush}});
  CHECK(host.answer(9)->answer.error == "no frontend may ask the flusher for that");
  host.commands.throws = false;
  host.ask(10, to_list());
  host.commands.replies.back()({true, "", {{"lines", std::string(answer_slot_bytes, 'x')}}, {}});
  CHECK(host.answer(10)->answer.error.find("a frontend is given at most") != std::string::npos);
}

TEST_CASE("who may ask: at a private address, with the key, or everybody where lists are public") {
  using Verdict = OwnerAnswer::Verdict;
  QuestionHost host;
  CHECK(host.verdict(to_set(true)) == Verdict::answered);
  CHECK(host.verdict(to_set(false)) == Verdict::key_needed);
  CHECK(host.verdict(to_set(false, "another")) == Verdict::key_wrong);
  CHECK(host.verdict(to_set(false, owners_key)) == Verdict::answered);
  CHECK(host.verdict(to_list(false)) == Verdict::key_needed);
  host.settings.owner.public_lists = true;
  CHECK(host.verdict(to_list(false)) == Verdict::answered);
  CHECK(host.verdict(to_set(false)) == Verdict::key_needed);
  host.settings.owner.key_at_private_address = true;
  CHECK(host.verdict(to_set(true)) == Verdict::key_needed);
  CHECK(host.verdict(to_set(true, owners_key)) == Verdict::answered);
  host.settings.owner.key.text.clear();
  CHECK(host.verdict(to_set(true, owners_key)) == Verdict::key_unset);
  CHECK(host.verdict(to_set(false)) == Verdict::key_unset);
}

TEST_CASE("a key is the owner's if all of it is") {
  CHECK(is_owner_key(owners_key, owners_key));
  CHECK_FALSE(is_owner_key("", owners_key));
  CHECK_FALSE(is_owner_key("", ""));
  CHECK_FALSE(is_owner_key(owners_key, ""));
  CHECK_FALSE(is_owner_key(owners_key + owners_key, owners_key));
  for (std::size_t i = 0; i < owners_key.size(); ++i) {
    std::string other = owners_key;
    other[i] ^= 1;
    CHECK_FALSE(is_owner_key(other, owners_key));
    CHECK_FALSE(is_owner_key(owners_key.substr(0, i), owners_key));
  }
}

}  // namespace visitd
