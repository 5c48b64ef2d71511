// One client's connection: bytes in, requests in order, answers out.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "common/os/unique_fd.hpp"
#include "common/os/uv_handles.hpp"
#include "frontend/api/routes.hpp"
#include "frontend/http/client_address.hpp"
#include "frontend/server/address_limits.hpp"
#include "frontend/server/deadlines.hpp"
#include "frontend/server/event_loop_server.hpp"
#include "frontend/server/httplib_server.hpp"
#include "frontend/server/unsent.hpp"
#include "frontend/server/uploads.hpp"

namespace visitd {

/// What a connection waits for. Each has its time limit.
enum class Phase : std::uint8_t { idle, head, body, sending, parked, lingering };
inline constexpr std::size_t phase_count = 6;

/// What heads that are not complete may take, of all connections together, and so may parked requests. Many honest
/// clients whose large heads come in pieces at the same moment fit in.
inline constexpr std::uint64_t kept_limit_bytes = 16U << 20U;

class Connection;

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

/// What all connections of a server share. None of them uses it across a return to the loop, so that an idle connection
/// holds no buffer.
struct ConnectionShare {
  ConnectionShare(uv_loop_t* its_loop, const Settings& settings, Counter& counter, const HostStatus& host,
                  ConnectionOwner& its_owner);

  /// Takes what may change while it runs.
  void use(const Settings& settings);

  [[nodiscard]] AnsweringWay* way_of(const Settings& settings) noexcept;

  [[nodiscard]] DeadlineList& waiting(Phase phase) noexcept { return phases[static_cast<std::size_t>(phase)]; }

  uv_loop_t* loop;
  ConnectionOwner& owner;
  ReaderLimits limits;
  AnswerFormat format;
  Counter& counter;
  Routes routes;
  DirectWay direct;
  HttplibServer httplib;
  AnsweringWay* hot;  ///< answers the hot routes
  std::array<DeadlineList, phase_count> phases;
  DeadlineList turns;  ///< parked connections that have work to do, or may have
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
};

class Connection final : public DeadlineMember, public Uploader {
 public:
  /// Watches for what the client sends. Throws Error.
  Connection(ConnectionShare& share, UniqueFd fd, const ClientAddress& client, Entrance entrance);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() override { count_kept(nullptr); }

  /// Takes what the client has sent. The owner looks at the connection afterwards, as after take_turn().
  void readable();
  /// Goes on with the parked request, where that can come to something. False: it is parked as it was before.
  bool take_turn();
  void close() noexcept { closed_ = true; }
  /// This is what its client's address has; nullptr: it is a proxy's. Outlives it, or its next call.
  void move_to(AddressShare* address);

  [[nodiscard]] bool closed() const noexcept { return closed_; }
  [[nodiscard]] Phase phase() const noexcept { return phase_; }
  /// Parked, and could go on at once.
  [[nodiscard]] bool paused() const noexcept { return phase_ == Phase::parked && paused_; }
  [[nodiscard]] const ClientAddress& client() const noexcept { return client_; }
  /// Whether a request of it was answered.
  [[nodiscard]] bool has_served() const noexcept { return has_served_; }

  void upload_lost() noexcept override;

  /// Its place among the idle connections of its address.
  struct IdlePlace : DeadlineMember {
    Connection* connection = nullptr;
  };

 private:
  enum class Step : std::uint8_t { again, stop };

  void writable();
  void watch(int events);
  void advance(std::string_view input);
  Step read_one(std::string_view& input, bool& progressed);
  Step start_request(std::string_view& input, bool& progressed);
  Step answer_upload(std::string_view& input, bool& progressed);
  /// The reader's request, with its route.
  Call routed() noexcept;
  /// False: parked.
  bool answer(const Call& call, bool& progressed);
  Handled answer_dear(const Call& call, bool keep_alive);
  void note_parked(Handled handled) noexcept;
  Step read_body(std::string_view& input, bool& progressed);
  Step refuse(Refusal refusal);
  void end_after_answer(std::string_view input);
  void settle(std::string_view rest, bool progressed);
  void keep(std::string_view rest);
  /// Counts what `in_` holds now in this sum, and no longer in the one before. nullptr: in none.
  void count_kept(std::uint64_t* sum) noexcept;
  /// Whether the request at hand, of so many bytes, may wait for the flusher.
  [[nodiscard]] bool may_park(std::size_t bytes) const noexcept;
  /// False: blocked or closed.
  bool flush();
  bool send_rest();
  void enter(Phase phase, bool renew);
  void finish();

  ConnectionShare& share_;
  UniqueFd fd_;
  UvHandle<uv_poll_t> poll_;
  int watched_ = 0;
  RequestReader reader_;
  CountRead read_;
  std::unique_ptr<ListRead> list_;  ///< while a read of many pages is parked
  ClientAddress client_;
  AddressShare* address_ = nullptr;
  IdlePlace idle_place_;
  Entrance entrance_;
  std::unique_ptr<Upload> upload_;    ///< its body is not complete (in_body_), or it waits for its answer
  std::string in_;                    ///< received and not yet used
  std::uint64_t* kept_in_ = nullptr;  ///< the sum of the share that `in_` is counted in
  std::size_t counted_kept_ = 0;      ///< of it, in that sum
  Unsent out_;                        ///< answered and not yet sent
  Phase phase_ = Phase::idle;
  bool in_body_ = false;
  bool parked_ = false;
  bool counted_parked_ = false;  ///< the request at hand, as a read that had to wait
  bool paused_ = false;          ///< parked for a turn, and not for the flusher
  bool has_served_ = false;
  bool ending_ = false;     ///< no request is read after this
  bool lingering_ = false;  ///< when ending: bytes may come that nobody reads
  bool closed_ = false;
};

}  // namespace visitd
