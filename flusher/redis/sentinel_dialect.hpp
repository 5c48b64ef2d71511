// How a sentinel is asked where a primary is and told to say when it changes, and what it says. Pure: no connection.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/config/settings.hpp"
#include "flusher/redis/codec.hpp"

namespace visitd {

class SentinelDialect {
 public:
  explicit SentinelDialect(ShardSentinels sentinels) : sentinels_(std::move(sentinels)) {}

  /// The same sentinels, with other credentials from the next begin() on.
  void use(ShardSentinels sentinels) { sentinels_ = std::move(sentinels); }

  /// Appends what is said first on a connection: who we are, the question, and that we listen from now on.
  void begin(RequestText& text);
  /// Appends a question that only shows whether the sentinel still answers. Once it has answered all else.
  void ask_whether_there(RequestText& text);
  /// Whether something that was said has no answer.
  [[nodiscard]] bool waits() const noexcept { return !steps_.empty(); }

  /// `why` for people, with what to do.
  struct Refusal {
    std::string why;
  };
  struct Nothing {};
  using Said = std::variant<Nothing, ServerAddress, Refusal>;
  /// ServerAddress: where the primary is, told once we listen, and whenever it changes.
  [[nodiscard]] Said read(Reply reply);

 private:
  enum class Step { authenticate, name, primary, listen, there };

  void say(Step step, RequestText& text, std::initializer_list<std::string_view> words);
  [[nodiscard]] Said read_primary(Reply reply);
  [[nodiscard]] Said read_message(Reply message) const;
  [[nodiscard]] static Refusal refused(std::string_view said);

  ShardSentinels sentinels_;
  std::vector<Step> steps_;             ///< that have no reply yet, the last one first
  std::optional<ServerAddress> found_;  ///< where the primary is, once the sentinel of this connection has said so
};

}  // namespace visitd
