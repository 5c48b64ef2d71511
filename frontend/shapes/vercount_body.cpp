#include "frontend/shapes/vercount_body.hpp"

#include <nlohmann/json.hpp>

namespace visitd {

namespace {

// Whatever is longer is something else, and takes no memory here.
constexpr std::size_t longest_vercount_body_bytes = 8192;

}  // namespace

std::optional<VercountBody> vercount_body(std::string_view body) {
  if (body.size() > longest_vercount_body_bytes) return std::nullopt;
  const auto json = nlohmann::json::parse(body, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  VercountBody read;
  const auto url = json.find("url");
  if (url != json.end() && url->is_string()) read.url = url->get<std::string>();
  const auto is_new = json.find("isNewUv");
  read.is_new_visitor = is_new != json.end() && is_new->is_boolean() && is_new->get<bool>();
  return read;
}

}  // namespace visitd
