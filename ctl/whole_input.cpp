#include "ctl/whole_input.hpp"

#include <fstream>
#include <iostream>
#include <iterator>

#include "common/os/errors.hpp"

namespace visitd {

std::string read_whole_input(const std::string& path) {
  if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream file(path, std::ios::binary);
  if (!file) throw error("{} cannot be read: name a file, or - for standard input", path);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace visitd
