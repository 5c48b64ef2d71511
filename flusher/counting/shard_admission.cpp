#include "flusher/counting/shard_admission.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace visitd {

ShardAdmission::ShardAdmission(std::string identity, std::string new_identity, Deployment& deployment, Batches& batches,
                               SessionLink& link, ShardMarks& marks, BatchesInFlight& in_flight)
    : identity_(std::move(identity)),
      new_identity_(std::move(new_identity)),
      deployment_(deployment),
      batches_(batches),
      link_(link),
      marks_(marks),
      in_flight_(in_flight) {}

void ShardAdmission::leave() {
  topology_.clear();
  topology_elsewhere_ = false;
  stamp_ = made_ = making_ended_ = knows_layout_ = checking_ = false;
  later_expected_.clear();
}

void ShardAdmission::ask() {
  link_.begin(SessionLink::Step::facts);
  link_.ask<Facts>(AskFacts{}, [this](const Facts& facts) { on_facts(facts); });
}

void ShardAdmission::ask_when_due() {
  if (deployment_.changes() != changes_seen_ || link_.now_ms() >= check_at_ms_) ask();
}

void ShardAdmission::check_when_due() {
  if (link_.now_ms() >= check_at_ms_) {
    check_at_ms_ = link_.now_ms() + link_.settings().check_ms;
    if (!std::exchange(checking_, true)) {
      link_.send(AskFacts{}, [this](ShardAnswer answer) { on_check(std::move(answer)); });
    }
  }
  if (!made_) finish_making();
  note_identity();
}

// ---- whether the server is fit

std::string why_unfit(std::string_view server, const Facts& facts, bool accept_eviction, bool accept_no_append_only) {
  if (!accept_eviction && facts.maxmemory_policy && *facts.maxmemory_policy != "noeviction") {
    return fmt::format(
        "{} evicts keys when its memory is full (maxmemory-policy is {}): counts would be lost; set maxmemory-policy "
        "to "
        "noeviction, or accept it with redis.accept_eviction = true",
        server, *facts.maxmemory_policy);
  }
  if (!accept_no_append_only && facts.append_only && *facts.append_only != "yes") {
    return fmt::format(
        "{} has no append-only file: a restart of it would lose counts; set appendonly to yes, or accept it with "
        "redis.accept_no_append_only = true",
        server);
  }
  return {};
}

bool ShardAdmission::hold_if_unfit(const Facts& facts) {
  const SessionSettings& settings = link_.settings();
  const std::string unfit = why_unfit(fmt::format("shard {}", settings.shard), facts, settings.accept_eviction,
                                      settings.accept_no_append_only);
  if (unfit.empty()) {
    if ((!facts.maxmemory_policy || !facts.append_only) && !std::exchange(warned_, true)) {
      link_.port().warn(fmt::format(
          "shard {} does not say how it is set up (neither CONFIG nor INFO tells {}): make sure that it evicts no keys "
          "and has an append-only file",
          settings.shard, facts.maxmemory_policy ? "appendonly" : "maxmemory-policy"));
    }
    return false;
  }
  link_.port().unfit(unfit);
  link_.hold(unfit);
  return true;
}

void ShardAdmission::note_role(const Facts& facts) {
  const bool replica = facts.role && *facts.role != "master";
  in_flight_.set_replica(
      replica ? fmt::format("shard {} is a replica: what is written to it would be lost; make it a primary, or put the "
                            "address right",
                            link_.settings().shard)
              : std::string());
}

void ShardAdmission::note_server(const Facts& facts) {
  if (!facts.run_id || facts.run_id->empty()) return;
  const SessionSettings& settings = link_.settings();
  deployment_.note_server(settings.shard, fmt::format("{} {}", *facts.run_id, settings.database), settings.address);
}

/// A cluster decides itself where a key is, and a server alone has all of its.
bool ShardAdmission::hold_if_of_other_mode(const Facts& facts) {
  const SessionSettings& settings = link_.settings();
  if (!facts.in_cluster || *facts.in_cluster == settings.in_cluster) return false;
  link_.hold(settings.in_cluster
                 ? fmt::format("node {} is a server of its own, not a node of a cluster: name nodes of a cluster in "
                               "redis.nodes, or set redis.mode to \"shards\" and name the servers in redis.shards",
                               settings.shard)
                 : fmt::format("shard {} ({}) is a node of a cluster, which decides itself where a key is: set "
                               "redis.mode to \"cluster\" and name nodes of it in redis.nodes, or give the shard a "
                               "server of its own",
                               settings.shard, settings.address));
  return true;
}

void ShardAdmission::on_facts(const Facts& facts) {
  server_ = facts;
  if (hold_if_of_other_mode(facts) || hold_if_unfit(facts)) return;
  note_role(facts);
  note_server(facts);
  topology_elsewhere_ = facts.topology_elsewhere;
  if (topology_elsewhere_) return on_topology_elsewhere();
  on_topology(facts.topology);
}

/// What a server that is in use has become.
void ShardAdmission::on_check(ShardAnswer answer) {
  checking_ = false;
  if (!std::holds_alternative<Facts>(answer)) return;
  const Facts facts = std::get<Facts>(std::move(answer));
  server_ = facts;
  if (hold_if_unfit(facts)) return;
  topology_elsewhere_ = facts.topology_elsewhere;
  if (topology_elsewhere_) {
    note_role(facts);
    in_flight_.say_how_it_is();
    return in_flight_.pump();
  }
  follow_topology(facts.topology);
  if (!link_.is_up()) return;
  note_role(facts);
  in_flight_.say_how_it_is();
  in_flight_.pump();
}

void ShardAdmission::follow_topology(const std::string& text) {
  const SessionSettings& settings = link_.settings();
  const TopologyText topology = parse_topology(text);
  const bool ours = topology.kind == TopologyText::Kind::deployment && topology.shard == link_.name_in_topology() &&
                    topology.identity == deployment_.identity();
  if (ours && topology.version > settings.version) {
    topology_ = text;
    knows_layout_ = false;
    return link_.port().layout_changed(topology.layout);
  }
  const bool is_told = ours && topology.layout == settings.layout;
  if (is_told && !later_expected_.empty()) return link_.reconnect(std::exchange(later_expected_, {}));
  if (!is_told && (!ours || topology.version == settings.version)) {
    return link_.reconnect(
        fmt::format("shard {} is not what it was: its visits:topology holds '{}'; looking at the shard again",
                    settings.shard, text));
  }
  topology_ = text;
  made_ = topology.made;
  making_ended_ = false;
  deployment_.saw(settings.shard, topology);
  knows_layout_ = is_told;
  if (!is_told) tell_layout();
}

/// If the server is just being asked what it is, it is asked again: it has answered for the former layout so far.
void ShardAdmission::take_layout() {
  using Step = SessionLink::Step;
  later_expected_.clear();
  knows_layout_ = link_.is_up() && parse_topology(topology_).layout == link_.settings().layout;
  if (knows_layout_) return;
  if (link_.is_up()) {
    tell_layout();
  } else if (link_.step() != Step::away && link_.step() != Step::connecting) {
    link_.look_again();
  }
}

void ShardAdmission::tell_layout() {
  link_.send(topology_of(deployment_.identity(), true), [this](const ShardAnswer& answer) {
    // Without one it is told again after the next look at what the server is.
    if (const auto* const held = std::get_if<Topology>(&answer)) follow_topology(held->topology);
  });
}

void ShardAdmission::expect_later_layout(std::string why) {
  if (!link_.is_up()) return link_.reconnect(why);
  later_expected_ = std::move(why);
  check_at_ms_ = link_.now_ms();
}

// ---- who it is

void ShardAdmission::on_topology(const std::string& text) {
  const SessionSettings& settings = link_.settings();
  topology_ = text;
  const TopologyText topology = parse_topology(text);
  deployment_.saw(settings.shard, topology);
  if (const auto twin = settings.in_cluster ? std::nullopt : deployment_.twin_of(settings.shard, topology)) {
    return link_.hold(
        fmt::format("shard {} ({}) is one server and database with shard {} ({}): give each one of its own",
                    settings.shard, settings.address, twin->name, twin->address));
  }
  using Kind = TopologyText::Kind;
  if (topology.kind == Kind::none) return on_no_topology();
  if (topology.kind == Kind::newer) {
    return link_.hold(
        fmt::format("shard {} belongs to a deployment of a newer version of visitd, which this one cannot read (its "
                    "visits:topology says '{}'): install that version on this host too",
                    settings.shard, text));
  }
  if (topology.kind == Kind::deployment && topology.shard != link_.name_in_topology()) {
    return link_.hold(fmt::format(
        "shard {} is another server: its visits:topology says that it is shard {}; put the addresses of both right "
        "(redis.shard)",
        settings.shard, topology.shard));
  }
  if (topology.kind == Kind::deployment && follow_layout(topology)) return;
  if (topology.kind == Kind::unknown || topology.layout != settings.layout) {
    return link_.hold(fmt::format(
        "shard {} was laid out as '{}', the settings say '{}': set redis.shards, redis.virtual_nodes and redis.buckets "
        "as they were",
        settings.shard, topology.kind == Kind::unknown ? text : topology.layout, settings.layout));
  }
  if (topology.kind == Kind::former) return on_former(topology);
  on_deployment(topology);
}

/// The later layout holds. A shard that has an earlier one was away, or lost its tail.
bool ShardAdmission::follow_layout(const TopologyText& topology) {
  const SessionSettings& settings = link_.settings();
  const std::string& ours = deployment_.identity();
  if (topology.version == settings.version || (!ours.empty() && topology.identity != ours)) return false;
  if (topology.version > settings.version) {
    link_.begin(SessionLink::Step::topology);
    link_.port().layout_changed(topology.layout);
  } else {
    make_topology(topology.identity);
  }
  return true;
}

/// What says that the shard had a topology; empty: nothing. A shard to which this host never wrote a count is not taken
/// for a fresh one: another host may have.
std::string ShardAdmission::why_topology_is_missed() const {
  if (std::ranges::any_of(marks_.buckets(), [&](std::uint32_t bucket) { return !batches_.field(bucket).empty(); })) {
    return "counts were written to it";
  }
  if (!identity_.empty()) {
    return "it was made part of this deployment (this host has written no counts to it; where no other host has, "
           "nothing is lost)";
  }
  return deployment_.made_besides(link_.settings().shard) ? "the other shards say that the deployment is made" : "";
}

void ShardAdmission::on_no_topology() {
  const std::string& shard = link_.settings().shard;
  // Also where a former part of the deployment had its name: what comes here comes with its move.
  if (link_.settings().joins) {
    return deployment_.identity().empty() ? wait_for_identity() : make_topology(deployment_.identity());
  }
  if (const std::string why = why_topology_is_missed(); !why.empty() && !marks_.is_accepting()) {
    marks_.fault(fmt::format("shard {} has been emptied or replaced: it holds no visits:topology although {}; restore "
                             "its data, or accept it as it is with: {}",
                             shard, why, link_.accept_command()),
                 true);
    return ask_marks();
  }
  // Not before all shards have answered: one of them may say that the deployment is made, and then this one was
  // emptied.
  const bool all_answered = link_.settings().in_cluster || deployment_.all_answered();
  if (!deployment_.identity().empty() && (marks_.is_accepting() || all_answered)) {
    return make_topology(deployment_.identity());
  }
  if (deployment_.identity().empty() && link_.settings().in_cluster) return make_topology(new_identity_);
  if (deployment_.identity().empty() && deployment_.decided_by(shard)) return make_topology(new_identity_);
  wait_for_identity();
}

/// What the deployment is, the node says that holds it; or the spool knows that it was made.
void ShardAdmission::on_topology_elsewhere() {
  TopologyText elsewhere;
  elsewhere.kind = TopologyText::Kind::elsewhere;
  deployment_.saw(link_.settings().shard, elsewhere);
  made_ = deployment_.is_made() || !identity_.empty();
  if (deployment_.identity().empty() || (!made_ && !deployment_.is_begun())) return wait_for_identity();
  stamp_ = !made_;
  ask_marks();
}

/// A deployment of a version whose buckets had no identity.
void ShardAdmission::on_former(const TopologyText& topology) {
  const std::string& shard = link_.settings().shard;
  if (!identity_.empty() && topology.identity != identity_ && !marks_.is_accepting()) {
    marks_.fault(!deployment_identity(identity_).empty()
                     ? fmt::format("shard {} was restored from a copy older than the batches that are kept, made by a "
                                   "former version; restore a newer copy, or accept it as it is with: {}",
                                   shard, link_.accept_command())
                     : fmt::format("shard {} is another server, or was made anew: its identity is {}, and {} was "
                                   "known; put the address right, restore its data, or accept it as it is with: {}",
                                   shard, topology.identity, identity_, link_.accept_command()),
                 true);
  } else if (deployment_.identity().empty() && !deployment_.decided_by(shard)) {
    return wait_for_identity();
  }
  ask_marks();
}

void ShardAdmission::on_deployment(const TopologyText& topology) {
  const std::string& shard = link_.settings().shard;
  if (!deployment_.identity().empty() && topology.identity != deployment_.identity() && !marks_.is_accepting()) {
    marks_.fault(fmt::format("shard {} is another server, or was made anew: its identity is {}, and {} was known; put "
                             "the address right, restore its data, or accept it as it is with: {}",
                             shard, topology.identity, deployment_.identity(), link_.accept_command()),
                 true);
  } else {
    deployment_.adopt(topology.identity);
    deployment_.saw(shard, topology);
  }
  made_ = topology.made;
  stamp_ = stamp_ || !topology.made;
  ask_marks();
}

void ShardAdmission::wait_for_identity() {
  link_.begin(SessionLink::Step::waiting);
  changes_seen_ = deployment_.changes();
  check_at_ms_ = link_.now_ms() + link_.settings().check_ms;
  link_.set_state(ShardState::connecting, link_.settings().in_cluster
                                              ? "waiting for the node of the cluster that serves visits:topology"
                                              : fmt::format("the deployment has no identity yet: waiting for shard {}",
                                                            deployment_.waits_for()));
}

// ---- the deployment is made on it

/// Where nothing has changed since the shard was looked at.
MakeTopology ShardAdmission::topology_of(const std::string& identity, bool made) const {
  const SessionSettings& settings = link_.settings();
  return {topology_, to_text({TopologyText::Kind::deployment, identity, made, link_.name_in_topology(), settings.layout,
                              settings.version})};
}

void ShardAdmission::make_topology(const std::string& identity) {
  link_.begin(SessionLink::Step::topology);
  // Shards change only once every bucket has the identity.
  link_.ask<Topology>(topology_of(identity, link_.settings().version > 1),
                      [this](const Topology& held) { on_topology(held.topology); });
}

void ShardAdmission::change_layout(const std::string& layout, std::uint64_t version, Changed done) {
  TopologyText next = parse_topology(topology_);
  next.layout = layout;
  next.version = version;
  next.made = true;
  link_.send(MakeTopology{topology_, to_text(next)}, [this, done = std::move(done)](const ShardAnswer& answer) {
    const auto* held = std::get_if<Topology>(&answer);
    if (held == nullptr) return done(std::nullopt);
    const TopologyText topology = parse_topology(held->topology);
    if (topology.version > link_.settings().version) {
      topology_ = held->topology;
      knows_layout_ = false;
    }
    done(topology);
  });
}

/// Every bucket has the identity: from now on one that does not was emptied.
void ShardAdmission::finish_making() {
  if (making_ended_ || topology_elsewhere_ || !knows_layout_ || !deployment_.complete()) return;
  making_ended_ = true;
  link_.send(topology_of(deployment_.identity(), true), [this](ShardAnswer answer) {
    const auto* held = std::get_if<Topology>(&answer);
    if (held == nullptr) return;  // tried again after the next look at what the server is
    topology_ = held->topology;
    const TopologyText topology = parse_topology(topology_);
    made_ = topology.made;
    deployment_.saw(link_.settings().shard, topology);
  });
}

void ShardAdmission::ask_marks() {
  marks_.ask(made_, [this] { on_marks_known(); });
}

void ShardAdmission::on_marks_known() {
  if (marks_.hold_if_faulty()) return;
  if (marks_.is_accepting()) {
    if (!marks_.take_accepted()) return;
    stamp_ = true;
  }
  go_on();
}

void ShardAdmission::go_on() {
  const TopologyText topology = parse_topology(topology_);
  if (topology.kind == TopologyText::Kind::former) {
    return make_topology(deployment_.identity().empty() ? topology.identity : deployment_.identity());
  }
  if (stamp_) return marks_.stamp([this] { come_up(); });
  come_up();
}

void ShardAdmission::come_up() {
  link_.come_up();
  knows_layout_ = true;
  check_at_ms_ = link_.now_ms() + link_.settings().check_ms;
  note_identity();
  in_flight_.begin();
}

void ShardAdmission::note_identity() {
  if (identity_ == deployment_.bucket_id()) return;
  // Of a cluster, what is noted says that every bucket of it has the identity.
  if (link_.settings().in_cluster && !deployment_.is_made()) return;
  identity_ = deployment_.bucket_id();
  batches_.note_identity({link_.name_in_topology(), identity_});
  batches_.note_identity({deployment_row, identity_});
}

}  // namespace visitd
