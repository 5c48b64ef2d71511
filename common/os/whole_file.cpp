#include "common/os/whole_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/os/errors.hpp"
#include "common/os/unique_fd.hpp"

namespace visitd {

std::string read_whole_file(const std::string& path, std::size_t limit, std::string_view what) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) throw error("cannot open the {} '{}': {}", what, path, std::strerror(errno));
  std::string content(limit + 1, '\0');
  std::size_t size = 0;
  while (size < content.size()) {
    const ssize_t count = ::read(file.get(), content.data() + size, content.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw error("cannot read the {} '{}': {}", what, path, std::strerror(errno));
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  if (size > limit) throw error("the {} '{}' is larger than {} bytes", what, path, limit);
  content.resize(size);
  return content;
}

}  // namespace visitd
