// A stream of bytes to one address, which never blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace visitd {

/// It has begun to connect. Each call but descriptor() and waits_to_read() throws Error with why the stream has ended,
/// as the system says it or with what to do about it.
class Transport {
 public:
  enum class Phase {
    connecting,
    securing,  ///< the server was reached, and both sides agree on keys: TLS
    stands,    ///< bytes can go both ways
  };

  virtual ~Transport() = default;
  /// What is polled.
  [[nodiscard]] virtual int descriptor() const noexcept = 0;
  /// While it does not stand: whether it waits until it is readable; else until it is writable.
  [[nodiscard]] virtual bool waits_to_read() const noexcept = 0;
  /// What it waited for has come, and it does not stand: goes on as far as it can.
  virtual Phase go_on() = 0;
  /// Only while it stands. How many bytes went out; 0: none goes now.
  [[nodiscard]] virtual std::size_t send(std::string_view bytes) = 0;
  /// Only while it stands. How many bytes came; 0: none has. All that has come is taken by at most `size` bytes a call,
  /// where `size` is most_at_once.
  [[nodiscard]] virtual std::size_t receive(char* buffer, std::size_t size) = 0;

  /// What one receive() should have room for: the most that TLS puts under one seal.
  static constexpr std::size_t most_at_once = 16384;
};

/// `address`: numeric. Throws Error.
[[nodiscard]] std::unique_ptr<Transport> connect_tcp(const std::string& address, std::uint16_t port);
/// Throws Error.
[[nodiscard]] std::unique_ptr<Transport> connect_unix(const std::string& path);

}  // namespace visitd
