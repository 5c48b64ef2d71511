// How the address of a shard is written, and read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/config/settings.hpp"

namespace visitd {

/// A shard as one text named it.
struct ShardAddress {
  ShardSettings shard;        ///< `name` is empty where the text has none and no port to derive one from
  bool has_database = false;  ///< the text named the database
};

/// Reads `redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]`, the same with `rediss://` for TLS, `HOST[:PORT]`, or
/// `unix://[USER[:PASSWORD]@]/PATH[?db=DB]`, each with `NAME=` before it or not; the port is 6379 where it is not
/// given, and the name redis_PORT. User and password are percent-decoded. Throws Error that says what is wrong; no
/// password is ever part of its message.
[[nodiscard]] ShardAddress parse_shard_address(std::string_view text);

/// The address as a URL that parse_shard_address reads; without name and password.
[[nodiscard]] std::string shard_url(const ShardSettings& shard);

/// HOST:PORT, with brackets around the host where it has colons.
[[nodiscard]] std::string address_text(const std::string& host, std::uint16_t port);

/// Whether a shard may be called so: 1 to 64 of A-Z a-z 0-9 . _ -
[[nodiscard]] bool is_shard_name(std::string_view name) noexcept;

/// The largest database number that an address may name.
inline constexpr std::uint32_t max_redis_database = 65535;

}  // namespace visitd
