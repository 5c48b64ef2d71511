// What all connections of a server share.
#pragma once

#include <uv.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/config/settings.hpp"
#include "frontend/api/answering_way.hpp"
#include "frontend/api/backend.hpp"
#include "frontend/api/routes.hpp"
#include "frontend/server/deadlines.hpp"
#include "frontend/server/server_statistics.hpp"
#include "frontend/server/uploads.hpp"

namespace visitd {

/// What a connection waits for: its first byte, the rest of a head or of a body, that the client takes its answers, the
/// flusher (parked), a turn of ours (paused), or that the client closes, once no request is read any more (lingering).
/// Each has its time limit.
enum class Phase : std::uint8_t { idle, head, body, sending, parked, paused, lingering };
inline constexpr std::size_t phase_count = 7;

/// What heads that are not complete may take, of all connections together, and so may parked requests. Many honest
/// clients whose large heads come in pieces at the same moment fit in.
inline constexpr std::uint64_t kept_limit_bytes = 16U << 20U;

/// Answers of pipelined requests leave together, up to this.
inline constexpr std::size_t flush_bytes = 65536;

/// How much of a turn dear requests may take, so that a client that asks for one count does not wait for them. What is
/// not done by then goes on in the next turn, after the sockets were looked at.
class TurnBudget {
 public:
  /// `now_ms`: as the loop saw it at the beginning of the turn.
  [[nodiscard]] bool is_spent(std::uint64_t now_ms) noexcept {
    if (now_ms != turn_ms_) begin(now_ms);
    return spent_ns_ >= most_ns;
  }
  void begin(std::uint64_t now_ms) noexcept {
    turn_ms_ = now_ms;
    spent_ns_ = 0;
  }
  void spend(std::uint64_t ns) noexcept { spent_ns_ += ns; }

  static constexpr std::uint64_t most_ns = 1'000'000;

 private:
  std::uint64_t turn_ms_ = 0;
  std::uint64_t spent_ns_ = 0;
};

class Connection;

/// Keeps connections.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  /// After each event: the connection is closed, and to be deleted, or waits in one of the share's lists.
  virtual void settled(Connection& connection) = 0;
  /// A client does not take its answer as fast as it was made: whoever waited longest makes room where that is too
  /// much.
  virtual void holds_unsent(const Connection& connection) = 0;
};

/// No connection uses it across a return to the loop, so that an idle connection holds no buffer.
struct ConnectionShare {
  ConnectionShare(uv_loop_t* its_loop, const Settings& settings, const Backend& backend, ConnectionOwner& its_owner);

  /// Takes what may change while it runs.
  void take_settings(const Settings& settings);

  [[nodiscard]] DeadlineList& waiting(Phase phase) noexcept { return phases[static_cast<std::size_t>(phase)]; }

  uv_loop_t* loop;
  ConnectionOwner& owner;
  ReaderLimits limits;
  AnswerFormat format;
  CountSource& counts;
  Routes routes;
  DirectWay direct;
  std::unique_ptr<AnsweringWay> usual;  ///< answers what is not hot
  AnsweringWay* hot;                    ///< answers the hot routes
  std::array<DeadlineList, phase_count> phases;
  TurnBudget turn;
  std::vector<char> received;
  OutputBuffer out;
  std::uint64_t head_bytes = 0;    ///< of all heads that are not complete
  std::uint64_t parked_bytes = 0;  ///< of all requests that are parked
  Uploads uploads;
  std::uint64_t unsent_bytes = 0;  ///< of all answers that clients have not taken
  std::uint64_t unsent_limit_bytes;
  ServerStatistics statistics;
  bool stopping = false;

 private:
  [[nodiscard]] AnsweringWay* way_of(const Settings& settings) noexcept;
};

}  // namespace visitd
