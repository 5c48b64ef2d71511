#include "common/config/setting_rows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

#include "common/config/setting_forms.hpp"
#include "common/config/setting_section.hpp"
#include "common/config/shard_address.hpp"
#include "common/os/text.hpp"
#include "common/pages/page_rules.hpp"
#include "common/shm/cache_layout.hpp"
#include "common/shm/page_id.hpp"

namespace visitd::setting {

namespace {

constexpr std::uint64_t minute_ms = 60'000;
constexpr std::uint64_t hour_ms = 60 * minute_ms;
constexpr std::uint64_t day_ms = 24 * hour_ms;
constexpr std::uint64_t day_s = 86'400;

// The control socket stands in the runtime directory, and the path of a Unix socket has at most 107 bytes.
constexpr std::uint64_t runtime_path_limit_bytes = 90;
constexpr std::uint64_t least_lane_bytes = 64 * kib;
// A lane that holds only a few records refuses visits whenever the flusher rests.
static_assert(least_lane_bytes >= 32 * max_record_bytes);

constexpr Change frontends_reload{Programs::frontends, Change::reload};
constexpr Change frontends_restart{Programs::frontends, Change::restart};
constexpr Change flusher_reload{Programs::flusher, Change::reload};
constexpr Change flusher_restart{Programs::flusher, Change::restart};
constexpr Change all_reload{Programs::all, Change::reload};
constexpr Change all_restart{Programs::all, Change::restart};

constexpr Section<&Draft::paths> paths{"paths"};
constexpr Section<&Draft::pages> pages{"pages"};
constexpr Section<&Draft::ring> ring{"ring"};
constexpr Section<&Draft::cache> cache{"cache"};
constexpr Section<&Draft::http> http{"http"};
constexpr Section<&Draft::owner> owner{"owner"};
constexpr Section<&Draft::flusher> flusher{"flusher"};
constexpr Section<&Draft::for_shards> for_shards{"redis"};
constexpr Section<&Draft::redis> redis{"redis"};
constexpr Section<&Draft::log> log{"log"};

constexpr Key power_of_two(Key key) {
  key.power_of_two = true;
  return key;
}

constexpr Key secret(Key key) {
  key.secret = true;
  return key;
}

constexpr std::array rows = {
    paths.text<&PathsSettings::runtime_directory>(
        "runtime_directory", 1, runtime_path_limit_bytes, is_absolute_path, "an absolute path of at most 90 bytes",
        all_restart,
        "Locks, the ids of the segments, doorbells and the control socket; the same for all programs of an instance."),
    paths.text<&PathsSettings::state_directory>(
        "state_directory", 1, 4000, is_absolute_path, "an absolute path, other than the runtime directory",
        flusher_restart, "The flusher's spool: visits that Redis has not yet acknowledged. Must survive a reboot."),

    pages.number<&PagesSettings::page_id_limit_bytes>(
        "page_id_limit_bytes", 1, max_page_id_bytes, frontends_restart,
        "The longest page id, as decoded UTF-8; longer ones are answered 400."),
    pages.text<&PagesSettings::rules>(
        "rules", 0, max_page_rules, is_page_rule, page_rule_forms, frontends_reload,
        "Under which name a page is counted: each rule in turn changes the id that was asked for, in visits and in "
        "reads. `visitctl rules PAGE` shows what becomes of an id. None: the id is the name."),
    pages.text<&PagesSettings::allowed>(
        "allowed", 0, 1024, is_pattern,
        "patterns of 1 to 1024 bytes, in which * stands for any characters and ? for one", frontends_reload,
        "From outside, visits of these pages alone count; others are answered 403. None: visits of all pages count."),

    ring.number<&RingSettings::lanes>("lanes", 1, max_lanes, frontends_restart,
                                      "How many frontends can run on the host at a time."),
    power_of_two(ring.number<&RingSettings::lane_bytes>(
        "lane_bytes", least_lane_bytes, 4 * gib, frontends_restart,
        "Room for visits of one frontend that are not yet on disk; a full lane answers 503.")),

    cache.number<&CacheSettings::entries>(
        "entries", 16, 16'777'216, flusher_restart,
        "How many pages the cache in shared memory holds, of those that somebody asked for. A page with an id of more "
        "than 256 bytes takes the room of up to four."),
    cache.number<&CacheSettings::ttl_ms>("ttl_ms", 10, hour_ms, flusher_reload,
                                         "How long a count from Redis is served. One that is read in the last fifth of "
                                         "this time is asked for again meanwhile."),
    cache.number<&CacheSettings::stale_limit_s>(
        "stale_limit_s", 0, 365 * day_s, frontends_reload,
        "How long past its TTL a count is still served, marked stale, while its shard or the flusher is away."),
    cache.number<&CacheSettings::flusher_away_ms>(
        "flusher_away_ms", 500, minute_ms, frontends_reload,
        "A flusher that has not shown itself for so long is away: known counts are served stale."),
    cache.number<&CacheSettings::backlog_index_pages>(
        "backlog_index_pages", 4096, 16'777'216, frontends_restart,
        "The most pages in a frontend's index over a long backlog, at most 160 bytes each; beyond, reads scan."),

    http.text<&HttpSettings::listen>(
        "listen", 1, 16, is_listen_address, "HOST:PORT, [IPV6]:PORT or unix:/PATH", frontends_restart,
        "Where the frontends listen; [::] serves IPv4 too. Sockets passed by systemd take its place."),
    http.text<&HttpSettings::private_listen>(
        "private_listen", 0, 16, is_listen_address, "HOST:PORT, [IPV6]:PORT or unix:/PATH", frontends_restart,
        "The addresses that serve /livez, /readyz and /metrics. They also serve all else, without the limits for "
        "requests from outside. None: http.listen serves all. With the Debian package, the socket units visitd.socket "
        "(8000) and visitd-private.socket (127.0.0.1:8001) take the place of both."),
    http.text<&HttpSettings::api_prefix>(
        "api_prefix", 0, 128, is_api_prefix,
        "empty, or a path of A-Z a-z 0-9 - . _ ~ that begins with / and does not end with it, not /visit or /visits or "
        "below them",
        frontends_restart, "The routes are served below this path as well as at the root; empty: only at the root.",
        "API_PREFIX"),
    http.text<&HttpSettings::cors_origins>(
        "cors_origins", 0, 64, is_origin, "SCHEME://HOST[:PORT] in lower case, or \"*\" alone", frontends_reload,
        "Pages of these origins may read the answers. \"*\": pages of every origin. Empty: no CORS headers."),
    http.text<&HttpSettings::shapes>(
        "shapes", 0, 8, is_shape, "countapi, abacus, goatcounter, busuanzi, vercount or hits", frontends_reload,
        "visitd answers the requests of these counters in their place, as they would (docs/moving.md). countapi and "
        "abacus have the same paths: name one of them."),
    http.number<&HttpSettings::badge_max_age_s>(
        "badge_max_age_s", 0, day_ms / 1000, frontends_reload,
        "How long browsers and image proxies may show a badge before they ask for it again."),
    http.text<&HttpSettings::script_path>(
        "script_path", 1, 68, is_script_path, "/NAME.js; NAME of A-Z a-z 0-9 - _", frontends_reload,
        "Where the script for pages is served too, beside /count.js: a name that blockers do not know. The version for "
        "good is served beside it: /NAME.1.js."),
    http.text<&HttpSettings::visit_path>(
        "visit_path", 0, 66, is_visit_path,
        "empty, or /NAME/; NAME of A-Z a-z 0-9 - _, and none of visit, visits, pixel, badge", frontends_reload,
        "POST of a page below this path records a visit, as below /visit/: a name that blockers do not know. Pages "
        "name it without its slashes in the script's data-path. Empty: only below /visit/."),
    http.number<&HttpSettings::stream_limit>(
        "stream_limit", 0, 100'000, frontends_reload,
        "So many streams of counts (/stream of the shape abacus) may be open at a frontend; more are answered 503."),
    http.number<&HttpSettings::stream_timeout_s>(
        "stream_timeout_s", 1, 86'400, frontends_reload,
        "How long a stream of counts stays open; a browser then opens another one."),
    http.choice<&HttpSettings::hot_routes>(
        "hot_routes", frontends_reload,
        "How visits and counts are answered: straight from the request's head, or through cpp-httplib like all else."),
    http.number<&HttpSettings::head_limit_bytes>(
        "head_limit_bytes", 1 * kib, 1 * mib, frontends_restart,
        "The largest head (request line and headers); larger ones are answered 431."),
    http.number<&HttpSettings::target_limit_bytes>("target_limit_bytes", 128, 1 * mib, frontends_restart,
                                                   "The longest request target; longer ones are answered 414."),
    http.number<&HttpSettings::header_limit>("header_limit", 8, 1024, frontends_restart,
                                             "The most headers of a request; more are answered 431."),
    http.number<&HttpSettings::body_limit_bytes>("body_limit_bytes", 0, 1 * gib, frontends_reload,
                                                 "The largest body; larger ones are answered 413."),
    http.number<&HttpSettings::buffered_bodies_limit_bytes>(
        "buffered_bodies_limit_bytes", 64 * kib, 64 * gib, frontends_reload,
        "The most memory of a frontend for bodies that are being received; beyond it stalled ones and those of the "
        "address that holds most make room, or the new one is answered 503."),
    http.number<&HttpSettings::buffered_answers_limit_bytes>(
        "buffered_answers_limit_bytes", 64 * kib, 64 * gib, frontends_reload,
        "The most memory of a frontend for answers that clients have not taken yet; beyond it the connection that "
        "waits longest is closed."),
    http.number<&HttpSettings::batch_read_limit>("batch_read_limit", 1, 100'000, frontends_reload,
                                                 "One request may read the counts of at most so many pages."),
    http.number<&HttpSettings::public_visits_limit>(
        "public_visits_limit", 0, std::numeric_limits<std::uint32_t>::max(), frontends_reload,
        "The most visits that a list from outside may add to one page; more are answered 403, and none of the list is "
        "counted. 0: no limit."),
    http.number<&HttpSettings::public_entries_limit>(
        "public_entries_limit", 0, 10'000'000, frontends_reload,
        "The most entries of a list of visits from outside; more are answered 403, and none is counted. 0: no limit."),
    http.number<&HttpSettings::public_new_pages_per_minute>(
        "public_new_pages_per_minute", 0, 1'000'000, frontends_reload,
        "From outside, so many pages that nobody has counted before are accepted a minute by each frontend; more are "
        "answered 429. A page that has visits always counts. 0: no limit."),
    http.number<&HttpSettings::address_visits_per_minute>(
        "address_visits_per_minute", 0, 1'000'000, frontends_reload,
        "From outside, one client address (of IPv6 one /64 network) may add so many visits a minute to each frontend; "
        "more are answered 429. Trusted proxies that name no client are not limited. 0: no limit."),
    http.number<&HttpSettings::address_visits_burst>(
        "address_visits_burst", 1, 1'000'000, frontends_reload,
        "So many visits may one client address add at once; they come back at http.address_visits_per_minute."),
    http.number<&HttpSettings::address_visits_remembered>(
        "address_visits_remembered", 64, 16'777'216, frontends_reload,
        "How many client addresses with visits of late a frontend remembers, at 24 bytes each; beyond, it forgets "
        "those that have most visits left."),
    http.text<&HttpSettings::count_origins>(
        "count_origins", 0, 64, is_one_origin, "SCHEME://HOST[:PORT] in lower case", frontends_reload,
        "From outside, visits count if a page of one of these origins sends them; others are answered 403. It stops "
        "pages of other sites, not programs, which can name any origin. None: visits from everywhere count."),
    http.text<&HttpSettings::ignored_addresses>("ignored_addresses", 0, 256, is_network, "ADDRESS or ADDRESS/BITS",
                                                frontends_reload,
                                                "For your own addresses, or a monitor's: the frontends answer their "
                                                "visits with success, and do not count them."),
    http.text<&HttpSettings::ignored_agents>("ignored_agents", 0, 256, is_agent_part,
                                             "parts of User-Agent of 1 to 256 characters, in any case",
                                             frontends_reload,
                                             "If a client's User-Agent has one of these parts, the frontends answer "
                                             "its visits with success, and do not count "
                                             "them."),
    http.number<&HttpSettings::head_timeout_ms>("head_timeout_ms", 10, hour_ms, frontends_reload,
                                                "From a request's first byte to the end of its head."),
    http.number<&HttpSettings::body_timeout_ms>("body_timeout_ms", 10, hour_ms, frontends_reload,
                                                "From the end of a head to the end of the body."),
    http.number<&HttpSettings::send_timeout_ms>("send_timeout_ms", 10, hour_ms, frontends_reload,
                                                "How long a client may take to receive an answer."),
    http.number<&HttpSettings::idle_timeout_ms>("idle_timeout_ms", 10, day_ms, frontends_reload,
                                                "How long a connection is kept open without a request."),
    http.number<&HttpSettings::send_buffer_bytes>(
        "send_buffer_bytes", 4 * kib, 16 * mib, frontends_reload,
        "The kernel's memory for answers that a client has not taken yet; the kernel doubles it."),
    http.number<&HttpSettings::connection_limit>(
        "connection_limit", 1, 1'000'000, frontends_reload,
        "The most connections of a frontend; beyond them the longest idle one is closed."),
    http.number<&HttpSettings::address_connection_limit>(
        "address_connection_limit", 0, 1'000'000, frontends_reload,
        "The most connections of one client address (of IPv6 one /64 network) to a frontend, but for trusted proxies; "
        "beyond them its longest idle one is closed, or the new one if all are busy. 0: no limit."),
    http.text<&HttpSettings::trusted_proxies>("trusted_proxies", 0, 256, is_network, "ADDRESS or ADDRESS/BITS",
                                              frontends_reload,
                                              "The frontend believes Forwarded and X-Forwarded-For of these proxies, "
                                              "and of a client at a Unix socket that is closed to other users."),
    http.number<&HttpSettings::lookup_timeout_ms>(
        "lookup_timeout_ms", 10, minute_ms, frontends_reload,
        "How long a read waits for Redis before it is answered stale or 503."),
    http.number<&HttpSettings::list_timeout_ms>(
        "list_timeout_ms", 10, 10 * minute_ms, frontends_reload,
        "How long a read of many pages may wait while other lists are read; then it is answered 503."),
    http.number<&HttpSettings::retry_after_s>("retry_after_s", 1, 3600, frontends_reload,
                                              "The Retry-After of answers with 503."),
    http.number<&HttpSettings::stop_timeout_ms>(
        "stop_timeout_ms", 0, 10 * minute_ms, frontends_reload,
        "How long a stopping frontend goes on with the requests that it has begun."),

    owner.text<&OwnerSettings::key_file>(
        "key_file", 0, 4000, is_absolute_path_or_empty, "empty, or an absolute path", flusher_reload,
        "A file with the owner's key, 16 to 256 visible characters. A client that sends it (Authorization: Bearer KEY) "
        "may change counts and list pages over HTTP. Without it the systemd credential owner_key is used if there is "
        "one."),
    owner.choice<&OwnerSettings::key_at_private_address>(
        "key_at_private_address", flusher_reload,
        "At the addresses of http.private_listen, too, nobody changes counts or lists pages without the owner's key."),
    owner.choice<&OwnerSettings::public_lists>(
        "public_lists", flusher_reload,
        "Everybody may list pages and counts (/pages, /top, /total), without the owner's key."),
    owner.number<&OwnerSettings::timeout_ms>(
        "timeout_ms", 100, 10 * minute_ms, frontends_reload,
        "How long a frontend waits until the flusher has changed a count or listed pages; then it answers 503."),

    flusher.number<&FlusherSettings::flush_interval_ms>(
        "flush_interval_ms", 10, day_ms, flusher_reload,
        "How often counts are sent to Redis. Each host has its own moment within the "
        "interval.",
        "BATCH_INTERVAL_SECONDS"),
    flusher.number<&FlusherSettings::commit_interval_ms>(
        "commit_interval_ms", 10, minute_ms, all_reload,
        "How often visits are made durable in the spool, which frees their room in the lanes."),
    flusher.number<&FlusherSettings::memory_limit_bytes>(
        "memory_limit_bytes", 4 * mib, 1024 * gib, flusher_reload,
        "The most memory for pages with visits that Redis has not acknowledged, about 110 bytes a page. Three quarters "
        "of it are for visits that are not on their way yet: beyond half of these, what waits for a shard that takes "
        "no batches is kept in the spool alone; beyond all of these, visits wait in the lanes."),
    flusher.number<&FlusherSettings::journal_limit_bytes>(
        "journal_limit_bytes", 1 * mib, 64 * gib, flusher_reload,
        "From this size of the spool's journal on, or from that of all open visits on, it is folded by bucket."),
    flusher.number<&FlusherSettings::batch_pages>("batch_pages", 1, 1000, flusher_reload,
                                                  "The most pages that one script call changes."),
    flusher.number<&FlusherSettings::batches_in_flight>("batches_in_flight", 1, 65536, flusher_reload,
                                                        "The most unanswered batches of a shard."),
    flusher.number<&FlusherSettings::keep_batches_s>(
        "keep_batches_s", 0, 7 * day_s, flusher_reload,
        "How long answered batches are kept for a shard that loses its last seconds."),
    flusher.number<&FlusherSettings::keep_batches_bytes>(
        "keep_batches_bytes", 0, 64 * gib, flusher_reload,
        "The most room that answered batches take, in memory and in the spool; the oldest go first."),
    flusher.number<&FlusherSettings::stop_flush_timeout_ms>(
        "stop_flush_timeout_ms", 0, 10 * minute_ms, flusher_reload,
        "How long a stopping flusher waits for Redis; what it did not take stays in the spool."),
    flusher.number<&FlusherSettings::writer_gone_s>(
        "writer_gone_s", 0, 366 * day_s, flusher_reload,
        "How long ago a host must have been seen last for `visitctl writers forget` to forget it without `--yes`."),
    flusher.number<&FlusherSettings::scan_pages_per_s>(
        "scan_pages_per_s", 1000, 100'000'000, flusher_reload,
        "The most pages a second that one shard is asked for by what reads many (`visitctl pages`, `top`, `total`, "
        "`export`). 80,000 take a server about 4 % of its time."),

    redis.choice<&RedisSettings::mode>(
        "mode", flusher_restart,
        "Who decides on which server a page is: visitd, among redis.shards; or the Redis or Valkey Cluster to which "
        "redis.nodes belong. `visitctl migrate` changes it for a deployment that counts; then set it here too."),
    secret(for_shards.text<&ForShards::nodes>(
        "nodes", 0, max_shards, is_not_empty,
        "[redis[s]://[USER[:PASSWORD]@]]HOST[:PORT]", flusher_restart,
        "With redis.mode = \"cluster\": nodes of the cluster that are asked for all others, and again when none of "
        "those can be reached. Their user and password are those of all nodes.")),
    secret(for_shards.text<&ForShards::addresses>(
        "shards", 1, max_shards, is_not_empty,
        "[NAME=]redis://[USER[:PASSWORD]@]HOST[:PORT][/DB], the same with rediss:// (TLS), "
        "NAME=unix:///PATH[?db=DB], or NAME=sentinel://HOST[:PORT],HOST[:PORT]…/PRIMARY[/DB]",
        flusher_restart,
        "The Redis servers that hold the counts; without a name a shard is called redis_PORT. Names place the pages: "
        "an address may change, a name may not.",
        "REDIS_NODES")),
    secret(for_shards.text<&ForShards::password>("password", 0, 512, is_password, "text without NUL", flusher_reload,
                                                 "For shards without a password of their own; empty: none.",
                                                 "REDIS_PASSWORD")),
    for_shards.text<&ForShards::password_file>("password_file", 0, 4000, is_absolute_path_or_empty,
                                               "empty, or an absolute path", flusher_reload,
                                               "A file with that password instead. Without either the systemd "
                                               "credential redis_password is used if there is one.",
                                               "REDIS_PASSWORD_FILE"),
    for_shards.number<&ForShards::database>("database", 0, max_redis_database, flusher_restart,
                                            "A shard whose address names no database uses this one.", "REDIS_DB"),
    for_shards.text<&ForShards::tls_ca_file>(
        "tls_ca_file", 0, 4000, is_absolute_path_or_empty, "empty, or an absolute path", flusher_reload,
        "The certificates (PEM) of the authorities that sign those of shards over TLS (rediss://). Without it the "
        "systemd credential redis_tls_ca is used if there is one, else the authorities that the system knows."),
    for_shards.text<&ForShards::tls_certificate_file>(
        "tls_certificate_file", 0, 4000, is_absolute_path_or_empty, "empty, or an absolute path", flusher_reload,
        "The flusher's own certificate (PEM), for shards over TLS that ask for one, and those between it and its "
        "authority. Without it the systemd credential redis_tls_certificate is used if there is one."),
    for_shards.text<&ForShards::tls_key_file>(
        "tls_key_file", 0, 4000, is_absolute_path_or_empty, "empty, or an absolute path", flusher_reload,
        "The private key (PEM, without a passphrase) of that certificate. Without it the systemd credential "
        "redis_tls_key is used if there is one."),
    for_shards.text<&ForShards::tls_server_name>(
        "tls_server_name", 0, 253, is_host_name_or_empty, "empty, or a host name or address", flusher_reload,
        "The name that the certificates of shards over TLS must have; empty: the host in the shard's address."),
    for_shards.text<&ForShards::sentinel_username>(
        "sentinel_username", 0, 512, is_password, "text without NUL", flusher_reload,
        "Under which user the sentinels of shards with sentinel:// are asked; empty: without a name."),
    for_shards.text<&ForShards::sentinel_password_file>(
        "sentinel_password_file", 0, 4000, is_absolute_path_or_empty, "empty, or an absolute path", flusher_reload,
        "A file with the password of the sentinels. Without it the systemd credential redis_sentinel_password is used "
        "if there is one."),
    redis.number<&RedisSettings::virtual_nodes>(
        "virtual_nodes", 1, 10000, flusher_restart,
        "Points of a shard on the hash ring. Chosen when a deployment is first made.", "VIRTUAL_NODES"),
    redis.number<&RedisSettings::buckets>(
        "buckets", 1, 65536, flusher_restart,
        "Into how many hashes the pages are divided. Chosen when a deployment is first made."),
    redis.number<&RedisSettings::timeout_ms>("timeout_ms", 10, 10 * minute_ms, flusher_reload,
                                             "For connecting, and for the oldest unanswered command."),
    redis.number<&RedisSettings::reconnect_interval_ms>("reconnect_interval_ms", 10, 10 * minute_ms, flusher_reload,
                                                        "How long after a broken connection the next one is tried. One "
                                                        "that had lasted as long is tried again at once."),
    redis.number<&RedisSettings::held_recheck_ms>(
        "held_recheck_ms", 10, hour_ms, flusher_reload,
        "How often a held shard is looked at again, in case it was put right."),
    redis.number<&RedisSettings::check_interval_ms>(
        "check_interval_ms", 10, hour_ms, flusher_reload,
        "How often a shard is asked what it is: its role, eviction policy, append-only file and identity."),
    redis.choice<&RedisSettings::accept_eviction>("accept_eviction", flusher_reload,
                                                  "Start although a shard may evict keys, and with them counts."),
    redis.choice<&RedisSettings::accept_no_append_only>(
        "accept_no_append_only", flusher_reload,
        "Start although a shard has no append-only file, and loses counts when it restarts."),
    redis.number<&RedisSettings::wait_replicas>(
        "wait_replicas", 0, 100, flusher_reload,
        "How many replicas of each shard must have an answered batch (WAIT) before the flusher forgets it: until then "
        "it is kept beyond flusher.keep_batches_s, so that a failover loses nothing however far they are behind. A "
        "bucket that moves stays at its former shard, too, until so many replicas of the next one have it. As many as "
        "may be promoted; 0: nobody asks."),
    redis.choice<&RedisSettings::wait_aof>(
        "wait_aof", flusher_reload,
        "Ask for the disks too: a batch is kept until the append-only files of the shard and of redis.wait_replicas "
        "replicas have it (WAITAOF, Redis 7.2). On an older server only the replicas are asked."),

    log.choice<&LogSettings::debug>("debug", all_reload, "Write debug lines too.", "DEBUG"),
};

}  // namespace

std::span<const Key> setting_rows() noexcept {
  return rows;
}

std::string_view programs_text(Programs programs) noexcept {
  switch (programs) {
    case Programs::frontends:
      return "the frontends";
    case Programs::flusher:
      return "the flusher";
    case Programs::all:
      return "all programs";
  }
  return "all programs";
}

std::string full_name(const Key& key) {
  return fmt::format("{}.{}", key.section, key.name);
}

std::string environment_name(const Key& key) {
  return fmt::format("VISITD_{}_{}", upper_case(key.section), upper_case(key.name));
}

const Key& key_named(std::string_view section, std::string_view name) {
  return *std::ranges::find_if(rows, [&](const Key& key) { return key.section == section && key.name == name; });
}

std::vector<std::string_view> section_names() {
  std::vector<std::string_view> names;
  for (const Key& key : rows) {
    if (names.empty() || names.back() != key.section) names.push_back(key.section);
  }
  return names;
}

std::vector<std::string_view> key_names(std::string_view section) {
  std::vector<std::string_view> names;
  for (const Key& key : rows) {
    if (key.section == section) names.push_back(key.name);
  }
  return names;
}

}  // namespace visitd::setting
