// Names of pages: against a second, plain implementation of each rule; a name's name is that name, and every name is
// text that is no longer than its id.
//
// Input: which rules, in which order, each a byte up to a 0; then the id.
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "common/pages/page_rules.hpp"
#include "common/shm/page_id.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace visitd {
namespace {

using fuzzing::Exact;
using fuzzing::Input;
using fuzzing::require;

constexpr std::size_t limit = 1024;
constexpr std::array<std::string_view, 9> all_rules = {"drop trailing-slash", "drop index-file",  "lower-case",
                                                       "drop prefix /a",      "drop prefix x",    "drop query",
                                                       "drop query u*",       "keep query b u*1", "drop fragment"};

/// Path, query with its question mark, and fragment with its sign.
struct Parts {
  std::string path;
  std::string query;
  std::string fragment;

  explicit Parts(const std::string& id) : path(id) {
    const std::size_t sign = path.find('#');
    if (sign != std::string::npos) {
      fragment = path.substr(sign);
      path.resize(sign);
    }
    const std::size_t mark = path.find('?');
    if (mark != std::string::npos) {
      query = path.substr(mark);
      path.resize(mark);
    }
  }
  [[nodiscard]] std::string text() const { return path + query + fragment; }
};

bool plainly_named(const std::string& parameter, std::string_view rule) {
  const std::string name = parameter.substr(0, parameter.find('='));
  if (rule == "drop query u*") return name.starts_with("u");
  return name == "b" || (name.size() >= 2 && name.starts_with("u") && name.ends_with("1"));
}

std::string without_parameters(const std::string& query, std::string_view rule) {
  std::string kept;
  std::string parameter;
  for (std::size_t i = 1; i <= query.size(); ++i) {
    if (i < query.size() && query[i] != '&') {
      parameter += query[i];
      continue;
    }
    const bool stays = rule != "drop query" && plainly_named(parameter, rule) == rule.starts_with("keep");
    if (!parameter.empty() && stays) kept += (kept.empty() ? "?" : "&") + parameter;
    parameter.clear();
  }
  return kept;
}

std::string plain_step(const std::string& id, std::string_view rule) {
  Parts parts(id);
  if (rule == "drop trailing-slash") {
    while (parts.path.size() > 1 && parts.path.ends_with('/')) parts.path.pop_back();
  } else if (rule == "drop index-file") {
    for (const std::string_view file : {"/index.html", "/index.htm", "/index.php"}) {
      if (parts.path.ends_with(file)) {
        parts.path.resize(parts.path.size() - file.size() + 1);
        break;
      }
    }
  } else if (rule == "lower-case") {
    return fuzzing::lower(id);
  } else if (rule.starts_with("drop prefix ")) {
    const std::string_view prefix = rule.substr(12);
    return id.starts_with(prefix) ? plain_step(id.substr(prefix.size()), rule) : id;
  } else if (rule == "drop fragment") {
    parts.fragment.clear();
  } else {
    parts.query = without_parameters(parts.query, rule);
  }
  return parts.text();
}

std::string plain_name(std::string id, const std::vector<std::string>& rules) {
  for (std::string before = id + '.'; before != id;) {
    before = id;
    for (const std::string& rule : rules) id = plain_step(id, rule);
  }
  return id;
}

void check(Input input) {
  std::vector<std::string> texts;
  for (std::uint8_t choice = input.byte(); choice != 0; choice = input.byte()) {
    texts.emplace_back(all_rules[choice % all_rules.size()]);
  }
  if (texts.size() > max_page_rules) return;
  const std::string id(input.rest());
  if (check_page_id(id, limit) != PageIdFault::none) return;
  PageRules rules(texts);
  const Exact own(id);
  const std::string name(rules.name_of(own.view()));
  require(name == plain_name(id, texts), "the name is what the rules say");
  require(name.size() <= id.size(), "no name is longer than its id");
  require(name.empty() || check_page_id(name, limit) == PageIdFault::none, "a name is text");
  require(rules.name_of(name) == name, "a name's name is that name");
  const auto steps = rules.steps_of(id);
  require(steps.size() >= texts.size(), "each rule is a step");
  require(steps.empty() ? name == id : steps.back().name == name || !steps.back().changed,
          "what is shown step by step is what is counted");
}

}  // namespace
}  // namespace visitd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  visitd::check(visitd::fuzzing::Input(data, size));
  return 0;
}
