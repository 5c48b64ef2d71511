// TLS over a stream: whom a server has to be, who we are, and the bytes under seal. tls.cpp is the sole user of
// OpenSSL.
#pragma once

#include <memory>
#include <string>

#include "common/config/settings.hpp"
#include "flusher/redis/transport.hpp"

namespace visitd {

struct TlsState;

/// The certificates and the key of one shard, read once for all of its connections. The server's certificate is always
/// verified, and so is its name.
class TlsContext {
 public:
  /// `host`: the shard's, for which the certificate has to be where the settings name no other. Throws Error that names
  /// the setting: a file holds no certificate or key that can be used, or the two do not belong together.
  TlsContext(const ShardTls& settings, const std::string& host);

  /// What is sent over the result goes under seal over `below`, which has begun to connect. Throws Error. It may
  /// outlive the context.
  [[nodiscard]] std::unique_ptr<Transport> over(std::unique_ptr<Transport> below) const;

 private:
  std::shared_ptr<const TlsState> state_;
};

}  // namespace visitd
