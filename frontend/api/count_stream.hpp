// The count of one page as it changes: server-sent events (HTML, "Server-sent events"), a piece of the answer each.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace visitd {

struct Answer;
struct Call;
struct HandlerShare;
enum class Handled : std::uint8_t;

/// What is remembered of a stream between its pieces.
class CountStream {
 public:
  /// `open`: how many there are, this one included; outlives it.
  CountStream(std::uint32_t& open, std::uint64_t now_ms) noexcept : begun_ms(now_ms), open_(open) { ++open_; }
  CountStream(const CountStream&) = delete;
  CountStream& operator=(const CountStream&) = delete;
  ~CountStream() { --open_; }

  [[nodiscard]] bool is_due(std::uint64_t now_ms) const noexcept { return now_ms >= due_ms; }

  std::uint64_t begun_ms;
  std::uint64_t due_ms = 0;   ///< when the count is looked at again
  std::uint64_t said_ms = 0;  ///< when the client was last sent anything
  std::uint64_t count = 0;    ///< as it was last told

 private:
  std::uint32_t& open_;
};

/// Answers with the page's count, and with each that follows, until http.stream_timeout_s have passed or the client
/// goes. `data`: an event's data of a count.
[[nodiscard]] Handled stream_count(HandlerShare& share, const Call& call, std::string_view page,
                                   const std::function<std::string(std::uint64_t)>& data, Answer& answer);

}  // namespace visitd
