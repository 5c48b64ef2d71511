#include "flusher/counting/effect.hpp"

#include "flusher/counting/blob.hpp"

namespace visitd {

void append_effect(std::string& blob, std::string_view series, std::uint64_t operand) {
  append_text(blob, series);
  append_varint(blob, operand);
}

std::string encode_effects(const std::vector<Effect>& effects) {
  std::string blob;
  for (const Effect& effect : effects) append_effect(blob, effect.series, effect.operand);
  return blob;
}

std::vector<Effect> decode_effects(std::string_view blob) {
  std::vector<Effect> effects;
  for (EffectReader reader(blob); reader.next();) {
    effects.push_back({std::string(reader.series()), reader.operand()});
  }
  return effects;
}

bool EffectReader::next() {
  if (rest_.empty()) return false;
  series_ = take_text(rest_);
  operand_ = take_varint(rest_);
  return true;
}

}  // namespace visitd
