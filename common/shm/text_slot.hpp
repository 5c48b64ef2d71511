// A text in shared memory that one process hands to others, each text under a number: words of
//   0  number of the text that stands here; 0: none, or one is just being written
//   1  its bytes
//   2… the text
//
// One writer, any readers. A reader takes a text whole or not at all, whenever the writer dies. Memory orders: every
// store is a release, every load an acquire. A reader that finds a word of a later text also finds that the number has
// changed, which was stored before it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "common/os/invariant.hpp"
#include "common/shm/shared_text.hpp"
#include "common/shm/shared_word.hpp"

namespace visitd {

class TextSlot {
 public:
  explicit TextSlot(std::span<Word> words) noexcept : words_(words) {}

  /// The longest text, in bytes.
  [[nodiscard]] std::size_t room() const noexcept { return 8 * (words_.size() - head_words); }
  /// Of the text that stands here; 0: none.
  [[nodiscard]] std::uint64_t number() const noexcept { return words_[0].load(std::memory_order_acquire); }

  /// The writer's. The text has room; `number` is not 0, and no other text's.
  void write(std::uint64_t number, std::string_view text) const noexcept {
    must_hold(number != 0 && text.size() <= room(), "a text in a slot has a number, and room");
    words_[0].store(0, std::memory_order_release);
    words_[1].store(text.size(), std::memory_order_release);
    store_text(words_.subspan(head_words, words_for(text.size())), text);
    words_[0].store(number, std::memory_order_release);
  }

  /// The writer's: nothing of the text stays in memory.
  void clear() const noexcept {
    words_[0].store(0, std::memory_order_release);
    store_text(words_.subspan(head_words, words_for(bytes())), {});
  }

  /// The text of this number; nullopt: it does not stand here, or not any more.
  [[nodiscard]] std::optional<std::string> read(std::uint64_t number) const {
    if (number == 0 || this->number() != number) return std::nullopt;
    const std::size_t size = bytes();
    std::string text = load_text(words_.subspan(head_words, words_for(size)), size);
    // Relaxed: behind the acquires before it.
    return words_[0].load(std::memory_order_relaxed) == number ? std::optional(std::move(text)) : std::nullopt;
  }

 private:
  static constexpr std::size_t head_words = 2;

  /// Whatever somebody wrote there, no more than there is room for.
  [[nodiscard]] std::size_t bytes() const noexcept {
    return static_cast<std::size_t>(std::min<std::uint64_t>(words_[1].load(std::memory_order_acquire), room()));
  }

  std::span<Word> words_;
};

}  // namespace visitd
