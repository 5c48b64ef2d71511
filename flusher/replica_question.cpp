#include "flusher/replica_question.hpp"

#include <utility>
#include <variant>

#include "common/os/log.hpp"

namespace visitd {

ReplicaQuestion::ReplicaQuestion(FlusherLoop& loop, const ShardSettings& shard, const std::string& writer,
                                 std::uint32_t timeout_ms, AskReplicas asked, Done done)
    : loop_(loop),
      asked_(std::move(asked)),
      done_(std::move(done)),
      link_(loop.get(), shard, writer, timeout_ms + static_cast<std::uint32_t>(asked_.timeout_ms), *this) {
  link_.connect();
}

void ReplicaQuestion::on_connected() {
  link_.send(AskFacts{}, [this](const ShardAnswer& answer) { on_facts(answer); });
}

/// The server waits for all that it was told before this connection's last write: also for what was told over others.
void ReplicaQuestion::on_facts(const ShardAnswer& answer) {
  if (std::holds_alternative<Lost>(answer)) return;  // on_broken() follows
  const auto* const facts = std::get_if<Facts>(&answer);
  if (facts == nullptr || facts->run_id.value_or("") != asked_.run_id) return finish(Lost{});
  link_.send(asked_, [this](ShardAnswer said) {
    if (!std::holds_alternative<Lost>(said)) finish(std::move(said));
  });
}

void ReplicaQuestion::on_answer(const Completion& done, ShardAnswer answer) {
  loop_.guarded([&] { done(std::move(answer)); });
}

void ReplicaQuestion::on_broken(const std::string& why) {
  log::debug("a shard does not say whether its replicas follow: {}", why);
  finish(Lost{});
}

void ReplicaQuestion::finish(ShardAnswer answer) {
  link_.close();
  loop_.guarded([&] {
    if (const Done done = std::exchange(done_, {})) done(std::move(answer));
  });
}

}  // namespace visitd
