#include "frontend/shapes/goatcounter_paths.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "common/os/text.hpp"
#include "frontend/http/target.hpp"

namespace visitd {

namespace {

using QueryPair = std::pair<std::string, std::string>;

std::string_view without_slashes(std::string_view text) noexcept {
  while (!text.empty() && text.front() == '/') text.remove_prefix(1);
  while (!text.empty() && text.back() == '/') text.remove_suffix(1);
  return text;
}

std::string in_slashes(std::string_view text) {
  std::string page("/");
  return page.append(without_slashes(text));
}

/// Whether a parameter says where a reader came from, and nothing of the page.
bool tells_origin(const QueryPair& pair) noexcept {
  constexpr std::array<std::string_view, 14> names{"fbclid",
                                                   "ref",
                                                   "mc_cid",
                                                   "mc_eid",
                                                   "gclid",
                                                   "nsukey",
                                                   "isappinstalled",
                                                   "_x_tr_sl",
                                                   "_x_tr_hl",
                                                   "_x_tr_pto",
                                                   "_x_tr_tl",
                                                   "continueFlag",
                                                   "__cf_chl_captcha_tk__",
                                                   "__cf_chl_jschl_tk__"};
  if (pair.first == "from") return pair.second == "singlemessage" || pair.second == "groupmessage";
  return pair.first.starts_with("utm_") || std::ranges::find(names, pair.first) != names.end();
}

std::string decoded_form(std::string_view text) {
  std::string buffer(text.size(), '\0');
  const auto decoded = decode_form(text, buffer);
  return std::string(decoded.value_or(text));
}

/// The parameters that are left, in the order of their names, encoded again.
std::string cleaned_query(std::string_view query) {
  std::multimap<std::string, std::string> pairs;
  while (!query.empty()) {
    std::string_view value = take_until(query, '&');
    if (value.empty()) continue;
    const std::string_view name = take_until(value, '=');
    QueryPair pair(decoded_form(name), decoded_form(value));
    if (!tells_origin(pair)) pairs.insert(std::move(pair));
  }
  std::string text;
  for (const auto& [name, value] : pairs) {
    if (!text.empty()) text.push_back('&');
    append_all(text, percent_encoded(name, '+'), "=", percent_encoded(value, '+'));
  }
  return text;
}

}  // namespace

std::string goatcounter_page(std::string_view path, bool is_event) {
  path = trim(path);
  if (path.empty()) return {};
  if (is_event) {
    while (!path.empty() && path.front() == '/') path.remove_prefix(1);
    return std::string(path);
  }
  std::string page = in_slashes(path);
  while (page.ends_with('?') || page.ends_with('&')) page.pop_back();
  const std::size_t question = page.find('?');
  if (question == std::string::npos) return in_slashes(page);
  std::string_view query = std::string_view(page).substr(question + 1);
  query = query.substr(0, query.find('#'));
  std::string cleaned = cleaned_query(query);
  std::string target = page.substr(0, question);
  if (!cleaned.empty()) append_all(target, "?", cleaned);
  return in_slashes(target);
}

}  // namespace visitd
