// Users and groups by the names that people know.
#pragma once

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/types.h>

#include <array>
#include <cstddef>
#include <string>

namespace visitd {

inline constexpr std::size_t user_name_buffer_bytes = 4096;

/// The user's name; its number where it has none.
[[nodiscard]] inline std::string user_name(uid_t id) {
  std::array<char, user_name_buffer_bytes> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (getpwuid_r(id, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) return found->pw_name;
  return fmt::format("{}", id);
}

/// The group's name; its number where it has none.
[[nodiscard]] inline std::string group_name(gid_t id) {
  std::array<char, user_name_buffer_bytes> buffer{};
  group entry{};
  group* found = nullptr;
  if (getgrgid_r(id, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) return found->gr_name;
  return fmt::format("{}", id);
}

}  // namespace visitd
