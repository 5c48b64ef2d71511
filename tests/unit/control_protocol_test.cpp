#include "common/control/control_protocol.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <iterator>
#include <random>
#include <string>

#include "common/os/errors.hpp"

namespace visitd::test {
namespace {

ControlRequest sent_and_read(const ControlRequest& request) {
  std::string line = encode_request(request);
  REQUIRE(line.back() == '\n');
  line.pop_back();
  REQUIRE(line.find('\n') == std::string::npos);
  return decode_request(line);
}

ControlAnswer sent_and_read(const ControlAnswer& answer) {
  std::string line = encode_answer(answer);
  REQUIRE(line.back() == '\n');
  line.pop_back();
  REQUIRE(line.find('\n') == std::string::npos);
  return decode_answer(line);
}

}  // namespace

TEST_CASE("a control request is read as it was written") {
  for (const ControlRequest& request : {
           ControlRequest{ControlCommand::flush, "", 20'000},
           ControlRequest{ControlCommand::page, "h\xC3\xB6me \"/\\ \x7F", 0},
           ControlRequest{ControlCommand::accept, "redis_7070", 10'000, 0x00000000DEADBEEF},
           ControlRequest{ControlCommand::accept, "redis_7070", 600'000, ~std::uint64_t{0}},
       }) {
    const ControlRequest read = sent_and_read(request);
    CHECK(read.command == request.command);
    CHECK(read.argument == request.argument);
    CHECK(read.timeout_ms == request.timeout_ms);
    CHECK(read.token == request.token);
  }
}

TEST_CASE("control requests look as they are documented") {
  CHECK(encode_request({ControlCommand::flush, "", 20'000}) == "{\"command\":\"flush\",\"timeout_ms\":20000}\n");
  CHECK(encode_request({ControlCommand::accept, "redis_7070", 5, 0x5d41402abc4b2a76}) ==
        "{\"command\":\"accept\",\"argument\":\"redis_7070\",\"timeout_ms\":5,\"token\":\"5d41402abc4b2a76\"}\n");
}

TEST_CASE("a control request without a timeout has one, and a longer one than any is cut") {
  CHECK(decode_request(R"({"command":"flush"})").timeout_ms == 10'000);
  CHECK(decode_request(R"({"command":"flush","timeout_ms":18446744073709551615})").timeout_ms == 600'000);
  CHECK_FALSE(decode_request(R"({"command":"accept","argument":"a"})").token);
}

TEST_CASE("what is no control request is refused with what is wrong") {
  const auto refused = [](std::string_view line, const char* why) {
    CAPTURE(line);
    CHECK_THROWS_WITH_AS(static_cast<void>(decode_request(line)), doctest::Contains(why), Error);
  };
  for (const char* line :
       {"", " ", "flush", "[]", "null", "{", R"({"command":"flush"}{})", "\xff", "{\"command\":\"\xff\"}"})
    refused(line, "one JSON object");
  refused(std::string(control_request_bytes, '['), "one JSON object");
  for (const char* line :
       {"{}", R"({"command":""})", R"({"command":"stop"})", R"({"command":"Flush"})", R"({"timeout_ms":1})"})
    refused(line, "unknown command; this flusher knows flush, page, accept");
  for (const char* line :
       {R"({"command":1})", R"({"command":null})", R"({"command":"page","argument":["home"]})",
        R"({"command":"flush","timeout_ms":-1})", R"({"command":"flush","timeout_ms":1.5})",
        R"({"command":"flush","timeout_ms":"1"})", R"({"command":"flush","timeout_ms":18446744073709551616})",
        R"({"command":"flush","more":""})", R"({"command":"accept","argument":"a","token":1})"})
    refused(line, "nothing else");
  for (const char* token : {"", "y", "0x1", "-1", "1 ", "10000000000000000"})
    refused(std::string(R"({"command":"accept","argument":"a","token":")") + token + "\"}", "is no token of an offer");
  refused(R"({"command":"flush","argument":"home"})", "flush takes no argument");
  refused(R"({"command":"page"})", "page needs an argument: a page id");
  refused(R"({"command":"accept","argument":""})", "accept needs an argument: a shard's name");
}

TEST_CASE("a control answer is read as it was written") {
  const ControlAnswer done = sent_and_read(ControlAnswer{
      true, "", {{"shard", "redis_7070"}, {"field", "\n\"41\""}}, {{"count", ~std::uint64_t{0}}, {"open", 0}}});
  CHECK(done.ok);
  CHECK(done.error.empty());
  CHECK(done.text == decltype(done.text){{"shard", "redis_7070"}, {"field", "\n\"41\""}});
  CHECK(done.numbers == decltype(done.numbers){{"count", ~std::uint64_t{0}}, {"open", 0}});
  const ControlAnswer listed = sent_and_read(
      ControlAnswer{true, "", {}, {}, {{{{"name", "redis_7070"}}, {{"memory_bytes", 9}}}, {{{"name", "\n"}}, {}}}});
  REQUIRE(listed.rows.size() == 2);
  CHECK(listed.rows[0].text == decltype(listed.text){{"name", "redis_7070"}});
  CHECK(listed.rows[0].numbers == decltype(listed.numbers){{"memory_bytes", 9}});
  CHECK(listed.rows[1].text == decltype(listed.text){{"name", "\n"}});
  const ControlAnswer refused = sent_and_read(ControlAnswer{false, "redis_7070 is not held", {}, {{"visits", 1}}});
  CHECK_FALSE(refused.ok);
  CHECK(refused.error == "redis_7070 is not held");
  CHECK(refused.numbers.size() == 1);
  // What a shard holds may be no text: it is shown as far as it is.
  CHECK(sent_and_read(ControlAnswer{true, "", {{"field", "4\xff"}}, {}}).text.front().second == "4\xEF\xBF\xBD");
}

TEST_CASE("what is no control answer is refused, and of a refusal there is always a reason") {
  for (const char* line : {"", "hello", "[]", "{}", R"({"ok":1})", R"({"ok":true)", "\xff", R"({"ok":null})"}) {
    CAPTURE(line);
    CHECK_THROWS_WITH_AS(static_cast<void>(decode_answer(line)), doctest::Contains("no flusher"), Error);
  }
  for (const char* line : {R"({"ok":false})", R"({"ok":false,"error":1})", R"({"ok":false,"error":""})"})
    CHECK(decode_answer(line).error == "the flusher gives no reason");
  const ControlAnswer answer = decode_answer(R"({"ok":true,"lanes":[1],"visits":2,"late":true,"away":-1})");
  CHECK(answer.numbers == decltype(answer.numbers){{"visits", 2}});
  CHECK(answer.text.empty());
  CHECK(decode_answer(R"({"ok":true,"rows":[1,{"visits":[1]},"a"]})").rows.size() == 1);
  CHECK(decode_answer(R"({"ok":true,"rows":7})").rows.empty());
}

TEST_CASE("requests and answers with a byte changed, cut off or repeated are read or refused") {
  std::mt19937 random(1);
  const std::string lines[] = {encode_request({ControlCommand::accept, "redis_7070", 5, 0x5d41402abc4b2a76}),
                               encode_answer({true, "", {{"shard", "redis_7070"}}, {{"count", 41}}}),
                               encode_answer({true, "", {}, {}, {{{{"name", "a"}}, {{"visits", 1}}}, {}}}),
                               encode_answer({false, "it broke", {}, {}})};
  for (int n = 0; n < 20'000; ++n) {
    std::string line = lines[random() % std::size(lines)];
    for (std::size_t changes = 1 + random() % 3; changes > 0; --changes) {
      const std::size_t at = random() % (line.size() + 1);
      if (const auto how = random() % 3; how == 0 && at < line.size()) {
        line[at] = static_cast<char>(random());
      } else if (how == 1) {
        line.resize(at);
      } else {
        line.insert(at, line.substr(at / 2));
      }
    }
    CAPTURE(line);
    try {
      const ControlRequest request = decode_request(line);
      CHECK(sent_and_read(request).argument == request.argument);
    } catch (const Error&) {
    }
    try {
      const ControlAnswer answer = decode_answer(line);
      CHECK(sent_and_read(answer).ok == answer.ok);
    } catch (const Error&) {
    }
  }
}

}  // namespace visitd::test
