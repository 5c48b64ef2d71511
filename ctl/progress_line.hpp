// One line on a terminal that says how far something is, and is written over until it is done.
#pragma once

#include <chrono>
#include <string_view>

namespace visitd {

class ProgressLine {
 public:
  ProgressLine() noexcept;

  /// Whether standard error is a terminal: elsewhere nothing is shown.
  [[nodiscard]] bool is_at_terminal() const noexcept { return is_at_terminal_; }
  void show(std::string_view text);
  /// The line stays, and what is written next begins behind it.
  void keep();
  /// It goes.
  void clear();

 private:
  bool is_at_terminal_;
  bool shown_ = false;
};

/// From when it is made on.
class TimeTaken {
 public:
  /// How long the rest may take if this part of all is done, 0 to 1. While nothing is done, nobody can say: 0.
  [[nodiscard]] double seconds_left(double part) const {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun_;
    return part > 0 ? took.count() / part * (1 - part) : 0;
  }

 private:
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

/// Goes at the end, also where what it is about fails.
class PassingLine : public ProgressLine {
 public:
  PassingLine() = default;
  PassingLine(const PassingLine&) = delete;
  PassingLine& operator=(const PassingLine&) = delete;
  ~PassingLine() { clear(); }
};

}  // namespace visitd
