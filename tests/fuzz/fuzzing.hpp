// What the fuzz targets share: the input in parts, and what ends a run as a finding.
#pragma once

#include <sanitizer/asan_interface.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <source_location>
#include <string>
#include <string_view>

namespace visitd::fuzzing {

/// Where `holds` is false this input is a finding: libFuzzer keeps it.
inline void require(bool holds, std::string_view what,
                    const std::source_location place = std::source_location::current()) {
  if (holds) return;
  std::fprintf(stderr, "%s:%u: broken: %.*s\n", place.file_name(), static_cast<unsigned>(place.line()),
               static_cast<int>(what.size()), what.data());
  std::abort();
}

/// An input: some bytes choose what is done, the rest is what it is done with.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) noexcept
      : text_(size == 0 ? std::string_view() : std::string_view(reinterpret_cast<const char*>(data), size)) {}

  /// The next byte; 0 behind the last one.
  std::uint8_t byte() noexcept {
    if (text_.empty()) return 0;
    const auto first = static_cast<std::uint8_t>(text_.front());
    text_.remove_prefix(1);
    return first;
  }

  /// Up to the next byte that is `end`, which is left out; all where there is none.
  std::string_view until(char end) noexcept {
    const std::string_view part = text_.substr(0, text_.find(end));
    text_.remove_prefix(part.size() == text_.size() ? part.size() : part.size() + 1);
    return part;
  }

  [[nodiscard]] std::string_view rest() const noexcept { return text_; }

 private:
  std::string_view text_;
};

/// A copy in memory of exactly that size: a read before or beyond it ends the run. Where no allocator can be as quick,
/// copies lie one behind the other in memory that AddressSanitizer is told of; the last one goes first.
class Exact {
 public:
  explicit Exact(std::string_view text) : begin_(top_), size_(text.size()) {
    constexpr std::size_t gap = 16;  // whole units of AddressSanitizer's shadow, which begin with their first byte
    require(begin_ + size_ + 2 * gap < sizeof memory_, "the copies of an input have room");
    ASAN_UNPOISON_MEMORY_REGION(memory_ + begin_, size_);
    text.copy(memory_ + begin_, size_);
    top_ += (size_ / gap + 2) * gap;
  }
  Exact(const Exact&) = delete;
  Exact& operator=(const Exact&) = delete;
  ~Exact() {
    ASAN_POISON_MEMORY_REGION(memory_ + begin_, size_);
    top_ = begin_;
  }

  [[nodiscard]] char* data() const noexcept { return memory_ + begin_; }
  [[nodiscard]] std::string_view view() const noexcept { return {data(), size_}; }

 private:
  // The first one begins behind a gap, and all of it is out of bounds until it is handed out.
  alignas(16) static inline char memory_[1 << 16];
  static inline std::size_t top_ = [] {
    ASAN_POISON_MEMORY_REGION(memory_, sizeof memory_);
    return std::size_t{16};
  }();

  std::size_t begin_;
  std::size_t size_;
};

inline char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

inline std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = lower(c);
  return result;
}

}  // namespace visitd::fuzzing
