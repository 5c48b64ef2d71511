#include "frontend/api/answers.hpp"

#include <time.h>

#include <algorithm>
#include <cstdio>

#include "common/shm/hash.hpp"

namespace visitd {

namespace {

/// No head of an answer is larger without what it repeats of the request's.
constexpr std::size_t largest_head_bytes = 4096;

std::string_view status_line(std::uint16_t status) noexcept {
  struct Line {
    std::uint16_t status;
    std::string_view text;
  };
  static constexpr Line lines[] = {{200, "HTTP/1.1 200 OK\r\n"},
                                   {201, "HTTP/1.1 201 Created\r\n"},
                                   {202, "HTTP/1.1 202 Accepted\r\n"},
                                   {204, "HTTP/1.1 204 No Content\r\n"},
                                   {304, "HTTP/1.1 304 Not Modified\r\n"},
                                   {400, "HTTP/1.1 400 Bad Request\r\n"},
                                   {401, "HTTP/1.1 401 Unauthorized\r\n"},
                                   {403, "HTTP/1.1 403 Forbidden\r\n"},
                                   {404, "HTTP/1.1 404 Not Found\r\n"},
                                   {405, "HTTP/1.1 405 Method Not Allowed\r\n"},
                                   {409, "HTTP/1.1 409 Conflict\r\n"},
                                   {413, "HTTP/1.1 413 Content Too Large\r\n"},
                                   {414, "HTTP/1.1 414 URI Too Long\r\n"},
                                   {415, "HTTP/1.1 415 Unsupported Media Type\r\n"},
                                   {417, "HTTP/1.1 417 Expectation Failed\r\n"},
                                   {429, "HTTP/1.1 429 Too Many Requests\r\n"},
                                   {431, "HTTP/1.1 431 Request Header Fields Too Large\r\n"},
                                   {503, "HTTP/1.1 503 Service Unavailable\r\n"},
                                   {505, "HTTP/1.1 505 HTTP Version Not Supported\r\n"}};
  for (const Line& line : lines) {
    if (line.status == status) return line.text;
  }
  return "HTTP/1.1 500 Internal Server Error\r\n";
}

/// Takes fields, and appends them as lines of a head. Not by append_all, with which a read takes 180 instructions more.
template <typename Out>
auto lines_into(Out& out) noexcept {
  return [&out](std::string_view name, std::string_view value) {
    out.append(name);
    out.append(": ");
    out.append(value);
    out.append("\r\n");
  };
}

}  // namespace

std::string_view reason_phrase(std::uint16_t status) noexcept {
  constexpr std::size_t before = std::string_view("HTTP/1.1 200 ").size();
  const std::string_view line = status_line(status);
  return line.substr(before, line.size() - before - 2);
}

void Answer::reset(const RequestHead& head) noexcept {
  status = 200;
  content_type = ContentType::none;
  head_only = head.method == Method::head;
  preflight = length_unknown = is_piece = false;
  image_fields = cache_control = own_field = {};
  etag.clear();
  own_field_value.clear();
  retry_after_s.reset();
  allow = allow_elsewhere = authenticate = {};
  for_owner = false;
  rate_limit.clear();
  rate_limit_policy = {};
  refusal = Refusal::none;
  cache_status.clear();
  body.clear();
}

void Answer::refuse(const Problem& problem) noexcept {
  const RefusalText text = describe(problem.refusal);
  refusal = problem.refusal;
  status = text.status;
  cache_control = never_stored;
  etag.clear();
  cache_status.clear();
  body.clear();
  if (find_field(image_fields, "accept").value_or("").starts_with("image/")) {
    content_type = ContentType::svg;
    draw_refusal(text.name, problem.detail.empty() ? text.detail : problem.detail, body);
  } else {
    tell(problem, text);
  }
}

void Answer::tell(const Problem& problem, const RefusalText& text) noexcept {
  const std::string_view parameter = problem.parameter.empty() ? text.parameter : problem.parameter;
  content_type = ContentType::problem;
  append_all(body, R"({"type":"urn:visitd:problem:)", text.name, R"(","title":")", reason_phrase(status),
             R"(","status":)", status, R"(,"detail":")");
  append_json(problem.detail.empty() ? text.detail : problem.detail, body);
  body.append("\"");
  if (!parameter.empty()) {
    body.append(R"(,"parameter":")");
    append_json(parameter, body);
    body.append("\"");
  }
  if (!problem.member.empty()) {
    append_all(body, ",\"", problem.member, "\":", problem.value);
  }
  body.append("}");
}

void Answer::tag(const RequestHead& head) noexcept {
  etag.append("\"");
  std::uint64_t hash = hash_bytes(body.bytes());
  for (int digit = 0; digit < 16; ++digit, hash >>= 4U) etag.append(hex_digits.substr(hash & 0xFU, 1));
  etag.append("\"");
  const std::string_view known = find_field(head.fields, "if-none-match").value_or("");
  if (known != "*" && known.find(etag.view()) == std::string_view::npos) return;
  status = 304;
  content_type = ContentType::none;
  body.clear();
}

AnswerFormat::AnswerFormat(const std::vector<std::string>& origins) {
  set_origins(origins);
  set_date(1);
}

void AnswerFormat::set_origins(const std::vector<std::string>& origins) {
  origins_ = origins;
  any_origin_ = std::find(origins.begin(), origins.end(), "*") != origins.end();
  make_starts();
}

void AnswerFormat::set_date(std::uint32_t unix_seconds) {
  if (unix_seconds == date_seconds_) return;
  date_seconds_ = unix_seconds;
  constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const time_t seconds = unix_seconds;
  tm utc{};
  gmtime_r(&seconds, &utc);
  std::array<char, 80> text;
  std::snprintf(text.data(), text.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[utc.tm_wday], utc.tm_mday,
                months[utc.tm_mon], utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
  std::copy_n(text.begin(), date_.size(), date_.begin());
  make_starts();
}

void AnswerFormat::make_starts() {
  start_.clear();
  start_.append(status_line(200));
  each_usual_field(ContentType::json, lines_into(start_));
  start_to_anyone_ = start_;
  each_cors_field(Answer{}, RequestHead{}, lines_into(start_to_anyone_));
}

bool AnswerFormat::is_named(std::string_view origin) const noexcept {
  return std::find(origins_.begin(), origins_.end(), origin) != origins_.end();
}

void AnswerFormat::write(const Answer& answer, const RequestHead& head, bool keep_alive, OutputBuffer& out) const {
  const std::string_view content = answer.body.bytes();
  if (answer.is_piece) {
    out.reserve(content.size());
    out.append(content);
    return;
  }
  const std::size_t repeated_bytes = answer.preflight ? head.size : head.origin.size();
  out.reserve(largest_head_bytes + repeated_bytes + content.size());
  const auto take = lines_into(out);
  const bool usual = answer.status == 200 && answer.content_type == ContentType::json;
  if (usual && is_to_anyone(answer, head)) {
    out.append(start_to_anyone_.view());
  } else {
    out.append(usual ? start_.view() : status_line(answer.status));
    if (!usual) each_usual_field(answer.content_type, take);
    each_cors_field(answer, head, take);
  }
  each_own_field(answer, take);
  if (has_body(answer.status) && !answer.length_unknown) {
    out.append("Content-Length: ");
    out.append(content.size());
    out.append("\r\n");
  }
  if (!keep_alive) {
    out.append("Connection: close\r\n");
  } else if (head.minor_version_0) {
    out.append("Connection: keep-alive\r\n");
  }
  out.append("\r\n");
  if (!answer.head_only) out.append(content);
}

}  // namespace visitd
