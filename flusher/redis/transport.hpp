// A stream of bytes to one address, which never blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace visitd {

/// It has begun to connect. Each call but descriptor() throws Error with why the stream has ended, as the system says
/// it.
class Transport {
 public:
  virtual ~Transport() = default;
  /// What is polled: while it connects and while bytes wait for being sent until it is writable, and else until it is
  /// readable.
  [[nodiscard]] virtual int descriptor() const noexcept = 0;
  /// Writable for the first time: whether the stream stands.
  virtual void finish_connecting() = 0;
  /// How many bytes went out; 0: none goes now.
  [[nodiscard]] virtual std::size_t send(std::string_view bytes) = 0;
  /// How many bytes came; 0: none has.
  [[nodiscard]] virtual std::size_t receive(char* buffer, std::size_t size) = 0;
};

/// `address`: numeric. Throws Error.
[[nodiscard]] std::unique_ptr<Transport> connect_tcp(const std::string& address, std::uint16_t port);
/// Throws Error.
[[nodiscard]] std::unique_ptr<Transport> connect_unix(const std::string& path);

}  // namespace visitd
