#include "common/pages/page_rules.hpp"

#include <algorithm>
#include <functional>
#include <utility>

#include "common/os/text.hpp"

namespace visitd {

namespace {

using Kind = PageRule::Kind;

constexpr std::array<std::string_view, 3> index_files = {"index.html", "index.htm", "index.php"};

/// Where the path of an id ends: its query and its fragment begin there.
std::size_t end_of_path(std::string_view id) noexcept {
  return std::min(id.find_first_of("?#"), id.size());
}

bool is_upper(char c) noexcept {
  return c >= 'A' && c <= 'Z';
}

/// What follows these words and a space; nullopt: the text begins with something else.
std::optional<std::string_view> behind(std::string_view text, std::string_view words) noexcept {
  if (!text.starts_with(words) || text.size() == words.size() || text[words.size()] != ' ') return std::nullopt;
  return text.substr(words.size() + 1);
}

/// Names, each behind one space; none: a name is empty, or cannot be one of a parameter.
std::vector<std::string> names_in(std::string_view text) {
  std::vector<std::string> names;
  for (std::string_view rest = text; !rest.empty() || names.empty();) {
    const std::string_view name = take_until(rest, ' ');
    if (name.empty() || name.find_first_of("&=#?") != std::string_view::npos) return {};
    names.emplace_back(name);
  }
  if (text.ends_with(' ')) return {};
  return names;
}

bool keeps(const PageRule& rule, std::string_view parameter) noexcept {
  const std::string_view name = parameter.substr(0, parameter.find('='));
  const bool named = std::ranges::any_of(rule.names, [&](const std::string& one) { return matches(one, name); });
  return rule.kind == Kind::keep_query ? named : !named && !rule.names.empty();
}

}  // namespace

std::optional<PageRule> PageRule::parse(std::string_view text) {
  if (text.size() > page_rule_limit_bytes) return std::nullopt;
  const auto rule = [&](Kind kind) { return PageRule{.kind = kind, .text = std::string(text), .names = {}}; };
  if (text == "drop trailing-slash") return rule(Kind::trailing_slash);
  if (text == "drop index-file") return rule(Kind::index_file);
  if (text == "lower-case") return rule(Kind::lower_case);
  if (text == "drop fragment") return rule(Kind::fragment);
  if (text == "drop query") return rule(Kind::query);
  if (const auto prefix = behind(text, "drop prefix"); prefix && !prefix->empty()) {
    PageRule found = rule(Kind::prefix);
    found.prefix = *prefix;
    return found;
  }
  for (const auto& [words, kind] : {std::pair{"drop query", Kind::query}, {"keep query", Kind::keep_query}}) {
    const auto names = behind(text, words);
    if (!names) continue;
    PageRule found = rule(kind);
    found.names = names_in(*names);
    if (!found.names.empty()) return found;
  }
  return std::nullopt;
}

PageRules::PageRules(const std::vector<std::string>& texts) {
  rules_.reserve(texts.size());
  for (const std::string& text : texts) {
    if (auto rule = PageRule::parse(text)) rules_.push_back(std::move(*rule));
  }
}

template <typename Note>
std::string_view PageRules::apply(std::string_view id, Note note) {
  // Each pass but the last one makes the id shorter, or a capital letter of it a small one.
  const std::size_t most_passes = 2 * id.size() + 1;
  for (std::size_t pass = 0; pass < most_passes; ++pass) {
    bool changed = false;
    for (const PageRule& rule : rules_) {
      const std::string_view before = id;
      id = apply(rule, id);
      // A rule that leaves an id as it is gives back that very one.
      const bool did = id.data() != before.data() || id.size() != before.size();
      changed = changed || did;
      note(rule, id, did, pass);
    }
    if (!changed) break;
  }
  return id;
}

std::string_view PageRules::name_of(std::string_view id) {
  return apply(id, [](const PageRule&, std::string_view, bool, std::size_t) {});
}

std::vector<PageRules::Step> PageRules::steps_of(std::string_view id) {
  std::vector<Step> steps;
  apply(id, [&](const PageRule& rule, std::string_view name, bool changed, std::size_t pass) {
    if (pass == 0 || changed) steps.push_back({rule.text, std::string(name), changed});
  });
  return steps;
}

std::string_view PageRules::apply(const PageRule& rule, std::string_view id) {
  switch (rule.kind) {
    case Kind::trailing_slash:
      return without_trailing_slash(id);
    case Kind::index_file:
      return without_index_file(id);
    case Kind::lower_case:
      return in_lower_case(id);
    case Kind::prefix:
      while (id.starts_with(rule.prefix)) id.remove_prefix(rule.prefix.size());
      return id;
    case Kind::fragment:
      return id.substr(0, id.find('#'));
    case Kind::query:
    case Kind::keep_query:
      return with_query(rule, id);
  }
  return id;
}

/// A path that is all slashes keeps one: it is the site's first page.
std::string_view PageRules::without_trailing_slash(std::string_view id) {
  const std::string_view path = id.substr(0, end_of_path(id));
  std::size_t end = path.size();
  while (end > 1 && path[end - 1] == '/') --end;
  return end == path.size() ? id : joined(path.substr(0, end), id.substr(path.size()));
}

/// The file behind the path's last slash. One that has no folder stays, since nothing would be left of it.
std::string_view PageRules::without_index_file(std::string_view id) {
  const std::string_view path = id.substr(0, end_of_path(id));
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return id;
  if (std::ranges::find(index_files, path.substr(slash + 1)) == index_files.end()) return id;
  return joined(path.substr(0, slash + 1), id.substr(path.size()));
}

std::string_view PageRules::in_lower_case(std::string_view id) {
  const auto first = std::ranges::find_if(id, is_upper);
  if (first == id.end()) return id;
  std::string& lower = room_beside(id);
  lower.assign(id);
  for (char& c : lower) c = is_upper(c) ? static_cast<char>(c - 'A' + 'a') : c;
  return lower;
}

std::string_view PageRules::with_query(const PageRule& rule, std::string_view id) {
  const std::size_t begin = end_of_path(id);
  if (begin == id.size() || id[begin] != '?') return id;
  const std::size_t end = std::min(id.find('#', begin), id.size());
  std::string& name = room_beside(id);
  name.assign(id.substr(0, begin));
  for (std::string_view rest = id.substr(begin + 1, end - begin - 1); !rest.empty();) {
    const std::string_view parameter = take_until(rest, '&');
    if (parameter.empty() || !keeps(rule, parameter)) continue;
    name += name.size() == begin ? '?' : '&';
    name += parameter;
  }
  name += id.substr(end);
  return name.size() == id.size() ? id : std::string_view(name);
}

std::string& PageRules::room_beside(std::string_view id) noexcept {
  const std::string& first = rooms_.front();
  const std::less_equal<> not_behind;
  const bool in_first = not_behind(first.data(), id.data()) && not_behind(id.data(), first.data() + first.size());
  return in_first ? rooms_.back() : rooms_.front();
}

std::string_view PageRules::joined(std::string_view path, std::string_view rest) {
  if (rest.empty()) return path;
  std::string& name = room_beside(path);
  name.assign(path);
  name += rest;
  return name;
}

}  // namespace visitd
