#include "frontend/api/count_body.hpp"

#include <nlohmann/json.hpp>

#include "common/shm/count.hpp"

namespace visitd {

namespace {

// Whatever is longer is something else, and takes no memory here before it is known who sends it.
constexpr std::size_t longest_body_bytes = 256;

}  // namespace

std::optional<std::uint64_t> count_in(std::string_view body) {
  if (body.size() > longest_body_bytes) return std::nullopt;
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (!json.is_object() || json.size() != 1 || !json.contains("count") || !json["count"].is_number_unsigned()) {
    return std::nullopt;
  }
  const auto count = json["count"].get<std::uint64_t>();
  return count <= count_limit ? std::optional(count) : std::nullopt;
}

}  // namespace visitd
