#include "flusher/counting/blob.hpp"

#include "common/os/errors.hpp"

namespace visitd {

void append_varint(std::string& blob, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7U) blob.push_back(static_cast<char>(value | 0x80U));
  blob.push_back(static_cast<char>(value));
}

std::uint64_t take_varint(std::string_view& blob) {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    if (blob.empty()) break;
    const auto byte = static_cast<unsigned char>(blob.front());
    blob.remove_prefix(1);
    value |= std::uint64_t{byte & 0x7FU} << shift;
    if (byte < 0x80) return value;
  }
  throw Error("a blob in the spool is damaged: a number does not end");
}

void append_text(std::string& blob, std::string_view text) {
  append_varint(blob, text.size());
  blob.append(text);
}

std::string_view take_text(std::string_view& blob) {
  const std::uint64_t length = take_varint(blob);
  if (length > blob.size()) throw Error("a blob in the spool is damaged: a text is cut off");
  const std::string_view text = blob.substr(0, length);
  blob.remove_prefix(length);
  return text;
}

}  // namespace visitd
