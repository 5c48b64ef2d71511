#include "common/os/runtime_directory.hpp"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <fstream>

#include "tests/unit/common/processes.hpp"

using namespace visitd;
using namespace visitd::test;

TEST_CASE("a runtime directory is made where its parent is, of mode 0770, and kept where it is") {
  const TemporaryFolder folder;
  const RuntimeDirectory directory(folder / "run");
  const mode_t before = umask(0777);
  directory.ensure();
  umask(before);
  struct stat state{};
  REQUIRE(stat(directory.path().c_str(), &state) == 0);
  CHECK((state.st_mode & 07777U) == 0770);
  directory.note_cache({5, 6});
  directory.ensure();
  CHECK(directory.cache() == SegmentNote{5, 6});
  CHECK_THROWS_AS(RuntimeDirectory(folder / "no/run").ensure(), std::system_error);
}

TEST_CASE("nothing is noted at first") {
  const TemporaryFolder folder;
  CHECK(RuntimeDirectory(folder.path()).rings().empty());
  CHECK_FALSE(RuntimeDirectory(folder.path()).cache());
  CHECK(RuntimeDirectory(folder / "none").rings().empty());
}

TEST_CASE("what is noted is read back, in order and whole") {
  const TemporaryFolder folder;
  const RuntimeDirectory directory(folder.path());
  const std::vector<SegmentNote> rings{{~std::uint64_t{0}, 2147483647}, {1, 0}, {0xabcdef, 77}};
  directory.note_rings(rings);
  CHECK(directory.rings() == rings);
  directory.note_rings({rings[2]});
  CHECK(directory.rings() == std::vector<SegmentNote>{rings[2]});
  directory.note_cache({42, 43});
  CHECK(directory.cache() == SegmentNote{42, 43});
  CHECK(directory.rings().size() == 1);
  struct stat state{};
  REQUIRE(stat((folder / "rings").c_str(), &state) == 0);
  CHECK((state.st_mode & 07777U) == 0640);
}

TEST_CASE("a reader never sees half of a note") {
  const TemporaryFolder folder;
  const RuntimeDirectory directory(folder.path());
  std::vector<SegmentNote> rings;
  for (int i = 1; i <= 200; ++i) rings.push_back({static_cast<std::uint64_t>(i), i});
  directory.note_rings(rings);
  Child writer([&] {
    for (int i = 0; i < 2000; ++i) directory.note_rings(rings);
    return 0;
  });
  for (int i = 0; i < 500; ++i) REQUIRE(directory.rings() == rings);
  CHECK(writer.wait().status == 0);
}

TEST_CASE("a note that is no note names nothing") {
  const TemporaryFolder folder;
  const RuntimeDirectory directory(folder.path());
  for (const char* text : {"", "\n", "zz 1\n", "1\n", "12345678901234567890 1\n"}) {
    std::ofstream(folder / "cache") << text;
    CHECK_FALSE(directory.cache());
  }
}

TEST_CASE("the files of an instance lie in its directory, each lane's apart") {
  const RuntimeDirectory directory("/run/x");
  CHECK(directory.ring_lock() == "/run/x/ring.lock");
  CHECK(directory.lane_lock(0) != directory.lane_lock(1));
  CHECK(directory.lane_bell(11).starts_with("/run/x/"));
  CHECK(directory.lane_bell(11) != directory.lane_lock(11));
}

TEST_CASE("a directory that cannot be written is an error that names the file") {
  const TemporaryFolder folder;
  try {
    RuntimeDirectory(folder / "none").note_cache({1, 2});
    FAIL("noted");
  } catch (const std::system_error& failure) {
    CHECK(std::string(failure.what()).find(folder / "none") != std::string::npos);
  }
}
