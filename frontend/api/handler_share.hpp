// What all handlers share: what they answer from, what settings say of answers, and memory that is used again.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "common/pages/page_rules.hpp"
#include "frontend/api/address_rates.hpp"
#include "frontend/api/answers.hpp"
#include "frontend/api/backend.hpp"
#include "frontend/api/limit_details.hpp"
#include "frontend/api/new_pages.hpp"
#include "frontend/api/page_list.hpp"
#include "frontend/api/public_limits.hpp"
#include "frontend/api/visit_rules.hpp"
#include "frontend/http/client_address.hpp"

namespace visitd {

struct NamedPage {
  std::string_view asked;  ///< the id that the client sent
  std::string_view name;   ///< under which the page is counted
};

struct HandlerShare {
  /// The settings are copied.
  HandlerShare(const Settings& settings, const Backend& its_backend);

  /// Takes what may change while it runs.
  void take_settings(const Settings& settings);

  /// The page that a path names; a name that is empty: its id breaks a rule, and `answer` says which. Lives until the
  /// next call.
  [[nodiscard]] NamedPage page_of(std::string_view encoded, Answer& answer);
  /// Whether the settings name this origin, not only "*".
  [[nodiscard]] bool is_named_origin(std::string_view origin) const noexcept;
  /// 503 with Retry-After.
  void refuse_for_now(const Problem& problem, Answer& answer) const noexcept;
  /// 503 with Retry-After, since the page's count is unknown or damaged. `parameter`: the page, if the request names
  /// several.
  void refuse_unknown(const CountAnswer& count, Answer& answer, std::string_view parameter = {}) const noexcept;
  /// An empty text for a long answer, which lives until the next one.
  [[nodiscard]] std::string& start_document() noexcept;
  /// The answer was turned into bytes: gives back the memory of a long one.
  void release_document() noexcept;

  Backend backend;
  LimitDetails limits;
  std::uint32_t page_id_limit_bytes;
  std::uint32_t retry_after_s;
  std::uint32_t list_timeout_ms;
  std::uint32_t owner_timeout_ms;
  std::uint32_t stream_limit;
  std::uint64_t stream_timeout_ms;
  std::uint32_t streams_open = 0;  ///< of this frontend
  std::vector<std::string> cors_origins;
  std::string badge_caching;  ///< Cache-Control of badges
  PageRules page_rules;
  TrustedProxies proxies;
  PublicLimits public_limits;
  VisitRules visit_rules;
  AddressRates address_rates;
  NewPages new_pages;
  bool counts_all = true;  ///< no rule and no limit concerns a visit of one page
  std::string decoded;     ///< room for a page id while its request is answered
  PageList list;           ///< of the request that is being answered
  std::string document;    ///< a long answer until it is bytes
};

/// Why a visit that was not recorded is refused.
[[nodiscard]] constexpr Refusal refusal_of(Recorded recorded) noexcept {
  return recorded == Recorded::full ? Refusal::lane_full : Refusal::restarting;
}

}  // namespace visitd
