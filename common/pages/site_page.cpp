#include "common/pages/site_page.hpp"

#include <algorithm>

#include "common/os/text.hpp"

namespace visitd {

std::optional<SitePage> page_of_url(std::string_view url) {
  const std::size_t scheme = url.find("://");
  if (scheme == std::string_view::npos || scheme == 0) return std::nullopt;
  url.remove_prefix(scheme + 3);
  url = url.substr(0, url.find_first_of("?#"));
  const std::size_t slash = std::min(url.find('/'), url.size());
  if (slash == 0) return std::nullopt;
  const std::string_view path = slash == url.size() ? "/" : url.substr(slash);
  return SitePage{std::string(url.substr(0, slash)), percent_decoded(path).value_or(std::string(path))};
}

std::string site_total(std::string_view host) {
  return std::string("site:").append(host);
}

std::string visitor_total(std::string_view host) {
  return std::string("visitors:").append(host);
}

}  // namespace visitd
