#include "common/config/settings.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "common/os/errors.hpp"
#include "common/shm/cache_layout.hpp"
#include "tests/unit/contains.hpp"

using visitd::load_settings;
using visitd::Secrets;
using visitd::SettingDescription;
using visitd::Settings;
using visitd::to_toml;
using visitd::test::contains;

namespace {

/// A directory of its own for the files of one test.
class Scratch {
 public:
  Scratch() {
    std::string pattern = (std::filesystem::temp_directory_path() / "settings-test-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    directory_ = pattern;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::filesystem::remove_all(directory_); }

  std::string write(const std::string& name, const std::string& content) const {
    std::string path = directory_ / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  std::string path() const { return directory_; }

 private:
  std::filesystem::path directory_;
};

/// Environment variables that are gone when it goes.
class Environment {
 public:
  Environment(std::initializer_list<std::pair<std::string, std::string>> variables) : variables_(variables) {
    for (const auto& [name, value] : variables_) ::setenv(name.c_str(), value.c_str(), 1);
  }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    for (const auto& [name, value] : variables_) ::unsetenv(name.c_str());
  }

 private:
  std::vector<std::pair<std::string, std::string>> variables_;
};

/// What the machine happens to have set (DEBUG, say) is not what these tests are about.
bool forget_environment() {
  for (const SettingDescription& key : visitd::describe_settings()) {
    std::istringstream names(key.environment);
    for (std::string name; std::getline(names >> std::ws, name, ',');) ::unsetenv(name.c_str());
  }
  ::unsetenv("CREDENTIALS_DIRECTORY");
  return true;
}

const bool environment_is_forgotten = forget_environment();

Settings load(const std::string& toml, Secrets secrets = Secrets::read) {
  const Scratch scratch;
  return load_settings(scratch.write("visitd.toml", toml), secrets);
}

/// The message with which a file of this content is refused, without its directory; empty: it is taken.
std::string refusal(const std::string& toml) {
  const Scratch scratch;
  try {
    (void)load_settings(scratch.write("visitd.toml", toml));
  } catch (const visitd::Error& failure) {
    std::string message = failure.what();
    if (message.starts_with(scratch.path() + "/")) message.erase(0, scratch.path().size() + 1);
    return message;
  }
  return "";
}

/// The same for an environment variable.
std::string refusal(const std::string& name, const std::string& value) {
  const Environment environment{{name, value}};
  try {
    (void)load_settings("");
  } catch (const visitd::Error& failure) {
    return failure.what();
  }
  return "";
}

std::string read_source(const std::string& path) {
  std::ifstream file(std::string(VISITD_SOURCE_ROOT) + "/" + path);
  REQUIRE_MESSAGE(file.good(), path << " cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

/// The lines of a section: after the line that is `title`, before the next that begins as titles do.
std::vector<std::string> section_of(const std::string& text, const std::string& title, const std::string& next) {
  std::vector<std::string> section;
  bool inside = false;
  for (const std::string& line : lines_of(text)) {
    if (line.starts_with(next)) inside = line == title;
    if (inside) section.push_back(line);
  }
  return section;
}

}  // namespace

TEST_CASE("without a file and environment the defaults hold") {
  REQUIRE(environment_is_forgotten);
  const Settings settings = load_settings("");
  CHECK(settings.ring.lanes == 8);
  CHECK(settings.ring.lane_bytes == 32 * 1024 * 1024);
  CHECK(settings.cache.entries == 65536);
  CHECK(settings.cache.ttl_ms == 5000);
  CHECK(settings.flusher.flush_interval_ms == 30000);
  CHECK(settings.pages.page_id_limit_bytes == 1024);
  CHECK(settings.flusher.memory_limit_bytes == 256 * 1024 * 1024);
  CHECK(settings.flusher.journal_limit_bytes == 16 * 1024 * 1024);
  CHECK(settings.http.listen == std::vector<std::string>{"[::]:8000"});
  CHECK(settings.http.api_prefix == "/api/v1/counter");
  CHECK(settings.redis.virtual_nodes == 100);
  CHECK(settings.redis.buckets == 8192);
  REQUIRE(settings.redis.shards.size() == 2);
  CHECK(settings.redis.shards[0].name == "redis_7070");
  CHECK(settings.redis.shards[0].host == "127.0.0.1");
  CHECK(settings.redis.shards[0].port == 7070);
  CHECK(settings.redis.shards[0].password.empty());
  CHECK(settings.redis.shards[1].name == "redis_7071");
  CHECK(settings.redis.shards[1].port == 7071);
  CHECK(to_toml(load("# none")) == to_toml(settings));
}

TEST_CASE("a file sets every kind of value") {
  const Settings settings = load(R"(
[paths]
runtime_directory = "/tmp/run"
[ring]
lanes = 2
lane_bytes = "1MiB"
[http]
listen = ["127.0.0.1:8080", "[::1]:8080"]
api_prefix = ""
cors_origins = ["https://example.org", "http://localhost:3000"]
hot_routes = "httplib"
head_limit_bytes = 4096
[redis]
shards = ["redis://10.0.0.1:7070/2", "second=10.0.0.2:7070"]
accept_eviction = true
[log]
debug = true
)");
  CHECK(settings.paths.runtime_directory == "/tmp/run");
  CHECK(settings.ring.lanes == 2);
  CHECK(settings.ring.lane_bytes == 1024 * 1024);
  CHECK(settings.http.listen == std::vector<std::string>{"127.0.0.1:8080", "[::1]:8080"});
  CHECK(settings.http.api_prefix.empty());
  CHECK(settings.http.cors_origins.size() == 2);
  CHECK(settings.http.hot_routes == visitd::HotRoutes::httplib);
  CHECK(settings.http.head_limit_bytes == 4096);
  REQUIRE(settings.redis.shards.size() == 2);
  CHECK(settings.redis.shards[0].database == 2);
  CHECK(settings.redis.shards[1].name == "second");
  CHECK(settings.redis.accept_eviction);
  CHECK(settings.log.debug);
  CHECK(settings.flusher.flush_interval_ms == 30000);
}

TEST_CASE("every number is taken at its bounds and refused beyond them, with file, line and what is allowed") {
  struct Bounds {
    std::string section, key;
    std::uint64_t least, most;
  };
  const std::vector<Bounds> all = {
      {"pages", "page_id_limit_bytes", 1, 1024}, {"ring", "lanes", 1, 64},
      {"ring", "lane_bytes", 65536, 4ULL << 30}, {"cache", "entries", 16, 16'777'216},
      {"redis", "virtual_nodes", 1, 10000},      {"redis", "buckets", 2, 65536},
      {"redis", "database", 0, 65535},           {"http", "retry_after_s", 1, 3600},
      {"flusher", "batch_pages", 1, 1000},       {"flusher", "keep_batches_bytes", 0, 64ULL << 30},
      {"cache", "stale_limit_s", 0, 31'536'000}};
  for (const Bounds& bounds : all) {
    CAPTURE(bounds.key);
    const auto with = [&](const std::string& value) {
      return refusal(fmt::format("[{}]\n\n{} = {}\n", bounds.section, bounds.key, value));
    };
    CHECK(with(fmt::format("{}", bounds.least)) == "");
    CHECK(with(fmt::format("{}", bounds.most)) == "");
    const std::string above = with(fmt::format("{}", bounds.most + 1));
    CHECK(above.starts_with(
        fmt::format("visitd.toml:3: {}.{} is {}; allowed: ", bounds.section, bounds.key, bounds.most + 1)));
    CHECK(with("-1").starts_with(fmt::format("visitd.toml:3: {}.{} is -1; allowed: ", bounds.section, bounds.key)));
    for (const char* wrong : {"1.5", "true", "\"many\"", "[1]", "{ a = 1 }", "2024-01-01"})
      CHECK_FALSE(with(wrong).empty());
  }
  CHECK(refusal("[ring]\nlanes = 0\n") == "visitd.toml:2: ring.lanes is 0; allowed: 1 to 64");
  CHECK(refusal("[ring]\nlanes = 1.5\n") == "visitd.toml:2: ring.lanes is 1.5; allowed: 1 to 64");
}

TEST_CASE("bytes may be written with their unit") {
  CHECK(load("[ring]\nlane_bytes = \"64KiB\"").ring.lane_bytes == 65536);
  CHECK(load("[ring]\nlane_bytes = \"65536\"").ring.lane_bytes == 65536);
  CHECK(load("[ring]\nlane_bytes = \"65536B\"").ring.lane_bytes == 65536);
  CHECK(load("[ring]\nlane_bytes = \"4 GiB\"").ring.lane_bytes == 4ULL << 30);
  for (const char* wrong :
       {"64KB", "64k", "KiB", "", "-1KiB", "1.5MiB", "64KiBs", "99999999999999999999", "18446744073709551615GiB"}) {
    CAPTURE(wrong);
    CHECK(
        contains(refusal(fmt::format("[ring]\nlane_bytes = \"{}\"", wrong)), "allowed: 64KiB to 4GiB, a power of two"));
  }
  CHECK(contains(refusal("[ring]\nlane_bytes = \"96KiB\""), "a power of two"));
  CHECK(contains(refusal("[cache]\nttl_ms = \"5\""), "allowed: 10 to 3600000"));
}

TEST_CASE("an unknown key is refused with its line, the nearest name and the section's keys") {
  const std::string message = refusal("[http]\nlissten = [\"[::]:80\"]\n");
  CHECK(message.starts_with(
      "visitd.toml:2: key 'http.lissten' is unknown; did you mean 'listen'? Keys of [http]: listen, "));
  CHECK(contains(refusal("\n\n[ring]\n# what\nzzz = 1\n"),
                 "visitd.toml:5: key 'ring.zzz' is unknown. Keys of [ring]: lanes, lane_bytes"));
  CHECK(contains(refusal("[http]\nttl_ms = 5\n"), "it belongs to [cache]"));
  CHECK(contains(refusal("[cache]\ncache_entries = 5\n"), "did you mean 'entries'"));
  CHECK(contains(refusal("[htpp]\nlisten = []\n"), "visitd.toml:1: section 'htpp' is unknown; did you mean 'http'?"));
  CHECK(
      contains(refusal("lanes = 4\n"), "visitd.toml:1: key 'lanes' stands outside its section: write it below [ring]"));
  CHECK(contains(refusal("ring = 4\n"), "visitd.toml:1: 'ring' is a section: write [ring]"));
}

TEST_CASE("a file that is no TOML, or cannot be read, is refused with its name") {
  CHECK(refusal("[ring]\nlanes =\n").starts_with("visitd.toml:2: "));
  CHECK(refusal("[ring\n").starts_with("visitd.toml:1: "));
  CHECK(to_toml(load_settings("/dev/null")) == to_toml(load_settings("")));
  for (const char* empty : {"", " \n\n"}) {
    CHECK(refusal(empty).starts_with("visitd.toml:1: the settings file is empty"));
  }
  CHECK(refusal("[ring]\nlanes = 1\nlanes = 2\n").starts_with("visitd.toml:3: "));
  const Scratch scratch;
  CHECK_THROWS_WITH_AS(
      (void)load_settings(scratch.path() + "/none"),
      ("cannot open the settings file '" + scratch.path() + "/none': No such file or directory").c_str(),
      visitd::Error);
  CHECK_THROWS_AS((void)load_settings(scratch.path()), visitd::Error);
  CHECK_THROWS_AS((void)load_settings(scratch.write("large", std::string(2U << 20U, '#'))), visitd::Error);
}

TEST_CASE("texts and lists are held to their form") {
  const auto with = [](const std::string& section, const std::string& line) {
    return refusal(fmt::format("[{}]\n{}\n", section, line));
  };
  for (const char* wrong : {"relative", ""}) {
    CHECK(contains(with("paths", fmt::format("runtime_directory = \"{}\"", wrong)), "an absolute path"));
  }
  CHECK(contains(with("paths", fmt::format("runtime_directory = \"/{}\"", std::string(90, 'a'))), "at most 90 bytes"));
  for (const char* wrong : {"api", "/api/", "/", "/a//b", "/a b", "/a%20", "/a?b", "/..", "/a/./b", "/visit", "/visits",
                            "/visit/a", "/visits/api/v1"}) {
    CAPTURE(wrong);
    CHECK(contains(with("http", fmt::format("api_prefix = \"{}\"", wrong)), "http.api_prefix is"));
  }
  for (const char* right : {"", "/a", "/api/v1.0/counter", "/~x_y-z", "/visiting", "/a/visit"}) {
    CAPTURE(right);
    CHECK(with("http", fmt::format("api_prefix = \"{}\"", right)) == "");
  }
  for (const char* wrong : {"", "/", "s.js", "/.js", "/s", "/a/s.js", "/a.b.js", "/s.js?x", "/s.JS"}) {
    CAPTURE(wrong);
    CHECK(contains(with("http", fmt::format("script_path = \"{}\"", wrong)), "http.script_path is"));
  }
  for (const char* wrong :
       {"/", "//", "v", "/v", "v/", "/v/w/", "/v.w/", "/visit/", "/visits/", "/pixel/", "/badge/"}) {
    CAPTURE(wrong);
    CHECK(contains(with("http", fmt::format("visit_path = \"{}\"", wrong)), "http.visit_path is"));
  }
  CHECK(with("http", "script_path = \"/a-B_1.js\"\nvisit_path = \"/v-1/\"") == "");
  CHECK(contains(with("http", "visit_path = \"/api/\""), "http.api_prefix begins with it"));
  CHECK(with("http", "visit_path = \"/ap/\"") == "");
  for (const char* wrong : {"8000", ":8000", "localhost", "localhost:", "localhost:0", "localhost:65536", "::1:80",
                            "[]:80", "[::1]", "[x]:80", "a b:80", "localhost:80x"}) {
    CAPTURE(wrong);
    CHECK(contains(with("http", fmt::format("listen = [\"{}\"]", wrong)), "http.listen is"));
  }
  CHECK(contains(with("http", "listen = []"), "allowed: 1 to 16"));
  CHECK(contains(with("http", "listen = \"[::]:80\""), "allowed: 1 to 16"));
  CHECK(contains(with("http", "listen = [\"a:1\", 2]"), "an entry that is no text"));
  CHECK(contains(with("http", "listen = [\"a:1\", \"a:1\"]"), "\"a:1\" twice"));
  for (const char* wrong : {"example.org", "https://", "https://example.org/", "https://Example.org", "://x", ""}) {
    CAPTURE(wrong);
    CHECK(contains(with("http", fmt::format("cors_origins = [\"{}\"]", wrong)), "http.cors_origins is"));
  }
  CHECK(contains(with("http", "cors_origins = [\"*\", \"https://example.org\"]"), "\"*\" and others"));
  CHECK(with("http", "cors_origins = []") == "");
  CHECK(contains(with("http", "hot_routes = \"fast\""), "allowed: \"direct\" or \"httplib\""));
  CHECK(contains(with("log", "debug = 1"), "allowed: true or false"));
}

TEST_CASE("values that do not fit each other are refused") {
  CHECK(refusal("[ring]\nlane_bytes = \"64KiB\"\n[pages]\npage_id_limit_bytes = 1024\n").empty());
  CHECK(contains(refusal("[http]\nhead_limit_bytes = 1024\n[pages]\npage_id_limit_bytes = 1024\n"),
                 "visitd.toml:2: http.head_limit_bytes is 1024, too small"));
  CHECK(contains(refusal("[http]\ntarget_limit_bytes = 1024\n"),
                 "visitd.toml:2: http.target_limit_bytes is 1024, too small for a page id of 1024 bytes; allowed: 3103 "
                 "or more, or a smaller pages.page_id_limit_bytes"));
  CHECK(refusal("[http]\ntarget_limit_bytes = 1024\n[pages]\npage_id_limit_bytes = 255\n").empty());
  CHECK(contains(refusal("[paths]\nruntime_directory = \"/a/b\"\nstate_directory = \"/a/./b/\"\n"),
                 "is the runtime directory"));
  CHECK(contains(refusal("[redis]\nbuckets = 1\n"), "fewer than the 2 shards"));
}

TEST_CASE("each shard may have a table of its own") {
  const Settings settings = load(R"(
[redis]
database = 7
password = "shared"

[[redis.shard]]
name = "west"
url = "redis://10.0.0.1:7070/3"
password = "own"

[[redis.shard]]
url = "redis://user@10.0.0.2:7071"

[[redis.shard]]
name = "near"
url = "unix:///run/redis.sock"
)");
  REQUIRE(settings.redis.shards.size() == 3);
  CHECK(settings.redis.shards[0].name == "west");
  CHECK(settings.redis.shards[0].database == 3);
  CHECK(settings.redis.shards[0].password == "own");
  CHECK(settings.redis.shards[1].name == "redis_7071");
  CHECK(settings.redis.shards[1].username == "user");
  CHECK(settings.redis.shards[1].password == "shared");
  CHECK(settings.redis.shards[1].database == 7);
  CHECK(settings.redis.shards[2].name == "near");
  CHECK(settings.redis.shards[2].unix_path == "/run/redis.sock");
}

TEST_CASE("a wrong table of a shard is refused with its line") {
  CHECK(contains(refusal("[[redis.shard]]\nurl = \"h:1\"\nnam = \"x\"\n"),
                 "visitd.toml:3: key 'nam' of a [[redis.shard]] is unknown; did you mean 'name'?"));
  CHECK(contains(refusal("[[redis.shard]]\nurl = 5\n"), "visitd.toml:2: 'url' of a [[redis.shard]] is 5"));
  CHECK(contains(refusal("\n[[redis.shard]]\nname = \"x\"\n"), "visitd.toml:2: this [[redis.shard]] has no 'url'"));
  CHECK(contains(refusal("[[redis.shard]]\nurl = \"unix:///s\"\n"), "visitd.toml:1: the shard at unix:///s"));
  CHECK(contains(refusal("[[redis.shard]]\nname = \"a b\"\nurl = \"h:1\"\n"), "the shard's name is \"a b\""));
  CHECK(contains(refusal("[redis.shard]\nurl = \"h:1\"\n"), "write [[redis.shard]]"));
  CHECK(
      contains(refusal("[redis]\nshards = [\"h:1\"]\n[[redis.shard]]\nurl = \"h:2\"\n"), "the shards are given twice"));
  CHECK(contains(refusal("[redis]\nshards = [\"redis://h:x\"]\n"),
                 "visitd.toml:2: 'redis://h:(hidden)' is not the address"));
  CHECK(contains(refusal("[redis]\nshards = []\n"), "allowed: 1 to 64"));
}

TEST_CASE("more shards than shared memory has room for are refused, however they are listed") {
  const auto list = [](unsigned shards) {
    std::string text = "[redis]\nshards = [";
    for (unsigned n = 0; n < shards; ++n) text += fmt::format("\"h:{}\", ", 7000 + n);
    return text + "]\n";
  };
  const auto tables = [](unsigned shards) {
    std::string text;
    for (unsigned n = 0; n < shards; ++n) text += fmt::format("[[redis.shard]]\nurl = \"h:{}\"\n", 7000 + n);
    return text;
  };
  CHECK(load(list(visitd::max_shards)).redis.shards.size() == visitd::max_shards);
  CHECK(load(tables(visitd::max_shards)).redis.shards.size() == visitd::max_shards);
  CHECK(contains(refusal(list(visitd::max_shards + 1)), "allowed: 1 to 64"));
  CHECK(contains(refusal(tables(visitd::max_shards + 1)), "this is shard 65 of 65, and visitd keeps at most 64 apart"));
}

TEST_CASE("two shards of one name or one place are refused") {
  CHECK(contains(refusal("[redis]\nshards = [\"a:7070\", \"b:7070\"]\n"), "two shards are called 'redis_7070'"));
  CHECK(contains(refusal("[[redis.shard]]\nurl = \"a:1\"\n[[redis.shard]]\nname = \"x\"\nurl = \"redis://A:1/0\"\n"),
                 "visitd.toml:3: two shards are redis://a:1/0"));
  CHECK(refusal("[redis]\nshards = [\"x=redis://a:1/0\", \"y=redis://a:1/1\"]\n") == "");
  CHECK(contains(refusal("[redis]\nshards = [\"x=127.0.0.1:1\", \"y=LOCALHOST:1\"]\n"),
                 "two shards are redis://127.0.0.1:1/0"));
  CHECK(contains(refusal("[redis]\nshards = [\"x=localhost:1\", \"y=[::1]:1\"]\n"),
                 "two shards are redis://127.0.0.1:1/0"));
  CHECK(contains(refusal("[redis]\nshards = [\"x=unix:///s\", \"y=unix:///s\"]\n"), "two shards are unix:///s"));
}

TEST_CASE("every key can be set from the environment, above the file") {
  for (const SettingDescription& key : visitd::describe_settings()) {
    const std::string name = key.environment.substr(0, key.environment.find(','));
    CAPTURE(name);
    // What no key allows: a number below or beyond its bounds, a text that is too long, a list with such an entry.
    const std::string wrong(5000, '9');
    const std::string message = refusal(name, wrong);
    if (key.key == "shards") {
      CHECK(contains(message, "too long"));
    } else if (key.key == "nodes") {
      CHECK(contains(message, "redis.nodes names nodes"));
    } else {
      CHECK(message.starts_with(fmt::format("environment variable {}: {}.{} is ", name, key.section, key.key)));
    }
  }
  const Environment environment{{"VISITD_RING_LANES", "3"},
                                {"VISITD_RING_LANE_BYTES", "1MiB"},
                                {"VISITD_HTTP_LISTEN", " 127.0.0.1:81 ,[::1]:82"},
                                {"VISITD_HTTP_CORS_ORIGINS", ""},
                                {"VISITD_HTTP_API_PREFIX", ""},
                                {"VISITD_CACHE_TTL_MS", ""},
                                {"VISITD_REDIS_ACCEPT_EVICTION", "True"}};
  const Settings settings = load("[ring]\nlanes = 5\n[cache]\nttl_ms = 70\n[http]\napi_prefix = \"/x\"\n");
  CHECK(settings.ring.lanes == 3);
  CHECK(settings.ring.lane_bytes == 1024 * 1024);
  CHECK(settings.http.listen == std::vector<std::string>{"127.0.0.1:81", "[::1]:82"});
  CHECK(settings.http.cors_origins.empty());
  CHECK(settings.http.api_prefix.empty());
  CHECK(settings.cache.ttl_ms == 70);
  CHECK(settings.redis.accept_eviction);
}

TEST_CASE("the original service's variables are understood") {
  const Environment environment{{"REDIS_NODES", "redis://redis1:7070,redis2:7071"},
                                {"REDIS_PASSWORD", "secret"},
                                {"REDIS_DB", "4"},
                                {"VIRTUAL_NODES", "50"},
                                {"BATCH_INTERVAL_SECONDS", "2.5"},
                                {"API_PREFIX", "/v2"},
                                {"DEBUG", "true"}};
  const Settings settings = load("[[redis.shard]]\nurl = \"elsewhere:1\"\n");
  REQUIRE(settings.redis.shards.size() == 2);
  CHECK(settings.redis.shards[0].host == "redis1");
  CHECK(settings.redis.shards[1].host == "redis2");
  CHECK(settings.redis.shards[1].port == 7071);
  for (const visitd::ShardSettings& shard : settings.redis.shards) {
    CHECK(shard.password == "secret");
    CHECK(shard.database == 4);
  }
  CHECK(settings.redis.virtual_nodes == 50);
  CHECK(settings.flusher.flush_interval_ms == 2500);
  CHECK(settings.http.api_prefix == "/v2");
  CHECK(settings.log.debug);
}

TEST_CASE("our own name of a variable stands above the original's") {
  const Environment environment{{"VIRTUAL_NODES", "50"}, {"VISITD_REDIS_VIRTUAL_NODES", "60"}};
  CHECK(load_settings("").redis.virtual_nodes == 60);
}

TEST_CASE("a bad variable is refused by its name") {
  CHECK(refusal("VISITD_RING_LANES", "65") ==
        "environment variable VISITD_RING_LANES: ring.lanes is 65; allowed: 1 to 64");
  CHECK(contains(refusal("VIRTUAL_NODES", "many"),
                 "environment variable VIRTUAL_NODES: redis.virtual_nodes is \"many\""));
  CHECK(contains(refusal("REDIS_DB", "-1"), "environment variable REDIS_DB: "));
  CHECK(contains(refusal("REDIS_NODES", "a:1,,b:2"), "environment variable REDIS_NODES: "));
  CHECK(contains(refusal("REDIS_NODES", "a:1,a:1"), "environment variable REDIS_NODES: two shards"));
  CHECK(
      contains(refusal("DEBUG", "loud"), "environment variable DEBUG: log.debug is \"loud\"; allowed: true or false"));
  CHECK(contains(refusal("API_PREFIX", "/x/"), "environment variable API_PREFIX: "));
  CHECK(refusal("VISITD_PATHS_STATE_DIRECTORY", "/\xE9") ==
        "environment variable VISITD_PATHS_STATE_DIRECTORY is not valid UTF-8");
  CHECK(refusal("REDIS_NODES", "a=unix:///\xE9") == "environment variable REDIS_NODES is not valid UTF-8");
  CHECK(refusal("REDIS_PASSWORD", "\xE9").empty());
  for (const char* wrong : {"-1", "x", "1e3", "nan", "inf", "1 s"}) {
    CAPTURE(wrong);
    CHECK(contains(refusal("BATCH_INTERVAL_SECONDS", wrong), "environment variable BATCH_INTERVAL_SECONDS is"));
  }
  CHECK(contains(refusal("BATCH_INTERVAL_SECONDS", "0"),
                 "environment variable BATCH_INTERVAL_SECONDS: flusher.flush_interval_ms is 0"));
  CHECK(contains(refusal("BATCH_INTERVAL_SECONDS", "100000"), "environment variable BATCH_INTERVAL_SECONDS: "));
}

TEST_CASE("a variable with our beginning that is no setting is refused, and not what a cluster sets for a service") {
  CHECK(contains(refusal("VISITD_RING_LANE", "3"), "VISITD_RING_LANE is unknown; did you mean 'VISITD_RING_LANES'?"));
  for (const char* name : {"VISITD_FOO", "VISITD_", "VISITD_LISTEN", "VISITD_SERVICE", "VISITD_PORT_TCP"}) {
    CAPTURE(name);
    CHECK(contains(refusal(name, "tcp"), fmt::format("environment variable {} is unknown", name)));
  }
  CHECK(contains(refusal("VISITD_PORT", "8000"), "environment variable VISITD_PORT is unknown"));
  CHECK(contains(refusal("VISITD_HTTP_PORT", "8000"), "environment variable VISITD_HTTP_PORT is unknown"));
  CHECK(refusal("VISITD", "1") == "");
  for (const char* name : {"VISITD_SERVICE_HOST", "VISITD_SERVICE_PORT", "VISITD_SERVICE_PORT_HTTP", "VISITD_PORT",
                           "VISITD_PORT_8000_TCP", "VISITD_PORT_8000_TCP_PROTO", "VISITD_PORT_8000_TCP_PORT",
                           "VISITD_PORT_8000_TCP_ADDR", "VISITD_HTTP_SERVICE_HOST", "VISITD_HTTP_PORT"}) {
    CAPTURE(name);
    CHECK(refusal(name, "tcp://10.96.0.17:8000") == "");
  }
}

TEST_CASE("a password may come from a file, of the settings, the environment or systemd") {
  const Scratch scratch;
  const std::string file = scratch.write("password", "from file\r\n");
  const std::string toml = scratch.write("visitd.toml", "[redis]\npassword_file = \"" + file + "\"\n");
  CHECK(load_settings(toml).redis.shards[0].password == "from file");
  {
    const Environment environment{{"REDIS_PASSWORD", "given"}};
    CHECK(load_settings(toml).redis.shards[0].password == "given");
  }
  {
    const Environment environment{{"REDIS_PASSWORD", ""}};
    CHECK(load_settings(toml).redis.shards[0].password.empty());
  }
  {
    const Environment environment{{"REDIS_PASSWORD_FILE", file}};
    CHECK(load_settings("").redis.shards[1].password == "from file");
    CHECK(load("[redis]\npassword = \"x\"\n").redis.shards[1].password == "from file");
  }
  {
    scratch.write("redis_password", "credential\n");
    const Environment environment{{"CREDENTIALS_DIRECTORY", scratch.path()}};
    CHECK(load_settings("").redis.shards[0].password == "credential");
    CHECK(load("[redis]\npassword = \"x\"\n").redis.shards[0].password == "x");
    CHECK(load_settings(toml).redis.shards[0].password == "from file");
    scratch.write("redis_password", "\n");  // a unit's way to say that there is none
    CHECK(load_settings("").redis.shards[0].password.empty());
  }
  const Scratch empty;
  const Environment environment{{"CREDENTIALS_DIRECTORY", empty.path()}};
  CHECK(load_settings("").redis.shards[0].password.empty());
  CHECK(load("[[redis.shard]]\nurl = \"h:1\"\npassword_file = \"" + file + "\"\n").redis.shards[0].password ==
        "from file");
}

TEST_CASE("a password knows what gave it") {
  const Scratch scratch;
  const std::string file = scratch.write("password", "from file\n");
  const auto place = [](const std::string& keys) { return load("[redis]\n" + keys).redis.shards[0].password_place; };
  CHECK(place("").empty());
  CHECK(place("password = \"x\"\n") == "redis.password");
  CHECK(place("password_file = \"" + file + "\"\n") == "redis.password_file (" + file + ")");
  CHECK(contains(place("shards = [\"redis://:x@h:1\"]\n"), "the shard's URL ("));
  CHECK(contains(place("[[redis.shard]]\nurl = \"h:1\"\npassword = \"x\"\n"), "password of "));
  CHECK(
      contains(place("[[redis.shard]]\nurl = \"h:1\"\npassword_file = \"" + file + "\"\n"), "password_file (" + file));
  const Environment environment{{"REDIS_PASSWORD", "x"}};
  CHECK(place("password = \"y\"\n") == "environment variable REDIS_PASSWORD");
  // Not what makes two shards different.
  visitd::ShardSettings moved = load("# none").redis.shards[0];
  moved.password_place = "elsewhere";
  CHECK(moved.has_same_credentials(load("# none").redis.shards[0]));
}

TEST_CASE("certificates and key come from files of the settings, of a shard's table, or from systemd") {
  const Scratch scratch;
  const std::string certificate = "-----BEGIN CERTIFICATE-----\n";
  const std::string key = "-----BEGIN PRIVATE KEY-----\n";
  const std::string files = "tls_ca_file = \"" + scratch.write("ca", certificate + "ca") +
                            "\"\ntls_certificate_file = \"" + scratch.write("certificate", certificate + "us") +
                            "\"\ntls_key_file = \"" + scratch.write("key", key) + "\"\n";
  const std::string over_tls = "shards = [\"rediss://h:1\", \"redis://h:2\"]\n";
  {
    const Settings settings = load("[redis]\n" + over_tls + files + "tls_server_name = \"counts.example\"\n");
    const visitd::ShardTls& tls = settings.redis.shards[0].tls;
    CHECK(tls.ca.text == certificate + "ca");
    CHECK(tls.ca.place == "redis.tls_ca_file (" + scratch.path() + "/ca)");
    CHECK(tls.certificate.text == certificate + "us");
    CHECK(tls.key.text == key);
    CHECK(tls.server_name == "counts.example");
    CHECK(settings.redis.shards[1].tls == visitd::ShardTls{});
    CHECK(settings.secret_files == std::vector<std::string>{scratch.path() + "/key"});
    const Settings again = load(to_toml(settings));
    CHECK(again.redis.shards[0].tls == tls);
    CHECK(to_toml(again) == to_toml(settings));
  }
  {
    const Settings settings = load("[redis]\n" + files + "[[redis.shard]]\nurl = \"rediss://h:1\"\ntls_ca_file = \"" +
                                   scratch.write("own", certificate + "own") +
                                   "\"\ntls_server_name = \"own.example\"\n[[redis.shard]]\nurl = \"rediss://h:2\"\n");
    CHECK(settings.redis.shards[0].tls.ca.text == certificate + "own");
    CHECK(settings.redis.shards[0].tls.key.text == key);
    CHECK(settings.redis.shards[0].tls.server_name == "own.example");
    CHECK(settings.redis.shards[1].tls.ca.text == certificate + "ca");
    CHECK(settings.redis.shards[1].tls.server_name.empty());
  }
  scratch.write("redis_tls_ca", certificate + "credential");
  scratch.write("redis_tls_certificate", "\n");  // a unit's way to say that there is none
  scratch.write("redis_tls_key", "\n");
  const Environment environment{{"CREDENTIALS_DIRECTORY", scratch.path()}};
  {
    const visitd::ShardTls tls = load("[redis]\n" + over_tls).redis.shards[0].tls;
    CHECK(tls.ca.text == certificate + "credential");
    CHECK(tls.ca.place == "the credential redis_tls_ca");
    CHECK(tls.certificate == visitd::FileText{});
    CHECK(tls.key.place.empty());
    CHECK(load("[redis]\n" + over_tls + files).redis.shards[0].tls.ca.text == certificate + "ca");
  }
  scratch.write("redis_tls_key", key);
  CHECK(contains(refusal("[redis]\n" + over_tls), "the credential redis_tls_key is given without its certificate"));
}

TEST_CASE("the variable of the environment may name sentinels, between other shards") {
  const Environment environment{
      {"VISITD_REDIS_SHARDS",
       "a=redis://h:1, b=sentinel://s1,s2:7,s3/counts ,c=sentinels://s1,s2/others/2,redis://h:2"}};
  const Settings settings = load_settings("");
  REQUIRE(settings.redis.shards.size() == 4);
  CHECK(settings.redis.shards[1].sentinels.addresses.size() == 3);
  CHECK(settings.redis.shards[1].sentinels.primary == "counts");
  CHECK(settings.redis.shards[2].name == "c");
  CHECK(settings.redis.shards[2].sentinels.addresses.size() == 2);
  CHECK(settings.redis.shards[2].database == 2);
  CHECK(settings.redis.shards[3].port == 2);
}

TEST_CASE("the password of sentinels comes from a file, of all shards or of one, or from systemd") {
  const Scratch scratch;
  const std::string file = scratch.write("password", "sesame\n");
  const std::string address = "shards = [\"a=sentinel://s1/counts\"]\n";
  const std::string keys = "sentinel_username = \"visitd\"\nsentinel_password_file = \"" + file + "\"\n";
  const Settings settings = load("[redis]\n" + address + keys);
  CHECK(settings.redis.shards[0].sentinels.username == "visitd");
  CHECK(settings.redis.shards[0].sentinels.password.text == "sesame");
  CHECK(settings.secret_files == std::vector<std::string>{file});
  CHECK(to_toml(load(to_toml(settings))) == to_toml(settings));
  CHECK(load("[redis]\n" + address + keys, Secrets::leave).redis.shards[0].sentinels.password.text.empty());
  const Settings own = load("[[redis.shard]]\nname = \"a\"\nurl = \"sentinel://s1/counts\"\n" + keys);
  CHECK(own.redis.shards[0].sentinels.password.text == "sesame");
  CHECK(contains(refusal("[redis]\n" + keys), "redis.sentinel_username is set"));
  CHECK(contains(refusal("[[redis.shard]]\nurl = \"h:1\"\n" + keys), "sentinel://"));
  CHECK(contains(refusal("[redis]\nshards = [\"sentinel://s1/counts\"]\n"), "needs a name"));
  scratch.write("redis_sentinel_password", "credential\n");
  const Environment environment{{"CREDENTIALS_DIRECTORY", scratch.path()}};
  const auto with_credential = load("[redis]\n" + address).redis.shards[0].sentinels.password;
  CHECK(with_credential.text == "credential");
  CHECK(with_credential.place == "the credential redis_sentinel_password");
}

TEST_CASE("settings of TLS for shards that are not reached over it are refused, whoever reads them") {
  const auto with = [](const std::string& keys) { return refusal("[redis]\n" + keys); };
  for (const char* key : {"tls_ca_file", "tls_certificate_file", "tls_key_file", "tls_server_name"}) {
    CHECK(contains(with(fmt::format("{} = \"/x\"\nshards = [\"redis://h:1\"]\n", key)),
                   key == std::string("tls_server_name") ? "allowed" : "rediss://"));
    CHECK(contains(with(fmt::format("[[redis.shard]]\nurl = \"redis://h:1\"\n{} = \"/x\"\n", key)),
                   key == std::string("tls_server_name") ? "allowed" : "rediss://"));
  }
  CHECK(contains(with("tls_server_name = \"a.example\"\n"), "visitd.toml:2: redis.tls_server_name is set"));
  CHECK(contains(with("[[redis.shard]]\nurl = \"h:1\"\ntls_server_name = \"a.example\"\n"), "rediss://"));
  CHECK(contains(with("[[redis.shard]]\nurl = \"rediss://h:1\"\ntls_key_file = \"relative\"\n"), "an absolute path"));
}

TEST_CASE("a password that cannot be had, or is given twice, is refused without being shown") {
  const Scratch scratch;
  const auto with = [](const std::string& keys) { return refusal("[redis]\n" + keys); };
  CHECK(contains(with("password_file = \"/nonexistent/file\"\n"),
                 "visitd.toml:2: cannot open the password file '/nonexistent/file'"));
  CHECK(contains(with("password_file = \"relative\"\n"), "an absolute path"));
  CHECK(contains(with("password_file = \"" + scratch.write("empty", "\n") + "\"\n"), "is empty"));
  CHECK(contains(with("password_file = \"" + scratch.write("nul", std::string("a\0b", 3)) + "\"\n"), "holds a NUL"));
  CHECK(contains(with("password_file = \"" + scratch.write("long", std::string(1000, 'a')) + "\"\n"), "larger than"));
  const std::vector<std::string> twice = {
      "password = \"topsecret\"\npassword_file = \"/x\"\n",
      "[[redis.shard]]\nurl = \"redis://:topsecret@h:1\"\npassword = \"topsecret\"\n",
      "[[redis.shard]]\nurl = \"redis://:topsecret@h:1\"\npassword_file = \"/x\"\n",
      "[[redis.shard]]\nurl = \"redis://h:1\"\npassword_file = \"/x\"\npassword = \"topsecret\"\n"};
  for (const std::string& keys : twice) {
    const std::string message = with(keys);
    CHECK(contains(message, "given"));
    CHECK_FALSE(contains(message, "topsecret"));
  }
  CHECK_FALSE(contains(with("password = \"topsecret" + std::string(600, 'x') + "\"\n"), "topsecret"));
  CHECK_FALSE(contains(with("shards = [\"redis://:topsecret@h:x\"]\n"), "topsecret"));
  CHECK_FALSE(contains(with("shards = [\"redis://:topsecret@h:1\", \"redis://:topsecret@h:1\"]\n"), "topsecret"));
  CHECK(contains(with("shards = [\"redis://:topsecret@h:1\", \"redis://:topsecret@h:1\"]\n"),
                 "two shards are called 'redis_1'"));
}

TEST_CASE("a program that leaves passwords alone opens no file of them and holds none") {
  const Settings settings =
      load("[redis]\npassword_file = \"/nonexistent/file\"\n[[redis.shard]]\nurl = \"redis://user:secret@h:1\"\n",
           Secrets::leave);
  CHECK(settings.redis.shards[0].password.empty());
  CHECK(settings.redis.shards[0].username == "user");
  CHECK(load("[redis]\npassword = \"secret\"\n", Secrets::leave).redis.shards[0].password.empty());
}

TEST_CASE("written settings read as the same settings, and show no password") {
  const std::string full = R"(
[paths]
runtime_directory = "/tmp/a \"quoted\" \\ path\tü"
[pages]
page_id_limit_bytes = 1024
[ring]
lanes = 3
lane_bytes = "2MiB"
[cache]
entries = 100
[http]
listen = ["127.0.0.1:1", "[::1]:2"]
api_prefix = ""
cors_origins = []
hot_routes = "httplib"
[flusher]
keep_batches_bytes = 1025
[redis]
password = "topsecret"
database = 5
accept_no_append_only = true
[[redis.shard]]
name = "a"
url = "redis://us%40er:topsecret@[::1]:7070/0"
[[redis.shard]]
name = "b"
url = "unix:///run/redis.sock"
[log]
debug = true
)";
  const Settings settings = load(full);
  REQUIRE(settings.redis.shards[1].password == "topsecret");
  const std::string written = to_toml(settings);
  CHECK_FALSE(contains(written, "topsecret"));
  CHECK(contains(written, "# password = \"(hidden)\""));
  const Settings again = load(written);
  CHECK(again.paths.runtime_directory == settings.paths.runtime_directory);
  CHECK(again.http.listen == settings.http.listen);
  CHECK(again.flusher.keep_batches_bytes == 1025);
  CHECK(again.redis.shards[0].username == "us@er");
  CHECK(again.redis.shards[0].database == 0);
  CHECK(again.redis.shards[1].database == 5);
  CHECK(again.redis.shards[1].unix_path == "/run/redis.sock");

  const Settings bare = load(full, Secrets::leave);
  CHECK(to_toml(load(to_toml(bare))) == to_toml(bare));
  for (const SettingDescription& key : visitd::describe_settings()) CHECK(contains(written, key.key));
}

TEST_CASE("the help names every key with default, bounds and environment") {
  const std::string help = visitd::settings_help();
  for (const SettingDescription& key : visitd::describe_settings()) {
    CHECK(contains(help, fmt::format("{} = {}\n", key.key, key.default_value)));
    CHECK(contains(help, key.allowed));
    CHECK(contains(help, key.environment));
    CHECK(contains(help, "Takes effect " + key.takes_effect));
    CHECK_FALSE(key.help.empty());
  }
}

TEST_CASE(
    "deploy/visitd.toml names every key at its default, and reads as the defaults when nothing is commented out") {
  const std::string example = read_source("deploy/visitd.toml");
  std::string active;
  for (const std::string& line : lines_of(example)) {
    const bool key = line.size() > 1 && line[0] == '#' && line[1] >= 'a' && line[1] <= 'z';
    active += (key ? line.substr(1) : line) + "\n";
  }
  for (const SettingDescription& key : visitd::describe_settings()) {
    const std::string line = fmt::format("#{} = {}", key.key, key.default_value);
    const std::vector<std::string> section = section_of(example, fmt::format("[{}]", key.section), "[");
    CHECK_MESSAGE(std::find(section.begin(), section.end(), line) != section.end(),
                  "deploy/visitd.toml lacks in [" << key.section << "]: " << line);
  }
  CHECK(to_toml(load(active)) == to_toml(load_settings("")));
  CHECK(to_toml(load(example)) == to_toml(load_settings("")));
}

TEST_CASE("a cluster has nodes instead of shards") {
  const Settings settings = load(R"(
[redis]
mode = "cluster"
nodes = ["10.0.0.1:7001", "redis://user@node.test", "redis://[::1]:7003/0"]
password = "shared"
)");
  CHECK(settings.redis.mode == RedisMode::cluster);
  REQUIRE(settings.redis.shards.size() == 3);
  CHECK(settings.redis.shards[0].name == "10.0.0.1:7001");
  CHECK(settings.redis.shards[0].password == "shared");
  CHECK(settings.redis.shards[0].in_cluster);
  CHECK(settings.redis.shards[1].name == "node.test:6379");
  CHECK(settings.redis.shards[1].username == "user");
  CHECK(settings.redis.shards[2].name == "[::1]:7003");
  CHECK_FALSE(load("# none").redis.shards[0].in_cluster);

  CHECK(contains(refusal("[redis]\nmode = \"other\"\n"), "\"shards\" or \"cluster\""));
  CHECK(contains(refusal("[redis]\nmode = \"cluster\"\n"), "redis.mode is \"cluster\", and redis.nodes"));
  CHECK(contains(refusal("[redis]\nnodes = [\"h:1\"]\n"), "redis.nodes names nodes"));
  const std::string cluster = "[redis]\nmode = \"cluster\"\n";
  const std::string node = "nodes = [\"h:1\"]\n";
  CHECK(contains(refusal(cluster + node + "shards = [\"h:2\"]\n"), "visitd.toml:4: shards are named"));
  CHECK(contains(refusal(cluster + node + "[[redis.shard]]\nurl = \"h:2\"\n"), "visitd.toml:4: shards are named"));
  CHECK(contains(refusal(cluster + node + "database = 3\n"), "redis.database is 3"));
  CHECK(contains(refusal(cluster + "nodes = [\"redis://h:1/3\"]\n"), "the node has database 3"));
  CHECK(contains(refusal(cluster + "nodes = [\"unix:///s\"]\n"), "the node is the Unix socket"));
  CHECK(contains(refusal(cluster + "nodes = [\"h:1\", \"h:1\"]\n"), "two shards are called 'h:1'"));
}
