// The log of a process: one line a message on standard error. Where that is systemd's journal, which notes the time,
// the program and its process id by itself, a line has its priority in front instead ("<4>"), so that `journalctl -p
// warning` finds it. log.cpp is the sole user of spdlog.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace visitd::log {

enum class Level { debug, info, warning, error };

/// Sets up the log of this process: the name that every line has, and whether debug lines are written.
void start(std::string_view process, bool debug);

/// Whether debug lines are written from now on.
void set_debug(bool debug);

/// Writes one line. Messages that repeat within a minute are written once, then as a count.
void write(Level level, std::string_view message);

/// Writes why `process` does not run, before start() was called.
void refuse(std::string_view process, std::string_view message) noexcept;

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::info, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace visitd::log
