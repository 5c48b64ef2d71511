#include "ctl/import_sender.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>
#include <vector>

#include "common/os/text.hpp"
#include "common/shm/hash.hpp"
#include "common/shm/page_id.hpp"
#include "ctl/control_client.hpp"
#include "ctl/parts.hpp"

namespace visitd {

namespace {

// Of one request, with room for what JSON escapes.
constexpr std::size_t part_bytes = control_request_bytes / 2 - 4096;
constexpr int send_tries = 20;
constexpr std::chrono::milliseconds try_again_after{250};

/// The pages by number, in an order that is the same for the same pages. Those of a bucket come together: the flusher
/// keeps its visits by bucket, and takes half as long for a part that is of few of them.
std::vector<std::size_t> order_of(const PageCounts& counts, std::uint32_t buckets) {
  struct Place {
    std::uint32_t bucket;
    std::uint64_t hash;
    std::size_t number;
  };
  std::vector<Place> places;
  places.reserve(counts.size());
  for (const auto& [page, count] : counts) {
    places.push_back({page_bucket(page, buckets), hash_bytes(page), places.size()});
  }
  std::ranges::sort(places, [&](const Place& a, const Place& b) {
    if (a.bucket != b.bucket) return a.bucket < b.bucket;
    return a.hash != b.hash ? a.hash < b.hash : counts[a.number].first < counts[b.number].first;
  });
  std::vector<std::size_t> order;
  order.reserve(places.size());
  for (const Place& place : places) order.push_back(place.number);
  return order;
}

/// The import in parts, each as the flusher takes it. The same counts of the same source make the same parts, with the
/// same ids.
std::vector<std::string> parts_of(const PageCounts& counts, std::uint64_t source, std::uint32_t buckets) {
  std::vector<std::string> parts;
  std::string part;
  std::string line;
  std::uint64_t digest = source;
  const auto end_part = [&] {
    if (!part.empty()) parts.push_back(std::exchange(part, {}));
  };
  for (const std::size_t number : order_of(counts, buckets)) {
    const auto& [page, count] = counts[number];
    line.clear();
    append_change(line, ControlVerb::add, page, fmt::format_int(count).c_str());
    if (part.size() + line.size() > part_bytes) end_part();
    part += line;
    digest = digest * 0x9e37'79b9'7f4a'7c15U + hash_bytes(line);
  }
  end_part();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    parts[i].insert(0, fmt::format("{} part {} of {}\n", hex(digest), i + 1, parts.size()));
  }
  return parts;
}

/// How many pages were counted by it; 0: they were counted before. A flusher that is just being replaced, or still
/// counts the same part for somebody who has gone, is asked again.
std::uint64_t send_part(const std::string& socket, const std::string& part, std::uint32_t timeout_ms) {
  for (int left = send_tries;; --left) {
    try {
      return ask_flusher(socket, {ControlCommand::import, part, timeout_ms}).value("added", std::uint64_t{0});
    } catch (const FlusherRefused& refused) {
      if (left == 1 || !refused.passing) throw;
    } catch (const std::exception&) {
      if (left == 1) throw;
    }
    std::this_thread::sleep_for(try_again_after);
  }
}

}  // namespace

std::uint64_t send_import(const std::string& control_socket, const PageCounts& counts, std::uint64_t source,
                          std::uint32_t buckets, std::uint32_t timeout_ms) {
  const std::vector<std::string> parts = parts_of(counts, source, buckets);
  std::atomic<std::uint64_t> added{0};
  each_part(parts.size(), "parts are counted",
            [&](std::size_t part) { added += send_part(control_socket, parts[part], timeout_ms); });
  return added;
}

}  // namespace visitd
