// Records and knows counts, in memory, for tests of the server: it can be told to refuse, to park, and not to know.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>

#include "frontend/api/backend.hpp"

namespace visitd {

class FakeCounting final : public VisitRecorder, public CountSource {
 public:
  std::atomic<Recorded> recorded = Recorded::recorded;
  std::atomic<int> room = 1'000'000;           ///< records that are taken before the lane is full
  std::atomic<bool> parks = false;             ///< reads of pages that begin with "slow" are parked while set
  std::atomic<bool> concerned = true;          ///< parked reads are told that something of their page has changed
  std::atomic<std::uint64_t> asked_ahead = 0;  ///< pages of lists, and not read yet
  std::atomic<std::uint64_t> ignored = 0;      ///< visits
  std::atomic<std::uint64_t> reads = 0;        ///< tries, parked ones included

  Recorded record(std::string_view page, std::uint32_t visits) noexcept override {
    if (room == 0) return Recorded::full;
    if (recorded == Recorded::recorded) {
      --room;
      const std::lock_guard lock(mutex_);
      counts_[std::string(page)] += visits;
    }
    return recorded;
  }

  Recorded record_together(std::span<const std::string_view> pages) noexcept override {
    if (room < static_cast<int>(pages.size())) return Recorded::full;
    Recorded last = Recorded::recorded;
    for (const std::string_view page : pages) last = record(page, 1);
    return last;
  }

  void ignore(std::uint64_t visits) noexcept override { ignored += visits; }

  CountAnswer read(std::string_view page, CountRead& state, std::uint64_t now_ms) noexcept override {
    ++reads;
    if (state.asked_at_ms == 0) state.asked_at_ms = now_ms;
    state.deadline_ms = now_ms + 1;
    if (parks && page.starts_with("slow")) return {CountAnswer::Kind::parked, 0, 0, {}, {}};
    if (page == "unknown") return {CountAnswer::Kind::unknown, 0, 0, {}, "redis_7070 cannot be asked"};
    if (page == "stale") return {CountAnswer::Kind::stale, 7, -4, "in-memory", {}};
    if (page == "missed") return {CountAnswer::Kind::fresh, 9, 5, "redis_7070", {}};
    if (page == "odd") return {CountAnswer::Kind::fresh, 9, 5, "7 of 9", {}};
    return {CountAnswer::Kind::fresh, count(page), 3, "in-memory", {}};
  }

  bool is_known(std::string_view page, std::uint64_t) noexcept override {
    return !(parks && page.starts_with("slow")) && count(page) != 0;
  }

  bool concerns(const CountRead&, std::uint64_t) noexcept override { return concerned; }
  [[nodiscard]] bool gathers() const noexcept override { return false; }
  void gather(std::span<const std::string_view>) noexcept override {}
  void forget() noexcept override {}
  [[nodiscard]] ListTurns& list_turns() noexcept override { return list_turns_; }
  [[nodiscard]] std::size_t list_window(std::size_t) const noexcept override { return 256; }
  Ahead ahead(std::string_view page, std::uint64_t) noexcept override {
    if (!parks || !page.starts_with("slow")) return Ahead::known;
    ++asked_ahead;
    return Ahead::asked;
  }
  void no_longer_ahead(std::size_t pages) noexcept override { asked_ahead -= pages; }

  [[nodiscard]] std::uint64_t count(std::string_view page) {
    const std::lock_guard lock(mutex_);
    return counts_[std::string(page)];
  }

 private:
  ListTurns list_turns_{8192};
  std::mutex mutex_;
  std::map<std::string, std::uint64_t> counts_;
};

}  // namespace visitd
