// Request targets and the page ids in them, against a second, plain implementation of each rule.
//
// Input: a limit for ids, how to encode anew, then the text.
#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "common/shm/page_id.hpp"
#include "frontend/http/target.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace visitd {
namespace {

using fuzzing::Exact;
using fuzzing::Input;
using fuzzing::lower;
using fuzzing::require;

// --- decoding

std::optional<std::string> plainly_decoded(std::string_view text, bool form) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const std::size_t high = digits.find(lower(text[i + 1]));
      const std::size_t low = digits.find(lower(text[i + 2]));
      if (high == std::string_view::npos || low == std::string_view::npos) return std::nullopt;
      decoded += static_cast<char>(high * 16 + low);
      i += 2;
    } else {
      decoded += form && text[i] == '+' ? ' ' : text[i];
    }
  }
  return decoded;
}

/// What decode_path or decode_form makes of it, with a buffer that is just large enough.
std::optional<std::string> decoded(std::string_view text, bool form) {
  const Exact own(text);
  const Exact buffer(text);
  const std::span<char> room(buffer.data(), text.size());
  const auto view = form ? decode_form(own.view(), room) : decode_path(own.view(), room);
  require(view == plainly_decoded(text, form), "decoded as the rule says");
  return view ? std::optional<std::string>(*view) : std::nullopt;
}

std::string encoded(std::string_view text, bool form, std::uint8_t style) {
  std::string result;
  for (const char c : text) {
    const bool plain = (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    if (plain && (style & 1) == 0) {
      result += c;
    } else if (form && c == ' ' && (style & 2) == 0) {
      result += '+';
    } else {
      const std::string_view digits = (style & 4) != 0 ? "0123456789abcdef" : "0123456789ABCDEF";
      const auto byte = static_cast<unsigned char>(c);
      result += {'%', digits[byte >> 4U], digits[byte & 15U]};
    }
  }
  return result;
}

// --- page ids

/// The bytes of one character by the table of RFC 3629, section 4: the least and the most that each may be.
struct Sequence {
  std::size_t length;
  std::array<std::pair<unsigned char, unsigned char>, 4> bytes;
};
constexpr std::array<Sequence, 9> sequences{{
    {1, {{{0x00, 0x7F}}}},
    {2, {{{0xC2, 0xDF}, {0x80, 0xBF}}}},
    {3, {{{0xE0, 0xE0}, {0xA0, 0xBF}, {0x80, 0xBF}}}},
    {3, {{{0xE1, 0xEC}, {0x80, 0xBF}, {0x80, 0xBF}}}},
    {3, {{{0xED, 0xED}, {0x80, 0x9F}, {0x80, 0xBF}}}},
    {3, {{{0xEE, 0xEF}, {0x80, 0xBF}, {0x80, 0xBF}}}},
    {4, {{{0xF0, 0xF0}, {0x90, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}}},
    {4, {{{0xF1, 0xF3}, {0x80, 0xBF}, {0x80, 0xBF}, {0x80, 0xBF}}}},
    {4, {{{0xF4, 0xF4}, {0x80, 0x8F}, {0x80, 0xBF}, {0x80, 0xBF}}}},
}};

/// The bytes of the character at the start of the text; 0: there is none.
std::size_t character(std::string_view text) {
  for (const Sequence& sequence : sequences) {
    if (sequence.length > text.size()) continue;
    bool fits = true;
    for (std::size_t i = 0; i < sequence.length; ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      fits = fits && byte >= sequence.bytes[i].first && byte <= sequence.bytes[i].second;
    }
    if (fits) return sequence.length;
  }
  return 0;
}

PageIdFault plain_fault(std::string_view id, std::size_t limit) {
  if (id.empty()) return PageIdFault::empty;
  if (id.size() > limit) return PageIdFault::too_long;
  bool control = false;
  for (std::size_t length = 0; !id.empty(); id.remove_prefix(length)) {
    length = character(id);
    if (length == 0) return PageIdFault::invalid_utf8;
    const auto first = static_cast<unsigned char>(id[0]);
    control = control || (length == 1 && (first < 0x20 || first == 0x7F)) ||
              (length == 2 && first == 0xC2 && static_cast<unsigned char>(id[1]) <= 0x9F);
  }
  return control ? PageIdFault::control_character : PageIdFault::none;
}

void check_id(std::string_view id, std::size_t limit) {
  const Exact own(id);
  require(check_page_id(own.view(), limit) == plain_fault(id, limit), "the id is judged as the rule says");
}

// --- targets

/// HOST, HOST:PORT, [IPV6] or [IPV6]:PORT.
bool plainly_a_host(std::string_view text) {
  const std::size_t last_colon = text.rfind(':');
  const bool bracketed = text.starts_with('[');
  if (last_colon != std::string_view::npos && (!bracketed || text.find(']') < last_colon)) {
    const std::string_view port = text.substr(last_colon + 1);
    if (port.size() > 5 || port.find_first_not_of("0123456789") != std::string_view::npos) return false;
    text = text.substr(0, last_colon);
  }
  if (bracketed) {
    if (text.size() < 4 || !text.ends_with(']')) return false;
    return text.substr(1, text.size() - 2).find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
  }
  return !text.empty() && text.find_first_not_of(
                              "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                              "-._~!$&'()*+,;=") == std::string_view::npos;
}

struct PlainTarget {
  std::string path;
  std::string query;
};

std::optional<PlainTarget> plain_parts(std::string_view target) {
  if (target == "*") return PlainTarget{"*", ""};
  std::string_view rest = target;
  const std::string start = lower(target.substr(0, 8));
  const std::size_t scheme = start.starts_with("http://") ? 7 : start == "https://" ? 8 : 0;
  if (scheme > 0) {
    rest.remove_prefix(scheme);
    const std::size_t end = std::min(rest.find('/'), rest.find('?'));
    if (!plainly_a_host(rest.substr(0, end))) return std::nullopt;
    rest.remove_prefix(std::min(end, rest.size()));
  } else if (!target.starts_with('/')) {
    return std::nullopt;
  }
  const std::size_t question = rest.find('?');
  PlainTarget parts{std::string(rest.substr(0, question)), ""};
  if (question != std::string_view::npos) parts.query = rest.substr(question + 1);
  if (parts.path.empty()) parts.path = "/";
  return parts;
}

void check_target(std::string_view text) {
  const Exact own(text);
  require(is_host(own.view()) == plainly_a_host(text), "a host is what the rule says");
  const auto parts = parts_of_target(own.view());
  const auto plain = plain_parts(text);
  require(parts.has_value() == plain.has_value(), "a target is what the rule says");
  if (!parts) return;
  require(parts->path == plain->path && parts->query == plain->query, "its parts are what the rule says");
  // The same path and query in origin-form are the same target.
  if (parts->path == "*" || !parts->path.starts_with('/')) return;
  const std::string origin_form = std::string(parts->path) + '?' + std::string(parts->query);
  const auto again = parts_of_target(origin_form);
  require(again && again->path == parts->path && again->query == parts->query, "the origin-form says the same");
}

}  // namespace
}  // namespace visitd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace visitd;
  Input input(data, size);
  const std::size_t limit = std::size_t{input.byte()} * 4;
  const std::uint8_t style = input.byte();
  const std::string_view text = input.rest();

  check_target(text);
  check_id(text, limit);
  for (const bool form : {false, true}) {
    if (const auto id = decoded(text, form)) check_id(*id, limit);
    require(decoded(encoded(text, form, style), form) == text, "what is encoded comes back");
  }
  return 0;
}
