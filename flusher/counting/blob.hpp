// Numbers and texts one after the other, as the spool's blobs hold them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace visitd {

/// Seven bits a byte, the lowest first; the last byte is below 0x80.
void append_varint(std::string& blob, std::uint64_t value);
/// A varint of its length, then its bytes.
void append_text(std::string& blob, std::string_view text);

/// These take from the blob's front what was appended so; a text is a view into the blob. Throw Error where it is
/// damaged.
[[nodiscard]] std::uint64_t take_varint(std::string_view& blob);
[[nodiscard]] std::string_view take_text(std::string_view& blob);

/// Small numbers of either sign in few bytes.
[[nodiscard]] constexpr std::uint64_t zigzag(std::uint64_t number) noexcept {
  return number << 1U ^ (number >> 63U != 0 ? ~std::uint64_t{0} : 0);
}
[[nodiscard]] constexpr std::uint64_t from_zigzag(std::uint64_t number) noexcept {
  return number >> 1U ^ ((number & 1U) != 0 ? ~std::uint64_t{0} : 0);
}

}  // namespace visitd
