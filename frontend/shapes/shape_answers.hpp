// Answers in the words of other counters, and the page that a request comes from.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/pages/site_page.hpp"
#include "frontend/api/answers.hpp"
#include "frontend/http/request_head.hpp"

namespace visitd {

/// Answers with JSON, in place of what the answer held.
void answer_json(std::uint16_t status, std::string_view json, Answer& answer);
/// The same with a script that calls `callback` with it.
void answer_call(std::string_view callback, std::string_view json, Answer& answer);

/// Refuses in the words of the other counter; `refusal` says under which name it is counted.
void refuse_as(Refusal refusal, std::uint16_t status, std::string_view json, Answer& answer);
/// The same with {"error":TEXT}.
void refuse_with_error(Refusal refusal, std::uint16_t status, std::string_view text, Answer& answer);

/// The page from which the request comes: of Referer, else the first one of Origin's site. nullopt: neither says it.
[[nodiscard]] std::optional<SitePage> caller_of(const RequestHead& head);

/// The callback that a query names; empty: it names none. nullopt: it is no identifier, and the answer says so.
[[nodiscard]] std::optional<std::string> callback_of(std::string_view query, std::string_view parameter,
                                                     Answer& answer);

}  // namespace visitd
