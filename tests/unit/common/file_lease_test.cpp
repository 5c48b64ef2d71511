#include "common/os/file_lease.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "common/os/held_locks.hpp"
#include "common/shm/shared_segment.hpp"
#include "common/shm/shared_word.hpp"
#include "tests/unit/common/processes.hpp"

using namespace visitd;
using namespace visitd::test;

namespace {

/// Until `is_so`, for ten seconds at most.
template <typename Condition>
bool comes_true(Condition is_so) {
  for (int i = 0; i < 1000; ++i) {
    if (is_so()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

}  // namespace

TEST_CASE("one process at a time holds a lease, and giving it up is enough for the next") {
  const TemporaryFolder folder;
  const std::string path = folder / "x.lock";
  std::optional<FileLease> lease(there(FileLease::try_take(path)));
  CHECK(lease->still_named());
  CHECK(lease->identity() == file_identity(path));
  CHECK_FALSE(FileLease::try_take(path));  // not even by its own holder
  Child refused([&] { return FileLease::try_take(path) ? 1 : 0; });
  CHECK(refused.wait().status == 0);
  lease.reset();
  Child taken([&] { return FileLease::try_take(path) ? 0 : 1; });
  CHECK(taken.wait().status == 0);
}

TEST_CASE("the kernel frees the lease of a process that is killed, and who waits gets it") {
  const TemporaryFolder folder;
  const std::string path = folder / "x.lock";
  const Signpost taken;
  Child holder([&] {
    const auto lease = FileLease::try_take(path);
    if (!lease) return 1;
    taken.pass();
    pause();
    return 0;
  });
  taken.wait();
  CHECK_FALSE(FileLease::try_take(path));
  CHECK_FALSE(FileLease::take(path, std::chrono::milliseconds(30)));
  Child waiter([&] { return FileLease::take(path, std::chrono::seconds(10))->still_named() ? 0 : 1; });
  holder.kill(SIGKILL);
  CHECK(holder.wait().signal == SIGKILL);
  CHECK(waiter.wait().status == 0);
  CHECK(FileLease::try_take(path));
}

TEST_CASE("other descriptors of the lock file can be closed without losing the lease") {
  const TemporaryFolder folder;
  const std::string path = folder / "x.lock";
  const auto lease = FileLease::try_take(path);
  REQUIRE(lease);
  {
    const UniqueFd other(open(path.c_str(), O_RDONLY));
  }
  CHECK_FALSE(FileLease::try_take(path));
}

TEST_CASE("a lock file that is replaced or removed is noticed, and its name can be taken by another") {
  const TemporaryFolder folder;
  const std::string path = folder / "x.lock";
  const FileLease first = there(FileLease::try_take(path));
  std::filesystem::remove(path);
  CHECK_FALSE(first.still_named());
  CHECK_FALSE(file_identity(path));
  const FileLease second = there(FileLease::try_take(path));
  CHECK(second.still_named());
  CHECK_FALSE(first.still_named());
  CHECK_FALSE(first.identity() == second.identity());
}

TEST_CASE("a waiter whose lock file is replaced meanwhile takes the new one") {
  const TemporaryFolder folder;
  const std::string path = folder / "x.lock";
  const FileIdentity first = ensure_lock_file(path);
  const Signpost taken;
  Child holder([&] {
    const auto lease = FileLease::try_take(path);
    taken.pass();
    pause();
    return 0;
  });
  taken.wait();
  const Signpost starts;
  Child waiter([&] {
    starts.pass();
    const auto lease = FileLease::take(path, std::chrono::seconds(10));
    if (!lease) return 2;
    return lease->identity() == file_identity(path) ? 0 : 1;
  });
  starts.wait();
  // It waits, or is about to: both ways must end with the file that the path names.
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  std::filesystem::remove(path);
  CHECK_FALSE(ensure_lock_file(path) == first);
  holder.kill(SIGKILL);
  CHECK(waiter.wait().status == 0);
}

TEST_CASE("the holder of a lock is named") {
  const TemporaryFolder folder;
  const std::string path = folder / "x.lock";
  CHECK(lock_holder(path) == "another process");
  const Signpost taken;
  Child holder([&] {
    const auto lease = FileLease::try_take(path);
    taken.pass();
    pause();
    return 0;
  });
  taken.wait();
  const std::string named = lock_holder(path);
  CHECK(named.starts_with(fmt::format("process {} (", holder.pid())));
}

TEST_CASE("a watch sees whether anybody holds the lock, and hinders nobody") {
  const TemporaryFolder folder;
  const std::string path = folder / "x.lock";
  const FileIdentity identity = ensure_lock_file(path);
  const LockWatch watch(path, identity);
  CHECK(watch.is_free());
  auto lease = FileLease::try_take(path);
  CHECK(lease);
  CHECK_FALSE(watch.is_free());
  lease.reset();
  CHECK(watch.is_free());

  const Signpost taken;
  Child holder([&] {
    const auto held = FileLease::try_take(path);
    taken.pass();
    pause();
    return 0;
  });
  taken.wait();
  CHECK_FALSE(watch.is_free());
  holder.kill(SIGKILL);
  CHECK(comes_true([&] { return watch.is_free(); }));

  // Of a file that is not the one expected nothing is known.
  CHECK_FALSE(LockWatch(path, {identity.device, identity.inode + 1}).is_free());
  CHECK_FALSE(LockWatch(folder / "none.lock", identity).is_free());
}

TEST_CASE("users of one group who make a lock file at once both get the one file") {
  REQUIRE_MESSAGE(geteuid() == 0, "this test plays two users: run it as root");
  constexpr gid_t shared_group = 64500;
  constexpr int rounds = 500;
  const TemporaryFolder folder;
  REQUIRE(chown(folder.path().c_str(), 0, shared_group) == 0);
  REQUIRE(chmod(folder.path().c_str(), 02770) == 0);
  SharedSegment segment = SharedSegment::make(4096);  // for the rounds that each has begun
  segment.remove();
  auto* const begun = reinterpret_cast<Word*>(segment.data());
  const auto make = [&](std::size_t which, uid_t user) {
    return [&, which, user] {
      if (setgroups(0, nullptr) != 0 || setresgid(shared_group, shared_group, shared_group) != 0 ||
          setresuid(user, user, user) != 0) {
        return 1;
      }
      for (std::uint64_t round = 1; round <= rounds; ++round) {
        const std::string path = folder / fmt::format("{}.lock", round).c_str();
        begun[which].store(round);
        for (std::uint64_t spins = 1; begun[1 - which].load() < round; ++spins) {
          if (spins % 1000 == 0) std::this_thread::sleep_for(std::chrono::microseconds(10));
          if (spins == 500'000) return 3;  // the other one is gone
        }
        const FileIdentity made = ensure_lock_file(path);
        if (made != file_identity(path)) return 2;
      }
      return 0;
    };
  };
  Child one(make(0, 64501));
  Child two(make(1, 64502));
  CHECK(one.wait().status == 0);
  CHECK(two.wait().status == 0);
}

TEST_CASE("a lock file is of mode 0640 whatever the umask") {
  const TemporaryFolder folder;
  for (const mode_t mask : {mode_t{0}, mode_t{0777}}) {
    const std::string path = folder / (mask == 0 ? "open.lock" : "shut.lock");
    const mode_t before = umask(mask);
    ensure_lock_file(path);
    umask(before);
    struct stat state{};
    REQUIRE(stat(path.c_str(), &state) == 0);
    CHECK((state.st_mode & 07777U) == 0640);
  }
}

TEST_CASE("a lock file in no directory is an error that names it") {
  const TemporaryFolder folder;
  const std::string path = folder / "none/x.lock";
  CHECK_FALSE(file_identity(path));
  try {
    static_cast<void>(FileLease::try_take(path));
    FAIL("taken");
  } catch (const std::system_error& failure) {
    CHECK(std::string(failure.what()).find(path) != std::string::npos);
  }
}
