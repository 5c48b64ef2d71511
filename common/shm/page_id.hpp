// What a page id may be, and its hashes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace visitd {

/// The largest id any setting may allow, in bytes: record layouts are sized for it.
inline constexpr std::size_t max_page_id_bytes = 1024;

enum class PageIdFault { none, empty, too_long, invalid_utf8, control_character };

/// Checks an id that was percent-decoded once: 1 to `limit` bytes of valid UTF-8 (RFC 3629), no control characters
/// (U+0000 to U+001F, U+007F to U+009F).
[[nodiscard]] PageIdFault check_page_id(std::string_view id, std::size_t limit) noexcept;

/// What is wrong with `id`, as a sentence for the client. Where the id is too long, it names size, limit and setting.
[[nodiscard]] std::string describe(PageIdFault fault, std::string_view id, std::size_t limit);

/// XXH3 with a seed of the ring's, so that nobody outside can make hash chains long.
[[nodiscard]] std::uint64_t page_hash(std::string_view id, std::uint64_t seed) noexcept;

/// The bucket of a page: XXH3 with a fixed seed, the same on every host and for ever.
[[nodiscard]] std::uint32_t page_bucket(std::string_view id, std::uint32_t buckets) noexcept;

}  // namespace visitd
