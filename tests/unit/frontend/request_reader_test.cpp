#include "frontend/http/request_reader.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

namespace visitd {
namespace {

using Outcome = RequestReader::Outcome;

constexpr ReaderLimits limits{512, 512, 8, 64};

/// Reads as a connection does: requests are noted when their head is complete, and what came of all bytes in the end.
class Feed {
 public:
  void take(std::string_view bytes) {
    if (refused_) return;
    unread_.append(bytes);
    while (step()) continue;
  }
  [[nodiscard]] std::string result() const {
    if (refused_) return said_;
    return said_ + (in_body_ ? "in body" : unread_.empty() ? "end" : "in head");
  }

 private:
  bool step() {
    if (in_body_) return step_body();
    if (unread_.empty()) return false;
    const Outcome outcome = reader_.read_head(unread_);
    if (outcome == Outcome::incomplete) return false;
    if (outcome == Outcome::refused) return refuse();
    const RequestHead& head = reader_.head();
    said_.append(head.method_text).append(" ").append(head.path);
    if (head.expects_continue) said_ += " continue";
    if (head.keep_alive == head.minor_version_0) said_ += head.keep_alive ? " keep" : " close";
    said_ += "; ";
    in_body_ = true;
    unread_.erase(0, head.size);
    return true;
  }
  bool step_body() {
    std::size_t consumed = 0;
    const Outcome outcome = reader_.read_body(unread_, consumed, nullptr);
    unread_.erase(0, consumed);
    if (outcome == Outcome::refused) return refuse();
    in_body_ = outcome == Outcome::incomplete;
    return !in_body_;
  }
  bool refuse() {
    refused_ = true;
    said_ += describe(reader_.refusal()).name;
    return false;
  }

  RequestReader reader_{limits};
  std::string unread_;
  std::string said_;
  bool in_body_ = false;
  bool refused_ = false;
};

std::string fed_whole(std::string_view bytes) {
  Feed feed;
  feed.take(bytes);
  return feed.result();
}

std::string fed_bytewise(std::string_view bytes) {
  Feed feed;
  for (const char& byte : bytes) feed.take({&byte, 1});
  return feed.result();
}

std::string fed_split(std::string_view bytes, std::size_t at) {
  Feed feed;
  feed.take(bytes.substr(0, at));
  feed.take(bytes.substr(at));
  return feed.result();
}

struct Case {
  std::string bytes;
  std::string result;
};

void check_all(const std::vector<Case>& cases) {
  for (const Case& each : cases) {
    CAPTURE(each.bytes);
    CHECK(fed_whole(each.bytes) == each.result);
    CHECK(fed_bytewise(each.bytes) == each.result);
    for (std::size_t at = 1; at < each.bytes.size(); ++at) {
      CAPTURE(at);
      REQUIRE(fed_split(each.bytes, at) == each.result);
    }
  }
}

/// A head whose fields are these lines.
std::string get(std::string_view lines) {
  return "GET / HTTP/1.1\r\n" + std::string(lines) + "\r\n";
}
std::string post(std::string_view lines, std::string_view body = "") {
  return "POST /p HTTP/1.1\r\nHost: a\r\n" + std::string(lines) + "\r\n" + std::string(body);
}
std::string chunked(std::string_view body) {
  return post("Transfer-Encoding: chunked\r\n", body);
}
/// A target by itself.
std::string target(std::string_view text, std::string_view method = "GET") {
  return std::string(method) + " " + std::string(text) + " HTTP/1.1\r\nHost: a\r\n\r\n";
}

using namespace std::string_literals;

TEST_CASE("requests are read as they were meant, however they are split") {
  check_all({
      {get("Host: a\r\n"), "GET /; end"},
      {get("host:a\r\n"), "GET /; end"},
      {get("HOST:\t a.example:8000 \t\r\n"), "GET /; end"},
      {get("Host: [::1]:8000\r\n"), "GET /; end"},
      {get("Host: a\r\nX:\r\n"), "GET /; end"},
      {get("Host: a\r\nX-Long: tabs\tand \x80\xFF high bytes, far beyond eight at a time\r\n"), "GET /; end"},
      {"\r\n" + get("Host: a\r\n"), "GET /; end"},
      {get("Host: a\r\nConnection: close\r\n"), "GET / close; end"},
      {get("Host: a\r\nConnection: Close, TE\r\n"), "GET / close; end"},
      {get("Host: a\r\nConnection: keep-alive\r\nConnection: upgrade ,close\r\n"), "GET / close; end"},
      {"GET / HTTP/1.0\r\n\r\n", "GET /; end"},
      {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "GET / keep; end"},
      {"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", "GET /; end"},
      {"GET / HTTP/1.5\r\nHost: a\r\n\r\n", "GET /; end"},
      {"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", "BREW /pot; end"},
      {target("/visits/a%2Fb?x=/y&z"), "GET /visits/a%2Fb; end"},
      {target("/a//b/../c"), "GET /a//b/../c; end"},
      {target("http://host.example:80/visits/a?q"), "GET /visits/a; end"},
      {target("HTTPS://h"), "GET /; end"},
      {target("http://h?q"), "GET /; end"},
      {target("*", "OPTIONS"), "OPTIONS *; end"},
      {get("Host: a\r\n") + get("Host: b\r\n"), "GET /; GET /; end"},
      {post(""), "POST /p; end"},
      {post("Content-Length: 0\r\n"), "POST /p; end"},
      {post("Content-Length: 0003\r\n", "abc"), "POST /p; end"},
      {post("Content-Length: 64\r\n", std::string(64, 'x') + get("Host: a\r\n")), "POST /p; GET /; end"},
      {post("Content-Length: 3\r\n", "ab"), "POST /p; in body"},
      {post("Content-Length: 14\r\n", "GET / HTTP/1.1" + get("Host: a\r\n")), "POST /p; GET /; end"},
      {post("Content-Length: 3\r\nExpect: 100-Continue\r\n"), "POST /p continue; in body"},
      {post("Expect: 100-continue\r\n"), "POST /p; end"},
      {"POST /p HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", "POST /p; end"},
      {chunked("0\r\n\r\n"), "POST /p; end"},
      {chunked("3\r\nabc\r\n000\r\n\r\n" + get("Host: a\r\n")), "POST /p; GET /; end"},
      {chunked("2;x=\"y\"\r\nab\r\nA ;z\r\n0123456789\r\n0;last\r\nTrailer: t\r\nOther:\r\n\r\n"), "POST /p; end"},
      {post("Transfer-Encoding: ChunKed\r\n", "40\r\n" + std::string(64, 'x') + "\r\n0\r\n\r\n"), "POST /p; end"},
      {chunked("1;a=\"x;\\\"y\\\\\";b\r\nx\r\n0\r\n\r\n"), "POST /p; end"},
      {chunked("3\r\nabc\r\n"), "POST /p; in body"},
      {get("Host: a\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\nF: 1\r\nG: 1\r\n"), "GET /; end"},
      {"GET /" + std::string(470, 'x') + " HTTP/1.1\r\nHost: a\r\n\r\n", "GET /" + std::string(470, 'x') + "; end"},
      {"", "end"},
      {"GET / HT", "in head"},
      {"GET / HTTP/1.1\r\nHost: a\r\n\r", "in head"},
      {"\r", "in head"},
  });
}

TEST_CASE("what two parties could read differently is refused, however it is split") {
  check_all({
      {post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), "length-ambiguous"},
      {post("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", "0\r\n\r\n"), "length-ambiguous"},
      {post("Content-Length: 3\r\nContent-Length: 4\r\n"), "content-length-repeated"},
      {post("Content-Length: 3\r\nContent-Length: 3\r\n"), "content-length-repeated"},
      {post("Content-Length: 3, 3\r\n"), "content-length-malformed"},
      {post("Content-Length: -1\r\n"), "content-length-malformed"},
      {post("Content-Length: +1\r\n"), "content-length-malformed"},
      {post("Content-Length: 0x10\r\n"), "content-length-malformed"},
      {post("Content-Length: 1 0\r\n"), "content-length-malformed"},
      {post("Content-Length:\r\n"), "content-length-malformed"},
      {post("Content-Length: 18446744073709551617\r\n"), "content-length-malformed"},
      {post("Content-Length: 65\r\n"), "body-too-large"},
      {post("Transfer-Encoding: gzip, chunked\r\n"), "transfer-encoding-unsupported"},
      {post("Transfer-Encoding: chunked, chunked\r\n"), "transfer-encoding-unsupported"},
      {post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "transfer-encoding-unsupported"},
      {post("Transfer-Encoding: \x0B"
            "chunked\r\n"),
       "control-character"},
      {post("Transfer-Encoding: xchunked\r\n"), "transfer-encoding-unsupported"},
      {post("Transfer-Encoding: identity\r\n"), "transfer-encoding-unsupported"},
      {post("Transfer-Encoding:\r\n"), "transfer-encoding-unsupported"},
      {"POST /p HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "transfer-encoding-unsupported"},
      {post("Transfer-Encoding : chunked\r\n"), "space-before-colon"},
      {post("Content-Length\t: 3\r\n"), "space-before-colon"},
      {post("X: a\r\n b\r\n"), "folded-field"},
      {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", "folded-field"},
      {get("Host: a\r\nX: a\rb\r\n"), "bare-line-break"},
      {get("Host: a\r\nX: a\nY: b\r\n"), "bare-line-break"},
      {"GET / HTTP/1.1\nHost: a\n\n", "bare-line-break"},
      {"GET / HTTP/1.1\r\nHost: a\r\n\n", "bare-line-break"},
      {"GET / HTTP/1.1\rHost: a\r\n\r\n", "bare-line-break"},
      {"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "bare-line-break"},
      {"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "malformed-request-line"},
      {get("Host: a\r\nX: a\0b\r\n"s), "control-character"},
      {get("Host: a\r\nX: a\x7F\r\n"), "control-character"},
      {get("Host: a\r\nX\0: a\r\n"s), "control-character"},
      {"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"s, "control-character"},
      {get("Host: a\r\n: x\r\n"), "malformed-field-name"},
      {get("Host: a\r\nnothing\r\n"), "malformed-field-name"},
      {get("Host: a\r\nX(y): a\r\n"), "malformed-field-name"},
      {get("Host: a\r\nX\x80: a\r\n"), "malformed-field-name"},
      {get(""), "host-missing"},
      {get("Host: a\r\nHost: a\r\n"), "host-repeated"},
      {get("Host:\r\n"), "host-malformed"},
      {get("Host: a b\r\n"), "host-malformed"},
      {get("Host: a/b\r\n"), "host-malformed"},
      {get("Host: u@a\r\n"), "host-malformed"},
      {get("Host: a:80x\r\n"), "host-malformed"},
      {get("Host: [::1\r\n"), "host-malformed"},
      {"GET /\r\n", "malformed-request-line"},
      {"GET / HTTP/0.9\r\n\r\n", "malformed-request-line"},
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "malformed-target"},
      {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", "unsupported-version"},
      {"GET / HTTP/3\r\nHost: a\r\n\r\n", "unsupported-version"},
      {"GET / HTTP/1.11\r\nHost: a\r\n\r\n", "malformed-request-line"},
      {"GET / http/1.1\r\nHost: a\r\n\r\n", "malformed-request-line"},
      {"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "malformed-request-line"},
      {"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "malformed-target"},
      {"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "malformed-request-line"},
      {" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "malformed-request-line"},
      {"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "malformed-request-line"},
      {"\x16\x03\x01\x02", "control-character"},
      {target("*"), "malformed-target"},
      {target("a.example:443", "CONNECT"), "malformed-target"},
      {target("visits/a"), "malformed-target"},
      {target("ftp://h/"), "malformed-target"},
      {target("http:///x"), "malformed-target"},
      {target("http://u@h/"), "malformed-target"},
      {target("/a#b"), "malformed-target"},
      {target("/\xC3\xBC"), "malformed-target"},
      {get("Host: a\r\nExpect: a-pony\r\n"), "expectation-unknown"},
      {"GET /" + std::string(600, 'x'), "target-too-long"},
      {get("Host: a\r\nX: " + std::string(600, 'x')), "head-too-large"},
      {get("Host: a\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\nF: 1\r\nG: 1\r\nH: 1\r\n"), "too-many-fields"},
  });
}

TEST_CASE("a malformed body is refused after its request was read, however it is split") {
  check_all({
      {chunked("\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("x\r\n"), "POST /p; malformed-chunk"},
      {chunked("-1\r\n"), "POST /p; malformed-chunk"},
      {chunked("0x3\r\nabc\r\n0\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("3 \r\nabc\r\n0\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked(" 3\r\nabc\r\n0\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("3\nabc\r\n0\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("3\rxabc\r\n0\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("3;a\nb\r\nabc\r\n0\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("3;a\0b\r\nabc\r\n0\r\n\r\n"s), "POST /p; malformed-chunk"},
      {chunked("1;a=\"\r\nx\r\n0\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("1;a=\"x\\\"\r\nx\r\n0\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("1;a=\"x\\\r\nx\r\n0\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("3\r\nabcd\r\n0\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("3\r\nabc\n0\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("3\r\nabc0\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("0\r\n folded: x\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("0\r\nname : x\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("0\r\nname: x\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("0\r\nname\r\n\r\n"), "POST /p; malformed-chunk"},
      {chunked("0\r\n\rx"), "POST /p; malformed-chunk"},
      {chunked("41\r\n"), "POST /p; body-too-large"},
      {chunked("20\r\n" + std::string(32, 'x') + "\r\n21\r\n"), "POST /p; body-too-large"},
      {chunked("ffffffffffffffffffff\r\n"), "POST /p; body-too-large"},
      {chunked(std::string(600, '0')), "POST /p; malformed-chunk"},
      {chunked("0\r\nX: " + std::string(600, 'x')), "POST /p; head-too-large"},
      {chunked("0\r\n" + std::string("A:\r\nB:\r\nC:\r\nD:\r\nE:\r\nF:\r\nG:\r\nH:\r\nI:\r\n\r\n")),
       "POST /p; too-many-fields"},
  });
}

TEST_CASE("a head's fields are handed on as they came") {
  RequestReader reader(limits);
  const std::string bytes = "\r\nGET /x?q HTTP/1.1\r\nHost: a\r\nOrigin:  http://o \r\n\r\nrest";
  REQUIRE(reader.read_head(bytes) == Outcome::complete);
  CHECK(reader.head().fields == "Host: a\r\nOrigin:  http://o \r\n");
  CHECK(reader.head().origin == "http://o");
  CHECK(reader.head().target == "/x?q");
  CHECK(bytes.substr(reader.head().size) == "rest");
}

TEST_CASE("what a target or a field's value may hold is the same wherever in it a byte stands") {
  // Behind the place there are as many bytes as a word has, and more.
  const auto outcome_with = [](std::string head, std::size_t begin, std::size_t place, int byte) {
    head[begin + place] = static_cast<char>(byte);
    return RequestReader(limits).read_head(head);
  };
  const std::string head =
      "GET /" + std::string(32, 't') + " HTTP/1.1\r\nHost: a\r\nX: " + std::string(32, 'v') + "\r\n\r\n";
  const std::size_t target = head.find('t');
  const std::size_t value = head.find('v');
  for (int byte = 0; byte < 256; ++byte) {
    CAPTURE(byte);
    const bool in_target = byte > ' ' && byte < 0x7F && byte != '#';
    const bool in_value = byte == '\t' || (byte >= ' ' && byte != 0x7F);
    for (std::size_t place = 0; place < 24; ++place) {
      CAPTURE(place);
      REQUIRE(outcome_with(head, target, place, byte) == (in_target ? Outcome::complete : Outcome::refused));
      REQUIRE(outcome_with(head, value, place, byte) == (in_value ? Outcome::complete : Outcome::refused));
    }
  }
}

TEST_CASE("a target has a limit of its own, whatever room the head has") {
  const ReaderLimits few{512, 16, 8, 64};
  RequestReader reader(few);
  CHECK(reader.read_head("GET /12345678901234x HTTP/1.1\r\nHost: a\r\n\r\n") == RequestReader::Outcome::complete);
  CHECK(reader.read_head("GET /123456789012345x HTTP/1.1\r\nHost: a\r\n\r\n") == RequestReader::Outcome::refused);
  CHECK(reader.refusal() == Refusal::target_too_long);
}

TEST_CASE("the content of a body is handed over decoded, however it is split") {
  const auto content_of = [](std::string_view request, std::size_t piece) {
    RequestReader reader(limits);
    REQUIRE(reader.read_head(request) == RequestReader::Outcome::complete);
    std::string content;
    for (request.remove_prefix(reader.head().size); !request.empty();) {
      std::size_t consumed = 0;
      const auto outcome = reader.read_body(request.substr(0, piece), consumed, &content);
      REQUIRE(outcome != RequestReader::Outcome::refused);
      request.remove_prefix(consumed);
      if (outcome == RequestReader::Outcome::complete) break;
    }
    return content + "|" + std::string(request);
  };
  for (const std::size_t piece : {1, 2, 3, 5, 100}) {
    CAPTURE(piece);
    CHECK(content_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET", piece) == "hello|GET");
    CHECK(content_of("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "2;a=b\r\nhe\r\n03\r\nllo\r\n0\r\nX: y\r\n\r\nGET",
                     piece) == "hello|GET");
  }
}

}  // namespace
}  // namespace visitd
