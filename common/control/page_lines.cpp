#include "common/control/page_lines.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "common/os/errors.hpp"
#include "common/os/text.hpp"

namespace visitd {

namespace {

/// In the order of PageLinesReader::Kind.
constexpr std::string_view kinds = "#+=~?!";

}  // namespace

void PageLinesWriter::bucket(std::uint32_t bucket, bool from_start) {
  fmt::format_to(std::back_inserter(text_), "{}{}\n", from_start ? '#' : '+', bucket);
}

void PageLinesWriter::page(std::string_view page, std::uint64_t count) {
  fmt::format_to(std::back_inserter(text_), "={} {}\n", count, page);
}

void PageLinesWriter::pending_page(std::string_view page, std::uint64_t count) {
  fmt::format_to(std::back_inserter(text_), "~{} {}\n", count, page);
}

void PageLinesWriter::unknown_page(std::string_view page) {
  fmt::format_to(std::back_inserter(text_), "?{}\n", page);
}

void PageLinesWriter::unknown_bucket(std::uint32_t bucket, std::string_view why) {
  fmt::format_to(std::back_inserter(text_), "!{} ", bucket);
  // One line, whatever a server says.
  std::ranges::replace_copy_if(why, std::back_inserter(text_), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  text_ += '\n';
}

bool PageLinesReader::next() {
  if (rest_.empty()) return false;
  const std::string_view whole = take_until(rest_, '\n');
  const std::size_t kind = whole.empty() ? std::string_view::npos : kinds.find(whole.front());
  if (kind == std::string_view::npos) throw error("the flusher lists pages in a form of another version");
  kind_ = static_cast<Kind>(kind);
  text_ = whole.substr(1);
  number_ = 0;
  if (kind_ != Kind::unknown_page && !parse_decimal(take_until(text_, ' '), number_)) {
    throw error("the flusher lists pages in a form of another version");
  }
  return true;
}

void PageLines::take(std::string_view lines) {
  using Kind = PageLinesReader::Kind;
  for (PageLinesReader reader(lines); reader.next();) {
    switch (reader.kind()) {
      case Kind::bucket:
        begin(reader.number());
        break;
      case Kind::bucket_goes_on:
        break;
      case Kind::page:
        held_.insert_or_assign(std::string(reader.text()), reader.number());
        break;
      case Kind::pending_page:
        held_.emplace(reader.text(), reader.number());
        break;
      case Kind::unknown_page:
        held_.insert_or_assign(std::string(reader.text()), std::nullopt);
        break;
      case Kind::unknown_bucket:
        begin(reader.number());
        if (++unknown_buckets_ == 1) why_unknown_ = fmt::format("bucket {}: {}", reader.number(), reader.text());
        break;
    }
  }
}

/// Its pages come from now on; what came of it before does not hold.
void PageLines::begin(std::uint64_t bucket) {
  if (bucket_ == bucket) held_.clear();
  end();
  bucket_ = bucket;
}

/// In order, so that lists of the same pages are the same.
void PageLines::end() {
  using Page = std::pair<std::string_view, std::optional<std::uint64_t>>;
  std::vector<Page> pages(held_.begin(), held_.end());
  std::ranges::sort(pages, {}, &Page::first);
  for (const auto& [page, count] : pages) each_(page, count);
  held_.clear();
}

}  // namespace visitd
