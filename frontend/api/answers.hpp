// What is answered: status, the header fields that depend on the answer, and a JSON body; and its way into bytes.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/os/text.hpp"
#include "frontend/http/head_fields.hpp"
#include "frontend/http/output_buffer.hpp"
#include "frontend/http/refusals.hpp"
#include "frontend/http/request_head.hpp"

namespace visitd {

/// Appends the inside of a JSON string: quotes, backslashes and control characters escaped.
template <typename Out>
void append_json(std::string_view text, Out& out) {
  std::size_t begin = 0;
  for (std::size_t at = 0; at != text.size(); ++at) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
    out.append(text.substr(begin, at - begin));
    begin = at + 1;
    if (byte >= 0x20) {
      const std::array<char, 2> escape = {'\\', text[at]};
      out.append(std::string_view(escape.data(), escape.size()));
    } else {
      const std::array<char, 6> escape = {'\\', 'u', '0', '0', hex_digits[byte >> 4U], hex_digits[byte & 0xFU]};
      out.append(std::string_view(escape.data(), escape.size()));
    }
  }
  out.append(text.substr(begin));
}

/// Bytes of at most `capacity`, in place: a body or a field value that is composed for one answer.
template <std::size_t capacity>
class FixedText {
 public:
  void clear() noexcept { size_ = 0; }
  void append(std::string_view text) noexcept {
    const std::size_t part = std::min(text.size(), capacity - size_);
    if (part == 0) return;  // no text may be at no place
    std::memcpy(bytes_.data() + size_, text.data(), part);
    size_ += part;
  }
  void append(std::integral auto number) noexcept {
    std::array<char, 20> digits;
    const char* const end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
    append(std::string_view(digits.data(), static_cast<std::size_t>(end - digits.data())));
  }
  [[nodiscard]] std::string_view view() const noexcept { return {bytes_.data(), size_}; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

 private:
  std::array<char, capacity> bytes_;
  std::size_t size_ = 0;
};

/// What a page of another origin may read of our answers' fields, beside the few that browsers always show it. A field
/// that a later answer adds for the page's scripts is added here.
inline constexpr std::string_view exposed_fields = "Cache-Status, Retry-After, RateLimit, RateLimit-Policy, Date";

enum class ContentType : std::uint8_t { none, json, problem, metrics, html };

/// Where the body of an answer comes from: each source is a case of bytes().
class AnswerBody {
 public:
  void clear() noexcept {
    source_ = Source::text;
    text_.clear();
  }
  /// The body is a text that is composed in place.
  void append(std::string_view text) noexcept { text_.append(text); }
  void append(std::integral auto number) noexcept { text_.append(number); }
  /// The body is a document, which lives until the next request is answered.
  void show(std::string_view document) noexcept {
    source_ = Source::document;
    document_ = document;
  }

  [[nodiscard]] std::string_view bytes() const noexcept {
    switch (source_) {
      case Source::text:
        return text_.view();
      case Source::document:
        return document_;
    }
    return {};
  }

 private:
  enum class Source : std::uint8_t { text, document };

  Source source_ = Source::text;
  /// Twice the longest page id, every byte of it escaped, and the words around it.
  FixedText<4096> text_;
  std::string_view document_;
};

/// One answer, before it is bytes. Made anew for each request by reset(); the rest says what differs from a plain 200.
struct Answer {
  std::uint16_t status = 200;
  ContentType content_type = ContentType::none;
  bool no_store = false;
  bool head_only = false;  ///< for HEAD: all fields, no body
  bool preflight = false;
  bool length_unknown = false;  ///< for HEAD, where the body was not made
  std::optional<std::uint32_t> retry_after_s;
  std::string_view allow;              ///< empty: none
  std::string_view allow_elsewhere;    ///< of a preflight from a site that the settings do not name; empty: `allow`
  bool for_owner = false;              ///< not for pages of such a site
  std::string_view authenticate;       ///< which credentials the client lacks; empty: none
  FixedText<64> rate_limit;            ///< empty: the client's rate is not limited
  std::string_view rate_limit_policy;  ///< lives until the next answer
  Refusal refusal = Refusal::none;
  FixedText<256> cache_status;
  AnswerBody body;

  void reset(const RequestHead& head) noexcept;
  void refuse(const Problem& problem) noexcept;
};

/// Formats answers. Holds what is the same in each: the CORS policy, and the date.
class AnswerFormat {
 public:
  /// `origins`: those that may read our answers; "*": all.
  explicit AnswerFormat(const std::vector<std::string>& origins);

  void set_origins(const std::vector<std::string>& origins);

  /// Sets the Date field of the answers to come. Cheap while the second is the same.
  void set_date(std::uint32_t unix_seconds);

  /// Appends the answer to `head`. `keep_alive`: whether the connection lives on.
  void write(const Answer& answer, const RequestHead& head, bool keep_alive, OutputBuffer& out) const;

  /// Calls `take(name, value)` for each field but those that frame the message (Content-Length, Connection).
  template <typename Take>
  void each_field(const Answer& answer, const RequestHead& head, Take&& take) const;

 private:
  /// Whether the settings name this origin, not only "*".
  [[nodiscard]] bool is_named(std::string_view origin) const noexcept;
  template <typename Take>
  void each_cors_field(const Answer& answer, const RequestHead& head, Take& take) const;

  std::vector<std::string> origins_;
  bool any_origin_ = false;
  std::uint32_t date_seconds_ = 0;
  std::array<char, 29> date_{};
};

/// The reason phrase of a status that we use.
[[nodiscard]] std::string_view reason_phrase(std::uint16_t status) noexcept;

template <typename Take>
void AnswerFormat::each_cors_field(const Answer& answer, const RequestHead& head, Take& take) const {
  take("Vary", std::string_view("Origin"));
  if (head.origin.empty()) {
    // No browser asks for another origin's page; or the head was refused before its Origin was read.
    if (any_origin_ && !answer.for_owner) take("Access-Control-Allow-Origin", std::string_view("*"));
    return;
  }
  const bool named = is_named(head.origin);
  if (!named && (!any_origin_ || answer.for_owner)) return;
  // Beacons of some types, and whoever asks for it with fetch, send credentials, and then browsers take no "*" for an
  // answer. Nothing here depends on credentials: no answer says more to who sends them.
  take("Access-Control-Allow-Origin", head.origin);
  take("Access-Control-Allow-Credentials", std::string_view("true"));
  if (!answer.preflight) {
    take("Access-Control-Expose-Headers", exposed_fields);
    return;
  }
  take("Access-Control-Allow-Methods", named || answer.allow_elsewhere.empty() ? answer.allow : answer.allow_elsewhere);
  take("Access-Control-Allow-Headers", find_field(head.fields, "access-control-request-headers").value_or("*"));
  take("Access-Control-Max-Age", std::string_view("86400"));
  // Consent to be reached from the public web by browsers behind this host's firewall: never given to all the web.
  if (named && find_field(head.fields, "access-control-request-private-network") == "true")
    take("Access-Control-Allow-Private-Network", std::string_view("true"));
}

template <typename Take>
void AnswerFormat::each_field(const Answer& answer, const RequestHead& head, Take&& take) const {
  take("Date", std::string_view(date_.data(), date_.size()));
  if (answer.content_type == ContentType::json) take("Content-Type", std::string_view("application/json"));
  if (answer.content_type == ContentType::problem) take("Content-Type", std::string_view("application/problem+json"));
  if (answer.content_type == ContentType::metrics)
    take("Content-Type", std::string_view("text/plain; version=0.0.4; charset=utf-8"));
  if (answer.content_type == ContentType::html) {
    take("Content-Type", std::string_view("text/html; charset=utf-8"));
    take("Content-Security-Policy",
         std::string_view(
             "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src "
             "'self'; base-uri 'none'; frame-ancestors 'none'"));
    take("X-Content-Type-Options", std::string_view("nosniff"));
  }
  if (answer.no_store) take("Cache-Control", std::string_view("no-store"));
  if (!answer.cache_status.empty()) take("Cache-Status", answer.cache_status.view());
  if (!answer.allow.empty()) take("Allow", answer.allow);
  if (!answer.authenticate.empty()) take("WWW-Authenticate", answer.authenticate);
  if (!answer.rate_limit.empty()) {
    take("RateLimit", answer.rate_limit.view());
    take("RateLimit-Policy", answer.rate_limit_policy);
  }
  each_cors_field(answer, head, take);
  if (answer.retry_after_s) {
    FixedText<20> seconds;
    seconds.append(*answer.retry_after_s);
    take("Retry-After", seconds.view());
  }
}

}  // namespace visitd
