#include "frontend/api/count_stream.hpp"

#include <fmt/format.h>

#include <memory>

#include "common/os/text.hpp"
#include "frontend/api/handlers.hpp"

namespace visitd {

namespace {

/// How often a stream's count is looked at.
constexpr std::uint64_t stream_look_interval_ms = 1000;
/// After so long without a change the client is sent a comment: a proxy closes what is silent, and who has gone is
/// found out.
constexpr std::uint64_t stream_silence_ms = 15'000;

void append_event(const std::string& data, Answer& answer) {
  append_all(answer.body, "data: ", data, "\n\n");
}

/// The first piece, with the head before it.
Handled begin_stream(HandlerShare& share, const Call& call, const CountAnswer& count, const std::string& data,
                     Answer& answer) {
  if (share.streams_open >= share.stream_limit) {
    const std::string detail =
        fmt::format("{} streams are open, as many as http.stream_limit allows a frontend", share.streams_open);
    share.refuse_for_now({.refusal = Refusal::busy, .detail = detail}, answer);
    return Handled::answered;
  }
  answer.cache_control = never_stored;
  answer.content_type = ContentType::events;
  answer.length_unknown = true;
  note_cache_status(count, answer);
  append_event(data, answer);
  if (answer.head_only) return Handled::answered;
  call.read->stream = std::make_unique<CountStream>(share.streams_open, call.now_ms);
  return Handled::streamed;
}

/// What is sent of a stream that has begun: the count if it is another one, and something now and then.
Handled go_on_with(const CountStream& stream, std::uint64_t count, std::uint64_t now_ms,
                   const std::function<std::string(std::uint64_t)>& data, Answer& answer) {
  if (count != stream.count) {
    append_event(data(count), answer);
    return Handled::streamed;
  }
  if (now_ms - stream.said_ms < stream_silence_ms) return Handled::parked;
  answer.body.append(":\n\n");
  return Handled::streamed;
}

}  // namespace

Handled stream_count(HandlerShare& share, const Call& call, std::string_view page,
                     const std::function<std::string(std::uint64_t)>& data, Answer& answer) {
  answer.is_piece = call.read->stream != nullptr;
  if (answer.is_piece && call.now_ms - call.read->stream->begun_ms >= share.stream_timeout_ms) return Handled::answered;
  const CountAnswer count = share.backend.counts.read(page, call.read->page, call.now_ms);
  if (count.kind == CountAnswer::Kind::parked) return Handled::parked;
  call.read->page = {};
  const bool known = count.has_count();
  if (!answer.is_piece && !known) {
    share.refuse_unknown(count, answer);
    return Handled::answered;
  }
  const Handled handled =
      answer.is_piece
          ? go_on_with(*call.read->stream, known ? count.count : call.read->stream->count, call.now_ms, data, answer)
          : begin_stream(share, call, count, data(count.count), answer);
  if (handled == Handled::answered) return handled;
  CountStream& stream = *call.read->stream;
  if (known) stream.count = count.count;
  if (handled == Handled::streamed) stream.said_ms = call.now_ms;
  stream.due_ms = call.now_ms + stream_look_interval_ms;
  return handled;
}

}  // namespace visitd
