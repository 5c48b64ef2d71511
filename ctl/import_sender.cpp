#include "ctl/import_sender.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "common/os/text.hpp"
#include "common/shm/hash.hpp"
#include "ctl/control_client.hpp"
#include "ctl/progress_line.hpp"

namespace visitd {

namespace {

// Of one request, with room for what JSON escapes.
constexpr std::size_t part_bytes = control_request_bytes / 2 - 4096;
// Parts that are under way at once: each waits for the disk, and one transaction holds several.
constexpr std::size_t parts_at_once = 4;
constexpr int send_tries = 20;
constexpr std::chrono::milliseconds try_again_after{250};

/// The import in parts, each as the flusher takes it. The same counts of the same source make the same parts, with the
/// same ids.
std::vector<std::string> parts_of(const PageCounts& counts, std::uint64_t source) {
  std::vector<std::string> parts;
  std::string part;
  std::string line;
  std::uint64_t digest = source;
  const auto end_part = [&] {
    if (!part.empty()) parts.push_back(std::exchange(part, {}));
  };
  for (const auto& [page, count] : counts) {
    line.clear();
    append_change(line, "add", page, fmt::format_int(count).c_str());
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
      if (left == 1 || !refused.may_pass()) throw;
    } catch (const std::exception&) {
      if (left == 1) throw;
    }
    std::this_thread::sleep_for(try_again_after);
  }
}

/// Sends parts, some at once, and shows how far it is.
class ImportSender {
 public:
  ImportSender(std::string socket, const std::vector<std::string>& parts, std::uint32_t timeout_ms)
      : socket_(std::move(socket)), parts_(parts), timeout_ms_(timeout_ms) {}

  /// Throws what the first part that failed threw.
  void run() {
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < std::min(parts_at_once, parts_.size()); ++i) threads.emplace_back([this] { work(); });
    for (std::thread& thread : threads) thread.join();
    if (failure_) std::rethrow_exception(failure_);
  }
  /// Pages that were not counted before.
  [[nodiscard]] std::uint64_t added() const noexcept { return added_; }

 private:
  void work() {
    for (std::size_t part = next_++; part < parts_.size(); part = next_++) {
      try {
        const std::uint64_t added = send_part(socket_, parts_[part], timeout_ms_);
        const std::lock_guard lock(mutex_);
        if (failure_) return;
        added_ += added;
        show_progress(++done_);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!failure_) failure_ = std::current_exception();
        next_ = parts_.size();
      }
    }
  }
  void show_progress(std::size_t done) {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun_;
    const double left = took.count() / static_cast<double>(done) * static_cast<double>(parts_.size() - done);
    line_.show(fmt::format("{} of {} parts are counted, about {:.0f} s to go", done, parts_.size(), left));
    if (done == parts_.size()) line_.keep();
  }

  std::string socket_;
  const std::vector<std::string>& parts_;
  std::uint32_t timeout_ms_;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;
  ProgressLine line_;
  std::size_t done_ = 0;
  std::uint64_t added_ = 0;
  std::exception_ptr failure_;
};

}  // namespace

std::uint64_t send_import(const std::string& control_socket, const PageCounts& counts, std::uint64_t source,
                          std::uint32_t timeout_ms) {
  const std::vector<std::string> parts = parts_of(counts, source);
  ImportSender sender(control_socket, parts, timeout_ms);
  sender.run();
  return sender.added();
}

}  // namespace visitd
