#include "common/config/setting_text.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <iterator>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/config/shard_address.hpp"

namespace visitd {

namespace setting {

std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += {'\\', c};
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      result += fmt::format("\\u{:04X}", static_cast<unsigned char>(c));
    } else {
      result.push_back(c);
    }
  }
  return result + '"';
}

std::string bytes_text(std::uint64_t bytes) {
  for (const auto& [size, unit] : {std::pair{gib, "GiB"}, std::pair{mib, "MiB"}, std::pair{kib, "KiB"}}) {
    if (bytes >= size && bytes % size == 0) return fmt::format("{}{}", bytes / size, unit);
  }
  return fmt::format("{}", bytes);
}

std::optional<std::uint64_t> parse_bytes(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  if (text.starts_with(' ')) text.remove_prefix(1);
  for (const auto& [size, unit] : {std::pair{1 * gib, "GiB"}, std::pair{mib, "MiB"}, std::pair{kib, "KiB"},
                                   std::pair{std::uint64_t{1}, "B"}, std::pair{std::uint64_t{1}, ""}}) {
    if (text != unit) continue;
    if (number > UINT64_MAX / size) return std::nullopt;
    return number * size;
  }
  return std::nullopt;
}

std::string literal(const Draft& draft, const Key& key) {
  return std::visit(
      [&](auto place) -> std::string {
        const auto& value = place.of(draft);
        using Value = typename decltype(place)::Value;
        if constexpr (std::is_same_v<Value, bool>) {
          return value ? "true" : "false";
        } else if constexpr (std::is_integral_v<Value>) {
          const bool as_text = key.is_bytes() && value >= kib && value % kib == 0;
          return as_text ? in_quotes(bytes_text(value)) : fmt::format("{}", value);
        } else if constexpr (std::is_enum_v<Value>) {
          return in_quotes(choice_names<Value>[static_cast<std::size_t>(value)]);
        } else if constexpr (std::is_same_v<Value, std::string>) {
          return in_quotes(value);
        } else {
          std::vector<std::string> entries;
          std::ranges::transform(value, std::back_inserter(entries), in_quotes);
          return fmt::format("[{}]", fmt::join(entries, ", "));
        }
      },
      key.place);
}

std::string allowed(const Key& key) {
  return std::visit(
      [&](auto place) -> std::string {
        using Value = typename decltype(place)::Value;
        if constexpr (std::is_same_v<Value, bool>) {
          return "true or false";
        } else if constexpr (std::is_integral_v<Value>) {
          const bool bytes = key.is_bytes();
          return fmt::format("{} to {}{}", bytes ? bytes_text(key.least) : fmt::format("{}", key.least),
                             bytes ? bytes_text(key.most) : fmt::format("{}", key.most),
                             key.power_of_two ? ", a power of two" : "");
        } else if constexpr (std::is_enum_v<Value>) {
          return fmt::format("\"{}\"", fmt::join(choice_names<Value>, "\" or \""));
        } else if constexpr (std::is_same_v<Value, std::string>) {
          return std::string(key.allowed);
        } else {
          return fmt::format("{} to {} of {}", key.least, key.most, key.allowed);
        }
      },
      key.place);
}

}  // namespace setting

using namespace setting;

std::string to_toml(const Settings& settings) {
  const Draft draft(settings);
  std::string text;
  for (const std::string_view section : section_names()) {
    text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", section);
    for (const Key& key : setting_rows()) {
      if (key.section == section && !key.part_of_shard) text += fmt::format("{} = {}\n", key.name, literal(draft, key));
    }
    if (section != "redis") continue;
    if (settings.redis.mode == RedisMode::cluster) {
      std::vector<std::string> nodes;
      nodes.reserve(settings.redis.shards.size());
      for (const ShardSettings& node : settings.redis.shards) nodes.push_back(in_quotes(shard_url(node)));
      text += fmt::format("nodes = [{}]\n", fmt::join(nodes, ", "));
      continue;
    }
    std::vector<std::string_view> parts;
    for (const Key& key : setting_rows()) {
      if (key.part_of_shard) parts.push_back(key.name);
    }
    text += fmt::format("# {} as they are for each shard:\n", fmt::join(parts, ", "));
    for (const ShardSettings& shard : settings.redis.shards) {
      text +=
          fmt::format("\n[[redis.shard]]\nname = {}\nurl = {}\n", in_quotes(shard.name), in_quotes(shard_url(shard)));
      if (!shard.password.empty()) text += "# password = \"(hidden)\"\n";
      for (const auto& [key, value] :
           {std::pair("tls_ca_file", &shard.tls.ca.path),
            std::pair("tls_certificate_file", &shard.tls.certificate.path),
            std::pair("tls_key_file", &shard.tls.key.path), std::pair("tls_server_name", &shard.tls.server_name),
            std::pair("sentinel_username", &shard.sentinels.username),
            std::pair("sentinel_password_file", &shard.sentinels.password.path)}) {
        if (!value->empty()) text += fmt::format("{} = {}\n", key, in_quotes(*value));
      }
    }
  }
  return text;
}

std::vector<SettingDescription> describe_settings() {
  const Draft defaults;
  std::vector<SettingDescription> descriptions;
  for (const Key& key : setting_rows()) {
    const bool restart = key.change.how == Change::restart;
    std::string environment = environment_name(key);
    if (!key.original.empty()) environment += fmt::format(", {}", key.original);
    descriptions.push_back({.section = std::string(key.section),
                            .key = std::string(key.name),
                            .default_value = literal(defaults, key),
                            .allowed = allowed(key),
                            .takes_effect = fmt::format("{} {}", restart ? "after a restart of" : "at once in",
                                                        programs_text(key.change.by)),
                            .environment = std::move(environment),
                            .help = std::string(key.help)});
  }
  return descriptions;
}

std::string settings_help() {
  std::string text;
  std::string section;
  for (const SettingDescription& key : describe_settings()) {
    if (section != key.section) text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", key.section);
    section = key.section;
    text += fmt::format("{} = {}\n    {}\n    Allowed: {}. Environment: {}. Takes effect {}.\n", key.key,
                        key.default_value, key.help, key.allowed, key.environment, key.takes_effect);
  }
  return text;
}

}  // namespace visitd
