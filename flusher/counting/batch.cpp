#include "flusher/counting/batch.hpp"

#include <fmt/format.h>

#include <charconv>

#include "common/os/errors.hpp"
#include "common/shm/hash.hpp"

namespace visitd {

namespace {

void append_varint(std::string& blob, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7U) blob.push_back(static_cast<char>(value | 0x80U));
  blob.push_back(static_cast<char>(value));
}

std::uint64_t take_varint(std::string_view& blob) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    if (blob.empty()) break;
    const auto byte = static_cast<unsigned char>(blob.front());
    blob.remove_prefix(1);
    value |= std::uint64_t{byte & 0x7FU} << shift;
    if (byte < 0x80) return value;
  }
  throw Error("a blob of pages in the spool is damaged: a number does not end");
}

void append_text(std::string& blob, std::string_view text) {
  append_varint(blob, text.size());
  blob.append(text);
}

std::string_view take_text(std::string_view& blob) {
  const std::uint64_t length = take_varint(blob);
  if (length > blob.size()) throw Error("a blob of pages in the spool is damaged: a text is cut off");
  const std::string_view text = blob.substr(0, length);
  blob.remove_prefix(length);
  return text;
}

/// Small numbers of either sign in few bytes.
std::uint64_t zigzag(std::uint64_t number) noexcept {
  return number << 1U ^ (number >> 63U != 0 ? ~std::uint64_t{0} : 0);
}

std::uint64_t from_zigzag(std::uint64_t number) noexcept {
  return number >> 1U ^ ((number & 1U) != 0 ? ~std::uint64_t{0} : 0);
}

bool take_number(std::string_view& text, std::uint64_t& value, int base, char end) {
  const auto [next, failed] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (failed != std::errc{} || next == text.data()) return false;
  text.remove_prefix(static_cast<std::size_t>(next - text.data()));
  if (end == '\0') return text.empty();
  if (text.empty() || text.front() != end) return false;
  text.remove_prefix(1);
  return true;
}

}  // namespace

std::string to_text(const Mark& mark) {
  return fmt::format("{}-{:016x} {} {:016x}", mark.incarnation.number, mark.incarnation.random, mark.seq, mark.digest);
}

bool parse_mark(std::string_view text, Mark& mark) {
  Mark parsed;
  if (!take_number(text, parsed.incarnation.number, 10, '-') ||
      !take_number(text, parsed.incarnation.random, 16, ' ') || !take_number(text, parsed.seq, 10, ' ') ||
      !take_number(text, parsed.digest, 16, '\0')) {
    return false;
  }
  mark = parsed;
  return true;
}

std::optional<Batch> rejoin_of(std::uint32_t bucket, const std::string& tombstone) {
  Batch batch{bucket, {}, tombstone, {}, {}};
  return parse_mark(tombstone, batch.mark) ? std::optional(std::move(batch)) : std::nullopt;
}

bool is_rejoin(const Batch& batch) {
  return batch.pages.empty() && batch.expected == to_text(batch.mark);
}

void append_pages(std::string& blob, std::string_view page, std::uint64_t visits) {
  append_text(blob, page);
  append_varint(blob, visits);
}

std::string encode_pages(const std::vector<PageVisits>& pages) {
  std::string blob;
  for (const auto& [page, visits] : pages) append_pages(blob, page, visits);
  return blob;
}

std::vector<PageVisits> decode_pages(std::string_view blob) {
  std::vector<PageVisits> pages;
  for (PageReader reader(blob); reader.next();) pages.push_back({std::string(reader.page()), reader.visits()});
  return pages;
}

std::string encode_content(const Batch& batch) {
  if (!batch.correction) return encode_pages(batch.pages);
  std::string blob(1, '\0');
  append_varint(blob, batch.correction->fix);
  append_text(blob, batch.correction->by);
  for (std::size_t i = 0; i < batch.pages.size(); ++i) {
    append_text(blob, batch.pages[i].page);
    append_varint(blob, zigzag(batch.pages[i].visits));
    append_text(blob, batch.correction->into[i]);
  }
  return blob;
}

void decode_content(std::string_view blob, Batch& batch) {
  if (blob.empty() || blob.front() != '\0') {
    batch.pages = decode_pages(blob);
    return;
  }
  blob.remove_prefix(1);
  Correction& correction = batch.correction.emplace();
  correction.fix = take_varint(blob);
  correction.by = take_text(blob);
  while (!blob.empty()) {
    std::string page(take_text(blob));
    batch.pages.push_back({std::move(page), from_zigzag(take_varint(blob))});
    correction.into.emplace_back(take_text(blob));
  }
}

bool PageReader::next() {
  if (rest_.empty()) return false;
  page_ = take_text(rest_);
  visits_ = take_varint(rest_);
  return true;
}

std::uint64_t digest_of(std::string_view blob) noexcept {
  return hash_bytes(blob);
}

}  // namespace visitd
