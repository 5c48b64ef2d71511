// Keys of CountAPI and abacus: a name in a name space. Pure.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "common/pages/site_page.hpp"

namespace visitd {

inline constexpr std::size_t shortest_key_name_bytes = 3;
inline constexpr std::size_t longest_key_name_bytes = 64;

struct KeyName {
  std::string space;
  std::string name;
  /// The page that counts its visits.
  [[nodiscard]] std::string page() const { return space + "/" + name; }
};

/// A key, or why there is none.
struct KeyOfPath {
  /// too_deep: the path has more parts than a key.
  enum class Fault { none, invalid, too_deep };

  Fault fault = Fault::none;
  KeyName key;
  std::string problem;  ///< invalid: a sentence for the client
};

/// Whether it is 3 to 64 letters, digits, "_", "-" and ".".
[[nodiscard]] bool is_key_name(std::string_view text) noexcept;

/// The key in a decoded path, `SPACE/NAME` or `NAME` alone, which is in the space "default". `:HOST:` stands for the
/// host of the page that asks, `:PATH:` and `:PATHNAME:` for its path. `caller`: that page; nullopt: it is not known.
[[nodiscard]] KeyOfPath key_of_path(std::string_view path, const std::optional<SitePage>& caller);

}  // namespace visitd
