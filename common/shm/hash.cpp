#include "common/shm/hash.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace visitd {

std::uint64_t hash_bytes(std::string_view bytes, std::uint64_t seed) noexcept {
  return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed);
}

}  // namespace visitd
