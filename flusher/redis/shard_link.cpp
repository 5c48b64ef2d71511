#include "flusher/redis/shard_link.hpp"

#include <fmt/format.h>

#include <cassert>
#include <utility>

namespace visitd {

ShardLink::ShardLink(uv_loop_t* loop, const ShardSettings& shard, const std::string& writer, std::uint32_t timeout_ms,
                     Listener& listener)
    : listener_(listener),
      handshake_(shard),
      dialect_(writer, shard),
      wire_(std::make_shared<Wire>(loop, shard, timeout_ms, static_cast<Wire::Listener&>(*this))) {}

void ShardLink::use(const ShardSettings& shard) {
  handshake_.use(shard);
  wire_->use(shard.tls);
}

void ShardLink::send(const ShardCommand& command, Completion done) {
  assert(wire_->is_ready());
  text_.clear();
  in_flight_.push_back({dialect_.write(command, text_), wire_->now_ms(), std::move(done)});
  wire_->send(text_.text());
}

void ShardLink::close() {
  wire_->close();
  handshake_.forget();
  for (const InFlight& lost : std::exchange(in_flight_, {})) lost.done(Lost{});
}

std::optional<std::uint64_t> ShardLink::waits_since() const noexcept {
  return in_flight_.empty() ? std::nullopt : std::optional(in_flight_.front().since);
}

void ShardLink::on_begin() {
  text_.clear();
  handshake_.write(text_);
  wire_->send(text_.text());
}

void ShardLink::on_reply(Reply reply) {
  if (!wire_->is_ready()) return on_handshake(reply);
  if (in_flight_.empty()) {
    return broken(reply.is_error() ? std::string(reply.text()) : "the server answered what it was not asked");
  }
  InFlight& oldest = in_flight_.front();
  std::optional<ShardAnswer> answer;
  try {
    answer = dialect_.read(oldest.awaited, reply);
  } catch (const UnusableReply& unusable) {
    return broken(unusable.what());
  }
  if (!answer) return;
  const Completion done = std::move(oldest.done);
  in_flight_.pop_front();
  listener_.on_answer(done, std::move(*answer));
}

void ShardLink::on_handshake(Reply reply) {
  switch (handshake_.read(reply)) {
    case Handshake::Progress::under_way:
      if (!handshake_.error().empty()) wire_->settle();
      return;
    case Handshake::Progress::refused:
      return turned_away();
    case Handshake::Progress::done:
      dialect_.begin(handshake_.scripts());
      wire_->set_ready();
      return listener_.on_connected();
  }
}

void ShardLink::on_end(const std::string& why) {
  // A server that said why it ends the connection has turned us away.
  if (!handshake_.error().empty()) return turned_away();
  broken(why);
}

void ShardLink::turned_away() {
  const std::string why = fmt::format("{}: {}", wire_->name(), handshake_.error());
  close();
  listener_.on_turned_away(why);
}

void ShardLink::broken(const std::string& why) {
  close();
  listener_.on_broken(fmt::format("{}: {}", wire_->name(), why));
}

}  // namespace visitd
