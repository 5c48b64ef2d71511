// Commands to one shard, and their answers in order, over one connection on the loop. It decides nothing and never
// reconnects by itself.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "common/config/settings.hpp"
#include "flusher/counting/shard_protocol.hpp"
#include "flusher/redis/codec.hpp"
#include "flusher/redis/dialect.hpp"
#include "flusher/redis/handshake.hpp"
#include "flusher/redis/wire.hpp"

namespace visitd {

class ShardLink final : private Wire::Listener {
 public:
  /// Called on the loop, never from within connect() or send().
  class Listener {
   public:
    virtual ~Listener() = default;
    /// Authenticated, database selected, script loaded.
    virtual void on_connected() = 0;
    /// One for each send(), in order. `done`: what it was sent with.
    virtual void on_answer(const Completion& done, ShardAnswer answer) = 0;
    /// Refused, reset, timed out, or no answer that Redis gives. Whatever had no answer has been Lost, and none comes
    /// after it. connect() may be called again, also from within.
    virtual void on_broken(const std::string& why) = 0;
    /// The same; the server answered with an error before the connection was ready, and would again.
    virtual void on_turned_away(const std::string& why) = 0;
    /// Something was thrown while an event was being told: nothing can be relied on any more. Nothing is thrown through
    /// the libraries beneath.
    virtual void on_fault(const std::string& what) noexcept = 0;
  };

  /// `writer`: names our field in each bucket ("\x01w:" and this). `timeout_ms`: for resolving the name, for each
  /// address of it to be connected, and for the oldest command that has no answer. The loop is run once more after the
  /// destructor.
  ShardLink(uv_loop_t* loop, const ShardSettings& shard, const std::string& writer, std::uint32_t timeout_ms,
            Listener& listener);
  ShardLink(const ShardLink&) = delete;
  ShardLink& operator=(const ShardLink&) = delete;
  ~ShardLink() { wire_->leave(); }

  /// Another one, from the next connection or answer that is waited for.
  void set_timeout(std::uint32_t timeout_ms) noexcept { wire_->set_timeout(timeout_ms); }
  /// The same server with other credentials, from the next connection on.
  void use(const ShardSettings& shard);

  /// Starts to connect; the name is resolved on the loop. Only when not connected.
  void connect() { wire_->connect(); }
  /// Only between on_connected and on_broken.
  void send(const ShardCommand& command, Completion done);
  /// Drops the connection without an event. Whatever has no answer is Lost, in order, before it returns.
  void close();

 private:
  struct InFlight {
    Awaited awaited;
    std::uint64_t since = 0;  ///< of the wire's clock
    Completion done;
  };

  // Each may be the last thing that is done: what is told may destroy this.
  void on_begin() override;
  void on_reply(Reply reply) override;
  void on_end(const std::string& why) override;
  void on_fault(const std::string& what) noexcept override { listener_.on_fault(what); }
  [[nodiscard]] std::optional<std::uint64_t> waits_since() const noexcept override;

  void on_handshake(Reply reply);
  void turned_away();
  void broken(const std::string& why);

  Listener& listener_;
  Handshake handshake_;
  Dialect dialect_;
  RequestText text_;
  std::deque<InFlight> in_flight_;
  std::shared_ptr<Wire> wire_;
};

}  // namespace visitd
