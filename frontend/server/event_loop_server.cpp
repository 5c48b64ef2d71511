#include "frontend/server/event_loop_server.hpp"

#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <string>
#include <unordered_map>
#include <utility>

#include "common/os/errors.hpp"
#include "common/os/log.hpp"
#include "frontend/server/address_limits.hpp"
#include "frontend/server/connection.hpp"

namespace visitd {

namespace {

/// Accepted in one go: others on the loop, and other processes at the same socket, get their turn in between.
constexpr int accepts_at_once = 16;
/// So many times more, when the server stops.
constexpr int last_accepts = 64;
/// How long nothing is accepted after the system refused to.
constexpr std::uint64_t accept_pause_ms = 100;
constexpr std::uint64_t replay_interval_ms = 20;
/// Less than this, spent in vain on parked reads, is not worth a rest; of more, so many times as long.
constexpr std::uint64_t least_vain_ns = 100'000;
constexpr std::uint64_t rest_after_vain = 4;
/// How long a stopping server waits for the first request of a connection.
constexpr std::uint64_t first_request_grace_ms = 200;
/// Descriptors that this process needs beside its connections.
constexpr rlim_t other_descriptors = 64;
constexpr std::uint64_t worth_giving_back_bytes = 1U << 20U;
constexpr std::uint64_t never_ms = std::numeric_limits<std::uint64_t>::max();

/// Raises the limit on open files to what `connections` need, or as far as it goes; returns how many connections it
/// lets be.
std::uint64_t make_room_for(std::uint64_t connections) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) throw system_error("cannot read the limit on open files");
  const rlim_t wanted = connections + other_descriptors;
  if (limit.rlim_cur >= wanted) return connections;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
    throw system_error("cannot raise the limit on open files to {}", limit.rlim_cur);
  if (limit.rlim_cur >= wanted) return connections;
  const std::uint64_t possible = limit.rlim_cur > other_descriptors ? limit.rlim_cur - other_descriptors : 1;
  log::warning(
      "http.connection_limit is {}, but only {} files may be open: {} connections will be served; raise LimitNOFILE",
      connections, limit.rlim_cur, possible);
  return possible;
}

}  // namespace

class EventLoopServer::Core final : ConnectionOwner {
 public:
  Core(uv_loop_t* loop, const Settings& settings, Counter& counter, const HostStatus& host)
      : share_(loop, settings, counter, host, *this),
        connection_limit_(make_room_for(settings.http.connection_limit)),
        address_limits_(settings.http.address_connection_limit, settings.http.trusted_proxies),
        stop_timeout_ms_(settings.http.stop_timeout_ms),
        send_buffer_bytes_(static_cast<int>(settings.http.send_buffer_bytes)),
        expiry_timer_(make_timer(loop, this)),
        replay_timer_(make_timer(loop, this)),
        accept_timer_(make_timer(loop, this)),
        stop_timer_(make_timer(loop, this)),
        pass_timer_(make_timer(loop, this)),
        turns_(make_idle(loop, this)) {}

  void listen(ListeningSocket socket) {
    // Both are inherited by what is accepted. Answers are whole when they are sent, there is nothing to wait for; and a
    // client that never takes them is to be noticed before the kernel holds megabytes of them.
    const int on = 1;
    ::setsockopt(socket.fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    set_send_buffer(socket.fd.get());
    if (!socket.path.empty()) close_doors_at(socket.path);
    auto door = std::make_unique<Door>(*this, std::move(socket));
    door->open();
    doors_.push_back(std::move(door));
  }

  void keep_private() noexcept { share_.routes.keep_private(); }

  void use(const Settings& settings) {
    share_.use(settings);
    stop_timeout_ms_ = settings.http.stop_timeout_ms;
    send_buffer_bytes_ = static_cast<int>(settings.http.send_buffer_bytes);
    for (const auto& door : doors_) set_send_buffer(door->fd());
    use_address_limits(settings);
    expire();  // some may be due sooner than the timer knows
    connection_limit_ = make_room_for(settings.http.connection_limit);
  }

  void replay_parked() {
    if (in_pass_) {
      pass_again_ = true;
      return;
    }
    const std::uint64_t now_ns = uv_hrtime();
    if (now_ns < next_pass_ns_) {
      const std::uint64_t wait_ms = (next_pass_ns_ - now_ns) / 1'000'000 + 1;
      if (uv_is_active(reinterpret_cast<const uv_handle_t*>(pass_timer_.get())) == 0) {
        uv_timer_start(pass_timer_.get(), [](uv_timer_t* timer) { of(timer).replay_parked(); }, wait_ms, 0);
      }
      return;
    }
    begin_pass();
    take_turn();
  }

  void stop(std::function<void()> done) {
    // Who has connected already is served, here where nobody else could; who comes later finds the door closed.
    for (const auto& door : doors_) {
      for (int i = 0; i < last_accepts && !door->is_shared() && accept_from(*door); ++i) continue;
    }
    doors_.clear();
    uv_timer_stop(accept_timer_.get());
    share_.stopping = true;
    close_idle([](const Connection& connection) { return connection.has_served(); });
    done_ = std::move(done);
    // Whoever has just connected is about to ask.
    const std::uint64_t grace_ms = std::min(first_request_grace_ms, stop_timeout_ms_);
    uv_timer_start(stop_timer_.get(), [](uv_timer_t* timer) { of(timer).end_grace(); }, grace_ms, 0);
    finish_stop();
  }

  void give_back_memory() noexcept {
    most_held_bytes_ = std::max(most_held_bytes_, held_bytes());
    if (most_held_bytes_ - held_bytes() < worth_giving_back_bytes) return;
    most_held_bytes_ = held_bytes();
    // The allocator keeps what lies below anything that is still in use, and that is most of it where many connections
    // held a part. This takes milliseconds: once, when they have gone.
    ::malloc_trim(0);
  }

  [[nodiscard]] const ServerStatistics& statistics() const noexcept { return share_.statistics; }
  [[nodiscard]] const RefusalCounts& refusals() const noexcept { return share_.routes.refusals(); }

 private:
  /// A listening socket, watched.
  class Door {
   public:
    Door(Core& core, ListeningSocket socket)
        : core_(core), socket_(std::move(socket)), poll_(make_poll(core.share_.loop, socket_.fd.get(), this)) {}

    void open() {
      const int result = uv_poll_start(poll_.get(), UV_READABLE, [](uv_poll_t* readable, int, int) {
        const Door& door = *static_cast<const Door*>(readable->data);
        door.core_.accept_from(door);
      });
      check_uv(result, "cannot poll a listening socket");
    }
    void shut() noexcept { uv_poll_stop(poll_.get()); }

    [[nodiscard]] int fd() const noexcept { return socket_.fd.get(); }
    [[nodiscard]] Entrance entrance() const noexcept { return socket_.entrance; }
    [[nodiscard]] bool is_shared() const noexcept { return socket_.is_shared; }
    [[nodiscard]] const std::string& path() const noexcept { return socket_.path; }

   private:
    Core& core_;
    ListeningSocket socket_;
    UvHandle<uv_poll_t> poll_;
  };

  template <typename Handle>
  static Core& of(Handle* handle) noexcept {
    return *static_cast<Core*>(handle->data);
  }

  /// One that was unlinked: who has connected already is served.
  void close_doors_at(const std::string& unix_path) {
    std::erase_if(doors_, [&](const std::unique_ptr<Door>& door) {
      if (door->path() != unix_path) return false;
      for (int i = 0; i < last_accepts && accept_from(*door); ++i) continue;
      return true;
    });
  }

  void set_send_buffer(int fd) const noexcept {
    ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer_bytes_, sizeof send_buffer_bytes_);
  }

  void settled(Connection& connection) override {
    if (connection.closed()) {
      const ClientAddress client = connection.client();
      connections_.erase(&connection);
      address_limits_.remove(client);
      share_.statistics.connections_open = connections_.size();
      finish_stop();
      return;
    }
    if (connection.paused()) {
      take_turns();
    } else if (connection.phase() == Phase::parked) {
      if (uv_is_active(reinterpret_cast<const uv_handle_t*>(replay_timer_.get())) == 0) {
        uv_timer_start(
            replay_timer_.get(), [](uv_timer_t* timer) { of(timer).replay_parked(); }, replay_interval_ms,
            replay_interval_ms);
      }
    } else if (connection.deadline_ms() < expiry_due_ms_) {
      expire_at(connection.deadline_ms());
    }
    make_room_for_heads();
  }

  /// May close the connection that has just settled, where it takes longest of all.
  void make_room_for_heads() {
    const DeadlineList& heads = share_.waiting(Phase::head);
    while (share_.head_bytes > kept_limit_bytes && heads.first() != nullptr) {
      ++share_.statistics.connections_evicted;
      close(heads.first());
    }
  }

  void holds_unsent(const Connection& connection) override {
    most_held_bytes_ = std::max(most_held_bytes_, held_bytes());
    // One answer is sent however long it is: its own sender stays.
    for (DeadlineMember* oldest = share_.waiting(Phase::sending).first();
         share_.unsent_bytes > share_.unsent_limit_bytes && oldest != nullptr && oldest != &connection;
         oldest = share_.waiting(Phase::sending).first()) {
      ++share_.statistics.connections_evicted_sending;
      close(oldest);
    }
  }

  [[nodiscard]] std::uint64_t held_bytes() const noexcept { return share_.uploads.bytes() + share_.unsent_bytes; }

  /// Goes on with those that wait for their turn, and with the look at the parked reads, for as long as a turn may be.
  void take_turn() {
    const std::uint64_t begun_ns = uv_hrtime();
    const auto is_over = [&](std::uint64_t now_ns) {
      return now_ns - begun_ns >= TurnBudget::most_ns || share_.turn.is_spent(uv_now(share_.loop));
    };
    share_.turn.begin(uv_now(share_.loop));
    std::uint64_t now_ns = begun_ns;
    while (!(share_.turns.empty() && to_look_at_.empty()) && !is_over(now_ns)) {
      if (!share_.turns.empty()) go_on(share_.turns);
      if (to_look_at_.empty()) {
        now_ns = uv_hrtime();
        continue;
      }
      const std::uint64_t looked_ns = uv_hrtime();
      const bool in_vain = go_on(to_look_at_);
      now_ns = uv_hrtime();
      if (in_vain) vain_ns_ += now_ns - looked_ns;
    }
    if (in_pass_ && to_look_at_.empty()) end_pass(now_ns);
    if (share_.turns.empty() && to_look_at_.empty()) {
      uv_idle_stop(turns_.get());
    } else {
      take_turns();
    }
  }

  /// With the first of the list. True: it is parked as before.
  bool go_on(const DeadlineList& list) {
    auto& connection = *static_cast<Connection*>(list.first());
    const bool in_vain = !connection.take_turn();
    settled(connection);
    return in_vain;
  }

  void take_turns() noexcept {
    uv_idle_start(turns_.get(), [](uv_idle_t* idle) { of(idle).take_turn(); });
  }

  void begin_pass() {
    to_look_at_.take_all(share_.waiting(Phase::parked));
    in_pass_ = true;
  }

  /// All parked reads have been looked at. Where that came to little, the next look waits, so that however many are
  /// parked, looking at them takes a small part of the time.
  void end_pass(std::uint64_t now_ns) {
    in_pass_ = false;
    const std::uint64_t vain_ns = std::exchange(vain_ns_, 0);
    next_pass_ns_ = vain_ns < least_vain_ns ? 0 : now_ns + rest_after_vain * vain_ns;
    if (share_.waiting(Phase::parked).empty()) uv_timer_stop(replay_timer_.get());
    if (!std::exchange(pass_again_, false) || share_.waiting(Phase::parked).empty()) return;
    if (next_pass_ns_ != 0) return replay_parked();
    begin_pass();
  }

  void expire_at(std::uint64_t due_ms) {
    expiry_due_ms_ = due_ms;
    const std::uint64_t now_ms = uv_now(share_.loop);
    const std::uint64_t wait_ms = due_ms > now_ms ? due_ms - now_ms : 0;
    uv_timer_start(expiry_timer_.get(), [](uv_timer_t* timer) { of(timer).expire(); }, wait_ms, 0);
  }

  void expire() {
    const std::uint64_t now_ms = uv_now(share_.loop);
    std::uint64_t next_due_ms = never_ms;
    for (const Phase phase : {Phase::idle, Phase::head, Phase::body, Phase::sending, Phase::lingering}) {
      const DeadlineList& waiting = share_.waiting(phase);
      while (waiting.first() != nullptr && waiting.first()->deadline_ms() <= now_ms) {
        if (phase != Phase::idle && phase != Phase::lingering) ++share_.statistics.connections_timed_out;
        close(waiting.first());
      }
      if (waiting.first() != nullptr) next_due_ms = std::min(next_due_ms, waiting.first()->deadline_ms());
    }
    expiry_due_ms_ = never_ms;
    if (next_due_ms != never_ms) expire_at(next_due_ms);
  }

  void close(DeadlineMember* member) {
    auto& connection = *static_cast<Connection*>(member);
    connection.close();
    settled(connection);
  }

  void accept_again() {
    for (const auto& door : doors_) door->open();
  }

  void pause_accepting() {
    for (const auto& door : doors_) door->shut();
    uv_timer_start(accept_timer_.get(), [](uv_timer_t* timer) { of(timer).accept_again(); }, accept_pause_ms, 0);
  }

  /// True: there may be more to accept.
  bool accept_from(const Door& door) {
    for (int i = 0; i < accepts_at_once; ++i) {
      const bool full = connections_.size() >= connection_limit_;
      if (full && first_evictable() == nullptr) {
        pause_accepting();
        return false;
      }
      sockaddr_storage address{};
      socklen_t size = sizeof address;
      UniqueFd fd(::accept4(door.fd(), reinterpret_cast<sockaddr*>(&address), &size, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd) {
        if (errno == EAGAIN) return false;
        if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) continue;
        log::warning("{}", system_error("cannot accept connections").what());
        pause_accepting();
        return false;
      }
      const ClientAddress client = client_address(address);
      if (AddressShare* const full_share = address_limits_.reached(client)) {
        if (!make_room_for_another_of(*full_share)) continue;
      }
      if (full) {
        ++share_.statistics.connections_evicted;
        close(first_evictable());
      }
      add(std::move(fd), client, door.entrance());
    }
    return true;
  }

  /// Closes the longest idle connection of an address that has too many. False: none of them is idle.
  bool make_room_for_another_of(const AddressShare& share) {
    ++share_.statistics.connections_over_address_limit;
    DeadlineMember* const longest = share.idle.first();
    if (longest == nullptr) return false;
    close(static_cast<Connection::IdlePlace*>(longest)->connection);
    return true;
  }

  void use_address_limits(const Settings& settings) {
    // The shares go with the limits that hold them.
    for (const auto& [address, connection] : connections_) connection->move_to(nullptr);
    address_limits_ = AddressLimits(settings.http.address_connection_limit, settings.http.trusted_proxies);
    const auto add = [&](Connection& connection) { connection.move_to(address_limits_.add(connection.client())); };
    // The idle ones in their order.
    const DeadlineList& idle = share_.waiting(Phase::idle);
    for (DeadlineMember* member = idle.first(); member != nullptr; member = idle.next(*member)) {
      add(static_cast<Connection&>(*member));
    }
    for (const auto& [address, connection] : connections_) {
      if (connection->phase() != Phase::idle) add(*connection);
    }
  }

  /// Who waits longest of those that owe us something, rather than we them.
  [[nodiscard]] DeadlineMember* first_evictable() noexcept {
    for (const Phase phase : {Phase::idle, Phase::head, Phase::body}) {
      if (DeadlineMember* member = share_.waiting(phase).first(); member != nullptr) return member;
    }
    return nullptr;
  }

  /// Does without the connection where the system has no room for it.
  void add(UniqueFd fd, const ClientAddress& client, Entrance entrance) noexcept try {
    auto connection = std::make_unique<Connection>(share_, std::move(fd), client, entrance);
    Connection& added = *connection;
    connections_.emplace(&added, std::move(connection));
    added.move_to(address_limits_.add(client));
    ++share_.statistics.connections_accepted;
    share_.statistics.connections_open = connections_.size();
    settled(added);
  } catch (const std::exception& failure) {
    log::warning("cannot serve a new connection: {}", failure.what());
  }

  template <typename Which>
  void close_idle(Which which) {
    std::vector<Connection*> idle;
    for (const auto& [address, connection] : connections_) {
      if (connection->phase() == Phase::idle && which(*connection)) idle.push_back(connection.get());
    }
    for (Connection* connection : idle) {
      // A request may still lie in the kernel; without one the connection is idle as before, and goes.
      connection->readable();
      if (connection->phase() == Phase::idle) connection->close();
      settled(*connection);
    }
  }

  void end_grace() {
    const std::uint64_t rest_ms = stop_timeout_ms_ - std::min(first_request_grace_ms, stop_timeout_ms_);
    uv_timer_start(stop_timer_.get(), [](uv_timer_t* timer) { of(timer).close_all(); }, rest_ms, 0);
    close_idle([](const Connection&) { return true; });
  }

  void close_all() {
    connections_.clear();
    share_.statistics.connections_open = 0;
    finish_stop();
  }

  void finish_stop() {
    if (!done_ || !connections_.empty()) return;
    for (uv_timer_t* timer : {expiry_timer_.get(), replay_timer_.get(), stop_timer_.get(), pass_timer_.get()})
      uv_timer_stop(timer);
    uv_idle_stop(turns_.get());
    const std::function<void()> done = std::exchange(done_, nullptr);
    done();
  }

  ConnectionShare share_;
  std::uint64_t connection_limit_;
  AddressLimits address_limits_;
  std::uint64_t most_held_bytes_ = 0;  ///< for clients, since memory was last given back
  std::uint64_t stop_timeout_ms_;
  int send_buffer_bytes_;
  std::unordered_map<const Connection*, std::unique_ptr<Connection>> connections_;
  DeadlineList to_look_at_{std::numeric_limits<std::int64_t>::max()};  ///< parked reads, in a pass
  bool in_pass_ = false;            ///< parked reads are being looked at, one after the other
  bool pass_again_ = false;         ///< something may have become known meanwhile
  std::uint64_t vain_ns_ = 0;       ///< spent in this pass on reads that are parked as before
  std::uint64_t next_pass_ns_ = 0;  ///< not before
  std::function<void()> done_;
  std::uint64_t expiry_due_ms_ = never_ms;
  UvHandle<uv_timer_t> expiry_timer_;
  UvHandle<uv_timer_t> replay_timer_;
  UvHandle<uv_timer_t> accept_timer_;
  UvHandle<uv_timer_t> stop_timer_;
  UvHandle<uv_timer_t> pass_timer_;
  UvHandle<uv_idle_t> turns_;
  std::vector<std::unique_ptr<Door>> doors_;
};

EventLoopServer::EventLoopServer(uv_loop_t* loop, const Settings& settings, Counter& counter, const HostStatus& host)
    : core_(std::make_unique<Core>(loop, settings, counter, host)) {}

EventLoopServer::~EventLoopServer() = default;

void EventLoopServer::listen(ListeningSocket socket) {
  core_->listen(std::move(socket));
}

void EventLoopServer::keep_private() noexcept {
  core_->keep_private();
}

void EventLoopServer::use(const Settings& settings) {
  core_->use(settings);
}

void EventLoopServer::replay_parked() {
  core_->replay_parked();
}

void EventLoopServer::give_back_memory() noexcept {
  core_->give_back_memory();
}

void EventLoopServer::stop(std::function<void()> done) {
  core_->stop(std::move(done));
}

const ServerStatistics& EventLoopServer::statistics() const noexcept {
  return core_->statistics();
}

const RefusalCounts& EventLoopServer::refusals() const noexcept {
  return core_->refusals();
}

}  // namespace visitd
