// A view, or a cache's two, in plain memory.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

#include "common/shm/cache_layout.hpp"
#include "common/shm/view.hpp"

namespace visitd::test {

/// Zeroed memory on a cache line, of atomic words.
class AlignedWords {
 public:
  explicit AlignedWords(std::size_t bytes) : bytes_(bytes), words_(new(alignment) std::byte[bytes]()) {}
  [[nodiscard]] std::byte* data() const noexcept { return words_.get(); }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_; }

 private:
  static constexpr std::align_val_t alignment{4096};
  struct Free {
    void operator()(std::byte* words) const noexcept { operator delete[](words, alignment); }
  };
  std::size_t bytes_;
  std::unique_ptr<std::byte[], Free> words_;
};

struct TestView {
  explicit TestView(const CacheShape& shape) : bytes(shape.view_bytes()), memory{shape, bytes.data()} {}
  AlignedWords bytes;
  ViewMemory memory;
};

}  // namespace visitd::test
