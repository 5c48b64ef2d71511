#include <fmt/format.h>

#include <chrono>
#include <iostream>
#include <thread>

#include "common/os/runtime_directory.hpp"
#include "ctl/commands.hpp"
#include "ctl/control_client.hpp"
#include "ctl/progress_line.hpp"

namespace visitd {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t change_timeout_ms = 20'000;
constexpr std::uint32_t moves_timeout_ms = 5'000;
constexpr auto look_interval = std::chrono::milliseconds(250);
// When a flusher begins anew, it answers again sooner than this. If no flusher has answered by then, it has stopped.
constexpr std::uint64_t longest_absence_ms = 10'000;
// On what is no terminal, a line now and then.
constexpr auto line_interval = std::chrono::seconds(10);

std::uint64_t number_in(const Json& answer, const char* name) {
  const auto number = answer.find(name);
  return number != answer.end() && number->is_number_unsigned() ? number->get<std::uint64_t>() : 0;
}

/// How far it is, and how long it may take, from what has moved since it began.
std::string progress_text(std::uint64_t moved, std::uint64_t buckets, const TimeTaken& time) {
  constexpr std::size_t width = 30;
  const std::uint64_t shown = std::max<std::uint64_t>(buckets, 1);
  const auto filled = static_cast<std::size_t>(moved * width / shown);
  std::string text = fmt::format("[{}{}] {} of {} buckets, {} %", std::string(filled, '#'),
                                 std::string(width - filled, '.'), moved, buckets, moved * 100 / shown);
  if (moved == 0) return text;
  return text + fmt::format(", about {:.0f} s left",
                            time.seconds_left(static_cast<double>(moved) / static_cast<double>(buckets)));
}

/// Shows how buckets move until they have arrived.
class MovesWatch {
 public:
  explicit MovesWatch(std::string socket) : socket_(std::move(socket)) {}

  /// The flusher's last answer. `version`: of the change that is waited for. Throws Error where no flusher answers for
  /// long.
  Json wait(std::uint64_t version) {
    for (;;) {
      Json answer = look();
      const bool known = number_in(answer, "version") >= version;
      if (known && number_in(answer, "moving") == 0) {
        line_.keep();
        return answer;
      }
      if (known) show(answer);
      std::this_thread::sleep_for(look_interval);
    }
  }

 private:
  Json look() { return ask_patiently(socket_, {ControlCommand::moves, "", moves_timeout_ms}, longest_absence_ms); }

  void show(const Json& answer) {
    const auto now = Clock::now();
    std::string text = progress_text(number_in(answer, "moved"), number_in(answer, "buckets"), time_);
    if (const auto problem = answer.find("problem"); problem != answer.end()) text += "; " + plain(*problem);
    if (line_.is_at_terminal()) {
      line_.show(text);
    } else if (!shown_ || now - last_line_ >= line_interval) {
      std::cerr << text << "\n";
      last_line_ = now;
    }
    shown_ = true;
  }

  std::string socket_;
  ProgressLine line_;
  bool shown_ = false;
  TimeTaken time_;
  Clock::time_point last_line_;
};

/// Where the flusher ends before it answers, it may have made the change: then it knows its version.
void make(const std::string& socket, const ControlRequest& request, std::uint64_t version) {
  try {
    static_cast<void>(ask_flusher(socket, request));
  } catch (const FlusherAway&) {
    const Json last = ask_patiently(socket, {ControlCommand::moves, "", moves_timeout_ms}, longest_absence_ms);
    if (number_in(last, "version") < version) throw;
  }
}

}  // namespace

Json change_shards_report(const Settings& settings, const std::string& change, const ShardChange& how) {
  const std::string socket = RuntimeDirectory(settings.paths.runtime_directory).control_socket();
  Json report = {{"change", change}};
  try {
    const std::string rate = how.rate == 0 ? std::string() : fmt::format("rate={} ", how.rate);
    ControlRequest request{ControlCommand::change_shards, rate + change, change_timeout_ms};
    const Json offer = ask_patiently(socket, request, longest_absence_ms);
    report.update(offer);
    report["made"] = !how.dry_run;
    if (how.dry_run) return report;
    if (const std::string why = how.why_not ? how.why_not(offer) : std::string(); !why.empty()) {
      report["made"] = false;
      report["error"] = why;
      return report;
    }
    request.token = decode_token(offer.at("token").get<std::string>());
    make(socket, request, number_in(offer, "version"));
    if (how.wait) report["last"] = MovesWatch(socket).wait(number_in(offer, "version"));
  } catch (const std::exception& refused) {
    report["error"] = refused.what();
  }
  return report;
}

std::string moving_buckets_text(const Json& offer) {
  return fmt::format("{} of {} buckets move: {}\n", plain(offer["moves"]), plain(offer["buckets"]),
                     plain(offer["shards"])) +
         (offer.contains("left") ? plain(offer["left"]) + "\n" : std::string());
}

std::string change_shards_text(const Json& report) {
  if (has_failed(report)) return {};
  const std::string text = moving_buckets_text(report);
  if (!report["made"].get<bool>()) {
    return text +
           fmt::format("each is one key, visits:{{BUCKET}}; these: {}\nnothing was changed\n", plain(report["which"]));
  }
  if (report.contains("last")) return text + fmt::format("the shards are {}\n", plain(report["last"]["shards"]));
  return text + "the buckets are moving: visitctl shards moves says how far\n";
}

Json moves_report(const Settings& settings, bool wait) {
  const std::string socket = RuntimeDirectory(settings.paths.runtime_directory).control_socket();
  try {
    if (wait) return MovesWatch(socket).wait(0);
    return ask_flusher(socket, {ControlCommand::moves, "", moves_timeout_ms});
  } catch (const std::exception& refused) {
    return {{"error", refused.what()}};
  }
}

std::string moves_text(const Json& report) {
  if (has_failed(report)) return {};
  std::string text = fmt::format("shards     {} (change {})\n", plain(report["shards"]), plain(report["version"]));
  if (number_in(report, "moving") == 0) return text + "moving     nothing\n";
  text += fmt::format("moving to  {}\nmoved      {} of {} buckets{}\n", plain(report["next"]), plain(report["moved"]),
                      plain(report["buckets"]), number_in(report, "by_this_host") == 0 ? ", by another host" : "");
  if (report.contains("problem")) text += fmt::format("held up by {}\n", plain(report["problem"]));
  return text;
}

}  // namespace visitd
