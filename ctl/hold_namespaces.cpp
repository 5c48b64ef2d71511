#include <csignal>

#include "common/os/errors.hpp"
#include "ctl/commands.hpp"

namespace visitd {

void hold_namespaces() {
  // Blocked, because the first process of a container ignores what it has no handler for, and sigwait needs none.
  sigset_t ending;
  sigemptyset(&ending);
  sigaddset(&ending, SIGTERM);
  sigaddset(&ending, SIGINT);
  if (sigprocmask(SIG_BLOCK, &ending, nullptr) != 0) throw system_error("signals cannot be blocked");
  int which = 0;
  if (const int fault = sigwait(&ending, &which); fault != 0) throw error("cannot wait for a signal: error {}", fault);
}

}  // namespace visitd
