#include "common/control/control_protocol.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>

#include "common/os/errors.hpp"
#include "common/os/text.hpp"

namespace visitd {

namespace {

// In the order of ControlVerb.
constexpr std::array<std::string_view, 4> verbs{"set", "add", "lower", "take"};

using Json = nlohmann::ordered_json;

constexpr std::uint32_t longest_timeout_ms = 600'000;

struct Command {
  ControlCommand command;
  std::string_view name;
  std::string_view argument;  // what it is of; empty: it takes none
};
constexpr Command commands[] = {
    {ControlCommand::flush, "flush", ""},
    {ControlCommand::page, "page", "a page id"},
    {ControlCommand::accept, "accept", "a shard's name"},
    {ControlCommand::change_shards, "change_shards", "a change"},
    {ControlCommand::moves, "moves", ""},
    {ControlCommand::shards, "shards", ""},
    {ControlCommand::writers, "writers", ""},
    {ControlCommand::forget, "forget", "a writer's id"},
    {ControlCommand::pages, "pages", "where the piece begins"},
    {ControlCommand::top, "top", "how many pages"},
    {ControlCommand::total, "total", ""},
    {ControlCommand::correct, "correct", "changes"},
    {ControlCommand::import, "import", "an id and changes"},
    {ControlCommand::corrections, "corrections", ""},
};

const Command& command_of(std::string_view name) {
  const auto* const command = std::ranges::find(commands, name, &Command::name);
  if (command != std::end(commands)) return *command;
  std::vector<std::string_view> names;
  for (const Command& known : commands) names.push_back(known.name);
  throw error("unknown command; this flusher knows {} and {}",
              fmt::join(std::span(names).first(names.size() - 1), ", "), names.back());
}

using Texts = std::vector<std::pair<std::string, std::string>>;
using Numbers = std::vector<std::pair<std::string, std::uint64_t>>;

void add_values(Json& json, const Texts& text, const Numbers& numbers) {
  for (const auto& [name, value] : text) json[name] = value;
  for (const auto& [name, value] : numbers) json[name] = value;
}

/// Leaves out what is neither text nor number.
void take_value(const std::string& name, const Json& value, Texts& text, Numbers& numbers) {
  if (value.is_string()) {
    text.emplace_back(name, value.get<std::string>());
  } else if (value.is_number_unsigned()) {
    numbers.emplace_back(name, value.get<std::uint64_t>());
  }
}

ControlRow row_of(const Json& json) {
  ControlRow row;
  for (const auto& [name, value] : json.items()) take_value(name, value, row.text, row.numbers);
  return row;
}

std::string to_line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string encode_token(std::uint64_t token) {
  return hex(token);
}

std::uint64_t decode_token(std::string_view text) {
  std::uint64_t token = 0;
  if (!parse_hex(text, token)) throw error("{} is no token of an offer", text);
  return token;
}

void append_change(std::string& argument, ControlVerb verb, std::string_view page, std::string_view operand) {
  argument.append(verbs.at(static_cast<std::size_t>(verb)))
      .append("\t")
      .append(page)
      .append("\t")
      .append(operand)
      .append("\n");
}

std::optional<ControlVerb> verb_named(std::string_view word) noexcept {
  const auto verb = std::ranges::find(verbs, word);
  return verb == verbs.end() ? std::nullopt : std::optional(static_cast<ControlVerb>(verb - verbs.begin()));
}

std::string encode_changes(const std::vector<ControlChange>& changes) {
  std::string argument;
  for (const auto& [verb, page, operand] : changes) append_change(argument, verb, page, operand);
  return argument;
}

std::vector<ControlChange> decode_changes(std::string_view argument) {
  std::vector<ControlChange> changes;
  while (!argument.empty()) {
    std::string_view line = take_until(argument, '\n');
    if (std::ranges::count(line, '\t') < 2) {
      throw error("'{}' is no change: a verb, a page and a count or page, apart by tabs", line);
    }
    const std::string_view word = take_until(line, '\t');
    const auto verb = verb_named(word);
    if (!verb) throw error("'{}' is no verb of a change: set, add, lower or take", word);
    const std::string_view page = take_until(line, '\t');
    changes.push_back({*verb, std::string(page), std::string(line)});
  }
  return changes;
}

std::string encode_request(const ControlRequest& request) {
  Json json = {{"command", std::ranges::find(commands, request.command, &Command::command)->name}};
  if (!request.argument.empty()) json["argument"] = request.argument;
  json["timeout_ms"] = request.timeout_ms;
  if (request.token) json["token"] = encode_token(*request.token);
  return to_line(json);
}

ControlRequest decode_request(std::string_view line) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) throw Error("a request is one JSON object on one line");
  ControlRequest request;
  std::string name;
  for (const auto& [key, value] : json.items()) {
    if (key == "command" && value.is_string()) {
      name = value.get<std::string>();
    } else if (key == "argument" && value.is_string()) {
      request.argument = value.get<std::string>();
    } else if (key == "timeout_ms" && value.is_number_unsigned()) {
      request.timeout_ms =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(value.get<std::uint64_t>(), longest_timeout_ms));
    } else if (key == "token" && value.is_string()) {
      request.token = decode_token(value.get<std::string>());
    } else {
      throw Error("a request has command, argument and token, texts, and timeout_ms, a number; nothing else");
    }
  }
  const Command& command = command_of(name);
  if (command.argument.empty() != request.argument.empty()) {
    throw command.argument.empty() ? error("{} takes no argument", name)
                                   : error("{} needs an argument: {}", name, command.argument);
  }
  request.command = command.command;
  return request;
}

ControlAnswer refusal_of(const std::exception& failure) {
  ControlAnswer answer;
  answer.error = failure.what();
  answer.passing = dynamic_cast<const PassingError*>(&failure) != nullptr;
  return answer;
}

ControlAnswer passing_refusal(std::string why) {
  ControlAnswer answer;
  answer.error = std::move(why);
  answer.passing = true;
  return answer;
}

std::string encode_answer(const ControlAnswer& answer) {
  Json json = {{"ok", answer.ok}};
  if (!answer.ok) json["error"] = answer.error;
  if (answer.passing) json["passing"] = 1;
  add_values(json, answer.text, answer.numbers);
  for (const ControlRow& row : answer.rows) {
    Json values = Json::object();
    add_values(values, row.text, row.numbers);
    json["rows"].push_back(std::move(values));
  }
  return to_line(json);
}

ControlAnswer decode_answer(std::string_view line) {
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object() || !json.contains("ok") || !json["ok"].is_boolean()) {
    throw Error("what answers is no flusher, or one of another version");
  }
  ControlAnswer answer{json["ok"].get<bool>(), "", {}, {}};
  for (const auto& [name, value] : json.items()) {
    if (name == "error" && !answer.ok && value.is_string()) {
      answer.error = value.get<std::string>();
    } else if (name == "passing" && !answer.ok) {
      answer.passing = true;
    } else if (name == "rows" && value.is_array()) {
      for (const Json& row : value) {
        if (row.is_object()) answer.rows.push_back(row_of(row));
      }
    } else {
      take_value(name, value, answer.text, answer.numbers);
    }
  }
  if (!answer.ok && answer.error.empty()) answer.error = "the flusher gives no reason";
  return answer;
}

}  // namespace visitd
