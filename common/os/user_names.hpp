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

/// The name in the entry that `find` finds for the id; the id itself where there is none.
template <typename Id, typename Entry>
[[nodiscard]] std::string name_or_number(Id id, int (*find)(Id, Entry*, char*, std::size_t, Entry**),
                                         char* Entry::* name) {
  std::array<char, 4096> buffer{};
  Entry entry{};
  Entry* found = nullptr;
  if (find(id, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr) return found->*name;
  return fmt::format("{}", id);
}

/// The user's name; its number where it has none.
[[nodiscard]] inline std::string user_name(uid_t id) {
  return name_or_number(id, &getpwuid_r, &passwd::pw_name);
}

/// The group's name; its number where it has none.
[[nodiscard]] inline std::string group_name(gid_t id) {
  return name_or_number(id, &getgrgid_r, &group::gr_name);
}

}  // namespace visitd
