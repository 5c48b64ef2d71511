#include "flusher/redis/shard_connection.hpp"

#include <fmt/format.h>
#include <hiredis/async.h>
#include <uv.h>

#include <algorithm>
#include <cassert>
#include <charconv>
#include <deque>
#include <string_view>
#include <utility>
#include <vector>

#include "common/os/ip_network.hpp"
#include "common/os/service_manager.hpp"
#include "flusher/redis/batch_script.hpp"
#include "flusher/redis/name_lookup.hpp"

namespace visitd {

namespace {

constexpr std::string_view id_field = "\x01id";
constexpr std::string_view fix_field =
    "\x01"
    "fix";
constexpr std::string_view moved_field = "\x01moved";
constexpr std::string_view moving_field = "\x01moving";
constexpr std::string_view topology_key = "visits:topology";

/// What is told on the next round of the loop. Not 0: see FlusherProcess::turn_in.
constexpr std::uint64_t next_round_ms = 1;

/// How long an overdue answer is still looked for: after this process itself was stopped, it lies in the socket
/// already.
constexpr std::uint64_t late_answer_grace_ms = 50;

/// Commands in Redis's own form, built in one buffer that is used again.
class CommandText {
 public:
  void start(std::size_t arguments) {
    text_.clear();
    text_ += '*';
    append_number(arguments);
    text_ += "\r\n";
  }
  void add(std::string_view argument) {
    text_ += '$';
    append_number(argument.size());
    text_ += "\r\n";
    text_ += argument;
    text_ += "\r\n";
  }
  void add_number(std::uint64_t number) {
    char digits[20];
    const auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
    add({digits, static_cast<std::size_t>(end - digits)});
  }
  void add_bucket_key(std::uint32_t bucket) {
    char key[32] = "visits:{";
    char* end = std::to_chars(key + 8, key + sizeof key, bucket).ptr;
    *end++ = '}';
    add({key, static_cast<std::size_t>(end - key)});
  }
  [[nodiscard]] const std::string& text() const noexcept { return text_; }

 private:
  void append_number(std::size_t number) {
    char digits[20];
    const char* const end = std::to_chars(digits, digits + sizeof digits, number).ptr;
    text_.append(std::string_view(digits, static_cast<std::size_t>(end - digits)));
  }

  std::string text_;
};

/// What a server said. A view: hiredis owns the reply and frees it after the callback.
class Reply {
 public:
  explicit Reply(const redisReply& reply) noexcept : reply_(&reply) {}

  [[nodiscard]] bool is_error() const noexcept { return reply_->type == REDIS_REPLY_ERROR; }
  [[nodiscard]] bool is_wrong_type() const noexcept { return is_error() && text().substr(0, 9) == "WRONGTYPE"; }
  [[nodiscard]] bool is_nil() const noexcept { return reply_->type == REDIS_REPLY_NIL; }
  [[nodiscard]] bool is_string() const noexcept { return reply_->type == REDIS_REPLY_STRING; }
  [[nodiscard]] bool is_array() const noexcept { return reply_->type == REDIS_REPLY_ARRAY; }
  [[nodiscard]] bool is_text_or_nil() const noexcept { return is_string() || is_nil(); }
  [[nodiscard]] bool is_integer() const noexcept { return reply_->type == REDIS_REPLY_INTEGER; }
  [[nodiscard]] std::size_t size() const noexcept { return reply_->elements; }
  [[nodiscard]] Reply operator[](std::size_t index) const noexcept { return Reply(*reply_->element[index]); }

  /// A string, a status or an error; empty for all else.
  [[nodiscard]] std::string_view text() const noexcept {
    if (is_string() || is_error() || reply_->type == REDIS_REPLY_STATUS) return {reply_->str, length()};
    return {};
  }

 private:
  [[nodiscard]] std::size_t length() const noexcept { return static_cast<std::size_t>(reply_->len); }

  const redisReply* reply_;
};

/// A count as Redis holds it: digits alone, no more than 2^63-1.
bool parse_count(std::string_view text, std::uint64_t& count) noexcept {
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), count);
  return failed == std::errc{} && end == text.data() + text.size() && count <= 0x7fff'ffff'ffff'ffffU &&
         (text.front() != '0' || text.size() == 1);
}

/// The numbers of "a b c". False: something else stands there, or a number is greater than `limit`.
template <typename Number>
bool parse_numbers(std::string_view text, Number limit, std::vector<Number>& numbers) {
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    Number number = 0;
    const auto [next, failed] = std::from_chars(at, end, number);
    if (failed != std::errc{} || number > limit || (next != end && *next != ' ')) return false;
    numbers.push_back(number);
    at = next == end ? end : next + 1;
  }
  return true;
}

/// An answer of batch.lua. False: it is none.
bool parse_batch_answer(std::string_view text, std::size_t pages, BatchAnswer& answer) {
  const std::size_t space = std::min(text.find(' '), text.size());
  const std::string_view word = text.substr(0, space);
  const std::string_view rest = text.substr(std::min(space + 1, text.size()));
  if (word == "OK" || word == "DUP") {
    answer.kind = word == "OK" ? BatchAnswer::Kind::applied : BatchAnswer::Kind::duplicate;
    answer.totals.reserve(pages);
    return parse_numbers(rest, std::uint64_t{0x7fff'ffff'ffff'ffffU}, answer.totals) && answer.totals.size() == pages;
  }
  if (word == "HAVE") {
    answer.kind = BatchAnswer::Kind::have;
    answer.have = rest;
    return true;
  }
  if (word == "NOID") {
    answer.kind = BatchAnswer::Kind::foreign;
    answer.have = rest;
    return true;
  }
  if (word == "BAD") {
    answer.kind = BatchAnswer::Kind::refused;
    answer.why = "the page's field holds no count, or would pass 2^63-1";
    return pages > 0 && parse_numbers(rest, static_cast<std::uint32_t>(pages - 1), answer.bad_pages) &&
           !answer.bad_pages.empty();
  }
  if (word == "WRONGTYPE") {
    answer.kind = BatchAnswer::Kind::refused;
    answer.why = "the bucket's key is not a hash: something else wrote it; remove it or rename it";
    return true;
  }
  if (word == "MOVED" || word == "MOVING") {
    answer.kind = BatchAnswer::Kind::moved;
    answer.why = fmt::format("{} to {}", word == "MOVED" ? "moved" : "moving", rest);
    return true;
  }
  return false;
}

/// One bucket's answer of marks.lua.
Marks::Held parse_held(std::string_view text) {
  if (text.starts_with('!')) return {"", not_a_hash};
  if (text.starts_with('=')) return {"", std::string(text.substr(1))};
  const std::size_t end = std::min(text.find('\n'), text.size());
  return {std::string(text.substr(0, end)), std::string(text.substr(std::min(end + 1, text.size())))};
}

/// The value of a line "name:value" of INFO; nullopt: it has no such line.
std::optional<std::string> info_value(std::string_view info, std::string_view name) {
  for (std::size_t at = info.find(name); at != std::string_view::npos; at = info.find(name, at + 1)) {
    const std::size_t colon = at + name.size();
    if ((at != 0 && info[at - 1] != '\n') || colon >= info.size() || info[colon] != ':') continue;
    return std::string(info.substr(colon + 1, std::min(info.find_first_of("\r\n", colon), info.size()) - colon - 1));
  }
  return std::nullopt;
}

/// Why a connection ended, as hiredis says it, and what speaks another protocol there where that shows.
std::string ended_for(const std::string& why) {
  if (why.empty()) return "the connection was closed";
  constexpr std::string_view other_protocol = "Protocol error, got \"";
  if (!why.starts_with(other_protocol)) return why;
  const std::string_view first = std::string_view(why).substr(other_protocol.size());
  // "HTTP/1.1 400", or a page of HTML alone.
  const bool http = first.starts_with('H') || first.starts_with('<');
  return fmt::format("{} answers there: put the shard's address right ({})",
                     http ? "an HTTP server" : "another server than Redis", why);
}

/// One command sent and not yet answered.
struct Awaited {
  enum class Kind {
    authenticated,
    database_selected,
    named,
    marks_script_loaded,
    topology_script_loaded,
    batch_script_loaded,
    policy,
    append_only,
    info,
    topology_of_facts,
    topology,
    marks,
    batch,
    count
  };
  Kind kind;
  std::size_t size = 0;     ///< batch: pages; marks: buckets
  std::uint64_t since = 0;  ///< of the loop's clock
};

/// A reply of no kind that Redis gives to the command.
struct Unexpected {
  std::string_view command;
};

}  // namespace

/// What is behind a ShardConnection. It outlives it by its timer handle, and by the callback that it is called from.
class ShardConnection::Link : public std::enable_shared_from_this<Link> {
 public:
  Link(uv_loop_t* loop, ShardSettings shard, const std::string& writer, std::uint32_t timeout_ms, Listener& listener)
      : loop_(loop),
        shard_(std::move(shard)),
        writer_field_("\x01w:" + writer),
        timeout_ms_(timeout_ms),
        listener_(listener),
        where_(shard_.unix_path.empty() ? fmt::format("{}:{}", shard_.host, shard_.port) : shard_.unix_path) {
    uv_timer_init(loop_, &timer_);
    timer_.data = this;
  }

  /// Keeps itself until its timer handle is closed.
  void start_life() { self_ = shared_from_this(); }
  void end_life() {
    close();
    lookup_.reset();
    uv_close(reinterpret_cast<uv_handle_t*>(&timer_),
             [](uv_handle_t* handle) { const auto last = std::move(static_cast<Link*>(handle->data)->self_); });
  }

  void set_timeout(std::uint32_t timeout_ms) noexcept { timeout_ms_ = timeout_ms; }
  void connect();
  void send(const ShardCommand& command);
  void close();

 private:
  struct Send;
  enum class State { closed, resolving, connecting, ready, breaking };

  /// One socket: hiredis's context and the poll handle that drives it. It goes when the handle is closed.
  struct Wire {
    Link* link = nullptr;                  ///< nullptr: dropped, nothing is reported any more
    redisAsyncContext* context = nullptr;  ///< nullptr: hiredis has freed it, or is about to
    uv_poll_t poll{};
    int events = 0;
    bool freeing = false;
    std::string why;  ///< it ended for

    void free_context() {
      if (context != nullptr && !std::exchange(freeing, true)) redisAsyncFree(context);
    }
    void watch(int wanted);
    void note_why(const char* said) noexcept {
      try {
        why = said;
      } catch (const std::bad_alloc&) {
        why.clear();  // "the connection was closed" will do
      }
    }
  };

  void on_resolved(std::vector<std::string> addresses, const std::string& why);
  /// `why` no connection was made, and what may keep a unit's packets back without a word.
  [[nodiscard]] std::string out_of_reach(std::string why) const;
  static void on_poll(uv_poll_t* handle, int status, int events);
  static void on_reply(redisAsyncContext* context, void* reply, void* unused);
  static void on_timer(uv_timer_t* timer);
  void on_time();
  /// Nothing is thrown through libuv or hiredis.
  template <typename Call>
  void guarded(Call call) noexcept {
    try {
      call();
    } catch (const std::exception& failure) {
      listener_.on_fault(failure.what());
    }
  }

  void try_next_address();
  bool open_wire(redisAsyncContext* context);
  void prepare();
  void queue(Awaited awaited);
  void wire_ended(const std::string& why);
  void refuse(std::string error);
  void replied(Reply reply);
  void prepared(Awaited::Kind kind, Reply reply);
  [[nodiscard]] std::string not_prepared(Awaited::Kind kind, std::string_view said) const;
  void told_fact(Awaited::Kind kind, Reply reply);
  [[nodiscard]] Facts take_facts(Reply topology);
  [[nodiscard]] ShardAnswer answer_of(const Awaited& awaited, Reply reply);
  [[nodiscard]] static Count count_of(Reply reply);
  void break_now(const std::string& why);
  void break_later(std::string why);
  void drop_wire();
  void answer(ShardAnswer answer) { listener_.on_answer(std::move(answer)); }

  uv_loop_t* loop_;
  ShardSettings shard_;
  std::string writer_field_;
  std::uint64_t timeout_ms_;
  Listener& listener_;
  std::string where_;
  uv_timer_t timer_{};
  std::shared_ptr<Link> self_;

  State state_ = State::closed;
  std::unique_ptr<NameLookup> lookup_;
  std::vector<std::string> addresses_;  ///< still to be tried, the last one first
  std::string address_;                 ///< being tried
  Wire* wire_ = nullptr;
  std::deque<Awaited> awaited_;
  std::uint64_t overdue_since_ = 0;  ///< of the loop's clock: when the command was sent that is overdue; 0: none is
  bool turned_away_ = false;         ///< the server answered with an error before the connection was ready
  std::string first_error_;          ///< that a server may answer and yet go on, before the connection is ready
  std::string why_;                  ///< breaking: told on the next turn of the loop
  std::string batch_digest_;
  std::string marks_digest_;
  std::string topology_digest_;
  Facts facts_;
  std::string info_;
  CommandText command_;
};

void ShardConnection::Link::Wire::watch(int wanted) {
  if (wanted == events) return;
  events = wanted;
  if (events == 0) {
    uv_poll_stop(&poll);
  } else {
    uv_poll_start(&poll, events, on_poll);
  }
}

void ShardConnection::Link::connect() {
  assert(state_ == State::closed);
  uv_update_time(loop_);
  uv_timer_start(&timer_, on_timer, timeout_ms_, 0);
  addresses_.clear();
  if (!shard_.unix_path.empty()) {
    state_ = State::connecting;
    addresses_.push_back(shard_.unix_path);
    try_next_address();
    return;
  }
  state_ = State::resolving;
  if (lookup_ == nullptr) {
    lookup_ = std::make_unique<NameLookup>(loop_, shard_.host,
                                           [this](std::vector<std::string> addresses, const std::string& why) {
                                             const std::shared_ptr<Link> keep = shared_from_this();
                                             guarded([&] { on_resolved(std::move(addresses), why); });
                                           });
  }
  // One that an earlier connection has not waited for may still be under way: then it is this one's.
  lookup_->start();
}

void ShardConnection::Link::on_resolved(std::vector<std::string> addresses, const std::string& why) {
  if (state_ != State::resolving) return;
  if (addresses.empty()) {
    break_now(out_of_reach(fmt::format("the name cannot be resolved: {}", why)));
    return;
  }
  addresses_ = std::move(addresses);
  std::reverse(addresses_.begin(), addresses_.end());
  state_ = State::connecting;
  try_next_address();
}

void ShardConnection::Link::try_next_address() {
  while (!addresses_.empty()) {
    address_ = std::move(addresses_.back());
    addresses_.pop_back();
    redisAsyncContext* context = shard_.unix_path.empty() ? redisAsyncConnect(address_.c_str(), shard_.port)
                                                          : redisAsyncConnectUnix(address_.c_str());
    if (open_wire(context)) {
      uv_timer_start(&timer_, on_timer, timeout_ms_, 0);
      prepare();
      return;
    }
  }
  break_later(out_of_reach(std::move(why_)));
}

std::string ShardConnection::Link::out_of_reach(std::string why) const {
  const auto address = IpAddress::parse(shard_.host);
  const bool is_here = !shard_.unix_path.empty() || shard_.host == "localhost" || (address && address->is_loopback());
  if (is_here || !started_by_service_manager()) return why;
  return why +
         "; a systemd unit reaches only what its IPAddressAllow= names: the shard's address, and, where the shard is "
         "named, the name server's (docs/install.md)";
}

bool ShardConnection::Link::open_wire(redisAsyncContext* context) {
  if (context == nullptr) {
    why_ = "no memory for a connection";
    return false;
  }
  if (context->err != 0) {
    why_ = context->errstr;
    redisAsyncFree(context);
    return false;
  }
  auto wire = std::make_unique<Wire>();
  if (const int failed = uv_poll_init(loop_, &wire->poll, context->c.fd); failed != 0) {
    why_ = uv_strerror(failed);
    redisAsyncFree(context);
    return false;
  }
  wire_ = wire.release();
  wire_->link = this;
  wire_->context = context;
  wire_->poll.data = wire_;
  context->data = wire_;
  context->ev.data = wire_;
  context->ev.addRead = [](void* data) {
    auto* held = static_cast<Wire*>(data);
    held->watch(held->events | UV_READABLE);
  };
  context->ev.delRead = [](void* data) {
    auto* held = static_cast<Wire*>(data);
    held->watch(held->events & ~UV_READABLE);
  };
  context->ev.addWrite = [](void* data) {
    auto* held = static_cast<Wire*>(data);
    held->watch(held->events | UV_WRITABLE);
  };
  context->ev.delWrite = [](void* data) {
    auto* held = static_cast<Wire*>(data);
    held->watch(held->events & ~UV_WRITABLE);
  };
  // hiredis calls it just before it closes the socket, whoever ended the connection.
  context->ev.cleanup = [](void* data) {
    auto* held = static_cast<Wire*>(data);
    if (held->context == nullptr) return;
    if (held->why.empty() && held->context->errstr != nullptr) held->note_why(held->context->errstr);
    held->context = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&held->poll),
             [](uv_handle_t* handle) { const std::unique_ptr<Wire> last(static_cast<Wire*>(handle->data)); });
  };
  return true;
}

/// All of it at once: the answers say how far it came.
void ShardConnection::Link::prepare() {
  awaited_.clear();
  turned_away_ = false;
  first_error_.clear();
  if (!shard_.password.empty()) {
    command_.start(shard_.username.empty() ? 2 : 3);
    command_.add("AUTH");
    if (!shard_.username.empty()) command_.add(shard_.username);
    command_.add(shard_.password);
    queue({Awaited::Kind::authenticated});
  }
  if (shard_.database != 0) {
    command_.start(2);
    command_.add("SELECT");
    command_.add_number(shard_.database);
    queue({Awaited::Kind::database_selected});
  }
  command_.start(3);
  command_.add("CLIENT");
  command_.add("SETNAME");
  command_.add("visitd");
  queue({Awaited::Kind::named});
  const auto load = [this](std::string_view script, Awaited::Kind kind) {
    command_.start(3);
    command_.add("SCRIPT");
    command_.add("LOAD");
    command_.add(script);
    queue({kind});
  };
  load(marks_script, Awaited::Kind::marks_script_loaded);
  load(topology_script, Awaited::Kind::topology_script_loaded);
  load(batch_script, Awaited::Kind::batch_script_loaded);
}

void ShardConnection::Link::queue(Awaited awaited) {
  if (state_ == State::breaking) return;
  awaited.since = uv_now(loop_);
  if (awaited_.empty() && state_ == State::ready && uv_is_active(reinterpret_cast<const uv_handle_t*>(&timer_)) == 0) {
    uv_timer_start(&timer_, on_timer, timeout_ms_, 0);
  }
  awaited_.push_back(awaited);
  const std::string& text = command_.text();
  if (redisAsyncFormattedCommand(wire_->context, on_reply, nullptr, text.data(), text.size()) != REDIS_OK) {
    break_later("a command could not be queued");
  }
}

/// Encodes a command, and notes what answer it awaits.
struct ShardConnection::Link::Send {
  Link& link;

  void operator()(const AskFacts& /*unused*/) const {
    ask_configuration("maxmemory-policy", Awaited::Kind::policy);
    ask_configuration("appendonly", Awaited::Kind::append_only);
    link.command_.start(1);
    link.command_.add("INFO");
    link.queue({Awaited::Kind::info});
    ask_topology(Awaited::Kind::topology_of_facts);
  }
  void operator()(const MakeTopology& made) const {
    CommandText& text = link.command_;
    text.start(6);
    text.add("EVALSHA");
    text.add(link.topology_digest_);
    text.add("1");
    text.add(topology_key);
    text.add(made.expected);
    text.add(made.topology);
    link.queue({Awaited::Kind::topology});
  }
  void operator()(const AskMarks& asked) const {
    CommandText& text = link.command_;
    text.start(6 + asked.buckets.size());
    text.add("EVALSHA");
    text.add(link.marks_digest_);
    text.add_number(asked.buckets.size());
    for (const std::uint32_t bucket : asked.buckets) text.add_bucket_key(bucket);
    text.add(link.writer_field_);
    text.add(id_field);
    text.add(asked.stamp);
    link.queue({Awaited::Kind::marks, asked.buckets.size()});
  }
  void operator()(const SendBatch& sent) const {
    CommandText& text = link.command_;
    const Batch& batch = *sent.batch;
    text.start(11 + 2 * batch.pages.size());
    text.add("EVALSHA");
    text.add(link.batch_digest_);
    text.add("1");
    text.add_bucket_key(batch.bucket);
    text.add(batch.expected);
    text.add(to_text(batch.mark));
    text.add(sent.id);
    for (const PageVisits& page : batch.pages) text.add_number(page.visits);
    text.add(id_field);
    text.add(link.writer_field_);
    text.add(moved_field);
    text.add(moving_field);
    for (const PageVisits& page : batch.pages) text.add(page.page);
    link.queue({Awaited::Kind::batch, batch.pages.size()});
  }
  void operator()(const AskCount& asked) const {
    CommandText& text = link.command_;
    text.start(7);
    text.add("HMGET");
    text.add_bucket_key(asked.bucket);
    text.add(id_field);
    text.add(fix_field);
    text.add(moved_field);
    text.add(link.writer_field_);
    text.add(asked.page);
    link.queue({Awaited::Kind::count});
  }

  void ask_configuration(std::string_view name, Awaited::Kind kind) const {
    CommandText& text = link.command_;
    text.start(3);
    text.add("CONFIG");
    text.add("GET");
    text.add(name);
    link.queue({kind});
  }
  void ask_topology(Awaited::Kind kind) const {
    CommandText& text = link.command_;
    text.start(2);
    text.add("GET");
    text.add(topology_key);
    link.queue({kind});
  }
};

void ShardConnection::Link::send(const ShardCommand& command) {
  assert(state_ == State::ready || state_ == State::breaking);
  if (state_ != State::ready) return;
  std::visit(Send{*this}, command);
}

void ShardConnection::Link::on_poll(uv_poll_t* handle, int status, int events) {
  Wire& wire = *static_cast<Wire*>(handle->data);
  if (wire.context == nullptr) return;
  const std::shared_ptr<Link> keep = wire.link == nullptr ? nullptr : wire.link->shared_from_this();
  if (status < 0) {
    // libuv has stopped the handle. While connecting, only the write handler asks the socket how it went; later, only a
    // read tells.
    wire.events = 0;
    redisAsyncHandleWrite(wire.context);
    if (wire.context != nullptr) redisAsyncHandleRead(wire.context);
    if (wire.context != nullptr) {
      wire.why = "the socket failed";
      wire.free_context();
    }
  } else {
    if ((events & UV_READABLE) != 0) redisAsyncHandleRead(wire.context);
    if (wire.context != nullptr && (events & UV_WRITABLE) != 0) redisAsyncHandleWrite(wire.context);
  }
  if (wire.context == nullptr && wire.link != nullptr) {
    Link& link = *std::exchange(wire.link, nullptr);
    link.wire_ = nullptr;
    link.guarded([&] { link.wire_ended(wire.why); });
  }
}

void ShardConnection::Link::on_reply(redisAsyncContext* context, void* reply, void* /*unused*/) {
  const Wire& wire = *static_cast<const Wire*>(context->data);
  // No reply: the connection is ending, and on_poll says so once.
  if (reply == nullptr || wire.link == nullptr || wire.freeing) return;
  const std::shared_ptr<Link> link = wire.link->shared_from_this();
  link->guarded([&] { link->replied(Reply(*static_cast<const redisReply*>(reply))); });
}

void ShardConnection::Link::wire_ended(const std::string& why) {
  const std::string said = !first_error_.empty() ? first_error_ : ended_for(why);
  if (state_ == State::connecting && !first_error_.empty()) {
    addresses_.clear();
    turned_away_ = true;
  }
  // An address that could not be reached leaves the others; a server that answered is the one that was meant.
  if (state_ == State::connecting && !addresses_.empty()) {
    why_ = said;
    try_next_address();
    return;
  }
  break_now(state_ == State::connecting && first_error_.empty() ? out_of_reach(said) : said);
}

/// The connection is of no more use. Within a reply's callback: the rest follows when hiredis returns.
void ShardConnection::Link::refuse(std::string error) {
  addresses_.clear();
  first_error_.clear();  // of a command that did not matter
  turned_away_ = state_ != State::ready;
  wire_->why = std::move(error);
  wire_->free_context();
}

void ShardConnection::Link::replied(Reply reply) {
  assert(!awaited_.empty());
  const Awaited awaited = awaited_.front();
  awaited_.pop_front();
  using Kind = Awaited::Kind;
  switch (awaited.kind) {
    case Kind::authenticated:
    case Kind::database_selected:
    case Kind::named:
    case Kind::marks_script_loaded:
    case Kind::topology_script_loaded:
    case Kind::batch_script_loaded:
      return prepared(awaited.kind, reply);
    case Kind::policy:
    case Kind::append_only:
    case Kind::info:
      return told_fact(awaited.kind, reply);
    default:
      break;
  }
  // Scripts that the server has forgotten are loaded by the next connection.
  if (reply.is_error() && reply.text().starts_with("NOSCRIPT")) return refuse(std::string(reply.text()));
  if (reply.is_error() && !reply.is_wrong_type()) return answer(Refused{std::string(reply.text())});
  try {
    answer(answer_of(awaited, reply));
  } catch (const Unexpected& unexpected) {
    refuse(fmt::format("{}: an answer of another kind than Redis gives", unexpected.command));
  }
}

/// An answer to what is said before the connection is ready.
void ShardConnection::Link::prepared(Awaited::Kind kind, Reply reply) {
  using Kind = Awaited::Kind;
  if (kind == Kind::named) {
    // A server that does not permit it is none the worse, unless it ends the connection: too many clients.
    if (reply.is_error()) first_error_ = reply.text();
    return;
  }
  const bool as_expected =
      kind == Kind::authenticated || kind == Kind::database_selected ? !reply.is_error() : reply.is_string();
  if (!as_expected) {
    return refuse(not_prepared(kind, reply.is_error() ? reply.text() : "an answer of another kind than Redis gives"));
  }
  if (kind == Kind::marks_script_loaded) marks_digest_ = reply.text();
  if (kind == Kind::topology_script_loaded) topology_digest_ = reply.text();
  if (kind != Kind::batch_script_loaded) return;
  batch_digest_ = reply.text();
  addresses_.clear();
  first_error_.clear();
  state_ = State::ready;
  uv_timer_stop(&timer_);
  listener_.on_connected();
}

/// What is wrong, with the setting that it comes from.
std::string ShardConnection::Link::not_prepared(Awaited::Kind kind, std::string_view said) const {
  if (kind == Awaited::Kind::authenticated) {
    const std::string user = shard_.username.empty() ? "" : fmt::format(" for user {}", shard_.username);
    return fmt::format("the password{} was not accepted, which comes from {}: {}", user, shard_.password_place, said);
  }
  if (said.starts_with("NOAUTH")) {
    return fmt::format(
        "the server wants a password, and the settings have none for this shard (redis.password, redis.password_file, "
        "or the shard's own): {}",
        said);
  }
  return fmt::format("{}: {}", kind == Awaited::Kind::database_selected ? "SELECT" : "SCRIPT LOAD", said);
}

/// An error: the command is renamed or not permitted, and the server says nothing of it.
void ShardConnection::Link::told_fact(Awaited::Kind kind, Reply reply) {
  if (kind == Awaited::Kind::info) {
    info_ = reply.text();
    return;
  }
  const bool policy = kind == Awaited::Kind::policy;
  std::optional<std::string>& fact = policy ? facts_.maxmemory_policy : facts_.append_only;
  fact.reset();
  if (reply.is_array() && reply.size() == 2 && reply[1].is_string()) fact = reply[1].text();
}

/// What CONFIG did not say, INFO may.
Facts ShardConnection::Link::take_facts(Reply topology) {
  Facts facts = std::exchange(facts_, {});
  const std::string info = std::exchange(info_, {});
  facts.role = info_value(info, "role");
  facts.run_id = info_value(info, "run_id");
  if (!facts.maxmemory_policy) facts.maxmemory_policy = info_value(info, "maxmemory_policy");
  if (!facts.append_only) {
    facts.append_only = info_value(info, "aof_enabled");
    if (facts.append_only) facts.append_only = *facts.append_only == "0" ? "no" : "yes";
  }
  facts.topology = topology.text();
  return facts;
}

/// Throws Unexpected where the reply is of no kind that Redis gives.
ShardAnswer ShardConnection::Link::answer_of(const Awaited& awaited, Reply reply) {
  using Kind = Awaited::Kind;
  switch (awaited.kind) {
    case Kind::topology_of_facts:
      if (!reply.is_text_or_nil()) throw Unexpected{"GET visits:topology"};
      return take_facts(reply);
    case Kind::topology:
      if (!reply.is_string()) throw Unexpected{"EVALSHA of topology.lua"};
      return Topology{std::string(reply.text())};
    case Kind::marks: {
      if (!reply.is_array() || reply.size() != awaited.size) throw Unexpected{"EVALSHA of marks.lua"};
      Marks marks;
      marks.buckets.reserve(reply.size());
      for (std::size_t i = 0; i < reply.size(); ++i) marks.buckets.push_back(parse_held(reply[i].text()));
      return marks;
    }
    case Kind::batch: {
      BatchAnswer applied;
      if (!reply.is_string() || !parse_batch_answer(reply.text(), awaited.size, applied)) {
        throw Unexpected{"EVALSHA of batch.lua"};
      }
      return applied;
    }
    default:
      return count_of(reply);
  }
}

Count ShardConnection::Link::count_of(Reply reply) {
  Count count;
  if (reply.is_wrong_type()) {
    count.readable = false;
    return count;
  }
  bool whole = reply.is_array() && reply.size() == 5;
  for (std::size_t i = 0; whole && i < reply.size(); ++i) whole = reply[i].is_text_or_nil();
  if (!whole) throw Unexpected{"HMGET"};
  count.id = reply[0].text();
  count.fix = reply[1].text();
  count.moved = reply[2].text();
  count.field = reply[3].text();
  if (!reply[4].is_nil()) count.readable = parse_count(reply[4].text(), count.count);
  if (!count.readable) count.count = 0;
  return count;
}

void ShardConnection::Link::on_timer(uv_timer_t* timer) {
  Link& link = *static_cast<Link*>(timer->data);
  const std::shared_ptr<Link> keep = link.shared_from_this();
  link.guarded([&] { link.on_time(); });
}

void ShardConnection::Link::on_time() {
  switch (state_) {
    case State::closed:
      return;
    case State::breaking:
      return break_now(std::exchange(why_, {}));
    case State::resolving:
      return break_now(out_of_reach(fmt::format("the name was not resolved within {} ms", timeout_ms_)));
    case State::connecting:
      drop_wire();
      return wire_ended(fmt::format("no connection within {} ms", timeout_ms_));
    case State::ready:
      break;
  }
  if (awaited_.empty()) return;
  const std::uint64_t since = awaited_.front().since;
  const std::uint64_t waited = uv_now(loop_) - since;
  if (waited < timeout_ms_) {
    uv_timer_start(&timer_, on_timer, timeout_ms_ - waited, 0);
  } else if (std::exchange(overdue_since_, since) != since) {
    uv_timer_start(&timer_, on_timer, late_answer_grace_ms, 0);
  } else {
    break_now(fmt::format("no answer within {} ms", timeout_ms_));
  }
}

void ShardConnection::Link::break_now(const std::string& why) {
  close();
  const bool elsewhere = !address_.empty() && address_ != shard_.host && address_ != shard_.unix_path;
  const std::string said = fmt::format("shard {} at {}{}: {}", shard_.name, where_,
                                       elsewhere ? fmt::format(" ({})", address_) : std::string(), why);
  if (std::exchange(turned_away_, false)) {
    listener_.on_turned_away(said);
  } else {
    listener_.on_broken(said);
  }
}

void ShardConnection::Link::break_later(std::string why) {
  drop_wire();
  state_ = State::breaking;
  why_ = std::move(why);
  uv_timer_start(&timer_, on_timer, next_round_ms, 0);
}

void ShardConnection::Link::drop_wire() {
  if (wire_ == nullptr) return;
  Wire& wire = *std::exchange(wire_, nullptr);
  wire.link = nullptr;
  wire.free_context();
}

void ShardConnection::Link::close() {
  drop_wire();
  uv_timer_stop(&timer_);
  awaited_.clear();
  facts_ = {};
  info_.clear();
  overdue_since_ = 0;
  state_ = State::closed;
}

ShardConnection::ShardConnection(uv_loop_t* loop, ShardSettings shard, const std::string& writer,
                                 std::uint32_t timeout_ms, Listener& listener)
    : link_(std::make_shared<Link>(loop, std::move(shard), writer, timeout_ms, listener)) {
  link_->start_life();
}

ShardConnection::~ShardConnection() {
  link_->end_life();
}

void ShardConnection::set_timeout(std::uint32_t timeout_ms) noexcept {
  link_->set_timeout(timeout_ms);
}
void ShardConnection::connect() {
  link_->connect();
}
void ShardConnection::send(const ShardCommand& command) {
  link_->send(command);
}
void ShardConnection::close() {
  link_->close();
}

}  // namespace visitd
