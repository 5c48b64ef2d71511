// One connection to one Redis server on the loop: resolve, connect, bytes out, replies in, and its end. Knows no
// command, and never reconnects by itself.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "common/os/uv_handles.hpp"
#include "flusher/redis/codec.hpp"
#include "flusher/redis/name_lookup.hpp"
#include "flusher/redis/tls.hpp"
#include "flusher/redis/transport.hpp"

namespace visitd {

class Wire : public std::enable_shared_from_this<Wire> {
 public:
  /// Called on the loop, and never from within send() or close().
  class Listener {
   public:
    /// A connection to an address begins, also from within connect(): what is sent now goes out once it stands.
    virtual void on_begin() = 0;
    virtual void on_reply(Reply reply) = 0;
    /// The connection has ended, or there could be none. `why` is for people.
    virtual void on_end(const std::string& why) = 0;
    /// Something was thrown while an event was being told.
    virtual void on_fault(const std::string& what) noexcept = 0;
    /// Of now_ms(): when the oldest request was sent that has no reply. nullopt: every one has.
    [[nodiscard]] virtual std::optional<std::uint64_t> waits_since() const noexcept = 0;

   protected:
    ~Listener() = default;
  };

  /// `timeout_ms`: for resolving the name, for each address of it to be ready, and for the oldest request.
  Wire(uv_loop_t* loop, const ShardSettings& shard, std::uint32_t timeout_ms, Listener& listener);
  /// Nothing is told any more. It may go from within an event, while another owner holds it.
  void leave() noexcept;

  void set_timeout(std::uint32_t timeout_ms) noexcept { timeout_ms_ = timeout_ms; }
  /// The same server, from the next connection on with these certificates and keys.
  void use(const ShardTls& tls);
  /// Only when closed.
  void connect();
  /// The server answers as one that is meant: no other address is tried.
  void settle() noexcept { addresses_.clear(); }
  /// It can be used: from now on the oldest request has the timeout.
  void set_ready() noexcept;
  [[nodiscard]] bool is_ready() const noexcept { return state_ == State::ready; }
  void send(std::string_view bytes);
  /// Drops the connection without an event.
  void close() noexcept;

  /// For people: which shard, and where it is.
  [[nodiscard]] std::string name() const;
  [[nodiscard]] std::uint64_t now_ms() const noexcept { return uv_now(loop_); }

 private:
  enum class State { closed, resolving, connecting, ready, unreachable };
  /// A stream and what goes over it.
  struct Stream {
    std::unique_ptr<Transport> transport;
    UvHandle<uv_poll_t> poll;  // goes before the socket
    Transport::Phase phase = Transport::Phase::connecting;
    int polled = 0;
    std::string out;
    ReplyReader replies;
    bool answered = false;  ///< a reply has come
  };

  void on_resolved(std::vector<std::string> addresses, const std::string& why);
  /// False: there is none; `why_` says why the last one failed.
  bool try_next_address();
  [[nodiscard]] std::unique_ptr<Transport> begin_stream();
  void tell_unreachable(const std::string& why);
  [[nodiscard]] std::string out_of_reach(std::string why) const;
  [[nodiscard]] std::string no_answer(const Stream& stream, std::string why) const;
  void poll(Stream& stream);
  void on_poll(int status, int events);
  [[nodiscard]] static std::string move_bytes(Stream& stream, int status, int events);
  void on_stream_end(const std::string& why);
  void on_time();
  void end(const std::string& why);
  void start_timer(std::uint64_t after_ms);
  template <typename Call>
  void guarded(Call call) noexcept;

  uv_loop_t* loop_;
  ShardSettings shard_;
  std::uint64_t timeout_ms_;
  Listener* listener_;  ///< nullptr: it has left
  std::string where_;
  std::optional<TlsContext> tls_;  ///< once one was needed
  UvHandle<uv_timer_t> timer_;

  State state_ = State::closed;
  std::unique_ptr<NameLookup> lookup_;
  std::vector<std::string> addresses_;  ///< still to be tried, the last one first
  std::string address_;                 ///< being tried
  std::shared_ptr<Stream> stream_;
  std::uint64_t overdue_since_ = 0;  ///< when the request was sent that is overdue; 0: none is
  std::string why_;                  ///< unreachable: told on the next turn of the loop
  bool reached_ = false;             ///< one of the addresses was connected to
};

}  // namespace visitd
