#include "common/shm/shared_segment.hpp"

#include <doctest/doctest.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>

#include "common/os/errors.hpp"
#include "common/shm/ring.hpp"
#include "tests/unit/common/processes.hpp"

using namespace visitd;
using namespace visitd::test;

namespace {

constexpr std::size_t bytes = 65536;

/// A segment that is gone with this test, however it ends: removed at once, it lives on while attached.
SharedSegment removed_segment() {
  SharedSegment segment = SharedSegment::make(bytes);
  segment.remove();
  return segment;
}

void die_by_default() {
  signal(SIGSEGV, SIG_DFL);
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
}

/// A user of `group`, with `other` beside it (0: no other).
void become(uid_t user, gid_t group, gid_t other) {
  if (setgroups(other == 0 ? 0 : 1, &other) != 0 || setresgid(group, group, group) != 0 ||
      setresuid(user, user, user) != 0) {
    throw system_error("cannot become user {} of group {}", user, group);
  }
}

bool attaches(int id, SharedSegment::Access access) {
  try {
    return SharedSegment::attach(id, access).has_value();
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace

TEST_CASE("a segment is zeroed, private, and of mode 0640 whatever the umask") {
  for (const mode_t mask : {mode_t{0}, mode_t{0777}, mode_t{0022}}) {
    const mode_t before = umask(mask);
    const SharedSegment segment = removed_segment();
    umask(before);
    const SegmentStatus status = segment.status();
    CHECK(status.mode == 0640);
    CHECK(status.key == 0);
    CHECK(status.bytes == bytes);
    CHECK(status.owner == geteuid());
    CHECK(status.group == getegid());
    CHECK(status.maker == getpid());
    CHECK(status.attached == 1);
    for (std::size_t i = 0; i < bytes; ++i) REQUIRE(segment.data()[i] == std::byte{0});
  }
}

TEST_CASE("two attachments see the same bytes, and detach when they go") {
  const SharedSegment one = removed_segment();
  {
    const SharedSegment two = there(SharedSegment::attach(one.id(), SharedSegment::Access::read_only));
    CHECK(two.size() == bytes);
    CHECK(two.data() != one.data());
    one.data()[100] = std::byte{42};
    CHECK(two.data()[100] == std::byte{42});
    CHECK(one.status().attached == 2);
  }
  CHECK(one.status().attached == 1);
}

TEST_CASE("a write through a read-only attachment is refused by the kernel") {
  const SharedSegment segment = removed_segment();
  Child reader([&] {
    die_by_default();
    const auto attached = SharedSegment::attach(segment.id(), SharedSegment::Access::read_only);
    return attached && attached->data()[8] == std::byte{0} ? 0 : 1;
  });
  CHECK(reader.wait().status == 0);
  Child writer([&] {
    die_by_default();
    const SharedSegment attached = there(SharedSegment::attach(segment.id(), SharedSegment::Access::read_only));
    attached.data()[8] = std::byte{1};
    return 0;
  });
  CHECK(writer.wait().signal == SIGSEGV);
  CHECK(segment.data()[8] == std::byte{0});
}

TEST_CASE("a removed segment lives on while attached, can be attached by its id, and goes with the last") {
  auto segment = std::make_unique<SharedSegment>(SharedSegment::make(bytes));
  const int id = segment->id();
  CHECK_FALSE(segment->status().removed);
  segment->data()[5] = std::byte{7};
  segment->remove();
  CHECK(segment->status().removed);
  Child other([&] {
    const auto attached = SharedSegment::attach(id, SharedSegment::Access::read_write);
    if (!attached || attached->data()[5] != std::byte{7}) return 1;
    attached->data()[6] = std::byte{8};
    return 0;
  });
  CHECK(other.wait().status == 0);
  CHECK(segment->data()[6] == std::byte{8});
  segment.reset();
  CHECK_FALSE(segment_status(id));
  CHECK_FALSE(SharedSegment::attach(id, SharedSegment::Access::read_only));
}

TEST_CASE("a segment outlives the process that made it, killed or not") {
  int id = -1;
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const UniqueFd reads(ends[0]);
  const UniqueFd writes(ends[1]);
  Child maker([&] {
    const SharedSegment segment = SharedSegment::make(bytes);
    segment.data()[1] = std::byte{9};
    const int own = segment.id();
    if (write(writes.get(), &own, sizeof own) != sizeof own) return 1;
    pause();
    return 0;
  });
  REQUIRE(read(reads.get(), &id, sizeof id) == sizeof id);
  maker.kill(SIGKILL);
  CHECK(maker.wait().signal == SIGKILL);
  SharedSegment segment = there(SharedSegment::attach(id, SharedSegment::Access::read_write));
  segment.remove();
  CHECK(segment.data()[1] == std::byte{9});
  CHECK(segment.status().attached == 1);
}

TEST_CASE("a segment that cannot be made says what to do") {
  try {
    const SharedSegment segment = SharedSegment::make(std::size_t{1} << 62U);
    FAIL("made");
  } catch (const Error& failure) {
    CHECK(std::string(failure.what()).find("make ring.lanes, ring.lane_bytes (the ring) or cache.entries") !=
          std::string::npos);
  }
}

TEST_CASE("the other user of the group may read a segment and not write it; a stranger may do neither") {
  REQUIRE_MESSAGE(geteuid() == 0, "this test plays two users: run it as root");
  constexpr uid_t maker_user = 64501;
  constexpr uid_t other_user = 64502;
  constexpr gid_t shared_group = 64500;
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const UniqueFd reads(ends[0]);
  const UniqueFd writes(ends[1]);
  const Signpost done;
  Child maker([&] {
    become(maker_user, shared_group, 0);
    SharedSegment segment = SharedSegment::make(bytes);
    segment.remove();
    const int id = segment.id();
    if (write(writes.get(), &id, sizeof id) != sizeof id) return 1;
    done.wait();
    return segment.data()[0] == std::byte{0} ? 0 : 2;
  });
  int id = -1;
  REQUIRE(read(reads.get(), &id, sizeof id) == sizeof id);

  Child reader([&] {
    become(other_user, other_user, shared_group);
    if (attaches(id, SharedSegment::Access::read_write)) return 1;
    if (!attaches(id, SharedSegment::Access::read_only)) return 2;
    return there(segment_status(id)).attached == 1 ? 0 : 3;
  });
  CHECK(reader.wait().status == 0);
  Child writer([&] {
    die_by_default();
    become(other_user, other_user, shared_group);
    const SharedSegment attached = there(SharedSegment::attach(id, SharedSegment::Access::read_only));
    attached.data()[0] = std::byte{1};
    return 0;
  });
  CHECK(writer.wait().signal == SIGSEGV);
  Child by_the_kernel([&] {
    become(other_user, other_user, shared_group);
    return reinterpret_cast<std::intptr_t>(shmat(id, nullptr, 0)) == -1 && errno == EACCES ? 0 : 1;
  });
  CHECK(by_the_kernel.wait().status == 0);
  Child stranger([&] {
    become(other_user, other_user, 0);
    if (attaches(id, SharedSegment::Access::read_write)) return 1;
    try {
      static_cast<void>(SharedSegment::attach(id, SharedSegment::Access::read_only));
    } catch (const std::exception& refused) {
      return std::string(refused.what()).find("group") != std::string::npos ? 0 : 3;
    }
    return 2;
  });
  CHECK(stranger.wait().status == 0);
  done.pass();
  CHECK(maker.wait().status == 0);
}
