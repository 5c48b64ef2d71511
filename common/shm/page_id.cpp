#include "common/shm/page_id.hpp"

#include <fmt/format.h>

#include "common/os/utf8.hpp"
#include "common/shm/hash.hpp"

namespace visitd {

PageIdFault check_page_id(std::string_view id, std::size_t limit) noexcept {
  if (id.empty()) return PageIdFault::empty;
  if (id.size() > limit) return PageIdFault::too_long;
  bool control = false;
  for (;;) {
    std::size_t ascii = 0;  // most ids are nothing else, and a frontend checks one a visit
    while (ascii < id.size() && id[ascii] >= 0x20 && id[ascii] < 0x7F) ++ascii;
    id.remove_prefix(ascii);
    if (id.empty()) break;
    std::uint32_t code_point = 0;
    const std::size_t length = decode_utf8(id, code_point);
    if (length == 0) return PageIdFault::invalid_utf8;
    control |= is_control_character(code_point);
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
