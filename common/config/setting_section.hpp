// How a row of the table of settings is written: by the member of its section's struct. For setting_rows.cpp alone.
#pragma once

#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include "common/config/setting_rows.hpp"

namespace visitd::setting {

/// Makes the rows of one section, which is this member of a draft.
template <auto section>
struct Section {
  std::string_view name;

  template <auto member>
  [[nodiscard]] constexpr Key number(std::string_view key, std::uint64_t least, std::uint64_t most, Change change,
                                     std::string_view help, std::string_view original = "") const {
    return row<member>(key, least, most, nullptr, "", change, help, original);
  }

  /// A text, or a list of them; `allowed` says `form` in words.
  template <auto member>
  [[nodiscard]] constexpr Key text(std::string_view key, std::uint64_t least, std::uint64_t most, Form form,
                                   std::string_view allowed, Change change, std::string_view help,
                                   std::string_view original = "") const {
    return row<member>(key, least, most, form, allowed, change, help, original);
  }

  template <auto member>
  [[nodiscard]] constexpr Key choice(std::string_view key, Change change, std::string_view help,
                                     std::string_view original = "") const {
    return row<member>(key, 0, 0, nullptr, "", change, help, original);
  }

 private:
  template <auto member>
  [[nodiscard]] constexpr Key row(std::string_view key, std::uint64_t least, std::uint64_t most, Form form,
                                  std::string_view allowed, Change change, std::string_view help,
                                  std::string_view original) const {
    using Value = std::decay_t<decltype(std::declval<Draft>().*section.*member)>;
    return {.section = name,
            .name = key,
            .place = Place<Value>{[](Draft& draft) -> Value& { return draft.*section.*member; },
                                  [](const Draft& draft) -> const Value& { return draft.*section.*member; }},
            .least = least,
            .most = most,
            .form = form,
            .allowed = allowed,
            .part_of_shard = std::is_same_v<std::decay_t<decltype(std::declval<Draft>().*section)>, ForShards>,
            .change = change,
            .original = original,
            .help = help};
  }
};

}  // namespace visitd::setting
