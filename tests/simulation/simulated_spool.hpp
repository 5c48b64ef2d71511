// The spool's durable state in memory: what flusher/spool.cpp does with a transaction, and what it loads.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "flusher/spool.hpp"

namespace visitd {

class SimulatedSpool {
 public:
  SpoolResult apply(const Transaction& transaction);
  /// A start: a new incarnation, then everything that recovery needs.
  [[nodiscard]] SpoolState load();
  /// Visits put aside, by page.
  [[nodiscard]] const std::map<std::string, std::uint64_t>& set_aside() const noexcept { return set_aside_; }

 private:
  using Key = std::pair<std::uint32_t, std::uint64_t>;  ///< bucket, seq
  struct Row {
    Batch batch;
    bool answered = false;
    std::uint64_t answered_at = 0;
  };

  std::map<std::uint64_t, RingNote> rings_;
  std::map<std::uint64_t, std::string> journal_;
  std::map<std::uint32_t, OpenRow> open_;
  std::map<std::uint32_t, std::vector<std::string>> spilled_;
  std::map<Key, Row> batches_;
  std::map<std::uint32_t, BucketMark> marks_;
  std::map<std::string, std::string> identities_;
  std::map<std::string, std::uint64_t> set_aside_;
  std::uint64_t starts_ = 0;
};

}  // namespace visitd
