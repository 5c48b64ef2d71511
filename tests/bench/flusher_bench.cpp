// What the flusher costs: applying visits, a warm read of a count, a flush of 100,000 and of 1,000,000 pages to two
// shards beside HINCRBY of the same pages through bare hiredis (in turn in one run), a broken connection, and the start
// with 1,000,000 pages pending in the spool, and with 256 MiB of kept batches. Lines of "name value unit". usage:
// flusher-bench VISIT_FLUSHER
#include <hiredis/hiredis.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "common/config/settings.hpp"
#include "common/counter/count_reader.hpp"
#include "common/os/clock.hpp"
#include "common/os/errors.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/lane.hpp"
#include "common/shm/page_id.hpp"
#include "common/shm/ring.hpp"
#include "ctl/control_client.hpp"
#include "flusher/counting/batches.hpp"
#include "flusher/counting/drain.hpp"
#include "flusher/counting/placement.hpp"
#include "flusher/spool/spool.hpp"
#include "tests/unit/flusher/redis_server.hpp"
#include "tests/unit/temporary_folder.hpp"

extern char** environ;

namespace {

using namespace visitd;

constexpr std::size_t runs = 5;
constexpr std::uint32_t buckets = 8192;
constexpr std::size_t pipeline_depth = 1000;

void print(const char* name, double value, const char* unit) {
  std::printf("%-58s %12.2f %s\n", name, value, unit);
  std::fflush(stdout);
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

double seconds_since(std::uint64_t start_ns) {
  return static_cast<double>(monotonic_ns() - start_ns) / 1e9;
}

std::vector<std::string> page_names(std::size_t count) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) names.push_back(fmt::format("article/{}", i));
  return names;
}

// ---- apply and read, in memory

struct alignas(cache_line_bytes) Line {
  std::array<Word, 8> words{};
};

/// One lane and a cache in plain memory.
class Memory {
 public:
  Memory(std::size_t lane_bytes, std::uint32_t entries)
      : records_(lane_bytes / 8),
        requests_(request_bytes / 8),
        shape_{1, entries, buckets, max_page_id_bytes},
        cache_(shape_.bytes() / sizeof(Line) + 1) {
    memory_.hash_seed = 42;
    memory_.lanes.push_back({&tail_.word, &requests_tail_.word, records_, requests_});
    memory_.cache = reinterpret_cast<CacheHeader*>(cache_.data());
    auto* const start = reinterpret_cast<std::byte*>(cache_.data());
    memory_.views = {ViewMemory{shape_, start + shape_.view_offset(0)},
                     ViewMemory{shape_, start + shape_.view_offset(1)}};
  }
  [[nodiscard]] const CountingMemory& memory() const noexcept { return memory_; }
  [[nodiscard]] LaneProducer producer() { return {tail_.word, records_, &memory_.cache->head[0].word}; }
  [[nodiscard]] Backlog::Lane seen() { return {&tail_.word, LaneRecords(std::span<const Word>(records_))}; }

 private:
  LonelyWord tail_;
  LonelyWord requests_tail_;
  std::vector<Word> records_;
  std::vector<Word> requests_;
  CacheShape shape_;
  std::vector<Line> cache_;
  CountingMemory memory_;
};

/// Millions of visits a second, to `pages` pages that each have an entry if `with_entries`.
double apply_rate(std::size_t pages, std::size_t visits, bool with_entries) {
  Memory memory(128U << 20U, 65536);
  FlusherView view(memory.memory().views[1]);
  view.clear(std::vector<std::uint64_t>{0});
  PendingSeries pending;
  Drain drain(memory.memory(), view, pending, {buckets, 255, 42, std::uint64_t{4} << 30U},
              FlusherStatistics(memory.memory().cache->statistics),
              [&](std::uint32_t page) { pending[page].in_bucket = true; });
  const std::vector<std::string> names = page_names(pages);
  std::vector<std::uint64_t> hashes;
  for (const std::string& name : names) hashes.push_back(page_hash(name, 42));
  if (with_entries) {
    for (std::size_t i = 0; i < pages; ++i) {
      const std::uint32_t number = pending.insert(hashes[i], names[i], page_bucket(names[i], buckets));
      pending[number].node = view.link(hashes[i], names[i], 0, 0, 0, 0);
    }
  }
  LaneProducer producer = memory.producer();
  std::uint64_t random = 88172645463325252U;
  for (std::size_t i = 0; i < visits; ++i) {
    random ^= random << 13U;
    random ^= random >> 7U;
    random ^= random << 17U;
    const std::size_t page = pages == visits ? i : random % pages;
    if (producer.publish(RecordKind::visit, names[page], 1, 0, hashes[page]) == Published::full)
      throw Error("the lane is too small");
  }
  const std::uint64_t start = monotonic_ns();
  while (drain.run()) {
    if (pending.unspooled_is_full()) pending.take_unspooled([](const SeriesVisits&) {});
  }
  if (!drain.is_empty() || !drain.take_damage().empty()) throw Error("not all of the lane was applied");
  return static_cast<double>(visits) / seconds_since(start) / 1e6;
}

double warm_read_ns() {
  Memory memory(1U << 20U, 65536);
  FlusherView view(memory.memory().views[1]);
  view.clear(std::vector<std::uint64_t>{0});
  memory.memory().cache->active.word.store(1);
  const std::vector<std::string> names = page_names(1000);
  for (const std::string& name : names) view.link(page_hash(name, 42), name, 1, 1, 0, 0);
  const Word superseded{0};
  CountReader reader({memory.seen()}, superseded, 4096);
  reader.follow({memory.memory().cache, memory.memory().cache->head, memory.memory().views, {}});
  constexpr std::size_t reads = 5'000'000;
  std::uint64_t sum = 0;
  const std::uint64_t start = monotonic_ns();
  for (std::size_t i = 0; i < reads; ++i) {
    const std::string& name = names[i % names.size()];
    const std::uint64_t hash = page_hash(name, 42);
    const CountReader::Reading reading = reader.read(hash, name, 0);
    if (reading.kind != CountReader::Kind::fresh) throw Error("an entry is missing");
    sum += reading.count;
  }
  const double each = seconds_since(start) * 1e9 / reads;
  if (sum != reads) throw Error("a read was wrong");
  return each;
}

// ---- real processes

/// A visit-flusher of its own, killed when it goes.
class FlusherProgram {
 public:
  FlusherProgram(const std::string& program, const std::string& config) {
    const char* const arguments[] = {program.c_str(), "--config", config.c_str(), nullptr};
    if (posix_spawn(&process_, program.c_str(), nullptr, nullptr, const_cast<char* const*>(arguments), environ) != 0) {
      throw error("{} cannot be started", program);
    }
  }
  FlusherProgram(const FlusherProgram&) = delete;
  FlusherProgram& operator=(const FlusherProgram&) = delete;
  [[nodiscard]] double peak_bytes() const {
    std::ifstream status(fmt::format("/proc/{}/status", process_));
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) * 1024;
    }
    throw Error("the kernel does not say how much memory the flusher had");
  }
  ~FlusherProgram() {
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
  }

 private:
  pid_t process_ = -1;
};

void wait_until(const char* what, const std::function<bool()>& condition) {
  for (int tries = 0; tries < 60'000; ++tries) {
    if (condition()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  throw error("{}: not within 60 s", what);
}

/// A ring in a runtime directory, of which this process is the only producer.
class Host {
 public:
  Host(const std::string& program, const std::vector<std::string>& shards)
      : program_(program), directory_(folder_.path() + "/run") {
    config_ = folder_.path() + "/visitd.toml";
    std::ofstream(config_) << fmt::format(
        "[paths]\nruntime_directory = \"{0}/run\"\nstate_directory = \"{0}/state\"\n[ring]\nlanes = 1\nlane_bytes = "
        "\"64MiB\"\n"
        "[flusher]\nflush_interval_ms = 3600000\nmemory_limit_bytes = \"2GiB\"\n[redis]\nshards = "
        "[\"{1}\"]\n",
        folder_.path(), fmt::join(shards, "\", \""));
    directory_.ensure();
    const FileIdentity lock = ensure_lock_file(directory_.lane_lock(0));
    ring_.emplace(Ring::make({1, 64U << 20U, max_page_id_bytes}, {&lock, 1}));
    directory_.note_rings({ring_->note()});
    producer_.emplace(ring_->lane(0).tail.word, ring_->records(0), nullptr);
  }
  ~Host() {
    ring_->segment().remove();
    if (cache_) cache_->segment().remove();
  }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  void start() {
    const std::uint64_t before = shown();
    flusher_.reset();
    flusher_ = std::make_unique<FlusherProgram>(program_, config_);
    wait_until("the flusher shows its view", [&] { return shown() > before; });
    producer_->attach_head(&cache_->header().head[0].word);
  }
  void kill() { flusher_.reset(); }
  /// The most memory that the flusher ever had, bytes.
  [[nodiscard]] double peak_bytes() const { return flusher_->peak_bytes(); }
  [[nodiscard]] std::string state_directory() const { return folder_.path() + "/state"; }

  [[nodiscard]] ShardState shard() const { return static_cast<ShardState>(cache_->header().shard[0].state.load()); }

  void publish(const std::vector<std::string>& pages) {
    for (const std::string& page : pages) {
      const std::uint64_t hash = page_hash(page, ring_->hash_seed());
      wait_until("the lane has room", [&] {
        return producer_->publish(RecordKind::visit, page, 1, unix_seconds(), hash) == Published::published;
      });
    }
    wait_until("all is durable", [&] { return cache_->header().head[0].word.load() == producer_->tail(); });
  }

  void flush() { static_cast<void>(ask_flusher(directory_.control_socket(), {ControlCommand::flush, "", 60'000})); }

 private:
  std::uint64_t shown() {
    if (!cache_) {
      const auto note = directory_.cache();
      if (!note) return 0;
      auto attached = Cache::attach(*note, SharedSegment::Access::read_write);
      if (auto* cache = std::get_if<Cache>(&attached)) cache_.emplace(std::move(*cache));
    }
    return cache_ ? cache_->header().active.word.load() : 0;
  }

  std::string program_;
  test::TemporaryFolder folder_;
  RuntimeDirectory directory_;
  std::string config_;
  std::optional<Ring> ring_;
  std::optional<Cache> cache_;
  std::optional<LaneProducer> producer_;
  std::unique_ptr<FlusherProgram> flusher_;
};

struct FreeContext {
  void operator()(redisContext* context) const noexcept { redisFree(context); }
};
using Context = std::unique_ptr<redisContext, FreeContext>;

/// HINCRBY of these pages, 1,000 in a pipeline: written here, read by read_replies.
void write_pipeline(redisContext* shard, std::span<const std::string* const> pages) {
  for (const std::string* page : pages) {
    redisAppendCommand(shard, "HINCRBY plain:{%u} %b 1", page_bucket(*page, buckets), page->data(), page->size());
  }
  int written = 0;
  while (written == 0 && redisBufferWrite(shard, &written) == REDIS_OK) {
  }
}

void read_replies(redisContext* shard, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    void* reply = nullptr;
    if (redisGetReply(shard, &reply) != REDIS_OK) throw error("HINCRBY: {}", shard->errstr);
    freeReplyObject(reply);
  }
}

using PagesOfShards = std::vector<std::vector<const std::string*>>;

/// One shard after the other, as a plain blocking client does it.
void hincrby_in_turn(const std::vector<Context>& shards, const PagesOfShards& pages) {
  for (std::size_t s = 0; s < shards.size(); ++s) {
    for (std::size_t from = 0; from < pages[s].size(); from += pipeline_depth) {
      const auto part = std::span(pages[s]).subspan(from, std::min(pipeline_depth, pages[s].size() - from));
      write_pipeline(shards[s].get(), part);
      read_replies(shards[s].get(), part.size());
    }
  }
}

/// Both servers work at once: more than a plain client does.
void hincrby_at_once(const std::vector<Context>& shards, const PagesOfShards& pages) {
  std::size_t longest = 0;
  for (const auto& of_shard : pages) longest = std::max(longest, of_shard.size());
  for (std::size_t from = 0; from < longest; from += pipeline_depth) {
    const auto part = [&](std::size_t s) {
      const std::size_t begin = std::min(from, pages[s].size());
      return std::span(pages[s]).subspan(begin, std::min(pipeline_depth, pages[s].size() - begin));
    };
    for (std::size_t s = 0; s < shards.size(); ++s) write_pipeline(shards[s].get(), part(s));
    for (std::size_t s = 0; s < shards.size(); ++s) read_replies(shards[s].get(), part(s).size());
  }
}

/// Commands that clients sent since the server's statistics were reset. What scripts call is counted there too: HMGET,
/// which is sent by nobody.
std::uint64_t commands_of(const test::RedisServer& server) {
  std::istringstream statistics(server.ask({"INFO", "commandstats"}));
  std::uint64_t commands = 0;
  for (std::string line; std::getline(statistics, line);) {
    const std::size_t calls = line.find("calls=");
    if (calls != std::string::npos && !line.starts_with("cmdstat_hmget:"))
      commands += std::stoull(line.substr(calls + 6));
  }
  return commands;
}

/// A shard with all buckets: its connection is broken, until the shard is up again.
void bench_reconnect(const std::string& program) {
  const test::RedisServer server;
  Host host(program, {fmt::format("redis://127.0.0.1:{}", server.port())});
  host.start();
  host.publish(page_names(100'000));
  host.flush();
  std::vector<double> times;
  std::uint64_t commands = 0;
  for (std::size_t run = 0; run < runs; ++run) {
    // A connection that broke within redis.reconnect_interval_ms is not tried again at once.
    std::this_thread::sleep_for(std::chrono::seconds(1));
    static_cast<void>(server.ask({"CONFIG", "RESETSTAT"}));
    const std::uint64_t start = monotonic_ns();
    static_cast<void>(server.ask({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}));
    wait_until("the connection is broken", [&] { return host.shard() != ShardState::up; });
    wait_until("the shard is up", [&] { return host.shard() == ShardState::up; });
    times.push_back(seconds_since(start) * 1e3);
    commands = std::max(commands, commands_of(server) - 2);  // without CONFIG and CLIENT
  }
  print("a broken connection, until 8,192 written buckets are up (at most 200)", median(times), "ms");
  print("... commands for it (at most 20)", static_cast<double>(commands), "commands");
}

void bench_flush(const std::string& program, std::size_t page_count) {
  const std::array<test::RedisServer, 2> servers;
  std::vector<std::string> urls;
  std::vector<std::string> names;
  std::vector<Context> contexts;
  for (const test::RedisServer& server : servers) {
    urls.push_back(fmt::format("redis://127.0.0.1:{}", server.port()));
    names.push_back(fmt::format("redis_{}", server.port()));
    contexts.emplace_back(redisConnect("127.0.0.1", server.port()));
  }
  const std::vector<std::uint32_t> placement = place_on_circle(names, 100, buckets);
  const std::vector<std::string> pages = page_names(page_count);
  Host host(program, urls);
  host.start();
  PagesOfShards of_shards(contexts.size());
  for (const std::string& page : pages) of_shards[placement[page_bucket(page, buckets)]].push_back(&page);
  std::vector<double> flushes;
  std::vector<double> in_turn;
  std::vector<double> at_once;
  const auto timed = [](std::vector<double>& to, const auto& work) {
    const std::uint64_t start = monotonic_ns();
    work();
    to.push_back(seconds_since(start) * 1e3);
  };
  for (std::size_t run = 0; run <= runs; ++run) {
    host.publish(pages);
    timed(flushes, [&] { host.flush(); });
    timed(in_turn, [&] { hincrby_in_turn(contexts, of_shards); });
    timed(at_once, [&] { hincrby_at_once(contexts, of_shards); });
    if (run != 0) continue;  // fields are made in the first, changed in the others
    flushes.clear();
    in_turn.clear();
    at_once.clear();
  }
  const std::string what = fmt::format("flush of {} pages to two shards", page_count);
  print(what.c_str(), median(flushes), "ms");
  print("... HINCRBY of them, 1,000 in a pipeline", median(in_turn), "ms");
  print("... flush / HINCRBY (at most 1.5)", median(flushes) / median(in_turn), "x");
  print("... flush / HINCRBY on both shards at once", median(flushes) / median(at_once), "x");
}

void bench_start(const std::string& program) {
  Host host(program, {"redis://127.0.0.1:1"});  // nobody listens: everything stays pending
  host.start();
  host.publish(page_names(1'000'000));
  std::vector<double> starts;
  for (std::size_t run = 0; run < 3; ++run) {
    host.kill();
    const std::uint64_t start = monotonic_ns();
    host.start();
    starts.push_back(seconds_since(start));
  }
  print("start with 1,000,000 pages pending, until its view is shown (at most 2)", median(starts), "s");
}

/// A spool of batches that were answered, as large as they may become by default.
void bench_kept(const std::string& program) {
  constexpr double limit = 256.0 * 1024 * 1024;
  constexpr std::size_t pages_a_batch = 100;
  Host host(program, {"redis://127.0.0.1:1"});
  host.start();
  host.kill();
  {
    Spool spool(host.state_directory());
    const Incarnation incarnation = spool.load().incarnation;
    const std::vector<std::string> names = page_names(pages_a_batch);
    Batch batch;
    for (const std::string& name : names) batch.effects.push_back({name, 1});
    const std::size_t bytes = encode_effects(batch.effects).size() + Batches::bytes_beside_effects;
    const std::size_t rounds = static_cast<std::size_t>(limit) / bytes / buckets;
    for (std::uint64_t seq = 1; seq <= rounds; ++seq) {
      Transaction sealed;
      Transaction answered;
      answered.answered_at = unix_seconds();
      for (std::uint32_t bucket = 0; bucket < buckets; ++bucket) {
        batch.bucket = bucket;
        batch.expected = seq == 1 ? "" : to_text({incarnation, seq - 1, 0});
        batch.mark = {incarnation, seq, 0};
        sealed.sealed.push_back(batch);
        answered.answered.push_back({bucket, seq, to_text(batch.mark)});
      }
      spool.apply(sealed);
      spool.apply(answered);
    }
  }
  const std::uint64_t start = monotonic_ns();
  host.start();
  print("start with 256 MiB of kept batches, until its view is shown", seconds_since(start), "s");
  print("... most memory, of 256 MiB (at most 1.3)", host.peak_bytes() / limit, "x");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: flusher-bench VISIT_FLUSHER\n", stderr);
    return 2;
  }
  try {
    print("apply, 1,000 pages with entries (at least 5)", apply_rate(1000, 2'000'000, true), "million visits/s");
    print("apply, 1,000 pages without entries", apply_rate(1000, 2'000'000, false), "million visits/s");
    print("apply, 1,000,000 distinct pages (at least 1)", apply_rate(1'000'000, 1'000'000, false), "million visits/s");
    print("warm read of a count, empty backlog (at most 150)", warm_read_ns(), "ns");
    bench_flush(argv[1], 100'000);
    bench_flush(argv[1], 1'000'000);
    bench_reconnect(argv[1]);
    bench_start(argv[1]);
    bench_kept(argv[1]);
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "flusher-bench: %s\n", failure.what());
    return 1;
  }
  return 0;
}
