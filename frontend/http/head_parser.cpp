#include "frontend/http/head_parser.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/os/text.hpp"
#include "frontend/http/byte_classes.hpp"
#include "frontend/http/target.hpp"

namespace visitd {

namespace {

constexpr std::uint64_t ones = 0x0101010101010101U;
constexpr std::uint64_t highs = ones * 0x80U;

/// The high bit of each byte that is below `limit`, at most 0x80. Above the first one, others may be set too.
constexpr std::uint64_t bytes_below(std::uint64_t word, std::uint64_t limit) noexcept {
  return (word - ones * limit) & ~word & highs;
}

/// The same of each byte that is `value`.
constexpr std::uint64_t bytes_like(std::uint64_t word, std::uint64_t value) noexcept {
  return bytes_below(word ^ ones * value, 1);
}

/// The first byte outside the class, or end. Four at a time, in place: names are short, and many.
[[gnu::always_inline]] inline const char* skip(const char* at, const char* end, std::uint8_t byte_class) noexcept {
  for (; end - at >= 4; at += 4) {
    if (!is_in(at[0], byte_class)) return at;
    if (!is_in(at[1], byte_class)) return at + 1;
    if (!is_in(at[2], byte_class)) return at + 2;
    if (!is_in(at[3], byte_class)) return at + 3;
  }
  while (at != end && is_in(*at, byte_class)) ++at;
  return at;
}

/// The same, eight bytes at a time. `hits`: the high bit of the first byte that may be outside, and maybe of others
/// above it.
template <typename Hits>
const char* skip_words(const char* at, const char* end, std::uint8_t byte_class, Hits hits) noexcept {
  while (end - at >= 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    if (const std::uint64_t found = hits(word); found != 0) {
      if constexpr (std::endian::native == std::endian::little) at += std::countr_zero(found) / 8;
      break;
    }
    at += 8;
  }
  return skip(at, end, byte_class);
}

/// Values are most of a browser's head.
const char* skip_value(const char* at, const char* end) noexcept {
  return skip_words(at, end, in_value,
                    [](std::uint64_t word) { return bytes_below(word, 0x20) | bytes_like(word, 0x7F); });
}

const char* skip_target(const char* at, const char* end) noexcept {
  return skip_words(at, end, in_target, [](std::uint64_t word) {
    return bytes_below(word, 0x21) | bytes_like(word, '#') | ((word | (word + ones)) & highs);
  });
}

/// Whether `text`, which holds no control characters but tabs, is `lower` in any case; `lower` holds letters, digits
/// and dashes.
bool is_named(std::string_view text, std::string_view lower) noexcept {
  if (text.size() != lower.size()) return false;
  for (std::size_t i = 0; i < lower.size(); ++i) {
    if ((text[i] | 0x20) != lower[i]) return false;
  }
  return true;
}

Method method_of(std::string_view text) noexcept {
  switch (text.size()) {
    case 3:
      return text == "GET" ? Method::get : text == "PUT" ? Method::put : Method::other;
    case 4:
      return text == "POST" ? Method::post : text == "HEAD" ? Method::head : Method::other;
    case 6:
      return text == "DELETE" ? Method::delete_ : Method::other;
    case 7:
      return text == "OPTIONS" ? Method::options : Method::other;
    default:
      return Method::other;
  }
}

/// What no field value may hold, named.
Refusal fault_of(char c) noexcept {
  return c == '\r' || c == '\n' ? Refusal::bare_line_break : Refusal::control_character;
}

/// Reads one head from its first byte to its last. Where the bytes end too early, `incomplete` is left.
class HeadParser {
 public:
  HeadParser(std::string_view bytes, const ReaderLimits& limits, RequestHead& head) noexcept
      : begin_(bytes.data()),
        at_(begin_),
        end_(begin_ + std::min(bytes.size(), limits.head_bytes)),
        limits_(limits),
        head_(head),
        limit_reached_(bytes.size() >= limits.head_bytes) {}

  ReadOutcome parse() noexcept {
    const bool read = skip_empty_line() && read_request_line() && read_fields() && check();
    if (read) return ReadOutcome::complete;
    if (refusal_ == Refusal::none) {
      if (!limit_reached_) return ReadOutcome::incomplete;
      refusal_ = in_request_line_ ? Refusal::target_too_long : Refusal::head_too_large;
    }
    return ReadOutcome::refused;
  }

  [[nodiscard]] Refusal refusal() const noexcept { return refusal_; }

 private:
  // Each step returns true when it is through; false: refused, or the bytes end here.
  bool refuse(Refusal refusal) noexcept {
    refusal_ = refusal;
    return false;
  }

  [[nodiscard]] bool ended() const noexcept { return at_ == end_; }

  /// `at_` is on a byte that ends a line if it is CR and LF follows.
  bool read_line_end() noexcept {
    if (*at_ != '\r') return refuse(fault_of(*at_));
    if (end_ - at_ < 2) return false;
    if (at_[1] != '\n') return refuse(Refusal::bare_line_break);
    at_ += 2;
    return true;
  }

  /// Some clients send one line break too many after a body; one is forgiven.
  bool skip_empty_line() noexcept {
    if (ended()) return false;
    return (*at_ != '\r' && *at_ != '\n') || read_line_end();
  }

  bool read_request_line() noexcept {
    const char* const method = at_;
    at_ = skip(at_, end_, in_token);
    if (ended()) return false;
    if (*at_ != ' ' || at_ == method) return refuse(is_blank(*at_) ? Refusal::malformed_request_line : line_fault());
    head_.method_text = {method, static_cast<std::size_t>(at_ - method)};
    head_.method = method_of(head_.method_text);
    ++at_;

    const char* const target = at_;
    at_ = skip_target(at_, end_);
    if (ended()) return false;
    if (*at_ != ' ') return refuse(target_fault());
    head_.target = {target, static_cast<std::size_t>(at_ - target)};
    if (head_.target.size() > limits_.target_bytes) return refuse(Refusal::target_too_long);
    const auto parts = parts_of_target(head_.target);
    if (!parts || (parts->path == "*" && head_.method != Method::options)) return refuse(Refusal::malformed_target);
    head_.path = parts->path;
    head_.query = parts->query;
    ++at_;

    if (!read_version()) return false;
    in_request_line_ = false;
    return true;
  }

  /// Why the request line breaks off at a byte that does not belong there.
  [[nodiscard]] Refusal line_fault() const noexcept {
    if (*at_ == '\n' || *at_ == '\r') return Refusal::malformed_request_line;
    return is_in(*at_, in_value) ? Refusal::malformed_request_line : Refusal::control_character;
  }
  [[nodiscard]] Refusal target_fault() const noexcept {
    return is_in(*at_, in_value) && !is_blank(*at_) ? Refusal::malformed_target : line_fault();
  }

  bool read_version() noexcept {
    constexpr std::string_view usual = "HTTP/1.1\r\n";
    if (end_ - at_ >= static_cast<std::ptrdiff_t>(usual.size()) && std::memcmp(at_, usual.data(), usual.size()) == 0) {
      at_ += usual.size();
      return true;
    }
    for (const char expected : std::string_view("HTTP/")) {
      if (ended()) return false;
      if (*at_ != expected) return refuse(line_fault());
      ++at_;
    }
    if (ended()) return false;
    if (!is_digit(*at_) || *at_ == '0') return refuse(line_fault());
    if (*at_ != '1') return refuse(Refusal::unsupported_version);
    ++at_;
    if (ended()) return false;
    if (*at_ != '.') return refuse(line_fault());
    ++at_;
    if (ended()) return false;
    if (!is_digit(*at_)) return refuse(line_fault());
    head_.minor_version_0 = *at_ == '0';
    ++at_;
    if (ended()) return false;
    return *at_ == '\r' || *at_ == '\n' ? read_line_end() : refuse(line_fault());
  }

  bool read_fields() noexcept {
    const char* const fields = at_;
    for (std::size_t count = 0;; ++count) {
      if (ended()) return false;
      if (*at_ == '\r' || *at_ == '\n') {
        head_.fields = {fields, static_cast<std::size_t>(at_ - fields)};
        return read_line_end();
      }
      if (is_blank(*at_)) return refuse(Refusal::folded_field);
      if (count == limits_.header_count) return refuse(Refusal::too_many_fields);
      if (!read_field()) return false;
    }
  }

  bool read_field() noexcept {
    const char* const name = at_;
    at_ = skip(at_, end_, in_token);
    if (ended()) return false;
    if (*at_ != ':' || at_ == name) return refuse(name_fault());
    const std::string_view name_text(name, static_cast<std::size_t>(at_ - name));
    ++at_;
    const char* const value = at_;
    at_ = skip_value(at_, end_);
    if (ended()) return false;
    const char* const value_end = at_;
    return read_line_end() && note(name_text, trim({value, static_cast<std::size_t>(value_end - value)}));
  }

  [[nodiscard]] Refusal name_fault() const noexcept {
    if (is_blank(*at_)) return Refusal::space_before_colon;
    return is_in(*at_, in_value) || *at_ == '\r' || *at_ == '\n' ? Refusal::malformed_field_name
                                                                 : Refusal::control_character;
  }

  bool note(std::string_view name, std::string_view value) noexcept {
    switch (name.size()) {
      case 4:
        return !is_named(name, "host") || note_host(value);
      case 6:
        if (is_named(name, "origin")) head_.origin = value;
        return !is_named(name, "expect") || note_expectation(value);
      case 10:
        if (is_named(name, "connection")) note_connection(value);
        return true;
      case 14:
        return !is_named(name, "content-length") || note_length(value);
      case 16:
        return !is_named(name, "content-encoding") || refuse(Refusal::content_encoding_unsupported);
      case 17:
        return !is_named(name, "transfer-encoding") || note_transfer_encoding(value);
      case 29:
        if (is_named(name, "access-control-request-method")) head_.asks_cross_origin = true;
        return true;
      default:
        return true;
    }
  }

  bool note_host(std::string_view value) noexcept {
    if (host_seen_) return refuse(Refusal::host_repeated);
    host_seen_ = true;
    return is_host(value) || refuse(Refusal::host_malformed);
  }

  bool note_expectation(std::string_view value) noexcept {
    if (!is_named(value, "100-continue")) return refuse(Refusal::expectation_unknown);
    head_.expects_continue = true;
    return true;
  }

  void note_connection(std::string_view value) noexcept {
    while (!value.empty()) {
      const std::size_t comma = std::min(value.find(','), value.size());
      const std::string_view option = trim(value.substr(0, comma));
      close_seen_ |= is_named(option, "close");
      keep_alive_seen_ |= is_named(option, "keep-alive");
      value.remove_prefix(std::min(comma + 1, value.size()));
    }
  }

  bool note_length(std::string_view value) noexcept {
    if (length_seen_) return refuse(Refusal::content_length_repeated);
    length_seen_ = true;
    constexpr std::size_t most_digits = 18;  // no larger number of as many digits overflows
    if (value.empty() || value.size() > most_digits || !std::all_of(value.begin(), value.end(), is_digit)) {
      return refuse(Refusal::content_length_malformed);
    }
    for (const char digit : value) {
      head_.content_length = head_.content_length * 10 + static_cast<std::uint64_t>(digit - '0');
    }
    return true;
  }

  bool note_transfer_encoding(std::string_view value) noexcept {
    if (head_.chunked || !is_named(value, "chunked")) return refuse(Refusal::transfer_encoding_unsupported);
    head_.chunked = true;
    return true;
  }

  /// What can be said only when all fields are known.
  bool check() noexcept {
    head_.size = static_cast<std::size_t>(at_ - begin_);
    head_.keep_alive = !close_seen_ && (!head_.minor_version_0 || keep_alive_seen_);
    if (!host_seen_ && !head_.minor_version_0) return refuse(Refusal::host_missing);
    if (head_.chunked && head_.minor_version_0) return refuse(Refusal::transfer_encoding_unsupported);
    if (head_.chunked && length_seen_) return refuse(Refusal::length_ambiguous);
    if (head_.content_length > limits_.body_bytes) return refuse(Refusal::body_too_large);
    // Who speaks HTTP/1.0 does not know 100, and without a body there is nothing to wait for.
    head_.expects_continue = head_.expects_continue && !head_.minor_version_0 && head_.has_body();
    return true;
  }

  const char* begin_;
  const char* at_;
  const char* end_;
  const ReaderLimits& limits_;
  RequestHead& head_;
  Refusal refusal_ = Refusal::none;
  bool limit_reached_;
  bool in_request_line_ = true;
  bool host_seen_ = false;
  bool length_seen_ = false;
  bool close_seen_ = false;
  bool keep_alive_seen_ = false;
};

}  // namespace

ReadOutcome parse_head(std::string_view bytes, const ReaderLimits& limits, RequestHead& head,
                       Refusal& refusal) noexcept {
  head = {};
  HeadParser parser(bytes, limits, head);
  const ReadOutcome outcome = parser.parse();
  if (outcome == ReadOutcome::refused) refusal = parser.refusal();
  return outcome;
}

}  // namespace visitd
