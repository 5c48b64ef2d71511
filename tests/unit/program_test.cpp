#include "common/config/program.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "common/os/errors.hpp"
#include "tests/unit/contains.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace visitd;
using test::contains;

namespace {

/// What a program did with its command line.
struct Outcome {
  int status = -1;
  bool ran = false;
  Settings settings;
  std::string output;
};

/// Standard output and error go to a file as long as this lives.
class Captured {
 public:
  explicit Captured(const std::string& path) : file_(std::fopen(path.c_str(), "w")) {
    REQUIRE(file_ != nullptr);
    flush();
    for (const int fd : {1, 2}) {
      former_.push_back(dup(fd));
      dup2(fileno(file_), fd);
    }
  }
  ~Captured() {
    flush();
    for (const int fd : {1, 2}) {
      dup2(former_[static_cast<std::size_t>(fd) - 1], fd);
      close(former_[static_cast<std::size_t>(fd) - 1]);
    }
    std::fclose(file_);
  }
  Captured(const Captured&) = delete;
  Captured& operator=(const Captured&) = delete;

 private:
  static void flush() {
    std::fflush(stdout);
    std::fflush(stderr);
  }
  std::FILE* file_;
  std::vector<int> former_;
};

struct Program {
  Outcome run(std::vector<std::string> words, int status = 0, const char* failure = nullptr) {
    words.insert(words.begin(), "visit-test");
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    Outcome outcome;
    {
      const Captured captured(folder.path() + "/output");
      outcome.status = run_program(static_cast<int>(words.size()), argv.data(), "visit-test", "Tests itself.",
                                   Secrets::leave, {{"--renew", "Renews", &renew}}, [&](LiveSettings& settings) {
                                     outcome.ran = true;
                                     outcome.settings = settings.get();
                                     if (failure != nullptr) throw error("{}", failure);
                                     return status;
                                   });
    }
    std::ifstream file(folder.path() + "/output");
    outcome.output.assign(std::istreambuf_iterator<char>(file), {});
    return outcome;
  }
  [[nodiscard]] std::string config(const std::string& text) const {
    std::ofstream(folder.path() + "/visitd.toml") << text;
    return folder.path() + "/visitd.toml";
  }

  test::TemporaryFolder folder;
  bool renew = false;
};

}  // namespace

TEST_CASE("a program runs with the settings of its file, and ends as it says") {
  Program program;
  const Outcome outcome = program.run({"--config", program.config("[ring]\nlanes = 3\n")}, 7);
  CHECK(outcome.ran);
  CHECK(outcome.status == 7);
  CHECK(outcome.settings.ring.lanes == 3);
  CHECK_FALSE(program.renew);
  // Whoever goes away while he is written to must not end the process.
  const bool ignored = std::signal(SIGPIPE, SIG_DFL) == SIG_IGN;
  CHECK(ignored);
}

TEST_CASE("without a file the defaults count") {
  Program program;
  const Outcome outcome = program.run({"--renew"});
  CHECK(outcome.status == 0);
  CHECK(outcome.settings.ring.lanes == Settings{}.ring.lanes);
  CHECK(program.renew);
}

TEST_CASE("what only tells something runs nothing") {
  Program program;
  const Outcome version = program.run({"--version"});
  CHECK_FALSE(version.ran);
  CHECK(version.status == 0);
  CHECK(contains(version.output, "visit-test "));

  const Outcome help = program.run({"--help"});
  CHECK_FALSE(help.ran);
  CHECK(help.status == 0);
  CHECK(contains(help.output, "Tests itself."));
  CHECK(contains(help.output, "--renew"));

  const Outcome settings = program.run({"--help-settings"});
  CHECK_FALSE(settings.ran);
  CHECK(settings.status == 0);
  CHECK(contains(settings.output, "flush_interval_ms"));

  const Outcome checked = program.run({"--check-config", "--config", program.config("[ring]\nlanes = 3\n")});
  CHECK_FALSE(checked.ran);
  CHECK(checked.status == 0);
  CHECK(contains(checked.output, "lanes = 3"));
}

TEST_CASE("a command line or settings that are wrong are told, and end with 2") {
  Program program;
  const Outcome option = program.run({"--no-such-option"});
  CHECK_FALSE(option.ran);
  CHECK(option.status == 2);
  CHECK(contains(option.output, "--no-such-option"));

  const Outcome file = program.run({"--config", program.folder.path() + "/missing.toml"});
  CHECK_FALSE(file.ran);
  CHECK(file.status == 2);
  CHECK(contains(file.output, "missing.toml"));

  const Outcome value = program.run({"--config", program.config("[ring]\nlanes = 0\n")});
  CHECK_FALSE(value.ran);
  CHECK(value.status == 2);
  CHECK(contains(value.output, "lanes"));
}

TEST_CASE("a failure is told in one line, and ends with 1") {
  Program program;
  const Outcome outcome = program.run({}, 0, "no lane is free");
  CHECK(outcome.ran);
  CHECK(outcome.status == 1);
  CHECK(contains(outcome.output, "no lane is free"));
}
