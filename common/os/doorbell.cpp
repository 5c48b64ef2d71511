#include "common/os/doorbell.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include "common/os/advice.hpp"
#include "common/os/errors.hpp"

namespace visitd {

namespace {

UniqueFd open_pipe(const std::string& path) {
  return UniqueFd(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
}

bool is_pipe(const UniqueFd& fd) {
  struct stat state{};
  return fstat(fd.get(), &state) == 0 && S_ISFIFO(state.st_mode);
}

}  // namespace

Doorbell Doorbell::open(const std::string& path) {
  UniqueFd fd = open_pipe(path);
  if (!fd && errno == ENOENT) {
    if (mkfifo(path.c_str(), 0660) == 0) {
      if (chmod(path.c_str(), 0660) != 0) throw system_error("{}: cannot set its mode to 0660", path);
    } else if (errno != EEXIST) {
      throw system_error("the named pipe {} cannot be made; {}", path, advice_for_path(errno, path));
    }
    fd = open_pipe(path);
  }
  if (!fd) throw system_error("the named pipe {} cannot be opened; {}", path, advice_for_path(errno, path));
  if (!is_pipe(fd)) throw error("{}: is no named pipe; remove it and start again", path);
  return Doorbell(std::move(fd));
}

Doorbell Doorbell::open_existing(const std::string& path) {
  UniqueFd fd = open_pipe(path);
  return fd && is_pipe(fd) ? Doorbell(std::move(fd)) : Doorbell();
}

void Doorbell::ring() const noexcept {
  if (!fd_) return;
  const char one = 1;
  while (write(fd_.get(), &one, 1) < 0 && errno == EINTR) {
  }
}

void Doorbell::hush() const noexcept {
  char rings[4096];
  while (fd_ && read(fd_.get(), rings, sizeof rings) > 0) {
  }
}

}  // namespace visitd
