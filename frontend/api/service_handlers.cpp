#include <algorithm>
#include <vector>

#include "common/page/page_scripts.hpp"
#include "frontend/api/documents.hpp"
#include "frontend/api/handlers.hpp"

namespace visitd {

namespace {

void answer_status(std::string_view status, Answer& answer) noexcept {
  answer.cache_control = never_stored;
  answer.content_type = ContentType::json;
  append_all(answer.body, R"({"status":")", status, R"("})");
}

/// A page that has the current script loads the next one within a day of an upgrade.
constexpr std::string_view kept_a_day = "public, max-age=86400";
/// What has a version in its name stays as it is.
constexpr std::string_view kept_for_good = "public, max-age=31536000, immutable";

Handled answer_script(std::string_view script, std::string_view caching, const Call& call, Answer& answer) noexcept {
  answer.content_type = ContentType::javascript;
  answer.cache_control = caching;
  answer.body.show(script);
  answer.tag(*call.head);
  return Handled::answered;
}

/// What was answered, with all checks.
void add_checks(const std::vector<Check>& checks, HandlerShare& share, Answer& answer) {
  std::string& document = share.start_document();
  document.append(answer.body.bytes());
  document.pop_back();  // the closing brace
  document.append(R"(,"checks":[)");
  for (const Check& check : checks) {
    if (&check != &checks.front()) document += ',';
    document.append(R"({"name":")");
    append_json(check.name, document);
    append_all(document, R"(","status":")", name_of(check.result), R"(","detail":")");
    append_json(check.detail, document);
    document.append(R"("})");
  }
  document.append("]}");
  answer.body.show(document);
}

}  // namespace

Handled show_health(HandlerShare&, const Call&, Answer& answer) {
  answer_status("healthy", answer);
  return Handled::answered;
}

Handled show_liveness(HandlerShare&, const Call&, Answer& answer) {
  answer_status("alive", answer);
  return Handled::answered;
}

Handled show_readiness(HandlerShare& share, const Call& call, Answer& answer) {
  const std::vector<Check> checks = share.backend.host.checks();
  const auto failed = std::ranges::find(checks, Check::Result::failed, &Check::result);
  if (failed == checks.end()) {
    answer_status("ready", answer);
  } else {
    share.refuse_for_now({.refusal = Refusal::not_ready, .detail = failed->name + ": " + failed->detail}, answer);
  }
  const std::string_view query = call.head->query;
  if (query == "verbose" || query.starts_with("verbose=")) add_checks(checks, share, answer);
  return Handled::answered;
}

Handled show_metrics(HandlerShare& share, const Call& call, Answer& answer) {
  answer.cache_control = never_stored;
  answer.content_type = ContentType::metrics;
  // What HEAD asks for is not worth the making; its length is then not known.
  answer.length_unknown = call.head->method == Method::head;
  if (answer.length_unknown) return Handled::answered;
  std::string& document = share.start_document();
  share.backend.host.write_metrics(document);
  answer.body.show(document);
  return Handled::answered;
}

Handled show_openapi(HandlerShare&, const Call&, Answer& answer) {
  answer.content_type = ContentType::json;
  answer.body.show(openapi_document());
  return Handled::answered;
}

Handled show_docs(HandlerShare&, const Call&, Answer& answer) {
  answer.content_type = ContentType::html;
  answer.body.show(docs_page());
  return Handled::answered;
}

Handled show_current_script(HandlerShare&, const Call& call, Answer& answer) {
  return answer_script(count_script(), kept_a_day, call, answer);
}

Handled show_script_version(HandlerShare&, const Call& call, Answer& answer) {
  return answer_script(count_script(), kept_for_good, call, answer);
}

Handled show_part_version(HandlerShare&, const Call& call, Answer& answer) {
  return answer_script(show_script(), kept_for_good, call, answer);
}

}  // namespace visitd
