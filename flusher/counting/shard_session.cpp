#include "flusher/counting/shard_session.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "common/os/errors.hpp"
#include "common/shm/cache.hpp"

namespace visitd {

namespace {

constexpr std::uint64_t first_retry_ms = 1000;

/// What a server said, without where in a script it said so.
std::string without_script(const std::string& error) {
  return error.substr(0, error.find(" script: "));
}

/// Why a bucket that holds `field` is not what was left.
std::string_view what_happened(const std::string& field, const Mark& ours, std::uint64_t last_seq) {
  Mark held;
  if (!parse_mark(field, held)) {
    return "holds nothing of what was acknowledged: it was emptied, or restored from a copy older than the batches "
           "that are kept";
  }
  if (held.seq < ours.seq || (held.seq == ours.seq && last_seq > held.seq)) {
    return "was restored from a copy older than the batches that are kept";
  }
  if (held.incarnation.number > ours.incarnation.number) {
    return "was written by a newer flusher with this spool's identity: this spool is an old copy, or a clone";
  }
  return "holds batches that this spool does not know: the spool is older than the shard, or a clone";
}

}  // namespace

ShardSession::ShardSession(SessionSettings settings, std::string identity, std::string new_identity,
                           std::vector<std::uint32_t> buckets, Deployment& deployment, Batches& batches,
                           Lookups& lookups, FlusherStatistics statistics, SessionPort& port)
    : settings_(std::move(settings)),
      identity_(std::move(identity)),
      new_identity_(std::move(new_identity)),
      buckets_(std::move(buckets)),
      deployment_(deployment),
      batches_(batches),
      lookups_(lookups),
      statistics_(statistics),
      port_(port),
      sent_here_(batches.buckets()),
      ever_sent_(batches.buckets()) {
  for (const std::uint32_t bucket : buckets_) ever_sent_[bucket] = batches_.unanswered(bucket) != nullptr;
}

// ---- connection

void ShardSession::tick(std::uint64_t now_ms) {
  now_ms_ = now_ms;
  if (step_ == Step::away && now_ms >= connect_at_ms_) {
    step_ = Step::connecting;
    port_.connect();
  } else if (step_ == Step::waiting && (deployment_.changes() != changes_seen_ || now_ms >= check_at_ms_)) {
    ask_facts();
  } else if (step_ == Step::up) {
    if (now_ms >= check_at_ms_) check_again();
    if (!made_) finish_making();
    if (!refusal_.empty()) pump();
  }
}

void ShardSession::on_connected() {
  ask_facts();
}

void ShardSession::on_broken(const std::string& why, std::uint64_t now_ms) {
  now_ms_ = now_ms;
  // One that broke soon is not tried without end.
  const bool lasted = step_ == Step::up && now_ms - up_since_ms_ >= settings_.reconnect_ms;
  leave();
  connect_at_ms_ = lasted ? now_ms : now_ms + settings_.reconnect_ms;
  if (state_ != ShardState::held) set_state(ShardState::down, why);
}

void ShardSession::on_turned_away(const std::string& why, std::uint64_t now_ms) {
  now_ms_ = now_ms;
  turn_away(why);
}

/// An error where there is no other way to go on: not asked again without end.
void ShardSession::turn_away(const std::string& why) {
  leave();
  connect_at_ms_ = now_ms_ + reconnect_backoff_.next_ms(settings_.reconnect_ms);
  if (state_ != ShardState::held) set_state(ShardState::down, why);
}

/// Nothing of the old connection survives.
void ShardSession::leave() {
  step_ = Step::away;
  sent_here_.assign(sent_here_.size(), false);
  to_send_.clear();
  repairs_.clear();
  differing_.clear();
  fault_.clear();
  batches_in_flight_ = 0;
  marks_awaited_ = 0;
  topology_.clear();
  stamp_ = made_ = making_ended_ = checking_ = probing_ = false;
  replica_of_.clear();
  refusal_.clear();
  write_backoff_.reset();
  for (const Sent& sent : std::exchange(sent_, {})) {
    if (sent.kind == Sent::Kind::count) lookups_.dropped(sent.page);
    if (sent.inspection) sent.inspection(std::nullopt);
  }
}

void ShardSession::reconnect(const std::string& why) {
  port_.close();
  leave();
  connect_at_ms_ = now_ms_ + reconnect_backoff_.next_ms(settings_.reconnect_ms);
  set_state(ShardState::connecting, why);
}

void ShardSession::hold(const std::string& why, bool acceptable) {
  accepting_ = false;  // what the operator accepted was another look's
  acceptable_ = acceptable;
  token_ = digest_of_differing();
  held_differing_ = std::move(differing_);
  port_.close();
  leave();
  connect_at_ms_ = now_ms_ + settings_.held_recheck_ms;
  set_state(ShardState::held, why);
}

/// The shard is held once all its marks are known.
void ShardSession::fault(const std::string& why, bool acceptable) {
  if (fault_.empty() || (fault_acceptable_ && !acceptable)) {
    fault_ = why;
    fault_acceptable_ = acceptable;
  }
}

void ShardSession::set_state(ShardState state, const std::string& why) {
  if (state == state_ && why == why_) return;
  state_ = state;
  why_ = why;
  port_.state_changed(state, why);
}

void ShardSession::say_how_it_is() {
  if (writes_wait()) {
    set_state(ShardState::refuses_writes, replica_of_.empty() ? refusal_ : replica_of_);
  } else {
    set_state(ShardState::up, "");
  }
}

// ---- what the operator decides

AcceptOffer ShardSession::offer() const {
  if (state_ != ShardState::held) {
    throw error("shard {} is {}, not held: there is nothing to accept", settings_.shard, name_of(state_));
  }
  if (!acceptable_) throw error("shard {} cannot be accepted: {}", settings_.shard, why_);
  AcceptOffer offer;
  offer.token = token_;
  offer.buckets = held_differing_.size();
  std::vector<bool> differs(batches_.buckets());
  for (const Differing& differing : held_differing_) {
    differs[differing.bucket] = true;
    if (const auto lost = batches_.lost_since(differing.bucket, differing.field)) {
      for (const Batch& batch : *lost) {
        for (const PageVisits& page : batch.pages) offer.kept_visits += page.visits;
      }
    }
  }
  std::tie(offer.pages, offer.visits) = lookups_.known_of(differs);
  return offer;
}

void ShardSession::accept(std::uint64_t token, std::uint64_t now_ms) {
  if (offer().token != token) {
    throw error("shard {} has changed since it was looked at; look again with: {}", settings_.shard, accept_command());
  }
  now_ms_ = now_ms;
  accepting_ = true;
  accepted_token_ = token;
  port_.close();
  leave();
  connect_at_ms_ = now_ms;
}

std::uint64_t ShardSession::digest_of_differing() const {
  std::string found;
  for (const Differing& differing : differing_) found += fmt::format("{} {}\n", differing.bucket, differing.field);
  return digest_of(found);
}

std::string ShardSession::accept_command() const {
  return fmt::format("{} accept {}", settings_.visitctl, settings_.shard);
}

// ---- who it is

void ShardSession::ask_facts() {
  step_ = Step::facts;
  send({Sent::Kind::facts}, AskFacts{});
}

bool ShardSession::hold_if_unfit(const Facts& facts) {
  std::string unfit;
  if (!settings_.accept_eviction && facts.maxmemory_policy && *facts.maxmemory_policy != "noeviction") {
    unfit = fmt::format(
        "shard {} evicts keys when its memory is full (maxmemory-policy is {}): counts would be lost; set "
        "maxmemory-policy to noeviction, or accept it with redis.accept_eviction = true",
        settings_.shard, *facts.maxmemory_policy);
  } else if (!settings_.accept_no_append_only && facts.append_only && *facts.append_only != "yes") {
    unfit = fmt::format(
        "shard {} has no append-only file: a restart of it would lose counts; set appendonly to yes, or accept it "
        "with redis.accept_no_append_only = true",
        settings_.shard);
  }
  if (unfit.empty()) {
    if ((!facts.maxmemory_policy || !facts.append_only) && !std::exchange(warned_, true)) {
      port_.warn(fmt::format(
          "shard {} does not say how it is set up (neither CONFIG nor INFO tells {}): make sure that it evicts no keys "
          "and has an append-only file",
          settings_.shard, facts.maxmemory_policy ? "appendonly" : "maxmemory-policy"));
    }
    return false;
  }
  port_.unfit(unfit);
  hold(unfit);
  return true;
}

void ShardSession::note_role(const Facts& facts) {
  replica_of_.clear();
  if (!facts.role || *facts.role == "master") return;
  replica_of_ = fmt::format(
      "shard {} is a replica: what is written to it would be lost; make it a primary, or put the address right",
      settings_.shard);
}

void ShardSession::note_server(const Facts& facts) {
  if (!facts.run_id || facts.run_id->empty()) return;
  deployment_.note_server(settings_.shard, fmt::format("{} {}", *facts.run_id, settings_.database), settings_.address);
}

void ShardSession::on_facts(const Facts& facts) {
  if (hold_if_unfit(facts)) return;
  note_role(facts);
  note_server(facts);
  on_topology(facts.topology);
}

void ShardSession::check_again() {
  check_at_ms_ = now_ms_ + settings_.check_ms;
  if (std::exchange(checking_, true)) return;
  send({Sent::Kind::check}, AskFacts{});
}

/// What a server that is in use has become.
void ShardSession::on_check(const Facts& facts) {
  checking_ = false;
  if (hold_if_unfit(facts)) return;
  const TopologyText topology = parse_topology(facts.topology);
  if (topology.kind != TopologyText::Kind::deployment || topology.shard != settings_.shard ||
      topology.layout != settings_.layout || topology.identity != deployment_.identity()) {
    reconnect(fmt::format("shard {} is not what it was: its visits:topology holds '{}'; looking at the shard again",
                          settings_.shard, facts.topology));
    return;
  }
  topology_ = facts.topology;
  made_ = topology.made;
  making_ended_ = false;
  deployment_.saw(settings_.shard, topology);
  note_role(facts);
  say_how_it_is();
  pump();
}

void ShardSession::on_topology(const std::string& text) {
  topology_ = text;
  const TopologyText topology = parse_topology(text);
  deployment_.saw(settings_.shard, topology);
  if (const auto twin = deployment_.twin_of(settings_.shard, topology)) {
    return hold(fmt::format("shard {} ({}) is one server and database with shard {} ({}): give each one of its own",
                            settings_.shard, settings_.address, twin->name, twin->address));
  }
  using Kind = TopologyText::Kind;
  if (topology.kind == Kind::none) return on_no_topology();
  if (topology.kind == Kind::deployment && topology.shard != settings_.shard) {
    return hold(fmt::format(
        "shard {} is another server: its visits:topology says that it is shard {}; put the addresses of both right "
        "(redis.shard)",
        settings_.shard, topology.shard));
  }
  if (topology.kind == Kind::unknown || topology.layout != settings_.layout) {
    return hold(fmt::format(
        "shard {} was laid out as '{}', the settings say '{}': set redis.shards, redis.virtual_nodes and redis.buckets "
        "as they were",
        settings_.shard, topology.kind == Kind::unknown ? text : topology.layout, settings_.layout));
  }
  if (topology.kind == Kind::former) return on_former(topology);
  on_deployment(topology);
}

/// What says that the shard had a topology; empty: nothing. A shard to which this host never wrote a count is not taken
/// for a fresh one: another host may have.
std::string ShardSession::why_topology_is_missed() const {
  if (std::ranges::any_of(buckets_, [&](std::uint32_t bucket) { return !batches_.field(bucket).empty(); })) {
    return "counts were written to it";
  }
  if (!identity_.empty()) {
    return "it was made part of this deployment (this host has written no counts to it; where no other host has, "
           "nothing is lost)";
  }
  return deployment_.made_besides(settings_.shard) ? "the other shards say that the deployment is made" : "";
}

void ShardSession::on_no_topology() {
  if (const std::string why = why_topology_is_missed(); !why.empty() && !accepting_) {
    fault(fmt::format("shard {} has been emptied or replaced: it holds no visits:topology although {}; restore its "
                      "data, or accept it as it is with: {}",
                      settings_.shard, why, accept_command()),
          true);
    return ask_marks({});
  }
  // Not before all shards have answered: one of them may say that the deployment is made, and then this one was
  // emptied.
  if (!deployment_.identity().empty() && (accepting_ || deployment_.all_answered())) {
    return make_topology(deployment_.identity());
  }
  if (deployment_.identity().empty() && deployment_.decided_by(settings_.shard)) return make_topology(new_identity_);
  wait_for_identity();
}

/// A deployment of a version whose buckets had no identity.
void ShardSession::on_former(const TopologyText& topology) {
  if (!identity_.empty() && topology.identity != identity_ && !accepting_) {
    fault(!deployment_identity(identity_).empty()
              ? fmt::format("shard {} was restored from a copy older than the batches that are kept, made by a former "
                            "version; restore a newer copy, or accept it as it is with: {}",
                            settings_.shard, accept_command())
              : fmt::format("shard {} is another server, or was made anew: its identity is {}, and {} was known; put "
                            "the address right, restore its data, or accept it as it is with: {}",
                            settings_.shard, topology.identity, identity_, accept_command()),
          true);
  } else if (deployment_.identity().empty() && !deployment_.decided_by(settings_.shard)) {
    return wait_for_identity();
  }
  ask_marks({});
}

void ShardSession::on_deployment(const TopologyText& topology) {
  if (!deployment_.identity().empty() && topology.identity != deployment_.identity() && !accepting_) {
    fault(fmt::format("shard {} is another server, or was made anew: its identity is {}, and {} was known; put the "
                      "address right, restore its data, or accept it as it is with: {}",
                      settings_.shard, topology.identity, deployment_.identity(), accept_command()),
          true);
  } else {
    deployment_.adopt(topology.identity);
    deployment_.saw(settings_.shard, topology);
  }
  made_ = topology.made;
  stamp_ = stamp_ || !topology.made;
  ask_marks({});
}

void ShardSession::wait_for_identity() {
  step_ = Step::waiting;
  changes_seen_ = deployment_.changes();
  check_at_ms_ = now_ms_ + settings_.check_ms;
  set_state(ShardState::connecting,
            fmt::format("the deployment has no identity yet: waiting for shard {}", deployment_.waits_for()));
}

/// Begins to make the deployment on this shard, where nothing has changed since it was looked at.
void ShardSession::make_topology(const std::string& identity) {
  step_ = Step::topology;
  send({Sent::Kind::topology}, MakeTopology{topology_, to_text({TopologyText::Kind::deployment, identity, false,
                                                                settings_.shard, settings_.layout})});
}

/// Every shard has the identity: from now on one that does not was emptied.
void ShardSession::finish_making() {
  if (making_ended_ || !deployment_.complete()) return;
  making_ended_ = true;
  send({Sent::Kind::made}, MakeTopology{topology_, to_text({TopologyText::Kind::deployment, deployment_.identity(),
                                                            true, settings_.shard, settings_.layout})});
}

void ShardSession::note_identity() {
  deployment_.stamped(settings_.shard);
  if (identity_ == deployment_.bucket_id()) return;
  identity_ = deployment_.bucket_id();
  batches_.note_identity({settings_.shard, identity_});
  batches_.note_identity({deployment_row, identity_});
}

// ---- what it holds of ours

/// Of all its buckets: also of those that we know nothing of.
void ShardSession::ask_marks(const std::string& stamp) {
  const bool stamping = !stamp.empty();
  step_ = stamping ? Step::stamping : Step::marks;
  if (!stamping) {
    differing_.clear();
    repairs_.clear();
  }
  for (std::size_t first = 0; first < buckets_.size(); first += marks_asked_at_once) {
    const std::size_t end = std::min(first + marks_asked_at_once, buckets_.size());
    ++marks_awaited_;
    send({stamping ? Sent::Kind::stamp : Sent::Kind::marks, static_cast<std::uint32_t>(first)},
         AskMarks{{buckets_.begin() + static_cast<std::ptrdiff_t>(first),
                   buckets_.begin() + static_cast<std::ptrdiff_t>(end)},
                  stamp});
  }
  if (marks_awaited_ == 0 && stamping) come_up();
  if (marks_awaited_ == 0 && !stamping) on_marks_known();
}

void ShardSession::on_marks(const Sent& sent, const Marks& marks) {
  --marks_awaited_;
  for (std::size_t i = 0; i < marks.buckets.size(); ++i) on_mark(buckets_[sent.bucket + i], marks.buckets[i]);
  if (marks_awaited_ == 0) on_marks_known();
}

/// Whether the unanswered batch, or the last answered one, left this field.
bool ShardSession::in_batches(std::uint32_t bucket, const std::string& field) const {
  const Batch* const batch = batches_.unanswered(bucket);
  return field == batches_.field(bucket) || (batch != nullptr && field == to_text(batch->mark));
}

void ShardSession::on_mark(std::uint32_t bucket, const Marks::Held& held) {
  if (held.field == not_a_hash) {
    return fault(fmt::format("shard {}: bucket {} is no hash: something else wrote it; remove it or rename it",
                             settings_.shard, bucket),
                 false);
  }
  if (!held.id.empty() && held.id != deployment_.bucket_id() && fault_.empty()) {
    fault(fmt::format("shard {}: bucket {} has the identity '{}' of another deployment, this one's is '{}': put the "
                      "address right, or restore the data that belongs together",
                      settings_.shard, bucket, held.id, deployment_.bucket_id()),
          false);
  }
  if (held.id.empty() && made_ && !accepting_) {
    fault(fmt::format("shard {}: bucket {} has been emptied: it has no identity of a deployment; restore its data, "
                      "or accept it as it is with: {}",
                      settings_.shard, bucket, accept_command()),
          true);
  }
  if (in_batches(bucket, held.field)) return;
  differing_.push_back({bucket, held.field});
  if (auto lost = batches_.lost_since(bucket, held.field)) {
    repairs_[bucket].assign(std::move_iterator(lost->begin()), std::move_iterator(lost->end()));
    return;
  }
  if (accepting_) return;
  Mark ours;
  static_cast<void>(parse_mark(batches_.field(bucket), ours));
  fault(
      fmt::format("shard {}: bucket {} {} (it holds '{}', '{}' was expected). Restore the data that belongs together, "
                  "accept the shard as it is with: {} — or, where the spool is the old copy, stop the "
                  "flusher and start it once with --renew-spool",
                  settings_.shard, bucket, what_happened(held.field, ours, batches_.last_seq(bucket)), held.field,
                  batches_.field(bucket), accept_command()),
      true);
}

void ShardSession::on_marks_known() {
  if (!fault_.empty()) return hold(std::exchange(fault_, {}), fault_acceptable_);
  if (accepting_ && !accept_marks()) return;
  const TopologyText topology = parse_topology(topology_);
  if (topology.kind == TopologyText::Kind::former) {
    return make_topology(deployment_.identity().empty() ? topology.identity : deployment_.identity());
  }
  if (stamp_) return ask_marks(deployment_.bucket_id());
  come_up();
}

/// What the operator was shown is what is there: it is the truth from now on.
bool ShardSession::accept_marks() {
  if (digest_of_differing() != accepted_token_) {
    hold(fmt::format("shard {} has changed since it was accepted; look again with: {}", settings_.shard,
                     accept_command()),
         true);
    return false;
  }
  accepting_ = false;
  stamp_ = true;
  for (const Differing& differing : differing_) {
    if (!repairs_.contains(differing.bucket)) batches_.accept(differing.bucket, differing.field);
  }
  std::vector<bool> ours(batches_.buckets());
  for (const std::uint32_t bucket : buckets_) ours[bucket] = true;
  lookups_.forget_buckets(ours);
  return true;
}

void ShardSession::on_stamped(const Sent& sent, const Marks& marks) {
  --marks_awaited_;
  for (std::size_t i = 0; i < marks.buckets.size(); ++i) {
    if (marks.buckets[i].id == deployment_.bucket_id()) continue;
    return hold(
        fmt::format("shard {}: bucket {} has the identity '{}', not this deployment's '{}': put the address "
                    "right, or restore the data that belongs together",
                    settings_.shard, buckets_[sent.bucket + i], marks.buckets[i].id, deployment_.bucket_id()));
  }
  if (marks_awaited_ == 0) come_up();
}

void ShardSession::come_up() {
  step_ = Step::up;
  up_since_ms_ = now_ms_;
  check_at_ms_ = now_ms_ + settings_.check_ms;
  note_identity();
  for (const std::uint32_t bucket : buckets_) {
    if (repairs_.contains(bucket)) to_send_.push_back(bucket);
  }
  for (const std::uint32_t bucket : buckets_) {
    if (batches_.unanswered(bucket) != nullptr) to_send_.push_back(bucket);
  }
  say_how_it_is();
  pump();
}

// ---- batches and reads

void ShardSession::batch_ready(std::uint32_t bucket) {
  if (step_ != Step::up) return;
  to_send_.push_back(bucket);
  pump();
}

void ShardSession::pump() {
  if (step_ != Step::up || !replica_of_.empty()) return;
  if (!refusal_.empty() && (now_ms_ < retry_at_ms_ || batches_in_flight_ > 0)) return;
  const std::size_t window = refusal_.empty() ? settings_.batches_in_flight : 1;
  while (batches_in_flight_ < window && !to_send_.empty()) {
    const std::uint32_t bucket = to_send_.front();
    to_send_.pop_front();
    send_batch(bucket);
  }
  probing_ = !refusal_.empty() && batches_in_flight_ > 0;
}

/// One at a time of a bucket: first what the shard lost, then what it has not answered.
void ShardSession::send_batch(std::uint32_t bucket) {
  if (sent_here_[bucket]) return;
  const auto lost = repairs_.find(bucket);
  const bool repair = lost != repairs_.end();
  const Batch* const batch = repair ? &lost->second.front() : batches_.unanswered(bucket);
  if (batch == nullptr) return;
  sent_here_[bucket] = true;
  if (!repair) ever_sent_[bucket] = true;
  ++batches_in_flight_;
  statistics_.add(repair ? FlusherStatistic::batches_sent_again : FlusherStatistic::batches_sent);
  send({repair ? Sent::Kind::repair : Sent::Kind::batch, bucket}, SendBatch{batch, deployment_.bucket_id()});
}

bool ShardSession::look_up(std::uint32_t page, std::uint32_t bucket, const std::string& id) {
  // What the shard lost is sent again first.
  if (step_ != Step::up || repairs_.contains(bucket)) return false;
  // A batch that an earlier connection may have executed goes first: then its answer, not a guess, says what the read
  // includes. Where batches wait, the mark that comes with the read says whether it was.
  if (ever_sent_[bucket] && !writes_wait()) send_batch(bucket);
  send({Sent::Kind::count, bucket, page}, AskCount{bucket, id});
  return true;
}

void ShardSession::inspect(std::uint32_t bucket, const std::string& id, Inspection done) {
  if (step_ != Step::up) {
    done(std::nullopt);
    return;
  }
  send({Sent::Kind::inspection, bucket, 0, std::move(done)}, AskCount{bucket, id});
}

void ShardSession::send(Sent sent, const ShardCommand& command) {
  sent_.push_back(std::move(sent));
  port_.send(command);
}

void ShardSession::on_answer(ShardAnswer answer, std::uint64_t now_ms, std::uint64_t unix_now) {
  now_ms_ = now_ms;
  if (sent_.empty()) {
    reconnect(fmt::format("shard {} answered what it was not asked", settings_.shard));
    return;
  }
  const Sent sent = std::move(sent_.front());
  sent_.pop_front();
  if (const auto* refused = std::get_if<Refused>(&answer)) {
    on_refused(sent, without_script(refused->error));
  } else {
    on_sent_answer(sent, std::move(answer), unix_now);
  }
}

void ShardSession::on_sent_answer(const Sent& sent, ShardAnswer answer, std::uint64_t unix_now) {
  switch (sent.kind) {
    case Sent::Kind::facts:
      return on_facts(std::get<Facts>(answer));
    case Sent::Kind::check:
      return on_check(std::get<Facts>(answer));
    case Sent::Kind::topology:
      return on_topology(std::get<Topology>(answer).topology);
    case Sent::Kind::made:
      topology_ = std::get<Topology>(answer).topology;
      made_ = parse_topology(topology_).made;
      deployment_.saw(settings_.shard, parse_topology(topology_));
      return;
    case Sent::Kind::marks:
      return on_marks(sent, std::get<Marks>(answer));
    case Sent::Kind::stamp:
      return on_stamped(sent, std::get<Marks>(answer));
    case Sent::Kind::batch:
      return on_batch_answer(sent.bucket, std::get<BatchAnswer>(answer), unix_now);
    case Sent::Kind::repair:
      return on_repair_answer(sent.bucket, std::get<BatchAnswer>(answer));
    case Sent::Kind::inspection:
      return sent.inspection(std::get<Count>(std::move(answer)));
    case Sent::Kind::count:
      return on_count(sent, std::get<Count>(answer));
  }
}

/// An error is an answer as well: only what was asked is not known.
void ShardSession::on_refused(const Sent& sent, const std::string& error) {
  switch (sent.kind) {
    case Sent::Kind::facts:
    case Sent::Kind::topology:
    case Sent::Kind::marks:
    case Sent::Kind::stamp:
      port_.close();
      return turn_away(fmt::format("shard {} answers: {}", settings_.shard, error));
    case Sent::Kind::check:
      checking_ = false;
      return;
    case Sent::Kind::made:  // tried again after the next look at what the server is
      return;
    case Sent::Kind::batch:
    case Sent::Kind::repair:
      return on_write_refused(sent.bucket, error);
    case Sent::Kind::inspection:
      return sent.inspection(std::nullopt);
    case Sent::Kind::count:
      return lookups_.dropped(sent.page);
  }
}

void ShardSession::on_write_refused(std::uint32_t bucket, const std::string& error) {
  --batches_in_flight_;
  sent_here_[bucket] = false;
  to_send_.push_back(bucket);
  // Batches that were on their way already say nothing new.
  if (refusal_.empty() || std::exchange(probing_, false)) {
    retry_at_ms_ = now_ms_ + write_backoff_.next_ms(first_retry_ms);
  }
  refusal_ = error;
  say_how_it_is();
}

void ShardSession::writes_go_on() {
  reconnect_backoff_.reset();
  probing_ = false;
  write_backoff_.reset();
  if (!std::exchange(refusal_, {}).empty()) say_how_it_is();
  pump();
}

void ShardSession::on_batch_answer(std::uint32_t bucket, const BatchAnswer& answer, std::uint64_t unix_now) {
  --batches_in_flight_;
  switch (answer.kind) {
    case BatchAnswer::Kind::duplicate:
      statistics_.add(FlusherStatistic::batches_duplicate);
      [[fallthrough]];
    case BatchAnswer::Kind::applied:
      sent_here_[bucket] = false;
      ever_sent_[bucket] = false;
      batches_.answered(bucket, answer.totals, now_ms_, unix_now);
      return writes_go_on();
    case BatchAnswer::Kind::have:
      return reconnect(fmt::format("shard {}: bucket {} holds '{}', '{}' was expected; looking at the shard again",
                                   settings_.shard, bucket, answer.have, batches_.field(bucket)));
    case BatchAnswer::Kind::foreign:
      return reconnect(fmt::format("shard {}: bucket {} has the identity '{}', not '{}'; looking at the shard again",
                                   settings_.shard, bucket, answer.have, deployment_.bucket_id()));
    case BatchAnswer::Kind::refused:
      if (answer.bad_pages.empty()) {
        return hold(fmt::format("shard {}: bucket {} cannot be written: {}", settings_.shard, bucket, answer.why));
      }
      sent_here_[bucket] = false;
      ever_sent_[bucket] = false;
      batches_.refused(bucket, answer.bad_pages, answer.why);
      return writes_go_on();
    case BatchAnswer::Kind::moved:
      return hold(fmt::format("shard {}: bucket {} has been moved away: {}", settings_.shard, bucket, answer.why));
  }
}

void ShardSession::on_repair_answer(std::uint32_t bucket, const BatchAnswer& answer) {
  --batches_in_flight_;
  sent_here_[bucket] = false;
  const bool done = answer.kind == BatchAnswer::Kind::applied || answer.kind == BatchAnswer::Kind::duplicate;
  if (!done && (answer.kind != BatchAnswer::Kind::refused || answer.bad_pages.empty())) {
    reconnect(
        fmt::format("shard {} did not take a batch again that it had lost; looking at it once more", settings_.shard));
    return;
  }
  std::deque<Batch>& lost = repairs_[bucket];
  if (done) {
    lost.pop_front();
    if (lost.empty()) repairs_.erase(bucket);
  } else {
    // The rest of it goes under the same mark, which the next one expects.
    batches_.set_aside_of_kept(lost.front(), answer.bad_pages, answer.why);
  }
  to_send_.push_front(bucket);
  writes_go_on();
}

void ShardSession::on_count(const Sent& sent, const Count& count) {
  if (count.id != deployment_.bucket_id()) {
    lookups_.dropped(sent.page);
    reconnect(fmt::format("shard {}: bucket {} has the identity '{}', not '{}'; looking at the shard again",
                          settings_.shard, sent.bucket, count.id, deployment_.bucket_id()));
  } else if (!count.moved.empty()) {
    lookups_.dropped(sent.page);
    hold(fmt::format("shard {}: bucket {} has been moved away: {}", settings_.shard, sent.bucket, count.moved));
  } else if (count.field != batches_.field(sent.bucket)) {
    lookups_.dropped(sent.page);
    // Executed by an earlier connection, and not answered yet, because batches wait.
    if (writes_wait() && in_batches(sent.bucket, count.field)) return;
    reconnect(fmt::format("shard {}: bucket {} holds '{}', '{}' was expected; looking at the shard again",
                          settings_.shard, sent.bucket, count.field, batches_.field(sent.bucket)));
  } else if (!count.readable) {
    lookups_.unreadable(sent.page, now_ms_);
  } else {
    reconnect_backoff_.reset();
    lookups_.counted(sent.page, count.count, now_ms_);
  }
}

}  // namespace visitd
