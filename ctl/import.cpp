#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>

#include "common/os/runtime_directory.hpp"
#include "common/os/text.hpp"
#include "common/shm/hash.hpp"
#include "ctl/commands.hpp"
#include "ctl/control_client.hpp"
#include "ctl/import_formats.hpp"
#include "ctl/progress_line.hpp"
#include "ctl/whole_input.hpp"

namespace visitd {

namespace {

// Of one request, with room for what JSON escapes.
constexpr std::size_t part_bytes = control_request_bytes / 2 - 4096;
// Parts that are under way at once: each waits for the disk, and one transaction holds several.
constexpr std::size_t parts_at_once = 4;
constexpr int send_tries = 20;
constexpr std::chrono::milliseconds try_again_after{250};

using Counts = std::map<std::string, std::uint64_t>;

/// The import in parts, each as the flusher takes it. The same counts make the same parts, with the same ids.
std::vector<std::string> parts_of(const Counts& counts) {
  std::vector<std::string> parts;
  std::string part;
  std::string line;
  std::uint64_t digest = 0;
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
std::uint64_t send(const std::string& socket, const std::string& part, std::uint32_t timeout_ms) {
  for (int left = send_tries;; --left) {
    try {
      return ask_flusher(socket, {ControlCommand::import, part, timeout_ms}).value("added", std::uint64_t{0});
    } catch (const std::exception&) {
      if (left == 1) throw;
      std::this_thread::sleep_for(try_again_after);
    }
  }
}

/// Sends parts, some at once, and shows how far it is.
class Sender {
 public:
  Sender(std::string socket, const std::vector<std::string>& parts, std::uint32_t timeout_ms)
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
        const std::uint64_t added = send(socket_, parts_[part], timeout_ms_);
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

std::string bad_text(const Imported& imported) {
  std::string text = fmt::format("{} lines cannot be read", imported.bad_lines);
  for (const std::string& line : imported.bad) text += fmt::format("; {}", line);
  return text;
}

}  // namespace

Json import_report(const Settings& settings, const Importing& importing) {
  Json report = {{"pages", 0}, {"visits", 0}, {"left_out", 0}, {"bad_lines", 0}, {"added", 0}, {"added_before", 0}};
  try {
    const Imported imported = read_import(read_whole_input(importing.file), import_format(importing.format),
                                          settings.pages.page_id_limit_bytes, PageRules(settings.pages.rules));
    std::uint64_t visits = 0;
    for (const auto& [page, count] : imported.counts) visits += count;
    report.update({{"pages", imported.counts.size()},
                   {"visits", visits},
                   {"left_out", imported.left_out},
                   {"bad_lines", imported.bad_lines}});
    report["dry_run"] = importing.dry_run;
    if (imported.bad_lines != 0 && !importing.skip_bad) {
      throw error("nothing was counted: {}. Mend them, or leave them out with --skip-bad", bad_text(imported));
    }
    if (importing.dry_run) return report;
    const std::string socket = RuntimeDirectory(settings.paths.runtime_directory).control_socket();
    const std::vector<std::string> parts = parts_of(imported.counts);
    Sender sender(socket, parts, importing.timeout_ms);
    sender.run();
    report["added"] = sender.added();
    report["added_before"] = imported.counts.size() - sender.added();
  } catch (const std::exception& refused) {
    report["error"] = refused.what();
  }
  return report;
}

std::string import_text(const Json& report) {
  if (has_failed(report)) return {};
  std::string text = fmt::format("{} visits of {} pages", plain(report["visits"]), plain(report["pages"]));
  text += report.value("dry_run", false) ? " would be counted" : " are counted";
  if (report["added_before"] != 0)
    text += fmt::format(", of which {} pages were before", plain(report["added_before"]));
  if (report["left_out"] != 0) text += fmt::format("; {} lines are no visits", plain(report["left_out"]));
  if (report["bad_lines"] != 0) text += fmt::format("; {} lines could not be read", plain(report["bad_lines"]));
  return text + "\n";
}

}  // namespace visitd
