// The key by which the owner of a site is known, where the settings name one.
#pragma once

#include <string_view>

namespace visitd {

/// Whether the key that somebody bears is the owner's. How long that takes says nothing of the owner's key but its
/// length. An empty key is nobody's.
[[nodiscard]] bool is_owner_key(std::string_view borne, std::string_view owners) noexcept;

}  // namespace visitd
