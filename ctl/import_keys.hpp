// What the keys of other counters' Redis servers mean. Pure.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/pages/site_page.hpp"

namespace visitd {

/// Whether it is one of visitd's own keys, which may be in the same database.
[[nodiscard]] bool is_own_key(std::string_view key) noexcept;

/// Vercount: `pv:page:HOST:/PATH`, a string. nullopt: this is not the key of a page.
[[nodiscard]] std::optional<SitePage> vercount_page(std::string_view key);

/// Vercount: `pv:site:HOST` and `uv:site:count:HOST`, strings. The page that counts in its place; nullopt: this is no
/// key of a total. `host`: becomes the site's.
[[nodiscard]] std::optional<std::string> vercount_total(std::string_view key, std::string& host);

/// soxft/busuanzi: `PREFIX:page_pv:SITE`, a sorted set of pages by visits, both as digests that nobody can turn back:
/// the pages have to be known.
class BusuanziPages {
 public:
  /// `with_host`: see SitePage::id.
  explicit BusuanziPages(bool with_host) noexcept : with_host_(with_host) {}

  /// Each page under the names that it may have there: the settings Encrypt (MD516, MD532) and PathStyle decide.
  void add(const SitePage& page);
  [[nodiscard]] const std::set<std::string>& hosts() const noexcept { return hosts_; }
  /// The host of the site with this digest; nullptr: none of its pages is known.
  [[nodiscard]] const std::string* site(std::string_view digest) const;
  /// The id of the page; nullptr: no known page has this digest.
  [[nodiscard]] const std::string* find(std::string_view site_digest, std::string_view page_digest) const;

 private:
  bool with_host_;
  std::set<std::string> hosts_;
  std::unordered_map<std::string, std::string> sites_;  ///< hosts by their digests
  std::unordered_map<std::string, std::string> ids_;    ///< by the digests of site and page, a colon between them
};

}  // namespace visitd
