// The script that is served in the place of busuanzi's, as it stands in this folder.
#pragma once

#include <string_view>

namespace visitd {

/// busuanzi.js
[[nodiscard]] std::string_view busuanzi_script_text() noexcept;

}  // namespace visitd
