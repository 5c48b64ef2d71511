// What a batch does to its bucket: a list of effects, each on one series.
//
// A series is what one field of the bucket's hash counts, and is named by that field. A page has one, its total, named
// by the page's id. A further one of a page (of a day, say) would be named by a text that is no id, and would lie in
// the same hash: so it moves with its bucket, is corrected under the same "\x01fix", and a bucket that was emptied is
// found out by one field.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace visitd {

enum class Operation : std::uint8_t {
  add,  ///< the field's count grows by the operand; in a correction that is a difference, and may be negative
};

struct Effect {
  std::string series;
  std::uint64_t operand = 0;  ///< of add: visits, or a difference as two's complement, see difference_of
  Operation operation = Operation::add;
  friend bool operator==(const Effect&, const Effect&) = default;
};

/// What a series gains by an effect of a correction, or loses.
[[nodiscard]] inline std::int64_t difference_of(const Effect& effect) noexcept {
  return static_cast<std::int64_t>(effect.operand);
}

/// Effects that add, as one blob: for each a varint length, the series' bytes, a varint of the operand.
void append_effect(std::string& blob, std::string_view series, std::uint64_t operand);
[[nodiscard]] std::string encode_effects(const std::vector<Effect>& effects);

/// Parses such a blob. Throws Error where it is damaged.
[[nodiscard]] std::vector<Effect> decode_effects(std::string_view blob);

/// Reads such a blob an effect at a time, without copying it: `while (reader.next()) use(reader.series(),
/// reader.operand());`
class EffectReader {
 public:
  explicit EffectReader(std::string_view blob) noexcept : rest_(blob) {}

  /// False at the end. Throws Error where the blob is damaged.
  [[nodiscard]] bool next();
  /// A view into the blob.
  [[nodiscard]] std::string_view series() const noexcept { return series_; }
  [[nodiscard]] std::uint64_t operand() const noexcept { return operand_; }

 private:
  std::string_view rest_;
  std::string_view series_;
  std::uint64_t operand_ = 0;
};

}  // namespace visitd
