// Which shards may be asked for many pages now. A shard that answers such questions does nothing else meanwhile: so
// they come in bursts, and it rests in between. Decides; knows no clock, loop or socket.
//
// A shard reads so many pages a second at most, and rests at least as long as it took to answer. What it has not read
// for a while it may read at once, so that who asks now and then does not wait for a rest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "flusher/counting/shard_session.hpp"

namespace visitd {

/// A bucket takes the server at least as long as it takes to read so many pages, also an empty one, and one that says
/// its sum itself.
inline constexpr std::size_t least_pages_of_bucket = 25;
/// Of one command that lists pages.
inline constexpr std::uint32_t most_pages_listed = 500;

/// What who reads many pages needs from outside.
class ScanPort {
 public:
  virtual ~ScanPort() = default;
  /// Whether the shard can be asked.
  [[nodiscard]] virtual ShardState state(std::uint32_t shard) const = 0;
  [[nodiscard]] virtual const std::string& name(std::uint32_t shard) const = 0;
  /// Another number once a cursor of the shard, or a hash of a pending page, says nothing any more.
  [[nodiscard]] virtual std::uint64_t source(std::uint32_t shard) const = 0;
  /// As ShardSession::list_pages, of the shard where the bucket is.
  virtual bool list_pages(const AskPages& asked, std::function<void(ShardSession::SomePages)> done) = 0;
  /// As ShardSession::ask_sums, of buckets that are on the shard.
  virtual bool ask_sums(std::uint32_t shard, AskSums asked, ShardSession::TellSums told) = 0;
  /// The ids of all writers that the shards know, as far as they can be asked.
  virtual void ask_writers(std::function<void(std::vector<std::string>)> done) = 0;
  /// Microseconds of a clock that never goes back.
  [[nodiscard]] virtual std::uint64_t now_us() const = 0;
};

/// One for all that reads many pages: together they keep within the limit.
class AskableShards {
 public:
  /// `pages_per_s`: the most that one shard reads.
  AskableShards(std::size_t shards, std::uint32_t pages_per_s, const ScanPort& port)
      : pages_per_s_(pages_per_s), port_(port), shards_(shards) {}

  void use(std::uint32_t pages_per_s) noexcept { pages_per_s_ = pages_per_s; }
  /// So many shards: the last ones come, or go, of which none has to answer.
  void set_shards(std::size_t count) { shards_.resize(count); }
  /// The time of the turn.
  void set_time(std::uint64_t now_ms) noexcept { now_ms_ = now_ms; }

  /// Why nobody can say what the buckets of a shard hold, for people; empty: the shard can be asked, or will be soon.
  [[nodiscard]] std::string why_unknown(std::uint32_t shard);
  /// Not while it rests, or has all of a burst to answer.
  [[nodiscard]] bool may_ask(std::uint32_t shard) const;

  /// It is asked: before the command is sent, because that may be answered at once.
  void asked(std::uint32_t shard);
  /// The command could not be sent.
  void not_sent(std::uint32_t shard) noexcept;
  /// It has answered, and read so many pages for that.
  enum class Burst : std::uint8_t {
    ends_with_last,  ///< once nothing of the burst is without answer, the shard rests
    goes_on,         ///< there is more to ask soon, that costs little; end() follows. A long burst ends all the same
  };
  void answered(std::uint32_t shard, std::size_t pages, Burst burst = Burst::ends_with_last);
  /// Nothing more is to be asked soon: what was read so far is rested for.
  void end(std::uint32_t shard);

 private:
  struct Shard {
    bool in_burst = false;
    std::size_t asking = 0;      ///< commands without answer
    std::size_t asked = 0;       ///< of the burst, that count for its length
    std::size_t pages = 0;       ///< that this burst has read
    std::uint64_t begun_us = 0;  ///< the burst
    std::uint64_t rests_until_us = 0;
    /// What it has read takes it until then at the rate that it may be read at. 0: it was never asked.
    std::uint64_t paid_until_us = 0;
    std::optional<std::uint64_t> away_since_ms = std::nullopt;  ///< nullopt: it is not
    std::uint64_t looked_ms = 0;
  };

  void rest(Shard& shard);

  std::uint32_t pages_per_s_;
  const ScanPort& port_;
  std::vector<Shard> shards_;
  std::uint64_t now_ms_ = 0;
};

}  // namespace visitd
