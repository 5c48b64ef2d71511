// A page of one site among several: the host before its path. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace visitd {

/// A page of a site.
struct SitePage {
  std::string host;
  std::string path;
  /// The page's id: as the browser of our script names it, or with its host before that.
  [[nodiscard]] std::string id(bool with_host) const { return with_host ? host + path : path; }
};

/// The page of an address: `https://HOST/PATH`, decoded, without query and fragment. nullopt: it has no host.
[[nodiscard]] std::optional<SitePage> page_of_url(std::string_view url);

/// The page in which all visits of a site count, in the place of counters that have totals of sites: "site:HOST".
[[nodiscard]] std::string site_total(std::string_view host);
/// The same of visits that a page said were a visitor's first: "visitors:HOST".
[[nodiscard]] std::string visitor_total(std::string_view host);

}  // namespace visitd
