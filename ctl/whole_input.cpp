#include "ctl/whole_input.hpp"

#include <fstream>
#include <iostream>

#include "common/os/errors.hpp"

namespace visitd {

namespace {

constexpr std::size_t read_at_once = 1U << 20U;

}  // namespace

std::string read_whole_input(const std::string& path) {
  std::ifstream file;
  if (path != "-") file.open(path, std::ios::binary);
  std::istream& input = path == "-" ? std::cin : file;
  std::string text;
  while (input) {
    const std::size_t size = text.size();
    text.resize(size + read_at_once);
    input.read(text.data() + size, read_at_once);
    text.resize(size + static_cast<std::size_t>(input.gcount()));
  }
  if (!input.eof()) throw error("{} cannot be read: name a file, or - for standard input", path);
  return text;
}

}  // namespace visitd
