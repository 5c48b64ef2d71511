#include "ctl/md5.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

#include "common/os/text.hpp"

namespace visitd {

namespace {

constexpr std::size_t block_bytes = 64;
constexpr std::size_t steps = 64;
constexpr int shifts[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};

using State = std::array<std::uint32_t, 4>;

/// The constant of each step, as the RFC defines them: the whole part of 2^32 × |sin(step)|.
std::array<std::uint32_t, steps> sines() {
  std::array<std::uint32_t, steps> table{};
  for (std::size_t i = 0; i < steps; ++i) {
    table[i] = static_cast<std::uint32_t>(std::floor(std::abs(std::sin(static_cast<double>(i + 1))) * 4294967296.0));
  }
  return table;
}

/// A word of the block, the lowest byte first.
std::uint32_t word_at(std::string_view block, std::size_t word) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = value << 8U | static_cast<std::uint8_t>(block[word * 4 + i]);
  return value;
}

void add_block(State& state, std::string_view block) {
  static const std::array<std::uint32_t, steps> constants = sines();
  auto [a, b, c, d] = state;
  for (std::size_t i = 0; i < steps; ++i) {
    std::uint32_t mixed = 0;
    std::size_t word = i;
    switch (i / 16) {
      case 0:
        mixed = (b & c) | (~b & d);
        break;
      case 1:
        mixed = (d & b) | (~d & c);
        word = 5 * i + 1;
        break;
      case 2:
        mixed = b ^ c ^ d;
        word = 3 * i + 5;
        break;
      default:
        mixed = c ^ (b | ~d);
        word = 7 * i;
        break;
    }
    const std::uint32_t sum = a + mixed + constants[i] + word_at(block, word % 16);
    a = d;
    d = c;
    c = b;
    b += std::rotl(sum, shifts[i / 16][i % 4]);
  }
  state = {state[0] + a, state[1] + b, state[2] + c, state[3] + d};
}

}  // namespace

std::string md5_hex(std::string_view bytes) {
  // Behind the text a bit, zeros up to eight bytes before a block's end, and how many bits the text has.
  std::string padded(bytes);
  padded += '\x80';
  while (padded.size() % block_bytes != block_bytes - 8) padded += '\0';
  const std::uint64_t bits = std::uint64_t{bytes.size()} * 8;
  for (unsigned shift = 0; shift < 64; shift += 8) padded += static_cast<char>(bits >> shift & 0xffU);
  State state{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
  for (std::size_t at = 0; at < padded.size(); at += block_bytes) {
    add_block(state, std::string_view(padded).substr(at, block_bytes));
  }
  std::string text;
  for (const std::uint32_t word : state) {
    for (unsigned shift = 0; shift < 32; shift += 8) {
      text += hex_digits[word >> (shift + 4) & 0xfU];
      text += hex_digits[word >> shift & 0xfU];
    }
  }
  return text;
}

}  // namespace visitd
