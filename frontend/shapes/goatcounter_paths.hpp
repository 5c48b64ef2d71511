// The names under which GoatCounter keeps pages: as its exports, and so imports of them, have them. Pure.
#pragma once

#include <string>
#include <string_view>

namespace visitd {

/// The page of the path that its script sends: slashes around it are one before it, and parameters of the query that
/// only tell where a reader came from are left out. Empty: there is none. Of an event no slash is before the name.
[[nodiscard]] std::string goatcounter_page(std::string_view path, bool is_event);

}  // namespace visitd
