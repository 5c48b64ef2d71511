// The commands of visitctl. Each reports as JSON; the text of a report is made from that alone.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/config/settings.hpp"
#include "ctl/report.hpp"

namespace visitd {

/// Each process, lane depths, spool, flushes, shards. Fails without a readable ring, or with an unreadable cache.
[[nodiscard]] Json status_report(const Settings& settings);
/// The same, with visits, reads and requests a second, measured over `measured_ms`; 0: without.
[[nodiscard]] Json measured_status_report(const Settings& settings, std::uint32_t measured_ms);
[[nodiscard]] std::string status_text(const Json& report);

/// Whether the frontends, or the flusher, that can be seen from here do their work; `what`: "frontend" or "flusher".
/// Fails where one does not, and where there is none: for whoever watches a container in which nothing else can be run.
[[nodiscard]] Json check_report(const Settings& settings, const std::string& what);
[[nodiscard]] std::string check_text(const Json& report);

/// Every lane of every ring: positions, owner, statistics.
[[nodiscard]] Json lanes_report(const Settings& settings);
[[nodiscard]] std::string lanes_text(const Json& report);

/// The records between applied and tail of each lane, at most `limit` a lane. `lane`: only this one.
[[nodiscard]] Json peek_report(const Settings& settings, std::uint64_t limit, std::optional<std::uint32_t> lane);
[[nodiscard]] std::string peek_text(const Json& report);

/// All that is known of one page. `exact`: of the one that is counted under this very id, whatever pages.rules says.
[[nodiscard]] Json page_report(const Settings& settings, const std::string& id, bool exact = false);
[[nodiscard]] std::string page_text(const Json& report);

/// How many requests were refused, by reason and by frontend, since each frontend started, and how many over
/// `measured_ms`; 0: without. Fails without a readable ring.
[[nodiscard]] Json refusals_report(const Settings& settings, std::uint32_t measured_ms);
[[nodiscard]] std::string refusals_text(const Json& report);

/// What pages.rules makes of an id, rule by rule.
[[nodiscard]] Json rules_report(const Settings& settings, const std::string& id);
[[nodiscard]] std::string rules_text(const Json& report);

/// What a site wants of the lines for its pages.
struct Embedding {
  std::string url;       ///< of the counter; empty: http.api_prefix, on the site's own host
  std::string page;      ///< the page's name; empty: the page says it by its address
  bool count = false;    ///< with an element for the page's count
  bool total = false;    ///< with one for the sum of all counts
  bool pin = false;      ///< with the hash of the part that shows counts
  bool bfcache = false;  ///< counts again when the page comes back from the browser's memory
  bool frames = false;   ///< counts in frames too
  bool respect = false;  ///< sends nothing of who asks not to be tracked
};
/// Why a URL cannot be that of a counter, for people; empty: it can.
[[nodiscard]] std::string fault_of_counter_url(const std::string& url);
/// The lines for a site's pages that count visits. Asks no process.
[[nodiscard]] Json embed_report(const Settings& settings, const Embedding& asked);
[[nodiscard]] std::string embed_text(const Json& report);

/// Which pages are listed, and in which order.
struct PageChoice {
  std::string prefix;
  std::string glob;  ///< as of a shell, '*' also for a slash; empty: all
  bool by_count = false;
  std::uint64_t limit = 100;
};
/// Pages with their counts, of all shards. Fails where the flusher cannot be asked, or a bucket is not known.
[[nodiscard]] Json pages_report(const Settings& settings, const PageChoice& choice);
[[nodiscard]] std::string pages_text(const Json& report);

/// The pages with the largest counts, at most so many; without a list of all pages.
[[nodiscard]] Json top_report(const Settings& settings, std::uint64_t limit);
[[nodiscard]] std::string top_text(const Json& report);

/// The sum of their counts. Where `prefix` is empty, without a list of all pages.
[[nodiscard]] Json total_report(const Settings& settings, const std::string& prefix);
[[nodiscard]] std::string total_text(const Json& report);

/// Writes every page with its count to the standard output; `format`: "csv" or "jsonl". The report is not to be
/// printed: it has only the error.
[[nodiscard]] Json export_report(const Settings& settings, const std::string& format);

/// Each shard: its state and buckets, and what the flusher alone knows of it. Fails without a readable cache.
[[nodiscard]] Json shards_report(const Settings& settings);
[[nodiscard]] std::string shards_text(const Json& report);

/// Where a page's count is kept: bucket, key, shard and address. `exact`: see page_report. Fails without
/// a readable cache.
[[nodiscard]] Json locate_report(const Settings& settings, const std::string& id, bool exact = false);
[[nodiscard]] std::string locate_text(const Json& report);

/// The segments as ipcs(1) shows them, and who has them attached.
[[nodiscard]] Json ipcs_report(const Settings& settings);
[[nodiscard]] std::string ipcs_text(const Json& report);

/// Every segment of visitd on this machine, of whichever instance, and whether clean_report would remove it.
[[nodiscard]] Json all_segments_report();
[[nodiscard]] std::string all_segments_text(const Json& report);

/// Removes the segments of visitd that no process has attached and that hold no visits, where their runtime directory
/// is gone or names other segments.
[[nodiscard]] Json clean_report();
[[nodiscard]] std::string clean_text(const Json& report);

struct RemoveOptions {
  bool state = false;           ///< the spool too
  bool discard_visits = false;  ///< also where visits are lost with it
  bool yes = false;             ///< ask nobody
};
/// Ends the instance of the settings' runtime directory, which runs no more: its segments, that directory, and where
/// asked its spool. Throws where something cannot be removed.
[[nodiscard]] Json remove_report(const Settings& settings, const RemoveOptions& options);
[[nodiscard]] std::string remove_text(const Json& report);

/// Has everything that is counted by now carried to Redis, and waits for it.
[[nodiscard]] Json flush_report(const Settings& settings, std::uint32_t timeout_ms);
[[nodiscard]] std::string flush_text(const Json& report);

/// Has the flusher take what a held shard holds as the truth.
/// `yes`: what it gives up is accepted; else somebody at a terminal is asked. `visitctl`: how this command began, for a
/// hint.
[[nodiscard]] Json accept_report(const Settings& settings, const std::string& shard, bool yes,
                                 const std::string& visitctl);
[[nodiscard]] std::string accept_text(const Json& report);

struct ShardChange {
  bool dry_run = false;    ///< only says what would move
  bool wait = true;        ///< until the buckets have moved, and shows how far they are
  std::uint32_t rate = 0;  ///< buckets that move in a second, at most; 0: no limit
  /// Asked before anything is changed, with what is offered: why it is not done, for people; empty: it is. None: it is.
  std::function<std::string(const Json& offer)> why_not = {};
};
/// Has the flusher change the deployment's shards. `change`: see ControlCommand::change_shards.
[[nodiscard]] Json change_shards_report(const Settings& settings, const std::string& change, const ShardChange& how);
[[nodiscard]] std::string change_shards_text(const Json& report);
/// What would move, of a report or an offer.
[[nodiscard]] std::string moving_buckets_text(const Json& offer);

/// Where the buckets of a deployment go.
struct Migration {
  std::string to;                   ///< "cluster" or "shards"
  std::vector<std::string> places;  ///< nodes of the cluster, or NAME=URL of each shard
};
/// Has the flusher move all buckets into a cluster, or out of one. `yes`: nobody is asked; else somebody at a terminal
/// is. `visitctl`: how this command began, for a hint.
[[nodiscard]] Json migrate_report(const Settings& settings, const Migration& migration, const ShardChange& how,
                                  bool yes, const std::string& visitctl);
[[nodiscard]] std::string migrate_text(const Json& report);

/// How far buckets have moved. `wait`: until they have.
[[nodiscard]] Json moves_report(const Settings& settings, bool wait);
[[nodiscard]] std::string moves_text(const Json& report);

/// Every writer (host) that the shards know. Fails where the flusher cannot be asked.
[[nodiscard]] Json writers_report(const Settings& settings);
[[nodiscard]] std::string writers_text(const Json& report);

/// Has the shards forget a writer that is gone. `yes`, `visitctl`: as accept_report has them; without `yes` one that
/// was seen lately is refused.
[[nodiscard]] Json forget_report(const Settings& settings, const std::string& writer, bool yes,
                                 const std::string& visitctl);
[[nodiscard]] std::string forget_text(const Json& report);

/// What an owner changes in counts.
struct Correcting {
  std::string verb;                ///< set, add, delete, rename, merge
  std::vector<std::string> words;  ///< what it is given on the command line
  std::string from;                ///< a file with pages, and counts; "-": standard input; empty: none
  std::string match;               ///< a pattern of the pages; empty: none
  bool dry_run = false;            ///< only says what would change
  bool yes = false;                ///< nobody is asked before a count falls
  std::uint32_t timeout_ms = 25'000;
};
/// Has the flusher change counts, and says what they were before. `visitctl`: as accept_report has it.
[[nodiscard]] Json correct_report(const Settings& settings, const Correcting& correcting, const std::string& visitctl);
[[nodiscard]] std::string correct_text(const Json& report);

/// What comes from another counter.
struct Importing {
  std::vector<std::string> sources;  ///< a file, "-": standard input; or the URLs of Redis servers
  std::string format;                ///< see import_format()
  std::string map;                   ///< a file with rules for ids, of this import alone; empty: none
  std::string site;                  ///< the only one that counts
  std::string pages;                 ///< a file with the addresses of pages
  std::string prefix = "bsz";        ///< of busuanzi's keys
  std::string save;                  ///< a file into which the counts are written before they are counted; empty: none
  bool with_host = false;            ///< ids of pages begin with their host
  bool site_totals = false;          ///< totals of sites are pages too
  bool overwrite = false;            ///< the counts become those of the import
  bool dry_run = false;
  bool skip_bad = false;  ///< leave out lines that cannot be read
  bool yes = false;       ///< with overwrite: nobody is asked before a count falls
  std::uint32_t timeout_ms = 25'000;
};
/// Has the flusher add these counts, each part of them once, however often it is said; or set them. `visitctl`: as
/// accept_report has it.
[[nodiscard]] Json import_report(const Settings& settings, const Importing& importing, const std::string& visitctl);
[[nodiscard]] std::string import_text(const Json& report);

/// Which counts were changed lately, at most so many.
[[nodiscard]] Json corrections_report(const Settings& settings, std::uint64_t limit);
[[nodiscard]] std::string corrections_text(const Json& report);

/// Waits until SIGTERM or SIGINT. What a container needs whose namespaces others live in: a process that never dies.
void hold_namespaces();

}  // namespace visitd
