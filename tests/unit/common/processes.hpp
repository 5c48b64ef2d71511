// Children and the like for tests of what processes do to each other.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "common/os/errors.hpp"
#include "common/os/unique_fd.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace visitd::test {

/// What is there; a test goes no further without it.
template <typename T>
T there(std::optional<T> maybe) {
  if (!maybe) throw std::logic_error("something that must be there is not");
  return std::move(*maybe);
}

/// A child process; killed when it goes, if it still lives.
class Child {
 public:
  /// Runs `body` in a child, which exits with what it returns: a number below 100, or 100 where it throws.
  template <typename Body>
  explicit Child(Body body) : pid_(fork()) {
    if (pid_ < 0) throw system_error("no child process");
    if (pid_ != 0) return;
    int status = 100;
    try {
      status = body();
    } catch (const std::exception& failure) {
      std::fprintf(stderr, "in a child: %s\n", failure.what());
    }
    _exit(status);
  }
  ~Child() {
    if (pid_ <= 0) return;
    kill(SIGKILL);
    static_cast<void>(wait());
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  void kill(int signal) const noexcept { ::kill(pid_, signal); }

  struct End {
    int status = -1;  ///< of its exit; -1: killed
    int signal = 0;   ///< that killed it; 0: none
  };
  End wait() {
    int state = 0;
    while (waitpid(pid_, &state, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    if (WIFSIGNALED(state)) return {-1, WTERMSIG(state)};
    return {WEXITSTATUS(state), 0};
  }

 private:
  pid_t pid_;
};

/// One process waits until another says so.
class Signpost {
 public:
  Signpost() {
    int ends[2];
    if (pipe(ends) != 0) throw system_error("no pipe");
    reads_.reset(ends[0]);
    writes_.reset(ends[1]);
  }
  void pass() const {
    if (write(writes_.get(), "x", 1) != 1) throw system_error("a pipe cannot be written");
  }
  void wait() const {
    char byte = 0;
    if (read(reads_.get(), &byte, 1) != 1) throw system_error("a pipe cannot be read");
  }

 private:
  UniqueFd reads_;
  UniqueFd writes_;
};

}  // namespace visitd::test
