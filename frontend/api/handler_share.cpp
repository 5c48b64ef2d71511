#include "frontend/api/handler_share.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "common/shm/page_id.hpp"
#include "frontend/http/target.hpp"

namespace visitd {

namespace {

/// Beyond, the memory of a long answer is given back.
constexpr std::size_t usual_document_bytes = 65536;

std::string caching_for(std::uint32_t seconds) {
  return fmt::format("public, max-age={}", seconds);
}

}  // namespace

HandlerShare::HandlerShare(const Settings& settings, const Backend& its_backend)
    : backend(its_backend),
      limits(settings),
      page_id_limit_bytes(settings.pages.page_id_limit_bytes),
      retry_after_s(settings.http.retry_after_s),
      list_timeout_ms(settings.http.list_timeout_ms),
      owner_timeout_ms(settings.owner.timeout_ms),
      stream_limit(settings.http.stream_limit),
      stream_timeout_ms(std::uint64_t{settings.http.stream_timeout_s} * 1000),
      cors_origins(settings.http.cors_origins),
      badge_caching(caching_for(settings.http.badge_max_age_s)),
      page_rules(settings.pages.rules),
      proxies(settings.http.trusted_proxies),
      public_limits(settings),
      visit_rules(settings),
      address_rates(settings),
      new_pages(settings),
      counts_all(!visit_rules.any() && !address_rates.any() && !new_pages.any()),
      decoded(settings.http.target_limit_bytes, '\0'),
      list(settings.pages.page_id_limit_bytes, settings.http.batch_read_limit, page_rules) {}

void HandlerShare::take_settings(const Settings& settings) {
  limits.take_settings(settings);
  retry_after_s = settings.http.retry_after_s;
  list_timeout_ms = settings.http.list_timeout_ms;
  owner_timeout_ms = settings.owner.timeout_ms;
  stream_limit = settings.http.stream_limit;
  stream_timeout_ms = std::uint64_t{settings.http.stream_timeout_s} * 1000;
  cors_origins = settings.http.cors_origins;
  badge_caching = caching_for(settings.http.badge_max_age_s);
  page_rules = PageRules(settings.pages.rules);
  proxies = TrustedProxies(settings.http.trusted_proxies);
  public_limits = PublicLimits(settings);
  visit_rules = VisitRules(settings);
  address_rates.take_settings(settings);
  new_pages.take_settings(settings);
  counts_all = !visit_rules.any() && !address_rates.any() && !new_pages.any();
  list.set_read_limit(settings.http.batch_read_limit);
}

NamedPage HandlerShare::page_of(std::string_view encoded, Answer& answer) {
  const auto id = decode_path(encoded, decoded);
  if (!id) {
    answer.refuse({.refusal = Refusal::invalid_percent_encoding, .parameter = "page_id"});
    return {};
  }
  if (const PageIdFault fault = check_page_id(*id, page_id_limit_bytes); fault != PageIdFault::none) {
    answer.refuse({.refusal = Refusal::invalid_page_id, .detail = describe(fault, *id, page_id_limit_bytes)});
    return {};
  }
  if (!page_rules.any()) return {*id, *id};
  const NamedPage page{*id, page_rules.name_of(*id)};
  if (page.name.empty()) answer.refuse({.refusal = Refusal::invalid_page_id, .detail = nothing_left});
  return page;
}

bool HandlerShare::is_named_origin(std::string_view origin) const noexcept {
  return std::ranges::find(cors_origins, origin) != cors_origins.end();
}

void HandlerShare::refuse_for_now(const Problem& problem, Answer& answer) const noexcept {
  answer.refuse(problem);
  answer.retry_after_s = retry_after_s;
}

void HandlerShare::refuse_unknown(const CountAnswer& count, Answer& answer, std::string_view parameter) const noexcept {
  const bool damaged = count.kind == CountAnswer::Kind::damaged;
  refuse_for_now({.refusal = damaged ? Refusal::count_damaged : Refusal::count_unknown,
                  .detail = count.why,
                  .parameter = parameter},
                 answer);
}

std::string& HandlerShare::start_document() noexcept {
  document.clear();
  return document;
}

void HandlerShare::release_document() noexcept {
  if (document.capacity() > usual_document_bytes) document = std::string();
}

}  // namespace visitd
