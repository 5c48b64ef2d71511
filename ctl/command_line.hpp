// How commands of visitctl are declared to the command line's parser, and what it then knows.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "common/config/settings.hpp"
#include "ctl/commands.hpp"

namespace visitd {

/// What the command line says.
struct Asked {
  std::string config;
  bool json = false;
  bool check_config = false;
  bool help_settings = false;
  std::uint64_t limit = 100;
  std::optional<std::uint32_t> lane;
  std::string page;
  bool exact = false;
  PageChoice pages;
  Embedding embedding;
  std::string sort;
  std::string format;
  std::string shard;
  ShardChange changing;
  Migration migration;
  bool wait = false;
  std::string writer;
  bool yes = false;
  Correcting correcting;
  Importing importing;
  std::string watched;
  double timeout_s = 25;
  std::optional<double> measured_s;
  bool exit_code = false;
  bool all = false;
  std::string instance;
  RemoveOptions removing;
  std::string explained;
  std::function<Json(const Settings&)> report;
  std::string (*text)(const Json&) = nullptr;  ///< nullptr: the command has printed what there is
};

/// Checks that a number lies in these bounds. If it does not, the message names the bounds; CLI11's names a type.
template <typename Number>
std::function<std::string(const std::string&)> number_within(Number least, Number most, std::string_view unit) {
  return [=](const std::string& text) -> std::string {
    Number value{};
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (fault == std::errc{} && end == text.data() + text.size() && value >= least && value <= most) return {};
    return fmt::format("'{}' is refused; allowed: {}{} to {}{}", text,
                       std::is_integral_v<Number> ? "whole numbers, " : "", least, most, unit);
  };
}

/// A command that is a group of commands.
CLI::App& add_group(CLI::App& app, const char* name, const char* help);
/// `report`: what it does, and reports; `text`: that for people. `options`: adds what it takes.
CLI::App* add_command(CLI::App& app, Asked& asked, const char* name, const char* help,
                      std::function<Json(const Settings&)> report, std::string (*text)(const Json&),
                      const std::function<void(CLI::App&)>& options = {});
/// What a command takes that is about one page; `what`: what it calls the page.
void take_page(CLI::App& command, Asked& asked, const char* what);
/// How a command for the same instance begins, as a shell takes it.
[[nodiscard]] std::string begun_as(const Asked& asked);

// The commands, by theme.
void add_segment_commands(CLI::App& app, Asked& asked);
/// What changes nothing.
void add_looks(CLI::App& app, Asked& asked);
/// What is put into a site's pages.
void add_embed(CLI::App& app, Asked& asked);
/// Pages with their counts.
void add_lists(CLI::App& app, Asked& asked);
void add_shard_commands(CLI::App& app, Asked& asked);
void add_migrate(CLI::App& app, Asked& asked);
void add_writer_commands(CLI::App& app, Asked& asked);
/// What corrects counts, and brings them in.
void add_correction_commands(CLI::App& app, Asked& asked);
/// What is asked of the flusher.
void add_requests(CLI::App& app, Asked& asked);

}  // namespace visitd
