#include "flusher/spool/spool_rows.hpp"

#include <fmt/format.h>

#include <charconv>
#include <iterator>

namespace visitd {

std::string join(const std::vector<std::uint64_t>& numbers) {
  std::string text;
  for (const std::uint64_t number : numbers) fmt::format_to(std::back_inserter(text), "{} ", number);
  return text;
}

std::uint64_t row_digest(std::string_view pages, std::uint32_t bucket, std::uint64_t folded) {
  return digest_of(pages) + bucket + folded * 0x9e37'79b9'7f4a'7c15U;
}

std::uint64_t ring_digest(std::string_view id, std::string_view positions) {
  return digest_of(fmt::format("{} {}", id, positions));
}

bool split(std::string_view text, std::vector<std::uint64_t>& numbers) {
  while (!text.empty()) {
    std::uint64_t number = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (failed != std::errc{} || end == text.data() + text.size() || *end != ' ') return false;
    numbers.push_back(number);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
  }
  return true;
}

std::uint64_t batch_digest(const Batch& batch, std::string_view mark, std::string_view pages, std::string& scratch) {
  scratch.clear();
  fmt::format_to(std::back_inserter(scratch), "{} {} {} {} ", batch.bucket, batch.mark.seq, mark, batch.expected);
  scratch += pages;
  return digest_of(scratch);
}

}  // namespace visitd
