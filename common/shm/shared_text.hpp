// Texts in words of shared memory.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "common/shm/shared_word.hpp"

namespace visitd {

/// Stores a text of at most 8 * words.size() bytes, zeros behind it.
inline void store_text(std::span<Word> words, std::string_view text) noexcept {
  text = text.substr(0, words.size() * 8);
  for (std::size_t i = 0; i < words.size(); ++i) {
    words[i].store(i < words_for(text.size()) ? text_word(text, i) : 0, std::memory_order_release);
  }
}

/// Reads `length` bytes back.
[[nodiscard]] inline std::string load_text(std::span<const Word> words, std::size_t length) {
  std::string text(words.size() * 8, '\0');
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::uint64_t bytes = words[i].load(std::memory_order_acquire);
    std::memcpy(text.data() + 8 * i, &bytes, 8);
  }
  text.resize(length);
  return text;
}

/// Reads a text back that ends at its first zero.
[[nodiscard]] inline std::string load_text(std::span<const Word> words) {
  std::string text = load_text(words, words.size() * 8);
  text.resize(std::min(text.find('\0'), text.size()));
  return text;
}

}  // namespace visitd
