#include "common/shm/text_slot.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

using namespace visitd;

namespace {

struct Memory {
  explicit Memory(std::size_t words) : memory(words) {}
  std::vector<Word> memory;
  TextSlot slot{memory};

  [[nodiscard]] std::string bytes() const { return load_text(std::span(memory).subspan(2)); }
};

}  // namespace

TEST_CASE("a text is read back under its number, and under no other") {
  Memory memory(10);
  const TextSlot& slot = memory.slot;
  CHECK(slot.room() == 64);
  CHECK(slot.number() == 0);
  CHECK_FALSE(slot.read(0).has_value());
  for (const std::string& text :
       {std::string(), std::string("a"), std::string(64, 'x'), std::string("two\nlines\0", 10)}) {
    const std::uint64_t number = slot.number() + 7;
    slot.write(number, text);
    CHECK(slot.number() == number);
    CHECK(slot.read(number) == text);
    CHECK_FALSE(slot.read(number + 1).has_value());
    CHECK_FALSE(slot.read(0).has_value());
  }
}

TEST_CASE("nothing of a text that was cleared stays in memory") {
  Memory memory(34);
  memory.slot.write(1, "a key that nobody else may see, of more than one word");
  memory.slot.clear();
  CHECK(memory.slot.number() == 0);
  CHECK(memory.bytes().empty());
  for (const Word& word : std::span(memory.memory).subspan(2)) CHECK(word.load() == 0);
}

TEST_CASE("a length that cannot be reads no further than the slot") {
  Memory memory(10);
  memory.slot.write(5, "short");
  memory.memory[1].store(~std::uint64_t{0});
  CHECK(memory.slot.read(5)->size() == memory.slot.room());
  memory.slot.clear();
}
