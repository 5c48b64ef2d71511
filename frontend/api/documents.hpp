// The documents that are served as they stand in this folder, built into the program by embed_files.py.
#pragma once

#include <string_view>

namespace visitd {

/// openapi.json
[[nodiscard]] std::string_view openapi_document() noexcept;
/// docs.html
[[nodiscard]] std::string_view docs_page() noexcept;

}  // namespace visitd
