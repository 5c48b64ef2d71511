#include "common/os/log.hpp"

#include <spdlog/sinks/dup_filter_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

namespace visitd::log {

namespace {

/// systemd names the device and inode of what it connected to the journal: somebody may have redirected it since.
bool goes_to_journal() noexcept {
  const char* named = std::getenv("JOURNAL_STREAM");
  struct stat there{};
  if (named == nullptr || ::fstat(STDERR_FILENO, &there) != 0) return false;
  return named == std::to_string(there.st_dev) + ":" + std::to_string(there.st_ino);
}

/// As syslog(3) numbers them.
char priority_of(spdlog::level::level_enum level) noexcept {
  switch (level) {
    case spdlog::level::critical:
    case spdlog::level::err:
      return '3';
    case spdlog::level::warn:
      return '4';
    case spdlog::level::info:
      return '6';
    default:
      return '7';
  }
}

/// For the journal each line of a message is an entry, and has the message's priority.
std::string as_entries(char priority, std::string_view message) {
  std::string entries;
  while (true) {
    const std::size_t end = message.find('\n');
    entries.append({'<', priority, '>'}).append(message.substr(0, end)).push_back('\n');
    if (end == std::string_view::npos || end + 1 == message.size()) return entries;
    message.remove_prefix(end + 1);
  }
}

class JournalFormatter : public spdlog::formatter {
 public:
  void format(const spdlog::details::log_msg& message, spdlog::memory_buf_t& to) override {
    const std::string entries =
        as_entries(priority_of(message.level), {message.payload.data(), message.payload.size()});
    to.append(entries.data(), entries.data() + entries.size());
  }
  [[nodiscard]] std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<JournalFormatter>();
  }
};

}  // namespace

void start(std::string_view process, bool debug) {
  auto once = std::make_shared<spdlog::sinks::dup_filter_sink_mt>(std::chrono::seconds(60));
  once->add_sink(std::make_shared<spdlog::sinks::stderr_sink_mt>());
  auto logger = std::make_shared<spdlog::logger>(std::string(process), std::move(once));
  if (goes_to_journal()) {
    logger->set_formatter(std::make_unique<JournalFormatter>());
  } else {
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %n[%P] %l: %v");
  }
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
  set_debug(debug);
}

void set_debug(bool debug) {
  spdlog::default_logger_raw()->set_level(debug ? spdlog::level::debug : spdlog::level::info);
}

void write(Level level, std::string_view message) {
  constexpr spdlog::level::level_enum levels[] = {spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                                  spdlog::level::err};
  spdlog::log(levels[static_cast<int>(level)], message);
}

void refuse(std::string_view process, std::string_view message) noexcept {
  try {
    const std::string text = goes_to_journal() ? as_entries(priority_of(spdlog::level::err), message)
                                               : fmt::format("{}: {}\n", process, message);
    std::fputs(text.c_str(), stderr);
  } catch (const std::exception&) {
    std::fputs("out of memory\n", stderr);
  }
}

}  // namespace visitd::log
