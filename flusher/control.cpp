#include "flusher/control.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <array>
#include <set>
#include <string_view>

#include "common/os/advice.hpp"
#include "common/os/errors.hpp"
#include "common/os/file_lease.hpp"
#include "common/os/log.hpp"
#include "common/os/uv_handles.hpp"

namespace visitd {

namespace {

UvHandle<uv_pipe_t> make_pipe(uv_loop_t* loop, void* data) {
  auto pipe = std::make_unique<uv_pipe_t>();
  if (const int failed = uv_pipe_init(loop, pipe.get(), 0); failed != 0) {
    throw error("a Unix socket cannot be made: {}", uv_strerror(failed));
  }
  pipe->data = data;
  return UvHandle<uv_pipe_t>(pipe.release());
}

uv_stream_t* stream(const UvHandle<uv_pipe_t>& pipe) noexcept {
  return reinterpret_cast<uv_stream_t*>(pipe.get());
}

ControlAnswer refusal(std::string why) {
  ControlAnswer answer;
  answer.error = std::move(why);
  return answer;
}

/// Who is at the other end; nullopt: the kernel does not say.
std::optional<std::uint32_t> user_of(const UvHandle<uv_pipe_t>& pipe) noexcept {
  ucred peer{};
  socklen_t size = sizeof peer;
  uv_os_fd_t fd = -1;
  const auto* handle = reinterpret_cast<const uv_handle_t*>(pipe.get());
  if (uv_fileno(handle, &fd) != 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
  return peer.uid;
}

struct Write {
  uv_write_t request{};
  std::string bytes;
  std::function<void(bool)> done;
  std::shared_ptr<Write> self;  ///< while libuv has it
};

/// `done` is called on the loop, never from within.
void write(uv_stream_t* to, std::string bytes, std::function<void(bool)> done) {
  const auto write = std::make_shared<Write>();
  write->bytes = std::move(bytes);
  write->done = std::move(done);
  write->request.data = write.get();
  const uv_buf_t buffer = uv_buf_init(write->bytes.data(), static_cast<unsigned>(write->bytes.size()));
  const auto on_written = [](uv_write_t* request, int status) {
    const std::shared_ptr<Write> written = std::move(static_cast<Write*>(request->data)->self);
    written->done(status == 0);
  };
  // Where libuv refuses at once, the connection's timer ends it.
  if (uv_write(&write->request, to, &buffer, 1, on_written) == 0) write->self = write;
}

}  // namespace

class ControlServer::Listener {
 public:
  Listener(uv_loop_t* loop, std::string path, ControlHandler& handler, ControlLimits limits,
           std::optional<std::uint32_t> refused_user)
      : loop_(loop),
        path_(std::move(path)),
        handler_(handler),
        limits_(limits),
        refused_user_(refused_user),
        pipe_(make_pipe(loop, this)) {
    // Made beside its place and moved there: the old socket is replaced in one step, and nobody can connect to the new
    // one before it has its mode.
    const std::string part = path_ + ".new";
    unlink(part.c_str());
    int failed = uv_pipe_bind(pipe_.get(), part.c_str());
    if (failed == 0 && chmod(part.c_str(), 0660) != 0) failed = -errno;
    if (failed == 0)
      failed = uv_listen(stream(pipe_), 16, [](uv_stream_t* listening, int status) {
        auto& listener = *static_cast<Listener*>(listening->data);
        if (status == 0) listener.guarded([&] { listener.accept(); });
      });
    if (failed == 0 && rename(part.c_str(), path_.c_str()) != 0) failed = -errno;
    if (failed != 0) {
      throw error("the control socket {} cannot be made: {}; {}", path_, uv_strerror(failed),
                  advice_for_path(-failed, path_));
    }
    identity_ = file_identity(path_);
  }

  ~Listener() {
    try {
      // Not another's that took the place meanwhile.
      if (identity_ && file_identity(path_) == identity_) unlink(path_.c_str());
    } catch (const std::exception& failure) {
      log::warning("the control socket stays, until the next flusher replaces it: {}", failure.what());
    }
  }

  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void forget(const std::shared_ptr<Connection>& connection) { connections_.erase(connection); }
  [[nodiscard]] ControlHandler& handler() noexcept { return handler_; }
  [[nodiscard]] const ControlLimits& limits() const noexcept { return limits_; }
  /// Nothing is thrown through libuv.
  template <typename Call>
  void guarded(Call call) noexcept {
    try {
      call();
    } catch (const std::exception& failure) {
      handler_.on_fault(failure.what());
    }
  }

 private:
  void accept();

  uv_loop_t* loop_;
  std::string path_;
  ControlHandler& handler_;
  ControlLimits limits_;
  std::optional<std::uint32_t> refused_user_;
  std::set<std::shared_ptr<Connection>> connections_;
  UvHandle<uv_pipe_t> pipe_;
  std::optional<FileIdentity> identity_;
};

/// Reads a line, has it answered, writes the answer; then the next. While it does one it reads nothing.
class ControlServer::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(uv_loop_t* loop, Listener& listener)
      : listener_(listener), pipe_(make_pipe(loop, this)), timer_(make_timer(loop, this)) {}

  [[nodiscard]] uv_stream_t* socket() const noexcept { return stream(pipe_); }
  [[nodiscard]] const UvHandle<uv_pipe_t>& pipe() const noexcept { return pipe_; }

  /// Waits for the next request, for a bounded time however slowly it comes.
  void next() {
    if (take_line()) return;
    start_timer(listener_.limits().idle_timeout_ms);
    uv_read_start(
        socket(),
        [](uv_handle_t* handle, std::size_t, uv_buf_t* buffer) {
          auto& chunk = static_cast<Connection*>(handle->data)->chunk_;
          *buffer = uv_buf_init(chunk.data(), static_cast<unsigned>(chunk.size()));
        },
        [](uv_stream_t* from, ssize_t bytes, const uv_buf_t*) {
          auto& connection = *static_cast<Connection*>(from->data);
          connection.listener_.guarded([&] { connection.on_read(bytes); });
        });
  }

 private:
  void on_read(ssize_t bytes) {
    const auto self = shared_from_this();
    if (bytes < 0) return end();
    input_.append(chunk_.data(), static_cast<std::size_t>(bytes));
    if (take_line()) uv_read_stop(socket());
  }

  /// True: there was a request, or what can become none; an answer will follow.
  bool take_line() {
    const std::size_t limit = listener_.limits().line_bytes;
    const std::size_t end = input_.find('\n');
    if (end == std::string::npos && input_.size() < limit) return false;
    if (end == std::string::npos || end >= limit) {
      last_ = true;
      waiting_ = true;
      answer(refusal(fmt::format("a request is shorter than {} bytes", limit)));
      return true;
    }
    const std::string line = input_.substr(0, end);
    input_.erase(0, end + 1);
    ask(line);
    return true;
  }

  void ask(std::string_view line) {
    waiting_ = true;
    const std::uint64_t number = ++asked_;
    try {
      ControlRequest request = decode_request(line);
      request.user = user_of(pipe_);
      start_timer(std::uint64_t{request.timeout_ms} + control_answer_grace_ms);
      listener_.handler().handle(request, [weak = weak_from_this(), number](const ControlAnswer& said) {
        const auto connection = weak.lock();
        if (connection && connection->asked_ == number) connection->answer(said);
      });
    } catch (const std::exception& failure) {
      answer(refusal_of(failure));
    }
  }

  /// The first one counts.
  void answer(const ControlAnswer& said) {
    if (!std::exchange(waiting_, false)) return;
    start_timer(listener_.limits().idle_timeout_ms);
    write(socket(), encode_answer(said), [weak = weak_from_this()](bool written) {
      const auto connection = weak.lock();
      if (!connection) return;
      connection->listener_.guarded([&] {
        if (!written || connection->last_) return connection->end();
        connection->next();
      });
    });
  }

  void start_timer(std::uint64_t delay_ms) {
    uv_timer_start(
        timer_.get(),
        [](uv_timer_t* timer) {
          auto& connection = *static_cast<Connection*>(timer->data);
          connection.listener_.guarded([&] { connection.on_timer(); });
        },
        delay_ms, 0);
  }

  void on_timer() {
    const auto self = shared_from_this();
    if (!waiting_) return end();
    answer(passing_refusal("the flusher did not finish in time; it goes on with it"));
  }

  void end() { listener_.forget(shared_from_this()); }

  Listener& listener_;
  UvHandle<uv_pipe_t> pipe_;
  UvHandle<uv_timer_t> timer_;
  std::array<char, 4096> chunk_{};
  std::string input_;
  std::uint64_t asked_ = 0;
  bool waiting_ = false;  ///< a request has no answer yet
  bool last_ = false;     ///< closed once the answer is written
};

void ControlServer::Listener::accept() {
  const auto connection = std::make_shared<Connection>(loop_, *this);
  if (uv_accept(stream(pipe_), connection->socket()) != 0) return;
  if (connections_.size() >= limits_.connections) {
    std::string full = encode_answer(passing_refusal("too many at once ask this flusher; try again"));
    const uv_buf_t buffer = uv_buf_init(full.data(), static_cast<unsigned>(full.size()));
    uv_try_write(connection->socket(), &buffer, 1);
    return;
  }
  // Whom nothing names is refused too, where somebody is.
  if (refused_user_ && user_of(connection->pipe()).value_or(*refused_user_) == *refused_user_) {
    log::warning("{}: user {}, the frontends', asked to command this flusher, and was refused", path_, *refused_user_);
    return;
  }
  connections_.insert(connection);
  connection->next();
}

ControlServer::ControlServer(uv_loop_s* loop, std::string path, ControlHandler& handler, ControlLimits limits,
                             std::optional<std::uint32_t> refused_user)
    : listener_(std::make_unique<Listener>(loop, std::move(path), handler, limits, refused_user)) {}

ControlServer::~ControlServer() = default;

}  // namespace visitd
