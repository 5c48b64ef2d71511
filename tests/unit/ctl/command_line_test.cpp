#include <sys/wait.h>

#include <cstdio>
#include <fstream>
#include <memory>

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
  for (const std::string command : {"status", "lanes", "peek", "page home", "ipcs"}) {
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
       {"", "nonsense", "page", "accept", "peek --limit 0", "peek --lane -1", "peek --lane x", "flush --timeout 0",
        "status extra", "--nonsense status", "status lanes"}) {
    CAPTURE(arguments);
    const Outcome outcome = visitctl(instance, arguments);
    CHECK(outcome.status == 2);
    CHECK(outcome.output.empty());
    CHECK_FALSE(outcome.errors.empty());
  }
  CHECK(visitctl(instance, "--config /nonexistent/visitd.toml status").status == 2);
}

TEST_CASE("help, version and settings are to be had without an instance") {
  const Instance instance;
  CHECK(visitctl(instance, "--help").output.find("flush") != std::string::npos);
  CHECK(visitctl(instance, "--help").status == 0);
  CHECK(visitctl(instance, "--version").output.starts_with("visitctl "));
  const Outcome checked = visitctl(instance, "--check-config");
  CHECK(checked.status == 0);
  CHECK(checked.output.find(instance.directory.path()) != std::string::npos);
  CHECK(visitctl(instance, "--help-settings").output.find("ttl_ms") != std::string::npos);
}

}  // namespace visitd::test
