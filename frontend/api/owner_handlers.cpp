#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "common/os/text.hpp"
#include "frontend/api/count_body.hpp"
#include "frontend/api/handlers.hpp"
#include "frontend/api/owner_asking.hpp"
#include "frontend/http/target.hpp"

namespace visitd {

namespace {

constexpr std::size_t usually_listed = 100;

Handled refuse_owner(const Problem& problem, Answer& answer) {
  answer.refuse(problem);
  return Handled::answered;
}

// ---- changing a count

void answer_change(std::string_view page, const ChangedCount& changed, Answer& answer) {
  answer.cache_control = never_stored;
  answer.content_type = ContentType::json;
  answer.body.append(R"({"page":")");
  append_json(page, answer.body);
  append_all(answer.body, R"(","before":)", changed.before, R"(,"count":)", changed.after, "}");
}

// ---- lists

/// The parameters of a query, each at most once. Empty texts where they are not given.
struct ListParameters {
  std::string prefix;
  std::string after;
  std::size_t limit = usually_listed;
};

/// nullopt: they are in `parameters`. `known`: those that the route takes.
std::optional<Problem> read_parameters(std::string_view query, std::span<const std::string_view> known,
                                       ListParameters& parameters) {
  std::string buffer(query.size(), '\0');
  while (!query.empty()) {
    std::string_view pair = take_until(query, '&');
    if (pair.empty()) continue;
    const std::string_view name = take_until(pair, '=');
    const auto which = std::ranges::find(known, name);
    if (which == known.end()) {
      return Problem{.refusal = Refusal::unknown_parameter,
                     .detail = "the parameters of lists are prefix, after and limit, each where docs/http.md has it"};
    }
    const auto value = decode_form(pair, buffer);
    if (!value) return Problem{.refusal = Refusal::invalid_percent_encoding, .parameter = *which};
    if (name == "prefix") parameters.prefix = *value;
    if (name == "after") parameters.after = *value;
    if (name != "limit") continue;
    if (!parse_decimal(*value, parameters.limit) || parameters.limit < 1 || parameters.limit > control_top_pages) {
      return Problem{.refusal = Refusal::invalid_limit};
    }
  }
  return std::nullopt;
}

void append_page(std::string_view page, std::optional<std::uint64_t> count, std::string& document) {
  document.append(document.back() == '[' ? "" : ",").append(R"({"page":")");
  append_json(page, document);
  document.append(R"(","count":)").append(count ? fmt::format("{}", *count) : "null").append("}");
}

Handled answer_document(const std::string& document, Answer& answer) {
  answer.cache_control = never_stored;
  answer.content_type = ContentType::json;
  answer.body.show(document);
  return Handled::answered;
}

/// Reads all pages, piece by piece, and has `then` answer.
template <typename Then>
Handled read_all(HandlerShare& share, const Call& call, std::span<const std::string_view> known, Answer& answer,
                 Then then) {
  if (call.read->owner == nullptr) {
    ListParameters parameters;
    if (const auto problem = read_parameters(call.head->query, known, parameters))
      return refuse_owner(*problem, answer);
    begin_asking(share, call).list.emplace(std::move(parameters.prefix), std::move(parameters.after), parameters.limit);
    return ask_flusher(share, call, ControlCommand::pages, "0", answer);
  }
  Handled handled = Handled::answered;
  const auto piece = take_said(share, call, answer, handled);
  if (!piece) return handled;
  OwnerList& list = *call.read->owner->list;
  std::string next = list.take(*piece);
  if (!next.empty()) return ask_flusher(share, call, ControlCommand::pages, std::move(next), answer);
  if (const std::string why = list.incomplete(); !why.empty()) {
    share.refuse_for_now({.refusal = Refusal::count_unknown, .detail = why}, answer);
    return Handled::answered;
  }
  return then(list);
}

/// Asks for what the buckets' sums say, and has `then` answer.
template <typename Then>
Handled read_sums(HandlerShare& share, const Call& call, std::span<const std::string_view> known,
                  ControlCommand command, Answer& answer, Then then) {
  if (call.read->owner == nullptr) {
    ListParameters parameters;
    if (const auto problem = read_parameters(call.head->query, known, parameters))
      return refuse_owner(*problem, answer);
    begin_asking(share, call);
    return ask_flusher(share, call, command,
                       command == ControlCommand::top ? fmt::format("{}", parameters.limit) : std::string(), answer);
  }
  Handled handled = Handled::answered;
  const auto said = take_said(share, call, answer, handled);
  if (!said) return handled;
  if (const std::string* const why = value_named(said->text, "why")) {
    share.refuse_for_now({.refusal = Refusal::count_unknown, .detail = *why}, answer);
    return Handled::answered;
  }
  return then(*said);
}

}  // namespace

Handled change_count(HandlerShare& share, const Call& call, Answer& answer) {
  const NamedPage page = share.page_of(call.encoded_page, answer);
  if (page.name.empty()) return Handled::answered;
  if (call.read->owner == nullptr) {
    if (comes_from_elsewhere(share, *call.head)) {
      return refuse_owner({.refusal = Refusal::owner_from_elsewhere}, answer);
    }
    std::optional<std::uint64_t> count = 0;
    if (call.head->method == Method::put) count = count_in(call.body);
    if (!count) return refuse_owner({.refusal = Refusal::invalid_count}, answer);
    begin_asking(share, call);
    return ask_to_change(share, call, page.name, {CountChange::Kind::set, *count}, answer);
  }
  Handled handled = Handled::answered;
  if (const auto changed = take_change(share, call, answer, handled)) answer_change(page.asked, *changed, answer);
  return handled;
}

Handled list_pages(HandlerShare& share, const Call& call, Answer& answer) {
  constexpr std::array<std::string_view, 3> known{"prefix", "after", "limit"};
  return read_all(share, call, known, answer, [&](const OwnerList& list) {
    std::string& document = share.start_document();
    document.append(R"({"pages":[)");
    for (const auto& [page, count] : list.first()) append_page(page, count, document);
    document.append("]");
    if (list.has_more()) {
      document.append(R"(,"after":")");
      append_json(std::prev(list.first().end())->first, document);
      document.append("\"");
    }
    document.append("}");
    return answer_document(document, answer);
  });
}

Handled show_top(HandlerShare& share, const Call& call, Answer& answer) {
  constexpr std::array<std::string_view, 1> known{"limit"};
  return read_sums(share, call, known, ControlCommand::top, answer, [&](const ControlAnswer& said) {
    std::string& document = share.start_document();
    document.append(R"({"pages":[)");
    for (const ControlRow& row : said.rows) {
      const std::string* const page = value_named(row.text, "page");
      const std::uint64_t* const count = value_named(row.numbers, "count");
      if (page != nullptr && count != nullptr) append_page(*page, *count, document);
    }
    document.append("]}");
    return answer_document(document, answer);
  });
}

Handled show_total(HandlerShare& share, const Call& call, Answer& answer) {
  constexpr std::array<std::string_view, 1> known{"prefix"};
  const auto tell = [&](std::string_view total, std::uint64_t unknown_pages) {
    std::string& document = share.start_document();
    document.append(fmt::format(R"({{"total":{},"unknown_pages":{}}})", total, unknown_pages));
    return answer_document(document, answer);
  };
  // The buckets know their sums, and nobody that of a part of the pages.
  if (call.head->query.empty()) {
    return read_sums(share, call, known, ControlCommand::total, answer, [&](const ControlAnswer& said) {
      const std::string* const total = value_named(said.text, "total");
      const std::uint64_t* const unknown_pages = value_named(said.numbers, "unknown_pages");
      return tell(total == nullptr ? "0" : *total, unknown_pages == nullptr ? 0 : *unknown_pages);
    });
  }
  return read_all(share, call, known, answer,
                  [&](const OwnerList& list) { return tell(list.sum().text(), list.unknown_pages()); });
}

}  // namespace visitd
