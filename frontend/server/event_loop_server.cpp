#include "frontend/server/event_loop_server.hpp"

#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <limits>
#include <unordered_map>
#include <utility>

#include "common/os/errors.hpp"
#include "common/os/log.hpp"
#include "frontend/server/address_limits.hpp"
#include "frontend/server/connection.hpp"
#include "frontend/server/connection_share.hpp"
#include "frontend/server/doors.hpp"
#include "frontend/server/turns.hpp"

namespace visitd {

namespace {

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

class EventLoopServer::Core final : ConnectionOwner, Doorkeeper {
 public:
  Core(uv_loop_t* loop, const Settings& settings, const Backend& backend)
      : share_(loop, settings, backend, *this),
        connection_limit_(make_room_for(settings.http.connection_limit)),
        address_limits_(settings.http.address_connection_limit, share_.routes.proxies()),
        stop_timeout_ms_(settings.http.stop_timeout_ms),
        turns_(share_),
        doors_(loop, *this, static_cast<int>(settings.http.send_buffer_bytes)),
        expiry_timer_(make_timer(loop, this)),
        stop_timer_(make_timer(loop, this)) {}

  void listen(ListeningSocket socket) { doors_.open(std::move(socket)); }

  void keep_private() noexcept { share_.routes.keep_private(); }

  void take_settings(const Settings& settings) {
    share_.take_settings(settings);
    stop_timeout_ms_ = settings.http.stop_timeout_ms;
    doors_.set_send_buffer(static_cast<int>(settings.http.send_buffer_bytes));
    use_address_limits(settings);
    expire();  // some may be due sooner than the timer knows
    connection_limit_ = make_room_for(settings.http.connection_limit);
  }

  void look_at_parked() { turns_.look_at_parked(); }

  void stop(std::function<void()> done) {
    // Who has connected already is served; who comes later finds the door closed.
    doors_.close();
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
  template <typename Handle>
  static Core& of(Handle* handle) noexcept {
    return *static_cast<Core*>(handle->data);
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
    if (connection.phase() == Phase::paused) {
      turns_.take_soon();
    } else if (connection.phase() == Phase::parked) {
      turns_.look_now_and_then();
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

  [[nodiscard]] bool has_room() noexcept override { return !is_full() || first_evictable() != nullptr; }

  void take_in(UniqueFd fd, const ClientAddress& client, Entrance entrance) override {
    if (AddressShare* const full_share = address_limits_.reached(client)) {
      if (!make_room_for_another_of(*full_share)) return;
    }
    if (is_full()) {
      ++share_.statistics.connections_evicted;
      close(first_evictable());
    }
    add(std::move(fd), client, entrance);
  }

  [[nodiscard]] bool is_full() const noexcept { return connections_.size() >= connection_limit_; }

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
    address_limits_ = AddressLimits(settings.http.address_connection_limit, share_.routes.proxies());
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
    for (uv_timer_t* timer : {expiry_timer_.get(), stop_timer_.get()}) uv_timer_stop(timer);
    turns_.stop();
    const std::function<void()> done = std::exchange(done_, nullptr);
    done();
  }

  ConnectionShare share_;
  std::uint64_t connection_limit_;
  AddressLimits address_limits_;
  std::uint64_t most_held_bytes_ = 0;  ///< for clients, since memory was last given back
  std::uint64_t stop_timeout_ms_;
  std::unordered_map<const Connection*, std::unique_ptr<Connection>> connections_;
  Turns turns_;
  Doors doors_;
  std::function<void()> done_;
  std::uint64_t expiry_due_ms_ = never_ms;
  UvHandle<uv_timer_t> expiry_timer_;
  UvHandle<uv_timer_t> stop_timer_;
};

EventLoopServer::EventLoopServer(uv_loop_t* loop, const Settings& settings, const Backend& backend)
    : core_(std::make_unique<Core>(loop, settings, backend)) {}

EventLoopServer::~EventLoopServer() = default;

void EventLoopServer::listen(ListeningSocket socket) {
  core_->listen(std::move(socket));
}

void EventLoopServer::keep_private() noexcept {
  core_->keep_private();
}

void EventLoopServer::take_settings(const Settings& settings) {
  core_->take_settings(settings);
}

void EventLoopServer::look_at_parked() {
  core_->look_at_parked();
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
