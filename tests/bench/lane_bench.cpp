// What a record costs through a lane, beside boost's spsc_queue of the same bytes of capacity: publish + apply of one
// record with producer and consumer on two cores, in turn in one run, with a consumer that spins or rests; and a
// publish with a quiet consumer. Lines of "name value unit"; ratios above 1 are in the lane's favour.
//
// Equal on both sides: pages, hashes made beforehand, the counter that applies, cores, rests, memory touched
// beforehand. Different: the lane's records are as long as their page and lie in a ring segment that the consumer has
// attached read-only; the queue's records have a fixed size, for the longest page that the default setting allows.
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/lockfree/spsc_queue.hpp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/os/clock.hpp"
#include "common/os/errors.hpp"
#include "common/shm/lane.hpp"
#include "common/shm/page_id.hpp"
#include "common/shm/ring.hpp"

namespace {

using namespace visitd;

constexpr std::uint64_t capacity_bytes = 32U << 20U;
constexpr std::size_t page_limit = 255;
constexpr std::size_t pages = 1000;
constexpr std::size_t runs = 5;
constexpr std::uint64_t burst_bytes = 32U << 10U;
constexpr std::uint64_t prefetch_bytes = 1U << 10U;

struct FixedRecord {
  std::uint64_t page_hash;
  std::uint32_t visits;
  std::uint32_t time;
  std::uint16_t page_length;
  char page[page_limit];
};

struct Page {
  std::string id;
  std::uint64_t hash;
};

std::vector<Page> make_pages() {
  std::vector<Page> made;
  for (std::size_t i = 0; i < pages; ++i) {
    std::string id = fmt::format("/articles/{}", i * 7919);
    const std::uint64_t hash = page_hash(id, 42);
    made.push_back({std::move(id), hash});
  }
  return made;
}

/// Counts visits of pages: open addressing by hash, never more than half full.
class VisitCounter {
 public:
  void apply(std::uint64_t hash, std::string_view page, std::uint32_t visits) noexcept {
    for (std::uint64_t i = hash;; ++i) {
      Slot& slot = slots_[i & (slots_.size() - 1)];
      if (slot.visits == 0) {
        slot.hash = hash;
        slot.length = page.size();
        std::memcpy(slot.page, page.data(), page.size());
      } else if (slot.hash != hash || std::string_view(slot.page, slot.length) != page) {
        continue;
      }
      slot.visits += visits;
      return;
    }
  }
  [[nodiscard]] std::uint64_t total() const noexcept {
    std::uint64_t sum = 0;
    for (const Slot& slot : slots_) sum += slot.visits;
    return sum;
  }

 private:
  struct Slot {
    std::uint64_t hash = 0;
    std::uint64_t visits = 0;
    std::size_t length = 0;
    char page[page_limit];
  };
  std::vector<Slot> slots_ = std::vector<Slot>(2048);
};

void pin_to(int core) {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(core, &cores);
  if (const int failure = pthread_setaffinity_np(pthread_self(), sizeof cores, &cores); failure != 0) {
    errno = failure;
    throw system_error("core {} cannot be had; the benchmark needs two", core);
  }
}

void rest(std::uint64_t ns) {
  if (ns == 0) return;
  const timespec time{0, static_cast<long>(ns)};
  nanosleep(&time, nullptr);
}

void wait_for(const std::atomic<bool>& go) {
  while (!go.load(std::memory_order_acquire)) {
  }
}

/// Runs both ends on their cores and returns the nanoseconds from the first record to the last one applied.
template <typename Produce, typename Consume>
std::uint64_t time_both(Produce produce, Consume consume) {
  std::atomic<bool> go{false};
  std::uint64_t done = 0;
  std::thread consumer([&] {
    pin_to(1);
    wait_for(go);
    consume();
    done = monotonic_ns();
  });
  std::uint64_t start = 0;
  std::thread producer([&] {
    pin_to(0);
    rest(1'000'000);  // the consumer is up
    start = monotonic_ns();
    go.store(true, std::memory_order_release);
    produce();
  });
  producer.join();
  consumer.join();
  return done - start;
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}

/// A ring of one lane, attached twice as two processes would, and the head that a cache would hold.
class LaneUnderTest {
 public:
  LaneUnderTest() : made_(make()), seen_(attach(made_)) {
    made_.segment().remove();
    for (Word& word : made_.records(0)) word.store(0, std::memory_order_relaxed);
    std::uint64_t sum = 0;
    for (const Word& word : seen_.records(0)) sum += word.load(std::memory_order_relaxed);
    if (sum != 0) fail("the lane is not empty");
  }

  std::uint64_t run(const std::vector<Page>& ids, std::uint64_t records, std::uint64_t rest_ns) {
    auto counter = std::make_unique<VisitCounter>();
    // The lane goes on where the last run left it, as a lane does.
    LaneProducer producer(made_.lane(0).tail.word, made_.records(0), &head_.word);
    const std::uint64_t time = time_both(
        [&] {
          for (std::uint64_t i = 0; i < records; ++i) {
            const Page& page = ids[i % pages];
            while (producer.publish(RecordKind::visit, page.id, 1, 0, page.hash) == Published::full) {
            }
          }
        },
        [&] { consume(*counter, records, rest_ns); });
    if (counter->total() != records) fail("the lane lost records");
    return time;
  }

  /// Nanoseconds a publish while nobody looks at the lane. `confirm`: with the store that a look at the flusher's sleep
  /// needs after each.
  double quiet_publish(const std::vector<Page>& ids, bool confirm) {
    LaneProducer producer(made_.lane(0).tail.word, made_.records(0), &head_.word);
    constexpr std::uint64_t records = 10'000;
    const std::uint64_t start = monotonic_ns();
    for (std::uint64_t i = 0; i < records; ++i) {
      const Page& page = ids[i % pages];
      if (producer.publish(RecordKind::visit, page.id, 1, 0, page.hash) == Published::full) fail("the lane is full");
      if (confirm) producer.confirm();
    }
    const std::uint64_t time = monotonic_ns() - start;
    applied_.word.store(producer.tail(), std::memory_order_release);
    head_.word.store(producer.tail(), std::memory_order_release);
    return static_cast<double>(time) / records;
  }

 private:
  static Ring make() {
    const std::array<FileIdentity, 1> lock{};
    return Ring::make({1, capacity_bytes, page_limit}, lock);
  }
  static Ring attach(const Ring& ring) {
    auto attached = Ring::attach(ring.note(), SharedSegment::Access::read_only);
    if (!std::holds_alternative<Ring>(attached)) fail("the ring cannot be attached");
    return std::move(std::get<Ring>(attached));
  }

  /// As the flusher does: tail once a burst, applied after each, a look ahead; and between bursts, once in a while,
  /// head.
  void consume(VisitCounter& counter, std::uint64_t records, std::uint64_t rest_ns) {
    const LaneRecords lane(seen_.records(0));
    const Word& tail_word = seen_.lane(0).tail.word;
    std::uint64_t position = applied_.word.load(std::memory_order_relaxed);
    char buffer[max_page_id_bytes];
    for (std::uint64_t applied = 0; applied < records;) {
      const std::uint64_t tail = tail_word.load(std::memory_order_acquire);
      if (tail == position) {
        rest(rest_ns);
        continue;
      }
      const std::uint64_t end = std::min(tail, position + burst_bytes);
      while (position < end) {
        lane.prefetch(position + prefetch_bytes);
        Record record;
        if (lane.read(position, tail, record) != RecordCheck::whole) fail("a damaged record");
        if (record.kind == RecordKind::visit) {
          counter.apply(record.page_hash, lane.page(position, record, buffer), record.visits);
          ++applied;
        }
        position += record.size;
        applied_.word.store(position, std::memory_order_release);
      }
      if (position - head_.word.load(std::memory_order_relaxed) > capacity_bytes / 16) {
        head_.word.store(position, std::memory_order_release);
      }
    }
    head_.word.store(position, std::memory_order_release);
  }

  Ring made_;
  Ring seen_;
  LonelyWord applied_{};
  LonelyWord head_{};
};

class QueueUnderTest {
 public:
  QueueUnderTest() : queue_(std::make_unique<Queue>(capacity_bytes / sizeof(FixedRecord))) {
    const FixedRecord record{};
    while (queue_->push(record)) {
    }
    FixedRecord popped;
    while (queue_->pop(popped)) {
    }
  }

  std::uint64_t run(const std::vector<Page>& ids, std::uint64_t records, std::uint64_t rest_ns) {
    auto counter = std::make_unique<VisitCounter>();
    const std::uint64_t time = time_both(
        [&] {
          FixedRecord record{};
          for (std::uint64_t i = 0; i < records; ++i) {
            const Page& page = ids[i % pages];
            record.page_hash = page.hash;
            record.visits = 1;
            record.page_length = static_cast<std::uint16_t>(page.id.size());
            std::memcpy(record.page, page.id.data(), page.id.size());
            while (!queue_->push(record)) {
            }
          }
        },
        [&] {
          FixedRecord record;
          for (std::uint64_t applied = 0; applied < records;) {
            if (!queue_->pop(record)) {
              rest(rest_ns);
              continue;
            }
            counter->apply(record.page_hash, {record.page, record.page_length}, record.visits);
            ++applied;
          }
        });
    if (counter->total() != records) fail("the queue lost records");
    return time;
  }

 private:
  using Queue = boost::lockfree::spsc_queue<FixedRecord>;
  std::unique_ptr<Queue> queue_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int count, char** arguments) try {
  const std::uint64_t records = count > 1 ? std::strtoull(arguments[1], nullptr, 10) : 4'000'000;
  if (records == 0) fail("usage: lane-bench [RECORDS]");
  const std::vector<Page> ids = make_pages();
  LaneUnderTest lane;
  QueueUnderTest queue;
  struct Consumer {
    const char* name;
    std::uint64_t rest_ns;
  };
  for (const Consumer& consumer :
       {Consumer{"spins", 0}, Consumer{"rests_100us", 100'000}, Consumer{"rests_1ms", 1'000'000}}) {
    std::vector<double> lane_rates;
    std::vector<double> queue_rates;
    for (std::size_t run = 0; run < runs; ++run) {
      const auto rate = [&](std::uint64_t ns) { return static_cast<double>(records) * 1e3 / static_cast<double>(ns); };
      lane_rates.push_back(rate(lane.run(ids, records, consumer.rest_ns)));
      queue_rates.push_back(rate(queue.run(ids, records, consumer.rest_ns)));
    }
    std::printf("lane_consumer_%s %.2f million records/s\n", consumer.name, median(lane_rates));
    std::printf("spsc_queue_consumer_%s %.2f million records/s\n", consumer.name, median(queue_rates));
    std::printf("lane_consumer_%s_ratio %.2f x (at least 2)\n", consumer.name,
                median(lane_rates) / median(queue_rates));
    std::fflush(stdout);
  }
  std::vector<double> quiet;
  std::vector<double> confirmed;
  // Many short turns: one that is interrupted by another process is then not the one in the middle.
  for (std::size_t turn = 0; turn < 301; ++turn) {
    quiet.push_back(lane.quiet_publish(ids, false));
    confirmed.push_back(lane.quiet_publish(ids, true));
  }
  std::printf("lane_publish_quiet %.1f ns (at most 20)\n", median(quiet));
  std::printf("lane_publish_quiet_confirmed %.1f ns (at most 20)\n", median(confirmed));
  return 0;
} catch (const std::exception& failure) {
  std::fprintf(stderr, "%s\n", failure.what());
  return 1;
}
