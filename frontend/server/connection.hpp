// One client's connection: bytes in, requests in order, answers out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "common/os/unique_fd.hpp"
#include "frontend/api/call.hpp"
#include "frontend/http/client_address.hpp"
#include "frontend/http/request_reader.hpp"
#include "frontend/server/address_limits.hpp"
#include "frontend/server/client_socket.hpp"
#include "frontend/server/connection_share.hpp"
#include "frontend/server/deadlines.hpp"
#include "frontend/server/uploads.hpp"

namespace visitd {

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
  void close() noexcept { end_ = End::closed; }
  /// This is what its client's address has; nullptr: it is a proxy's. Outlives it, or its next call.
  void move_to(AddressShare* address);

  [[nodiscard]] bool closed() const noexcept { return end_ == End::closed; }
  [[nodiscard]] Phase phase() const noexcept { return phase_; }
  [[nodiscard]] const ClientAddress& client() const noexcept { return client_; }
  /// Whether a request of it was answered.
  [[nodiscard]] bool has_served() const noexcept { return has_served_; }

  void upload_lost() noexcept override;

  /// Its place among the idle connections of its address.
  struct IdlePlace : DeadlineMember {
    Connection* connection = nullptr;
  };

 private:
  /// What the client's next byte is part of. nothing: its upload is whole and waits for the answer.
  enum class Reading : std::uint8_t { head, upload, unwanted_body, nothing };
  /// What becomes of it. close, linger: no request is read any more; it is closed when the answers are sent, or, as
  /// bytes may come that nobody reads, when the client closes.
  enum class End : std::uint8_t { none, close, linger, closed };
  /// again: another request may follow in the input. more: bytes are lacking, or none is read any more. parked: the
  /// request at hand waits for the flusher. paused: it waits for a turn.
  enum class Step : std::uint8_t { again, more, parked, paused };

  void on_event(int status, int events);
  void writable();
  void drop_received();
  void watch(int events) noexcept;
  void advance(std::string_view input);
  Step read_one(std::string_view& input, bool& progressed);
  Step read_behind_head(std::string_view& input, bool& progressed);
  Step start_request(std::string_view& input, bool& progressed);
  Step read_upload(std::string_view& input, bool& progressed);
  Step answer_upload(std::string_view& input, bool& progressed);
  Step skip_body(std::string_view& input);
  /// A call with its route.
  Call call_of(const RequestHead& head) noexcept;
  Handled answer(const Call& call, bool& progressed);
  Handled answer_dear(const Call& call, bool keep_alive);
  Step refuse(Refusal refusal);
  /// A request that would wait, and has no room for it. What an owner asks for may be done all the same.
  Step refuse_to_wait(const Call& call, Refusal refusal) {
    return refuse(call.route->for_owner ? Refusal::not_done : refusal);
  }
  /// After an answer that was the last, or not.
  Step after_answer(std::string_view input) noexcept;
  void settle(std::string_view rest, bool progressed, Step step);
  void keep(std::string_view rest);
  /// Counts what `in_` holds now in this sum, and no longer in the one before. nullptr: in none.
  void count_kept(std::uint64_t* sum) noexcept;
  [[nodiscard]] bool is_parked() const noexcept { return phase_ == Phase::parked || phase_ == Phase::paused; }
  [[nodiscard]] bool is_ending() const noexcept { return end_ != End::none; }
  /// Whether the request at hand, of so many bytes, may wait for the flusher.
  [[nodiscard]] bool may_park(std::size_t bytes) const noexcept;
  /// False: blocked or closed.
  bool flush();
  void enter(Phase phase, bool renew);
  void finish();

  ConnectionShare& share_;
  ClientSocket socket_;
  RequestReader reader_;
  PendingRead read_;  ///< of the request at hand
  ClientAddress client_;
  AddressShare* address_ = nullptr;
  IdlePlace idle_place_;
  Entrance entrance_;
  std::unique_ptr<Upload> upload_;    ///< of the request at hand, if its route wants the body
  std::string in_;                    ///< received and not yet used
  std::uint64_t* kept_in_ = nullptr;  ///< the sum of the share that `in_` is counted in
  std::size_t counted_kept_ = 0;      ///< of it, in that sum
  Phase phase_ = Phase::idle;
  Reading reading_ = Reading::head;
  End end_ = End::none;
  bool has_served_ = false;
};

}  // namespace visitd
