// Looks a host name up on a thread of its own, so that a name server that is slow for one shard delays no other.
// libuv's own threads are four, for all names together.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

struct uv_loop_s;

namespace visitd {

class NameLookup {
 public:
  /// Told on the loop, never from within start(): the numeric addresses in order of preference, or why there are none.
  using Done = std::function<void(std::vector<std::string> addresses, const std::string& why)>;

  NameLookup(uv_loop_s* loop, std::string host, Done done);
  NameLookup(const NameLookup&) = delete;
  NameLookup& operator=(const NameLookup&) = delete;
  /// A look-up that has begun ends by itself, unheard.
  ~NameLookup();

  /// Begins, unless one is under way, which is then waited for: there is one thread at a time. Throws Error where there
  /// can be none.
  void start();

 private:
  struct Shared;
  struct Waiting;

  void finish();

  uv_loop_s* loop_;
  std::string host_;
  std::shared_ptr<const Done> done_;
  std::unique_ptr<Waiting> waiting_;
};

}  // namespace visitd
