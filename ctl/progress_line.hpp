// One line on a terminal that says how far something is, and is written over until it is done.
#pragma once

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

/// Goes at the end, also where what it is about fails.
class PassingLine : public ProgressLine {
 public:
  PassingLine() = default;
  PassingLine(const PassingLine&) = delete;
  PassingLine& operator=(const PassingLine&) = delete;
  ~PassingLine() { clear(); }
};

}  // namespace visitd
