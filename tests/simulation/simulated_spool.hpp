// The spool in memory: what flusher/spool/spool_writer does with a transaction, and what spool_loader loads.
// loads.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "flusher/counting/spool_state.hpp"

namespace visitd {

class SimulatedSpool {
 public:
  SpoolResult apply(const Transaction& transaction);
  /// `writer`: names the field of this spool's marks in each bucket. A copy has the same.
  explicit SimulatedSpool(std::string writer) : writer_(std::move(writer)) {}

  /// A start: a new incarnation with this random part, then everything that recovery needs.
  [[nodiscard]] SpoolState load(std::uint64_t random);
  /// The same of a copy that goes on in the middle of the life that was copied.
  [[nodiscard]] SpoolState load_in_same_life() const;
  [[nodiscard]] const std::string& writer() const noexcept { return writer_; }
  /// Visits of a page that no shard has: open ones, and those of batches of which `applied` is not true.
  [[nodiscard]] std::uint64_t pending(const std::string& page, std::uint32_t bucket,
                                      const std::function<bool(const Batch&)>& applied) const;
  /// Whether the bucket's batch with this mark waits for an answer.
  [[nodiscard]] bool waits(std::uint32_t bucket, const Mark& mark) const;
  [[nodiscard]] bool knows_ring(std::uint64_t ring) const { return rings_.contains(ring); }
  [[nodiscard]] bool is_finished(std::uint64_t ring) const { return knows_ring(ring) && rings_.at(ring).finished; }
  /// Up to where a lane of this ring is in it.
  [[nodiscard]] std::uint64_t position(std::uint64_t ring, std::size_t lane) const;
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
  std::map<std::string, QuestionNote> questions_;
  std::string writer_;
  Incarnation incarnation_;
};

}  // namespace visitd
