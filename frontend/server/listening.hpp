// Sockets to accept from, opened here or passed by systemd.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/config/settings.hpp"
#include "common/os/file_lease.hpp"
#include "common/os/unique_fd.hpp"
#include "frontend/http/entrance.hpp"

namespace visitd {

/// Bound, listening, not blocking.
struct ListeningSocket {
  UniqueFd fd;
  Entrance entrance = Entrance::public_address;
  bool is_shared = false;  ///< others may accept from it when this process no longer does
  std::string path = {};   ///< of a UnixListening: one that it makes again takes the place of the one before

  [[nodiscard]] bool is_private() const noexcept { return entrance == Entrance::private_address; }
};

/// A Unix socket at a path, which one process at a time can serve: whoever holds the lock PATH.lock. The others wait to
/// take its place. (One that systemd made and passed is shared.)
class UnixListening {
 public:
  UnixListening(std::string path, bool is_private) : path_(std::move(path)), is_private_(is_private) {}
  UnixListening(UnixListening&&) = default;
  UnixListening& operator=(UnixListening&&) = delete;
  UnixListening(const UnixListening&) = delete;
  UnixListening& operator=(const UnixListening&) = delete;
  /// Removes the socket from its path where it is ours.
  ~UnixListening();

  /// Takes the path where nobody serves it: whatever socket a dead process left there is replaced, and ours is made
  /// again where it was unlinked. nullopt: it is served, by us or by another. Whoever may pass the folders on its way
  /// may connect; where that is every user of the host the log warns, and the entrance is open_unix_socket. Throws
  /// Error naming the path.
  [[nodiscard]] std::optional<ListeningSocket> try_open();

  [[nodiscard]] bool is_private() const noexcept { return is_private_; }

 private:
  [[nodiscard]] bool is_in_place();
  [[nodiscard]] ListeningSocket make_socket();
  [[nodiscard]] Entrance entrance_there() const;

  std::string path_;
  bool is_private_;
  std::unique_ptr<FileLease> lease_;
  std::optional<FileIdentity> socket_;  ///< what lies at the path while the lease is held
  bool is_ours_ = false;                ///< and we made it
};

struct Listening {
  std::vector<ListeningSocket> sockets;
  std::vector<UnixListening> unix_paths;  ///< to be opened, now and whenever another process may have left them

  /// Whether this host has an address for health and metrics alone, even one that another process serves just now.
  [[nodiscard]] bool has_private_address() const noexcept;
};

/// The sockets that systemd passed to this process (those named "private" are private), or else what the settings name:
/// for HOST:PORT and [HOST]:PORT a socket ("[::]" serves IPv4 too, and IPv4 alone where the host has no IPv6), at which
/// several processes of one user may listen; for unix:/PATH its path. Where sockets were passed, the log warns of
/// settings that name others, and of Unix sockets at which every user of the host may connect. Throws Error naming the
/// address, and where private sockets alone were passed.
[[nodiscard]] Listening open_listening(const Settings& settings);

}  // namespace visitd
