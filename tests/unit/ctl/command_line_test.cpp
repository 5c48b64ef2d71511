#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>

#include "common/os/clock.hpp"
#include "tests/unit/ctl/instance.hpp"

namespace visitd::test {
namespace {

struct Outcome {
  int status = -1;
  std::string output;
  std::string errors;
};

/// Runs visitctl on an instance's settings file.
Outcome visitctl(const Instance& instance, const std::string& arguments) {
  const std::string config = instance.directory.path() + "/visitd.toml";
  const std::string errors = instance.directory.path() + "/errors";
  std::ofstream(config) << "[paths]\nruntime_directory = \"" << instance.directory.path() << "\"\n";
  const std::string command = std::string(VISITCTL) + " --config " + config + " " + arguments + " 2>" + errors;
  Outcome outcome;
  std::FILE* const pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  char bytes[4096];
  for (std::size_t got = 0; (got = std::fread(static_cast<char*>(bytes), 1, sizeof bytes, pipe)) > 0;) {
    outcome.output.append(static_cast<const char*>(bytes), got);
  }
  const int status = pclose(pipe);
  REQUIRE(WIFEXITED(status));
  outcome.status = WEXITSTATUS(status);
  std::ifstream said(errors);
  outcome.errors.assign(std::istreambuf_iterator<char>(said), {});
  return outcome;
}

}  // namespace

TEST_CASE("every command runs on an instance, as text and as JSON, with the option before or behind it") {
  Instance instance;
  instance.make_ring();
  instance.publish(0, "home");
  instance.make_cache();
  instance.show_view();
  for (const std::string command : {"status", "lanes", "peek", "page home", "ipcs", "shards list", "shards locate home",
                                    "refusals", "rules home"}) {
    CAPTURE(command);
    const Outcome text = visitctl(instance, command);
    CHECK(text.status == 0);
    CHECK_FALSE(text.output.empty());
    CHECK(text.errors.empty());
    for (const std::string& arguments : {"--json " + command, command + " --json"}) {
      const Outcome json = visitctl(instance, arguments);
      CHECK(json.status == 0);
      CHECK(Json::parse(json.output).is_object());
    }
  }
  const Outcome page = visitctl(instance, "page home --json");
  CHECK(Json::parse(page.output)["unapplied"] == 1);
  const Outcome peek = visitctl(instance, "peek --lane 0 --limit 1 --json");
  CHECK(Json::parse(peek.output)["rings"][0]["lanes"][0]["records"][0]["page"] == "home");
}

TEST_CASE("what fails exits with 1 and says why, also as JSON") {
  const Instance instance;
  for (const std::string command :
       {"status", "lanes", "peek", "page home", "ipcs", "flush --timeout 1", "accept redis_7070"}) {
    CAPTURE(command);
    const Outcome text = visitctl(instance, command);
    CHECK(text.status == 1);
    CHECK(text.errors.starts_with("visitctl: "));
    const Outcome json = visitctl(instance, command + " --json");
    CHECK(json.status == 1);
    CHECK(Json::parse(json.output)["error"].is_string());
  }
}

TEST_CASE("what cannot be asked so exits with 2") {
  const Instance instance;
  for (const std::string arguments :
       {"", "nonsense", "help nonsense", "flush --timeout abc", "status --measure -1", "page", "accept",
        "peek --limit 0", "peek --lane -1", "peek --lane x", "flush --timeout 0", "remove --instance run",
        "status extra", "--nonsense status", "status lanes"}) {
    CAPTURE(arguments);
    const Outcome outcome = visitctl(instance, arguments);
    CHECK(outcome.status == 2);
    CHECK(outcome.output.empty());
    CHECK_FALSE(outcome.errors.empty());
    CHECK_MESSAGE(std::count(outcome.errors.begin(), outcome.errors.end(), '\n') == 1, outcome.errors);
  }
  CHECK(visitctl(instance, "statsu").errors.find("did you mean 'status'?") != std::string::npos);
  CHECK(visitctl(instance, "help flsh").errors.find("did you mean 'flush'?") != std::string::npos);
  CHECK(visitctl(instance, "flush --timeout abc").errors.find("0.001 to 600 s") != std::string::npos);
  CHECK(visitctl(instance, "--config /nonexistent/visitd.toml status").status == 2);
}

TEST_CASE("what cannot be printed is a failure") {
  Instance instance;
  instance.make_ring();
  for (const std::string arguments :
       {"status", "status --json", "ipcs", "--help", "help flush", "--version", "--check-config", "--help-settings"}) {
    CAPTURE(arguments);
    CHECK(visitctl(instance, arguments).status == 0);
    const Outcome outcome = visitctl(instance, arguments + " >/dev/full");
    CHECK(outcome.status == 1);
    CHECK(outcome.errors.find("standard output") != std::string::npos);
  }
}

TEST_CASE("status --exit-code ends with 3 where somebody should look") {
  Instance instance;
  instance.make_ring();
  const FileLease lane = instance.own_lane(0);
  const auto flusher = FileLease::try_take(instance.directory.flusher_lock());
  instance.make_cache();
  instance.show_view();
  CHECK(visitctl(instance, "status").status == 0);
  const Outcome down = visitctl(instance, "status --exit-code --measure 0");
  CHECK(down.status == 3);
  CHECK(down.output.find("look at   shard redis_7071 is down: connection refused") != std::string::npos);
  set_shard_state(instance.cache().header().shard[1], ShardState::up, "");
  // A machine that is busy may need longer to start visitctl than a heartbeat is recent.
  Outcome well = down;
  for (int tries = 0; tries < 20 && well.status != 0; ++tries) {
    instance.cache().header().heartbeat_ns.word.store(monotonic_ns());
    instance.ring().lane(0).about.heartbeat_ns.store(monotonic_ns());
    well = visitctl(instance, "status --exit-code --measure 0");
  }
  CHECK_MESSAGE(well.status == 0, well.output);
}

TEST_CASE("visitctl leaves the original service's variables alone") {
  Instance instance;
  instance.make_ring();
  REQUIRE(setenv("DEBUG", "app:*", 1) == 0);
  const Outcome outcome = visitctl(instance, "status");
  REQUIRE(unsetenv("DEBUG") == 0);
  CHECK_MESSAGE(outcome.status == 0, outcome.errors);
}

TEST_CASE("help, version and settings are to be had without an instance") {
  const Instance instance;
  CHECK(visitctl(instance, "--help").output.find("flush") != std::string::npos);
  CHECK(visitctl(instance, "--help").status == 0);
  CHECK(visitctl(instance, "--version").output.starts_with("visitctl "));
  CHECK(visitctl(instance, "-V").output == visitctl(instance, "--version").output);
  CHECK(visitctl(instance, "help").output == visitctl(instance, "--help").output);
  CHECK(visitctl(instance, "help flush").output == visitctl(instance, "flush --help").output);
  const Outcome checked = visitctl(instance, "--check-config");
  CHECK(checked.status == 0);
  CHECK(checked.output.find(instance.directory.path()) != std::string::npos);
  CHECK(visitctl(instance, "--help-settings").output.find("ttl_ms") != std::string::npos);
}

}  // namespace visitd::test
