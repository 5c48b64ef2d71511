#include "flusher/copies_watch.hpp"

#include <fmt/format.h>

#include "common/os/log.hpp"

namespace visitd {

namespace {

// A wall clock that goes by so much at once was set. (It is slewed by less, and read in whole seconds.)
constexpr std::int64_t least_jump_s = 5;
constexpr std::uint64_t clock_life_interval_ms = 60'000;

/// Of the process: a clock that jumps all the time does not end every life.
std::uint64_t& next_clock_life_ms() {
  static std::uint64_t next = 0;
  return next;
}

}  // namespace

std::string CopiesWatch::look(std::uint64_t now_ms) {
  const std::int64_t jump_s = wall_clock_jump_s();
  if (const std::string changed = difference(host_, host_identity()); !changed.empty()) {
    return fmt::format("{} changed under this flusher, as where a copy of a running machine or container goes on",
                       changed);
  }
  if (jump_s < least_jump_s || now_ms < next_clock_life_ms()) return {};
  next_clock_life_ms() = now_ms + clock_life_interval_ms;
  return "the wall clock went forward, as where a machine is resumed that may have been copied meanwhile";
}

/// By how much it was set since the last look; 0: by less than is said.
std::int64_t CopiesWatch::wall_clock_jump_s() {
  const std::int64_t ahead_s = even_time().wall_ahead_s();
  const std::int64_t jump_s = ahead_s - wall_ahead_s_;
  wall_ahead_s_ = ahead_s;
  if (jump_s > -least_jump_s && jump_s < least_jump_s) return 0;
  log::warning(
      "the wall clock went {} by {} s: nothing that is counted or kept goes by it, only times that people read; "
      "where nobody set it and the machine did not sleep, look at its time service (timedatectl)",
      jump_s > 0 ? "forward" : "back", jump_s > 0 ? jump_s : -jump_s);
  return jump_s;
}

}  // namespace visitd
