#include "ctl/redis_source.hpp"

#include <fmt/format.h>
#include <hiredis/hiredis.h>
#include <sys/time.h>

#include "common/config/shard_address.hpp"
#include "common/os/errors.hpp"
#include "common/os/text.hpp"
#include "ctl/report.hpp"

namespace visitd {

namespace {

struct FreeContext {
  void operator()(redisContext* context) const noexcept { redisFree(context); }
};
struct FreeReply {
  void operator()(redisReply* reply) const noexcept { freeReplyObject(reply); }
};
using Reply = std::unique_ptr<redisReply, FreeReply>;
using Command = std::vector<std::string_view>;

const std::string& piece_size() {
  static const std::string size = std::to_string(RedisSource::scanned_at_once);
  return size;
}

/// The value of a field of INFO; empty: it has none.
std::string_view info_field(std::string_view info, std::string_view name) {
  while (!info.empty()) {
    const std::string_view line = trim(take_until(info, '\n'));
    if (line.size() > name.size() && line.starts_with(name) && line[name.size()] == ':')
      return line.substr(name.size() + 1);
  }
  return {};
}

std::string_view text_of(const redisReply& reply) {
  return reply.str == nullptr ? std::string_view() : std::string_view(reply.str, reply.len);
}

bool is_text(const redisReply& reply) {
  return reply.type == REDIS_REPLY_STRING || reply.type == REDIS_REPLY_STATUS;
}

bool is_wrong_type(const redisReply& reply) {
  return reply.type == REDIS_REPLY_ERROR && text_of(reply).starts_with("WRONGTYPE");
}

/// The texts of a list; nullopt: it is none, or holds something else.
std::optional<std::vector<std::string_view>> texts_of(const redisReply& reply) {
  if (reply.type != REDIS_REPLY_ARRAY) return std::nullopt;
  std::vector<std::string_view> texts;
  for (std::size_t i = 0; i < reply.elements; ++i) {
    if (!is_text(*reply.element[i])) return std::nullopt;
    texts.push_back(text_of(*reply.element[i]));
  }
  return texts;
}

}  // namespace

struct RedisSource::Connection {
  std::unique_ptr<redisContext, FreeContext> context;
  std::string name;

  void say(const Command& command) {
    std::vector<const char*> words;
    std::vector<std::size_t> sizes;
    for (const std::string_view word : command) {
      words.push_back(word.data());
      sizes.push_back(word.size());
    }
    if (redisAppendCommandArgv(context.get(), static_cast<int>(words.size()), words.data(), sizes.data()) != REDIS_OK) {
      throw error("{} cannot be asked: {}", name, why());
    }
  }
  /// Also one that is an error.
  [[nodiscard]] Reply answer() {
    void* reply = nullptr;
    if (redisGetReply(context.get(), &reply) != REDIS_OK || reply == nullptr) {
      throw error("{} does not answer: {}", name, why());
    }
    return Reply(static_cast<redisReply*>(reply));
  }
  [[nodiscard]] Reply ask(const Command& command) {
    say(command);
    Reply reply = answer();
    if (reply->type == REDIS_REPLY_ERROR) refuse(command.front(), *reply);
    return reply;
  }
  [[noreturn]] void refuse(std::string_view command, const redisReply& reply) const {
    const std::string_view said = text_of(reply);
    const std::string_view advice =
        said.starts_with("NOAUTH") || said.starts_with("WRONGPASS") || said.starts_with("ERR AUTH")
            ? "; name user and password in the URL, redis://USER:PASSWORD@HOST:PORT"
        : said.starts_with("MOVED") ? "; name the primaries of a cluster, each with a URL of its own"
                                    : "";
    throw error("{} refuses {}: {}{}", name, command, printable(said), advice);
  }
  [[nodiscard]] std::string why() const {
    // hiredis says of a wait that is over what errno says: that somebody should try again.
    if (context->err == REDIS_ERR_IO && errno == EAGAIN) return "it took longer than --timeout";
    return static_cast<const char*>(context->errstr);
  }
  [[noreturn]] void misunderstand(std::string_view command) const {
    throw error("{} answers {} as no Redis server does: name a server of Redis, or of Valkey", name, command);
  }
};

RedisSource::RedisSource(const std::string& url, std::uint32_t timeout_ms) {
  connect(url, timeout_ms);
}

RedisSource::~RedisSource() = default;
RedisSource::RedisSource(RedisSource&&) noexcept = default;

void RedisSource::connect(const std::string& url, std::uint32_t timeout_ms) {
  const ShardSettings server = parse_shard_address(url).shard;
  if (server.over_tls || !server.sentinels.addresses.empty()) {
    throw error(
        "{}: visitctl reads a Redis server neither over TLS nor by way of sentinels; name the server itself, "
        "and where it takes TLS alone, a tunnel to it (redis://HOST:PORT or unix:///PATH)",
        shard_url(server));
  }
  const bool by_path = !server.unix_path.empty();
  database_ = server.database;
  name_ = fmt::format("{}, database {}", by_path ? server.unix_path : server_text({server.host, server.port}),
                      server.database);
  const timeval limit{static_cast<time_t>(timeout_ms / 1000), static_cast<suseconds_t>(timeout_ms % 1000 * 1000)};
  redisContext* const context = by_path ? redisConnectUnixWithTimeout(server.unix_path.c_str(), limit)
                                        : redisConnectWithTimeout(server.host.c_str(), server.port, limit);
  connection_ = std::unique_ptr<Connection>(new Connection{std::unique_ptr<redisContext, FreeContext>(context), name_});
  if (context == nullptr) throw error("{} cannot be connected to: there is no memory", name_);
  if (context->err != 0) throw error("{} cannot be connected to: {}", name_, connection_->why());
  redisSetTimeout(context, limit);
  if (!server.username.empty()) {
    static_cast<void>(connection_->ask({"AUTH", server.username, server.password}));
  } else if (!server.password.empty()) {
    static_cast<void>(connection_->ask({"AUTH", server.password}));
  }
  if (server.database != 0) static_cast<void>(connection_->ask({"SELECT", std::to_string(server.database)}));
}

RedisSource::Identity RedisSource::identity() {
  const Reply reply = connection_->ask({"INFO"});
  if (!is_text(*reply)) connection_->misunderstand("INFO");
  const std::string_view run_id = info_field(text_of(*reply), "run_id");
  if (run_id.empty()) connection_->misunderstand("INFO");
  return {std::string(run_id), info_field(text_of(*reply), "role") == "slave"};
}

std::uint64_t RedisSource::keys() {
  const Reply reply = connection_->ask({"DBSIZE"});
  if (reply->type != REDIS_REPLY_INTEGER || reply->integer < 0) connection_->misunderstand("DBSIZE");
  return static_cast<std::uint64_t>(reply->integer);
}

std::pair<std::string, std::vector<std::string>> RedisSource::scan(const std::string& cursor,
                                                                   const std::string& pattern) {
  const Reply reply = connection_->ask({"SCAN", cursor, "MATCH", pattern, "COUNT", piece_size()});
  if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || !is_text(*reply->element[0])) {
    connection_->misunderstand("SCAN");
  }
  const auto keys = texts_of(*reply->element[1]);
  if (!keys) connection_->misunderstand("SCAN");
  return {std::string(text_of(*reply->element[0])), {keys->begin(), keys->end()}};
}

std::vector<std::optional<std::string>> RedisSource::strings(const std::vector<std::string>& keys) {
  // Each with a command of its own: nodes of a cluster refuse one over several slots. What is longer than a count has
  // digits, and may be megabytes, is none.
  for (const std::string& key : keys) connection_->say({"GETRANGE", key, "0", "19"});
  std::vector<std::optional<std::string>> values;
  values.reserve(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const Reply reply = connection_->answer();
    if (reply->type == REDIS_REPLY_ERROR && !is_wrong_type(*reply)) connection_->refuse("GETRANGE", *reply);
    const bool is_there = is_text(*reply) && reply->len != 0;
    values.push_back(is_there ? std::optional<std::string>(text_of(*reply)) : std::nullopt);
  }
  return values;
}

bool RedisSource::each_member(const std::string& key,
                              const std::function<void(std::string_view member, std::string_view score)>& take) {
  std::string cursor = "0";
  do {
    connection_->say({"ZSCAN", key, cursor, "COUNT", piece_size()});
    const Reply reply = connection_->answer();
    if (is_wrong_type(*reply)) return false;
    if (reply->type == REDIS_REPLY_ERROR) connection_->refuse("ZSCAN", *reply);
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || !is_text(*reply->element[0])) {
      connection_->misunderstand("ZSCAN");
    }
    const auto texts = texts_of(*reply->element[1]);
    if (!texts || texts->size() % 2 != 0) connection_->misunderstand("ZSCAN");
    for (std::size_t i = 0; i < texts->size(); i += 2) take((*texts)[i], (*texts)[i + 1]);
    cursor = text_of(*reply->element[0]);
  } while (cursor != "0");
  return true;
}

}  // namespace visitd
