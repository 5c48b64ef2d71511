// A doorbell wakes a process that sleeps: a named pipe that anybody in the group may ring, without ever waiting.
#pragma once

#include <string>

#include "common/os/unique_fd.hpp"

namespace visitd {

class Doorbell {
 public:
  /// Opens the named pipe, makes it (mode 0660) where missing. Both ends at once, so that it can be rung before anybody
  /// listens.
  [[nodiscard]] static Doorbell open(const std::string& path);
  /// Opens one that exists; without one, an empty doorbell that rings nowhere.
  [[nodiscard]] static Doorbell open_existing(const std::string& path);

  /// Never waits: a full pipe has been rung already.
  void ring() const noexcept;
  /// Takes every ring so far.
  void hush() const noexcept;
  /// To poll for reading; -1: none.
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

  Doorbell() noexcept = default;

 private:
  explicit Doorbell(UniqueFd fd) noexcept : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace visitd
