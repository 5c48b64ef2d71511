// The hash of everything: XXH3, 64 bits. hash.cpp is the sole user of xxHash.
#pragma once

#include <cstdint>
#include <string_view>

namespace visitd {

/// XXH3_64bits of the bytes. The same on every host and for ever, for the same seed.
[[nodiscard]] std::uint64_t hash_bytes(std::string_view bytes, std::uint64_t seed = 0) noexcept;

}  // namespace visitd
