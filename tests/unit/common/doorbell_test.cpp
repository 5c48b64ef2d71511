#include "common/os/doorbell.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/unit/common/processes.hpp"

using namespace visitd;
using namespace visitd::test;

namespace {

bool has_rung(const Doorbell& bell, int wait_ms = 0) {
  pollfd poll_for{bell.fd(), POLLIN, 0};
  return poll(&poll_for, 1, wait_ms) == 1;
}

}  // namespace

TEST_CASE("a ring is heard, once, until it is hushed") {
  const TemporaryFolder folder;
  const Doorbell listens = Doorbell::open(folder / "x.bell");
  const Doorbell rings = Doorbell::open_existing(folder / "x.bell");
  REQUIRE(rings);
  CHECK_FALSE(has_rung(listens));
  rings.ring();
  rings.ring();
  CHECK(has_rung(listens));
  listens.hush();
  CHECK_FALSE(has_rung(listens));
}

TEST_CASE("a doorbell that nobody answers never makes anybody wait") {
  const TemporaryFolder folder;
  const Doorbell bell = Doorbell::open(folder / "x.bell");
  alarm(20);                                      // a ring that waits would wait for ever
  for (int i = 0; i < 200'000; ++i) bell.ring();  // more than a pipe holds
  alarm(0);
  CHECK(has_rung(bell));
  bell.hush();
  CHECK_FALSE(has_rung(bell));
  bell.ring();
  CHECK(has_rung(bell));
}

TEST_CASE("rings before there is a listener are kept while anybody has the bell open") {
  const TemporaryFolder folder;
  const Doorbell early = Doorbell::open(folder / "x.bell");
  early.ring();
  const Doorbell late = Doorbell::open(folder / "x.bell");
  CHECK(has_rung(late));
}

TEST_CASE("a ring wakes a process that sleeps, also after a listener was killed") {
  const TemporaryFolder folder;
  const std::string path = folder / "x.bell";
  const Doorbell bell = Doorbell::open(path);
  for (int round = 0; round < 2; ++round) {
    const Signpost sleeps;
    Child listener([&] {
      const Doorbell own = Doorbell::open(path);
      own.hush();
      sleeps.pass();
      return has_rung(own, 10'000) ? 0 : 1;
    });
    sleeps.wait();
    if (round == 0) {
      listener.kill(SIGKILL);
      CHECK(listener.wait().signal == SIGKILL);
      bell.ring();
    } else {
      bell.ring();
      CHECK(listener.wait().status == 0);
    }
  }
}

TEST_CASE("without a pipe a doorbell rings nowhere") {
  const TemporaryFolder folder;
  const Doorbell none = Doorbell::open_existing(folder / "x.bell");
  CHECK_FALSE(none);
  CHECK(none.fd() == -1);
  none.ring();
  none.hush();
  Doorbell().ring();
}

TEST_CASE("the group may ring, whatever the umask") {
  const TemporaryFolder folder;
  for (const mode_t mask : {mode_t{0}, mode_t{0777}}) {
    const std::string path = folder / (mask == 0 ? "open.bell" : "shut.bell");
    const mode_t before = umask(mask);
    const Doorbell bell = Doorbell::open(path);
    umask(before);
    CHECK(bell);
    struct stat state{};
    REQUIRE(stat(path.c_str(), &state) == 0);
    CHECK((state.st_mode & 07777U) == 0660);
    CHECK(S_ISFIFO(state.st_mode));
  }
}

TEST_CASE("a file in the place of a doorbell is refused by its name") {
  const TemporaryFolder folder;
  const std::string path = folder / "x.bell";
  std::ofstream(path) << "no pipe";
  CHECK_FALSE(Doorbell::open_existing(path));
  try {
    static_cast<void>(Doorbell::open(path));
    FAIL("opened");
  } catch (const Error& failure) {
    CHECK(std::string(failure.what()).find(path) != std::string::npos);
  }
}
