#include "flusher/counting/shard_marks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "common/os/errors.hpp"
#include "common/shm/cache.hpp"

namespace visitd {

namespace {

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

ShardMarks::ShardMarks(std::span<const std::uint32_t> buckets, const Deployment& deployment, Batches& batches,
                       Lookups& lookups, SessionLink& link, BatchesInFlight& in_flight)
    : buckets_(buckets),
      deployment_(deployment),
      batches_(batches),
      lookups_(lookups),
      link_(link),
      in_flight_(in_flight) {}

void ShardMarks::leave() {
  differing_.clear();
  fault_.clear();
  awaited_ = 0;
}

// ---- what it holds of ours

void ShardMarks::ask(bool stamped, std::function<void()> known) {
  link_.begin(SessionLink::Step::marks);
  differing_.clear();
  in_flight_.forget_repairs();
  stamped_ = stamped;
  ask_all({}, &ShardMarks::on_marks, std::move(known));
}

void ShardMarks::stamp(std::function<void()> done) {
  link_.begin(SessionLink::Step::stamping);
  ask_all(deployment_.bucket_id(), &ShardMarks::on_stamped, std::move(done));
}

void ShardMarks::ask_all(const std::string& stamp, Look look, std::function<void()> done) {
  done_ = std::move(done);
  for (std::size_t first = 0; first < buckets_.size(); first += marks_asked_at_once) {
    const auto asked = buckets_.subspan(first, std::min(marks_asked_at_once, buckets_.size() - first));
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
  for (std::size_t i = 0; i < marks.buckets.size(); ++i) on_mark(buckets_[first + i], marks.buckets[i]);
  looked();
}

bool ShardMarks::was_left(std::uint32_t bucket, const std::string& field) const {
  return field == batches_.field(bucket) || batches_.may_leave(bucket, field);
}

void ShardMarks::on_mark(std::uint32_t bucket, const Marks::Held& held) {
  const std::string& shard = link_.settings().shard;
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
  if (held.id.empty() && stamped_ && !accepting_) {
    fault(fmt::format("shard {}: bucket {} has been emptied: it has no identity of a deployment; restore its data, "
                      "or accept it as it is with: {}",
                      shard, bucket, link_.accept_command()),
          true);
  }
  if (was_left(bucket, held.field)) return batches_.found(bucket, held.field);
  differing_.push_back({bucket, held.field});
  if (auto lost = batches_.lost_since(bucket, held.field)) {
    in_flight_.repair(bucket, std::move(*lost));
    return;
  }
  if (accepting_) return;
  Mark ours;
  static_cast<void>(parse_mark(batches_.field(bucket), ours));
  fault(
      fmt::format("shard {}: bucket {} {} (it holds '{}', '{}' was expected). Restore the data that belongs together, "
                  "accept the shard as it is with: {} — or, where the spool is the old copy, stop the "
                  "flusher and start it once with --renew-spool",
                  shard, bucket, what_happened(held.field, ours, batches_.last_seq(bucket)), held.field,
                  batches_.field(bucket), link_.accept_command()),
      true);
}

void ShardMarks::on_stamped(std::size_t first, const Marks& marks) {
  for (std::size_t i = 0; i < marks.buckets.size(); ++i) {
    if (marks.buckets[i].id == deployment_.bucket_id()) continue;
    return link_.hold(
        fmt::format("shard {}: bucket {} has the identity '{}', not this deployment's '{}': put the address "
                    "right, or restore the data that belongs together",
                    link_.settings().shard, buckets_[first + i], marks.buckets[i].id, deployment_.bucket_id()));
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
  if (fault_.empty()) return false;
  link_.hold(std::exchange(fault_, {}), fault_acceptable_);
  return true;
}

// ---- what the operator decides

void ShardMarks::on_hold(bool acceptable) {
  accepting_ = false;  // what the operator accepted was another look's
  acceptable_ = acceptable;
  token_ = digest_of_differing();
  held_differing_ = std::move(differing_);
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
    if (const auto lost = batches_.lost_since(differing.bucket, differing.field)) {
      for (const Batch& batch : *lost) {
        for (const PageVisits& page : batch.pages) offer.kept_visits += page.visits;
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
  accepted_token_ = token;
  link_.look_again();
}

bool ShardMarks::take_accepted() {
  if (digest_of_differing() != accepted_token_) {
    link_.hold(fmt::format("shard {} has changed since it was accepted; look again with: {}", link_.settings().shard,
                           link_.accept_command()),
               true);
    return false;
  }
  accepting_ = false;
  for (const Differing& differing : differing_) {
    if (!in_flight_.is_repairing(differing.bucket)) batches_.accept(differing.bucket, differing.field);
  }
  std::vector<bool> ours(batches_.buckets());
  for (const std::uint32_t bucket : buckets_) ours[bucket] = true;
  lookups_.forget_buckets(ours);
  return true;
}

std::uint64_t ShardMarks::digest_of_differing() const {
  std::string found;
  for (const Differing& differing : differing_) found += fmt::format("{} {}\n", differing.bucket, differing.field);
  return digest_of(found);
}

}  // namespace visitd
