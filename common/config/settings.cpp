#include "common/config/settings.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>
#include <toml++/toml.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <variant>

#include "common/config/near_names.hpp"
#include "common/config/setting_keys.hpp"
#include "common/config/shard_address.hpp"
#include "common/os/errors.hpp"
#include "common/os/unique_fd.hpp"
#include "common/shm/cache_layout.hpp"
#include "common/shm/ring_layout.hpp"

namespace visitd {

using namespace setting;

namespace {

const std::span<const Key> keys = setting_keys();

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return result;
}

// --- files

/// The whole of a file of at most `limit` bytes. Throws Error; `what` says what the file is.
std::string read_file(const std::string& path, std::size_t limit, std::string_view what) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) throw error("cannot open the {} '{}': {}", what, path, std::strerror(errno));
  std::string content(limit + 1, '\0');
  std::size_t size = 0;
  while (size < content.size()) {
    const ssize_t count = ::read(file.get(), content.data() + size, content.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw error("cannot read the {} '{}': {}", what, path, std::strerror(errno));
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  if (size > limit) throw error("the {} '{}' is larger than {} bytes", what, path, limit);
  content.resize(size);
  return content;
}

enum class Empty { is_refused, is_none };

/// `where`: what named the file. `empty`: what a file without a password means.
std::string read_password_file(const std::string& path, const std::string& where, Empty empty = Empty::is_refused) {
  constexpr std::size_t password_limit_bytes = 512;
  std::string password;
  try {
    password = read_file(path, password_limit_bytes, "password file");
  } catch (const Error& failure) {
    throw error("{}: {}", where, failure.what());
  }
  if (password.ends_with('\n')) password.pop_back();
  if (password.ends_with('\r')) password.pop_back();
  if (password.empty() && empty == Empty::is_refused) throw error("{}: the password file '{}' is empty", where, path);
  if (!is_password(password)) throw error("{}: the password file '{}' holds a NUL", where, path);
  return password;
}

// --- reading

/// A value as a file or the environment gives it, and as an error shows it. monostate: of a type that no key has.
struct Input {
  std::variant<std::monostate, std::int64_t, bool, std::string, std::vector<std::string>> value;
  std::string shown;
};

enum class Source { built_in, file, environment };

/// One [[redis.shard]].
struct ShardTable {
  std::string where;
  std::string name;
  std::string url;
  std::string password;
  std::string password_file;
};

class Loader {
 public:
  void read_toml(const std::string& path);
  void read_environment(OriginalNames originals);
  Settings finish(Secrets secrets);

 private:
  struct Origin {
    Source source = Source::built_in;
    std::string where;
  };

  void read_section(const std::string& path, std::string_view section, const toml::table& table);
  void read_shard_tables(const std::string& path, const toml::node& node, std::string where);
  void set(const Key& key, const Input& input, Source source, const std::string& where);
  void check_together() const;
  void make_shards(Secrets secrets);
  void note_password_files();
  void check_distinct() const;
  struct Password {
    std::string text;
    std::string place;  ///< what gave it, for people
  };
  [[nodiscard]] Password shared_password() const;

  [[nodiscard]] const Origin& origin(const Key& key) const { return origins_[index(key)]; }
  /// Where one of these keys was set; empty where none was.
  [[nodiscard]] std::string place(std::initializer_list<const Key*> keys_at_fault) const;
  static std::size_t index(const Key& key) { return static_cast<std::size_t>(&key - keys.data()); }

  Draft draft_;
  std::vector<Origin> origins_ = std::vector<Origin>(keys.size());
  std::vector<ShardTable> shard_tables_;
  std::vector<std::string> shard_places_;  ///< where each of draft_.redis.shards was named
};

[[noreturn]] void refuse(const std::string& where, const Key& key, const std::string& shown) {
  throw error("{}: {} is {}; allowed: {}", where, full_name(key), key.secret ? "(hidden)" : shown, allowed(key));
}

void Loader::set(const Key& key, const Input& input, Source source, const std::string& where) {
  const auto fail = [&]() { refuse(where, key, input.shown); };
  const auto well_formed = [&](const std::string& text) { return key.form == nullptr || key.form(text); };
  std::visit(
      [&](auto place) {
        using Value = typename decltype(place)::Value;
        auto& target = place.in(draft_);
        if constexpr (std::is_same_v<Value, bool>) {
          const bool* value = std::get_if<bool>(&input.value);
          if (value == nullptr) return fail();
          target = *value;
        } else if constexpr (std::is_integral_v<Value>) {
          std::optional<std::uint64_t> number;
          if (const auto* value = std::get_if<std::int64_t>(&input.value); value != nullptr && *value >= 0) {
            number = static_cast<std::uint64_t>(*value);
          } else if (const auto* text = std::get_if<std::string>(&input.value);
                     text != nullptr && key.unit == "bytes") {
            number = parse_bytes(*text);
          }
          if (!number || *number < key.least || *number > key.most) return fail();
          if (key.power_of_two && !std::has_single_bit(*number)) return fail();
          target = static_cast<Value>(*number);
        } else if constexpr (std::is_same_v<Value, HotRoutes>) {
          const auto* text = std::get_if<std::string>(&input.value);
          if (text == nullptr) return fail();
          if (*text != to_text(HotRoutes::direct) && *text != to_text(HotRoutes::httplib)) return fail();
          target = *text == to_text(HotRoutes::direct) ? HotRoutes::direct : HotRoutes::httplib;
        } else if constexpr (std::is_same_v<Value, std::string>) {
          const auto* text = std::get_if<std::string>(&input.value);
          if (text == nullptr || text->size() < key.least || text->size() > key.most || !well_formed(*text))
            return fail();
          target = *text;
        } else {
          const auto* list = std::get_if<std::vector<std::string>>(&input.value);
          if (list == nullptr || list->size() < key.least || list->size() > key.most) return fail();
          for (const std::string& entry : *list) {
            if (!well_formed(entry)) refuse(where, key, in_quotes(entry));
            if (!key.secret && std::ranges::count(*list, entry) > 1) refuse(where, key, in_quotes(entry) + " twice");
          }
          target = *list;
        }
      },
      key.place);
  origins_[index(key)] = {source, where};
}

// --- the file

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
  const std::string content = read_file(path, file_limit_bytes, "settings file");
  try {
    return toml::parse(content, path);
  } catch (const toml::parse_error& failure) {
    throw error("{}:{}: {}", path, failure.source().begin.line, failure.description());
  }
}

void Loader::read_toml(const std::string& path) {
  const toml::table root = parse_toml(path);
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
    read_section(path, name, *node.as_table());
  }
}

void Loader::read_section(const std::string& path, std::string_view section, const toml::table& table) {
  const std::vector<std::string_view> names = key_names(section);
  for (const auto& [name, node] : table) {
    const std::string where = place_of(path, name);
    if (section == "redis" && name.str() == "shard") {
      read_shard_tables(path, node, where);
      continue;
    }
    if (std::ranges::find(names, name.str()) == names.end()) {
      const auto owner = std::ranges::find(keys, name.str(), &Key::name);
      const std::string hint =
          owner != keys.end() ? fmt::format("; it belongs to [{}].", owner->section) : did_you_mean(name.str(), names);
      throw error("{}: key '{}.{}' is unknown{} Keys of [{}]: {}", where, section, name.str(), hint, section,
                  fmt::join(names, ", "));
    }
    set(key_named(section, name.str()), input_of(node), Source::file, where);
  }
  const Key& shards = key_named("redis", "shards");
  if (section == "redis" && origin(shards).source == Source::file && !shard_tables_.empty()) {
    throw error("{}: the shards are given twice: use either redis.shards or [[redis.shard]]", origin(shards).where);
  }
}

void Loader::read_shard_tables(const std::string& path, const toml::node& node, std::string where) {
  const toml::array* tables = node.as_array();
  if (tables == nullptr || !tables->is_homogeneous<toml::table>()) {
    throw error("{}: redis.shard is {}; each shard has a table of its own: write [[redis.shard]]", where,
                input_of(node).shown);
  }
  constexpr std::array<std::string_view, 4> names = {"name", "url", "password", "password_file"};
  for (const toml::node& entry : *tables) {
    ShardTable shard;
    shard.where = fmt::format("{}:{}", path, entry.source().begin.line);
    const std::array targets = {&shard.name, &shard.url, &shard.password, &shard.password_file};
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
      *targets[static_cast<std::size_t>(found - names.begin())] = value.as_string()->get();
    }
    if (!shard.password_file.empty() && !shard.password_file.starts_with('/')) {
      throw error("{}: 'password_file' of this [[redis.shard]] is {}; allowed: an absolute path", shard.where,
                  in_quotes(shard.password_file));
    }
    if (shard.url.empty()) throw error("{}: this [[redis.shard]] has no 'url'", shard.where);
    shard_tables_.push_back(std::move(shard));
  }
}

// --- the environment

/// Seconds, possibly with a fraction, in milliseconds.
std::optional<std::int64_t> parse_seconds(std::string_view text) {
  double seconds = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), seconds, std::chars_format::fixed);
  if (failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return std::nullopt;
  return std::llround(seconds * 1000);
}

std::vector<std::string> split_list(std::string_view text) {
  constexpr std::string_view blanks = " \t";
  std::vector<std::string> entries;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    std::string_view entry = text.substr(0, comma);
    entry.remove_prefix(std::min(entry.find_first_not_of(blanks), entry.size()));
    entry = entry.substr(0, entry.find_last_not_of(blanks) + 1);
    entries.emplace_back(entry);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return entries;
}

/// The text of an environment variable as a value of the key's type; text where it is none of that type.
Input input_of(const Key& key, const std::string& text) {
  return std::visit(
      [&](auto place) -> Input {
        using Value = typename decltype(place)::Value;
        if constexpr (std::is_same_v<Value, bool>) {
          const std::string word = lower(text);
          if (word == "true" || word == "1") return {true, text};
          if (word == "false" || word == "0") return {false, text};
        } else if constexpr (std::is_integral_v<Value>) {
          std::int64_t number = 0;
          const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
          if (failed == std::errc{} && end == text.data() + text.size()) return {number, text};
        } else if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
          return {split_list(text), in_quotes(text)};
        }
        return {text, in_quotes(text)};
      },
      key.place);
}

bool may_be_empty(const Key& key) {
  const bool text_or_list = std::holds_alternative<Place<std::string>>(key.place) ||
                            std::holds_alternative<Place<std::vector<std::string>>>(key.place);
  return text_or_list && key.least == 0;
}

/// Whether Kubernetes sets such a variable for a Service whose name begins with visitd: VISITD_SERVICE_HOST,
/// VISITD_PORT_8000_TCP_ADDR and the like, and VISITD_PORT with an address. Where VISITD_PORT holds a number, somebody
/// meant a setting.
bool is_of_a_service(const std::string& name, std::string_view value) {
  constexpr const char* endings[] = {"SERVICE_HOST",      "SERVICE_PORT",      "SERVICE_PORT_*",
                                     "PORT_[0-9]*_TCP",   "PORT_[0-9]*_UDP",   "PORT_[0-9]*_SCTP",
                                     "PORT_[0-9]*_TCP_*", "PORT_[0-9]*_UDP_*", "PORT_[0-9]*_SCTP_*"};
  const auto has_form = [&](const std::string& form) { return fnmatch(form.c_str(), name.c_str(), 0) == 0; };
  const std::string beginning = "VISITD_";
  for (const char* const ending : endings) {
    if (has_form(beginning + ending) || has_form(beginning + "*_" + ending)) return true;
  }
  return name.ends_with("_PORT") && value.find("://") != value.npos;
}

/// A name of ours that is no setting would otherwise change nothing, silently.
void refuse_unknown_names() {
  std::vector<std::string> ours;
  std::ranges::transform(keys, std::back_inserter(ours), environment_name);
  const std::vector<std::string_view> names(ours.begin(), ours.end());
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (!text.starts_with("VISITD_")) continue;
    const std::string name(text.substr(0, text.find('=')));
    if (std::ranges::find(ours, name) != ours.end() || is_of_a_service(name, text.substr(name.size()))) continue;
    throw error("environment variable {} is unknown{} --help-settings lists those that there are", name,
                did_you_mean(name, names));
  }
}

void Loader::read_environment(OriginalNames originals) {
  refuse_unknown_names();
  for (const Key& key : keys) {
    const std::string own = environment_name(key);
    const std::string original(originals == OriginalNames::read ? key.original : std::string_view());
    for (const std::string& name : {own, original}) {
      const char* value = name.empty() ? nullptr : std::getenv(name.c_str());
      if (value == nullptr || (*value == '\0' && !may_be_empty(key))) continue;
      const std::string where = fmt::format("environment variable {}", name);
      // A password may be any bytes; all else is shown, and written as TOML, which is UTF-8.
      const bool is_a_password = key.secret && std::holds_alternative<Place<std::string>>(key.place);
      if (!is_a_password && !is_utf8(value)) throw error("{} is not valid UTF-8", where);
      Input input = input_of(key, value);
      if (name.ends_with("_SECONDS")) {
        const auto milliseconds = parse_seconds(value);
        if (!milliseconds) throw error("{} is '{}'; allowed: seconds, such as 30 or 0.5", where, value);
        input = {*milliseconds, fmt::format("{}", *milliseconds)};
      }
      set(key, input, Source::environment, where);
      break;
    }
  }
}

// --- what holds between keys

std::string Loader::place(std::initializer_list<const Key*> keys_at_fault) const {
  for (const Key* key : keys_at_fault) {
    if (origin(*key).source != Source::built_in) return origin(*key).where + ": ";
  }
  return {};
}

std::string normal_path(const std::string& path) {
  return std::filesystem::path(path + '/').lexically_normal();
}

void Loader::check_together() const {
  const std::uint64_t id_bytes = draft_.pages.page_id_limit_bytes;
  // A byte of an id may take three in the request line: %XX.
  const std::uint64_t head_bytes = 3 * id_bytes + draft_.http.api_prefix.size() + 256;
  if (draft_.http.head_limit_bytes < head_bytes) {
    throw error(
        "{}http.head_limit_bytes is {}, too small for a request with a page id of {} bytes; allowed: {} or more, or a "
        "smaller pages.page_id_limit_bytes",
        place({&key_named("http", "head_limit_bytes"), &key_named("pages", "page_id_limit_bytes")}),
        draft_.http.head_limit_bytes, id_bytes, head_bytes);
  }
  const std::uint64_t target_bytes = 3 * id_bytes + draft_.http.api_prefix.size() + 16;
  if (draft_.http.target_limit_bytes < target_bytes) {
    throw error(
        "{}http.target_limit_bytes is {}, too small for a page id of {} bytes; allowed: {} or more, or a "
        "smaller pages.page_id_limit_bytes",
        place({&key_named("http", "target_limit_bytes"), &key_named("pages", "page_id_limit_bytes")}),
        draft_.http.target_limit_bytes, id_bytes, target_bytes);
  }
  if (normal_path(draft_.paths.runtime_directory) == normal_path(draft_.paths.state_directory)) {
    throw error(
        "{}paths.state_directory is the runtime directory, which does not survive a reboot; give it another path",
        place({&key_named("paths", "state_directory"), &key_named("paths", "runtime_directory")}));
  }
  if (draft_.http.cors_origins.size() > 1 &&
      std::ranges::find(draft_.http.cors_origins, "*") != draft_.http.cors_origins.end()) {
    refuse(origin(key_named("http", "cors_origins")).where, key_named("http", "cors_origins"), "\"*\" and others");
  }
  const std::uint64_t shards = draft_.redis.shards.size();
  if (shards > draft_.redis.buckets) {
    throw error("{}redis.buckets is {}, fewer than the {} shards",
                place({&key_named("redis", "buckets"), &key_named("redis", "shards")}), draft_.redis.buckets, shards);
  }
}

// --- shards

Loader::Password Loader::shared_password() const {
  const Origin& password = origin(key_named("redis", "password"));
  const Origin& file = origin(key_named("redis", "password_file"));
  // Either of them in the environment stands above the other in the settings file.
  const bool file_counts = password.source != Source::environment || file.source == Source::environment;
  const bool password_counts = file.source != Source::environment || password.source == Source::environment;
  const bool has_password = password_counts && !draft_.for_shards.password.empty();
  const bool has_file = file_counts && !draft_.for_shards.password_file.empty();
  if (has_password && has_file) {
    throw error(
        "{}: the password is given twice, as text and as a file; keep one of redis.password and redis.password_file",
        file.where);
  }
  const auto name_of = [](const Origin& origin, std::string_view key) {
    return origin.source == Source::environment ? origin.where : std::string(key);
  };
  if (has_password) return {draft_.for_shards.password, name_of(password, "redis.password")};
  if (has_file) {
    return {read_password_file(draft_.for_shards.password_file, file.where),
            fmt::format("{} ({})", name_of(file, "redis.password_file"), draft_.for_shards.password_file)};
  }
  if (const char* directory = std::getenv("CREDENTIALS_DIRECTORY"); directory != nullptr) {
    const std::string path = std::string(directory) + "/redis_password";
    // A unit whose credential may be missing gives one that is empty but for a line break (SetCredential=): none.
    if (std::filesystem::exists(path))
      return {read_password_file(path, "environment variable CREDENTIALS_DIRECTORY", Empty::is_none),
              "the credential redis_password"};
  }
  return {};
}

void Loader::make_shards(Secrets secrets) {
  const Origin& addresses = origin(key_named("redis", "shards"));
  if (shard_tables_.empty() || addresses.source == Source::environment) {
    shard_tables_.clear();
    for (const std::string& address : draft_.for_shards.addresses) {
      shard_tables_.push_back(
          {.where = addresses.where, .name = {}, .url = address, .password = {}, .password_file = {}});
    }
  }
  const Password shared = secrets == Secrets::read ? shared_password() : Password{};
  for (const ShardTable& table : shard_tables_) {
    ShardAddress address;
    try {
      address = parse_shard_address(table.url);
    } catch (const Error& failure) {
      throw error("{}: {}", table.where, failure.what());
    }
    ShardSettings& shard = address.shard;
    if (!table.name.empty()) shard.name = table.name;
    if (shard.name.empty()) {
      throw error(
          "{}: the shard on the Unix socket '{}' needs a name: write NAME=unix://… or 'name' in its [[redis.shard]]",
          table.where, shard.unix_path);
    }
    if (!is_shard_name(shard.name)) {
      throw error("{}: the shard's name is {}; allowed: 1 to 64 of A-Z a-z 0-9 . _ -", table.where,
                  in_quotes(shard.name));
    }
    if ((shard.password.empty() ? 0 : 1) + (table.password.empty() ? 0 : 1) + (table.password_file.empty() ? 0 : 1) >
        1) {
      throw error("{}: the password of shard '{}' is given more than once; keep one", table.where, shard.name);
    }
    if (!address.has_database) shard.database = draft_.for_shards.database;
    if (secrets == Secrets::leave) {
      shard.password.clear();
    } else if (!table.password_file.empty()) {
      shard.password = read_password_file(table.password_file, table.where);
      shard.password_place = fmt::format("password_file ({}) of {}", table.password_file, table.where);
    } else if (!table.password.empty()) {
      shard.password = table.password;
      shard.password_place = fmt::format("password of {}", table.where);
    } else if (!shard.password.empty()) {
      shard.password_place = fmt::format("the shard's URL ({})", table.where);
    } else {
      shard.password = shared.text;
      shard.password_place = shared.place;
    }
    draft_.redis.shards.push_back(std::move(shard));
    shard_places_.push_back(table.where);
  }
}

void Loader::note_password_files() {
  if (!draft_.for_shards.password_file.empty()) draft_.redis.password_files.push_back(draft_.for_shards.password_file);
  for (const ShardTable& table : shard_tables_) {
    if (!table.password_file.empty()) draft_.redis.password_files.push_back(table.password_file);
  }
}

void Loader::check_distinct() const {
  // Addresses in a list are counted as their key's other limits are; tables are counted here.
  if (draft_.redis.shards.size() > max_shards) {
    throw error("{}: this is shard {} of {}, and visitd keeps at most {} apart; list fewer", shard_places_[max_shards],
                max_shards + 1, draft_.redis.shards.size(), max_shards);
  }
  std::set<std::string> names;
  std::set<std::string> addresses;
  for (std::size_t i = 0; i < draft_.redis.shards.size(); ++i) {
    ShardSettings shard = draft_.redis.shards[i];
    if (!names.insert(shard.name).second) {
      throw error("{}: two shards are called '{}'; give one of them another name", shard_places_[i], shard.name);
    }
    shard.username.clear();
    shard.host = lower(shard.host);
    // Names of one address that are known without a lookup.
    if (shard.host == "localhost" || shard.host == "::1") shard.host = "127.0.0.1";
    if (!addresses.insert(shard_url(shard)).second) {
      throw error("{}: two shards are {}; each needs a server or a database of its own", shard_places_[i],
                  shard_url(shard));
    }
  }
}

Settings Loader::finish(Secrets secrets) {
  make_shards(secrets);
  note_password_files();
  check_distinct();
  check_together();
  return std::move(draft_);
}

}  // namespace

Settings load_settings(const std::string& path, Secrets secrets, OriginalNames originals) {
  Loader loader;
  if (!path.empty()) loader.read_toml(path);
  loader.read_environment(originals);
  return loader.finish(secrets);
}

std::string to_toml(const Settings& settings) {
  Draft draft;
  static_cast<Settings&>(draft) = settings;
  std::string text;
  for (const std::string_view section : section_names()) {
    text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", section);
    for (const Key& key : keys) {
      if (key.section == section && !key.part_of_shard) text += fmt::format("{} = {}\n", key.name, literal(draft, key));
    }
    if (section != "redis") continue;
    text += "# shards, password, password_file and database as they are for each shard:\n";
    for (const ShardSettings& shard : settings.redis.shards) {
      text +=
          fmt::format("\n[[redis.shard]]\nname = {}\nurl = {}\n", in_quotes(shard.name), in_quotes(shard_url(shard)));
      if (!shard.password.empty()) text += "# password = \"(hidden)\"\n";
    }
  }
  return text;
}

std::vector<SettingDescription> describe_settings() {
  const Draft defaults;
  std::vector<SettingDescription> descriptions;
  for (const Key& key : keys) {
    std::string environment = environment_name(key);
    if (!key.original.empty()) environment += fmt::format(", {}", key.original);
    descriptions.push_back(
        {std::string(key.section), std::string(key.name), literal(defaults, key), std::string(key.unit), allowed(key),
         key.takes == Takes::nothing ? "at once" : fmt::format("after a restart of {}", restart_text(key.takes)),
         std::move(environment), std::string(key.help)});
  }
  return descriptions;
}

std::string settings_help() {
  std::string text;
  std::string section;
  for (const SettingDescription& key : describe_settings()) {
    if (section != key.section) text += fmt::format("{}[{}]\n", text.empty() ? "" : "\n", key.section);
    section = key.section;
    text += fmt::format("{} = {}\n    {}\n    Allowed: {}. Environment: {}. Changes count {}\n", key.key,
                        key.default_value, key.help, key.allowed, key.environment, key.changes_count);
  }
  return text;
}

}  // namespace visitd
