// cpp-httplib as one way from a vetted request to its answer: a server without sockets. httplib_server.cpp is its sole
// user.
#pragma once

#include <memory>

#include "frontend/api/routes.hpp"

namespace visitd {

/// Hands complete requests to cpp-httplib, in memory. What is handed over is written anew from the vetted head: the
/// route's own path in place of the client's (the page id stays beside, undecoded), and no field by which cpp-httplib
/// would frame, unpack, encode or cut anything.
class HttplibServer final : public AnsweringWay {
 public:
  /// Routes and format outlive it.
  HttplibServer(Routes& routes, const AnswerFormat& format);
  ~HttplibServer() override;
  HttplibServer(const HttplibServer&) = delete;
  HttplibServer& operator=(const HttplibServer&) = delete;

  [[nodiscard]] Handled answer(const Call& call, bool keep_alive, OutputBuffer& out) noexcept override;

 private:
  class Server;
  std::unique_ptr<Server> server_;
  const AnswerFormat& format_;
};

}  // namespace visitd
