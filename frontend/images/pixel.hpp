// An image of one transparent pixel.
#pragma once

#include <string_view>

namespace visitd {

/// GIF89a: header, screen of 1 by 1 with two colours, the first one transparent, image.
inline constexpr std::string_view pixel_gif{
    "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xFF\xFF\xFF\x21\xF9\x04\x01\x00\x00\x00\x00\x2C\x00\x00\x00\x00"
    "\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3B",
    43};

}  // namespace visitd
