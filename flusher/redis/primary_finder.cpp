#include "flusher/redis/primary_finder.hpp"

#include <exception>
#include <utility>

namespace visitd {

namespace {

/// Between the end of a sentinel that was listened to and the next one: sentinels that are away are not asked without
/// end.
constexpr std::uint64_t pause_ms = 500;

/// A sentinel as a wire takes it.
ShardSettings sentinel_at(const ShardSettings& shard, const ServerAddress& address) {
  ShardSettings sentinel = shard;
  sentinel.host = address.host;
  sentinel.port = address.port;
  return sentinel;
}

/// Whatever a variant may hold.
template <typename... Calls>
struct Cases : Calls... {
  using Calls::operator()...;
};

}  // namespace

PrimaryFinder::PrimaryFinder(uv_loop_t* loop, const ShardSettings& shard, std::uint32_t timeout_ms, Listener& listener)
    : listener_(listener),
      timeout_ms_(timeout_ms),
      search_(shard.sentinels),
      dialect_(shard.sentinels),
      timer_(make_timer(loop, this)) {
  for (const ServerAddress& address : shard.sentinels.addresses) {
    wires_.push_back(
        std::make_shared<Wire>(loop, sentinel_at(shard, address), timeout_ms, static_cast<Wire::Listener&>(*this)));
  }
}

PrimaryFinder::~PrimaryFinder() {
  for (const auto& wire : wires_) wire->leave();
}

void PrimaryFinder::set_timeout(std::uint32_t timeout_ms) noexcept {
  timeout_ms_ = timeout_ms;
  for (const auto& wire : wires_) wire->set_timeout(timeout_ms);
}

void PrimaryFinder::use(const ShardSettings& shard) {
  dialect_.use(shard.sentinels);
  for (const auto& wire : wires_) wire->use(shard.tls);
}

void PrimaryFinder::find() {
  take(search_.begin());
}

void PrimaryFinder::take(const PrimarySearch::Step& step) {
  std::visit(Cases{[](const PrimarySearch::Nothing&) {}, [this](const PrimarySearch::Ask& next) { ask(next.sentinel); },
                   [this](const PrimarySearch::AskLater& next) {
                     wires_[asked_]->close();
                     asked_ = next.sentinel;
                     start_timer(pause_ms);
                   },
                   [this](const PrimarySearch::Connect& found) { listener_.on_primary(found.primary); },
                   [this](const PrimarySearch::Leave& left) { listener_.on_primary_left(left.why); },
                   [this](const PrimarySearch::GiveUp& given_up) {
                     wires_[asked_]->close();
                     listener_.on_no_primary(given_up.why);
                   }},
             step);
}

void PrimaryFinder::ask(std::size_t sentinel) {
  uv_timer_stop(timer_.get());
  wires_[asked_]->close();
  asked_ = sentinel;
  wires_[asked_]->connect();
}

void PrimaryFinder::on_begin() {
  text_.clear();
  dialect_.begin(text_);
  wires_[asked_]->send(text_.text());
}

void PrimaryFinder::on_reply(Reply reply) {
  const SentinelDialect::Said said = dialect_.read(reply);
  if (const auto* refusal = std::get_if<SentinelDialect::Refusal>(&said)) {
    return take(search_.on_no_answer(refusal->why));
  }
  if (const auto* primary = std::get_if<ServerAddress>(&said)) {
    Wire& wire = *wires_[asked_];
    if (!wire.is_ready()) {
      wire.set_ready();
      start_timer(timeout_ms_);
    }
    take(search_.on_primary(*primary));
  }
}

void PrimaryFinder::on_end(const std::string& why) {
  take(search_.on_no_answer(why));
}

std::optional<std::uint64_t> PrimaryFinder::waits_since() const noexcept {
  return dialect_.waits() ? std::optional(said_at_ms_) : std::nullopt;
}

/// A sentinel that is listened to, and says nothing, is asked whether it is still there; where none is listened to,
/// that is begun again.
void PrimaryFinder::on_time() {
  Wire& wire = *wires_[asked_];
  if (!wire.is_ready()) return ask(asked_);
  if (!dialect_.waits()) {
    text_.clear();
    dialect_.ask_whether_there(text_);
    said_at_ms_ = wire.now_ms();
    wire.send(text_.text());
  }
  start_timer(timeout_ms_);
}

void PrimaryFinder::start_timer(std::uint64_t after_ms) {
  uv_timer_start(
      timer_.get(),
      [](uv_timer_t* timer) {
        auto& finder = *static_cast<PrimaryFinder*>(timer->data);
        try {
          finder.on_time();
        } catch (const std::exception& failure) {
          finder.listener_.on_fault(failure.what());
        }
      },
      after_ms, 0);
}

}  // namespace visitd
