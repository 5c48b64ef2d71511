#include "frontend/images/count_format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "common/os/text.hpp"

namespace visitd {

namespace {

struct Language {
  std::string_view name;
  NumberFormat format;
};

constexpr std::string_view space = "\u00A0";
constexpr std::string_view narrow_space = "\u202F";
constexpr NumberFormat english{.group = ","};
constexpr NumberFormat continental{.group = ".", .point = ","};
constexpr NumberFormat continental_from_five{.group = ".", .point = ",", .least_groups = 2};
constexpr NumberFormat spaced{.group = space, .point = ","};
constexpr NumberFormat spaced_from_five{.group = space, .point = ",", .least_groups = 2};
constexpr NumberFormat indian{.group = ",", .by_two = true};
constexpr NumberFormat swiss{.group = "'"};

/// Where a language has regions that differ, they come before it.
constexpr Language languages[] = {
    {"en-in", indian},
    {"en-za", {.group = space}},
    {"en", english},
    {"de-at", {.group = space, .point = ","}},
    {"de-ch", swiss},
    {"de-li", swiss},
    {"de", continental},
    {"fr-ca", spaced},
    {"fr", {.group = narrow_space, .point = ","}},
    {"es-mx", english},
    {"es", continental_from_five},
    {"pt-pt", spaced_from_five},
    {"pt", continental},
    {"it-ch", {.group = "'", .least_groups = 2}},
    {"it", continental_from_five},
    {"nl", continental},
    {"da", continental},
    {"nb", spaced},
    {"no", spaced},
    {"sv", spaced},
    {"fi", spaced},
    {"pl", spaced_from_five},
    {"cs", spaced},
    {"sk", spaced},
    {"hu", spaced_from_five},
    {"ro", continental},
    {"bg", spaced_from_five},
    {"hr", continental},
    {"sr", continental},
    {"sl", continental_from_five},
    {"ru", spaced},
    {"uk", spaced},
    {"el", continental},
    {"tr", continental},
    {"lt", spaced},
    {"lv", spaced_from_five},
    {"et", spaced_from_five},
    {"ca", continental},
    {"he", english},
    {"hi", indian},
    {"ja", english},
    {"ko", english},
    {"zh", english},
    {"th", english},
    {"vi", continental},
    {"id", continental},
    {"ms", english},
};

void append_grouped(std::uint64_t count, const NumberFormat& format, std::string& out) {
  const fmt::format_int digits(count);
  const std::string_view text(digits.data(), digits.size());
  const bool grouped = !format.group.empty() && text.size() >= 3 + format.least_groups;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const std::size_t left = text.size() - at;
    const bool begins_group = format.by_two && left > 3 ? (left - 3) % 2 == 0 : left % 3 == 0;
    if (grouped && at != 0 && begins_group) out += format.group;
    out += text[at];
  }
}

}  // namespace

std::optional<NumberFormat> number_format(std::string_view language) noexcept {
  const auto find = [](std::string_view name) {
    return std::ranges::find_if(languages, [name](const Language& known) { return is_same_word(name, known.name); });
  };
  const Language* found = find(language);
  if (found == std::end(languages)) found = find(language.substr(0, language.find('-')));
  if (found == std::end(languages)) return std::nullopt;
  return found->format;
}

void append_count(std::uint64_t count, const NumberFormat& format, bool abbreviate, std::string& out) {
  if (!abbreviate || count < 1000) return append_grouped(count, format, out);
  constexpr std::string_view steps = "kMGTPE";
  std::size_t step = 0;
  std::uint64_t unit = 1000;
  for (; count / unit >= 1000; unit *= 1000) ++step;
  out += fmt::format("{}", count / unit);
  // Of 12 thousands and more nobody wants to see the hundreds.
  if (const std::uint64_t tenth = count / (unit / 10) % 10; count / unit < 10 && tenth != 0) {
    out.append(format.point).append(fmt::format("{}", tenth));
  }
  out += steps[step];
}

}  // namespace visitd
