// How the address of a shard is written, and read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"

namespace visitd {

/// A shard as one text named it.
struct ShardAddress {
  ShardSettings shard;        ///< `name` is empty where the text has none and no port to derive one from
  bool has_database = false;  ///< the text named the database
};

/// Reads `redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]`, the same with `rediss://` for TLS, `HOST[:PORT]`, or
/// `unix://[USER[:PASSWORD]@]/PATH[?db=DB]`, or `sentinel://[USER[:PASSWORD]@]HOST[:PORT],…/PRIMARY[/DB]` (with
/// `sentinels://` over TLS; a sentinel's port is 26379 where it is not given), each with `NAME=` before it or not; the
/// port is 6379 where it is not given, and the name redis_PORT. User and password are percent-decoded. Throws Error
/// that says what is wrong; no password is ever part of its message.
[[nodiscard]] ShardAddress parse_shard_address(std::string_view text);

/// The address as a URL that parse_shard_address reads; without name and password.
[[nodiscard]] std::string shard_url(const ShardSettings& shard);

/// `HOST:PORT`, of an IPv6 address `[HOST]:PORT`; and several of them, separated by commas.
[[nodiscard]] std::string server_text(const ServerAddress& server);
[[nodiscard]] std::string servers_text(const std::vector<ServerAddress>& servers);

/// Whether a shard may be called so: 1 to 64 of A-Z a-z 0-9 . _ -
[[nodiscard]] bool is_shard_name(std::string_view name) noexcept;

/// The largest database number that an address may name.
inline constexpr std::uint32_t max_redis_database = 65535;

}  // namespace visitd
