// Failures as exceptions with a message that names the thing and what to do.
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

namespace visitd {

/// A failure whose message is meant for the operator as it stands.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// An Error of what is so for a moment only: the same may succeed soon.
struct PassingError : Error {
  using Error::Error;
};

/// An Error with a formatted message.
template <typename... Args>
[[nodiscard]] Error error(fmt::format_string<Args...> format, Args&&... args) {
  return Error(fmt::format(format, std::forward<Args>(args)...));
}

/// The failure of a system call: the formatted message, then what errno says. Call it before anything else can change
/// errno.
template <typename... Args>
[[nodiscard]] std::system_error system_error(fmt::format_string<Args...> format, Args&&... args) {
  const int number = errno;
  return {number, std::generic_category(), fmt::format(format, std::forward<Args>(args)...)};
}

}  // namespace visitd
