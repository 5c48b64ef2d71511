// The time of an event, as this process tells it to its deciders.
#pragma once

#include "common/os/clock.hpp"
#include "flusher/counting/engine.hpp"

namespace visitd {

/// Of this process, over all its lives.
[[nodiscard]] inline const EvenUnixTime& even_time() {
  static const EvenUnixTime time;
  return time;
}

[[nodiscard]] inline Now now() {
  return {monotonic_ms(), even_time().seconds()};
}

}  // namespace visitd
