#include "common/shm/page_id.hpp"

#include <fmt/format.h>

#include "common/shm/hash.hpp"

namespace visitd {

namespace {

/// The length in bytes of the UTF-8 sequence at the start of `s`, and its code point; 0: none.
std::size_t decode_utf8(std::string_view s, std::uint32_t& code_point) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) {
    code_point = lead;
    return 1;
  }
  const std::size_t length = lead >= 0xF0 && lead <= 0xF4   ? 4
                             : lead >= 0xE0 && lead <= 0xEF ? 3
                             : lead >= 0xC2 && lead <= 0xDF ? 2
                                                            : 0;
  if (length == 0 || length > s.size()) return 0;
  code_point = lead & (0x7FU >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0U) != 0x80U) return 0;
    code_point = code_point << 6U | (byte(i) & 0x3FU);
  }
  constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code_point >= 0xD800 && code_point <= 0xDFFF;
  return code_point < least[length] || code_point > 0x10FFFF || surrogate ? 0 : length;
}

}  // namespace

PageIdFault check_page_id(std::string_view id, std::size_t limit) noexcept {
  if (id.empty()) return PageIdFault::empty;
  if (id.size() > limit) return PageIdFault::too_long;
  bool control = false;
  while (!id.empty()) {
    std::uint32_t code_point = 0;
    const std::size_t length = decode_utf8(id, code_point);
    if (length == 0) return PageIdFault::invalid_utf8;
    control |= code_point < 0x20 || (code_point >= 0x7F && code_point <= 0x9F);
    id.remove_prefix(length);
  }
  return control ? PageIdFault::control_character : PageIdFault::none;
}

std::string describe(PageIdFault fault, std::string_view id, std::size_t limit) {
  switch (fault) {
    case PageIdFault::none:
      return "the page id is valid";
    case PageIdFault::empty:
      return "the page id is empty";
    case PageIdFault::too_long:
      return fmt::format("the page id has {} bytes; pages.page_id_limit_bytes allows {}", id.size(), limit);
    case PageIdFault::invalid_utf8:
      return "the page id is not valid UTF-8";
    case PageIdFault::control_character:
      return "the page id contains a control character";
  }
  return "unknown fault";
}

std::uint64_t page_hash(std::string_view id, std::uint64_t seed) noexcept {
  return hash_bytes(id, seed);
}

std::uint32_t page_bucket(std::string_view id, std::uint32_t buckets) noexcept {
  return static_cast<std::uint32_t>(hash_bytes(id) % buckets);
}

}  // namespace visitd
