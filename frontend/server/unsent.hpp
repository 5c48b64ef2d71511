// What is answered on a connection and not sent yet, counted together with what is unsent of all others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace visitd {

class Unsent {
 public:
  /// `all_bytes`: of all connections; outlives this.
  explicit Unsent(std::uint64_t& all_bytes) noexcept : all_bytes_(all_bytes) {}
  Unsent(const Unsent&) = delete;
  Unsent& operator=(const Unsent&) = delete;
  ~Unsent() { all_bytes_ -= bytes_.size(); }

  [[nodiscard]] bool empty() const noexcept { return bytes_.empty(); }
  [[nodiscard]] std::string_view view() const noexcept { return std::string_view(bytes_).substr(sent_); }

  /// Takes a copy in place of what it holds.
  void hold(std::string_view bytes) { replace(std::string(bytes)); }
  /// The first `size` bytes of view() are sent. Their memory is given back now and then: each byte that stays is copied
  /// once at most for each that goes.
  void sent(std::size_t size) {
    sent_ += size;
    if (sent_ * 2 >= bytes_.size()) replace(bytes_.substr(sent_));
  }

 private:
  void replace(std::string bytes) noexcept {
    all_bytes_ += bytes.size() - bytes_.size();
    bytes_ = std::move(bytes);
    sent_ = 0;
  }

  std::uint64_t& all_bytes_;
  std::string bytes_;
  std::size_t sent_ = 0;  ///< of bytes_, from its beginning
};

}  // namespace visitd
