// cpp-httplib as one way from a vetted request to its answer: a server without sockets. httplib_way.cpp is its sole
// user.
#pragma once

#include <memory>

#include "frontend/api/answering_way.hpp"

namespace visitd {

/// Hands complete requests to cpp-httplib, in memory. What is handed over is written anew from the vetted head: the
/// route's own path in place of the client's (the page id stays beside, undecoded), and no field by which cpp-httplib
/// would frame, unpack, encode or cut anything. Routes and format outlive it.
[[nodiscard]] std::unique_ptr<AnsweringWay> make_httplib_way(Routes& routes, const AnswerFormat& format);

}  // namespace visitd
