// Every setting of all programs, validated: a struct a section, with the defaults, read from a TOML file and the
// environment. setting_rows.cpp says all else about each key in a row; docs/configure.md is made from it.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

namespace visitd {

/// What a file or a systemd credential holds. Two of them are equal if they hold the same.
struct FileText {
  std::string path = {};   ///< empty: a credential, or nothing
  std::string text = {};   ///< empty where the program reads no secrets
  std::string place = {};  ///< what named it, for people; empty: nothing did

  friend bool operator==(const FileText& a, const FileText& b) { return a.text == b.text; }
};

/// How a shard over TLS proves to the flusher who it is, and the flusher to the shard. The files hold PEM.
struct ShardTls {
  FileText ca = {};              ///< authorities that may have signed the server's certificate; none: the system's
  FileText certificate = {};     ///< ours, and those between it and its authority; none: none is sent
  FileText key = {};             ///< of our certificate
  std::string server_name = {};  ///< a name that the server's certificate has; empty: the shard's host

  friend bool operator==(const ShardTls&, const ShardTls&) = default;
};

/// Where a server listens over TCP.
struct ServerAddress {
  std::string host;  ///< name or address
  std::uint16_t port = 0;

  friend bool operator==(const ServerAddress&, const ServerAddress&) = default;
  friend auto operator<=>(const ServerAddress&, const ServerAddress&) = default;
};

/// The sentinels that know where a shard's server is, and how they are spoken to.
struct ShardSentinels {
  std::vector<ServerAddress> addresses = {};  ///< empty: the shard's own address says where it is
  std::string primary = {};                   ///< the name under which they watch the server
  std::string username = {};                  ///< empty: none
  FileText password = {};                     ///< its text may be empty: none
};

/// One Redis server that holds counts. `name` places its buckets: an address can change without moving data, a name
/// cannot.
struct ShardSettings {
  std::string name;  ///< e.g. redis_7070
  std::string host;  ///< name or address; empty with a Unix socket or sentinels
  std::uint16_t port = 0;
  std::string unix_path;  ///< empty: TCP
  std::string username;   ///< empty: none
  std::string password;   ///< empty: none
  std::uint32_t database = 0;
  std::string password_place = {};  ///< the setting or file that gave the password, for people; empty: no password
  bool in_cluster = false;          ///< a node of a cluster
  bool over_tls = false;            ///< rediss://, sentinels://
  ShardTls tls = {};                ///< only with over_tls
  ShardSentinels sentinels = {};

  /// Whether both name the same server and database, whatever they are reached with.
  [[nodiscard]] bool is_same_server(const ShardSettings& other) const {
    const auto server = [](const ShardSettings& shard) {
      return std::tie(shard.name, shard.host, shard.port, shard.unix_path, shard.database, shard.over_tls,
                      shard.sentinels.addresses, shard.sentinels.primary);
    };
    return server(*this) == server(other);
  }
  [[nodiscard]] bool has_same_credentials(const ShardSettings& other) const {
    const auto credentials = [](const ShardSettings& shard) {
      return std::tie(shard.username, shard.password, shard.tls, shard.sentinels.username, shard.sentinels.password);
    };
    return credentials(*this) == credentials(other);
  }
};

/// Who decides on which server a bucket is: visitd, among the shards of the settings; or the cluster of the nodes.
enum class RedisMode { shards, cluster };

/// How the two hot routes are answered.
enum class HotRoutes { direct, httplib };

struct PathsSettings {
  std::string runtime_directory = "/run/visitd";    ///< locks, ids of the segments, doorbells, control socket
  std::string state_directory = "/var/lib/visitd";  ///< the flusher's spool
};

struct PagesSettings {
  std::uint32_t page_id_limit_bytes = 1024;
  std::vector<std::string> rules;    ///< by which the names of pages are made of ids, in order; empty: they are the ids
  std::vector<std::string> allowed;  ///< patterns of the pages that strangers' visits count for; empty: all
};

struct RingSettings {
  std::uint32_t lanes = 8;
  std::uint64_t lane_bytes = 32U << 20U;  ///< a power of two
};

struct CacheSettings {
  std::uint32_t entries = 65536;
  std::uint32_t ttl_ms = 5000;
  std::uint32_t stale_limit_s = 86400;         ///< how long a count is served past its TTL while nobody can ask for it
  std::uint32_t flusher_away_ms = 1000;        ///< without a sign of the flusher for so long it is away
  std::uint32_t backlog_index_pages = 262144;  ///< the most pages in a frontend's index over a long backlog
};

struct HttpSettings {
  std::vector<std::string> listen = {"[::]:8000"};  ///< HOST:PORT; [::] serves IPv4 too; unix:/PATH
  std::vector<std::string> private_listen;          ///< health and metrics are served there alone; empty: everywhere
  std::string api_prefix = "/api/v1/counter";       ///< the routes are also served below it; empty: only without
  std::vector<std::string> cors_origins = {"*"};
  std::vector<std::string> shapes;  ///< of other counters, served beside our own routes
  std::uint32_t badge_max_age_s = 60;
  std::string script_path = "/count.js";  ///< the script for pages is also served there
  std::string visit_path;                 ///< POST of a page below it records a visit too; empty: only below /visit/
  std::uint32_t stream_limit = 100;       ///< open at once, of a frontend
  std::uint32_t stream_timeout_s = 300;
  HotRoutes hot_routes = HotRoutes::direct;
  std::uint32_t head_limit_bytes = 32768;
  std::uint32_t target_limit_bytes = 4096;
  std::uint32_t header_limit = 64;
  std::uint32_t body_limit_bytes = 1U << 20U;
  std::uint64_t buffered_bodies_limit_bytes = 64U << 20U;   ///< of a frontend
  std::uint64_t buffered_answers_limit_bytes = 16U << 20U;  ///< of a frontend
  std::uint32_t batch_read_limit = 1000;                    ///< pages
  std::uint32_t public_visits_limit = 100;                  ///< to a page, of a stranger's request; 0: none
  std::uint32_t public_entries_limit = 1000;                ///< of a stranger's list; 0: none
  std::uint32_t public_new_pages_per_minute = 0;            ///< 0: no limit
  std::uint32_t address_visits_per_minute = 0;              ///< of a stranger's address; 0: no limit
  std::uint32_t address_visits_burst = 60;                  ///< at once
  std::uint32_t address_visits_remembered = 16384;          ///< addresses
  std::vector<std::string> count_origins;      ///< strangers' visits count from pages of these alone; empty: of all
  std::vector<std::string> ignored_addresses;  ///< networks: their visits get an answer, and do not count
  std::vector<std::string> ignored_agents;     ///< parts of User-Agent: as above
  std::uint32_t head_timeout_ms = 10000;
  std::uint32_t body_timeout_ms = 30000;
  std::uint32_t send_timeout_ms = 10000;
  std::uint32_t idle_timeout_ms = 60000;
  std::uint32_t send_buffer_bytes = 64U << 10U;  ///< of the kernel's for a connection
  std::uint32_t connection_limit = 10000;
  std::uint32_t address_connection_limit = 1000;  ///< 0: none
  std::vector<std::string> trusted_proxies = {"127.0.0.0/8", "::1"};
  std::uint32_t lookup_timeout_ms = 2000;  ///< how long a read waits for Redis before it is answered stale or 503
  std::uint32_t list_timeout_ms = 10000;   ///< how long a read of many pages may take altogether
  std::uint32_t retry_after_s = 1;
  std::uint32_t stop_timeout_ms = 5000;
};

struct OwnerSettings {
  std::string key_file;                 ///< empty: a credential, or no key
  bool key_at_private_address = false;  ///< the key is needed there too
  bool public_lists = false;            ///< everybody may list pages and counts
  std::uint32_t timeout_ms = 30000;     ///< how long a frontend waits for the flusher
  FileText key = {};                    ///< the key itself; if its text is empty, there is no key
};

struct FlusherSettings {
  std::uint32_t flush_interval_ms = 30000;
  std::uint32_t commit_interval_ms = 1000;
  std::uint64_t memory_limit_bytes = 256U << 20U;  ///< of pages with visits that Redis has not acknowledged
  std::uint64_t journal_limit_bytes = 16U << 20U;  ///< of the spool's journal, before it is folded
  std::uint32_t batch_pages = 1000;
  std::uint32_t batches_in_flight = 256;  ///< per shard
  std::uint32_t keep_batches_s = 600;
  std::uint64_t keep_batches_bytes = 256U << 20U;
  std::uint32_t stop_flush_timeout_ms = 5000;
  std::uint32_t writer_gone_s = 86400;     ///< a host that was seen since is not forgotten without --yes
  std::uint32_t scan_pages_per_s = 80000;  ///< of one shard
};

struct RedisSettings {
  RedisMode mode = RedisMode::shards;
  std::vector<ShardSettings> shards;  ///< never empty after load; of a cluster the nodes asked first
  ShardSettings added_shard;          ///< what a shard has that the deployment alone names; no address
  std::uint32_t virtual_nodes = 100;
  std::uint32_t buckets = 8192;
  std::uint32_t timeout_ms = 3000;  ///< connecting, and the oldest unanswered command
  std::uint32_t reconnect_interval_ms = 500;
  std::uint32_t held_recheck_ms = 5000;    ///< how often a held shard is looked at again
  std::uint32_t check_interval_ms = 5000;  ///< how often a shard is asked what it is
  bool accept_eviction = false;            ///< start although a shard may evict keys
  bool accept_no_append_only = false;      ///< start although a shard has no append-only file
  std::uint32_t wait_replicas = 0;         ///< kept batches stay until so many replicas have them
  bool wait_aof = false;                   ///< and until disks have them
};

struct LogSettings {
  bool debug = false;
};

struct Settings {
  PathsSettings paths;
  PagesSettings pages;
  RingSettings ring;
  CacheSettings cache;
  HttpSettings http;
  OwnerSettings owner;
  FlusherSettings flusher;
  RedisSettings redis;
  LogSettings log;
  std::vector<std::string> secret_files;  ///< no setting of its own: files that hold passwords and keys, read or not
};

/// Whether load_settings reads passwords: a program that does not speak to Redis leaves them alone, and holds none.
enum class Secrets { read, leave };

/// Whether the variables of the original service are read: by what takes its place, not by tools, which run in
/// anybody's shell, where DEBUG is anybody's.
enum class OriginalNames { read, ignore };

/// Reads `path` (empty: the defaults alone), then the environment. Throws Error with file, line, key and what is
/// allowed.
[[nodiscard]] Settings load_settings(const std::string& path, Secrets secrets = Secrets::read,
                                     OriginalNames originals = OriginalNames::read);

/// The settings as `--check-config` prints them: a file that load_settings reads, every key with its value; passwords
/// are not shown.
[[nodiscard]] std::string to_toml(const Settings& settings);

/// One key as the documentation and `--help-settings` name it.
struct SettingDescription {
  std::string section;
  std::string key;
  std::string default_value;  ///< as TOML writes it
  std::string allowed;        ///< bounds or form of the value
  std::string takes_effect;   ///< who applies a change, and when: "at once in X", or "after a restart of X"
  std::string environment;    ///< VISITD_SECTION_KEY, and the original service's name where it has one
  std::string help;
};

/// All keys, section by section.
[[nodiscard]] std::vector<SettingDescription> describe_settings();

/// The keys as a text for `--help-settings`.
[[nodiscard]] std::string settings_help();

}  // namespace visitd
