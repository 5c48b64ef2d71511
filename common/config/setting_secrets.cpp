#include "common/config/setting_secrets.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "common/config/setting_forms.hpp"
#include "common/config/setting_text.hpp"
#include "common/os/errors.hpp"
#include "common/os/whole_file.hpp"

namespace visitd::setting {

namespace {

constexpr std::string_view credentials_place = "environment variable CREDENTIALS_DIRECTORY";

/// The path of the file in which systemd keeps the credential; empty if systemd passes no credential of this name.
std::string credential_path(std::string_view name) {
  const char* directory = std::getenv("CREDENTIALS_DIRECTORY");
  if (directory == nullptr) return {};
  std::string path = fmt::format("{}/{}", directory, name);
  return std::filesystem::exists(path) ? path : std::string();
}

/// `where`: what named the file.
std::string read_file(const std::string& path, std::string_view where, std::size_t limit_bytes, std::string_view what) {
  try {
    return read_whole_file(path, limit_bytes, what);
  } catch (const Error& failure) {
    throw error("{}: {}", where, failure.what());
  }
}

// ---- passwords

enum class Empty { is_refused, is_none };

/// `empty`: what a file without a password means.
std::string read_password_file(const std::string& path, std::string_view where, Empty empty = Empty::is_refused) {
  constexpr std::size_t password_limit_bytes = 512;
  std::string password = read_file(path, where, password_limit_bytes, "password file");
  if (password.ends_with('\n')) password.pop_back();
  if (password.ends_with('\r')) password.pop_back();
  if (password.empty() && empty == Empty::is_refused) throw error("{}: the password file '{}' is empty", where, path);
  if (!is_password(password)) throw error("{}: the password file '{}' holds a NUL", where, path);
  return password;
}

/// The password of shards that have none of their own.
FileText shared_password(const ForShards& shared, const Sources& sources) {
  const Origin password = sources.origin("redis", "password");
  const Origin file = sources.origin("redis", "password_file");
  // Either of them in the environment stands above the other in the settings file.
  const bool file_counts = password.source != Source::environment || file.source == Source::environment;
  const bool password_counts = file.source != Source::environment || password.source == Source::environment;
  const bool has_password = password_counts && !shared.password.empty();
  const bool has_file = file_counts && !shared.password_file.empty();
  if (has_password && has_file) {
    throw error(
        "{}: the password is given twice, as text and as a file; keep one of redis.password and redis.password_file",
        file.where);
  }
  const auto name_of = [](const Origin& origin, std::string_view key) {
    return origin.source == Source::environment ? origin.where : std::string(key);
  };
  if (has_password) return {.text = shared.password, .place = name_of(password, "redis.password")};
  if (has_file) {
    return {.text = read_password_file(shared.password_file, file.where),
            .place = fmt::format("{} ({})", name_of(file, "redis.password_file"), shared.password_file)};
  }
  // If a credential may be missing, its unit sets an empty one or a line break (SetCredential=): that is no password.
  if (const std::string path = credential_path("redis_password"); !path.empty()) {
    return {.text = read_password_file(path, credentials_place, Empty::is_none),
            .place = "the credential redis_password"};
  }
  return {};
}

/// Reads the file at `secret.path`, or, if there is none, the credential. `key`, `where`: which setting names the file,
/// and who set it.
void read_secret(FileText& secret, std::string_view key, std::string_view where, std::string_view credential) {
  if (!secret.path.empty()) {
    secret.place = fmt::format("{} ({})", key, secret.path);
    secret.text = read_password_file(secret.path, where);
  } else if (const std::string path = credential_path(credential); !path.empty()) {
    secret.place = fmt::format("the credential {}", credential);
    secret.text = read_password_file(path, credentials_place, Empty::is_none);
  }
}

// ---- certificates and keys

/// A file of TLS.
struct PemFile {
  std::string_view key;  ///< as the settings name it
  std::string ForShards::* shared;
  std::string ShardTable::* own;
  std::string_view credential;  ///< what takes its place
  std::string_view part;        ///< how the first line of a part of it ends
};

constexpr PemFile ca_file{"tls_ca_file", &ForShards::tls_ca_file, &ShardTable::tls_ca_file, "redis_tls_ca",
                          "CERTIFICATE-----"};
constexpr PemFile certificate_file{"tls_certificate_file", &ForShards::tls_certificate_file,
                                   &ShardTable::tls_certificate_file, "redis_tls_certificate", "CERTIFICATE-----"};
constexpr PemFile key_file{"tls_key_file", &ForShards::tls_key_file, &ShardTable::tls_key_file, "redis_tls_key",
                           "PRIVATE KEY-----"};

/// Of what has nothing of its kind, nothing can be made later either.
void check_pem(const FileText& file, const PemFile& kind, std::string_view where) {
  const auto holds = [&](std::string_view text) { return file.text.find(text) != std::string::npos; };
  if (holds("-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds("Proc-Type: 4,ENCRYPTED")) {
    throw error(
        "{}: the key in {} has a passphrase, and nobody is there to type it: write it without one (openssl pkey -in "
        "FILE -out OTHER-FILE), readable by the flusher's user alone",
        where, file.place);
  }
  if (holds("-----BEGIN ") && holds(kind.part)) return;
  throw error("{}: {} holds nothing of the form PEM with a line that ends with {}", where, file.place, kind.part);
}

/// Both of them, or neither: each is of no use alone.
void check_pair(const ShardTls& tls, std::string_view where) {
  if (tls.certificate.place.empty() == tls.key.place.empty()) return;
  const bool has_key = tls.certificate.place.empty();
  throw error("{}: {} is given without its {}: set redis.{} too", where,
              has_key ? tls.key.place : tls.certificate.place, has_key ? "certificate" : "private key",
              has_key ? certificate_file.key : key_file.key);
}

}  // namespace

SharedSecrets::SharedSecrets(const ForShards& settings, const Sources& sources, Secrets secrets)
    : settings_(settings), sources_(sources), secrets_(secrets) {
  if (secrets_ == Secrets::read) password_ = shared_password(settings_, sources_);
}

void SharedSecrets::give(ShardSettings& shard, const ShardTable& table) const {
  give_password(shard, table);
  if (!shard.sentinels.addresses.empty()) {
    give_sentinels(shard.sentinels, table);
  } else if (!table.sentinel_username.empty() || !table.sentinel_password_file.empty()) {
    throw error(
        "{}: this [[redis.shard]] has settings of sentinels, and its address names none; write "
        "sentinel://HOST:PORT,HOST:PORT/PRIMARY",
        table.where);
  }
  if (shard.over_tls) return give_tls(shard.tls, table);
  for (const std::string ShardTable::* own :
       {ca_file.own, certificate_file.own, key_file.own, &ShardTable::tls_server_name}) {
    if ((table.*own).empty()) continue;
    throw error("{}: this [[redis.shard]] has settings of TLS, and its address is not one over TLS; write rediss://",
                table.where);
  }
}

void SharedSecrets::give_password(ShardSettings& shard, const ShardTable& table) const {
  if (secrets_ == Secrets::leave) {
    shard.password.clear();
  } else if (!table.password_file.empty()) {
    shard.password = read_password_file(table.password_file, table.where);
    shard.password_place = fmt::format("password_file ({}) of {}", table.password_file, table.where);
  } else if (!table.password.empty()) {
    shard.password = table.password;
    shard.password_place = fmt::format("password of {}", table.where);
  } else if (!shard.password.empty()) {
    shard.password_place = fmt::format("the shard's URL ({})", table.where);
  } else {
    shard.password = password_.text;
    shard.password_place = password_.place;
  }
}

void SharedSecrets::give_sentinels(ShardSentinels& sentinels, const ShardTable& table) const {
  sentinels.username = table.sentinel_username.empty() ? settings_.sentinel_username : table.sentinel_username;
  const bool is_own = !table.sentinel_password_file.empty();
  FileText& password = sentinels.password;
  password.path = is_own ? table.sentinel_password_file : settings_.sentinel_password_file;
  if (secrets_ == Secrets::leave) return;
  read_secret(password, "redis.sentinel_password_file",
              is_own ? table.where : sources_.origin("redis", "sentinel_password_file").where,
              "redis_sentinel_password");
}

void SharedSecrets::give_tls(ShardTls& tls, const ShardTable& table) const {
  constexpr std::size_t pem_limit_bytes = mib;  // the authorities of a whole system take a quarter of it
  tls.server_name = table.tls_server_name.empty() ? settings_.tls_server_name : table.tls_server_name;
  for (const auto& [kind, file] :
       {std::pair(&ca_file, &tls.ca), std::pair(&certificate_file, &tls.certificate), std::pair(&key_file, &tls.key)}) {
    const bool is_own = !(table.*kind->own).empty();
    file->path = is_own ? table.*kind->own : settings_.*kind->shared;
    std::string where = is_own ? table.where : sources_.origin("redis", kind->key).where;
    if (secrets_ == Secrets::leave) continue;
    std::string path = file->path;
    if (!path.empty()) {
      file->place = fmt::format("redis.{} ({})", kind->key, path);
    } else if (path = credential_path(kind->credential); !path.empty()) {
      file->place = fmt::format("the credential {}", kind->credential);
      where = credentials_place;
    } else {
      continue;
    }
    file->text = read_file(path, where, pem_limit_bytes, "file of TLS");
    if (file->path.empty() && file->text.find_first_not_of("\r\n") == std::string::npos) {
      *file = {};  // a unit without a credential passes an empty one
    } else {
      check_pem(*file, *kind, where);
    }
  }
  if (secrets_ == Secrets::read) check_pair(tls, table.where);
}

void read_owner_key(Draft& draft, const Sources& sources, Secrets secrets) {
  constexpr std::size_t least_bytes = 16;  // nobody guesses it
  constexpr std::size_t most_bytes = 256;
  FileText& key = draft.owner.key;
  key.path = draft.owner.key_file;
  if (!key.path.empty()) draft.secret_files.push_back(key.path);
  if (secrets == Secrets::leave) return;
  read_secret(key, "owner.key_file", sources.origin("owner", "key_file").where, "owner_key");
  if (key.text.empty()) return;
  const auto is_visible = [](char c) { return c > ' ' && c <= '~'; };
  if (key.text.size() < least_bytes || key.text.size() > most_bytes || !std::ranges::all_of(key.text, is_visible)) {
    throw error(
        "{}: the owner's key has {} bytes; allowed: {} to {} visible ASCII characters without a space, on one line "
        "(openssl rand -hex 32 makes one)",
        key.place, key.text.size(), least_bytes, most_bytes);
  }
}

}  // namespace visitd::setting
