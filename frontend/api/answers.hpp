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
  const auto is_plain = [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != '"' && c != '\\'; };
  for (;;) {
    const auto plain = static_cast<std::size_t>(std::ranges::find_if_not(text, is_plain) - text.begin());
    out.append(text.substr(0, plain));
    if (plain == text.size()) return;
    const auto byte = static_cast<unsigned char>(text[plain]);
    if (byte >= 0x20) {
      const std::array<char, 2> escape = {'\\', text[plain]};
      out.append(std::string_view(escape.data(), escape.size()));
    } else {
      const std::array<char, 6> escape = {'\\', 'u', '0', '0', hex_digits[byte >> 4U], hex_digits[byte & 0xFU]};
      out.append(std::string_view(escape.data(), escape.size()));
    }
    text.remove_prefix(plain + 1);
  }
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

class AnswerBody;
/// badge.cpp: draws why an image is refused.
void draw_refusal(std::string_view name, std::string_view detail, AnswerBody& body) noexcept;

enum class ContentType : std::uint8_t { none, json, problem, metrics, html, javascript, svg, gif, events };

/// What is said of a body because of its type. Empty: nothing.
struct ContentFields {
  std::string_view type;
  std::string_view policy{};  ///< Content-Security-Policy, for those that browsers show as a page
  bool is_for_pages = false;  ///< pages of every site may embed it, also those that want to be asked for it
};

/// By ContentType.
inline constexpr std::array<ContentFields, 9> content_fields{{
    {.type = ""},
    {.type = "application/json"},
    {.type = "application/problem+json"},
    {.type = "text/plain; version=0.0.4; charset=utf-8"},
    {.type = "text/html; charset=utf-8",
     .policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src 'self' data:; "
               "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"},
    {.type = "text/javascript; charset=utf-8", .is_for_pages = true},
    {.type = "image/svg+xml; charset=utf-8",
     .policy = "default-src 'none'; style-src 'unsafe-inline'",
     .is_for_pages = true},
    {.type = "image/gif", .is_for_pages = true},
    {.type = "text/event-stream"},
}};

/// Values of Answer::cache_control.
inline constexpr std::string_view never_stored = "no-store";

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
  bool head_only = false;  ///< for HEAD: all fields, no body
  bool preflight = false;
  bool length_unknown = false;  ///< for HEAD, where the body was not made; of a stream
  bool is_piece = false;        ///< a later one of a stream: the body alone is sent
  /// The request's fields, if it is for an image: to who takes nothing else a refusal is drawn. Else empty.
  std::string_view image_fields;
  std::string_view cache_control;  ///< empty: nothing is said; lives until the next answer
  FixedText<20> etag;              ///< empty: none
  std::optional<std::uint32_t> retry_after_s;
  std::string_view allow;              ///< empty: none
  std::string_view allow_elsewhere;    ///< of a preflight from a site that the settings do not name; empty: `allow`
  bool for_owner = false;              ///< not for pages of such a site
  std::string_view authenticate;       ///< which credentials the client lacks; empty: none
  FixedText<64> rate_limit;            ///< empty: the client's rate is not limited
  std::string_view rate_limit_policy;  ///< lives until the next answer
  std::string_view own_field;          ///< name of one more field, of a shape of another counter; empty: none
  FixedText<256> own_field_value;
  Refusal refusal = Refusal::none;
  FixedText<256> cache_status;
  AnswerBody body;

  void reset(const RequestHead& head) noexcept;
  void refuse(const Problem& problem) noexcept;
  /// Gives the body a tag, and takes it away again if the client has the same one already (304).
  void tag(const RequestHead& head) noexcept;

 private:
  void tell(const Problem& problem, const RefusalText& text) noexcept;
};

/// Whether a body follows the head of an answer with this status.
[[nodiscard]] constexpr bool has_body(std::uint16_t status) noexcept {
  return status != 204 && status != 304;
}

/// Formats answers. Holds what is the same in each: the CORS policy, and the date; and what most of them begin with.
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
  void each_field(const Answer& answer, const RequestHead& head, Take&& take) const {
    each_usual_field(answer.content_type, take);
    each_cors_field(answer, head, take);
    each_own_field(answer, take);
  }

 private:
  /// Those that depend on nothing but the type of the body, and the date.
  template <typename Take>
  void each_usual_field(ContentType type, Take&& take) const;
  template <typename Take>
  static void each_own_field(const Answer& answer, Take&& take);
  /// No browser asks for another origin's page; or the head was refused before its Origin was read.
  [[nodiscard]] static bool is_to_anyone(const Answer& answer, const RequestHead& head) noexcept {
    return head.origin.empty() && !answer.for_owner;
  }
  /// After a change of the date or of the origins.
  void make_starts();
  /// Whether the settings name this origin, not only "*".
  [[nodiscard]] bool is_named(std::string_view origin) const noexcept;
  template <typename Take>
  void each_cors_field(const Answer& answer, const RequestHead& head, Take&& take) const;

  std::vector<std::string> origins_;
  bool any_origin_ = false;
  std::uint32_t date_seconds_ = 0;
  std::array<char, 29> date_{};
  // What a 200 with JSON begins with: status line and usual fields; and with those of CORS, where it is to anyone.
  FixedText<256> start_;
  FixedText<256> start_to_anyone_;
};

/// The reason phrase of a status that we use.
[[nodiscard]] std::string_view reason_phrase(std::uint16_t status) noexcept;

template <typename Take>
void AnswerFormat::each_cors_field(const Answer& answer, const RequestHead& head, Take&& take) const {
  if (head.origin.empty()) {
    if (any_origin_ && is_to_anyone(answer, head)) take("Access-Control-Allow-Origin", std::string_view("*"));
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
    if (!answer.own_field.empty()) take("Access-Control-Expose-Headers", answer.own_field);
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
void AnswerFormat::each_usual_field(ContentType type, Take&& take) const {
  take("Date", std::string_view(date_.data(), date_.size()));
  const ContentFields& content = content_fields[static_cast<std::size_t>(type)];
  if (!content.type.empty()) take("Content-Type", content.type);
  if (!content.policy.empty()) take("Content-Security-Policy", content.policy);
  if (content.is_for_pages) take("Cross-Origin-Resource-Policy", std::string_view("cross-origin"));
  if (content.is_for_pages || !content.policy.empty()) take("X-Content-Type-Options", std::string_view("nosniff"));
  take("Vary", std::string_view("Origin"));
}

template <typename Take>
void AnswerFormat::each_own_field(const Answer& answer, Take&& take) {
  if (!answer.cache_control.empty()) take("Cache-Control", answer.cache_control);
  if (!answer.etag.empty()) take("ETag", answer.etag.view());
  if (!answer.cache_status.empty()) take("Cache-Status", answer.cache_status.view());
  if (!answer.allow.empty()) take("Allow", answer.allow);
  if (!answer.authenticate.empty()) take("WWW-Authenticate", answer.authenticate);
  if (!answer.rate_limit.empty()) {
    take("RateLimit", answer.rate_limit.view());
    take("RateLimit-Policy", answer.rate_limit_policy);
  }
  if (!answer.own_field.empty()) take(answer.own_field, answer.own_field_value.view());
  if (answer.retry_after_s) {
    FixedText<20> seconds;
    seconds.append(*answer.retry_after_s);
    take("Retry-After", seconds.view());
  }
}

}  // namespace visitd
