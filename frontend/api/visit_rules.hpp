// Which visits count: from pages of which origins, of which pages, and whose are taken and not counted. Each rule is a
// setting, and without any of them every visit counts. Knows no socket.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "common/os/ip_network.hpp"
#include "frontend/api/page_list.hpp"
#include "frontend/http/client_address.hpp"
#include "frontend/http/refusals.hpp"
#include "frontend/http/request_head.hpp"

namespace visitd {

class VisitRules {
 public:
  explicit VisitRules(const Settings& settings);

  /// Whether there is a rule at all.
  [[nodiscard]] bool any() const noexcept { return any_; }

  /// Why no visit of a stranger's request counts; nullopt: they may. The problem's detail lives until the next call.
  /// An origin is what a browser says of a page: it stops pages of other sites, not a program that names an origin.
  [[nodiscard]] std::optional<Problem> problem_with_origin(const RequestHead& head);
  /// Why a stranger's visit of this page does not count; nullopt: it may. As above.
  [[nodiscard]] std::optional<Problem> problem_with_page(std::string_view page);
  /// The same of the first page of a list of which this is so.
  [[nodiscard]] std::optional<Problem> problem_with_pages(const PageList& list);

  /// Whether visits of this request are answered with success, and not counted. `sender`: whom it is from.
  [[nodiscard]] bool ignores(const RequestHead& head, const ClientAddress& sender) const;

 private:
  std::vector<std::string> origins_;
  std::vector<std::string> pages_;  ///< patterns
  IpNetworks ignored_addresses_;
  std::vector<std::string> ignored_agents_;  ///< in lower case
  bool any_;
  std::string detail_;
};

}  // namespace visitd
