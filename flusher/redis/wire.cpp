#include "flusher/redis/wire.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <utility>

#include "common/os/errors.hpp"
#include "common/os/ip_network.hpp"
#include "common/os/service_manager.hpp"

namespace visitd {

namespace {

/// What is told on the next round of the loop. Not 0: see FlusherProcess::turn_in.
constexpr std::uint64_t next_round_ms = 1;

/// How long an overdue answer is still looked for: after this process itself was stopped, it lies in the socket
/// already.
constexpr std::uint64_t late_answer_grace_ms = 50;

/// Why a stream ended, and what speaks another protocol there where that shows.
std::string ended_for(const std::string& why) {
  constexpr std::string_view other_protocol = "Protocol error, got \"";
  if (!why.starts_with(other_protocol)) return why;
  const std::string_view first = std::string_view(why).substr(other_protocol.size());
  // "HTTP/1.1 400", or a page of HTML alone.
  const bool http = first.starts_with('H') || first.starts_with('<');
  return fmt::format("{} answers there: put the shard's address right ({})",
                     http ? "an HTTP server" : "another server than Redis", why);
}

}  // namespace

/// Nothing is thrown through libuv.
template <typename Call>
void Wire::guarded(Call call) noexcept {
  const std::shared_ptr<Wire> keep = shared_from_this();
  try {
    call();
  } catch (const std::exception& failure) {
    if (listener_ != nullptr) listener_->on_fault(failure.what());
  }
}

Wire::Wire(uv_loop_t* loop, const ShardSettings& shard, std::uint32_t timeout_ms, Listener& listener)
    : loop_(loop),
      shard_(shard),
      timeout_ms_(timeout_ms),
      listener_(&listener),
      where_(shard_.unix_path.empty() ? fmt::format("{}:{}", shard_.host, shard_.port) : shard_.unix_path),
      timer_(make_timer(loop, this)) {}

void Wire::leave() noexcept {
  listener_ = nullptr;
  close();
}

void Wire::close() noexcept {
  stream_.reset();
  uv_timer_stop(timer_.get());
  overdue_since_ = 0;
  state_ = State::closed;
}

std::string Wire::name() const {
  const bool elsewhere = !address_.empty() && address_ != shard_.host && address_ != shard_.unix_path;
  return fmt::format("shard {} at {}{}", shard_.name, where_,
                     elsewhere ? fmt::format(" ({})", address_) : std::string());
}

// ---- connecting

void Wire::use(const ShardTls& tls) {
  shard_.tls = tls;
  tls_.reset();
}

void Wire::connect() {
  assert(state_ == State::closed);
  reached_ = false;
  uv_update_time(loop_);
  try {
    if (shard_.over_tls && !tls_) tls_.emplace(shard_.tls, shard_.host);
  } catch (const Error& failure) {
    return tell_unreachable(failure.what());
  }
  start_timer(timeout_ms_);
  if (!shard_.unix_path.empty()) {
    state_ = State::connecting;
    addresses_ = {shard_.unix_path};
    if (!try_next_address()) tell_unreachable(why_);
    return;
  }
  state_ = State::resolving;
  addresses_.clear();
  if (lookup_ == nullptr) {
    lookup_ = std::make_unique<NameLookup>(loop_, shard_.host,
                                           [this](std::vector<std::string> addresses, const std::string& why) {
                                             guarded([&] { on_resolved(std::move(addresses), why); });
                                           });
  }
  // One that an earlier connection has not waited for may still be under way: then it is this one's.
  lookup_->start();
}

/// On the next round of the loop.
void Wire::tell_unreachable(const std::string& why) {
  why_ = why;
  state_ = State::unreachable;
  start_timer(next_round_ms);
}

void Wire::on_resolved(std::vector<std::string> addresses, const std::string& why) {
  if (state_ != State::resolving) return;
  if (addresses.empty()) return end(out_of_reach(fmt::format("the name cannot be resolved: {}", why)));
  addresses_ = std::move(addresses);
  std::reverse(addresses_.begin(), addresses_.end());
  state_ = State::connecting;
  if (!try_next_address()) end(out_of_reach(why_));
}

bool Wire::try_next_address() {
  while (!addresses_.empty()) {
    address_ = std::move(addresses_.back());
    addresses_.pop_back();
    auto stream = std::make_shared<Stream>();
    try {
      stream->transport = begin_stream();
      stream->poll = make_poll(loop_, stream->transport->descriptor(), this);
    } catch (const Error& failure) {
      why_ = failure.what();
      continue;
    }
    stream_ = std::move(stream);
    start_timer(timeout_ms_);
    poll(*stream_);
    listener_->on_begin();
    return true;
  }
  return false;
}

std::unique_ptr<Transport> Wire::begin_stream() {
  if (!shard_.unix_path.empty()) return connect_unix(address_);
  auto plain = connect_tcp(address_, shard_.port);
  return shard_.over_tls ? tls_->over(std::move(plain)) : std::move(plain);
}

/// `why` no connection was made, and what may keep a unit's packets back without a word.
std::string Wire::out_of_reach(std::string why) const {
  const auto address = IpAddress::parse(shard_.host);
  const bool is_here = !shard_.unix_path.empty() || shard_.host == "localhost" || (address && address->is_loopback());
  if (is_here || reached_ || !started_by_service_manager()) return why;
  return why +
         "; a systemd unit reaches only what its IPAddressAllow= names: the shard's address, and, where the shard is "
         "named, the name server's (docs/install.md)";
}

/// `why` a stream ended before the server said anything.
std::string Wire::no_answer(const Stream& stream, std::string why) const {
  const bool may_want_tls = stream.phase == Transport::Phase::stands && !shard_.over_tls && shard_.unix_path.empty();
  if (!may_want_tls || why.starts_with("Protocol error")) return why;
  return why + " (before it answered: if it is a server that speaks TLS there, write rediss://)";
}

void Wire::set_ready() noexcept {
  settle();
  state_ = State::ready;
  uv_timer_stop(timer_.get());
}

// ---- bytes out, replies in

void Wire::send(std::string_view bytes) {
  stream_->out += bytes;
  poll(*stream_);
  if (is_ready() && uv_is_active(reinterpret_cast<const uv_handle_t*>(timer_.get())) == 0) start_timer(timeout_ms_);
}

void Wire::poll(Stream& stream) {
  int wanted = UV_READABLE | (stream.out.empty() ? 0 : UV_WRITABLE);
  if (stream.phase != Transport::Phase::stands) {
    wanted = stream.transport->waits_to_read() ? UV_READABLE : UV_WRITABLE;
  }
  if (std::exchange(stream.polled, wanted) == wanted) return;
  uv_poll_start(stream.poll.get(), wanted, [](uv_poll_t* handle, int status, int events) {
    Wire& wire = *static_cast<Wire*>(handle->data);
    wire.guarded([&] { wire.on_poll(status, events); });
  });
}

void Wire::on_poll(int status, int events) {
  const std::shared_ptr<Stream> stream = stream_;
  std::string why = move_bytes(*stream, status, events);
  for (;;) {
    std::optional<Reply> reply;
    try {
      reply = stream->replies.next();
    } catch (const Error& failure) {
      if (why.empty()) why = failure.what();
    }
    if (!reply) break;
    stream->answered = true;
    listener_->on_reply(*reply);
    if (stream_ != stream) return;
  }
  if (!why.empty()) return on_stream_end(stream->answered ? why : no_answer(*stream, std::move(why)));
  poll(*stream);
}

/// Returns why the stream has ended; empty: it goes on.
std::string Wire::move_bytes(Stream& stream, int status, int events) {
  // libuv has stopped the handle, and does not say why: the next call does.
  const bool failed = status < 0;
  if (failed) stream.polled = 0;
  try {
    if (stream.phase != Transport::Phase::stands) {
      stream.phase = stream.transport->go_on();
      if (stream.phase != Transport::Phase::stands) return failed ? "the socket failed" : "";
    }
    if (failed || (events & UV_READABLE) != 0) {
      char buffer[Transport::most_at_once];
      stream.replies.feed({buffer, stream.transport->receive(buffer, sizeof buffer)});
    }
    if (failed) return "the socket failed";
    if ((events & UV_WRITABLE) != 0) stream.out.erase(0, stream.transport->send(stream.out));
  } catch (const Error& failure) {
    return failure.what();
  }
  return {};
}

// ---- its end

void Wire::on_stream_end(const std::string& why) {
  reached_ = reached_ || stream_->phase != Transport::Phase::connecting;
  stream_.reset();
  if (is_ready()) return end(ended_for(why));
  // An address that could not be reached leaves the others; a server that answered is the one that was meant.
  why_ = ended_for(why);
  if (!try_next_address()) end(out_of_reach(why_));
}

void Wire::on_time() {
  switch (state_) {
    case State::closed:
      return;
    case State::unreachable:
      return end(why_);
    case State::resolving:
      return end(out_of_reach(fmt::format("the name was not resolved within {} ms", timeout_ms_)));
    case State::connecting:
      return on_stream_end(
          stream_->phase == Transport::Phase::securing
              ? fmt::format("TLS: the server says nothing within {} ms: see that its port speaks TLS (of Redis "
                            "tls-port), or write redis://",
                            timeout_ms_)
              : fmt::format("no connection within {} ms", timeout_ms_));
    case State::ready:
      break;
  }
  const std::optional<std::uint64_t> since = listener_->waits_since();
  if (!since) return;
  const std::uint64_t waited = now_ms() - *since;
  if (waited < timeout_ms_) {
    start_timer(timeout_ms_ - waited);
  } else if (std::exchange(overdue_since_, *since) != *since) {
    start_timer(late_answer_grace_ms);
  } else {
    end(fmt::format("no answer within {} ms", timeout_ms_));
  }
}

void Wire::end(const std::string& why) {
  close();
  listener_->on_end(why);
}

void Wire::start_timer(std::uint64_t after_ms) {
  uv_timer_start(
      timer_.get(),
      [](uv_timer_t* timer) {
        Wire& wire = *static_cast<Wire*>(timer->data);
        wire.guarded([&] { wire.on_time(); });
      },
      after_ms, 0);
}

}  // namespace visitd
