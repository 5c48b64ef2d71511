// MD5 (RFC 1321): what other counters make of the names of pages. It protects nothing here. Pure.
#pragma once

#include <string>
#include <string_view>

namespace visitd {

/// 32 hex digits.
[[nodiscard]] std::string md5_hex(std::string_view bytes);

}  // namespace visitd
