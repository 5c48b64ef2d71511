#include "frontend/readable_secrets.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/os/advice.hpp"
#include "common/os/errors.hpp"
#include "common/os/unique_fd.hpp"

namespace visitd {

void refuse_readable_secrets(const std::vector<std::string>& secret_files) {
  if (::geteuid() == 0) return;
  for (const std::string& path : secret_files) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    struct stat found{};
    if (!file || ::fstat(file.get(), &found) != 0 || found.st_uid == ::geteuid()) continue;
    throw error(
        "this frontend can read '{}', a file with a password or key that only the flusher needs: {}. Give the file to "
        "the flusher's user (chown), and let nobody else read it (chmod 0400)",
        path, advice_for_path(EACCES, path));
  }
}

}  // namespace visitd
