#include "ctl/import_redis.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>

#include "common/os/errors.hpp"
#include "common/os/text.hpp"
#include "common/pages/site_page.hpp"
#include "common/shm/count.hpp"
#include "ctl/import_keys.hpp"
#include "ctl/progress_line.hpp"
#include "ctl/redis_source.hpp"
#include "ctl/report.hpp"
#include "ctl/whole_input.hpp"

namespace visitd {

namespace {

constexpr std::size_t keys_shown = 5;

/// Says how far a server is read.
class ReadProgress {
 public:
  ReadProgress(const std::string& server, std::uint64_t keys)
      : server_(server), keys_(std::max<std::uint64_t>(keys, 1)) {}

  void show(std::uint64_t read) {
    const double part = std::min(1.0, static_cast<double>(read) / static_cast<double>(keys_));
    line_.show(fmt::format("{}: {} of about {} keys are read, about {:.0f} s to go", server_, read, keys_,
                           time_.seconds_left(part)));
  }

 private:
  const std::string& server_;
  std::uint64_t keys_;
  TimeTaken time_;
  PassingLine line_;
};

/// A score is a double, which holds whole numbers up to 2^53.
std::optional<std::uint64_t> count_of_score(std::string_view score) {
  constexpr double most = 9007199254740992.0;
  const double value = std::strtod(std::string(score).c_str(), nullptr);
  if (!(value >= 0) || value > most || value != std::floor(value)) return std::nullopt;
  return static_cast<std::uint64_t>(value);
}

/// Has `take` called with pieces of all keys of a server that match the pattern, and shows how far it is. A key may
/// come more than once.
template <typename Take>
void each_piece(RedisSource& server, const std::string& pattern, Take take) {
  ReadProgress progress(server.name(), server.keys());
  std::uint64_t looked_at = 0;
  std::string cursor = "0";
  do {
    auto [next, keys] = server.scan(cursor, pattern);
    take(std::move(keys));
    progress.show(looked_at += RedisSource::scanned_at_once);
    cursor = std::move(next);
  } while (cursor != "0");
}

/// The strings of all keys of a server that match the pattern; nullopt: the key is no string. Each key once.
std::unordered_map<std::string, std::optional<std::string>> strings_of(RedisSource& server,
                                                                       const std::string& pattern) {
  std::unordered_map<std::string, std::optional<std::string>> strings;
  each_piece(server, pattern, [&](std::vector<std::string> keys) {
    std::vector<std::optional<std::string>> values = server.strings(keys);
    for (std::size_t i = 0; i < keys.size(); ++i) strings.insert_or_assign(std::move(keys[i]), std::move(values[i]));
  });
  return strings;
}

/// Connections to all servers. Throws Error where one of them is named twice, or is another one's replica: its keys
/// would count twice.
std::vector<RedisSource> servers_of(const RedisImport& wanted) {
  std::vector<RedisSource> servers;
  std::map<std::string, std::string> names;
  for (const std::string& url : wanted.urls) {
    servers.emplace_back(url, wanted.timeout_ms);
    if (wanted.urls.size() == 1) break;
    const auto [run_id, is_replica] = servers.back().identity();
    const std::string& name = servers.back().name();
    if (is_replica) throw error("nothing was counted: {} is a replica, of a server that may be among the others", name);
    const auto [other, is_new] = names.emplace(run_id + " " + std::to_string(servers.back().database()), name);
    if (!is_new) throw error("nothing was counted: {} and {} are the same server", other->second, name);
  }
  return servers;
}

std::string key_text(std::string_view key, const RedisSource& server) {
  return fmt::format("key '{}' of {}", printable(key), server.name());
}

/// The counter that visitd replaces keeps each page under its own id, on the node that its ring names.
void read_original(std::vector<RedisSource>& servers, ImportSums& sums) {
  std::unordered_map<std::string, std::size_t> servers_with;  // this key
  std::set<std::string> shared;
  std::uint64_t several = 0;
  for (RedisSource& server : servers) {
    for (const auto& [key, value] : strings_of(server, "*")) {
      if (is_own_key(key)) continue;
      const auto count = value ? to_count(*value) : std::nullopt;
      if (!count) {
        sums.leave_out_key(key);
        continue;
      }
      if (const std::string why = sums.add(key, *count); !why.empty()) sums.bad(key_text(key, server), why);
      if (servers.size() == 1 || ++servers_with[key] != 2) continue;
      ++several;
      if (shared.size() < keys_shown) shared.insert(printable(key));
    }
  }
  if (several == 0) return;
  sums.note(fmt::format("{} pages are on more than one server, and their counts are added up: {}{}", several,
                        fmt::join(shared, ", "), several > shared.size() ? " and others" : ""));
}

/// A string that is to hold a count of the page.
void add_string(const std::string& page, const std::optional<std::string>& value, const std::string& key,
                const RedisSource& server, ImportSums& sums) {
  const auto count = value ? to_count(*value) : std::nullopt;
  const std::string why = count ? sums.add(page, *count) : "it holds no count";
  if (!why.empty()) sums.bad(key_text(key, server), why);
}

void read_vercount_totals(const RedisImport& wanted, RedisSource& server, ImportSums& sums) {
  for (const char* const pattern : {"pv:site:*", "uv:site:count:*"}) {
    for (const auto& [key, value] : strings_of(server, pattern)) {
      std::string host;
      const auto page = vercount_total(key, host);
      if (!page || (!wanted.site.empty() && host != wanted.site)) {
        sums.leave_out();
        continue;
      }
      add_string(*page, value, key, server, sums);
    }
  }
}

void read_vercount(const RedisImport& wanted, std::vector<RedisSource>& servers, ImportSums& sums) {
  std::set<std::string> hosts;
  for (RedisSource& server : servers) {
    for (const auto& [key, value] : strings_of(server, "pv:page:*")) {
      const auto page = vercount_page(key);
      if (!page || !value || (!wanted.site.empty() && page->host != wanted.site)) {
        sums.leave_out();
        continue;
      }
      hosts.insert(page->host);
      add_string(page->id(wanted.with_host), value, key, server, sums);
    }
    if (wanted.site_totals) read_vercount_totals(wanted, server, sums);
  }
  if (hosts.size() < 2 || wanted.with_host) return;
  throw error(
      "nothing was counted: there are pages of more than one site, {} and {} among them. Their pages would be added "
      "up: "
      "name one site with --site, or say --with-host, and each page's id begins with its host",
      printable(*hosts.begin()), printable(*hosts.rbegin()));
}

BusuanziPages known_pages(const RedisImport& wanted) {
  if (wanted.pages.empty()) {
    throw Error(
        "busuanzi keeps digests of pages, which nobody can turn back: name a file with the address of each page, one a "
        "line, with --pages (a site's map has them)");
  }
  BusuanziPages pages(wanted.with_host);
  const std::string text = read_whole_input(wanted.pages);
  each_line(text, [&](std::uint64_t number, std::string_view line) {
    const auto page = page_of_url(trim(line));
    if (!page) {
      throw error("{}, line {}: '{}' is no address of a page: write https://HOST/PATH", wanted.pages, number,
                  printable(line));
    }
    pages.add(*page);
  });
  if (pages.hosts().empty()) throw error("{} names no page", wanted.pages);
  if (pages.hosts().size() > 1 && !wanted.with_host) {
    throw error(
        "{} has pages of more than one site, {} and {} among them. Their pages would be added up: name those of "
        "one site, or say --with-host, and each page's id begins with its host",
        wanted.pages, printable(*pages.hosts().begin()), printable(*pages.hosts().rbegin()));
  }
  return pages;
}

/// What nobody can name of a site whose pages are known.
struct Unnamed {
  std::uint64_t pages = 0;
  std::uint64_t visits = 0;
  std::uint64_t sites = 0;
};

void read_busuanzi_site(RedisSource& server, const std::string& key, std::string_view site, const BusuanziPages& pages,
                        ImportSums& sums, Unnamed& unnamed) {
  std::unordered_map<std::string, std::string> scores;
  const bool is_set = server.each_member(key, [&](std::string_view member, std::string_view score) {
    scores.insert_or_assign(std::string(member), std::string(score));
  });
  if (!is_set) return sums.leave_out_key(key);
  for (const auto& [member, score] : scores) {
    const auto count = count_of_score(score);
    const std::string* const page = pages.find(site, member);
    if (page == nullptr) {
      ++unnamed.pages;
      unnamed.visits += count.value_or(0);
      continue;
    }
    const std::string why = count ? sums.add(*page, *count) : fmt::format("'{}' is no count", printable(score));
    if (!why.empty()) sums.bad(fmt::format("page '{}' in {}", printable(*page), key_text(key, server)), why);
  }
}

void read_busuanzi_totals(const std::string& prefix, RedisSource& server, const BusuanziPages& pages,
                          ImportSums& sums) {
  for (const auto& [key, value] : strings_of(server, "*:site_pv:*")) {
    if (!key.starts_with(prefix)) continue;
    const std::string* const host = pages.site(key.substr(prefix.size()));
    if (host == nullptr) {
      sums.leave_out();
    } else {
      add_string(site_total(*host), value, key, server, sums);
    }
  }
}

void read_busuanzi(const RedisImport& wanted, std::vector<RedisSource>& servers, ImportSums& sums) {
  const BusuanziPages pages = known_pages(wanted);
  const std::string prefix = wanted.prefix + ":page_pv:";
  Unnamed unnamed;
  for (RedisSource& server : servers) {
    std::set<std::string> keys;
    each_piece(server, "*:page_pv:*", [&](const std::vector<std::string>& some) {
      std::ranges::copy_if(some, std::inserter(keys, keys.end()),
                           [&](const std::string& key) { return key.starts_with(prefix); });
    });
    for (const std::string& key : keys) {
      const std::string site = key.substr(prefix.size());
      if (pages.site(site) != nullptr) {
        read_busuanzi_site(server, key, site, pages, sums, unnamed);
      } else {
        ++unnamed.sites;
      }
    }
    if (wanted.site_totals) read_busuanzi_totals(wanted.prefix + ":site_pv:", server, pages, sums);
  }
  if (unnamed.pages != 0) {
    sums.note(fmt::format("{} pages of these sites, with {} visits, are not counted: {} does not name them",
                          unnamed.pages, unnamed.visits, wanted.pages));
  }
  if (unnamed.sites != 0) {
    sums.note(fmt::format("{} other sites are not counted: {} names no page of theirs", unnamed.sites, wanted.pages));
  }
}

}  // namespace

Imported read_redis_import(const RedisImport& wanted, ImportNames names) {
  ImportSums sums(std::move(names));
  std::vector<RedisSource> servers = servers_of(wanted);
  switch (wanted.format) {
    case ImportFormat::vercount:
      read_vercount(wanted, servers, sums);
      break;
    case ImportFormat::busuanzi:
      read_busuanzi(wanted, servers, sums);
      break;
    default:
      read_original(servers, sums);
      break;
  }
  return std::move(sums).take();
}

}  // namespace visitd
