// A blocking client over one TCP connection, for tests. Every wait is bounded; what does not come in time is a failed
// test.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/os/unique_fd.hpp"

namespace visitd {

struct ClientAnswer {
  int status = 0;
  std::string head;  ///< status line and fields
  std::string body;
  /// The field's value; empty: there is none.
  [[nodiscard]] std::string field(std::string_view name) const;
};

class TestClient {
 public:
  /// `receive_buffer_bytes`: 0: the system's.
  explicit TestClient(std::uint16_t port, int receive_buffer_bytes = 0);

  void send(std::string_view bytes);
  /// One answer; `head_only`: of a HEAD request.
  ClientAnswer receive(bool head_only = false);
  ClientAnswer ask(std::string_view request) {
    send(request);
    return receive();
  }
  /// Whether the server ends the connection without another byte. Waits for it.
  [[nodiscard]] bool ends();
  /// Whether something arrives within so long.
  [[nodiscard]] bool hears_within(int wait_ms);
  void shut_sending();

 private:
  bool fill();

  UniqueFd fd_;
  std::string received_;
};

/// A GET with a Host.
[[nodiscard]] std::string get_request(std::string_view path, std::string_view fields = "");
/// A POST without a body or a Content-Length.
[[nodiscard]] std::string post_request(std::string_view path, std::string_view fields = "", std::string_view body = "");

}  // namespace visitd
