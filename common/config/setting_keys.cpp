#include "common/config/setting_keys.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <type_traits>

#include "common/config/shard_address.hpp"
#include "common/os/ip_network.hpp"
#include "common/os/unix_address.hpp"
#include "common/shm/cache_layout.hpp"
#include "common/shm/page_id.hpp"

namespace visitd::setting {

namespace {

constexpr std::string_view unix_scheme = "unix:";

bool is_absolute_path(std::string_view text) {
  return text.starts_with('/') && text.find('\0') == std::string_view::npos;
}

bool is_absolute_path_or_empty(std::string_view text) {
  return text.empty() || is_absolute_path(text);
}

bool is_unreserved(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
         c == '_' || c == '~';
}

bool is_api_prefix(std::string_view text) {
  if (text.empty()) return true;
  if (!text.starts_with('/') || text.ends_with('/') || text.find("//") != std::string_view::npos) return false;
  // All that follows these is a page id: below them a path would name one page with the prefix and another without it.
  const std::string start = std::string(text) + '/';
  if (start.starts_with("/visit/") || start.starts_with("/visits/")) return false;
  const auto dots = [&](std::string_view segment) {
    return text.ends_with(segment) || text.find(std::string(segment) + '/') != text.npos;
  };
  return !dots("/.") && !dots("/..") && std::ranges::all_of(text, [](char c) { return c == '/' || is_unreserved(c); });
}

bool is_listen_address(std::string_view text) {
  if (text.starts_with(unix_scheme)) {
    const std::string_view path = text.substr(unix_scheme.size());
    return is_absolute_path(path) && !path.ends_with('/') && path.size() <= unix_path_limit_bytes;
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return false;
  const std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  std::uint16_t number = 0;
  const auto [end, failed] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (failed != std::errc{} || end != port.data() + port.size() || number == 0) return false;
  if (host.starts_with('[')) {
    return host.size() > 3 && host.ends_with(']') &&
           host.find_first_not_of("0123456789abcdefABCDEF:.", 1) == host.size() - 1;
  }
  return std::ranges::all_of(host, is_unreserved);
}

bool is_network(std::string_view text) {
  return IpNetwork::parse(text).has_value();
}

bool is_origin(std::string_view text) {
  if (text == "*") return true;
  const std::size_t scheme = text.find("://");
  if (scheme == std::string_view::npos || scheme == 0 || scheme + 3 == text.size()) return false;
  // Browsers write an origin in lower case, and it is compared byte by byte.
  const auto lower_case = [](char c) { return is_unreserved(c) && !(c >= 'A' && c <= 'Z'); };
  return std::ranges::all_of(text.substr(0, scheme), lower_case) &&
         std::ranges::all_of(text.substr(scheme + 3),
                             [&](char c) { return lower_case(c) || c == ':' || c == '[' || c == ']'; });
}

bool is_not_empty(std::string_view text) {
  return !text.empty();
}

constexpr std::uint64_t minute_ms = 60'000;
constexpr std::uint64_t hour_ms = 60 * minute_ms;
constexpr std::uint64_t day_ms = 24 * hour_ms;
constexpr std::uint64_t day_s = 86'400;

// The control socket stands in the runtime directory, and the path of a Unix socket has at most 107 bytes.
constexpr std::uint64_t runtime_path_limit_bytes = 90;
constexpr std::uint64_t least_lane_bytes = 64 * kib;
// A lane that holds only a few records refuses visits whenever the flusher rests.
static_assert(least_lane_bytes >= 32 * max_record_bytes);

/// The place of a member of a section.
template <auto section, auto member>
constexpr auto at = [] {
  using Value = std::decay_t<decltype(std::declval<Draft>().*section.*member)>;
  return Place<Value>{[](Draft& draft) -> Value& { return draft.*section.*member; },
                      [](const Draft& draft) -> const Value& { return draft.*section.*member; }};
}();

constexpr Key number(std::string_view section, std::string_view name, AnyPlace place, std::string_view unit,
                     std::uint64_t least, std::uint64_t most, std::string_view help, std::string_view original = "") {
  return {.section = section,
          .name = name,
          .place = place,
          .unit = unit,
          .least = least,
          .most = most,
          .original = original,
          .help = help};
}

/// A text, or a list of them.
constexpr Key text(std::string_view section, std::string_view name, AnyPlace place, std::uint64_t least,
                   std::uint64_t most, Form form, std::string_view allowed, std::string_view help,
                   std::string_view original = "") {
  return {.section = section,
          .name = name,
          .place = place,
          .least = least,
          .most = most,
          .form = form,
          .allowed = allowed,
          .original = original,
          .help = help};
}

constexpr Key choice(std::string_view section, std::string_view name, AnyPlace place, std::string_view help,
                     std::string_view original = "") {
  return {.section = section, .name = name, .place = place, .original = original, .help = help};
}

constexpr Key power_of_two(Key key) {
  key.power_of_two = true;
  return key;
}

/// Counts after a restart of these; without it a reload is enough.
constexpr Key after_restart_of(Takes takes, Key key) {
  key.takes = takes;
  return key;
}

constexpr Key part_of_shard(Key key) {
  key.part_of_shard = true;
  return key;
}

constexpr Key secret(Key key) {
  key.secret = true;
  return key;
}

constexpr std::array table = {
    after_restart_of(Takes::all,
                     text("paths", "runtime_directory", at<&Draft::paths, &PathsSettings::runtime_directory>, 1,
                          runtime_path_limit_bytes, is_absolute_path, "an absolute path of at most 90 bytes",
                          "Locks, the ids of the segments, doorbells and the control socket; the same for all programs "
                          "of an instance.")),
    after_restart_of(Takes::flusher,
                     text("paths", "state_directory", at<&Draft::paths, &PathsSettings::state_directory>, 1, 4000,
                          is_absolute_path, "an absolute path, other than the runtime directory",
                          "The flusher's spool: visits that Redis has not yet acknowledged. Must survive a reboot.")),

    after_restart_of(
        Takes::frontends,
        number("pages", "page_id_limit_bytes", at<&Draft::pages, &PagesSettings::page_id_limit_bytes>, "bytes", 1,
               max_page_id_bytes, "The longest page id, as decoded UTF-8; longer ones are answered 400.")),

    after_restart_of(Takes::frontends, number("ring", "lanes", at<&Draft::ring, &RingSettings::lanes>, "", 1, max_lanes,
                                              "How many frontends can run on the host at a time.")),
    after_restart_of(
        Takes::frontends,
        power_of_two(number("ring", "lane_bytes", at<&Draft::ring, &RingSettings::lane_bytes>, "bytes",
                            least_lane_bytes, 4 * gib,
                            "Room for visits of one frontend that are not yet on disk; a full lane answers 503."))),

    after_restart_of(
        Takes::flusher,
        number("cache", "entries", at<&Draft::cache, &CacheSettings::entries>, "", 16, 16'777'216,
               "How many pages the cache in shared memory holds, of those that somebody asked for. A page with an id "
               "of more than 256 bytes takes the room of up to four.")),
    number("cache", "ttl_ms", at<&Draft::cache, &CacheSettings::ttl_ms>, "ms", 10, hour_ms,
           "How long a count from Redis is served. One that is read in the last fifth of this time is asked for again "
           "meanwhile."),
    number("cache", "stale_limit_s", at<&Draft::cache, &CacheSettings::stale_limit_s>, "s", 0, 365 * day_s,
           "How long past its TTL a count is still served, marked stale, while its shard or the flusher is away."),
    number("cache", "flusher_away_ms", at<&Draft::cache, &CacheSettings::flusher_away_ms>, "ms", 500, minute_ms,
           "A flusher that has not shown itself for so long is away: known counts are served stale."),
    after_restart_of(
        Takes::frontends,
        number(
            "cache", "backlog_index_pages", at<&Draft::cache, &CacheSettings::backlog_index_pages>, "", 4096,
            16'777'216,
            "The most pages in a frontend's index over a long backlog, at most 160 bytes each; beyond, reads scan.")),

    after_restart_of(
        Takes::frontends,
        text("http", "listen", at<&Draft::http, &HttpSettings::listen>, 1, 16, is_listen_address,
             "HOST:PORT, [IPV6]:PORT or unix:/PATH",
             "Where the frontends listen; [::] serves IPv4 too. Sockets passed by systemd take its place.")),
    after_restart_of(
        Takes::frontends,
        text("http", "private_listen", at<&Draft::http, &HttpSettings::private_listen>, 0, 16, is_listen_address,
             "HOST:PORT, [IPV6]:PORT or unix:/PATH",
             "The addresses that serve /livez, /readyz and /metrics. They also serve all else, without the limits for "
             "requests from outside. None: http.listen serves all.")),
    after_restart_of(
        Takes::frontends,
        text("http", "api_prefix", at<&Draft::http, &HttpSettings::api_prefix>, 0, 128, is_api_prefix,
             "empty, or a path of A-Z a-z 0-9 - . _ ~ that begins with / and does not end with it, not /visit or "
             "/visits or below them",
             "The routes are served below this path as well as at the root; empty: only at the root.", "API_PREFIX")),
    text("http", "cors_origins", at<&Draft::http, &HttpSettings::cors_origins>, 0, 64, is_origin,
         "SCHEME://HOST[:PORT] in lower case, or \"*\" alone",
         "Pages of these origins may read the answers. \"*\": pages of every origin. Empty: no CORS headers."),
    choice(
        "http", "hot_routes", at<&Draft::http, &HttpSettings::hot_routes>,
        "How visits and counts are answered: straight from the request's head, or through cpp-httplib like all else."),
    after_restart_of(
        Takes::frontends,
        number("http", "head_limit_bytes", at<&Draft::http, &HttpSettings::head_limit_bytes>, "bytes", 1 * kib, 1 * mib,
               "The largest head (request line and headers); larger ones are answered 431.")),
    after_restart_of(Takes::frontends,
                     number("http", "target_limit_bytes", at<&Draft::http, &HttpSettings::target_limit_bytes>, "bytes",
                            128, 1 * mib, "The longest request target; longer ones are answered 414.")),
    after_restart_of(Takes::frontends, number("http", "header_limit", at<&Draft::http, &HttpSettings::header_limit>, "",
                                              8, 1024, "The most headers of a request; more are answered 431.")),
    number("http", "body_limit_bytes", at<&Draft::http, &HttpSettings::body_limit_bytes>, "bytes", 0, 1 * gib,
           "The largest body; larger ones are answered 413."),
    number("http", "buffered_bodies_limit_bytes", at<&Draft::http, &HttpSettings::buffered_bodies_limit_bytes>, "bytes",
           64 * kib, 64 * gib,
           "The most memory of a frontend for bodies that are being received; beyond it stalled ones and those of "
           "the address that holds most make room, or the new one is answered 503."),
    number("http", "buffered_answers_limit_bytes", at<&Draft::http, &HttpSettings::buffered_answers_limit_bytes>,
           "bytes", 64 * kib, 64 * gib,
           "The most memory of a frontend for answers that clients have not taken yet; beyond it the connection that "
           "waits longest is closed."),
    number("http", "batch_read_limit", at<&Draft::http, &HttpSettings::batch_read_limit>, "", 1, 100'000,
           "The most pages whose counts one request reads."),
    number("http", "public_visits_limit", at<&Draft::http, &HttpSettings::public_visits_limit>, "", 0,
           std::numeric_limits<std::uint32_t>::max(),
           "The most visits that a list from outside may add to one page; more are answered 403, and none of the list "
           "is counted. 0: no limit."),
    number("http", "public_entries_limit", at<&Draft::http, &HttpSettings::public_entries_limit>, "", 0, 10'000'000,
           "The most entries of a list of visits from outside; more are answered 403, and none is counted. 0: no "
           "limit."),
    number("http", "head_timeout_ms", at<&Draft::http, &HttpSettings::head_timeout_ms>, "ms", 10, hour_ms,
           "From a request's first byte to the end of its head."),
    number("http", "body_timeout_ms", at<&Draft::http, &HttpSettings::body_timeout_ms>, "ms", 10, hour_ms,
           "From the end of a head to the end of the body."),
    number("http", "send_timeout_ms", at<&Draft::http, &HttpSettings::send_timeout_ms>, "ms", 10, hour_ms,
           "How long a client may take to receive an answer."),
    number("http", "idle_timeout_ms", at<&Draft::http, &HttpSettings::idle_timeout_ms>, "ms", 10, day_ms,
           "How long a connection is kept open without a request."),
    number("http", "send_buffer_bytes", at<&Draft::http, &HttpSettings::send_buffer_bytes>, "bytes", 4 * kib, 16 * mib,
           "The kernel's memory for answers that a client has not taken yet; the kernel doubles it."),
    number("http", "connection_limit", at<&Draft::http, &HttpSettings::connection_limit>, "", 1, 1'000'000,
           "The most connections of a frontend; beyond them the longest idle one is closed."),
    number(
        "http", "address_connection_limit", at<&Draft::http, &HttpSettings::address_connection_limit>, "", 0, 1'000'000,
        "The most connections of one client address (of IPv6 one /64 network) to a frontend, but for trusted proxies; "
        "beyond them its longest idle one is closed, or the new one if all are busy. 0: no limit."),
    text("http", "trusted_proxies", at<&Draft::http, &HttpSettings::trusted_proxies>, 0, 256, is_network,
         "ADDRESS or ADDRESS/BITS",
         "The frontend believes Forwarded and X-Forwarded-For of these proxies, and of a client at a Unix socket that "
         "is "
         "closed to other users."),
    number("http", "lookup_timeout_ms", at<&Draft::http, &HttpSettings::lookup_timeout_ms>, "ms", 10, minute_ms,
           "How long a read waits for Redis before it is answered stale or 503."),
    number("http", "list_timeout_ms", at<&Draft::http, &HttpSettings::list_timeout_ms>, "ms", 10, 10 * minute_ms,
           "How long a read of many pages may wait while other lists are read; then it is answered 503."),
    number("http", "retry_after_s", at<&Draft::http, &HttpSettings::retry_after_s>, "s", 1, 3600,
           "The Retry-After of answers with 503."),
    number("http", "stop_timeout_ms", at<&Draft::http, &HttpSettings::stop_timeout_ms>, "ms", 0, 10 * minute_ms,
           "How long a stopping frontend goes on with the requests that it has begun."),

    number("flusher", "flush_interval_ms", at<&Draft::flusher, &FlusherSettings::flush_interval_ms>, "ms", 10, day_ms,
           "How often counts are sent to Redis.", "BATCH_INTERVAL_SECONDS"),
    number("flusher", "commit_interval_ms", at<&Draft::flusher, &FlusherSettings::commit_interval_ms>, "ms", 10,
           minute_ms, "How often visits are made durable in the spool, which frees their room in the lanes."),
    number("flusher", "memory_limit_bytes", at<&Draft::flusher, &FlusherSettings::memory_limit_bytes>, "bytes", 4 * mib,
           1024 * gib,
           "The most memory for pages with visits that Redis has not acknowledged, about 110 bytes a page. Three "
           "quarters of it are for visits that are not on their way yet: beyond half of these, what waits for a "
           "shard that takes no batches is kept in the spool alone; beyond all of these, visits wait in the "
           "lanes."),
    number("flusher", "journal_limit_bytes", at<&Draft::flusher, &FlusherSettings::journal_limit_bytes>, "bytes",
           1 * mib, 64 * gib,
           "From this size of the spool's journal on, or from that of all open visits on, it is folded by bucket."),
    number("flusher", "batch_pages", at<&Draft::flusher, &FlusherSettings::batch_pages>, "", 1, 1000,
           "The most pages that one script call changes."),
    number("flusher", "batches_in_flight", at<&Draft::flusher, &FlusherSettings::batches_in_flight>, "", 1, 65536,
           "The most unanswered batches of a shard."),
    number("flusher", "keep_batches_s", at<&Draft::flusher, &FlusherSettings::keep_batches_s>, "s", 0, 7 * day_s,
           "How long answered batches are kept for a shard that loses its last seconds."),
    number("flusher", "keep_batches_bytes", at<&Draft::flusher, &FlusherSettings::keep_batches_bytes>, "bytes", 0,
           64 * gib, "The most room that answered batches take, in memory and in the spool; the oldest go first."),
    number("flusher", "stop_flush_timeout_ms", at<&Draft::flusher, &FlusherSettings::stop_flush_timeout_ms>, "ms", 0,
           10 * minute_ms, "How long a stopping flusher waits for Redis; what it did not take stays in the spool."),

    after_restart_of(Takes::flusher,
                     secret(part_of_shard(text(
                         "redis", "shards", at<&Draft::for_shards, &ForShards::addresses>, 1, max_shards, is_not_empty,
                         "[NAME=]redis://[USER[:PASSWORD]@]HOST[:PORT][/DB] or NAME=unix:///PATH[?db=DB]",
                         "The Redis servers that hold the counts; without a name a shard is called redis_PORT. "
                         "Names place the pages: an address may change, a name may not.",
                         "REDIS_NODES")))),
    after_restart_of(
        Takes::flusher,
        secret(part_of_shard(text("redis", "password", at<&Draft::for_shards, &ForShards::password>, 0, 512,
                                  is_password, "text without NUL",
                                  "For shards without a password of their own; empty: none.", "REDIS_PASSWORD")))),
    after_restart_of(
        Takes::flusher,
        part_of_shard(text("redis", "password_file", at<&Draft::for_shards, &ForShards::password_file>, 0, 4000,
                           is_absolute_path_or_empty, "empty, or an absolute path",
                           "A file with that password instead. Without either the systemd credential redis_password is "
                           "used if there is one.",
                           "REDIS_PASSWORD_FILE"))),
    after_restart_of(
        Takes::flusher,
        part_of_shard(number("redis", "database", at<&Draft::for_shards, &ForShards::database>, "", 0,
                             max_redis_database, "For shards whose address names no database.", "REDIS_DB"))),
    after_restart_of(
        Takes::flusher,
        number("redis", "virtual_nodes", at<&Draft::redis, &RedisSettings::virtual_nodes>, "", 1, 10000,
               "Points of a shard on the hash ring. Chosen when a deployment is first made.", "VIRTUAL_NODES")),
    after_restart_of(Takes::flusher,
                     number("redis", "buckets", at<&Draft::redis, &RedisSettings::buckets>, "", 1, 65536,
                            "Into how many hashes the pages are divided. Chosen when a deployment is first made.")),
    number("redis", "timeout_ms", at<&Draft::redis, &RedisSettings::timeout_ms>, "ms", 10, 10 * minute_ms,
           "For connecting, and for the oldest unanswered command."),
    number("redis", "reconnect_interval_ms", at<&Draft::redis, &RedisSettings::reconnect_interval_ms>, "ms", 10,
           10 * minute_ms,
           "How long after a broken connection the next one is tried. One that had lasted as long is tried again at "
           "once."),
    number("redis", "held_recheck_ms", at<&Draft::redis, &RedisSettings::held_recheck_ms>, "ms", 10, hour_ms,
           "How often a held shard is looked at again, in case it was put right."),
    number("redis", "check_interval_ms", at<&Draft::redis, &RedisSettings::check_interval_ms>, "ms", 10, hour_ms,
           "How often a shard is asked what it is: its role, eviction policy, append-only file and identity."),
    choice("redis", "accept_eviction", at<&Draft::redis, &RedisSettings::accept_eviction>,
           "Start although a shard may evict keys, and with them counts."),
    choice("redis", "accept_no_append_only", at<&Draft::redis, &RedisSettings::accept_no_append_only>,
           "Start although a shard has no append-only file, and loses counts when it restarts."),

    choice("log", "debug", at<&Draft::log, &LogSettings::debug>, "Write debug lines too.", "DEBUG"),
};

std::string upper(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return result;
}

}  // namespace

std::span<const Key> setting_keys() noexcept {
  return table;
}

bool is_utf8(std::string_view text) noexcept {
  return check_page_id(text, text.size()) != PageIdFault::invalid_utf8;
}

bool is_password(std::string_view text) noexcept {
  return text.find('\0') == std::string_view::npos;
}

std::string_view restart_text(Takes takes) noexcept {
  switch (takes) {
    case Takes::nothing:
      return "nobody";
    case Takes::frontends:
      return "the frontends";
    case Takes::flusher:
      return "the flusher";
    case Takes::all:
      return "all programs";
  }
  return "all programs";
}

std::string full_name(const Key& key) {
  return fmt::format("{}.{}", key.section, key.name);
}

std::string environment_name(const Key& key) {
  return fmt::format("VISITD_{}_{}", upper(key.section), upper(key.name));
}

const Key& key_named(std::string_view section, std::string_view name) {
  return *std::ranges::find_if(table, [&](const Key& key) { return key.section == section && key.name == name; });
}

std::vector<std::string_view> section_names() {
  std::vector<std::string_view> names;
  for (const Key& key : table) {
    if (names.empty() || names.back() != key.section) names.push_back(key.section);
  }
  return names;
}

std::vector<std::string_view> key_names(std::string_view section) {
  std::vector<std::string_view> names;
  for (const Key& key : table) {
    if (key.section == section) names.push_back(key.name);
  }
  return names;
}

std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      result += fmt::format("\\u{:04X}", static_cast<unsigned char>(c));
    } else {
      result.push_back(c);
    }
  }
  return result + '"';
}

std::string bytes_text(std::uint64_t bytes) {
  for (const auto& [size, unit] : {std::pair{gib, "GiB"}, std::pair{mib, "MiB"}, std::pair{kib, "KiB"}}) {
    if (bytes >= size && bytes % size == 0) return fmt::format("{}{}", bytes / size, unit);
  }
  return fmt::format("{}", bytes);
}

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.starts_with(' ')) text.remove_prefix(1);
  for (const auto& [size, unit] : {std::pair{1 * gib, "GiB"}, std::pair{mib, "MiB"}, std::pair{kib, "KiB"},
                                   std::pair{std::uint64_t{1}, "B"}, std::pair{std::uint64_t{1}, ""}}) {
    if (text != unit) continue;
    if (number > UINT64_MAX / size) return std::nullopt;
    return number * size;
  }
  return std::nullopt;
}

std::string_view to_text(HotRoutes routes) noexcept {
  return routes == HotRoutes::direct ? "direct" : "httplib";
}

std::string literal(const Draft& draft, const Key& key) {
  return std::visit(
      [&](auto place) -> std::string {
        const auto& value = place.of(draft);
        using Value = typename decltype(place)::Value;
        if constexpr (std::is_same_v<Value, bool>) {
          return value ? "true" : "false";
        } else if constexpr (std::is_integral_v<Value>) {
          const bool as_text = key.unit == "bytes" && value >= kib && value % kib == 0;
          return as_text ? in_quotes(bytes_text(value)) : fmt::format("{}", value);
        } else if constexpr (std::is_same_v<Value, HotRoutes>) {
          return in_quotes(to_text(value));
        } else if constexpr (std::is_same_v<Value, std::string>) {
          return in_quotes(value);
        } else {
          std::vector<std::string> entries;
          std::ranges::transform(value, std::back_inserter(entries), in_quotes);
          return fmt::format("[{}]", fmt::join(entries, ", "));
        }
      },
      key.place);
}

std::string allowed(const Key& key) {
  return std::visit(
      [&](auto place) -> std::string {
        using Value = typename decltype(place)::Value;
        if constexpr (std::is_same_v<Value, bool>) {
          return "true or false";
        } else if constexpr (std::is_integral_v<Value>) {
          const bool bytes = key.unit == "bytes";
          return fmt::format("{} to {}{}", bytes ? bytes_text(key.least) : fmt::format("{}", key.least),
                             bytes ? bytes_text(key.most) : fmt::format("{}", key.most),
                             key.power_of_two ? ", a power of two" : "");
        } else if constexpr (std::is_same_v<Value, HotRoutes>) {
          return "\"direct\" or \"httplib\"";
        } else if constexpr (std::is_same_v<Value, std::string>) {
          return std::string(key.allowed);
        } else {
          return fmt::format("{} to {} of {}", key.least, key.most, key.allowed);
        }
      },
      key.place);
}

}  // namespace visitd::setting
