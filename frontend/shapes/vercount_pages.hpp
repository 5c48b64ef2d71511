// The names under which Vercount keeps pages, as its Redis server, and so imports of it, have them. Pure.
#pragma once

#include <string_view>

#include "common/pages/site_page.hpp"

namespace visitd {

/// A page, or what Vercount says of an address that names none.
struct VercountPage {
  SitePage page;
  std::string_view problem;  ///< empty: there is none
};

/// The page of an address: its host in lower case without the usual port; its path, decoded, without the file "index"
/// and a slash at its end, and cut after 200 bytes.
[[nodiscard]] VercountPage vercount_page_of(std::string_view url);

}  // namespace visitd
