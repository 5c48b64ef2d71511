// What moves from the flusher to a shard: batches of a bucket, and the mark by which a shard knows the last one it
// applied.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace visitd {

/// Visits of one page.
struct PageVisits {
  std::string page;
  std::uint64_t visits = 0;
  friend bool operator==(const PageVisits&, const PageVisits&) = default;
};

/// One life of a flusher. The number counts up with every start; the random part tells a clone's life from the
/// original's.
struct Incarnation {
  std::uint64_t number = 0;
  std::uint64_t random = 0;
  friend bool operator==(const Incarnation&, const Incarnation&) = default;
};

/// What a writer's field of a bucket holds in Redis: "NUMBER-RANDOM SEQ DIGEST" (random and digest: 16 hex digits).
/// The digest is that of the batch's pages with a salt: it only tells marks apart.
struct Mark {
  Incarnation incarnation;
  std::uint64_t seq = 0;
  std::uint64_t digest = 0;
  friend bool operator==(const Mark&, const Mark&) = default;
};

[[nodiscard]] std::string to_text(const Mark& mark);

/// Parses what to_text wrote. False: the text is something else, and `mark` is not changed.
[[nodiscard]] bool parse_mark(std::string_view text, Mark& mark);

/// What makes a batch a correction: the visits of its pages are differences, which may be negative (as two's
/// complement, see difference_of). They were worked out from what the bucket held, and hold only as long as nobody else
/// corrects it.
struct Correction {
  std::uint64_t fix = 0;          ///< the number of the bucket's last correction when its counts were read; 0: none
  std::string by;                 ///< who asked for it, for people
  std::vector<std::string> into;  ///< one a page: the page that is given what this one loses; empty: none
  friend bool operator==(const Correction&, const Correction&) = default;
};

/// What a page of a correction gains, or loses.
[[nodiscard]] inline std::int64_t difference_of(const PageVisits& page) noexcept {
  return static_cast<std::int64_t>(page.visits);
}

/// The visits of one bucket, sealed: immutable, applied to a shard by compare-and-set from `expected` to `mark`.
struct Batch {
  std::uint32_t bucket = 0;
  Mark mark;
  std::string expected;  ///< what the writer's field holds before it, as text; empty: no field
  std::vector<PageVisits> pages;
  std::optional<Correction> correction = std::nullopt;
};

/// The batch that puts back the mark of a bucket's tombstone: it has no pages, and expects what it leaves. nullopt: the
/// text is no mark.
[[nodiscard]] std::optional<Batch> rejoin_of(std::uint32_t bucket, const std::string& tombstone);
[[nodiscard]] bool is_rejoin(const Batch& batch);

/// Pages and visits as one blob: for each a varint length, the page's bytes, a varint of visits.
void append_pages(std::string& blob, std::string_view page, std::uint64_t visits);
[[nodiscard]] std::string encode_pages(const std::vector<PageVisits>& pages);

/// Parses such a blob. Throws Error where it is damaged.
[[nodiscard]] std::vector<PageVisits> decode_pages(std::string_view blob);

/// The content of a batch as one blob: its pages; or an empty page's length, which no page has, and the correction.
[[nodiscard]] std::string encode_content(const Batch& batch);
/// Parses such a blob into pages and correction. Throws Error where it is damaged.
void decode_content(std::string_view blob, Batch& batch);

/// Reads such a blob of pages a page at a time, without copying it: `while (reader.next()) use(reader.page(),
/// reader.visits());`
class PageReader {
 public:
  explicit PageReader(std::string_view blob) noexcept : rest_(blob) {}

  /// False at the end. Throws Error where the blob is damaged.
  [[nodiscard]] bool next();
  /// A view into the blob.
  [[nodiscard]] std::string_view page() const noexcept { return page_; }
  [[nodiscard]] std::uint64_t visits() const noexcept { return visits_; }

 private:
  std::string_view rest_;
  std::string_view page_;
  std::uint64_t visits_ = 0;
};

/// XXH3 of a batch's encoded content.
[[nodiscard]] std::uint64_t digest_of(std::string_view blob) noexcept;

}  // namespace visitd
