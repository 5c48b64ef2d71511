#include "frontend/server/connection.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <limits>

#include "common/os/clock.hpp"

namespace visitd {

namespace {

constexpr std::size_t receive_bytes = 65536;
/// Taken at once of anything but a body that its route wants: whoever pipelines is not served longer than the others
/// can wait.
constexpr std::size_t fair_receive_bytes = 2048;
/// Answers of pipelined requests leave together, up to this.
constexpr std::size_t flush_bytes = 65536;
/// Requests of this size may always be parked: as many as there are connections, and whoever parks large ones keeps
/// nobody else out.
constexpr std::size_t small_request_bytes = 8192;
constexpr std::uint64_t linger_ms = 2000;
/// The Counter ends each parked read by itself.
constexpr std::uint64_t no_limit_ms = std::numeric_limits<std::int64_t>::max();

constexpr std::string_view continue_line = "HTTP/1.1 100 Continue\r\n\r\n";

}  // namespace

ConnectionShare::ConnectionShare(uv_loop_t* its_loop, const Settings& settings, Counter& its_counter,
                                 const HostStatus& host, ConnectionOwner& its_owner)
    : loop(its_loop),
      owner(its_owner),
      limits{settings.http.head_limit_bytes, settings.http.target_limit_bytes, settings.http.header_limit,
             settings.http.body_limit_bytes},
      format(settings.http.cors_origins),
      counter(its_counter),
      routes(settings, its_counter, host),
      direct(routes, format),
      httplib(routes, format),
      hot(way_of(settings)),
      phases{DeadlineList(settings.http.idle_timeout_ms),
             DeadlineList(settings.http.head_timeout_ms),
             DeadlineList(settings.http.body_timeout_ms),
             DeadlineList(settings.http.send_timeout_ms),
             DeadlineList(no_limit_ms),
             DeadlineList(linger_ms)},
      turns(no_limit_ms),
      received(receive_bytes),
      out(2 * flush_bytes),
      uploads(settings.http.buffered_bodies_limit_bytes),
      unsent_limit_bytes(settings.http.buffered_answers_limit_bytes) {}

AnsweringWay* ConnectionShare::way_of(const Settings& settings) noexcept {
  return settings.http.hot_routes == HotRoutes::direct ? static_cast<AnsweringWay*>(&direct) : &httplib;
}

void ConnectionShare::use(const Settings& settings) {
  limits.body_bytes = settings.http.body_limit_bytes;
  format.set_origins(settings.http.cors_origins);
  routes.use(settings);
  hot = way_of(settings);
  waiting(Phase::idle).set_wait(settings.http.idle_timeout_ms);
  waiting(Phase::head).set_wait(settings.http.head_timeout_ms);
  waiting(Phase::body).set_wait(settings.http.body_timeout_ms);
  waiting(Phase::sending).set_wait(settings.http.send_timeout_ms);
  uploads.set_limit(settings.http.buffered_bodies_limit_bytes);
  unsent_limit_bytes = settings.http.buffered_answers_limit_bytes;
}

Connection::Connection(ConnectionShare& share, UniqueFd fd, const ClientAddress& client, Entrance entrance)
    : share_(share),
      fd_(std::move(fd)),
      poll_(make_poll(share.loop, fd_.get(), this)),
      reader_(share.limits),
      client_(client),
      entrance_(entrance),
      out_(share.unsent_bytes) {
  idle_place_.connection = this;
  watch(UV_READABLE);
  enter(Phase::idle, true);
}

void Connection::watch(int events) {
  if (events == watched_) return;
  watched_ = events;
  const auto on_event = [](uv_poll_t* poll, int status, int happened) {
    auto& connection = *static_cast<Connection*>(poll->data);
    if (status < 0) {
      connection.close();
    } else if ((happened & UV_WRITABLE) != 0) {
      connection.writable();
    } else {
      connection.readable();
    }
    connection.share_.owner.settled(connection);
  };
  if ((events == 0 ? uv_poll_stop(poll_.get()) : uv_poll_start(poll_.get(), events, on_event)) < 0) close();
}

void Connection::enter(Phase phase, bool renew) {
  const bool is_new = phase != phase_ || renew;
  phase_ = phase;
  count_kept(phase == Phase::head ? &share_.head_bytes : phase == Phase::parked ? &share_.parked_bytes : nullptr);
  if (!is_new) return;
  DeadlineList& list = phase == Phase::parked && paused_ ? share_.turns : share_.waiting(phase);
  list.join(*this, uv_now(share_.loop));
  if (address_ == nullptr) return;
  if (phase == Phase::idle) {
    address_->idle.join(idle_place_, 0);
  } else {
    idle_place_.leave();
  }
}

void Connection::move_to(AddressShare* address) {
  address_ = address;
  idle_place_.leave();
  if (address_ != nullptr && phase_ == Phase::idle) address_->idle.join(idle_place_, 0);
  if (upload_ != nullptr) upload_->move_to(address);
}

void Connection::upload_lost() noexcept {
  list_.reset();
  // It is told so behind the answers that it has not taken yet.
  if (phase_ == Phase::sending) return;
  paused_ = true;
  enter(Phase::parked, true);
  share_.owner.settled(*this);
}

void Connection::readable() {
  if (phase_ == Phase::parked) {
    // Nothing more is read before the answer: the client's bytes wait in the kernel.
    watch(0);
    return;
  }
  const std::size_t most = in_body_ && upload_ != nullptr ? share_.received.size() : fair_receive_bytes;
  const ssize_t size = ::recv(fd_.get(), share_.received.data(), most, 0);
  if (size <= 0) {
    if (size == 0 || (errno != EAGAIN && errno != EINTR)) close();
    return;
  }
  if (phase_ == Phase::lingering) return;
  const std::string_view bytes(share_.received.data(), static_cast<std::size_t>(size));
  if (in_.empty()) {
    advance(bytes);
  } else {
    in_.append(bytes);
    advance(in_);
  }
}

void Connection::writable() {
  if (!send_rest()) return;
  if (ending_) return finish();
  watch(UV_READABLE);
  advance(in_);
}

bool Connection::take_turn() {
  if (!paused_ && !share_.counter.concerns(list_ != nullptr ? list_->awaits() : read_, uv_now(share_.loop))) {
    enter(Phase::parked, true);
    return false;
  }
  const std::size_t known = list_ == nullptr ? 0 : list_->known();
  advance(in_);
  if (phase_ == Phase::parked) return paused_ || (list_ != nullptr && list_->known() != known);
  if (!closed_ && phase_ != Phase::sending) watch(UV_READABLE);
  return true;
}

void Connection::advance(std::string_view input) {
  share_.out.truncate(0);
  parked_ = paused_ = false;
  bool progressed = false;
  while (read_one(input, progressed) == Step::again) {
    if (share_.out.size() >= flush_bytes && !flush()) break;
  }
  settle(input, progressed);
}

Connection::Step Connection::read_one(std::string_view& input, bool& progressed) {
  if (in_body_) return read_body(input, progressed);
  if (upload_ != nullptr) return answer_upload(input, progressed);
  if (input.empty()) return Step::stop;
  switch (reader_.read_head(input)) {
    case RequestReader::Outcome::incomplete:
      return Step::stop;
    case RequestReader::Outcome::complete:
      return start_request(input, progressed);
    case RequestReader::Outcome::refused:
      break;
  }
  return refuse(reader_.refusal());
}

Connection::Step Connection::start_request(std::string_view& input, bool& progressed) {
  const RequestHead& head = reader_.head();
  const Call call = routed();
  OutputBuffer& out = share_.out;
  const std::size_t before = out.size();
  if (head.expects_continue && input.size() == head.size) {
    out.reserve(continue_line.size());
    out.append(continue_line);
  }
  if (head.has_body() && call.takes_body()) {
    upload_ = std::make_unique<Upload>(share_.uploads, *this, address_, input.substr(0, head.size));
    input.remove_prefix(head.size);
    in_body_ = true;
    return read_body(input, progressed);
  }
  const bool has_body = head.has_body();
  if (!answer(call, progressed)) {
    out.truncate(before);
    return may_park(input.size()) ? Step::stop : refuse(Refusal::count_unknown);
  }
  input.remove_prefix(head.size);
  in_body_ = has_body;
  return in_body_ ? read_body(input, progressed) : ending_ ? (end_after_answer(input), Step::stop) : Step::again;
}

Connection::Step Connection::answer_upload(std::string_view& input, bool& progressed) {
  if (upload_->is_lost()) return refuse(Refusal::busy);
  // The head was vetted where it came; read again where it is kept it says the same, unless a limit changed meanwhile.
  if (reader_.read_head(upload_->head()) != RequestReader::Outcome::complete) return refuse(reader_.refusal());
  Call call = routed();
  call.body = upload_->body();
  if (!answer(call, progressed)) {
    if (list_ != nullptr) {
      upload_->keep_list_alone(list_->bytes());
      return Step::stop;
    }
    return upload_->has_room_whole(call.now_ms) ? Step::stop : refuse(Refusal::busy);
  }
  upload_.reset();
  if (!ending_) return Step::again;
  end_after_answer(input);
  return Step::stop;
}

Call Connection::routed() noexcept {
  Call call;
  call.head = &reader_.head();
  call.read = &read_;
  call.list = &list_;
  call.now_ms = uv_now(share_.loop);
  call.client = &client_;
  call.entrance = entrance_;
  share_.routes.find(call);
  return call;
}

bool Connection::answer(const Call& call, bool& progressed) {
  share_.format.set_date(unix_seconds());
  const bool keep_alive = call.head->keep_alive && !share_.stopping;
  const Handled handled =
      call.is_cheap() ? share_.hot->answer(call, keep_alive, share_.out) : answer_dear(call, keep_alive);
  if (handled != Handled::answered) {
    note_parked(handled);
    return false;
  }
  ++share_.statistics.requests;
  progressed = has_served_ = true;
  if (read_.deadline_ms != 0) read_ = {};
  if (list_ != nullptr) list_.reset();
  counted_parked_ = false;
  ending_ = !keep_alive;
  return true;
}

/// Paused as well where the turn is spent.
Handled Connection::answer_dear(const Call& call, bool keep_alive) {
  if (share_.turn.is_spent(call.now_ms)) return Handled::paused;
  const std::uint64_t begun_ns = uv_hrtime();
  AnsweringWay& way = call.is_routed() && call.route->hot ? *share_.hot : share_.httplib;
  const Handled handled = way.answer(call, keep_alive, share_.out);
  share_.routes.release_document();
  share_.turn.spend(uv_hrtime() - begun_ns);
  return handled;
}

void Connection::note_parked(Handled handled) noexcept {
  parked_ = true;
  paused_ = handled == Handled::paused;
  if (paused_ || counted_parked_) return;
  counted_parked_ = true;
  ++share_.statistics.reads_parked;
}

Connection::Step Connection::read_body(std::string_view& input, bool& progressed) {
  if (upload_ != nullptr && upload_->is_lost()) return refuse(Refusal::busy);
  std::size_t consumed = 0;
  const RequestReader::Outcome outcome =
      reader_.read_body(input, consumed, upload_ != nullptr ? &upload_->body() : nullptr);
  input.remove_prefix(consumed);
  if (outcome == RequestReader::Outcome::refused) {
    if (upload_ != nullptr) return refuse(reader_.refusal());
    // The request was answered when its head was complete: a second answer would be taken for the next request's.
    share_.routes.note(reader_.refusal());
    ending_ = lingering_ = true;
    return Step::stop;
  }
  in_body_ = outcome == RequestReader::Outcome::incomplete;
  if (upload_ != nullptr) {
    // One that has come whole is answered at once: it needs no room.
    if (!in_body_) return answer_upload(input, progressed);
    return upload_->has_room(uv_now(share_.loop)) ? Step::stop : refuse(Refusal::busy);
  }
  if (ending_) {
    end_after_answer(input);
    return Step::stop;
  }
  return in_body_ ? Step::stop : Step::again;
}

Connection::Step Connection::refuse(Refusal refusal) {
  // What the reader holds of an upload's head may lie in bytes that are gone: it is read where it is kept.
  if (upload_ != nullptr) static_cast<void>(reader_.read_head(upload_->head()));
  // Of a head that was refused only these are looked at: to HEAD no body is sent, pages of other origins may read why
  // they were refused, and what was too much is told.
  RequestHead head;
  head.method = reader_.head().method;
  head.origin = reader_.head().origin;
  head.content_length = reader_.head().content_length;
  if (refusal == Refusal::target_too_long) head.target = reader_.head().target;
  Answer answer;
  share_.routes.refuse_request(refusal, head, answer);
  share_.format.set_date(unix_seconds());
  share_.format.write(answer, head, false, share_.out);
  upload_.reset();
  ending_ = lingering_ = true;
  return Step::stop;
}

void Connection::end_after_answer(std::string_view input) {
  lingering_ = in_body_ || !input.empty();
}

void Connection::settle(std::string_view rest, bool progressed) {
  if (closed_) return;
  if (ending_) rest = {};
  keep(rest);
  if (!out_.empty() || !flush()) return;
  if (ending_) return finish();
  const Phase next = parked_ ? Phase::parked : in_body_ ? Phase::body : !in_.empty() ? Phase::head : Phase::idle;
  if (next == Phase::idle && share_.stopping) return close();
  enter(next, progressed || next == Phase::idle || next == Phase::parked);
}

void Connection::keep(std::string_view rest) {
  if (rest.data() >= in_.data() && rest.data() < in_.data() + in_.size()) {
    in_.erase(0, static_cast<std::size_t>(rest.data() - in_.data()));
  } else if (rest.empty()) {
    in_ = std::string();
  } else {
    in_ = rest;
  }
}

void Connection::count_kept(std::uint64_t* sum) noexcept {
  if (kept_in_ != nullptr) *kept_in_ -= counted_kept_;
  kept_in_ = sum;
  counted_kept_ = in_.size();
  if (kept_in_ != nullptr) *kept_in_ += counted_kept_;
}

bool Connection::may_park(std::size_t bytes) const noexcept {
  return paused_ || phase_ == Phase::parked || bytes <= small_request_bytes ||
         share_.parked_bytes + bytes <= kept_limit_bytes;
}

bool Connection::flush() {
  std::string_view bytes = share_.out.view();
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      out_.hold(bytes);
      share_.out.clear();
      watch(UV_WRITABLE);
      enter(Phase::sending, true);
      share_.owner.holds_unsent(*this);
      return false;
    } else if (errno != EINTR) {
      close();
      return false;
    }
  }
  share_.out.clear();
  return true;
}

bool Connection::send_rest() {
  while (!out_.empty()) {
    const std::string_view bytes = out_.view();
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      out_.sent(static_cast<std::size_t>(sent));
    } else {
      if (errno != EAGAIN && errno != EINTR) close();
      return false;
    }
  }
  return true;
}

void Connection::finish() {
  if (!lingering_) return close();
  // Closed at once, bytes that are still on their way would make the kernel reset the connection, and the client might
  // lose the answer.
  ::shutdown(fd_.get(), SHUT_WR);
  in_ = std::string();
  watch(UV_READABLE);
  enter(Phase::lingering, true);
}

}  // namespace visitd
