#include "common/config/live_settings.hpp"

#include <doctest/doctest.h>

#include <csignal>
#include <fstream>
#include <string>
#include <vector>

#include "common/os/errors.hpp"
#include "tests/unit/temporary_folder.hpp"

using namespace visitd;

namespace {

struct Instance {
  void write(const std::string& text) const { std::ofstream(path) << text; }

  test::TemporaryFolder folder;
  std::string path = folder.path() + "/visitd.toml";
};

}  // namespace

TEST_CASE("settings read again count where they may, and stay as they were where they may not") {
  const Instance instance;
  instance.write("[ring]\nlanes = 4\n[http]\nretry_after_s = 2\n");
  LiveSettings live(instance.path, Secrets::leave);
  const Settings& settings = live.get();
  instance.write(
      "[ring]\nlanes = 5\n[http]\nretry_after_s = 3\ncors_origins = []\n[flusher]\nkeep_batches_bytes = 7\n");
  CHECK(live.read_again());
  CHECK(settings.ring.lanes == 4);
  CHECK(settings.http.retry_after_s == 3);
  CHECK(settings.http.cors_origins.empty());
  CHECK(settings.flusher.keep_batches_bytes == 7);
  CHECK_FALSE(live.read_again());  // what waits for a restart changes nothing a second time either
  CHECK(settings.ring.lanes == 4);
}

TEST_CASE("a file that is not right changes nothing") {
  const Instance instance;
  instance.write("[http]\nretry_after_s = 2\n");
  LiveSettings live(instance.path, Secrets::leave);
  for (const char* wrong : {"[http]\nretry_after_s = 0\n", "[http]\nretry_after_s = 4\nlissten = 1\n", "[http\n"}) {
    instance.write(wrong);
    CHECK_FALSE(live.read_again());
    CHECK(live.get().http.retry_after_s == 2);
  }
  CHECK(std::remove(instance.path.c_str()) == 0);
  CHECK_FALSE(live.read_again());
  CHECK(live.get().http.retry_after_s == 2);
  instance.write("[http]\nretry_after_s = 4\n");
  CHECK(live.read_again());
  CHECK(live.get().http.retry_after_s == 4);
}

TEST_CASE("what waits for a restart is named, with both values and who is to be restarted") {
  Settings in_use;
  Settings read;
  read.ring.lanes = 16;
  read.cache.entries = 32;
  read.paths.runtime_directory = "/run/other";
  read.log.debug = true;
  const SettingsChange change = change_settings(in_use, read);
  CHECK(change.taken == std::vector<std::string>{"log.debug"});
  REQUIRE(change.later.size() == 3);
  CHECK(change.later[0].key == "paths.runtime_directory");
  CHECK(change.later[0].restart == "all programs");
  CHECK(change.later[1].key == "ring.lanes");
  CHECK(change.later[1].in_use == "8");
  CHECK(change.later[1].read == "16");
  CHECK(change.later[1].restart == "the frontends");
  CHECK(change.later[2].key == "cache.entries");
  CHECK(change.later[2].restart == "the flusher");
}

TEST_CASE("another shard or password waits for a restart of the flusher, and is not shown") {
  Settings in_use;
  in_use.redis.shards = {
      {.name = "redis_1", .host = "a", .port = 1, .unix_path = {}, .username = {}, .password = "old"}};
  Settings read = in_use;
  read.redis.shards[0].password = "new";
  const SettingsChange change = change_settings(in_use, read);
  CHECK(change.settings.redis.shards[0].password == "old");
  REQUIRE(change.later.size() == 1);
  CHECK(change.later[0].key == "redis.shards");
  CHECK(change.later[0].in_use.empty());
  CHECK(change.later[0].read.empty());
}

TEST_CASE("SIGHUP waits while it is held back") {
  static int came = 0;
  came = 0;
  const auto former = std::signal(SIGHUP, [](int) { ++came; });
  hold_reload_signal();
  REQUIRE(std::raise(SIGHUP) == 0);
  CHECK(came == 0);
  release_reload_signal();
  CHECK(came == 1);
  std::signal(SIGHUP, former);
}
