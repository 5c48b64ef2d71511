#include "flusher/redis/shard_link.hpp"

#include <fmt/format.h>

#include <cassert>
#include <utility>

namespace visitd {

ShardLink::ShardLink(uv_loop_t* loop, const ShardSettings& shard, const std::string& writer, std::uint32_t timeout_ms,
                     Listener& listener)
    : loop_(loop),
      shard_(shard),
      timeout_ms_(timeout_ms),
      listener_(listener),
      handshake_(shard),
      dialect_(writer, shard),
      wire_(std::make_shared<Wire>(loop, shard, timeout_ms, static_cast<Wire::Listener&>(*this))) {
  if (!shard.sentinels.addresses.empty()) {
    finder_.emplace(loop, shard, timeout_ms, static_cast<PrimaryFinder::Listener&>(*this));
  }
}

void ShardLink::set_timeout(std::uint32_t timeout_ms) noexcept {
  timeout_ms_ = timeout_ms;
  wire_->set_timeout(timeout_ms);
  if (finder_) finder_->set_timeout(timeout_ms);
}

void ShardLink::connect() {
  if (!finder_) return wire_->connect();
  finder_->find();
}

// ---- where the primary is

void ShardLink::on_primary(const ServerAddress& primary) {
  if (primary != ServerAddress{shard_.host, shard_.port}) {
    shard_.host = primary.host;
    shard_.port = primary.port;
    wire_->leave();
    wire_ = std::make_shared<Wire>(loop_, shard_, timeout_ms_, static_cast<Wire::Listener&>(*this));
  }
  wire_->connect();
}

void ShardLink::on_no_primary(const std::string& why) {
  broken_for(fmt::format("shard {}: {}", shard_.name, why));
}

void ShardLink::on_primary_left(const std::string& why) {
  broken(why);
}

std::string ShardLink::why_left(const ShardAnswer& answer) const {
  if (!finder_) return {};
  const auto* facts = std::get_if<Facts>(&answer);
  const auto* refused = std::get_if<Refused>(&answer);
  const bool is_replica = facts != nullptr && facts->role && *facts->role != "master";
  if (!is_replica && (refused == nullptr || !refused->error.starts_with("READONLY"))) return {};
  return "the server has become a replica: the sentinels are asked where the primary is now";
}

// ---- commands

void ShardLink::use(const ShardSettings& shard) {
  handshake_.use(shard);
  wire_->use(shard.tls);
  shard_.tls = shard.tls;
  if (finder_) finder_->use(shard);
}

void ShardLink::send(const ShardCommand& command, Completion done) {
  assert(wire_->is_ready());
  text_.clear();
  in_flight_.push_back({dialect_.write(command, text_), wire_->now_ms(), std::move(done)});
  wire_->send(text_.text());
}

void ShardLink::close() {
  wire_->close();
  if (finder_) finder_->cancel();
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
  if (const std::string why = why_left(*answer); !why.empty()) return broken(why);
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
    case Handshake::Progress::not_primary:
      return broken(handshake_.error());
    case Handshake::Progress::done:
      dialect_.begin(handshake_.scripts());
      wire_->set_ready();
      if (finder_) finder_->settle();
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
  broken_for(fmt::format("{}: {}", wire_->name(), why));
}

void ShardLink::broken_for(const std::string& why) {
  close();
  listener_.on_broken(why);
}

}  // namespace visitd
