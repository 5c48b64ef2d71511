// One connection to one Redis server on the loop: connect, send, answer in order, break. It decides nothing and never
// reconnects by itself. shard_connection.cpp is the sole user of hiredis. The process ignores SIGPIPE.
#pragma once

#include <memory>
#include <string>

#include "common/config/settings.hpp"
#include "flusher/counting/shard_protocol.hpp"

struct uv_loop_s;

namespace visitd {

class ShardConnection {
 public:
  /// Called on the loop, never from within connect() or send().
  class Listener {
   public:
    virtual ~Listener() = default;
    /// Authenticated, database selected, script loaded.
    virtual void on_connected() = 0;
    /// One for each send(), in order.
    virtual void on_answer(ShardAnswer answer) = 0;
    /// Refused, reset, timed out, or no answer that Redis gives. No answer comes after it. connect() may be called
    /// again, also from within.
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
  ShardConnection(uv_loop_s* loop, ShardSettings shard, const std::string& writer, std::uint32_t timeout_ms,
                  Listener& listener);
  ShardConnection(const ShardConnection&) = delete;
  ShardConnection& operator=(const ShardConnection&) = delete;
  ~ShardConnection();

  /// Another one, from the next connection or answer that is waited for.
  void set_timeout(std::uint32_t timeout_ms) noexcept;

  /// Starts to connect; the name is resolved on the loop. Only when not connected.
  void connect();
  /// Only between on_connected and on_broken.
  void send(const ShardCommand& command);
  /// Drops the connection without an event.
  void close();

 private:
  class Link;
  std::shared_ptr<Link> link_;
};

}  // namespace visitd
