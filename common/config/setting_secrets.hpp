// What a shard is reached with besides its address: password, certificates and key, from the settings, files and the
// credentials of systemd.
#pragma once

#include "common/config/setting_rows.hpp"
#include "common/config/setting_sources.hpp"

namespace visitd::setting {

/// What all shards are given that have nothing of their own.
class SharedSecrets {
 public:
  /// Throws Error. Both outlive it.
  SharedSecrets(const ForShards& settings, const Sources& sources, Secrets secrets);

  /// Adds them to a shard, and what its table has of its own. With Secrets::leave no file is read, and no password is
  /// given. Throws Error.
  void give(ShardSettings& shard, const ShardTable& table) const;

 private:
  void give_password(ShardSettings& shard, const ShardTable& table) const;
  void give_sentinels(ShardSentinels& sentinels, const ShardTable& table) const;
  void give_tls(ShardTls& tls, const ShardTable& table) const;

  const ForShards& settings_;
  const Sources& sources_;
  Secrets secrets_;
  FileText password_;
};

/// Reads the owner's key, unless secrets are left alone. Throws Error if a client could not send it, or somebody could
/// guess it.
void read_owner_key(Draft& draft, const Sources& sources, Secrets secrets);

}  // namespace visitd::setting
