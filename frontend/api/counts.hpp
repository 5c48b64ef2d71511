// Answers reads with what the CountReader says, and asks the flusher where it says to wait: who is parked, what is
// requested and when, whose turn it is. Knows no socket.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "common/counter/count_reader.hpp"
#include "common/counter/ring_membership.hpp"
#include "common/shm/statistics.hpp"
#include "frontend/api/backend.hpp"

namespace visitd {

class Counts final : public CountSource {
 public:
  Counts(const Settings& settings, RingMembership& membership, FrontendStatistics statistics);

  [[nodiscard]] CountAnswer read(std::string_view page, CountRead& state, std::uint64_t now_ms) noexcept override;
  [[nodiscard]] bool is_known(std::string_view page, std::uint64_t now_ms) noexcept override;
  [[nodiscard]] bool concerns(const CountRead& state, std::uint64_t now_ms) noexcept override;
  [[nodiscard]] bool gathers() const noexcept override { return reader_.gathers(); }
  void gather(std::span<const std::string_view> pages) noexcept override;
  void forget() noexcept override { reader_.forget(); }
  [[nodiscard]] ListTurns& list_turns() noexcept override { return list_turns_; }
  [[nodiscard]] std::size_t list_window(std::size_t longest) const noexcept override;
  [[nodiscard]] Ahead ahead(std::string_view page, std::uint64_t now_ms) noexcept override;
  void no_longer_ahead(std::size_t pages) noexcept override { asked_by_lists_ -= pages; }

  /// Takes what may change while it runs: timeouts and limits.
  void take_settings(const Settings& settings);
  /// Now and then: the flusher may have another TTL.
  void follow_ttl() noexcept;

 private:
  [[nodiscard]] CountAnswer answer(std::string_view page, const CountReader::Reading& reading, const CountRead& state,
                                   std::uint64_t now_ms) noexcept;
  /// Until the next call.
  [[nodiscard]] std::string_view shard_name(std::string_view page) noexcept;
  void ask(std::uint64_t hash, std::string_view page, CountRead& state, std::uint64_t now_ms) noexcept;
  [[nodiscard]] CountAnswer park(std::uint64_t hash, std::string_view page, const CountReader::Reading& reading,
                                 CountRead& state, std::uint64_t now_ms) noexcept;
  [[nodiscard]] std::uint64_t outlook() const noexcept;
  [[nodiscard]] bool awaits_turn(const CountRead& state) const noexcept;
  [[nodiscard]] bool may_ask_more(const CountRead& state) noexcept;
  [[nodiscard]] bool has_room_for_lists() noexcept;
  [[nodiscard]] bool has_room_ahead() noexcept;
  void ask_ahead(std::uint64_t hash, std::string_view page, std::uint64_t expires_ms) noexcept;
  Published post(std::uint64_t hash, std::string_view page) noexcept;
  void use_cache();
  bool find_cache() noexcept;
  [[nodiscard]] bool flusher_is_late(std::uint64_t now_ms) const noexcept;
  void find_cache_soon(std::uint64_t now_ms) noexcept;

  std::uint64_t lookup_timeout_ms_ = 0;
  std::string too_late_;  ///< what is said of a page whose shard did not answer
  RingMembership& membership_;
  FrontendStatistics statistics_;
  CountReader reader_;
  std::uint64_t cache_changes_ = 0;
  std::uint64_t looked_for_cache_ms_ = 0;
  std::uint64_t ask_ahead_ms_ = 0;                ///< of the cache in use
  std::array<std::uint64_t, 256> asked_ahead_{};  ///< pages and the ends of their TTL, mixed: each is asked for once
  ListTurns list_turns_;
  std::size_t asked_by_lists_ = 0;  ///< ahead, and not read yet
  std::string shard_name_;          ///< as last told
};

}  // namespace visitd
