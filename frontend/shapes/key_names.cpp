#include "frontend/shapes/key_names.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "common/os/text.hpp"

namespace visitd {

namespace {

constexpr std::string_view default_space = "default";

bool is_key_character(char c) noexcept {
  return is_letter(c) || is_digit(c) || c == '_' || c == '-' || c == '.';
}

/// Of a page's host or path: what no name may hold is a dot, and what is too short is led by dots.
std::string key_name_from(std::string_view text) {
  while (!text.empty() && text.front() == '/') text.remove_prefix(1);
  while (!text.empty() && text.back() == '/') text.remove_suffix(1);
  std::string name(text.substr(0, longest_key_name_bytes));
  std::ranges::replace_if(name, [](char c) { return !is_key_character(c); }, '.');
  if (name.size() < shortest_key_name_bytes) name.insert(0, shortest_key_name_bytes - name.size(), '.');
  return name;
}

/// One part of a key, or in `problem` why it is none.
std::string key_part(std::string_view what, std::string_view text, const std::optional<SitePage>& caller,
                     std::string& problem) {
  const bool is_host_word = text == ":HOST:";
  if (is_host_word || text == ":PATH:" || text == ":PATHNAME:") {
    if (caller) return key_name_from(is_host_word ? caller->host : caller->path);
    problem =
        fmt::format("{} stands for a part of the page that asks, and the request has neither Referer nor Origin", text);
    return {};
  }
  if (is_key_name(text)) return std::string(text);
  problem = fmt::format("the {} must be {} to {} letters, digits, '_', '-' and '.'", what, shortest_key_name_bytes,
                        longest_key_name_bytes);
  return {};
}

}  // namespace

bool is_key_name(std::string_view text) noexcept {
  return text.size() >= shortest_key_name_bytes && text.size() <= longest_key_name_bytes &&
         std::ranges::all_of(text, is_key_character);
}

KeyOfPath key_of_path(std::string_view path, const std::optional<SitePage>& caller) {
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  std::string_view rest = path;
  const std::string_view first = take_until(rest, '/');
  KeyOfPath found;
  if (rest.find('/') != std::string_view::npos) {
    found.fault = KeyOfPath::Fault::too_deep;
    return found;
  }
  const bool has_space = !rest.empty();
  found.key.space = has_space ? key_part("namespace", first, caller, found.problem) : std::string(default_space);
  if (found.problem.empty()) found.key.name = key_part("key", has_space ? rest : first, caller, found.problem);
  if (!found.problem.empty()) found.fault = KeyOfPath::Fault::invalid;
  return found;
}

}  // namespace visitd
