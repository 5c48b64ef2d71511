#include "ctl/import_keys.hpp"

#include <algorithm>
#include <utility>

#include "common/os/text.hpp"
#include "ctl/md5.hpp"

namespace visitd {

namespace {

constexpr std::string_view vercount_prefix = "pv:page:";

std::string both(std::string_view site_digest, std::string_view page_digest) {
  std::string text(site_digest);
  append_all(text, ":", page_digest);
  return text;
}

/// MD516 is the middle of MD532.
std::string shortened(const std::string& digest) {
  return digest.substr(8, 16);
}

}  // namespace

bool is_own_key(std::string_view key) noexcept {
  constexpr std::string_view names[] = {"visits:topology", "visits:mover", "visits:writers"};
  return key.starts_with("visits:{") || std::ranges::any_of(names, [&](std::string_view name) {
           return key.starts_with(name) && (key.size() == name.size() || key[name.size()] == '{');
         });
}

std::optional<SitePage> vercount_page(std::string_view key) {
  if (!key.starts_with(vercount_prefix)) return std::nullopt;
  key.remove_prefix(vercount_prefix.size());
  // A host may have a port, and a list of a site's pages, pv:page:index:HOST, has no slash.
  const std::size_t end = key.find(":/");
  if (end == 0 || end == std::string_view::npos) return std::nullopt;
  const std::string_view path = key.substr(end + 1);
  return SitePage{std::string(key.substr(0, end)), percent_decoded(path).value_or(std::string(path))};
}

std::optional<std::string> vercount_total(std::string_view key, std::string& host) {
  for (const auto& [prefix, page_of] : {std::pair(std::string_view("pv:site:"), &site_total),
                                        std::pair(std::string_view("uv:site:count:"), &visitor_total)}) {
    if (!key.starts_with(prefix) || key.size() == prefix.size()) continue;
    host = key.substr(prefix.size());
    return page_of(host);
  }
  return std::nullopt;
}

void BusuanziPages::add(const SitePage& page) {
  hosts_.insert(page.host);
  const std::string site = md5_hex(page.host);
  sites_.insert_or_assign(site, page.host);
  sites_.insert_or_assign(shortened(site), page.host);
  for (const std::string& name : {page.path, page.host + "&" + page.path}) {
    const std::string digest = md5_hex(name);
    ids_.insert_or_assign(both(site, digest), page.id(with_host_));
    ids_.insert_or_assign(both(shortened(site), shortened(digest)), page.id(with_host_));
  }
}

const std::string* BusuanziPages::site(std::string_view digest) const {
  const auto found = sites_.find(std::string(digest));
  return found == sites_.end() ? nullptr : &found->second;
}

const std::string* BusuanziPages::find(std::string_view site_digest, std::string_view page_digest) const {
  const auto found = ids_.find(both(site_digest, page_digest));
  return found == ids_.end() ? nullptr : &found->second;
}

}  // namespace visitd
