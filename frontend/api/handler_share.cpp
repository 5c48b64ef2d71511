#include "frontend/api/handler_share.hpp"

#include <optional>

#include "common/shm/page_id.hpp"
#include "frontend/http/target.hpp"

namespace visitd {

namespace {

/// Beyond, the memory of a long answer is given back.
constexpr std::size_t usual_document_bytes = 65536;

}  // namespace

HandlerShare::HandlerShare(const Settings& settings, const Backend& its_backend)
    : backend(its_backend),
      limits(settings),
      page_id_limit_bytes(settings.pages.page_id_limit_bytes),
      retry_after_s(settings.http.retry_after_s),
      list_timeout_ms(settings.http.list_timeout_ms),
      public_limits(settings),
      visit_rules(settings),
      decoded(settings.http.target_limit_bytes, '\0'),
      list(settings.pages.page_id_limit_bytes, settings.http.batch_read_limit) {}

void HandlerShare::take_settings(const Settings& settings) {
  limits.take_settings(settings);
  retry_after_s = settings.http.retry_after_s;
  list_timeout_ms = settings.http.list_timeout_ms;
  public_limits = PublicLimits(settings);
  visit_rules = VisitRules(settings);
  list.set_read_limit(settings.http.batch_read_limit);
}

std::string_view HandlerShare::page_of(std::string_view encoded, Answer& answer) {
  const auto page = decode_path(encoded, decoded);
  if (!page) {
    answer.refuse({.refusal = Refusal::invalid_percent_encoding, .parameter = "page_id"});
    return {};
  }
  if (const PageIdFault fault = check_page_id(*page, page_id_limit_bytes); fault != PageIdFault::none) {
    answer.refuse({.refusal = Refusal::invalid_page_id, .detail = describe(fault, *page, page_id_limit_bytes)});
    return {};
  }
  return *page;
}

void HandlerShare::refuse_for_now(const Problem& problem, Answer& answer) const noexcept {
  answer.refuse(problem);
  answer.retry_after_s = retry_after_s;
}

std::string& HandlerShare::start_document() noexcept {
  document.clear();
  return document;
}

void HandlerShare::release_document() noexcept {
  if (document.capacity() > usual_document_bytes) document = std::string();
}

}  // namespace visitd
