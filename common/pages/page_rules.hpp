// Under which name a page is counted: an ordered list of named rules that make one name of the ids under which a page
// is asked for. Each rule only takes away or writes in lower case, so that a name is never longer than its id, and they
// are applied until none of them changes anything: the name of a name is that name. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace visitd {

/// Most rules of a list.
inline constexpr std::size_t max_page_rules = 64;
/// The longest rule.
inline constexpr std::size_t page_rule_limit_bytes = 1024;

/// One rule, as a setting says it.
struct PageRule {
  enum class Kind : std::uint8_t { trailing_slash, index_file, lower_case, prefix, fragment, query, keep_query };

  Kind kind;
  std::string text;                ///< as the setting says it
  std::string prefix = {};         ///< prefix: what is taken off
  std::vector<std::string> names;  ///< query, keep_query: patterns of parameters; query: none stands for all of them

  /// nullopt: the text is no rule.
  [[nodiscard]] static std::optional<PageRule> parse(std::string_view text);
};

/// The forms of a rule, in words.
inline constexpr std::string_view page_rule_forms =
    "\"drop trailing-slash\", \"drop index-file\", \"lower-case\", \"drop prefix TEXT\", \"drop fragment\", "
    "\"drop query\", \"drop query NAME…\", \"keep query NAME…\" (* in a NAME stands for any characters)";

/// What is said of an id of which rules leave nothing.
inline constexpr std::string_view nothing_left = "pages.rules leaves nothing of the page id";

class PageRules {
 public:
  /// What one rule did.
  struct Step {
    std::string rule;
    std::string name;  ///< afterwards
    bool changed = false;
  };

  /// `texts`: rules, checked.
  explicit PageRules(const std::vector<std::string>& texts);

  /// Whether there is a rule at all.
  [[nodiscard]] bool any() const noexcept { return !rules_.empty(); }

  /// The name of the page with this id, which was checked; empty: the rules leave nothing of it. Lives as long as the
  /// id does, and until the next call.
  [[nodiscard]] std::string_view name_of(std::string_view id);

  /// The way from the id to its name: each rule once, and beyond that those that changed something once more.
  [[nodiscard]] std::vector<Step> steps_of(std::string_view id);

 private:
  template <typename Note>
  std::string_view apply(std::string_view id, Note note);
  [[nodiscard]] std::string_view apply(const PageRule& rule, std::string_view id);
  [[nodiscard]] std::string_view without_trailing_slash(std::string_view id);
  [[nodiscard]] std::string_view without_index_file(std::string_view id);
  [[nodiscard]] std::string_view in_lower_case(std::string_view id);
  [[nodiscard]] std::string_view with_query(const PageRule& rule, std::string_view id);
  [[nodiscard]] std::string_view joined(std::string_view path, std::string_view rest);
  [[nodiscard]] std::string& room_beside(std::string_view id) noexcept;

  std::vector<PageRule> rules_;
  std::array<std::string, 2> rooms_;  ///< a rule reads from one and writes into the other
};

}  // namespace visitd
