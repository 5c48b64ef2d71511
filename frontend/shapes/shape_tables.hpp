// The routes in the shape of other counters, a table for each name of http.shapes.
#pragma once

#include <cstdint>
#include <initializer_list>
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

/// A bit for each method, as Route::methods has them.
[[nodiscard]] constexpr std::uint8_t methods_of(std::initializer_list<Method> methods) noexcept {
  std::uint8_t bits = 0;
  for (const Method method : methods) bits |= static_cast<std::uint8_t>(1U << static_cast<unsigned>(method));
  return bits;
}

// GET alone, of what HEAD would count or change too; and of what only reads.
inline constexpr std::uint8_t by_get = methods_of({Method::get});
inline constexpr std::string_view allow_get = "GET, OPTIONS";
inline constexpr std::uint8_t by_get_or_head = methods_of({Method::get, Method::head});
inline constexpr std::string_view allow_get_or_head = "GET, HEAD, OPTIONS";
inline constexpr std::uint8_t by_post = methods_of({Method::post});
inline constexpr std::string_view allow_post = "POST, OPTIONS";
inline constexpr std::uint8_t by_get_or_post = methods_of({Method::get, Method::post});
inline constexpr std::string_view allow_get_or_post = "GET, POST, OPTIONS";

}  // namespace visitd
