#include "flusher/counting/spool_layout.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/os/text.hpp"

namespace visitd {

namespace {

bool parse_size(std::string_view text, std::uint32_t& number) noexcept {
  return parse_decimal(text, number) && number != 0;
}

}  // namespace

std::string to_text(const SpoolLayout& layout) {
  return fmt::format("{}\n{}\n{}", layout.buckets, layout.virtual_nodes, fmt::join(layout.shards, "\n"));
}

bool parse_layout(std::string_view text, SpoolLayout& layout) {
  SpoolLayout parsed;
  if (!parse_size(take_until(text, '\n'), parsed.buckets) || !parse_size(take_until(text, '\n'), parsed.virtual_nodes))
    return false;
  while (!text.empty()) parsed.shards.emplace_back(take_until(text, '\n'));
  if (parsed.shards.empty()) return false;
  layout = std::move(parsed);
  return true;
}

std::string layout_fault(const SpoolLayout& noted, const SpoolLayout& wanted) {
  const auto number_fault = [](const char* setting, std::uint32_t was, std::uint32_t is) {
    return fmt::format("it was made with {} = {}, and the settings say {}. Set {} back to {}", setting, was, is,
                       setting, was);
  };
  if (noted.buckets != wanted.buckets) return number_fault("redis.buckets", noted.buckets, wanted.buckets);
  if (noted.virtual_nodes != wanted.virtual_nodes) {
    return number_fault("redis.virtual_nodes", noted.virtual_nodes, wanted.virtual_nodes);
  }
  if (noted.shards != wanted.shards) {
    return fmt::format(
        "it was made for the shards {}, and redis.shards names {}. Shards are added and removed with visitctl shards, "
        "which moves their counts; until then name the same ones (their addresses may change)",
        fmt::join(noted.shards, ", "), fmt::join(wanted.shards, ", "));
  }
  return {};
}

}  // namespace visitd
