#include "frontend/server/connection.hpp"

#include <cerrno>

#include "common/os/clock.hpp"

namespace visitd {

namespace {

/// Taken at once of anything but a body that its route wants: whoever pipelines is not served longer than the others
/// can wait.
constexpr std::size_t fair_receive_bytes = 2048;
/// Requests of this size may always be parked: as many as there are connections, and whoever parks large ones keeps
/// nobody else out.
constexpr std::size_t small_request_bytes = 8192;

constexpr std::string_view continue_line = "HTTP/1.1 100 Continue\r\n\r\n";

}  // namespace

Connection::Connection(ConnectionShare& share, UniqueFd fd, const ClientAddress& client, Entrance entrance)
    : share_(share),
      socket_(
          share.loop, std::move(fd),
          [](uv_poll_t* poll, int status, int events) {
            static_cast<Connection*>(poll->data)->on_event(status, events);
          },
          this, share.unsent_bytes),
      reader_(share.limits),
      client_(client),
      entrance_(entrance) {
  idle_place_.connection = this;
  watch(UV_READABLE);
  enter(Phase::idle, true);
}

void Connection::watch(int events) noexcept {
  if (!socket_.watch(events)) close();
}

void Connection::on_event(int status, int events) {
  if (status < 0) {
    close();
  } else if ((events & UV_WRITABLE) != 0) {
    writable();
  } else {
    readable();
  }
  share_.owner.settled(*this);
}

void Connection::enter(Phase phase, bool renew) {
  const bool is_new = phase != phase_ || renew;
  phase_ = phase;
  count_kept(phase == Phase::head ? &share_.head_bytes : is_parked() ? &share_.parked_bytes : nullptr);
  if (!is_new) return;
  share_.waiting(phase).join(*this, uv_now(share_.loop));
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
  read_.list.reset();
  // It is told so behind the answers that it has not taken yet.
  if (phase_ == Phase::sending) return;
  enter(Phase::paused, true);
  share_.owner.settled(*this);
}

void Connection::readable() {
  if (read_.stream != nullptr) return drop_received();
  if (is_parked()) {
    // Nothing more is read before the answer: the client's bytes wait in the kernel.
    watch(0);
    return;
  }
  std::vector<char>& room = share_.received;
  const std::size_t most = reading_ == Reading::upload ? room.size() : fair_receive_bytes;
  const ssize_t size = socket_.receive({room.data(), most});
  if (size <= 0) {
    if (size == 0 || (errno != EAGAIN && errno != EINTR)) close();
    return;
  }
  if (phase_ == Phase::lingering) return;
  const std::string_view bytes(room.data(), static_cast<std::size_t>(size));
  if (in_.empty()) {
    advance(bytes);
  } else {
    in_.append(bytes);
    advance(in_);
  }
}

/// Behind a stream no request is answered: what comes is not for us, but that the client goes is.
void Connection::drop_received() {
  const ssize_t size = socket_.receive(share_.received);
  if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) close();
}

void Connection::writable() {
  const ClientSocket::Sent sent = socket_.send_rest();
  if (sent == ClientSocket::Sent::broken) close();
  if (sent != ClientSocket::Sent::taken) return;
  if (is_ending()) return finish();
  watch(UV_READABLE);
  if (!closed()) advance(in_);
}

bool Connection::take_turn() {
  if (read_.stream != nullptr && share_.stopping) {
    close();
    return true;
  }
  if (phase_ == Phase::parked && !read_.could_go_on(share_.counts, uv_now(share_.loop))) {
    enter(Phase::parked, true);
    return false;
  }
  const std::size_t known = read_.known();
  advance(in_);
  if (is_parked()) return phase_ == Phase::paused || read_.known() != known;
  if (!closed() && phase_ != Phase::sending) watch(UV_READABLE);
  return true;
}

void Connection::advance(std::string_view input) {
  share_.out.truncate(0);
  bool progressed = false;
  Step step = Step::again;
  while ((step = read_one(input, progressed)) == Step::again) {
    if (share_.out.size() >= flush_bytes && !flush()) break;
  }
  settle(input, progressed, step);
}

Connection::Step Connection::read_one(std::string_view& input, bool& progressed) {
  if (reading_ != Reading::head) return read_behind_head(input, progressed);
  if (input.empty()) return Step::more;
  switch (reader_.read_head(input)) {
    case RequestReader::Outcome::incomplete:
      return Step::more;
    case RequestReader::Outcome::complete:
      return start_request(input, progressed);
    case RequestReader::Outcome::refused:
      break;
  }
  return refuse(reader_.refusal());
}

Connection::Step Connection::read_behind_head(std::string_view& input, bool& progressed) {
  if (reading_ == Reading::unwanted_body) return skip_body(input);
  if (upload_->is_lost()) return refuse(Refusal::busy);
  return reading_ == Reading::upload ? read_upload(input, progressed) : answer_upload(input, progressed);
}

Connection::Step Connection::start_request(std::string_view& input, bool& progressed) {
  const RequestHead& head = reader_.head();
  const Call call = call_of(head);
  OutputBuffer& out = share_.out;
  const std::size_t before = out.size();
  if (head.expects_continue && input.size() == head.size) {
    out.reserve(continue_line.size());
    out.append(continue_line);
  }
  const bool has_body = head.has_body();
  if (has_body && call.takes_body()) {
    upload_ = std::make_unique<Upload>(share_.uploads, *this, address_, head, input.substr(0, head.size));
    input.remove_prefix(head.size);
    reading_ = Reading::upload;
    return read_upload(input, progressed);
  }
  const Handled handled = answer(call, progressed);
  if (handled == Handled::streamed) return Step::parked;
  if (handled != Handled::answered) {
    out.truncate(before);
    if (handled == Handled::paused) return Step::paused;
    return may_park(input.size()) ? Step::parked : refuse_to_wait(call, Refusal::count_unknown);
  }
  input.remove_prefix(head.size);
  if (!has_body) return after_answer(input);
  reading_ = Reading::unwanted_body;
  return skip_body(input);
}

Connection::Step Connection::read_upload(std::string_view& input, bool& progressed) {
  std::size_t consumed = 0;
  const RequestReader::Outcome outcome = reader_.read_body(input, consumed, &upload_->body());
  input.remove_prefix(consumed);
  if (outcome == RequestReader::Outcome::refused) return refuse(reader_.refusal());
  if (outcome == RequestReader::Outcome::incomplete) {
    return upload_->has_room(uv_now(share_.loop)) ? Step::more : refuse(Refusal::busy);
  }
  // One that has come whole is answered at once: it needs no room.
  reading_ = Reading::nothing;
  return answer_upload(input, progressed);
}

Connection::Step Connection::answer_upload(std::string_view& input, bool& progressed) {
  Call call = call_of(upload_->head());
  call.body = upload_->body();
  const Handled handled = answer(call, progressed);
  if (handled != Handled::answered) {
    if (read_.list != nullptr) {
      upload_->keep_list_alone(read_.list->bytes());
    } else if (!upload_->has_room_whole(call.now_ms)) {
      return refuse_to_wait(call, Refusal::busy);
    }
    return handled == Handled::paused ? Step::paused : Step::parked;
  }
  upload_.reset();
  reading_ = Reading::head;
  return after_answer(input);
}

Connection::Step Connection::skip_body(std::string_view& input) {
  std::size_t consumed = 0;
  const RequestReader::Outcome outcome = reader_.read_body(input, consumed, nullptr);
  input.remove_prefix(consumed);
  switch (outcome) {
    case RequestReader::Outcome::refused:
      // The request was answered when its head was complete: a second answer would be taken for the next request's.
      share_.routes.note(reader_.refusal());
      end_ = End::linger;
      return Step::more;
    case RequestReader::Outcome::incomplete:
      break;
    case RequestReader::Outcome::complete:
      reading_ = Reading::head;
  }
  if (reading_ == Reading::head || is_ending()) return after_answer(input);
  return Step::more;
}

Call Connection::call_of(const RequestHead& head) noexcept {
  Call call;
  call.head = &head;
  call.read = &read_;
  call.now_ms = uv_now(share_.loop);
  call.client = &client_;
  call.entrance = entrance_;
  share_.routes.find(call);
  return call;
}

Handled Connection::answer(const Call& call, bool& progressed) {
  share_.format.set_date(unix_seconds());
  const bool streams = call.is_routed() && call.route->streams;
  const bool keep_alive = call.head->keep_alive && !share_.stopping && !streams;
  const Handled handled = streams           ? share_.direct.answer(call, keep_alive, share_.out)
                          : call.is_cheap() ? share_.hot->answer(call, keep_alive, share_.out)
                                            : answer_dear(call, keep_alive);
  if (handled == Handled::answered) {
    ++share_.statistics.requests;
    progressed = has_served_ = true;
    read_.end();
    if (!keep_alive) end_ = End::close;
  } else if (handled == Handled::parked && !read_.has_waited) {
    read_.has_waited = true;
    ++share_.statistics.reads_parked;
  }
  return handled;
}

/// Paused as well where the turn is spent.
Handled Connection::answer_dear(const Call& call, bool keep_alive) {
  if (share_.turn.is_spent(call.now_ms)) return Handled::paused;
  const std::uint64_t begun_ns = uv_hrtime();
  AnsweringWay& way = call.is_routed() && call.route->hot ? *share_.hot : *share_.usual;
  const Handled handled = way.answer(call, keep_alive, share_.out);
  share_.routes.release_document();
  share_.turn.spend(uv_hrtime() - begun_ns);
  return handled;
}

Connection::Step Connection::refuse(Refusal refusal) {
  // Of a head that was refused only these are looked at: to HEAD no body is sent, pages of other origins may read why
  // they were refused, and what was too much is told.
  const RequestHead& seen = upload_ != nullptr ? upload_->head() : reader_.head();
  RequestHead head;
  head.method = seen.method;
  head.origin = seen.origin;
  head.content_length = seen.content_length;
  if (refusal == Refusal::target_too_long) head.target = seen.target;
  Answer answer;
  share_.routes.refuse_request(refusal, head, answer);
  share_.format.set_date(unix_seconds());
  share_.format.write(answer, head, false, share_.out);
  upload_.reset();
  reading_ = Reading::head;
  end_ = End::linger;
  return Step::more;
}

Connection::Step Connection::after_answer(std::string_view input) noexcept {
  if (!is_ending()) return Step::again;
  if (reading_ != Reading::head || !input.empty()) end_ = End::linger;
  return Step::more;
}

void Connection::settle(std::string_view rest, bool progressed, Step step) {
  if (closed()) return;
  if (is_ending()) rest = {};
  keep(rest);
  if (socket_.has_unsent() || !flush()) return;
  if (is_ending()) return finish();
  Phase next = Phase::idle;
  if (step == Step::parked || step == Step::paused) {
    next = step == Step::parked ? Phase::parked : Phase::paused;
    progressed = true;
  } else if (reading_ != Reading::head) {
    next = Phase::body;
  } else if (!in_.empty()) {
    next = Phase::head;
  } else if (share_.stopping) {
    return close();
  }
  enter(next, progressed || next == Phase::idle);
}

void Connection::keep(std::string_view rest) {
  if (rest.data() >= in_.data() && rest.data() < in_.data() + in_.size()) {
    in_.erase(0, static_cast<std::size_t>(rest.data() - in_.data()));
  } else if (rest.empty()) {
    if (!in_.empty()) in_ = std::string();
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
  return is_parked() || bytes <= small_request_bytes || share_.parked_bytes + bytes <= kept_limit_bytes;
}

bool Connection::flush() {
  const ClientSocket::Sent sent = socket_.send(share_.out.view());
  if (sent == ClientSocket::Sent::broken) {
    close();
    return false;
  }
  share_.out.clear();
  if (sent == ClientSocket::Sent::taken) return true;
  watch(UV_WRITABLE);
  enter(Phase::sending, true);
  share_.owner.holds_unsent(*this);
  return false;
}

void Connection::finish() {
  if (end_ != End::linger) return close();
  // Closed at once, bytes that are still on their way would make the kernel reset the connection, and the client might
  // lose the answer.
  socket_.end_sending();
  in_ = std::string();
  watch(UV_READABLE);
  enter(Phase::lingering, true);
}

}  // namespace visitd
