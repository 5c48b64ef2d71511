#include <fmt/format.h>
#include <fnmatch.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>

#include "common/config/near_names.hpp"
#include "common/config/setting_forms.hpp"
#include "common/config/setting_sources.hpp"
#include "common/config/setting_text.hpp"
#include "common/os/errors.hpp"
#include "common/os/text.hpp"

namespace visitd::setting {

namespace {

/// Seconds, possibly with a fraction, in milliseconds.
std::optional<std::int64_t> parse_seconds(std::string_view text) {
  double seconds = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), seconds, std::chars_format::fixed);
  if (failed != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return std::nullopt;
  return std::llround(seconds * 1000);
}

/// A shard's sentinels are separated by commas too: its address goes on up to the primary's name.
bool goes_on(std::string_view entry) {
  const std::size_t scheme = entry.find("://");
  if (scheme == std::string_view::npos || entry.find('/', scheme + 3) != std::string_view::npos) return false;
  const std::string_view name = entry.substr(0, scheme);
  return name.ends_with("sentinel") || name.ends_with("sentinels");
}

std::vector<std::string> split_list(std::string_view text) {
  constexpr std::string_view blanks = " \t";
  std::vector<std::string> entries;
  while (!text.empty()) {
    std::size_t comma = std::min(text.find(','), text.size());
    while (comma < text.size() && goes_on(text.substr(0, comma)))
      comma = std::min(text.find(',', comma + 1), text.size());
    std::string_view entry = text.substr(0, comma);
    entry.remove_prefix(std::min(entry.find_first_not_of(blanks), entry.size()));
    entry = entry.substr(0, entry.find_last_not_of(blanks) + 1);
    entries.emplace_back(entry);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return entries;
}

/// Reads the text of an environment variable as a value of the key's type. If the text is no value of that type, the
/// text itself is the result, and the next pass refuses it.
Input input_of(const Key& key, const std::string& text) {
  return std::visit(
      [&](auto place) -> Input {
        using Value = typename decltype(place)::Value;
        if constexpr (std::is_same_v<Value, bool>) {
          const std::string word = lower_case(text);
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

/// Kubernetes sets variables for each Service. If the Service's name begins with visitd, they are VISITD_SERVICE_HOST,
/// VISITD_PORT_8000_TCP_ADDR and the like, and VISITD_PORT with an address. True: this variable is one of them. If
/// VISITD_PORT holds a number instead, somebody meant a setting.
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
  std::ranges::transform(setting_rows(), std::back_inserter(ours), environment_name);
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

}  // namespace

void read_environment(OriginalNames originals, Sources& sources) {
  refuse_unknown_names();
  for (const Key& key : setting_rows()) {
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
      sources.given.push_back({&key, std::move(input), {Source::environment, where}});
      break;
    }
  }
}

}  // namespace visitd::setting
