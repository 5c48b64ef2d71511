#include "common/control/owner_question.hpp"

#include <doctest/doctest.h>

#include <string>

#include "common/os/errors.hpp"

using namespace visitd;

namespace {

std::string set_line(const std::string& page, const std::string& count) {
  std::string argument;
  append_change(argument, ControlVerb::set, page, count);
  return argument;
}

}  // namespace

TEST_CASE("a question of an owner is read back as it was asked") {
  const std::string page = "a \"page\" with \\ and größe";
  const OwnerQuestion asked{123456, true, "192.0.2.1", "the key", {ControlCommand::correct, set_line(page, "5"), 2500}};
  const OwnerQuestion read = decode_question(encode_question(asked));
  CHECK(read.until_ms == 123456);
  CHECK(read.at_private_address);
  CHECK(read.from == "192.0.2.1");
  CHECK(read.key == "the key");
  CHECK(read.request.command == ControlCommand::correct);
  CHECK(read.request.argument == set_line(page, "5"));
  CHECK(read.request.timeout_ms == 2500);
  const OwnerQuestion odd{1, false, "two\nlines", "a\nb", {ControlCommand::pages, "0"}};
  CHECK(decode_question(encode_question(odd)).key == "a b");
  CHECK_FALSE(decode_question(encode_question(odd)).at_private_address);
}

TEST_CASE("what is no question of an owner is refused") {
  for (const char* text : {"", "5", "x\nprivate\n\n\n{\"command\":\"pages\",\"argument\":\"0\"}", "5\nnowhere\n\n\n{}",
                           "5\nprivate\n\n\n", "5\npublic\n\n\n{\"command\":\"drop\"}"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(static_cast<void>(decode_question(text)), Error);
  }
}

TEST_CASE("frontends may ask for lists, and for one change of one count by a number") {
  CHECK(may_be_asked({ControlCommand::pages, "0"}));
  CHECK(may_be_asked({ControlCommand::top, "10"}));
  CHECK(may_be_asked({ControlCommand::total}));
  CHECK(may_be_asked({ControlCommand::correct, set_line("page", "5")}));
  CHECK_FALSE(may_be_asked({ControlCommand::correct, set_line("page", "5") + set_line("other", "6")}));
  CHECK(may_be_asked({ControlCommand::correct, "add\tpage\t5\n"}));
  CHECK(may_be_asked({ControlCommand::correct, "lower\tpage\t5\n"}));
  CHECK_FALSE(may_be_asked({ControlCommand::correct, "lower\tpage\t5\n" + set_line("page", "5")}));
  CHECK_FALSE(may_be_asked({ControlCommand::correct, "lowers\tpage\t5\n"}));
  CHECK_FALSE(may_be_asked({ControlCommand::correct, "take\tpage\tother\n"}));
  CHECK_FALSE(may_be_asked({ControlCommand::correct, ""}));
  for (const ControlCommand command :
       {ControlCommand::flush, ControlCommand::page, ControlCommand::accept, ControlCommand::change_shards,
        ControlCommand::moves, ControlCommand::shards, ControlCommand::writers, ControlCommand::forget,
        ControlCommand::import, ControlCommand::corrections}) {
    CHECK_FALSE(may_be_asked({command, "x"}));
  }
}

TEST_CASE("an answer to an owner is read back") {
  const OwnerAnswer answered{OwnerAnswer::Verdict::answered, {true, "", {{"next", "17"}}, {{"buckets", 64}}}};
  const OwnerAnswer read = decode_owner_answer(encode_owner_answer(answered));
  CHECK(read.verdict == OwnerAnswer::Verdict::answered);
  CHECK(read.answer.ok);
  CHECK(read.answer.text == answered.answer.text);
  CHECK(read.answer.numbers == answered.answer.numbers);
  for (const auto verdict :
       {OwnerAnswer::Verdict::key_needed, OwnerAnswer::Verdict::key_wrong, OwnerAnswer::Verdict::key_unset}) {
    CHECK(decode_owner_answer(encode_owner_answer({verdict})).verdict == verdict);
  }
  CHECK_THROWS_AS(static_cast<void>(decode_owner_answer("granted\n{}")), Error);
  CHECK_THROWS_AS(static_cast<void>(decode_owner_answer("answered\n")), Error);
}
