// The listening sockets, and what comes in by them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/os/unique_fd.hpp"
#include "common/os/uv_handles.hpp"
#include "frontend/http/client_address.hpp"
#include "frontend/server/listening.hpp"

namespace visitd {

/// Who takes the connections in.
class Doorkeeper {
 public:
  virtual ~Doorkeeper() = default;
  /// False: there is no room for another connection, so that none is accepted for a while.
  [[nodiscard]] virtual bool has_room() noexcept = 0;
  virtual void take_in(UniqueFd fd, const ClientAddress& client, Entrance entrance) = 0;
};

class Doors {
 public:
  /// `send_buffer_bytes`: of each connection, in the kernel. Loop and keeper outlive it.
  Doors(uv_loop_t* loop, Doorkeeper& keeper, int send_buffer_bytes);
  ~Doors();
  Doors(const Doors&) = delete;
  Doors& operator=(const Doors&) = delete;

  /// Begins to accept there. In place of one at the same path, whose clients are served. Throws Error.
  void open(ListeningSocket socket);
  void set_send_buffer(int bytes) noexcept;
  /// For good. Who has connected already is taken in, where no other process could.
  void close();

 private:
  struct Door;

  void close_at(const std::string& unix_path);
  /// True: there may be more to accept.
  bool accept_from(const Door& door);
  void pause() noexcept;

  uv_loop_t* loop_;
  Doorkeeper& keeper_;
  int send_buffer_bytes_;
  UvHandle<uv_timer_t> pause_timer_;
  std::vector<std::unique_ptr<Door>> doors_;
};

}  // namespace visitd
