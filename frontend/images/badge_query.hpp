// What the query of a badge says of its look, and of its count's form. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "frontend/http/refusals.hpp"
#include "frontend/images/badge.hpp"
#include "frontend/images/count_format.hpp"

namespace visitd {

/// The longest label, in bytes.
inline constexpr std::size_t badge_label_limit_bytes = 128;

/// Whether a badge may show this: at most badge_label_limit_bytes of UTF-8 without control characters.
[[nodiscard]] bool is_badge_label(std::string_view text) noexcept;

/// label, color, labelColor, style, locale, abbreviate and count, each as the query says it, or as it is without.
struct BadgeQuery {
  std::string label = "visits";
  std::optional<Rgb> color{};
  std::optional<Rgb> label_color{};
  std::optional<BadgeStyle> style{};
  NumberFormat format{};
  bool abbreviate = false;
  bool counts = false;  ///< the request is a visit

  /// Reads a form-urlencoded query. nullopt: it was read.
  [[nodiscard]] std::optional<Problem> read(std::string_view query);

  /// The look of a badge with this message, which it refers to.
  [[nodiscard]] BadgeLook look(std::string_view message) const noexcept;

 private:
  [[nodiscard]] std::optional<Problem> take(std::string_view name, std::string_view value);
};

}  // namespace visitd
