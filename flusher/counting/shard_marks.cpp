#include "flusher/counting/shard_marks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <span>
#include <tuple>
#include <utility>

#include "common/os/errors.hpp"
#include "common/shm/cache.hpp"

namespace visitd {

namespace {

// A bucket that moved here and is not here yet comes again from where it was, once somebody looks.
constexpr std::uint64_t arrivals_retry_ms = 100;

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

ShardMarks::ShardMarks(ShardBuckets buckets, Deployment& deployment, Batches& batches, Lookups& lookups,
                       SessionLink& link, BatchesInFlight& in_flight)
    : buckets_(buckets),
      deployment_(deployment),
      batches_(batches),
      lookups_(lookups),
      link_(link),
      in_flight_(in_flight) {}

void ShardMarks::leave() {
  differing_.clear();
  gone_.clear();
  fault_.clear();
  awaited_ = 0;
  asking_arrivals_ = false;
}

// ---- what it holds of ours

void ShardMarks::ask(bool stamped, std::function<void()> known) {
  link_.begin(SessionLink::Step::marks);
  differing_.clear();
  in_flight_.expect_nothing();
  gone_.clear();
  in_flight_.forget_repairs();
  stamped_ = stamped;
  asked_stamped_ = is_stamped();
  ask_all({}, &ShardMarks::on_marks, std::move(known));
}

void ShardMarks::stamp(std::function<void()> done) {
  link_.begin(SessionLink::Step::stamping);
  ask_all(deployment_.bucket_id(), &ShardMarks::on_stamped, std::move(done));
}

void ShardMarks::ask_all(const std::string& stamp, Look look, std::function<void()> done) {
  done_ = std::move(done);
  asked_ = buckets_.all();
  // A bucket that has not come would look as if it had: it brings its identity along.
  if (!stamp.empty()) std::erase_if(asked_, [this](std::uint32_t bucket) { return in_flight_.is_arriving(bucket); });
  for (std::size_t first = 0; first < asked_.size(); first += marks_asked_at_once) {
    const auto asked = std::span(asked_).subspan(first, std::min(marks_asked_at_once, asked_.size() - first));
    ++awaited_;
    link_.ask<Marks>(AskMarks{{asked.begin(), asked.end()}, stamp},
                     [this, first, look](const Marks& marks) { (this->*look)(first, marks); });
  }
  if (awaited_ == 0) std::exchange(done_, {})();
}

void ShardMarks::looked() {
  if (--awaited_ == 0) std::exchange(done_, {})();
}

void ShardMarks::on_marks(std::size_t first, const Marks& marks) {
  for (std::size_t i = 0; i < marks.buckets.size(); ++i) {
    on_mark(asked_[first + i], marks.buckets[i], asked_stamped_);
    if (link_.step() != SessionLink::Step::marks) return;  // one of them led to another look
  }
  looked();
}

void ShardMarks::note_identity(std::uint32_t bucket, const std::string& id) {
  if (!id.empty() && id == deployment_.bucket_id()) deployment_.stamped(bucket);
}

bool ShardMarks::was_left(std::uint32_t bucket, const std::string& field) const {
  return field == batches_.field(bucket) || batches_.may_leave(bucket, field);
}

bool ShardMarks::has_come(std::uint32_t bucket, const Marks::Held& held) {
  if (held.moved.empty()) return !buckets_.moves_here(bucket) || !held.id.empty();
  return !buckets_.moves_here(bucket) && (buckets_.moves_away(bucket) || !may_be_said_elsewhere());
}

/// What was on its way when the marker was seen may be older than the marker: the second look tells.
bool ShardMarks::may_be_said_elsewhere() {
  if (!link_.settings().in_cluster) return false;
  if (!unsaid_since_) unsaid_since_ = deployment_.looks();
  return deployment_.looks() < *unsaid_since_ + 2;
}

void ShardMarks::on_redirect(std::uint32_t bucket, const Redirect& redirect) {
  in_flight_.expect(bucket);
  if (!redirect.once) link_.port().redirected(bucket, redirect.node);
}

bool ShardMarks::is_stamped() const noexcept {
  return stamped_ || (link_.settings().in_cluster && deployment_.is_made());
}

/// A cluster's bucket that comes while the deployment is made may come from a node that had not given it the identity.
std::string ShardMarks::stamp_of_arrivals() const {
  return link_.settings().in_cluster && !is_stamped() ? deployment_.bucket_id() : std::string();
}

void ShardMarks::on_mark(std::uint32_t bucket, const Marks::Held& held, bool stamped) {
  const std::string& shard = link_.settings().shard;
  if (!buckets_.has(bucket)) return;  // it has moved since it was asked for
  if (held.redirect) return on_redirect(bucket, *held.redirect);
  if (held.field == not_a_hash) {
    return fault(
        fmt::format("shard {}: bucket {} is no hash: something else wrote it; remove it or rename it", shard, bucket),
        false);
  }
  if (!held.id.empty() && held.id != deployment_.bucket_id() && fault_.empty()) {
    fault(fmt::format("shard {}: bucket {} has the identity '{}' of another deployment, this one's is '{}': put the "
                      "address right, or restore the data that belongs together",
                      shard, bucket, held.id, deployment_.bucket_id()),
          false);
  }
  if (!held.moved.empty() && buckets_.moves_away(bucket)) return link_.port().moved(bucket, held.moved);
  // Its copy has not come yet, or the shard has lost it: it comes, again, from where it was.
  if (!has_come(bucket, held)) return in_flight_.expect(bucket);
  if (!held.moved.empty()) {
    return fault(fmt::format("shard {}: bucket {} was moved away ({}), which visits:topology does not say: restore the "
                             "data that belongs together",
                             shard, bucket, held.moved),
                 false);
  }
  note_identity(bucket, held.id);
  if (held.id.empty() && stamped && !accepting_) {
    fault(fmt::format("shard {}: bucket {} has been emptied: it has no identity of a deployment; restore its data, "
                      "or accept it as it is with: {}",
                      shard, bucket, link_.accept_command()),
          true);
  }
  compare(bucket, held);
}

/// A tombstone says what the bucket held when somebody forgot this writer: that counts as if it stood there still. If
/// the shard is accepted, it is put back before anything else is sent.
void ShardMarks::compare(std::uint32_t bucket, const Marks::Held& held) {
  const std::string& shard = link_.settings().shard;
  const bool gone = held.field.empty() && !held.gone.empty();
  const std::string& field = gone ? held.gone : held.field;
  std::vector<Batch> again;
  if (gone) {
    auto rejoin = rejoin_of(bucket, field);
    if (!rejoin) {
      return fault(fmt::format("shard {}: bucket {} has the tombstone '{}' of this host, which is no mark: something "
                               "else wrote it; remove that field",
                               shard, bucket, field),
                   false);
    }
    if (!batches_.may_rejoin(bucket, field)) gone_.emplace_back(bucket, field);
    again.push_back(std::move(*rejoin));
  }
  if (!gone) batches_.rejoined(bucket);
  if (was_left(bucket, field)) {
    batches_.found(bucket, field);
  } else {
    auto lost = batches_.lost_since(bucket, field);
    differing_.push_back({bucket, field, lost.has_value()});
    if (lost) {
      again.insert(again.end(), std::move_iterator(lost->begin()), std::move_iterator(lost->end()));
    } else if (!accepting_) {
      Mark ours;
      static_cast<void>(parse_mark(batches_.field(bucket), ours));
      fault(fmt::format(
                "shard {}: bucket {} {} (it holds '{}', '{}' was expected). Restore the data that belongs together, "
                "accept the shard as it is with: {} — or, where the spool is the old copy, stop the "
                "flusher and start it once with --renew-spool",
                shard, bucket, what_happened(field, ours, batches_.last_seq(bucket)), field, batches_.field(bucket),
                link_.accept_command()),
            true);
    }
  }
  if (!again.empty()) in_flight_.repair(bucket, std::move(again));
}

void ShardMarks::arrive(std::uint32_t bucket) {
  in_flight_.expect(bucket);
  arrivals_at_ms_ = 0;
  tick();
}

void ShardMarks::tick() {
  if (!link_.is_up() || in_flight_.arriving().empty() || asking_arrivals_ || link_.now_ms() < arrivals_at_ms_) return;
  asking_arrivals_ = true;
  arrivals_at_ms_ = link_.now_ms() + arrivals_retry_ms;
  std::vector<std::uint32_t> asked;
  for (const std::uint32_t bucket : in_flight_.arriving()) {
    if (asked.size() == marks_asked_at_once) break;
    asked.push_back(bucket);
  }
  AskMarks ask{asked, stamp_of_arrivals()};
  link_.ask<Marks>(ask, [this, asked = std::move(asked), stamped = is_stamped()](const Marks& marks) {
    on_arrivals(asked, marks, stamped);
  });
}

void ShardMarks::on_arrivals(const std::vector<std::uint32_t>& asked, const Marks& marks, bool stamped) {
  asking_arrivals_ = false;
  for (std::size_t i = 0; i < asked.size(); ++i) {
    const std::uint32_t bucket = asked[i];
    const auto& redirect = marks.buckets[i].redirect;
    if (!in_flight_.is_arriving(bucket)) continue;
    if (redirect && redirect->once) {
      link_.port().ask_node(redirect->node, AskMarks{{bucket}, stamp_of_arrivals(), true},
                            [this, bucket, now_stamped = is_stamped()](const ShardAnswer& answer) {
                              const auto* const there = std::get_if<Marks>(&answer);
                              if (there != nullptr && link_.is_up())
                                static_cast<void>(on_arrival(bucket, there->buckets.front(), now_stamped));
                            });
    } else if (!on_arrival(bucket, marks.buckets[i], stamped)) {
      return;
    }
  }
  tick();
}

bool ShardMarks::on_arrival(std::uint32_t bucket, const Marks::Held& held, bool stamped) {
  if (!in_flight_.is_arriving(bucket) || !has_come(bucket, held)) return true;
  on_mark(bucket, held, stamped);
  if (hold_if_faulty() || !link_.is_up()) return false;
  if (held.redirect || !buckets_.has(bucket)) return true;
  in_flight_.arrived(bucket);
  link_.port().arrived(bucket);
  return true;
}

void ShardMarks::on_stamped(std::size_t first, const Marks& marks) {
  for (std::size_t i = 0; i < marks.buckets.size(); ++i) {
    note_identity(asked_[first + i], marks.buckets[i].id);
    if (marks.buckets[i].id == deployment_.bucket_id() || !buckets_.has(asked_[first + i])) continue;
    if (const auto& redirect = marks.buckets[i].redirect) {
      on_redirect(asked_[first + i], *redirect);
      continue;
    }
    return link_.hold(
        fmt::format("shard {}: bucket {} has the identity '{}', not this deployment's '{}': put the address "
                    "right, or restore the data that belongs together",
                    link_.settings().shard, asked_[first + i], marks.buckets[i].id, deployment_.bucket_id()));
  }
  looked();
}

void ShardMarks::fault(const std::string& why, bool acceptable) {
  if (fault_.empty() || (fault_acceptable_ && !acceptable)) {
    fault_ = why;
    fault_acceptable_ = acceptable;
  }
}

bool ShardMarks::hold_if_faulty() {
  if (!gone_.empty() && (fault_.empty() || fault_acceptable_)) {
    fault_ = fmt::format(
        "shard {} has forgotten this host: somebody said that its writer is gone for good (`visitctl writers forget`); "
        "`visitctl writers` on another host says when, and on which host. Nothing is lost; to have it count on from "
        "where it was: {}",
        link_.settings().shard, link_.accept_command());
    fault_acceptable_ = true;
  }
  if (fault_.empty()) return false;
  link_.hold(std::exchange(fault_, {}), fault_acceptable_);
  return true;
}

// ---- what the operator decides

void ShardMarks::on_hold(bool acceptable) {
  accepting_ = false;  // what the operator accepted was another look's
  acceptable_ = acceptable;
  token_ = digest_of_found();
  given_up_ = digest_of_given_up();
  held_differing_ = std::move(differing_);
  held_gone_ = std::move(gone_);
}

AcceptOffer ShardMarks::offer() const {
  const std::string& shard = link_.settings().shard;
  if (link_.state() != ShardState::held) {
    throw error("shard {} is {}, not held: there is nothing to accept", shard, name_of(link_.state()));
  }
  if (!acceptable_) throw error("shard {} cannot be accepted: {}", shard, link_.why());
  AcceptOffer offer;
  offer.token = token_;
  offer.buckets = held_differing_.size();
  std::vector<bool> differs(batches_.buckets());
  for (const Differing& differing : held_differing_) {
    differs[differing.bucket] = true;
    if (!differing.comes_back) continue;
    if (const auto lost = batches_.lost_since(differing.bucket, differing.field)) {
      for (const Batch& batch : *lost) {
        if (batch.correction) continue;
        for (const Effect& effect : batch.effects) offer.kept_visits += effect.operand;
      }
    }
  }
  std::tie(offer.pages, offer.visits) = lookups_.known_of(differs);
  return offer;
}

void ShardMarks::accept(std::uint64_t token) {
  if (offer().token != token) {
    throw error("shard {} has changed since it was looked at; look again with: {}", link_.settings().shard,
                link_.accept_command());
  }
  accepting_ = true;
  accepted_ = given_up_;
  for (const auto& [bucket, mark] : held_gone_) batches_.allow_rejoin(bucket, mark);
  link_.look_again();
}

bool ShardMarks::take_accepted() {
  if (digest_of_given_up() != accepted_) {
    link_.hold(fmt::format("shard {} has changed since it was accepted; look again with: {}", link_.settings().shard,
                           link_.accept_command()),
               true);
    return false;
  }
  accepting_ = false;
  for (const Differing& differing : differing_) {
    if (!differing.comes_back) batches_.accept(differing.bucket, differing.field);
  }
  std::vector<bool> ours(batches_.buckets());
  for (const std::uint32_t bucket : buckets_.all()) ours[bucket] = true;
  lookups_.forget_buckets(ours);
  return true;
}

std::uint64_t ShardMarks::digest_of_found() const {
  std::string found;
  for (const auto& [bucket, mark] : gone_) found += fmt::format("{} gone {}\n", bucket, mark);
  for (const Differing& differing : differing_) found += fmt::format("{} {}\n", differing.bucket, differing.field);
  return digest_of(found);
}

/// Of what does not come back. The rest needs no decision, and a bucket that is on its way is not found by every look.
std::uint64_t ShardMarks::digest_of_given_up() const {
  std::string found;
  for (const Differing& differing : differing_) {
    if (!differing.comes_back) found += fmt::format("{} {}\n", differing.bucket, differing.field);
  }
  return digest_of(found);
}

}  // namespace visitd
