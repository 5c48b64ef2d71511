// The body of a visit that a client of Vercount sends.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace visitd {

struct VercountBody {
  std::string url;              ///< empty: it names none
  bool is_new_visitor = false;  ///< what the client claims
};

/// nullopt: it is no JSON object, or longer than an address has reason to be.
[[nodiscard]] std::optional<VercountBody> vercount_body(std::string_view body);

}  // namespace visitd
