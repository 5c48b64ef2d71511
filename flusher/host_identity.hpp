// Which machine, boot and container this process runs in: what a copy of it, or of its spool, may find changed.
#pragma once

#include <string>

namespace visitd {

/// Texts of the kernel and the system; empty where there is none.
struct HostIdentity {
  std::string machine;     ///< /etc/machine-id
  std::string boot;        ///< the kernel's boot id
  std::string host;        ///< the host's name
  std::string namespaces;  ///< of processes and of System V segments: another container's, or a restored process'
  friend bool operator==(const HostIdentity&, const HostIdentity&) = default;
};

/// As it is now: a few small files of the kernel, and one of the system.
[[nodiscard]] HostIdentity host_identity();

/// What differs, in words: "the machine's id, the boot id"; empty: nothing.
[[nodiscard]] std::string difference(const HostIdentity& one, const HostIdentity& other);

}  // namespace visitd
