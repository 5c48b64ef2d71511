// Many hosts that flush into a cluster: each with a writer and connections of its own, in turn, as their moments are
// spread over the interval. Their batches are made here; the connections, commands and scripts are the flusher's.
// usage: fleet-bench PORT --hosts N --pages N --of N --flushes N
// Prints lines "name value unit".
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <uv.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/os/clock.hpp"
#include "common/os/errors.hpp"
#include "common/shm/page_id.hpp"
#include "flusher/counting/batch.hpp"
#include "flusher/counting/cluster_map.hpp"
#include "flusher/redis/shard_link.hpp"

namespace visitd {
namespace {

constexpr std::uint32_t timeout_ms = 60'000;
constexpr std::size_t pages_of_a_batch = 256;
constexpr std::size_t batches_on_their_way = 32;  // of one host and node
const std::string bucket_id = "fleet 2";

struct Load {
  std::uint16_t port = 0;
  std::uint32_t hosts = 1000;
  std::uint32_t pages = 1000;        // that a host counts between two flushes
  std::uint64_t of = 1'000'000'000;  // pages of the fleet
  std::uint32_t flushes = 2;         // of each host
  std::uint32_t buckets = 8192;
};

ShardSettings node_at(const std::string& address) {
  ShardSettings node;
  node.name = address;
  node.host = address.substr(0, address.find(':'));
  node.port = static_cast<std::uint16_t>(std::stoul(address.substr(address.find(':') + 1)));
  node.in_cluster = true;
  return node;
}

/// One connection of one host to a node.
class Link : public ShardLink::Listener {
 public:
  Link(uv_loop_t& loop, const std::string& address, const std::string& writer)
      : link_(std::make_unique<ShardLink>(&loop, node_at(address), writer, timeout_ms, *this)) {
    link_->connect();
  }
  [[nodiscard]] bool connected() const noexcept { return connected_; }
  [[nodiscard]] const std::string& fault() const noexcept { return fault_; }
  void send(const ShardCommand& command, Completion done) { link_->send(command, std::move(done)); }

  void on_connected() override { connected_ = true; }
  void on_answer(const Completion& done, ShardAnswer answer) override { done(std::move(answer)); }
  void on_broken(const std::string& why) override { fault_ = why; }
  void on_turned_away(const std::string& why) override { fault_ = why; }
  void on_fault(const std::string& what) noexcept override { fault_ = what; }

 private:
  std::unique_ptr<ShardLink> link_;
  bool connected_ = false;
  std::string fault_;
};

struct Host {
  std::string writer;
  std::vector<std::unique_ptr<Link>> links;  // by node
  std::map<std::uint32_t, Mark> marks;       // by bucket: what it wrote last
};

class Fleet {
 public:
  explicit Fleet(const Load& load) : load_(load) { uv_loop_init(&loop_); }

  void run() {
    find_nodes();
    connect();
    stamp();
    for (std::uint32_t flush = 0; flush < load_.flushes; ++flush) flush_all(flush);
  }

 private:
  template <typename Holds>
  void wait_for(Holds holds) {
    const std::uint64_t end = monotonic_ms() + 2 * timeout_ms;
    while (!holds()) {
      if (monotonic_ms() > end) throw Error("the cluster does not answer");
      for (const Host& host : hosts_) {
        for (const auto& link : host.links) {
          if (!link->fault().empty()) throw Error(link->fault());
        }
      }
      uv_run(&loop_, UV_RUN_ONCE);
    }
  }

  void find_nodes() {
    Host& first = hosts_.emplace_back();
    first.links.push_back(std::make_unique<Link>(loop_, fmt::format("127.0.0.1:{}", load_.port), "fleet"));
    wait_for([&] { return first.links.front()->connected(); });
    std::optional<Nodes> nodes;
    first.links.front()->send(AskNodes{}, [&](const ShardAnswer& answer) { nodes = std::get<Nodes>(answer); });
    wait_for([&] { return nodes.has_value(); });
    nodes_ = nodes->map.primaries();
    node_of_bucket_ = nodes->map.place(load_.buckets);
  }

  void connect() {
    for (std::uint32_t number = 0; number < load_.hosts; ++number) {
      Host& host = hosts_.emplace_back();
      host.writer = fmt::format("fleet-{:016x}", number);
      for (const std::string& node : nodes_) host.links.push_back(std::make_unique<Link>(loop_, node, host.writer));
      wait_for([&] { return std::ranges::all_of(host.links, &Link::connected); });
    }
    hosts_.erase(hosts_.begin());
  }

  void stamp() {
    std::uint32_t awaited = 0;
    for (std::uint32_t bucket = 0; bucket < load_.buckets; ++bucket) {
      ++awaited;
      hosts_.front().links[node_of_bucket_[bucket]]->send(AskMarks{{bucket}, bucket_id, false},
                                                          [&](const ShardAnswer&) { --awaited; });
    }
    wait_for([&] { return awaited == 0; });
  }

  /// The batches of one flush of a host, by node.
  std::vector<std::vector<Batch>> batches_of(Host& host) {
    std::map<std::uint32_t, std::vector<Effect>> open;
    for (std::uint32_t i = 0; i < load_.pages; ++i) {
      std::string page = fmt::format("articles/2026/{:018d}", random_() % load_.of);
      const std::uint32_t bucket = page_bucket(page, load_.buckets);
      open[bucket].push_back({std::move(page), 1});
    }
    std::vector<std::vector<Batch>> batches(nodes_.size());
    for (auto& [bucket, pages] : open) {
      for (std::size_t first = 0; first < pages.size(); first += pages_of_a_batch) {
        Batch batch;
        batch.bucket = bucket;
        Mark& mark = host.marks[bucket];
        if (mark.seq > 0) batch.expected = to_text(mark);
        mark = {{1, 42}, mark.seq + 1, random_()};
        batch.mark = mark;
        const auto end = std::min(pages.size(), first + pages_of_a_batch);
        batch.effects.assign(pages.begin() + static_cast<std::ptrdiff_t>(first),
                             pages.begin() + static_cast<std::ptrdiff_t>(end));
        batches[node_of_bucket_[bucket]].push_back(std::move(batch));
      }
    }
    return batches;
  }

  void send_next(Host& host, std::size_t node, const std::vector<Batch>& batches, std::size_t& next) {
    if (next == batches.size()) return;
    host.links[node]->send(SendBatch{&batches[next++], bucket_id, false},
                           [this, &host, node, &batches, &next](const ShardAnswer& answer) {
                             const auto* said = std::get_if<BatchAnswer>(&answer);
                             if (said == nullptr || said->kind != BatchAnswer::Kind::applied) ++refused_;
                             ++answered_;
                             send_next(host, node, batches, next);
                           });
  }

  void flush_all(std::uint32_t flush) {
    std::uint64_t batches_sent = 0;
    std::uint64_t waited_us = 0;
    for (Host& host : hosts_) {
      const auto batches = batches_of(host);
      std::vector<std::size_t> next(nodes_.size());
      std::uint64_t count = 0;
      for (const auto& of_node : batches) count += of_node.size();
      answered_ = 0;
      const std::uint64_t begun = monotonic_ns();
      for (std::size_t node = 0; node < nodes_.size(); ++node) {
        for (std::size_t i = 0; i < batches_on_their_way; ++i) send_next(host, node, batches[node], next[node]);
      }
      wait_for([&] { return answered_ == count; });
      waited_us += (monotonic_ns() - begun) / 1000;
      batches_sent += count;
    }
    if (refused_ != 0) throw error("{} batches were refused", refused_);
    std::printf("flush %u: batches %.0f\n", flush, static_cast<double>(batches_sent));
    std::printf("flush %u: seconds %.3f\n", flush, static_cast<double>(waited_us) / 1e6);
    std::fflush(stdout);
    // fleet_bench.py reads the figures of the servers now, and writes a line once it has them.
    static_cast<void>(std::getchar());
  }

  Load load_;
  uv_loop_t loop_{};
  std::vector<Host> hosts_;
  std::vector<std::string> nodes_;
  std::vector<std::uint32_t> node_of_bucket_;
  std::mt19937_64 random_{1};
  std::uint64_t answered_ = 0;
  std::uint64_t refused_ = 0;
};

/// Three connections a host are more than a process may open by default.
void allow_connections() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace
}  // namespace visitd

int main(int argc, char** argv) {
  visitd::Load load;
  CLI::App app("Many hosts that flush into a cluster");
  app.add_option("PORT", load.port, "of a node of the cluster")->required();
  app.add_option("--hosts", load.hosts, "How many hosts");
  app.add_option("--pages", load.pages, "Pages that a host counts between two flushes");
  app.add_option("--of", load.of, "Pages of the fleet");
  app.add_option("--flushes", load.flushes, "Flushes of each host");
  CLI11_PARSE(app, argc, argv);
  signal(SIGPIPE, SIG_IGN);
  visitd::allow_connections();
  try {
    visitd::Fleet(load).run();
    return 0;
  } catch (const std::exception& fault) {
    std::fprintf(stderr, "fleet-bench: %s\n", fault.what());
    return 1;
  }
}
