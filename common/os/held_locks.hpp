// The file locks that processes of this host hold, as the kernel lists them. For people: ownership is the lock itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/os/file_lease.hpp"

namespace visitd {

/// Of this moment. Locks of other containers are not listed.
class HeldLocks {
 public:
  HeldLocks();
  /// The process that holds the lock of a file. Where the kernel tells the file system by another number than stat(2)
  /// does, `expected`, the process that should hold it, decides; 0: none is expected. nullopt: nobody that can be seen.
  [[nodiscard]] std::optional<int> holder(const FileIdentity& file, std::uint64_t expected = 0) const;

 private:
  struct Held {
    int process = 0;
    FileIdentity file;
  };
  std::vector<Held> held_;
};

/// The name of a process; empty: there is none.
[[nodiscard]] std::string process_name(int process);

/// Who holds the lock of `path`: "process 123 (visit-flusher)"; "another process" where the kernel does not say.
[[nodiscard]] std::string lock_holder(const std::string& path);

}  // namespace visitd
