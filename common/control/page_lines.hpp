// A piece of a list of pages, as the flusher says it and visitctl reads it: a line each, its kind first.
//
//   #17              bucket 17 from its beginning: what was listed of it before does not hold
//   +17              bucket 17 goes on
//   =12 home         the page and its count
//   ~3 new           the same of a page that may follow with another count: what is known is this host's alone
//   ?odd             a page without a count: Redis holds no number for it, or this host's visits have no room in it
//   !17 shard ...    bucket 17 is not known, and why: what was listed of it does not hold
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

namespace visitd {

/// Appends lines.
class PageLinesWriter {
 public:
  explicit PageLinesWriter(std::string& text) noexcept : text_(text) {}

  void bucket(std::uint32_t bucket, bool from_start);
  void page(std::string_view page, std::uint64_t count);
  void pending_page(std::string_view page, std::uint64_t count);
  void unknown_page(std::string_view page);
  void unknown_bucket(std::uint32_t bucket, std::string_view why);

 private:
  std::string& text_;
};

/// Reads these lines: `while (reader.next()) ...`. next() throws Error if a line begins with another character.
class PageLinesReader {
 public:
  enum class Kind : std::uint8_t { bucket, bucket_goes_on, page, pending_page, unknown_page, unknown_bucket };

  explicit PageLinesReader(std::string_view text) noexcept : rest_(text) {}

  [[nodiscard]] bool next();
  [[nodiscard]] Kind kind() const noexcept { return kind_; }
  /// The count of a page, or the number of a bucket.
  [[nodiscard]] std::uint64_t number() const noexcept { return number_; }
  /// The page, or why a bucket is not known: into the text that is read.
  [[nodiscard]] std::string_view text() const noexcept { return text_; }

 private:
  std::string_view rest_;
  Kind kind_ = Kind::bucket;
  std::uint64_t number_ = 0;
  std::string_view text_;
};

/// A page and its count; nullopt: it is not known.
using EachPage = std::function<void(std::string_view page, std::optional<std::uint64_t> count)>;

/// Puts the lines of pieces together: a page comes once, and pages of a bucket come in the order of their names.
class PageLines {
 public:
  explicit PageLines(EachPage each) : each_(std::move(each)) {}

  /// Throws Error where they are of another version.
  void take(std::string_view lines);
  /// There are no more.
  void end();

  [[nodiscard]] std::uint64_t unknown_buckets() const noexcept { return unknown_buckets_; }
  /// Why the first of them is not known.
  [[nodiscard]] const std::string& why_unknown() const noexcept { return why_unknown_; }

 private:
  void begin(std::uint64_t bucket);

  EachPage each_;
  std::optional<std::uint64_t> bucket_;                                 ///< that is being listed
  std::unordered_map<std::string, std::optional<std::uint64_t>> held_;  ///< its pages
  std::uint64_t unknown_buckets_ = 0;
  std::string why_unknown_;
};

}  // namespace visitd
