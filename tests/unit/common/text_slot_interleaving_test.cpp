// A writer and two readers of a text slot, interleaved at every access of a shared word; the writer dies now and then
// between two stores, and another one takes its place. Orders weaker than one after the other are what tests/threads
// looks at.
#include <doctest/doctest.h>
#include <fmt/format.h>

// First: it replaces the shared word for all that follows.
#include "tests/unit/common/interleaving.hpp"
// Then what is made of shared words.
#include "common/shm/text_slot.hpp"

using namespace visitd;
using namespace visitd::test;

namespace {

/// A text that says which one it is in each of its parts.
std::string text_of(std::uint64_t number) {
  std::string text;
  for (std::uint64_t part = 0; part <= number % 9; ++part) text += fmt::format("{:08}", number);
  return text;
}

/// As TextSlot::write, but the number is stored before the text.
void write_number_first(std::span<Word> words, std::uint64_t number, std::string_view text) {
  words[0].store(number, std::memory_order_release);
  words[1].store(text.size(), std::memory_order_release);
  store_text(words.subspan(2, words_for(text.size())), text);
}

/// What a reader found wrong; empty: nothing.
std::string run(std::uint64_t seed, bool broken, std::uint64_t& whole) {
  std::vector<Word> memory(40);
  const TextSlot slot(memory);
  Interleaving interleaving(seed, 1 + seed % 5);
  std::mt19937_64 random(seed);
  std::string fault;
  bool over = false;
  interleaving.add([&] {
    for (std::uint64_t number = 1; number <= 300; ++number) {
      if (broken) {
        write_number_first(memory, number, text_of(number));
      } else if (random() % 4 == 0) {
        // Dead before its last store: all but the number is there.
        memory[0].store(0, std::memory_order_release);
        store_text(std::span(memory).subspan(2, words_for(text_of(number).size())), text_of(number));
      } else {
        slot.write(number, text_of(number));
      }
      if (random() % 8 == 0) slot.clear();
    }
    over = true;
  });
  for (int reader = 0; reader < 2; ++reader) {
    interleaving.add([&] {
      while (!over && fault.empty()) {
        const std::uint64_t number = slot.number();
        const auto text = slot.read(number);
        if (!text) continue;
        ++whole;
        if (*text != text_of(number)) fault = fmt::format("seed {}: number {} reads '{}'", seed, number, *text);
      }
    });
  }
  interleaving.run();
  return fault;
}

}  // namespace

TEST_CASE("a text is read whole or not at all, wherever reader and writer are") {
  std::uint64_t whole = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) CHECK(run(seed, false, whole).empty());
  CHECK(whole > 1000);
}

TEST_CASE("a writer that stores the number first is found out") {
  std::uint64_t whole = 0;
  bool found = false;
  for (std::uint64_t seed = 1; seed <= 50 && !found; ++seed) found = !run(seed, true, whole).empty();
  CHECK(found);
}
