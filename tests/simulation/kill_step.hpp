// What stands between two stores of a simulated flusher: a reader may look, and the flusher may die.
#pragma once

#include <functional>

namespace visitd {

struct Killed {};

/// Set by the simulation; called before every store to a view.
struct KillStep {
  static inline std::function<void()> between_stores;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
  void operator()() const {
    if (between_stores) between_stores();
  }
};

}  // namespace visitd
