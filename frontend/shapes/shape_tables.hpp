// The routes in the shape of other counters, a table for each name of http.shapes.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "frontend/api/call.hpp"

namespace visitd {

// Each in the file of its counter.
[[nodiscard]] std::span<const Route> countapi_routes() noexcept;
[[nodiscard]] std::span<const Route> abacus_routes() noexcept;
[[nodiscard]] std::span<const Route> goatcounter_routes() noexcept;
[[nodiscard]] std::span<const Route> busuanzi_routes() noexcept;
[[nodiscard]] std::span<const Route> vercount_routes() noexcept;
[[nodiscard]] std::span<const Route> hits_routes() noexcept;

/// Of the shape with this name; empty: there is none.
[[nodiscard]] std::span<const Route> shape_routes(std::string_view shape) noexcept;

// Without HEAD, because that would count or change something too.
inline constexpr std::uint8_t by_get = methods_of({Method::get});
inline constexpr std::string_view allow_get = "GET, OPTIONS";
inline constexpr std::uint8_t by_get_or_post = methods_of({Method::get, Method::post});
inline constexpr std::string_view allow_get_or_post = "GET, POST, OPTIONS";

}  // namespace visitd
