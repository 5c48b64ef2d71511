#include <fmt/format.h>

#include <algorithm>

#include "common/page/page_scripts.hpp"
#include "ctl/commands.hpp"

namespace visitd {

namespace {

/// The text as the value of an attribute in double quotes.
std::string in_attribute(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '&') {
      escaped += "&amp;";
    } else if (c == '"') {
      escaped += "&quot;";
    } else if (c == '<') {
      escaped += "&lt;";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string script_element(const Settings& settings, const Embedding& asked, const std::string& source) {
  std::string element = fmt::format(R"(<script defer src="{}" integrity="{}" crossorigin="anonymous")",
                                    in_attribute(source), count_script_integrity());
  const std::string_view path = settings.http.visit_path;
  if (!path.empty()) element += fmt::format(R"( data-path="{}")", path.substr(1, path.size() - 2));
  if (!asked.page.empty()) element += fmt::format(R"( data-page="{}")", in_attribute(asked.page));
  if (asked.bfcache) element += " data-bfcache";
  if (asked.frames) element += " data-frames";
  if (asked.respect) element += " data-respect";
  return element + "></script>";
}

}  // namespace

std::string fault_of_counter_url(const std::string& url) {
  const bool has_scheme = url.starts_with("https://") || url.starts_with("http://");
  const bool is_clean = std::ranges::all_of(url, [](char c) { return c > ' ' && c <= '~' && c != '"' && c != '\\'; });
  if (has_scheme && is_clean && !url.ends_with("//") && url.find_first_of("?#") == std::string::npos) return {};
  return fmt::format("'{}' is refused; allowed: http:// or https://, a host, and the path that leads to the counter",
                     url);
}

Json embed_report(const Settings& settings, const Embedding& asked) {
  std::string counter = asked.url.empty() ? settings.http.api_prefix : asked.url;
  while (counter.ends_with('/')) counter.pop_back();
  Json report;
  report["script"] = counter + script_version_path(settings.http.script_path);
  report["integrity"] = count_script_integrity();
  Json& lines = report["lines"] = Json::array();
  if (asked.pin) {
    lines.push_back(fmt::format(R"(<script type="importmap">{{"integrity": {{"{}/show.1.js": "{}"}}}}</script>)",
                                counter, show_script_integrity()));
  }
  lines.push_back(script_element(settings, asked, report["script"]));
  if (asked.count) lines.push_back("<span data-visits></span>");
  if (asked.total) {
    if (!settings.owner.public_lists) {
      lines.push_back(
          "<!-- The total stays empty: owner.public_lists is false, so that nobody but the owner reads it. -->");
    }
    lines.push_back("<span data-visits-total></span>");
  }
  return report;
}

std::string embed_text(const Json& report) {
  std::string text;
  for (const Json& line : report["lines"]) text += line.get<std::string>() + '\n';
  return text;
}

}  // namespace visitd
