// Which sentinel is asked, where a shard's primary is, and when the connection to it is left. Decides; knows no clock,
// loop or socket.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/config/settings.hpp"

namespace visitd {

class PrimarySearch {
 public:
  /// What is to be done now.
  struct Ask {
    std::size_t sentinel = 0;  ///< its place among those of the settings; no other is listened to
  };
  struct AskLater {
    std::size_t sentinel = 0;  ///< after a pause
  };
  struct Connect {
    ServerAddress primary;
  };
  struct Leave {
    std::string why;  ///< for people
  };
  /// The search has come to nothing; another one may begin.
  struct GiveUp {
    std::string why;  ///< for people
  };
  struct Nothing {};
  using Step = std::variant<Nothing, Ask, AskLater, Connect, Leave, GiveUp>;

  /// At least one sentinel.
  explicit PrimarySearch(ShardSentinels sentinels) : sentinels_(std::move(sentinels)) {}

  /// There is no connection to a primary, and one is wanted.
  [[nodiscard]] Step begin();
  /// Nobody wants a primary any more, or the connection to it was closed from our side.
  void cancel() noexcept;
  /// The primary that was found took the connection, and said that it is one.
  void settle() noexcept { settled_ = true; }

  // -- of the sentinel that is asked, or was asked last

  /// It says that the primary is there.
  [[nodiscard]] Step on_primary(const ServerAddress& primary);
  /// It does not say so: it does not know, is no sentinel, or there is no connection to it, or none any more.
  [[nodiscard]] Step on_no_answer(const std::string& why);

 private:
  struct Refusal {
    std::string sentinels;
    std::string why;
  };

  [[nodiscard]] std::size_t next() const noexcept { return (asked_ + 1) % sentinels_.addresses.size(); }

  ShardSentinels sentinels_;
  std::size_t asked_ = 0;                 ///< the sentinel that is asked or listened to
  bool searching_ = false;                ///< a primary is wanted, and none was named
  std::vector<Refusal> refusals_;         ///< of the sentinels that were asked in this search
  std::size_t refused_ = 0;               ///< how many these are
  std::optional<ServerAddress> primary_;  ///< that was named last, as long as it is in use
  bool settled_ = true;                   ///< what the sentinel named last was right
};

}  // namespace visitd
