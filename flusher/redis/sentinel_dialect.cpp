#include "flusher/redis/sentinel_dialect.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "common/os/text.hpp"

namespace visitd {

namespace {

constexpr std::string_view odd_answer = "an answer of another kind than a sentinel gives";
constexpr std::string_view switch_channel = "+switch-master";

/// Of a host and a port as text; nullopt: they are none.
std::optional<ServerAddress> address_of(std::string_view host, std::string_view port) {
  ServerAddress address{std::string(host), 0};
  if (!parse_decimal(port, address.port) || address.port == 0 || host.empty()) return std::nullopt;
  if (host.find('\0') != std::string_view::npos) return std::nullopt;
  return address;
}

}  // namespace

void SentinelDialect::say(Step step, RequestText& text, std::initializer_list<std::string_view> words) {
  steps_.insert(steps_.begin(), step);
  text.start(words.size());
  for (const std::string_view word : words) text.add(word);
}

void SentinelDialect::begin(RequestText& text) {
  steps_.clear();
  found_.reset();
  const std::string& password = sentinels_.password.text;
  if (!password.empty() && sentinels_.username.empty()) {
    say(Step::authenticate, text, {"AUTH", password});
  } else if (!password.empty()) {
    say(Step::authenticate, text, {"AUTH", sentinels_.username, password});
  }
  say(Step::name, text, {"CLIENT", "SETNAME", "visitd"});
  say(Step::primary, text, {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", sentinels_.primary});
  // In one piece with the question: the sentinel carries out both before it looks at its servers again.
  say(Step::listen, text, {"SUBSCRIBE", switch_channel});
}

void SentinelDialect::ask_whether_there(RequestText& text) {
  say(Step::there, text, {"PING"});
}

SentinelDialect::Said SentinelDialect::read(Reply reply) {
  if (reply.size() == 3 && reply[0].text() == "message") return read_message(reply);
  if (steps_.empty()) return Refusal{"it answers what it was not asked"};
  const Step step = steps_.back();
  steps_.pop_back();
  switch (step) {
    case Step::authenticate:
      if (!reply.is_error()) return Nothing{};
      return Refusal{fmt::format("the password of the sentinels was not accepted, which comes from {}: {}",
                                 sentinels_.password.place, reply.text())};
    case Step::name:
    case Step::there:
      return Nothing{};  // a sentinel that does not permit it is none the worse
    case Step::primary:
      return read_primary(reply);
    case Step::listen:
      break;
  }
  if (reply.is_error()) return refused(reply.text());
  if (!found_) return Refusal{std::string(odd_answer)};
  return *found_;
}

SentinelDialect::Said SentinelDialect::read_primary(Reply reply) {
  if (reply.is_error()) return refused(reply.text());
  if (reply.is_nil()) {
    return Refusal{
        fmt::format("it does not know a primary called {}: put the name right, which is that of its "
                    "'sentinel monitor'",
                    sentinels_.primary)};
  }
  const auto address = reply.size() == 2 ? address_of(reply[0].text(), reply[1].text()) : std::nullopt;
  if (!address) return Refusal{std::string(odd_answer)};
  found_ = address;
  return Nothing{};
}

/// "PRIMARY OLD-HOST OLD-PORT NEW-HOST NEW-PORT", of any primary that the sentinel watches.
SentinelDialect::Said SentinelDialect::read_message(Reply message) const {
  std::string_view rest = message[2].text();
  if (message[1].text() != switch_channel || take_until(rest, ' ') != sentinels_.primary) return Nothing{};
  static_cast<void>(take_until(rest, ' '));
  static_cast<void>(take_until(rest, ' '));
  const std::string_view host = take_until(rest, ' ');
  const auto address = address_of(host, rest);
  if (!address) return Nothing{};
  return *address;
}

SentinelDialect::Refusal SentinelDialect::refused(std::string_view said) {
  if (said.starts_with("NOAUTH")) {
    return {
        fmt::format("it wants a password, and the settings have none for sentinels (redis.sentinel_password_file): "
                    "{}",
                    said)};
  }
  if (said.starts_with("ERR unknown command")) {
    return {
        fmt::format("it is no sentinel; name sentinels there, whose port is 26379 as a rule, or the shard itself "
                    "with redis://: {}",
                    said)};
  }
  return {said.empty() ? std::string(odd_answer) : std::string(said)};
}

}  // namespace visitd
