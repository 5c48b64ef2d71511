// The sole user of toml++.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>

#include "common/config/near_names.hpp"
#include "common/config/setting_forms.hpp"
#include "common/config/setting_sources.hpp"
#include "common/config/setting_text.hpp"
#include "common/os/errors.hpp"
#include "common/os/whole_file.hpp"

namespace visitd::setting {

namespace {

/// The value of a TOML node.
Input input_of(const toml::node& node) {
  if (const auto* number = node.as_integer()) return {number->get(), fmt::format("{}", number->get())};
  if (const auto* boolean = node.as_boolean()) return {boolean->get(), boolean->get() ? "true" : "false"};
  if (const auto* text = node.as_string()) return {text->get(), in_quotes(text->get())};
  if (const auto* number = node.as_floating_point()) return {{}, fmt::format("{}", number->get())};
  if (node.is_table()) return {{}, "a table"};
  const toml::array* array = node.as_array();
  if (array == nullptr) return {{}, "a date or time"};
  std::vector<std::string> list;
  for (const toml::node& entry : *array) {
    if (!entry.is_string()) return {{}, "a list with an entry that is no text"};
    list.push_back(entry.as_string()->get());
  }
  const std::string shown = fmt::format("a list of {}", list.size());
  return {std::move(list), shown};
}

std::string place_of(const std::string& path, const toml::key& key) {
  return fmt::format("{}:{}", path, key.source().begin.line);
}

toml::table parse_toml(const std::string& path) {
  constexpr std::size_t file_limit_bytes = mib;
  const std::string content = read_whole_file(path, file_limit_bytes, "settings file");
  // With the defaults a flusher would count into another deployment, and nobody would see why. Who names /dev/null asks
  // for them.
  if (content.find_first_not_of(" \t\r\n") == std::string::npos && std::filesystem::is_regular_file(path)) {
    throw error(
        "{}:1: the settings file is empty, as a full disk or an interrupted editor leaves it; put the settings back, "
        "or name /dev/null to run with the defaults",
        path);
  }
  try {
    return toml::parse(content, path);
  } catch (const toml::parse_error& failure) {
    throw error("{}:{}: {}", path, failure.source().begin.line, failure.description());
  }
}

void read_shard_tables(const std::string& path, const toml::node& node, std::string where,
                       std::vector<ShardTable>& shard_tables) {
  const toml::array* tables = node.as_array();
  if (tables == nullptr || !tables->is_homogeneous<toml::table>()) {
    throw error("{}: redis.shard is {}; each shard has a table of its own: write [[redis.shard]]", where,
                input_of(node).shown);
  }
  constexpr std::array fields = {
      std::pair("name", &ShardTable::name),
      std::pair("url", &ShardTable::url),
      std::pair("password", &ShardTable::password),
      std::pair("password_file", &ShardTable::password_file),
      std::pair("tls_ca_file", &ShardTable::tls_ca_file),
      std::pair("tls_certificate_file", &ShardTable::tls_certificate_file),
      std::pair("tls_key_file", &ShardTable::tls_key_file),
      std::pair("tls_server_name", &ShardTable::tls_server_name),
      std::pair("sentinel_username", &ShardTable::sentinel_username),
      std::pair("sentinel_password_file", &ShardTable::sentinel_password_file),
  };
  std::vector<std::string_view> names;
  names.reserve(std::size(fields));
  for (const auto& [name, field] : fields) names.emplace_back(name);
  for (const toml::node& entry : *tables) {
    ShardTable shard;
    shard.where = fmt::format("{}:{}", path, entry.source().begin.line);
    for (const auto& [key, value] : *entry.as_table()) {
      const auto found = std::ranges::find(names, key.str());
      where = place_of(path, key);
      if (found == names.end()) {
        throw error("{}: key '{}' of a [[redis.shard]] is unknown{} Keys of [[redis.shard]]: {}", where, key.str(),
                    did_you_mean(key.str(), names), fmt::join(names, ", "));
      }
      if (!value.is_string() || value.as_string()->get().empty()) {
        throw error("{}: '{}' of a [[redis.shard]] is {}; allowed: text", where, key.str(),
                    value.is_string() ? "empty" : input_of(value).shown);
      }
      const std::string& text = value.as_string()->get();
      if (found->ends_with("_file") && !is_absolute_path(text)) {
        throw error("{}: '{}' of this [[redis.shard]] is {}; allowed: an absolute path", where, *found,
                    in_quotes(text));
      }
      if (*found == "tls_server_name" && !is_host_name_or_empty(text)) {
        throw error("{}: '{}' of this [[redis.shard]] is {}; allowed: a host name or address", where, *found,
                    in_quotes(text));
      }
      shard.*fields.at(static_cast<std::size_t>(found - names.begin())).second = text;
    }
    if (shard.url.empty()) throw error("{}: this [[redis.shard]] has no 'url'", shard.where);
    shard_tables.push_back(std::move(shard));
  }
}

void read_section(const std::string& path, std::string_view section, const toml::table& table, Sources& sources) {
  const std::span<const Key> keys = setting_rows();
  const std::vector<std::string_view> names = key_names(section);
  for (const auto& [name, node] : table) {
    const std::string where = place_of(path, name);
    if (section == "redis" && name.str() == "shard") {
      read_shard_tables(path, node, where, sources.shard_tables);
      continue;
    }
    if (std::ranges::find(names, name.str()) == names.end()) {
      const auto owner = std::ranges::find(keys, name.str(), &Key::name);
      const std::string hint =
          owner != keys.end() ? fmt::format("; it belongs to [{}].", owner->section) : did_you_mean(name.str(), names);
      throw error("{}: key '{}.{}' is unknown{} Keys of [{}]: {}", where, section, name.str(), hint, section,
                  fmt::join(names, ", "));
    }
    sources.given.push_back({&key_named(section, name.str()), input_of(node), {Source::file, where}});
  }
  const Origin shards = sources.origin("redis", "shards");
  if (section == "redis" && shards.source == Source::file && !sources.shard_tables.empty()) {
    throw error("{}: the shards are given twice: use either redis.shards or [[redis.shard]]", shards.where);
  }
}

}  // namespace

void read_settings_file(const std::string& path, Sources& sources) {
  const toml::table root = parse_toml(path);
  const std::span<const Key> keys = setting_rows();
  const std::vector<std::string_view> sections = section_names();
  for (const auto& [key, node] : root) {
    const std::string_view name = key.str();
    if (std::ranges::find(sections, name) == sections.end()) {
      const auto owner = std::ranges::find(keys, name, &Key::name);
      if (!node.is_table() && owner != keys.end()) {
        throw error("{}: key '{}' stands outside its section: write it below [{}]", place_of(path, key), name,
                    owner->section);
      }
      throw error("{}: section '{}' is unknown{} Sections: {}", place_of(path, key), name, did_you_mean(name, sections),
                  fmt::join(sections, ", "));
    }
    if (!node.is_table()) throw error("{}: '{}' is a section: write [{}]", place_of(path, key), name, name);
    read_section(path, name, *node.as_table(), sources);
  }
}

Origin Sources::origin(std::string_view section, std::string_view name) const {
  const Key* key = &key_named(section, name);
  const auto last = std::ranges::find(given.rbegin(), given.rend(), key, &Given::key);
  return last == given.rend() ? Origin{} : last->origin;
}

}  // namespace visitd::setting
