#include "tests/simulation/simulated_shard.hpp"

#include <algorithm>
#include <utility>

#include "common/os/text.hpp"

namespace visitd {

namespace {

template <typename... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};

}  // namespace

std::vector<Completion> SimulatedShard::drop(std::size_t host, std::mt19937_64& random) {
  Connection& connection = connections_[host];
  connection.connected = false;
  std::vector<Completion> lost;
  for (Answered& answered : std::exchange(connection.answers, {})) lost.push_back(std::move(answered.to.done));
  bool left = true;  // what comes after the first one that never left the host did not either
  for (Waiting& waiting : std::exchange(connection.waiting, {})) {
    lost.push_back(std::move(waiting.done));
    left = left && random() % 2 != 0;
    if (left) late_.push_back(std::move(waiting));
  }
  return lost;
}

void SimulatedShard::send(std::size_t host, const std::string& writer, const ShardCommand& command, Completion done,
                          std::uint64_t now_ms) {
  Waiting waiting{host, writer, command, {}, now_ms, std::move(done)};
  if (const auto* batch = std::get_if<SendBatch>(&command)) waiting.batch = *batch->batch;
  // It goes over a connection of its own: its answer may come after those of batches that were executed later.
  if (std::holds_alternative<AskReplicas>(command)) waiting.replicas = run_replicas();
  connections_[host].waiting.push_back(std::move(waiting));
}

std::optional<SimulatedShard::Received> SimulatedShard::receive(std::size_t host) {
  Connection& connection = connections_[host];
  if (!connection.connected || connection.answers.empty()) return std::nullopt;
  Answered& oldest = connection.answers.front();
  Received received{std::move(oldest.to.done), std::move(oldest.answer)};
  connection.answers.pop_front();
  return received;
}

std::optional<std::uint64_t> SimulatedShard::waits_since(std::size_t host) const {
  const Connection& connection = connections_[host];
  if (!connection.answers.empty()) return connection.answers.front().to.sent_ms;
  if (!connection.waiting.empty()) return connection.waiting.front().sent_ms;
  return std::nullopt;
}

std::size_t SimulatedShard::on_their_way(std::size_t host, const ShardCommand& like) const {
  const auto alike = [&](const Waiting& one) {
    if (one.command.index() != like.index()) return false;
    if (const auto* const count = std::get_if<AskCount>(&like))
      return std::get<AskCount>(one.command).page == count->page;
    if (const auto* const batch = std::get_if<SendBatch>(&like)) return one.batch.bucket == batch->batch->bucket;
    if (const auto* const note = std::get_if<NoteWriter>(&like))
      return std::get<NoteWriter>(one.command).fields.front().first == note->fields.front().first;
    return true;
  };
  const Connection& connection = connections_[host];
  return static_cast<std::size_t>(
      std::ranges::count_if(connection.waiting, alike) +
      std::ranges::count_if(connection.answers, [&](const Answered& answered) { return alike(answered.to); }));
}

bool SimulatedShard::execute(std::mt19937_64& random) {
  Connection& connection = connections_[connections_.size() == 1 ? 0 : random() % connections_.size()];
  if (!late_.empty() && (connection.waiting.empty() || random() % 2 == 0)) {
    static_cast<void>(answer(late_.front()));
    late_.pop_front();
    return true;
  }
  if (connection.waiting.empty()) return false;
  Waiting waiting = std::move(connection.waiting.front());
  connection.waiting.pop_front();
  ShardAnswer said = answer(waiting);
  connection.answers.push_back({std::move(said), std::move(waiting)});
  return true;
}

void SimulatedShard::make(const std::string& topology, const std::vector<std::uint32_t>& buckets,
                          const std::string& id) {
  now_.topology = topology;
  for (const std::uint32_t bucket : buckets) now_.buckets[bucket].fields[id_field] = id;
  disk_ = now_;
}

/// What it refuses it does not execute.
ShardAnswer SimulatedShard::answer(const Waiting& waiting) {
  const bool writes =
      std::holds_alternative<SendBatch>(waiting.command) || std::holds_alternative<MakeTopology>(waiting.command) ||
      std::holds_alternative<NoteWriter>(waiting.command) || std::holds_alternative<ForgetWriter>(waiting.command) ||
      (std::holds_alternative<AskMarks>(waiting.command) && !std::get<AskMarks>(waiting.command).stamp.empty());
  if (refusing_ == Refusing::all || (refusing_ == Refusing::writes && writes)) return Refused{"OOM"};
  if (const auto elsewhere = redirect(waiting)) return *elsewhere;
  return run(waiting);
}

// ---- in a cluster

bool SimulatedShard::holds_key(std::size_t key) const {
  if (key == cluster_->topology_key()) return !now_.topology.empty();
  return now_.buckets.contains(static_cast<std::uint32_t>(key));
}

std::optional<Redirect> SimulatedShard::redirect(std::size_t key, bool once) const {
  return cluster_ == nullptr ? std::nullopt : cluster_->redirect(node_, key, holds_key(key), once);
}

std::optional<Redirect> SimulatedShard::redirect(const Waiting& waiting) const {
  if (const auto* sent = std::get_if<SendBatch>(&waiting.command)) return redirect(waiting.batch.bucket, sent->once);
  if (const auto* ask = std::get_if<AskCount>(&waiting.command)) return redirect(ask->bucket, ask->once);
  if (const auto* ask = std::get_if<AskPages>(&waiting.command)) return redirect(ask->bucket, ask->once);
  if (const auto* forget = std::get_if<ForgetWriter>(&waiting.command))
    return redirect(forget->buckets.front(), forget->once);
  if (const auto* move = std::get_if<MoveBucket>(&waiting.command)) return redirect(move->bucket, move->once);
  const bool of_topology =
      std::holds_alternative<MakeTopology>(waiting.command) || std::holds_alternative<TakeMoves>(waiting.command);
  if (!of_topology || cluster_ == nullptr) return std::nullopt;
  return redirect(cluster_->topology_key(), false);
}

void SimulatedShard::migrate(SimulatedShard& from, SimulatedShard& to, std::size_t key) {
  if (key == from.cluster_->topology_key()) {
    to.now_.topology = to.disk_.topology = std::exchange(from.now_.topology, {});
    from.disk_.topology.clear();
    if (to.replica_) to.replica_->topology = to.now_.topology;
    if (from.replica_) from.replica_->topology.clear();
    return;
  }
  const auto bucket = static_cast<std::uint32_t>(key);
  if (!from.now_.buckets.contains(bucket)) return;
  to.now_.buckets[bucket] = to.disk_.buckets[bucket] = from.now_.buckets[bucket];
  if (to.replica_) to.replica_->buckets[bucket] = from.now_.buckets[bucket];
  from.forget(bucket);
}

Facts SimulatedShard::run_facts() const {
  Facts facts{"noeviction", "yes", now_.topology, "master"};
  facts.in_cluster = cluster_ != nullptr;
  facts.topology_elsewhere = cluster_ != nullptr && redirect(cluster_->topology_key(), false).has_value();
  return facts;
}

void SimulatedShard::spoil(std::uint32_t bucket, const std::string& page) {
  spoiled_.emplace(page, field(bucket, page));
  now_.buckets[bucket].fields[page] = disk_.buckets[bucket].fields[page] = "spoiled";
}

void SimulatedShard::mend(std::uint32_t bucket, const std::string& page) {
  const std::string before = spoiled_.extract(page).mapped();
  for (State* state : {&now_, &disk_}) {
    if (before.empty()) {
      state->buckets[bucket].fields.erase(page);
    } else {
      state->buckets[bucket].fields[page] = before;
    }
  }
}

// ---- its replica

bool SimulatedShard::fail_over() {
  if (!replica_) return false;
  has_lost_ = true;
  now_ = disk_ = *replica_;
  synced_ = changes_;
  replica_.reset();
  follows_ = false;
  return true;
}

Replicas SimulatedShard::run_replicas() const {
  const bool has_all = follows_ && replicated_ == changes_;
  return {has_all || lies_about_replicas_ ? 1U : 0U, synced_ == changes_ || lies_about_replicas_};
}

/// As a server does that syncs in the background: what was done before the time for a sync is on the disk, unless it
/// says that a sync is late.
Persistence SimulatedShard::run_persistence() const {
  const bool late = synced_ != changes_ && unsynced_since_ms_ + sync_ms < now_ms_;
  if (lies_about_replicas_) return {late, changes_, 1, changes_};
  return follows_ ? Persistence{late, changes_, 1, replicated_} : Persistence{late, changes_, 0, changes_};
}

ShardAnswer SimulatedShard::run(const Waiting& waiting) {
  return std::visit(
      Overloaded{
          [&](const AskFacts&) -> ShardAnswer { return run_facts(); },
          [&](const MakeTopology& make) -> ShardAnswer {
            // Synced at once: a shard that crashes before is, rightly, held as one that was emptied.
            if (now_.topology == make.expected) {
              now_.topology = disk_.topology = make.topology;
              if (replica_) replica_->topology = make.topology;
            }
            return Topology{now_.topology};
          },
          [&](const AskMarks& ask) -> ShardAnswer { return run_marks(ask, waiting.writer); },
          [&](const SendBatch& sent) -> ShardAnswer { return run_batch(waiting, sent.id); },
          [&](const AskCount& ask) -> ShardAnswer {
            const std::string held = field(ask.bucket, ask.page);
            const bool readable = held.find_first_not_of("0123456789") == std::string::npos;
            return Count{field(ask.bucket, id_field),
                         fix_of(ask.bucket),
                         field(ask.bucket, moved_field),
                         field(ask.bucket, mark_of(waiting.writer)),
                         held.empty() || !readable ? 0 : std::stoull(held),
                         readable,
                         ask.tombstone ? tombstone(ask.bucket, waiting.writer) : std::string()};
          },
          [&](const AskPages& ask) -> ShardAnswer { return run_pages(ask, waiting.writer); },
          [&](const AskSums& ask) -> ShardAnswer { return run_sums(ask, waiting.writer); },
          [&](const MoveBucket& move) -> ShardAnswer { return run_move(move); },
          [&](const TakeMoves& take) -> ShardAnswer { return run_take(take); },
          [&](const AskPersistence&) -> ShardAnswer { return run_persistence(); },
          [&](const AskNodes&) -> ShardAnswer { return Refused{"no node is asked so in the simulation"}; },
          [&](const AskReplicas&) -> ShardAnswer { return *waiting.replicas; },
          [&](const NoteWriter& note) -> ShardAnswer {
            for (const auto& [name, value] : note.fields) {
              if (value.empty()) {
                now_.writers.erase(name);
              } else {
                now_.writers[name] = value;
              }
            }
            return Noted{};
          },
          [&](const AskWriters&) -> ShardAnswer { return Writers{{now_.writers.begin(), now_.writers.end()}}; },
          [&](const ForgetWriter& forget) -> ShardAnswer { return run_forget(forget); },
      },
      waiting.command);
}

/// A few at a time, in order: what comes behind the cursor is found, what comes before it is not. To the node to which
/// a slot is on its way, a bucket comes whole, as a small one does.
Pages SimulatedShard::run_pages(const AskPages& ask, const std::string& writer) const {
  Pages pages{0,
              {},
              field(ask.bucket, id_field),
              field(ask.bucket, moved_field),
              mark(ask.bucket, writer),
              tombstone(ask.bucket, writer)};
  const auto held = now_.buckets.find(ask.bucket);
  if (held == now_.buckets.end()) return pages;
  std::uint64_t position = 0;
  for (const auto& [name, value] : held->second.fields) {
    if (++position <= ask.cursor || name.starts_with('\x01')) continue;
    if (pages.pages.size() == 2 && !ask.once) {
      pages.cursor = position - 1;
      break;
    }
    const bool readable = value.find_first_not_of("0123456789") == std::string::npos;
    pages.pages.push_back({name, readable ? std::optional<std::uint64_t>(std::stoull(value)) : std::nullopt});
  }
  return pages;
}

Marks SimulatedShard::run_marks(const AskMarks& ask, const std::string& writer) {
  Marks marks;
  for (const std::uint32_t bucket : ask.buckets) {
    if (const auto elsewhere = redirect(bucket, ask.once)) {
      marks.buckets.push_back({"", "", "", elsewhere});
      continue;
    }
    if (!ask.stamp.empty() && field(bucket, id_field).empty()) {
      // Written before what says that all have it: what loses one loses the other.
      now_.buckets[bucket].fields[id_field] = disk_.buckets[bucket].fields[id_field] = ask.stamp;
    }
    marks.buckets.push_back({field(bucket, id_field), mark(bucket, writer), field(bucket, moved_field), std::nullopt,
                             field(bucket, tombstone_of(writer))});
  }
  return marks;
}

BatchAnswer SimulatedShard::run_batch(const Waiting& waiting, const std::string& id) {
  const Batch& batch = waiting.batch;
  BatchAnswer answer;
  if (field(batch.bucket, id_field) != id && !ignores_identity_) {
    answer.kind = BatchAnswer::Kind::foreign;
    answer.have = field(batch.bucket, id_field);
    return answer;
  }
  const std::string held = mark(batch.bucket, waiting.writer);
  const bool applied = held == to_text(batch.mark);
  for (const auto& [name, kind] :
       {std::pair(moved_field, BatchAnswer::Kind::moved), std::pair(moving_field, BatchAnswer::Kind::moving)}) {
    if (applied || field(batch.bucket, name).empty()) continue;
    answer.kind = kind;
    answer.why = field(batch.bucket, name);
    return answer;
  }
  const std::string gone = field(batch.bucket, tombstone_of(waiting.writer));
  if (held.empty() && !gone.empty() && is_rejoin(batch) && gone == batch.expected) {
    put_back(batch.bucket, waiting.writer, gone);
    return answer;
  }
  if (held.empty() && !gone.empty() && !ignores_tombstones_) {
    answer.kind = BatchAnswer::Kind::forgotten;
    return answer;
  }
  if (!applied && held != batch.expected) {
    answer.kind = BatchAnswer::Kind::have;
    answer.have = held;
    return answer;
  }
  answer.fix = fix_of(batch.bucket);
  const auto* const sent = &std::get<SendBatch>(waiting.command);
  if (!applied && batch.correction && !sent->again && batch.correction->fix != answer.fix && !ignores_fix_) {
    answer.kind = BatchAnswer::Kind::corrected;
    return answer;
  }
  std::vector<std::uint32_t> low;
  for (std::uint32_t i = 0; i < batch.effects.size(); ++i) {
    const std::string count = field(batch.bucket, batch.effects[i].series);
    const bool readable = count.find_first_not_of("0123456789") == std::string::npos;
    if (!applied && !readable) answer.bad_series.push_back(i);
    answer.totals.push_back(!readable ? no_total : !count.empty() ? std::stoull(count) : 0);
    const bool falls_below = static_cast<std::int64_t>(answer.totals[i] + batch.effects[i].operand) < 0;
    if (!applied && readable && batch.correction && falls_below) low.push_back(i);
  }
  if (applied) {
    answer.kind = BatchAnswer::Kind::duplicate;
    return answer;
  }
  if (!answer.bad_series.empty()) {
    answer.kind = BatchAnswer::Kind::refused;
    answer.why = "no integer";
    return answer;
  }
  if (!low.empty()) {
    if (sent->again) owed_[{waiting.host, batch.bucket}] = batch;
    answer.kind = BatchAnswer::Kind::low;
    answer.bad_series = low;
    return answer;
  }
  owed_.erase({waiting.host, batch.bucket});
  Bucket& bucket = now_.buckets[batch.bucket];
  const auto before = bucket.fields;
  if (batch.correction && !keeps_fix_) {
    answer.fix = std::max(answer.fix + 1, sent->fix_at_least);
    bucket.fields[fix_field] = std::to_string(answer.fix);
  }
  for (std::uint32_t i = 0; i < batch.effects.size(); ++i) {
    answer.totals[i] += batch.effects[i].operand;
    bucket.fields[batch.effects[i].series] = std::to_string(answer.totals[i]);
    if (batch.correction && answer.totals[i] == 0) bucket.fields.erase(batch.effects[i].series);
    bucket.of_hosts[{waiting.host, batch.effects[i].series}] += batch.effects[i].operand;
  }
  bucket.fields[mark_of(waiting.writer)] = to_text(batch.mark);
  if (keeps_no_sums_of_ != waiting.host) keep_sum(before, bucket.fields);
  note_change();
  applied_.emplace(std::pair(batch.bucket, to_text(batch.mark)), answer.totals);
  return answer;
}

std::vector<SimulatedShard::Owed> SimulatedShard::raise_owed() {
  std::vector<Owed> raised;
  for (const auto& [place, batch] : std::exchange(owed_, {})) {
    if (!has_bucket(batch.bucket)) continue;  // it has moved
    const std::size_t host = place.first;
    Bucket& bucket = now_.buckets[batch.bucket];
    for (const Effect& effect : batch.effects) {
      const std::uint64_t held = count(effect.series, batch.bucket);
      const std::uint64_t taken = -effect.operand;
      if (difference_of(effect) >= 0 || held >= taken) continue;
      bucket.fields[effect.series] = std::to_string(held + taken);
      bucket.of_hosts[{host, effect.series}] += taken;
      raised.push_back({host, effect.series, taken});
    }
    bucket.fields[fix_field] = std::to_string(fix_of(batch.bucket) + 1);
    note_change();
  }
  return raised;
}

void SimulatedShard::put_back(std::uint32_t bucket, const std::string& writer, const std::string& mark) {
  auto& fields = now_.buckets[bucket].fields;
  if (rejoining_ != Rejoining::takes_away_alone) fields[mark_of(writer)] = mark;
  if (rejoining_ != Rejoining::puts_back_alone) fields.erase(tombstone_of(writer));
  note_change();
}

Forgotten SimulatedShard::run_forget(const ForgetWriter& forget) {
  using Kind = Forgotten::Bucket::Kind;
  Forgotten forgotten;
  for (const std::uint32_t bucket : forget.buckets) {
    const std::string left = mark(bucket, forget.writer);
    if (const std::string moved = field(bucket, moved_field); !moved.empty()) {
      forgotten.buckets.push_back({Kind::moved, moved});
    } else if (field(bucket, id_field) != forget.id || (!field(bucket, moving_field).empty() && !forgets_what_moves_)) {
      forgotten.buckets.push_back({Kind::not_now});
    } else if (left.empty()) {
      forgotten.buckets.push_back({Kind::nothing});
    } else {
      auto& fields = now_.buckets[bucket].fields;
      fields[tombstone_of(forget.writer)] = left;
      fields.erase(mark_of(forget.writer));
      note_change();
      forgotten.buckets.push_back({Kind::taken_out});
    }
  }
  return forgotten;
}

std::string SimulatedShard::field(std::uint32_t bucket, const std::string& name) const {
  const auto fields = now_.buckets.find(bucket);
  if (fields == now_.buckets.end()) return {};
  const auto value = fields->second.fields.find(name);
  return value == fields->second.fields.end() ? std::string() : value->second;
}

std::uint64_t SimulatedShard::count_of(std::size_t host, const std::string& page, std::uint32_t bucket) const {
  const auto held = now_.buckets.find(bucket);
  if (held == now_.buckets.end()) return 0;
  const auto found = held->second.of_hosts.find({host, page});
  return found == held->second.of_hosts.end() ? 0 : found->second;
}

std::uint64_t SimulatedShard::count(const std::string& page, std::uint32_t bucket) const {
  const std::string held = field(bucket, page);
  return held.empty() ? 0 : std::stoull(held);
}

}  // namespace visitd
