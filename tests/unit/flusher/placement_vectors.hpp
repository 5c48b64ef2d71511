// Where pages and buckets are, for ever: a deployment whose counts lie elsewhere than its flusher looks has lost them.
// Written by a second implementation of placement.hpp and page_bucket (in Python, over libxxhash). Never to be changed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace visitd::test {

struct PageVector {
  std::string page;
  std::uint32_t of_8192;  ///< its bucket, of so many
  std::uint32_t of_256;
  std::uint32_t of_65536;
};

inline const std::vector<PageVector>& page_vectors() {
  static const std::vector<PageVector> vectors = {
      {"home", 1562, 26, 1562},
      {"a", 3615, 31, 19999},
      {"/", 5678, 46, 22062},
      {"blog/2024/x/", 5538, 162, 38306},
      {"index.html", 4455, 103, 20839},
      {"räksmörgås", 869, 101, 25445},
      {"日本語のページ", 7575, 151, 56727},
      {"page with spaces", 6598, 198, 31174},
      {"%2F", 23, 23, 57367},
      {std::string(255, 'x'), 7581, 157, 48541},
      {std::string(1024, 'y'), 3421, 93, 60765},
  };
  return vectors;
}

struct PlacementVector {
  std::vector<std::string> shards;
  std::uint32_t virtual_nodes;
  std::uint32_t buckets;
  std::string first;                  ///< the shards of the first 64 buckets, a digit each
  std::vector<std::uint32_t> counts;  ///< buckets of each shard
  std::uint64_t digest;               ///< FNV-1a of all buckets' digits
};

inline const std::vector<PlacementVector>& placement_vectors() {
  static const std::vector<PlacementVector> vectors = {
      {{"redis_7070", "redis_7071"},
       100,
       8192,
       "0110001111011111111100110110001111010010111101111000011101110010",
       {3726, 4466},
       0x83722431abe3045d},
      {{"redis_7070", "redis_7071", "redis_7072"},
       100,
       8192,
       "0110001211011121212220110112001121012212211201112000021101220010",
       {2463, 3024, 2705},
       0x1d58d04f54863e67},
      {{"redis_7070", "redis_7071", "redis_7072", "redis_7073", "redis_7074"},
       100,
       8192,
       "0343001211013121212230113112004121034413241331313000021141324330",
       {1493, 1835, 1720, 1557, 1587},
       0x58b6e04cb0c05b4b},
      {{"alpha", "beta", "gamma", "delta"},
       100,
       8192,
       "0020322323302300030020232302022213302102023101303333313330302210",
       {2055, 1753, 2085, 2299},
       0x5c9abbce6d498c51},
      {{"redis_7070", "redis_7071", "redis_7072"},
       10,
       256,
       "1210100121002202101201211012112211121010111112111011100011110020",
       {67, 129, 60},
       0x3559f3ef0e813320},
  };
  return vectors;
}

}  // namespace visitd::test
