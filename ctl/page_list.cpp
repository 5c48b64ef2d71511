#include "ctl/page_list.hpp"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>

#include "common/os/runtime_directory.hpp"
#include "ctl/control_client.hpp"
#include "ctl/progress_line.hpp"

namespace visitd {

namespace {

// A flusher that is restarted in the middle of a list goes on with it. Before there is anything, nobody waits as long.
constexpr std::uint64_t restart_patience_ms = 10000;
constexpr std::uint64_t first_patience_ms = 3000;

std::string list_progress_text(const Json& piece, std::uint64_t pages) {
  const auto buckets = std::max<std::uint64_t>(piece.value("buckets", std::uint64_t{0}), 1);
  return fmt::format("{} % of the buckets, {} pages", 100 * piece.value("finished", std::uint64_t{0}) / buckets, pages);
}

}  // namespace

Json json_of(const WideSum& sum) {
  const auto number = sum.number();
  return number ? Json(*number) : Json(sum.text());
}

bool is_chosen(const std::string& glob, std::string_view page) {
  return glob.empty() || fnmatch(glob.c_str(), std::string(page).c_str(), 0) == 0;
}

std::string list_pages(const Settings& settings, const EachPage& each) {
  const RuntimeDirectory directory(settings.paths.runtime_directory);
  std::uint64_t listed = 0;
  PageLines lines([&](std::string_view page, std::optional<std::uint64_t> count) {
    ++listed;
    each(page, count);
  });
  PassingLine progress;
  for (std::string place = "0"; !place.empty();) {
    const Json piece =
        ask_patiently(directory.control_socket(), {ControlCommand::pages, place, control_piece_timeout_ms},
                      place == "0" ? first_patience_ms : restart_patience_ms);
    const auto said = piece.find("lines");
    if (said == piece.end() || !said->is_string()) throw Error("the flusher is of another version: restart it first");
    lines.take(said->get_ref<const std::string&>());
    progress.show(list_progress_text(piece, listed));
    place = piece.value("next", std::string());
  }
  lines.end();
  if (lines.unknown_buckets() == 0) return {};
  return fmt::format("{} buckets are not known, and their pages are not listed: {}", lines.unknown_buckets(),
                     lines.why_unknown());
}

}  // namespace visitd
