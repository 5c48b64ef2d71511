// The unit of shared memory: a 64-bit word that is always whole.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace visitd {

/// Everything that two processes touch at once is made of these. A store of a shared word is a release, a load an
/// acquire, unless a comment names a reason; the owner loads its own words relaxed.
using Word = std::atomic<std::uint64_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == 8 && alignof(Word) == 8);

/// A shared word as it is now.
[[nodiscard]] inline std::uint64_t value_of(const Word& word) noexcept {
  return word.load(std::memory_order_acquire);
}

inline constexpr std::size_t cache_line_bytes = 64;

/// A word alone on its cache line: cursors of different writers must not share one.
struct alignas(cache_line_bytes) LonelyWord {
  Word word;
};
static_assert(sizeof(LonelyWord) == cache_line_bytes);

/// Words that nobody uses; of 0, declared [[no_unique_address]], it takes no room.
template <std::size_t words>
struct Gap {
  Word unused[words];
};
template <>
struct Gap<0> {};

/// The number of words that hold `bytes` bytes.
[[nodiscard]] constexpr std::size_t words_for(std::size_t bytes) noexcept {
  return (bytes + 7) / 8;
}

/// Bytes 8 * i to 8 * i + 7 of `text`, zeros behind its end. Some of them must be text.
[[nodiscard]] inline std::uint64_t text_word(std::string_view text, std::size_t i) noexcept {
  static_assert(std::endian::native == std::endian::little);
  std::uint64_t word = 0;
  const std::size_t offset = i * 8;
  const std::size_t left = text.size() - offset;
  if (left >= 8) {
    std::memcpy(&word, text.data() + offset, 8);
    return word;
  }
  // Sizes that the compiler knows: a copy of a varying few bytes is a call, and this is once a record.
  if (text.size() >= 8) {
    std::memcpy(&word, text.data() + text.size() - 8, 8);
    return word >> (8 * (8 - left));
  }
  if (left >= 4) {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    std::memcpy(&low, text.data(), 4);
    std::memcpy(&high, text.data() + left - 4, 4);
    return low | std::uint64_t{high} << (8 * (left - 4));
  }
  for (std::size_t b = 0; b < left; ++b) word |= std::uint64_t{static_cast<unsigned char>(text[b])} << (8 * b);
  return word;
}

}  // namespace visitd
