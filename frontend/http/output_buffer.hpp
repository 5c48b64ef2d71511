// Bytes on their way out: grows when it must, and is written to by plain stores.
#pragma once

#include <algorithm>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>

namespace visitd {

class OutputBuffer {
 public:
  explicit OutputBuffer(std::size_t capacity)
      : bytes_(new char[capacity]), capacity_(capacity), usual_capacity_(capacity) {}

  /// Makes room for `size` more bytes, so that what is appended up to there never fails.
  void reserve(std::size_t size) {
    if (capacity_ - size_ >= size) return;
    const std::size_t capacity = std::max(capacity_ * 2, size_ + size);
    std::unique_ptr<char[]> larger(new char[capacity]);
    std::memcpy(larger.get(), bytes_.get(), size_);
    bytes_ = std::move(larger);
    capacity_ = capacity;
  }

  /// Only within what was reserved.
  void append(std::string_view text) noexcept {
    std::memcpy(bytes_.get() + size_, text.data(), text.size());
    size_ += text.size();
  }
  void append(std::integral auto number) noexcept {
    char* const begin = bytes_.get() + size_;
    size_ += static_cast<std::size_t>(std::to_chars(begin, begin + 20, number).ptr - begin);
  }

  [[nodiscard]] std::string_view view() const noexcept { return {bytes_.get(), size_}; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  /// Forgets what lies beyond `size` bytes; the memory is kept.
  void truncate(std::size_t size) noexcept { size_ = size; }
  /// Forgets all, and gives back the memory of a long answer.
  void clear() {
    size_ = 0;
    if (capacity_ != usual_capacity_) *this = OutputBuffer(usual_capacity_);
  }

 private:
  std::unique_ptr<char[]> bytes_;
  std::size_t capacity_;
  std::size_t usual_capacity_;
  std::size_t size_ = 0;
};

}  // namespace visitd
