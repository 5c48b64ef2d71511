// The connection's reader: whatever comes, however it was split, it is read the same; nothing is read beyond what has
// come; what was accepted keeps the rules of RFC 9112, and reads the same when it is written anew.
//
// Input: how it is read, two places to split at, then what the client sends.
#include <sanitizer/asan_interface.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "frontend/http/request_reader.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace visitd {
namespace {

using fuzzing::Input;
using fuzzing::lower;
using fuzzing::require;

using Outcome = RequestReader::Outcome;

/// One request that was read whole. Places are counted from the first byte of the connection.
struct Request {
  RequestHead head;
  std::size_t begin = 0;
  std::size_t end = 0;
  std::string content;
};

/// All that came of the bytes of one connection.
struct Reading {
  std::vector<Request> requests;
  Refusal refusal = Refusal::none;
  std::size_t place = 0;  ///< of what was refused, or is not complete
  bool in_body = false;
  std::string content;  ///< of the body that is not complete
};

/// Reads as a connection does, with the bytes coming in parts that end at `ends`; those to come must not be looked at.
/// `keep`: whether bodies are kept.
Reading read(std::string_view bytes, std::span<const std::size_t> ends, const ReaderLimits& limits, bool keep) {
  Reading reading;
  RequestReader reader(limits);
  Request request;
  std::size_t at = 0;
  ASAN_POISON_MEMORY_REGION(bytes.data(), bytes.size());
  const auto stop = [&](Refusal refusal) {
    ASAN_UNPOISON_MEMORY_REGION(bytes.data(), bytes.size());
    reading.refusal = refusal;
    reading.place = at;
    reading.content = std::move(request.content);
    return std::move(reading);
  };
  for (const std::size_t end : ends) {
    ASAN_UNPOISON_MEMORY_REGION(bytes.data(), end);
    while (at < end) {
      if (!reading.in_body) {
        const Outcome outcome = reader.read_head(bytes.substr(at, end - at));
        if (outcome == Outcome::refused) return stop(reader.refusal());
        if (outcome == Outcome::incomplete) break;
        request.head = reader.head();
        request.begin = at;
        require(request.head.size > 0 && request.head.size <= end - at, "a head ends where bytes have come");
        at += request.head.size;
        reading.in_body = true;
      }
      std::size_t consumed = 0;
      const Outcome outcome = reader.read_body(bytes.substr(at, end - at), consumed, keep ? &request.content : nullptr);
      require(consumed <= end - at, "a body consumes what has come");
      at += consumed;
      if (outcome == Outcome::refused) return stop(reader.refusal());
      if (outcome == Outcome::incomplete) {
        require(at == end, "a body that goes on consumes all");
        break;
      }
      request.end = at;
      reading.requests.push_back(std::move(request));
      request = {};
      reading.in_body = false;
    }
  }
  return stop(Refusal::none);
}

/// The same text of the same place in the head.
void compare(std::string_view a, const RequestHead& head_a, std::string_view b, const RequestHead& head_b) {
  require(a == b, "the same text");
  // The path of a target that names none is not one of the client's.
  const auto inside = [](std::string_view text, const RequestHead& head) {
    return text.data() >= head.method_text.data() && text.data() < head.method_text.data() + head.size;
  };
  if (a.empty() || (a == "/" && !inside(a, head_a) && !inside(b, head_b))) return;
  require(a.data() - head_a.method_text.data() == b.data() - head_b.method_text.data(), "from the same place");
}

void compare(const Reading& a, const Reading& b, bool contents) {
  require(a.requests.size() == b.requests.size(), "the same number of requests");
  require(a.refusal == b.refusal, "the same refusal");
  require(a.place == b.place, "the same place");
  require(a.in_body == b.in_body, "the same state");
  require(!contents || a.content == b.content, "the same content that is not complete");
  for (std::size_t i = 0; i < a.requests.size(); ++i) {
    const Request& x = a.requests[i];
    const Request& y = b.requests[i];
    require(x.begin == y.begin && x.end == y.end && x.head.size == y.head.size, "the same place of a request");
    require(!contents || x.content == y.content, "the same content");
    require(x.head.method == y.head.method && x.head.minor_version_0 == y.head.minor_version_0 &&
                x.head.keep_alive == y.head.keep_alive && x.head.expects_continue == y.head.expects_continue &&
                x.head.asks_cross_origin == y.head.asks_cross_origin && x.head.chunked == y.head.chunked &&
                x.head.content_length == y.head.content_length,
            "the same head");
    for (const auto text : {&RequestHead::method_text, &RequestHead::target, &RequestHead::path, &RequestHead::query,
                            &RequestHead::origin, &RequestHead::fields}) {
      compare(x.head.*text, x.head, y.head.*text, y.head);
    }
  }
}

// --- what may be accepted, in the words of RFC 9110 and 9112

using Fields = std::vector<std::pair<std::string, std::string>>;

bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  });
}

bool is_value(std::string_view text) {
  return std::ranges::all_of(text, [](unsigned char c) { return c == '\t' || (c >= 0x20 && c != 0x7F); });
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

/// Names in lower case and values without white space around them.
Fields fields_of(std::string_view lines) {
  Fields fields;
  while (!lines.empty()) {
    const std::size_t end = lines.find("\r\n");
    require(end != std::string_view::npos, "each field line ends");
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(end + 2);
    const std::size_t colon = line.find(':');
    require(colon != std::string_view::npos, "a field has a colon");
    require(is_token(line.substr(0, colon)), "a field name is a token");
    require(is_value(line.substr(colon + 1)), "a field value has no control characters");
    fields.emplace_back(lower(line.substr(0, colon)), trim(line.substr(colon + 1)));
  }
  return fields;
}

/// The values of all fields of this name.
std::vector<std::string> values_of(const Fields& fields, std::string_view name) {
  std::vector<std::string> values;
  for (const auto& [own, value] : fields) {
    if (own == name) values.push_back(value);
  }
  return values;
}

bool has_option(const Fields& fields, std::string_view option) {
  for (const std::string& value : values_of(fields, "connection")) {
    std::string_view rest = value;
    for (bool more = true; more;) {
      const std::size_t comma = rest.find(',');
      if (lower(trim(rest.substr(0, comma))) == option) return true;
      more = comma != std::string_view::npos;
      if (more) rest.remove_prefix(comma + 1);
    }
  }
  return false;
}

/// A chunked body at the start of `bytes`, all of it there, decoded; and its length.
std::pair<std::string, std::size_t> decode_chunked(std::string_view bytes) {
  std::string content;
  std::size_t at = 0;
  const auto line = [&] {
    const std::size_t end = bytes.find("\r\n", at);
    require(end != std::string_view::npos, "a line of a chunked body ends");
    const std::string_view text = bytes.substr(at, end - at);
    require(is_value(text), "a line of a chunked body has no control characters");
    at = end + 2;
    return text;
  };
  for (;;) {
    const std::string_view text = line();
    std::size_t size = 0;
    std::size_t digits = 0;
    for (; digits < text.size() && std::string_view("0123456789abcdef").find(lower(text[digits])) != text.npos;
         ++digits) {
      size = size * 16 + std::string_view("0123456789abcdef").find(lower(text[digits]));
      require(size <= bytes.size(), "a chunk that was read was there");
    }
    require(digits > 0, "a chunk has a size");
    const std::string_view extension = trim(text.substr(digits));
    require(digits == text.size() || extension.starts_with(';'), "an extension begins with a semicolon");
    if (size == 0) break;
    content += bytes.substr(at, size);
    at += size;
    require(bytes.substr(at, 2) == "\r\n", "a chunk ends with a line break");
    at += 2;
  }
  for (std::string_view text = line(); !text.empty(); text = line()) {
    require(is_token(text.substr(0, text.find(':'))) && text.find(':') != text.npos, "a trailer is a field");
  }
  return {content, at};
}

/// Every rule for what was accepted.
void check(const Request& request, std::string_view bytes, const ReaderLimits& limits, bool kept) {
  const RequestHead& head = request.head;
  std::string_view text = bytes.substr(request.begin, head.size);
  require(text.size() <= limits.head_bytes, "a head keeps its limit");
  if (text.starts_with("\r\n")) text.remove_prefix(2);
  const std::string version = head.minor_version_0 ? "HTTP/1.0" : "HTTP/1.";
  const std::string line = std::string(head.method_text) + ' ' + std::string(head.target) + ' ' + version;
  require(text.starts_with(line), "method, target and version make the request line");
  text.remove_prefix(line.size());
  if (!head.minor_version_0) {
    require(text.front() >= '1' && text.front() <= '9', "a minor version is a digit");
    text.remove_prefix(1);
  }
  require(text == "\r\n" + std::string(head.fields) + "\r\n", "the rest is fields");
  require(is_token(head.method_text), "a method is a token");
  require(head.target.size() <= limits.target_bytes, "a target keeps its limit");
  require(std::ranges::all_of(head.target, [](unsigned char c) { return c > 0x20 && c < 0x7F && c != '#'; }),
          "a target is visible ASCII");
  constexpr std::array<std::pair<std::string_view, Method>, 6> methods{{{"GET", Method::get},
                                                                        {"HEAD", Method::head},
                                                                        {"POST", Method::post},
                                                                        {"PUT", Method::put},
                                                                        {"DELETE", Method::delete_},
                                                                        {"OPTIONS", Method::options}}};
  const auto method = std::ranges::find(methods, head.method_text, &std::pair<std::string_view, Method>::first);
  require(head.method == (method == methods.end() ? Method::other : method->second), "the method is what it says");

  const Fields fields = fields_of(head.fields);
  require(fields.size() <= limits.header_count, "fields keep their limit");
  const std::size_t hosts = values_of(fields, "host").size();
  require(hosts == 1 || (hosts == 0 && head.minor_version_0), "there is one Host");
  const auto lengths = values_of(fields, "content-length");
  const auto codings = values_of(fields, "transfer-encoding");
  require(lengths.size() + codings.size() <= 1, "the length of a body is said once");
  require(head.chunked == !codings.empty(), "chunked is what says so");
  require(codings.empty() || (lower(codings[0]) == "chunked" && !head.minor_version_0), "no other coding");
  if (!lengths.empty()) {
    require(!lengths[0].empty() && lengths[0].size() <= 18, "a length has digits");
    require(lengths[0].find_first_not_of("0123456789") == std::string::npos, "a length has digits alone");
  }
  require(head.content_length == (lengths.empty() ? 0 : std::stoull(lengths[0])), "the length is what it says");
  require(head.content_length <= limits.body_bytes, "a body keeps its limit");
  require(values_of(fields, "content-encoding").empty(), "no encoded content");
  const auto expectations = values_of(fields, "expect");
  for (const std::string& value : expectations) require(lower(value) == "100-continue", "no other expectation");
  require(head.expects_continue == (!expectations.empty() && !head.minor_version_0 && head.has_body()),
          "who expects 100 waits for it");
  require(
      head.keep_alive == (!has_option(fields, "close") && (!head.minor_version_0 || has_option(fields, "keep-alive"))),
      "Connection says whether the connection goes on");
  const auto origins = values_of(fields, "origin");
  require(head.origin == (origins.empty() ? "" : origins.back()), "Origin is what it says");
  require(head.asks_cross_origin == !values_of(fields, "access-control-request-method").empty(), "a preflight says so");

  const std::string_view body = bytes.substr(request.begin + head.size, request.end - request.begin - head.size);
  if (head.chunked) {
    const auto [content, size] = decode_chunked(body);
    require(size == body.size(), "a chunked body ends with its last line");
    require(content.size() <= limits.body_bytes, "a chunked body keeps its limit");
    require(!kept || content == request.content, "a chunked body is its chunks");
  } else {
    require(body.size() == head.content_length, "a body has its length");
    require(!kept || body == request.content, "a body is what was sent");
  }
}

// --- written anew

/// A chunked body of the same content, in two chunks where that goes.
std::string chunked(std::string_view content, std::uint8_t style) {
  std::string text;
  const auto add = [&](std::string_view part) {
    char size[40];
    std::snprintf(size, sizeof size, (style & 1) != 0 ? "%zx" : "%04zX", part.size());
    text += std::string(size) + ((style & 2) != 0 ? ";a=b;c" : "") + "\r\n";
    if (!part.empty()) text += std::string(part) + "\r\n";
  };
  const std::size_t half = (style & 4) != 0 ? content.size() / 2 : 0;
  if (half > 0) add(content.substr(0, half));
  if (content.size() > half) add(content.substr(half));
  add("");
  if ((style & 8) != 0) text += "X-Sum: 1\r\n";
  return text + "\r\n";
}

/// The request again, by the grammar: `style` chooses what the grammar leaves open.
std::string written(const Request& request, std::uint8_t style) {
  const RequestHead& head = request.head;
  std::string text = (style & 16) != 0 ? "\r\n" : "";
  text += std::string(head.method_text) + ' ' + std::string(head.target) +
          (head.minor_version_0 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
  for (const auto& [name, value] : fields_of(head.fields)) {
    text += name;
    if ((style & 32) != 0) {
      for (char& c : std::span(text).last(name.size())) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 0x20) : c;
    }
    text += ':' + std::string((style & 64) != 0 ? " \t" : "") + value + ((style & 128) != 0 ? "\t " : "") + "\r\n";
  }
  text += "\r\n";
  return text + (head.chunked ? chunked(request.content, style) : request.content);
}

void check_written(const Request& request, std::uint8_t style, const ReaderLimits& limits) {
  const fuzzing::Exact again(written(request, style));
  ReaderLimits wider = limits;
  wider.head_bytes = again.view().size() + 1;
  const std::array ends{again.view().size()};
  const Reading reading = read(again.view(), ends, wider, true);
  require(reading.requests.size() == 1 && reading.place == again.view().size(), "written anew it is one request");
  const Request& copy = reading.requests[0];
  const RequestHead& a = request.head;
  const RequestHead& b = copy.head;
  require(copy.content == request.content, "written anew it has the same content");
  require(a.method == b.method && a.method_text == b.method_text && a.target == b.target && a.path == b.path &&
              a.query == b.query && a.origin == b.origin && a.minor_version_0 == b.minor_version_0 &&
              a.keep_alive == b.keep_alive && a.expects_continue == b.expects_continue &&
              a.asks_cross_origin == b.asks_cross_origin && a.chunked == b.chunked &&
              a.content_length == b.content_length && fields_of(a.fields) == fields_of(b.fields),
          "written anew it has the same head");
}

constexpr std::array<ReaderLimits, 4> all_limits{{
    {},
    {.head_bytes = 160, .target_bytes = 24, .header_count = 4, .body_bytes = 40},
    {.head_bytes = 300, .target_bytes = 1000, .header_count = 100, .body_bytes = 0},
    {.head_bytes = 1000, .target_bytes = 100, .header_count = 2, .body_bytes = 1'000'000'000'000},
}};

}  // namespace
}  // namespace visitd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace visitd;
  Input input(data, size);
  const std::uint8_t how = input.byte();
  const std::size_t split_a = input.byte();
  const std::size_t split_b = input.byte();
  const ReaderLimits& limits = all_limits[how & 3U];
  const bool keep = (how & 4U) == 0;
  const bool byte_by_byte = (how & 8U) != 0;

  const fuzzing::Exact sent(input.rest());
  const std::string_view bytes = sent.view();
  const std::array whole{bytes.size()};
  const Reading reading = read(bytes, whole, limits, true);
  for (const Request& request : reading.requests) check(request, bytes, limits, true);
  require(reading.content.size() <= limits.body_bytes, "a body that goes on keeps its limit");
  if (!reading.requests.empty()) check_written(reading.requests.back(), static_cast<std::uint8_t>(split_a), limits);

  std::vector<std::size_t> ends;
  if (byte_by_byte) {
    for (std::size_t end = 1; end < bytes.size(); ++end) ends.push_back(end);
  } else {
    // As 256ths of the whole: places move with it.
    ends = {bytes.size() * split_a / 256, bytes.size() * split_b / 256};
    std::ranges::sort(ends);
  }
  ends.push_back(bytes.size());
  compare(reading, read(bytes, ends, limits, keep), keep);

  // What was refused is not mended by what follows, nor does what was read change.
  if (reading.refusal != Refusal::none) {
    constexpr std::array<std::string_view, 3> suffixes = {"\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", " a:0"};
    const fuzzing::Exact more(std::string(bytes) + std::string(suffixes[split_b % suffixes.size()]));
    const std::array more_ends{more.view().size()};
    compare(reading, read(more.view(), more_ends, limits, true), true);
  }
  return 0;
}
