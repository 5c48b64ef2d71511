// What is said to one shard and what it answers, in our terms. Commands are executed and answered in the order in which
// they were sent.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "flusher/counting/batch.hpp"
#include "flusher/counting/cluster_map.hpp"

namespace visitd {

/// First on each connection, after AUTH, SELECT and SCRIPT LOAD, which the connection does by itself; and again now and
/// then.
struct AskFacts {};
struct Facts {
  std::optional<std::string> maxmemory_policy = std::nullopt;      ///< nullopt: the server would not say
  std::optional<std::string> append_only = std::nullopt;           ///< "yes" or "no"
  std::string topology = {};                                       ///< what visits:topology holds; empty: no such key
  std::optional<std::string> role = std::nullopt;                  ///< "master" or "slave"
  std::optional<std::string> run_id = std::nullopt;                ///< of this run of the server
  std::optional<std::string> version = std::nullopt;               ///< its name and version, e.g. "redis 7.0.15"
  std::optional<std::uint64_t> memory_bytes = std::nullopt;        ///< that it uses
  std::optional<std::uint64_t> memory_limit_bytes = std::nullopt;  ///< 0: none
  std::optional<bool> in_cluster = std::nullopt;                   ///< whether it is a node of a cluster
  bool topology_elsewhere = false;  ///< another node of the cluster serves visits:topology
};

/// A node of a cluster answers that another one serves the key: from now on; or, where `once` is set, it is being given
/// the key, and executes this one command if it is asked for it.
struct Redirect {
  std::string node;  ///< HOST:PORT
  bool once = false;
};

/// visits:topology becomes `topology`, only where it is `expected` (empty: no such key). The answer says what it is
/// now.
struct MakeTopology {
  std::string expected;
  std::string topology;
};
struct Topology {
  std::string topology;
};

/// What these buckets hold of ours. `stamp`: the identity that buckets without one are given first; empty: none is
/// given.
struct AskMarks {
  std::vector<std::uint32_t> buckets;
  std::string stamp = {};
  bool once = false;  ///< because of a Redirect; this one, and those below: of one bucket
};
struct Marks {
  struct Held {
    std::string id;          ///< the deployment's identity that the bucket has; empty: none
    std::string field;       ///< the writer's; empty: none; `not_a_hash` where the bucket's key is of another type
    std::string moved = {};  ///< the moved marker; empty: none
    std::optional<Redirect> redirect = std::nullopt;
    std::string gone = {};  ///< the writer's tombstone: the mark that stood there when the writer was forgotten; empty:
                            ///< none
  };
  std::vector<Held> buckets;  ///< one for each that was asked for, in order
};
inline constexpr const char* not_a_hash = "(the key is not a hash)";
/// The most buckets of one AskMarks: the server does nothing else meanwhile.
inline constexpr std::size_t marks_asked_at_once = 1024;

/// Runs batch.lua. `batch` lives until the answer. One that expects its own mark puts that back, where a tombstone says
/// it; see rejoin_of().
struct SendBatch {
  const Batch* batch = nullptr;
  std::string id;  ///< what the bucket must have
  bool once = false;
  // Of a correction.
  std::uint64_t fix_at_least = 0;  ///< the number of the bucket's corrections grows, to that at least
  bool again = false;              ///< the shard had it and lost it: it holds whatever was corrected meanwhile
};
/// Stands for the total of a page if the page's field holds no count.
inline constexpr std::uint64_t no_total = std::numeric_limits<std::uint64_t>::max();
struct BatchAnswer {
  /// `corrected`: somebody else has corrected the bucket meanwhile; `low`: a count would fall below 0.
  enum class Kind { applied, duplicate, have, refused, moving, moved, foreign, forgotten, corrected, low };
  Kind kind = Kind::applied;
  std::uint64_t fix = 0;  ///< applied, duplicate: the number of the bucket's last correction; 0: none
  /// applied, duplicate: the count of each page, in the batch's order. A duplicate has `no_total` for a page whose
  /// field somebody has overwritten since.
  std::vector<std::uint64_t> totals;
  std::string have;  ///< have: what the field holds; foreign: the identity that the bucket has
  /// Indexes. refused: the fields of these hold no count, or would pass 2^63-1; empty: the key is no hash. low: these
  /// would fall below 0.
  std::vector<std::uint32_t> bad_series;
  std::string why;  ///< refused: for people; moving, moved: the marker
};

/// One HMGET: the deployment's identity, the number of corrections, the moved marker, our writer field, the page; and
/// with `tombstone` ours, for which the server looks through the whole of a compact hash once more.
struct AskCount {
  std::uint32_t bucket = 0;
  std::string page;
  bool once = false;
  bool tombstone = false;
};
struct Count {
  std::string id;           ///< the deployment's identity that the bucket has; empty: none
  std::uint64_t fix = 0;    ///< the number of the bucket's last correction; 0: none
  std::string moved;        ///< the moved marker; empty: none
  std::string field;        ///< our writer field; empty: none
  std::uint64_t count = 0;  ///< 0 where there is no such field
  bool readable = true;     ///< false: the page's field holds no count, or the bucket's key is no hash
  std::string gone = {};    ///< our tombstone; empty: the bucket has none, or AskCount did not ask for it
};

/// HSCAN of a bucket, then HMGET of the deployment's identity, the moved marker, our writer field and our tombstone:
/// what these say holds for the pages too, because nothing of ours lies between.
struct AskPages {
  std::uint32_t bucket = 0;
  std::uint64_t cursor = 0;  ///< 0: from the bucket's start; else as this server gave it
  std::uint32_t count = 0;   ///< about so many pages; a compact hash gives all that it has
  bool once = false;
};
struct Pages {
  struct Page {
    std::string id;
    std::optional<std::uint64_t> count;  ///< nullopt: its field holds none
  };
  std::uint64_t cursor = 0;  ///< where it goes on; 0: that was all
  std::vector<Page> pages;   ///< some may come twice
  std::string id;            ///< these four as Count has them
  std::string moved;
  std::string field;
  std::string gone = {};
};

/// Runs sum.lua: what the counts of these buckets come to.
struct AskSums {
  std::vector<std::uint32_t> buckets;
  std::uint64_t pages = 0;           ///< about so many may be read where a bucket does not say its sum itself
  std::vector<std::string> writers;  ///< who may have marks there, beside this one
  bool once = false;                 ///< because of a Redirect: of one bucket
};
struct Sums {
  struct Held {
    std::string id;  ///< these four as Count has them
    std::string moved;
    std::string field;
    std::string gone = {};
    bool known = false;         ///< false: nothing was read, the bucket is to be asked for again
    std::string sum;            ///< of all counts; may pass 64 bits
    std::uint64_t largest = 0;  ///< no page has more
    std::uint64_t read = 0;     ///< so many pages were read for that
    std::uint64_t odd = 0;      ///< so many of them hold no count
    std::string error = {};     ///< not empty: what the server says against it
    std::optional<Redirect> redirect = std::nullopt;
  };
  std::vector<Held> buckets;  ///< one for each that was asked for, in order
};

/// One step of a bucket's move; each looks first, and may be repeated at any time. `marker`: "SHARD VERSION", where the
/// bucket goes and by which change of the layout.
struct MoveBucket {
  enum class Step : std::uint8_t {
    copy_out,   ///< at its shard: it takes no more batches; answers its content
    copy_in,    ///< at the next shard: it is there from now on, unless it is already; without content: only looks
    send_away,  ///< at its shard: whoever asks is told where it is
    drop,       ///< at its shard: its content goes, the marker stays
  };
  Step step = Step::copy_out;
  std::uint32_t bucket = 0;
  std::string id;
  std::string marker;
  std::string content = {};  ///< copy_in
  bool once = false;
};
struct MoveAnswer {
  enum class Kind : std::uint8_t {
    done,
    content,  ///< copy_out
    dropped,  ///< copy_out: the content went before
    absent,   ///< copy_in without content: the bucket is not there
    refused,  ///< the bucket is not what it should be
  };
  Kind kind = Kind::done;
  std::string text = {};  ///< content: that; refused: why
};

/// Who moves buckets, for so long, unless somebody else does. Only so that not every host does the same work.
struct TakeMoves {
  std::string writer;
  std::uint64_t for_ms = 0;
};
struct MovesTaken {
  bool ours = false;
};

/// Whether what the server was told stands on its disk, and how far its replicas are behind it.
struct AskPersistence {};
struct Persistence {
  bool waits = false;            ///< something is not written, or not synced; or a replica is just being filled
  std::uint64_t written = 0;     ///< the length of its stream to replicas, in bytes
  std::uint32_t replicas = 0;    ///< that are connected
  std::uint64_t replicated = 0;  ///< up to where each of these has the stream; without replicas: as written
};

/// How many replicas have all that the server was told before: WAIT. It answers once so many have it, or when the time
/// is over, and nothing else over that connection before. From Redis 7.2 on WAIT means what the connection itself has
/// written last, so a key beside the bucket is written first, for a minute.
struct AskReplicas {
  std::uint32_t bucket = 0;  ///< one of the server's
  std::uint32_t replicas = 0;
  bool on_disk = false;  ///< on their disks, and on the server's: WAITAOF
  std::uint64_t timeout_ms = 0;
  std::string run_id = {};  ///< of the server that is meant; empty: not known
};
struct Replicas {
  std::uint32_t replicas = 0;  ///< that have it
  bool on_disk = false;        ///< the server's own disk has it; only where that was asked for
};

/// Which nodes a cluster has, and which slots they serve.
struct AskNodes {};
struct Nodes {
  ClusterMap map;
  std::string fault = {};  ///< why the cluster cannot be used as it is, for people; empty: it can
};

/// What visits:writers says of a writer from now on: fields, see writers.hpp, and their values. One with an empty value
/// is taken away.
struct NoteWriter {
  std::vector<std::pair<std::string, std::string>> fields;
};
struct Noted {};

/// What visits:writers holds.
struct AskWriters {};
struct Writers {
  std::vector<std::pair<std::string, std::string>> fields;  ///< with their values
};

/// Runs forget.lua: in each of these buckets the writer's mark becomes its tombstone.
struct ForgetWriter {
  std::string writer;
  std::string id;                      ///< what the buckets must have
  std::vector<std::uint32_t> buckets;  ///< in a cluster: one
  bool once = false;
};
struct Forgotten {
  struct Bucket {
    enum class Kind : std::uint8_t {
      taken_out,  ///< it had a mark
      nothing,    ///< it had none
      not_now,    ///< it is just being moved, or is not here
      moved,
    };
    Kind kind = Kind::nothing;
    std::string marker = {};  ///< moved: where it is
  };
  std::vector<Bucket> buckets;  ///< one for each that was asked for, in order
};

/// The server answered a command with an error. The connection goes on.
struct Refused {
  std::string error;
};

/// The connection has gone before an answer came. Whether the command was executed is not known.
struct Lost {};

using ShardCommand =
    std::variant<AskFacts, MakeTopology, AskMarks, SendBatch, AskCount, MoveBucket, TakeMoves, AskPersistence,
                 NoteWriter, AskWriters, ForgetWriter, AskNodes, AskReplicas, AskPages, AskSums>;
using ShardAnswer = std::variant<Facts, Topology, Marks, BatchAnswer, Count, MoveAnswer, MovesTaken, Persistence, Noted,
                                 Writers, Forgotten, Nodes, Replicas, Pages, Sums, Redirect, Refused, Lost>;

/// What a command is for: it goes out with it, comes back with its answer, and is called with that, once.
using Completion = std::function<void(ShardAnswer)>;

}  // namespace visitd
