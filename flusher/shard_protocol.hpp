// What is said to one shard and what it answers, in our terms. Commands are executed and answered in the order in which
// they were sent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "flusher/batch.hpp"

namespace visitd {

/// First on each connection, after AUTH, SELECT and SCRIPT LOAD, which the connection does by itself.
struct AskFacts {};
struct Facts {
  std::optional<std::string> maxmemory_policy;  ///< nullopt: the server would not say
  std::optional<std::string> append_only;       ///< "yes" or "no"
  std::string topology;                         ///< what visits:topology holds; empty: no such key
};

/// SET visits:topology, only where it does not exist. The answer says what it holds now.
struct MakeTopology {
  std::string topology;
};
struct Topology {
  std::string topology;
};

/// The writer's field of a bucket.
struct AskMark {
  std::uint32_t bucket = 0;
};
struct MarkHeld {
  std::string field;  ///< empty: none; `not_a_hash` where the bucket's key is of another type
};
inline constexpr const char* not_a_hash = "(the key is not a hash)";

/// Runs batch.lua. `batch` lives until the answer.
struct SendBatch {
  const Batch* batch = nullptr;
};
struct BatchAnswer {
  enum class Kind { applied, duplicate, have, refused, moved };
  Kind kind = Kind::applied;
  std::vector<std::uint64_t> totals;     ///< applied, duplicate: the count of each page, in the batch's order
  std::string have;                      ///< have: what the field holds
  std::vector<std::uint32_t> bad_pages;  ///< refused: indexes of pages whose field is no count, or would pass 2^63-1;
                                         ///< empty: the key is no hash
  std::string why;                       ///< refused, moved: for people
};

/// One HMGET: the moved marker, our writer field, the page.
struct AskCount {
  std::uint32_t bucket = 0;
  std::string page;
};
struct Count {
  std::string moved;        ///< the moved marker; empty: none
  std::string field;        ///< our writer field; empty: none
  std::uint64_t count = 0;  ///< 0 where there is no such field
  bool readable = true;     ///< false: the page's field holds no count, or the bucket's key is no hash
};

/// The server answered with an error: the connection is of no more use and is broken next.
struct Refused {
  std::string error;
};

using ShardCommand = std::variant<AskFacts, MakeTopology, AskMark, SendBatch, AskCount>;
using ShardAnswer = std::variant<Facts, Topology, MarkHeld, BatchAnswer, Count, Refused>;

}  // namespace visitd
