// Finds the pages with the largest counts: reads the buckets in the order of what their pages may have at most, and no
// more of them than it needs. Decides; knows no clock, loop or socket.
//
// A bucket's bound is the largest count that its shard holds in it, and the largest number of visits that are pending
// of one of its pages. Once as many pages as are wanted have at least the next bucket's bound, no other page has more.
// Of pages with the same count as the last one, others may be left out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "flusher/counting/askable_shards.hpp"
#include "flusher/counting/pending_parts.hpp"

namespace visitd {

/// Pages and their counts, the largest first; of equal counts, by id.
using CountedPages = std::vector<std::pair<std::string, std::uint64_t>>;

class TopPages {
 public:
  struct Bound {
    std::uint64_t most = 0;
    std::uint32_t bucket = 0;
  };
  /// `bounds`: of all buckets that may have a page.
  TopPages(PendingParts parts, AskableShards& shards, ScanPort& port, std::size_t limit, std::vector<Bound> bounds);
  TopPages(const TopPages&) = delete;
  TopPages& operator=(const TopPages&) = delete;
  ~TopPages() = default;

  /// Goes on. True: all is read that is needed.
  [[nodiscard]] bool tick();

  /// What was found so far, at most so many.
  [[nodiscard]] CountedPages pages(std::size_t limit) const;
  /// Pages of which nobody can say a count, though their shards hold one.
  [[nodiscard]] std::uint64_t unknown_pages() const noexcept { return unknown_pages_; }
  /// Buckets that could not be read, and why the first of them.
  [[nodiscard]] std::uint64_t unknown_buckets() const noexcept { return unknown_buckets_; }
  [[nodiscard]] const std::string& why_unknown() const noexcept { return why_unknown_; }

 private:
  using Found = std::unordered_map<std::string, std::uint64_t>;
  /// A bucket that is being read.
  struct Reading {
    std::uint32_t bucket = 0;
    std::uint64_t cursor = 0;
    std::uint64_t source = 0;  ///< of the cursor
    bool asking = false;
    bool over = false;
    Found found = {};
    std::uint64_t unknown_pages = 0;
  };

  [[nodiscard]] bool needs(const Bound& next) const;
  [[nodiscard]] std::uint64_t least_of_best() const;
  void step(const std::shared_ptr<Reading>& reading);
  void give_up(Reading& reading, const std::string& why);
  void take(Reading& reading, const Pages& pages);
  void end(Reading& reading);
  void keep_best(Found& found) const;

  PendingParts parts_;
  AskableShards& shards_;
  ScanPort& port_;
  std::size_t limit_;
  std::vector<Bound> bounds_;  ///< the largest first
  std::size_t next_ = 0;       ///< bound to look at
  std::vector<std::shared_ptr<Reading>> readings_;
  Found found_;
  std::uint64_t unknown_pages_ = 0;
  std::uint64_t unknown_buckets_ = 0;
  std::string why_unknown_;
  std::shared_ptr<const bool> lives_;  ///< answers that come later are nobody's
};

}  // namespace visitd
