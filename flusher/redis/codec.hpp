// The bytes of requests to Redis and of its replies. Pure: no connection, no command of ours. codec.cpp is the sole
// user of hiredis.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct redisReader;
struct redisReply;

namespace visitd {

/// Commands in Redis's own form, one behind the other, in one buffer that is used again.
class RequestText {
 public:
  /// A command of so many arguments, its name among them: add() follows for each.
  void start(std::size_t arguments) { append_length('*', arguments); }
  void add(std::string_view argument) {
    append_length('$', argument.size());
    text_ += argument;
    text_ += "\r\n";
  }
  void add_number(std::uint64_t number);
  void clear() noexcept { text_.clear(); }
  [[nodiscard]] const std::string& text() const noexcept { return text_; }

 private:
  void append_length(char type, std::size_t length);

  std::string text_;
};

/// What a server said. A view of what a ReplyReader owns: asked for what it does not hold, it is empty or nil.
class Reply {
 public:
  explicit Reply(const redisReply* reply) noexcept : reply_(reply) {}

  [[nodiscard]] bool is_error() const noexcept;
  /// The error that the key is of another type than the command is for.
  [[nodiscard]] bool is_wrong_type() const noexcept { return is_error() && text().starts_with("WRONGTYPE"); }
  [[nodiscard]] bool is_nil() const noexcept;
  [[nodiscard]] bool is_string() const noexcept;
  [[nodiscard]] bool is_text_or_nil() const noexcept { return is_string() || is_nil(); }
  [[nodiscard]] bool is_array() const noexcept;
  [[nodiscard]] bool is_number() const noexcept;
  /// 0 for what is no number.
  [[nodiscard]] std::int64_t number() const noexcept;
  /// A string, a status or an error; empty for all else.
  [[nodiscard]] std::string_view text() const noexcept;
  /// The elements of an array; 0 for all else.
  [[nodiscard]] std::size_t size() const noexcept;
  /// Nil behind the last one.
  [[nodiscard]] Reply operator[](std::size_t index) const noexcept;

 private:
  const redisReply* reply_;  ///< nullptr: nil
};

/// Bytes as they come → replies, in order.
class ReplyReader {
 public:
  /// The longest array: no command of ours is answered with as many, and a server that announces more takes no memory.
  static constexpr std::size_t most_elements = 131072;

  ReplyReader();

  /// Throws std::bad_alloc.
  void feed(std::string_view bytes);
  /// The next whole reply, which lives until the next call; nullopt: more of it has to come. Throws Error with why the
  /// bytes are no replies, from then on.
  [[nodiscard]] std::optional<Reply> next();

 private:
  struct Free {
    void operator()(redisReader* reader) const noexcept;
    void operator()(redisReply* reply) const noexcept;
  };
  std::unique_ptr<redisReader, Free> reader_;
  std::unique_ptr<redisReply, Free> reply_;
};

}  // namespace visitd
