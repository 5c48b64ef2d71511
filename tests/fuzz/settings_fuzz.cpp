// Settings: a file or a variable of the environment is taken, or refused by an Error that says where; settings that
// were taken read the same from what to_toml writes; no password is shown.
//
// Input: what the text is, then the text.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "common/config/shard_address.hpp"
#include "common/os/errors.hpp"
#include "common/os/unique_fd.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace visitd {
namespace {

using fuzzing::Input;
using fuzzing::require;

/// The names of all variables that settings are read from.
std::vector<std::string> variables() {
  std::vector<std::string> names;
  for (const SettingDescription& key : describe_settings()) {
    std::istringstream list(key.environment);
    for (std::string name; std::getline(list >> std::ws, name, ',');) names.push_back(name);
  }
  return names;
}

/// A file in memory, and its name.
class File {
 public:
  File() : fd_(::memfd_create("settings", MFD_CLOEXEC)), path_(fmt::format("/proc/self/fd/{}", fd_.get())) {}

  const std::string& write(std::string_view text) const {
    require(::ftruncate(fd_.get(), 0) == 0, "the file is emptied");
    require(::pwrite(fd_.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()),
            "the file is written");
    return path_;
  }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  UniqueFd fd_;
  std::string path_;
};

/// nullopt: refused, and `message` says why.
std::optional<Settings> load(const std::string& path, Secrets secrets, std::string& message) {
  try {
    return load_settings(path, secrets);
  } catch (const Error& failure) {
    message = failure.what();
    return std::nullopt;
  }
}

/// Whether it says "FILE:LINE: …".
bool names_line(std::string_view message, std::string_view path) {
  if (!message.starts_with(path)) return false;
  message.remove_prefix(path.size());
  const std::size_t digits = message.substr(0, 1) == ":" ? message.find_first_not_of("0123456789", 1) : 0;
  return digits > 1 && digits != message.npos && message.substr(digits).starts_with(": ");
}

/// Settings that were taken, written by to_toml, read the same, but for passwords.
void check_written(const Settings& settings, const File& file) {
  std::string message;
  const std::string text = to_toml(settings);
  const auto again = load(file.write(text), Secrets::leave, message);
  if (!again) std::fprintf(stderr, "%s\n", message.c_str());
  require(again.has_value(), "what to_toml writes is taken");
  Settings bare = settings;
  for (ShardSettings& shard : bare.redis.shards) shard.password.clear();
  require(to_toml(*again) == to_toml(bare), "what to_toml writes reads the same");
}

/// What is handed to the operating system, or to Redis, as a C string is all of it.
void check_no_nul(const Settings& settings) {
  const auto whole = [](std::string_view text) { return text.find('\0') == text.npos; };
  require(whole(settings.paths.runtime_directory) && whole(settings.paths.state_directory), "a path has no NUL");
  for (const std::string& address : settings.http.listen) require(whole(address), "an address has no NUL");
  for (const ShardSettings& shard : settings.redis.shards) {
    require(whole(shard.unix_path) && whole(shard.host), "a shard's address has no NUL");
    require(whole(shard.username) && whole(shard.password), "user and password have no NUL");
  }
}

void check_taken(const Settings& settings, const File& file) {
  check_no_nul(settings);
  check_written(settings, file);
}

/// Opening a device or a process's file can do more than fail.
bool may_open_files(std::string_view text) {
  return text.find("_file") == text.npos && text.find("\\u") == text.npos && text.find("\\U") == text.npos;
}

void check_file(std::string_view text, const File& file) {
  std::string message;
  const auto settings = load(file.write(text), may_open_files(text) ? Secrets::read : Secrets::leave, message);
  if (settings) return check_taken(*settings, file);
  require(names_line(message, file.path()), "a refusal names the line: " + message);
}

void check_variable(const std::string& name, std::string_view text, const File& file) {
  const std::string value(text.substr(0, text.find('\0')));
  ::setenv(name.c_str(), value.c_str(), 1);
  std::string message;
  const auto settings = load("", name.ends_with("_FILE") ? Secrets::leave : Secrets::read, message);
  ::unsetenv(name.c_str());
  if (settings) return check_taken(*settings, file);
  require(message.find(name) != message.npos, "a refusal names the variable: " + message);
}

/// The address of a shard with this password before whatever follows: no error shows it.
void check_password(std::string_view user, std::string_view rest) {
  if (user.find_first_of("/:@=") != user.npos) return;
  constexpr std::string_view password = "Geheim0815";
  if (user.find(password) != user.npos || rest.find(password) != rest.npos) return;
  const std::string address = fmt::format("redis://{}:a@{}@{}", user, password, rest);
  std::string message;
  try {
    const ShardAddress read = parse_shard_address(address);
    message = shard_url(read.shard);
  } catch (const Error& failure) {
    message = failure.what();
  }
  require(message.find(password) == message.npos, "no password is shown: " + message);
}

}  // namespace
}  // namespace visitd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace visitd;
  static const File file;
  static const std::vector<std::string> names = [] {
    // What the machine happens to have set is no part of an input.
    std::vector<std::string> all = variables();
    for (const std::string& name : all) ::unsetenv(name.c_str());
    ::unsetenv("CREDENTIALS_DIRECTORY");
    return all;
  }();

  Input input(data, size);
  const std::uint8_t how = input.byte();
  if (how < 128) {
    check_file(input.rest(), file);
  } else if (how < 240) {
    check_variable(names[(how - 128U) % names.size()], input.rest(), file);
  } else {
    const std::string_view user = input.until('\n');
    check_password(user, input.rest());
  }
  return 0;
}
