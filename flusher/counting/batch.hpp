// What moves from the flusher to a shard: batches of a bucket, and the mark by which a shard knows the last one it
// applied.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "flusher/counting/effect.hpp"

namespace visitd {

/// One life of a flusher. The number counts up with every start; the random part tells a clone's life from the
/// original's.
struct Incarnation {
  std::uint64_t number = 0;
  std::uint64_t random = 0;
  friend bool operator==(const Incarnation&, const Incarnation&) = default;
};

/// What a writer's field of a bucket holds in Redis: "NUMBER-RANDOM SEQ DIGEST" (random and digest: 16 hex digits).
/// The digest is that of the batch's effects with a salt: it only tells marks apart.
struct Mark {
  Incarnation incarnation;
  std::uint64_t seq = 0;
  std::uint64_t digest = 0;
  friend bool operator==(const Mark&, const Mark&) = default;
};

[[nodiscard]] std::string to_text(const Mark& mark);

/// Parses what to_text wrote. False: the text is something else, and `mark` is not changed.
[[nodiscard]] bool parse_mark(std::string_view text, Mark& mark);

/// What makes a batch a correction: its effects add differences, which may be negative. They were worked out from what
/// the bucket held, and hold only as long as nobody else corrects it.
struct Correction {
  std::uint64_t fix = 0;          ///< the number of the bucket's last correction when its counts were read; 0: none
  std::string by;                 ///< who asked for it, for people
  std::vector<std::string> into;  ///< one an effect: the page that is given what this one loses; empty: none
  friend bool operator==(const Correction&, const Correction&) = default;
};

/// Effects on one bucket, sealed: immutable, applied to a shard all at once by compare-and-set from `expected` to
/// `mark`.
struct Batch {
  std::uint32_t bucket = 0;
  Mark mark;
  std::string expected;         ///< what the writer's field holds before it, as text; empty: no field
  std::vector<Effect> effects;  ///< no series twice
  std::optional<Correction> correction = std::nullopt;
};

/// The batch that puts back the mark of a bucket's tombstone: it has no effects, and expects what it leaves. nullopt:
/// the text is no mark.
[[nodiscard]] std::optional<Batch> rejoin_of(std::uint32_t bucket, const std::string& tombstone);
[[nodiscard]] bool is_rejoin(const Batch& batch);

/// The content of a batch as one blob: its effects; or an empty series' length, which none has, and the correction.
[[nodiscard]] std::string encode_content(const Batch& batch);
/// Parses such a blob into effects and correction. Throws Error where it is damaged.
void decode_content(std::string_view blob, Batch& batch);

/// XXH3 of a batch's encoded content.
[[nodiscard]] std::uint64_t digest_of(std::string_view blob) noexcept;

}  // namespace visitd
