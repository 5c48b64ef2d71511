// An HTTP client for what wrk cannot do: every request with a page of its own, large bodies, a given number of
// requests, or a given rate. At a rate, requests are due at every millisecond, some together, whether or not earlier
// ones were answered, and their latency counts from then: a server that stalls cannot hide it. Prints lines "name
// value".
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t receive_bytes = 65536;
/// How long an answer may take before the run is given up.
constexpr std::chrono::seconds patience(30);

struct Options {
  std::uint16_t port = 0;
  std::string request;  ///< '#' stands for digits of the request's number
  std::size_t connections = 1;
  std::uint64_t requests = 0;  ///< 0: as many as fit into the time
  std::uint64_t first = 0;     ///< the first request's number
  std::chrono::nanoseconds time{};
  double rate = 0;   ///< requests a second; 0: each connection sends as soon as it was answered
  bool all = false;  ///< print every latency
};

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::uint64_t number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (fault != std::errc() || end != text.data() + text.size()) {
    errno = EINVAL;
    fail("an argument is not a number");
  }
  return value;
}

int connect_to(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) fail("cannot connect");
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

/// One connection, with at most one request on its way.
class Connection {
 public:
  Connection(const Options& options, int poller) : fd_(connect_to(options.port)), poller_(poller) {
    request_ = options.request;
    for (std::size_t i = 0; i < request_.size(); ++i) {
      if (request_[i] == '#') digits_.push_back(i);
    }
    epoll_event event{.events = EPOLLIN, .data = {.ptr = this}};
    if (::epoll_ctl(poller, EPOLL_CTL_ADD, fd_, &event) != 0) fail("cannot watch a connection");
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() { ::close(fd_); }

  void start(std::uint64_t number, Clock::time_point due) {
    for (auto digit = digits_.rbegin(); digit != digits_.rend(); ++digit, number /= 10) {
      request_[*digit] = static_cast<char>('0' + number % 10);
    }
    due_ = due;
    sent_ = 0;
    status_ = 0;
    head_.clear();
    send();
  }

  void send() {
    while (sent_ < request_.size()) {
      const ssize_t size = ::send(fd_, request_.data() + sent_, request_.size() - sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (size < 0 && errno != EAGAIN) fail("cannot send");
      if (size < 0) return watch(EPOLLIN | EPOLLOUT);
      sent_ += static_cast<std::size_t>(size);
    }
    watch(EPOLLIN);
  }

  /// True: the answer is whole.
  bool receive() {
    std::array<char, receive_bytes> bytes;
    const ssize_t size = ::recv(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) return false;
    if (size < 0) fail("cannot receive");
    if (size == 0) {
      errno = ECONNRESET;
      fail("the server closed a connection");
    }
    const auto count = static_cast<std::size_t>(size);
    if (status_ != 0) {
      body_left_ -= std::min(count, body_left_);
      return body_left_ == 0;
    }
    head_.append(bytes.data(), count);
    return take_head();
  }

  [[nodiscard]] int status() const noexcept { return status_; }
  [[nodiscard]] Clock::time_point due() const noexcept { return due_; }

 private:
  void watch(std::uint32_t events) {
    if (events == watched_) return;
    watched_ = events;
    epoll_event event{.events = events, .data = {.ptr = this}};
    if (::epoll_ctl(poller_, EPOLL_CTL_MOD, fd_, &event) != 0) fail("cannot watch a connection");
  }

  bool take_head() {
    constexpr std::string_view end_of_head = "\r\n\r\n";
    constexpr std::string_view length_field = "\r\nContent-Length: ";
    const std::size_t end = head_.find(end_of_head);
    if (end == std::string::npos) return false;
    const std::size_t field = head_.find(length_field);
    if (field == std::string::npos || field > end) {
      errno = EBADMSG;
      fail("an answer has no Content-Length");
    }
    const std::size_t value = field + length_field.size();
    const std::size_t length = number(std::string_view(head_).substr(value, head_.find('\r', value) - value));
    const std::size_t there = head_.size() - end - end_of_head.size();
    status_ = std::atoi(head_.c_str() + std::string_view("HTTP/1.1 ").size());
    body_left_ = length - std::min(there, length);
    return body_left_ == 0;
  }

  int fd_;
  int poller_;
  std::string request_;
  std::vector<std::size_t> digits_;  ///< places in the request, in order
  std::size_t sent_ = 0;
  std::uint32_t watched_ = EPOLLIN;
  std::string head_;
  int status_ = 0;  ///< 0: the head is not whole
  std::size_t body_left_ = 0;
  Clock::time_point due_;
};

class Run {
 public:
  explicit Run(const Options& options) : options_(options), poller_(::epoll_create1(0)) {
    for (std::size_t n = 0; n < options.connections; ++n) {
      idle_.push_back(&connections_.emplace_back(options, poller_));
    }
  }

  void go() {
    std::array<epoll_event, 1024> events;
    begin_ = Clock::now();
    for (;;) {
      start_what_is_due();
      if (idle_.size() == connections_.size() && is_over(due(started_))) break;
      const std::chrono::nanoseconds wait = until_next();
      const timespec timeout{.tv_sec = wait.count() / 1'000'000'000, .tv_nsec = wait.count() % 1'000'000'000};
      const int count = ::epoll_pwait2(poller_, events.data(), static_cast<int>(events.size()), &timeout, nullptr);
      if (count < 0 && errno != EINTR) fail("cannot wait");
      if (count == 0 && wait == patience) {
        errno = ETIMEDOUT;
        fail("no answer came");
      }
      for (int i = 0; i < count; ++i) serve(events[static_cast<std::size_t>(i)]);
    }
    end_ = Clock::now();
  }

  void print() {
    if (latencies_.empty()) {
      errno = EINVAL;
      fail("no request was sent");
    }
    const double seconds = std::chrono::duration<double>(end_ - begin_).count();
    std::printf("requests %zu\nseconds %.6f\nrate %.1f\n", latencies_.size(), seconds,
                static_cast<double>(latencies_.size()) / seconds);
    for (const auto& [status, count] : statuses_) {
      std::printf("status_%d %llu\n", status, static_cast<unsigned long long>(count));
    }
    std::ranges::sort(latencies_);
    for (const int percent : {50, 90, 99, 100}) {
      const std::size_t at = latencies_.size() * static_cast<std::size_t>(percent) / 100;
      std::printf("p%d_us %.1f\n", percent,
                  static_cast<double>(latencies_[std::min(at, latencies_.size() - 1)].count()) / 1000);
    }
    for (const std::chrono::nanoseconds latency : latencies_) {
      if (options_.all) std::printf("latency_us %.1f\n", static_cast<double>(latency.count()) / 1000);
    }
  }

 private:
  [[nodiscard]] Clock::time_point due(std::uint64_t request) const {
    if (options_.rate == 0) return Clock::now();
    return begin_ +
           std::chrono::milliseconds(static_cast<std::int64_t>(static_cast<double>(request) * 1000 / options_.rate));
  }

  [[nodiscard]] bool is_over(Clock::time_point next) const {
    return options_.requests != 0 ? started_ >= options_.requests : next - begin_ >= options_.time;
  }

  void start_what_is_due() {
    while (!idle_.empty()) {
      const Clock::time_point next = due(started_);
      if (is_over(next) || next > Clock::now()) return;
      // The one that rested longest: all are used alike.
      Connection& connection = *idle_.front();
      idle_.pop_front();
      connection.start(options_.first + started_++, next);
    }
  }

  [[nodiscard]] std::chrono::nanoseconds until_next() const {
    const Clock::time_point next = due(started_);
    if (idle_.empty() || is_over(next)) return patience;
    return std::max<std::chrono::nanoseconds>(next - Clock::now(), std::chrono::nanoseconds::zero());
  }

  void serve(const epoll_event& event) {
    auto& connection = *static_cast<Connection*>(event.data.ptr);
    if ((event.events & EPOLLOUT) != 0) connection.send();
    if ((event.events & ~std::uint32_t{EPOLLOUT}) == 0 || !connection.receive()) return;
    latencies_.push_back(Clock::now() - connection.due());
    ++statuses_[connection.status()];
    idle_.push_back(&connection);
  }

  const Options& options_;
  int poller_;
  std::deque<Connection> connections_;
  std::deque<Connection*> idle_;
  std::uint64_t started_ = 0;
  Clock::time_point begin_;
  Clock::time_point end_;
  std::vector<std::chrono::nanoseconds> latencies_;
  std::map<int, std::uint64_t> statuses_;
};

Options parse(int argc, char** argv) {
  Options options;
  options.port = static_cast<std::uint16_t>(number(argv[1]));
  std::ifstream file(argv[2], std::ios::binary);
  options.request.assign(std::istreambuf_iterator<char>(file), {});
  for (int i = 3; i + 1 < argc; i += 2) {
    const std::string_view name = argv[i];
    const std::uint64_t value = number(argv[i + 1]);
    if (name == "--connections") {
      options.connections = value;
    } else if (name == "--requests") {
      options.requests = value;
    } else if (name == "--milliseconds") {
      options.time = std::chrono::milliseconds(value);
    } else if (name == "--rate") {
      options.rate = static_cast<double>(value);
    } else if (name == "--first") {
      options.first = value;
    } else if (name == "--all") {
      options.all = value != 0;
    } else {
      errno = EINVAL;
      fail(argv[i]);
    }
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 5 || argc % 2 == 0) {
    std::fprintf(stderr,
                 "usage: %s PORT REQUEST_FILE --requests N|--milliseconds N [--connections N] [--rate N] [--first N] "
                 "[--all 0|1]\n",
                 argv[0]);
    return 2;
  }
  // A request is sent when it is due, not up to 50 us later.
  ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
  const Options options = parse(argc, argv);
  Run run(options);
  run.go();
  run.print();
  return 0;
} catch (const std::exception& failure) {
  std::fprintf(stderr, "load-client: %s\n", failure.what());
  return 1;
}
