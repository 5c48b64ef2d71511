#include "flusher/redis/name_lookup.hpp"

#include <netdb.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "common/os/errors.hpp"
#include "common/os/unique_fd.hpp"
#include "common/os/uv_handles.hpp"

namespace visitd {

/// What the thread and the loop have in common; it goes with the last of both.
struct NameLookup::Shared {
  std::string host;
  UniqueFd bell;
  std::mutex mutex;
  std::vector<std::string> addresses;
  std::string why;

  void look_up() noexcept;
};

struct NameLookup::Waiting {
  std::shared_ptr<Shared> shared;
  UvHandle<uv_poll_t> poll;
};

namespace {

std::vector<std::string> addresses_of(const std::string& host, std::string& why) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int failed = getaddrinfo(host.c_str(), nullptr, &hints, &found); failed != 0) {
    why = failed == EAI_SYSTEM ? std::generic_category().message(errno) : gai_strerror(failed);
    return {};
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, freeaddrinfo);
  std::vector<std::string> addresses;
  for (const addrinfo* next = found; next != nullptr; next = next->ai_next) {
    char numeric[NI_MAXHOST];
    if (getnameinfo(next->ai_addr, next->ai_addrlen, numeric, sizeof numeric, nullptr, 0, NI_NUMERICHOST) == 0) {
      addresses.emplace_back(numeric);
    }
  }
  if (addresses.empty()) why = "it has no address";
  return addresses;
}

}  // namespace

void NameLookup::Shared::look_up() noexcept {
  std::vector<std::string> found;
  std::string failure;
  try {
    found = addresses_of(host, failure);
  } catch (const std::exception&) {
    found.clear();  // no memory: the empty answer says enough
  }
  const std::lock_guard lock(mutex);
  addresses = std::move(found);
  why = std::move(failure);
  eventfd_write(bell.get(), 1);
}

NameLookup::NameLookup(uv_loop_s* loop, std::string host, Done done)
    : loop_(loop), host_(std::move(host)), done_(std::make_shared<const Done>(std::move(done))) {}

NameLookup::~NameLookup() = default;

void NameLookup::start() {
  if (waiting_ != nullptr) return;
  auto shared = std::make_shared<Shared>();
  shared->host = host_;
  shared->bell = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (shared->bell.get() < 0) throw error("the name {} cannot be looked up: no descriptor is free", host_);
  auto waiting = std::make_unique<Waiting>();
  waiting->poll = make_poll(loop_, shared->bell.get(), this);
  waiting->shared = shared;
  check_uv(uv_poll_start(waiting->poll.get(), UV_READABLE,
                         [](uv_poll_t* poll, int, int) { static_cast<NameLookup*>(poll->data)->finish(); }),
           "cannot wait for a name");
  std::thread([shared = std::move(shared)] { shared->look_up(); }).detach();
  waiting_ = std::move(waiting);
}

void NameLookup::finish() {
  const std::unique_ptr<Waiting> ended = std::move(waiting_);
  std::vector<std::string> addresses;
  std::string why;
  {
    const std::lock_guard lock(ended->shared->mutex);
    addresses = std::move(ended->shared->addresses);
    why = std::move(ended->shared->why);
  }
  const std::shared_ptr<const Done> done = done_;  // this may go while it is told
  (*done)(std::move(addresses), why);
}

}  // namespace visitd
