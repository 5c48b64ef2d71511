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

TEST_CASE("another shard waits for a restart of the flusher, another password does not, and neither is shown") {
  Settings in_use;
  in_use.redis.shards = {
      {.name = "redis_1", .host = "a", .port = 1, .unix_path = {}, .username = {}, .password = "old"}};
  Settings read = in_use;
  read.redis.shards[0].password = "new";
  const SettingsChange change = change_settings(in_use, read);
  CHECK(change.settings.redis.shards[0].password == "new");
  REQUIRE(change.taken.size() == 1);
  CHECK(change.taken[0].find("new") == std::string::npos);
  CHECK(change.later.empty());
  for (const bool over_tls : {false, true}) {
    read = in_use;
    read.redis.shards.push_back(read.redis.shards[0]);
    read.redis.shards[0].password = "new";
    read.redis.shards[0].host = over_tls ? "a" : "b";
    read.redis.shards[0].over_tls = over_tls;
    const SettingsChange later = change_settings(in_use, read);
    CHECK(later.settings.redis.shards[0].password == "old");
    CHECK(later.settings.redis.shards.size() == 1);
    CHECK(later.taken.empty());
    REQUIRE(later.later.size() == 1);
    CHECK(later.later[0].key == "redis.shards");
    CHECK(later.later[0].in_use.empty());
    CHECK(later.later[0].read.empty());
  }
}

TEST_CASE("new certificates and keys are taken at once, and those that are the same are no change") {
  Settings in_use;
  in_use.redis.shards.resize(1);
  ShardSettings& shard = in_use.redis.shards[0];
  shard.name = "redis_1";
  shard.over_tls = true;
  shard.tls.key = {.path = "/a", .text = "key", .place = "a"};
  Settings read = in_use;
  read.redis.shards[0].tls.key = {.path = "/b", .text = "key", .place = "b"};
  CHECK(change_settings(in_use, read).taken.empty());
  for (FileText ShardTls::* file : {&ShardTls::ca, &ShardTls::certificate, &ShardTls::key}) {
    read = in_use;
    (read.redis.shards[0].tls.*file).text = "other";
    const SettingsChange change = change_settings(in_use, read);
    CHECK(change.taken.size() == 1);
    CHECK((change.settings.redis.shards[0].tls.*file).text == "other");
    CHECK(change.later.empty());
  }
  read = in_use;
  read.redis.shards[0].tls.server_name = "counts.example";
  CHECK(change_settings(in_use, read).settings.redis.shards[0].tls.server_name == "counts.example");
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
