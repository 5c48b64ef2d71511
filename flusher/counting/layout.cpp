#include "flusher/counting/layout.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "common/os/invariant.hpp"
#include "common/os/text.hpp"

namespace visitd {

namespace {

constexpr std::string_view nothing = "-";

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = std::min(text.find(separator), text.size());
    parts.push_back(text.substr(0, end));
    if (end == text.size()) return parts;
    text.remove_prefix(end + 1);
  }
}

template <typename Number>
bool parse_positive(std::string_view text, Number& number) noexcept {
  return parse_decimal(text, number) && number != 0;
}

std::string places_text(const std::vector<ShardPlace>& places) {
  if (places.empty()) return std::string(nothing);
  std::string text;
  for (const ShardPlace& place : places) {
    if (!text.empty()) text += ';';
    text += place.name;
    if (!place.url.empty()) text += '=' + place.url;
  }
  return text;
}

bool parse_places(std::string_view text, std::vector<ShardPlace>& places) {
  if (text == nothing) return true;
  for (std::string_view part : split(text, ';')) {
    const std::string_view name = take_until(part, '=');
    if (name.empty()) return false;
    places.push_back({std::string(name), std::string(part)});
  }
  return true;
}

/// By indexes in `life`, the shards of a life.
std::vector<std::uint32_t> placed_on(const std::vector<ShardPlace>& places, const std::vector<std::string>& life,
                                     const Layout& layout, const std::optional<ClusterMap>& cluster) {
  std::vector<std::uint32_t> index_of;
  if (places.front().is_cluster()) {
    must_hold(cluster.has_value(), "a life with a cluster knows its map");
    for (const std::string& node : cluster->primaries()) {
      index_of.push_back(static_cast<std::uint32_t>(std::ranges::find(life, node) - life.begin()));
    }
  } else {
    for (const ShardPlace& place : places) {
      index_of.push_back(static_cast<std::uint32_t>(std::ranges::find(life, place.name) - life.begin()));
    }
  }
  std::vector<std::uint32_t> placed = places.front().is_cluster()
                                          ? cluster->place(layout.buckets)
                                          : place_on_circle(names_of(places), layout.virtual_nodes, layout.buckets);
  for (std::uint32_t& shard : placed) shard = index_of[shard];
  return placed;
}

}  // namespace

bool ShardPlace::is_cluster() const noexcept {
  return url.starts_with("cluster://") || url.starts_with("clusters://");
}

std::string to_text(const Layout& layout) {
  if (layout.version == 1) {
    std::vector<std::string> names = names_of(layout.shards);
    std::ranges::sort(names);
    return fmt::format("{} {} {}", layout.buckets, layout.virtual_nodes, fmt::join(names, ","));
  }
  return fmt::format("{} {} {} {} {}{}", layout.version, layout.buckets, layout.virtual_nodes,
                     places_text(layout.shards), places_text(layout.next),
                     layout.rate == 0 ? std::string() : fmt::format(" {}", layout.rate));
}

std::optional<Layout> parse_layout(std::string_view text) {
  Layout layout;
  const std::vector<std::string_view> words = split(text, ' ');
  if (words.size() < 5 || words.size() > 6 || !parse_positive(words[0], layout.version) || layout.version == 1 ||
      !parse_positive(words[1], layout.buckets) || !parse_positive(words[2], layout.virtual_nodes) ||
      !parse_places(words[3], layout.shards) || !parse_places(words[4], layout.next) || layout.shards.empty()) {
    return std::nullopt;
  }
  if (words.size() == 6 && !parse_positive(words[5], layout.rate)) return std::nullopt;
  return layout;
}

std::vector<std::string> names_of(const std::vector<ShardPlace>& places) {
  std::vector<std::string> names;
  names.reserve(places.size());
  for (const ShardPlace& place : places) names.push_back(place.name);
  return names;
}

std::vector<ShardPlace> all_shards(const Layout& layout) {
  std::vector<ShardPlace> all = layout.shards;
  for (const ShardPlace& place : layout.next) {
    if (std::ranges::find(all, place.name, &ShardPlace::name) == all.end()) all.push_back(place);
  }
  return all;
}

const std::string& deciding_shard(const Layout& layout) {
  return std::ranges::min_element(layout.shards, {}, &ShardPlace::name)->name;
}

const ShardPlace* cluster_of(const Layout& layout) {
  for (const std::vector<ShardPlace>* places : {&layout.shards, &layout.next}) {
    const auto cluster = std::ranges::find_if(*places, &ShardPlace::is_cluster);
    if (cluster != places->end()) return &*cluster;
  }
  return nullptr;
}

std::vector<std::string> shards_of_life(const Layout& layout, const std::optional<ClusterMap>& cluster) {
  std::vector<std::string> shards;
  for (const ShardPlace& place : all_shards(layout)) {
    if (!place.is_cluster()) shards.push_back(place.name);
  }
  if (cluster) std::ranges::copy(cluster->primaries(), std::back_inserter(shards));
  return shards;
}

Placement place_buckets(const Layout& layout, const std::optional<ClusterMap>& cluster) {
  const std::vector<std::string> life = shards_of_life(layout, cluster);
  const auto count = static_cast<std::uint32_t>(life.size());
  const auto nodes = static_cast<std::uint32_t>(cluster ? cluster->primaries().size() : 0);
  std::vector<std::uint32_t> here = placed_on(layout.shards, life, layout, cluster);
  auto next = layout.is_moving() ? placed_on(layout.next, life, layout, cluster) : std::vector<std::uint32_t>();
  return {std::move(here), count, std::move(next), count - nodes};
}

std::string move_marker(std::string_view next, std::uint64_t version) {
  return fmt::format("{} {}", next, version);
}

Layout begin_move(const Layout& layout, std::vector<ShardPlace> next) {
  return {layout.version + 1, layout.buckets, layout.virtual_nodes, layout.shards, std::move(next), 0};
}

Layout end_move(const Layout& layout) {
  return {layout.version + 1, layout.buckets, layout.virtual_nodes, layout.next, {}, 0};
}

}  // namespace visitd
