#include "flusher/counting/cluster_map.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "common/os/text.hpp"

namespace visitd {

namespace {

/// CRC-16/XMODEM, by bytes.
constexpr std::array<std::uint16_t, 256> crc16_table = [] {
  std::array<std::uint16_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t crc = byte << 8U;
    for (int bit = 0; bit < 8; ++bit) crc = (crc << 1U) ^ ((crc & 0x8000U) != 0 ? 0x1021U : 0U);
    table[byte] = static_cast<std::uint16_t>(crc);
  }
  return table;
}();

bool parse_slot(std::string_view text, std::uint32_t& slot) noexcept {
  return parse_decimal(text, slot) && slot < cluster_slots;
}

}  // namespace

std::uint32_t slot_of_key(std::string_view key) noexcept {
  if (const std::size_t open = key.find('{'); open != std::string_view::npos) {
    const std::size_t close = key.find('}', open);
    if (close != std::string_view::npos && close > open + 1) key = key.substr(open + 1, close - open - 1);
  }
  std::uint32_t crc = 0;
  for (const char c : key) {
    crc = (crc << 8U & 0xffffU) ^ crc16_table[(crc >> 8U ^ static_cast<unsigned char>(c)) & 0xffU];
  }
  return crc % cluster_slots;
}

std::vector<std::string> ClusterMap::primaries() const {
  std::vector<std::string> nodes;
  nodes.reserve(slots.size());
  for (const Slots& range : slots) nodes.push_back(range.node);
  std::ranges::sort(nodes);
  nodes.erase(std::ranges::unique(nodes).begin(), nodes.end());
  return nodes;
}

std::vector<std::uint32_t> ClusterMap::place(std::uint32_t buckets) const {
  const std::vector<std::string> nodes = primaries();
  std::vector<std::uint32_t> node_of_slot(cluster_slots);
  for (const Slots& range : slots) {
    const auto node = std::ranges::lower_bound(nodes, range.node) - nodes.begin();
    for (std::uint32_t slot = range.first; slot <= range.last; ++slot) {
      node_of_slot[slot] = static_cast<std::uint32_t>(node);
    }
  }
  std::vector<std::uint32_t> placed;
  placed.reserve(buckets);
  for (std::uint32_t bucket = 0; bucket < buckets; ++bucket) {
    placed.push_back(node_of_slot[slot_of_key(fmt::format("visits:{{{}}}", bucket))]);
  }
  return placed;
}

std::string to_text(const ClusterMap& map) {
  std::string text;
  for (const std::string& node : map.primaries()) {
    char before = '=';
    text += (text.empty() ? "" : ";") + node;
    for (const ClusterMap::Slots& range : map.slots) {
      if (range.node != node) continue;
      text += fmt::format("{}{}-{}", before, range.first, range.last);
      before = ',';
    }
  }
  for (const std::string& replica : map.replicas) text += (text.empty() ? "+" : ";+") + replica;
  return text;
}

std::optional<ClusterMap> parse_cluster_map(std::string_view text) {
  ClusterMap map;
  while (!text.empty()) {
    std::string_view part = take_until(text, ';');
    if (part.starts_with('+')) {
      map.replicas.emplace_back(part.substr(1));
      continue;
    }
    const std::string node(take_until(part, '='));
    if (node.empty() || part.empty()) return std::nullopt;
    while (!part.empty()) {
      std::string_view range = take_until(part, ',');
      ClusterMap::Slots slots{0, 0, node};
      if (!parse_slot(take_until(range, '-'), slots.first) || !parse_slot(range, slots.last)) return std::nullopt;
      map.slots.push_back(std::move(slots));
    }
  }
  return map;
}

}  // namespace visitd
