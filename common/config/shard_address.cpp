#include "common/config/shard_address.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>

#include "common/os/errors.hpp"
#include "common/os/text.hpp"
#include "common/os/unix_address.hpp"

namespace visitd {

namespace {

constexpr std::uint16_t default_port = 6379;
constexpr std::uint16_t default_sentinel_port = 26379;
constexpr std::size_t most_sentinels = 16;
constexpr std::size_t name_limit_bytes = 64;
constexpr std::size_t host_limit_bytes = 253;

bool is_alphanumeric(char c) noexcept {
  return is_letter(c) || is_digit(c);
}

/// The text as an error may show it: nothing of what stands before the last '@', nor where a port belongs and none is.
std::string without_secrets(std::string_view text) {
  const std::size_t scheme = text.find("://");
  const std::string_view begin = scheme == std::string_view::npos ? "" : text.substr(0, scheme + 3);
  if (const std::size_t at = text.rfind('@'); at != std::string_view::npos) {
    return fmt::format("{}(hidden){}", begin, text.substr(at));
  }
  const std::size_t colon = text.find(':', text.substr(begin.size()).starts_with('[') ? text.find(']') : begin.size());
  const std::string_view port = colon == std::string_view::npos ? "" : text.substr(colon + 1);
  if (port.find_first_not_of("0123456789/") == std::string_view::npos) return std::string(text);
  return fmt::format("{}:(hidden)", text.substr(0, colon));
}

/// A decimal number of digits alone, at most `most`.
std::optional<std::uint32_t> parse_number(std::string_view text, std::uint32_t most) {
  std::uint32_t number = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed != std::errc{} || end != text.data() + text.size() || number > most) return std::nullopt;
  return number;
}

/// nullopt: not percent-encoded right, or with a NUL, which no user name or password holds.
std::optional<std::string> decode(std::string_view text) {
  std::optional<std::string> decoded = percent_decoded(text);
  if (decoded && decoded->find('\0') != std::string::npos) return std::nullopt;
  return decoded;
}

/// The parser's state: what is left of the text, and the whole of it for errors.
class Parser {
 public:
  explicit Parser(std::string_view text) : whole_(text), rest_(text) {}

  ShardAddress parse() {
    // Whoever is handed the path of a socket would see it end there.
    if (whole_.find('\0') != std::string_view::npos) throw error("the address of a shard holds a NUL");
    take_name();
    address_.shard.over_tls = skip("rediss://");
    if (address_.shard.over_tls || skip("redis://")) {
      take_user();
      take_host();
      if (skip("/") && !rest_.empty()) take_database();
    } else if (skip("unix://")) {
      take_user();
      take_path();
    } else if (skip("sentinel://")) {
      take_sentinels();
    } else if (skip("sentinels://")) {
      address_.shard.over_tls = true;
      take_sentinels();
    } else if (rest_.find("://") != std::string_view::npos) {
      fail("it begins with none of redis://, rediss://, unix:// and sentinel://");
    } else {
      take_host();
    }
    if (!rest_.empty()) fail(fmt::format("'{}' is left over at its end", rest_));
    if (address_.shard.name.empty() && address_.shard.port != 0) {
      address_.shard.name = fmt::format("redis_{}", address_.shard.port);
    }
    return std::move(address_);
  }

 private:
  [[noreturn]] void fail(std::string_view what) const {
    throw error(
        "'{}' is not the address of a shard: {}; write redis://HOST:PORT, rediss://HOST:PORT (TLS), unix:///PATH or "
        "sentinel://HOST:PORT,HOST:PORT/PRIMARY",
        without_secrets(whole_), what);
  }

  bool skip(std::string_view prefix) {
    if (!rest_.starts_with(prefix)) return false;
    rest_.remove_prefix(prefix.size());
    return true;
  }

  std::string_view take_until(std::string_view ends) {
    const std::string_view taken = rest_.substr(0, rest_.find_first_of(ends));
    rest_.remove_prefix(taken.size());
    return taken;
  }

  void take_name() {
    const std::string_view name = rest_.substr(0, rest_.find('='));
    if (name.size() == rest_.size() || name.find_first_of(":/@") != std::string_view::npos) return;
    if (!is_shard_name(name)) fail("the name before '=' may have 1 to 64 of A-Z a-z 0-9 . _ -");
    address_.shard.name = name;
    rest_.remove_prefix(name.size() + 1);
  }

  void take_user() {
    const std::size_t at = rest_.rfind('@');
    if (at == std::string_view::npos || rest_.starts_with('/')) return;
    const std::string_view user = rest_.substr(0, at);
    const std::size_t colon = user.find(':');
    const auto name = decode(user.substr(0, colon));
    const auto password = decode(colon == std::string_view::npos ? "" : user.substr(colon + 1));
    if (!name || !password) fail("user or password is not percent-encoded right");
    address_.shard.username = *name;
    address_.shard.password = *password;
    rest_.remove_prefix(at + 1);
  }

  void take_host() {
    const ServerAddress server = take_server(default_port);
    address_.shard.host = server.host;
    address_.shard.port = server.port;
  }

  ServerAddress take_server(std::uint16_t port_if_none) {
    ServerAddress server;
    if (skip("[")) {
      server.host = take_until("]");
      const auto in_address = [](char c) { return is_alphanumeric(c) || c == ':' || c == '.' || c == '%'; };
      if (!skip("]") || !std::ranges::all_of(server.host, in_address)) fail("the address in [] is none");
    } else {
      server.host = take_until(":/,");
      const auto in_name = [](char c) { return is_alphanumeric(c) || c == '-' || c == '.' || c == '_'; };
      if (!std::ranges::all_of(server.host, in_name)) fail("the host has characters that no host name has");
    }
    if (server.host.empty() || server.host.size() > host_limit_bytes) fail("the host is missing or too long");
    server.port = port_if_none;
    if (!skip(":")) return server;
    const auto port = parse_number(take_until("/,"), UINT16_MAX);
    if (!port || *port == 0) fail("the port is not a number from 1 to 65535");
    server.port = static_cast<std::uint16_t>(*port);
    return server;
  }

  void take_sentinels() {
    take_user();
    ShardSentinels& sentinels = address_.shard.sentinels;
    do {
      sentinels.addresses.push_back(take_server(default_sentinel_port));
      if (std::ranges::count(sentinels.addresses, sentinels.addresses.back()) > 1) fail("it names a sentinel twice");
      if (sentinels.addresses.size() > most_sentinels)
        fail(fmt::format("it names more than {} sentinels", most_sentinels));
    } while (skip(","));
    if (skip("/")) sentinels.primary = take_until("/");
    if (!is_shard_name(sentinels.primary)) {
      fail("after the sentinels stands the name under which they watch the primary, 1 to 64 of A-Z a-z 0-9 . _ -");
    }
    if (skip("/") && !rest_.empty()) take_database();
  }

  void take_path() {
    ShardSettings& shard = address_.shard;
    shard.unix_path = take_until("?");
    if (!shard.unix_path.starts_with('/')) fail("the path of a Unix socket begins with /");
    if (shard.unix_path.size() > unix_path_limit_bytes) fail("the path of a Unix socket has at most 107 bytes");
    if (skip("?db=")) take_database();
  }

  void take_database() {
    const auto database = parse_number(rest_, max_redis_database);
    if (!database) fail(fmt::format("the database is not a number from 0 to {}", max_redis_database));
    address_.shard.database = *database;
    address_.has_database = true;
    rest_ = {};
  }

  std::string_view whole_;
  std::string_view rest_;
  ShardAddress address_;
};

}  // namespace

ShardAddress parse_shard_address(std::string_view text) {
  return Parser(text).parse();
}

std::string shard_url(const ShardSettings& shard) {
  const std::string user = shard.username.empty() ? "" : percent_encoded(shard.username) + "@";
  if (!shard.unix_path.empty()) return fmt::format("unix://{}{}?db={}", user, shard.unix_path, shard.database);
  if (shard.sentinels.addresses.empty()) {
    return fmt::format("{}://{}{}/{}", shard.over_tls ? "rediss" : "redis", user, server_text({shard.host, shard.port}),
                       shard.database);
  }
  return fmt::format("{}://{}{}/{}/{}", shard.over_tls ? "sentinels" : "sentinel", user,
                     servers_text(shard.sentinels.addresses), shard.sentinels.primary, shard.database);
}

std::string server_text(const ServerAddress& server) {
  const bool brackets = server.host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", brackets ? "[" : "", server.host, brackets ? "]" : "", server.port);
}

std::string servers_text(const std::vector<ServerAddress>& servers) {
  std::string text;
  for (const ServerAddress& server : servers) text += (text.empty() ? "" : ",") + server_text(server);
  return text;
}

bool is_shard_name(std::string_view name) noexcept {
  const auto allowed = [](char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; };
  return !name.empty() && name.size() <= name_limit_bytes && std::ranges::all_of(name, allowed);
}

}  // namespace visitd
