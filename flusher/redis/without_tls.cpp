// In place of tls.cpp where the build has no OpenSSL. The settings refuse rediss:// there, so nobody comes here.
#include "common/os/errors.hpp"
#include "flusher/redis/tls.hpp"

namespace visitd {

struct TlsState {};

TlsContext::TlsContext(const ShardTls& /*settings*/, const std::string& host) {
  throw error("{} cannot be reached over TLS: this visitd was built without it", host);
}

std::unique_ptr<Transport> TlsContext::over(std::unique_ptr<Transport> below) const {
  return below;
}

}  // namespace visitd
