// What the engine says of its shards and of pages to people, and what they decide.
#include <fmt/ranges.h>

#include <algorithm>

#include "common/os/errors.hpp"
#include "common/shm/page_id.hpp"
#include "flusher/counting/engine_shards.hpp"

namespace visitd {

/// Since when visits wait that a flush wanted to bring to the shard: on their way, or because it takes no batches.
std::optional<std::uint64_t> Engine::waits_since_ms(std::uint32_t shard) const {
  const auto on_their_way = batches_.oldest_flush(shard);
  auto overdue_ms = flushes_.overdue_since_ms(shard);
  if (std::ranges::none_of(placement_.buckets_on(shard), [&](std::uint32_t bucket) { return open_.any(bucket); })) {
    overdue_ms.reset();
  }
  if (!on_their_way) return overdue_ms;
  const std::uint64_t begun_ms = flushes_.begun_ms(*on_their_way);
  return std::min(begun_ms, overdue_ms.value_or(begun_ms));
}

Engine::ShardReport Engine::shard_report(std::uint32_t shard, Now now) const {
  ShardReport report;
  if (shard < settings_.servers.size()) report.address = settings_.servers[shard].address;
  report.server = sessions_[shard]->session.server();
  report.replicas = sessions_[shard]->session.replicas();
  if (const auto since_ms = waits_since_ms(shard)) report.oldest_wait_ms = now.ms - *since_ms;
  return report;
}

Engine::Session& Engine::session_of(const std::string& shard) const {
  const auto known = std::ranges::find(settings_.shards, shard);
  if (known == settings_.shards.end()) {
    throw error("there is no shard {}; the shards are {}", shard, fmt::join(settings_.shards, ", "));
  }
  return *sessions_[static_cast<std::size_t>(known - settings_.shards.begin())];
}

AcceptOffer Engine::offer(const std::string& shard) const {
  return session_of(shard).session.offer();
}

void Engine::accept(const std::string& shard, std::uint64_t token, Now now) {
  session_of(shard).session.accept(token, now.ms);
}

ShardState Engine::shard_state(std::uint32_t shard) const noexcept {
  return sessions_[shard]->session.state();
}

std::string Engine::Corrector::why_not(std::uint32_t bucket) const {
  const std::uint32_t number = engine_.placement_.shard_of(bucket);
  const ShardSession& session = engine_.sessions_[number]->session;
  const std::string& name = engine_.settings_.shards[number];
  if (session.state() != ShardState::up) {
    return fmt::format("shard {} is {}{}{}", name, name_of(session.state()), session.why().empty() ? "" : ": ",
                       session.why());
  }
  if (session.is_arriving(bucket)) return fmt::format("bucket {} is just coming to shard {}", bucket, name);
  if (session.is_repairing(bucket)) return fmt::format("shard {} is being sent again what it lost", name);
  return {};
}

void Engine::inspect(const std::string& page, ShardSession::Inspection done) {
  const std::uint32_t bucket = page_bucket(page, settings_.buckets);
  sessions_[placement_.shard_of(bucket)]->session.inspect(bucket, page, std::move(done));
}

Engine::PageState Engine::page_state(const std::string& page) const {
  PageState state;
  state.bucket = page_bucket(page, settings_.buckets);
  state.shard = placement_.shard_of(state.bucket);
  state.field = batches_.field(state.bucket);
  const std::uint32_t number = pending_.find(page_hash(page, memory_.hash_seed), page);
  if (number != PendingSeries::none) {
    state.open = pending_[number].open;
    state.inflight = pending_[number].inflight;
  }
  state.spilled = !open_.is_in_memory(state.bucket);
  state.set_aside = lookups_.uncountable().visits_aside(page);
  state.fault = lookups_.uncountable().fault(page);
  return state;
}

}  // namespace visitd
