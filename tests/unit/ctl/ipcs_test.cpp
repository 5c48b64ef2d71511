#include <signal.h>
#include <sys/wait.h>

#include "common/os/unique_fd.hpp"
#include "tests/unit/ctl/instance.hpp"

namespace visitd::test {
namespace {

/// Another process that has a segment attached.
class AttachedChild {
 public:
  AttachedChild(int segment, SharedSegment::Access access) {
    int ends[2];
    REQUIRE(pipe(static_cast<int*>(ends)) == 0);
    const UniqueFd reading(ends[0]);
    UniqueFd writing(ends[1]);
    pid_ = fork();
    REQUIRE(pid_ >= 0);
    if (pid_ == 0) {
      const auto attached = SharedSegment::attach(segment, access);
      if (::write(writing.get(), attached ? "y" : "n", 1) == 1) pause();
      _exit(0);
    }
    writing.reset();
    char attached = 'n';
    REQUIRE(read(reading.get(), &attached, 1) == 1);
    REQUIRE(attached == 'y');
  }
  AttachedChild(const AttachedChild&) = delete;
  AttachedChild& operator=(const AttachedChild&) = delete;
  ~AttachedChild() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

 private:
  pid_t pid_ = -1;
};

}  // namespace

TEST_CASE("each noted segment is shown as ipcs shows it, with who has it attached") {
  Instance instance;
  Ring& ring = instance.make_ring();
  Cache& cache = instance.make_cache();
  const AttachedChild reader(ring.note().segment, SharedSegment::Access::read_only);
  const AttachedChild writer(cache.note().segment, SharedSegment::Access::read_write);
  const Json report = ipcs_report(instance.settings);
  CHECK_FALSE(has_failed(report));
  REQUIRE(report["segments"].size() == 2);
  const auto status = [](const Ring& of) { return of.segment().status(); };
  const Json& first = report["segments"][0];
  CHECK(first["what"] == "ring");
  CHECK(first["in_use"] == true);
  CHECK(first["shmid"] == ring.note().segment);
  CHECK(first["key"] == "0x00000000");
  CHECK(first["perms"] == "640");
  CHECK(first["bytes"] == status(ring).bytes);
  CHECK(first["nattch"] == status(ring).attached);
  CHECK(first["status"] == "");
  CHECK(first["fault"].is_null());
  const auto has = [](const Json& segment, pid_t pid, const char* access) {
    for (const Json& process : segment["attached"]) {
      if (process["pid"] == pid) return process["access"] == access && process["times"] == 1 && process["name"] != "";
    }
    return false;
  };
  // A child of fork also inherits what its parent had attached, read-write.
  for (const Json& process : first["attached"]) {
    if (process["pid"] == reader.pid()) CHECK(process["times"] == 2);
  }
  CHECK(has(first, writer.pid(), "read-write"));
  const Json& second = report["segments"][1];
  CHECK(second["what"] == "cache");
  CHECK(second["attached"].size() == 2);
  CHECK_FALSE(has(second, getpid(), "read-write"));
  const std::string text = ipcs_text(report);
  CHECK(text.find("read-write") != std::string::npos);
  CHECK(text.find("0x00000000") != std::string::npos);
}

TEST_CASE("a removed segment that is still attached is told from one that is gone and from a foreign one") {
  Instance instance;
  Ring& old = instance.make_ring();
  const SegmentNote note = old.note();
  old.segment().remove();
  Ring& ring = instance.make_ring();
  Json report = ipcs_report(instance.settings);
  REQUIRE(report["segments"].size() == 2);
  CHECK(report["segments"][0]["status"] == "dest");
  CHECK(report["segments"][0]["in_use"] == false);
  CHECK(report["segments"][1]["status"] == "");
  instance.directory.note_rings({{note.id, 0x7ffffff0}, {note.id, ring.note().segment}});
  report = ipcs_report(instance.settings);
  CHECK(report["segments"][0]["status"] == "gone");
  CHECK(report["segments"][1]["fault"] == "the segment of that id is somebody else's");
  CHECK(ipcs_text(report).find("gone") != std::string::npos);
}

TEST_CASE("where nothing ever ran there is a clear error") {
  const Instance instance;
  const Json report = ipcs_report(instance.settings);
  CHECK(report["error"].get<std::string>().find(instance.directory.path()) != std::string::npos);
  CHECK(ipcs_text(report).empty());
}

}  // namespace visitd::test
