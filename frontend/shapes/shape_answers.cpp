#include "frontend/shapes/shape_answers.hpp"

#include <fmt/format.h>

#include "common/os/text.hpp"
#include "frontend/http/head_fields.hpp"
#include "frontend/shapes/request_parts.hpp"

namespace visitd {

void answer_json(std::uint16_t status, std::string_view json, Answer& answer) {
  answer.status = status;
  answer.content_type = ContentType::json;
  answer.cache_control = never_stored;
  answer.body.clear();
  answer.body.append(json);
}

void answer_call(std::string_view callback, std::string_view json, Answer& answer) {
  answer_json(200, "", answer);
  answer.content_type = ContentType::javascript;
  append_all(answer.body, callback, "(", json, ");");
}

void refuse_as(Refusal refusal, std::uint16_t status, std::string_view json, Answer& answer) {
  answer.refuse({.refusal = refusal});
  answer_json(status, json, answer);
}

void refuse_with_error(Refusal refusal, std::uint16_t status, std::string_view text, Answer& answer) {
  refuse_as(refusal, status, R"({"error":")", answer);
  append_json(text, answer.body);
  answer.body.append("\"}");
}

std::optional<SitePage> caller_of(const RequestHead& head) {
  if (const auto page = web_page_of(find_field(head.fields, "referer").value_or(""))) return page;
  return web_page_of(head.origin);
}

std::optional<std::string> callback_of(std::string_view query, std::string_view parameter, Answer& answer) {
  std::string callback = parameter_of(query, parameter).value_or("");
  if (callback.empty() || is_callback(callback)) return callback;
  refuse_with_error(Refusal::unknown_parameter, 400,
                    fmt::format("{} must be the name of a function: identifiers with dots between them, at most {} "
                                "bytes",
                                parameter, callback_limit_bytes),
                    answer);
  return std::nullopt;
}

}  // namespace visitd
