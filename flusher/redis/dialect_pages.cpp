// How the pages of a bucket are listed.
#include <utility>

#include "flusher/redis/dialect_words.hpp"

namespace visitd {

using namespace dialect;

namespace {

// The replies that are still to come. With `once` ASKING is answered before each of both.
constexpr std::uint32_t scan_then_fields = 2;
constexpr std::uint32_t fields = 1;
constexpr std::uint32_t scan_then_asking = 4;
constexpr std::uint32_t asking_then_fields = 3;

// Fields of ours begin so; a page id holds no control character.
constexpr char ours = '\x01';

Pages::Page page_of(Reply id, Reply count) {
  Pages::Page page{std::string(id.text()), 0};
  if (!parse_count(count.text(), *page.count)) page.count.reset();
  return page;
}

}  // namespace

// ---- pages: HSCAN and HMGET

Awaited Dialect::write_command(const AskPages& asked, RequestText& text) const {
  add_asking(text, asked.once);
  text.start(5);
  text.add("HSCAN");
  add_bucket_key(text, asked.bucket);
  text.add_number(asked.cursor);
  text.add("COUNT");
  text.add_number(asked.count);
  add_asking(text, asked.once);
  text.start(6);
  text.add("HMGET");
  add_bucket_key(text, asked.bucket);
  text.add(id_field);
  text.add(moved_field);
  text.add(writer_field_);
  text.add(tombstone_);
  return {Awaited::Kind::pages, asked.once ? scan_then_asking : scan_then_fields, asked.once};
}

std::optional<ShardAnswer> Dialect::read_pages(Awaited& awaited, Reply reply) {
  const std::uint32_t step = awaited.size;
  if (step == asking_then_fields) {
    awaited.size = fields;
    return std::nullopt;
  }
  std::optional<ShardAnswer> failed;
  if (auto redirect = read_redirect(reply)) {
    failed = std::move(*redirect);
  } else if (reply.is_error()) {
    failed = Refused{std::string(reply.text())};
  }
  if (step != fields) {
    awaited.size = step == scan_then_asking ? asking_then_fields : fields;
    pages_ = failed ? std::move(*failed) : read_scan(reply);
    return std::nullopt;
  }
  ShardAnswer answer = std::exchange(pages_, Lost{});
  auto* const pages = std::get_if<Pages>(&answer);
  if (pages == nullptr) return answer;
  if (failed) return failed;
  bool whole = reply.size() == 4;
  for (std::size_t i = 0; whole && i < reply.size(); ++i) whole = reply[i].is_text_or_nil();
  if (!whole) unexpected("HMGET");
  pages->id = reply[0].text();
  pages->moved = reply[1].text();
  pages->field = reply[2].text();
  pages->gone = reply[3].text();
  return answer;
}

Pages Dialect::read_scan(Reply reply) {
  Pages pages;
  const Reply list = reply[1];
  if (reply.size() != 2 || !reply[0].is_string() || !parse_decimal(reply[0].text(), pages.cursor) || !list.is_array() ||
      list.size() % 2 != 0) {
    unexpected("HSCAN");
  }
  pages.pages.reserve(list.size() / 2);
  for (std::size_t i = 0; i < list.size(); i += 2) {
    if (!list[i].is_string() || !list[i + 1].is_string()) unexpected("HSCAN");
    if (!list[i].text().starts_with(ours)) pages.pages.push_back(page_of(list[i], list[i + 1]));
  }
  return pages;
}

}  // namespace visitd
