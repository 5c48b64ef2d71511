// Writes what people read about the settings from their rows: the tables of docs/configure.md, and deploy/visitd.toml,
// of which the manual page is made. settings_pages ROOT writes them into the tree; --check ROOT says whether they are
// as they would be written.
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "common/os/errors.hpp"
#include "common/os/whole_file.hpp"

namespace {

using visitd::SettingDescription;

constexpr std::string_view command = "ninja -C build settings-pages";
constexpr std::size_t page_limit_bytes = 1U << 20U;
constexpr std::size_t line_limit = 100;

constexpr std::string_view example_head =
    "# Settings of visitd, each at its default. Take away the '#' before a key to change it; docs/configure.md says\n"
    "# more. Check the file with: visit-flusher --config FILE --check-config\n"
    "# After a change: systemctl reload, or SIGHUP. A key that needs a restart says so.\n";

constexpr std::string_view example_shard =
    "# Instead of 'shards', each may have a table of its own, after the other keys of [redis]:\n"
    "# [[redis.shard]]\n"
    "# name = \"redis_7070\"\n"
    "# url = \"redis://127.0.0.1:7070/0\"\n"
    "# password_file = \"/etc/visitd/redis_7070.password\"\n";

/// The words as comments of a TOML file.
std::string comment(std::string_view words) {
  std::string text(1, '#');
  std::size_t line = 0;  // where it begins
  while (!words.empty()) {
    const std::size_t end = std::min(words.find(' '), words.size());
    if (text.size() - line + 1 + end > line_limit) {
      text += "\n#";
      line = text.size() - 1;
    }
    text += ' ';
    text += words.substr(0, end);
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  text += '\n';
  return text;
}

std::string example_file(const std::vector<SettingDescription>& keys) {
  std::string text(example_head);
  std::string section;
  const auto end_section = [&] {
    if (section == "redis") text += example_shard;
  };
  for (const SettingDescription& key : keys) {
    if (section != key.section) {
      end_section();
      section = key.section;
      text += fmt::format("\n[{}]\n", section);
    }
    const bool at_once = key.takes_effect.starts_with("at once");
    text += comment(fmt::format("{} Allowed: {}.{}", key.help, key.allowed,
                                at_once ? "" : fmt::format(" Takes effect {}.", key.takes_effect)));
    text += fmt::format("#{} = {}\n", key.key, key.default_value);
  }
  end_section();
  return text;
}

/// The names in an environment list, each as code.
std::string as_code(const std::string& names) {
  std::string text = fmt::format("`{}`", names);
  if (const std::size_t comma = text.find(", "); comma != std::string::npos) text.replace(comma, 2, "`, `");
  return text;
}

std::string tables(const std::vector<SettingDescription>& keys) {
  std::string text;
  std::string section;
  for (const SettingDescription& key : keys) {
    if (section != key.section) {
      section = key.section;
      text += fmt::format(
          "\n## [{}]\n\n| key | default | allowed | takes effect | meaning | environment "
          "|\n|---|---|---|---|---|---|\n",
          section);
    }
    text += fmt::format("| `{}` | `{}` | {} | {} | {} | {} |\n", key.key, key.default_value, key.allowed,
                        key.takes_effect, key.help, as_code(key.environment));
  }
  return text;
}

/// docs/configure.md as it is now, with new tables below its mark.
std::string configure_page(const std::string& page, const std::vector<SettingDescription>& keys) {
  const std::string mark =
      fmt::format("<!-- From here on written from common/config/setting_rows.cpp by: {} -->\n", command);
  const std::size_t at = page.find(mark);
  if (at == std::string::npos) throw visitd::error("docs/configure.md lacks the line {}", mark);
  return page.substr(0, at + mark.size()) + tables(keys);
}

/// Whether nothing was to be written, or it was.
bool keep(const std::string& path, const std::string& now, const std::string& wanted, bool check) {
  if (now == wanted) return true;
  if (check) {
    fmt::print(stderr, "{} is not as the rows of the settings say: write it with {}\n", path, command);
    return false;
  }
  std::ofstream file(path, std::ios::binary);
  if (!(file << wanted).flush()) throw visitd::error("{} cannot be written", path);
  return true;
}

int run(const std::string& root, bool check) {
  const std::vector<SettingDescription> keys = visitd::describe_settings();
  const std::string page_path = root + "/docs/configure.md";
  const std::string page = visitd::read_whole_file(page_path, page_limit_bytes, "page");
  const std::string example_path = root + "/deploy/visitd.toml";
  const std::string example = visitd::read_whole_file(example_path, page_limit_bytes, "example");
  const bool page_kept = keep(page_path, page, configure_page(page, keys), check);
  const bool example_kept = keep(example_path, example, example_file(keys), check);
  return page_kept && example_kept ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const bool check = arguments.size() == 2 && arguments[0] == "--check";
  if (!check && arguments.size() != 1) {
    fmt::print(stderr, "settings_pages [--check] ROOT\n");
    return 2;
  }
  try {
    return run(arguments.back(), check);
  } catch (const std::exception& failure) {
    fmt::print(stderr, "{}\n", failure.what());
    return 1;
  }
}
