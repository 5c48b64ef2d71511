// Counts of another counter out of its Redis servers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ctl/import_formats.hpp"
#include "ctl/import_sums.hpp"

namespace visitd {

/// Where counts are, and which of them are wanted.
struct RedisImport {
  ImportFormat format = ImportFormat::original;
  std::vector<std::string> urls;  ///< of each server
  std::string site;               ///< vercount: the only host that counts; empty: there may be only one
  std::string pages;              ///< busuanzi: a file with the addresses of pages; "-": standard input
  std::string prefix;             ///< busuanzi: of its keys
  bool with_host = false;         ///< ids of pages begin with their host
  bool site_totals = false;       ///< totals of sites are pages too: see site_total()
  std::uint32_t timeout_ms = 0;   ///< for each answer of a server
};

/// Sums by page over all servers. Each key counts once, however often a server names it. Throws Error.
[[nodiscard]] Imported read_redis_import(const RedisImport& wanted, ImportNames names);

}  // namespace visitd
