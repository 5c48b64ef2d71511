#include "flusher/redis/primary_search.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/config/shard_address.hpp"

namespace visitd {

PrimarySearch::Step PrimarySearch::begin() {
  // One that named a server that is away or no primary may be behind the others.
  if (!std::exchange(settled_, false)) asked_ = next();
  primary_.reset();
  refusals_.clear();
  refused_ = 0;
  searching_ = true;
  return Ask{asked_};
}

void PrimarySearch::cancel() noexcept {
  searching_ = false;
  primary_.reset();
}

PrimarySearch::Step PrimarySearch::on_primary(const ServerAddress& primary) {
  if (std::exchange(searching_, false)) {
    primary_ = primary;
    return Connect{primary};
  }
  if (!primary_ || *primary_ == primary) return Nothing{};
  settled_ = true;  // it knows more than others may yet
  return Leave{fmt::format("the sentinel {} says that the primary {} is at {} now",
                           server_text(sentinels_.addresses[asked_]), sentinels_.primary, server_text(primary))};
}

PrimarySearch::Step PrimarySearch::on_no_answer(const std::string& why) {
  const std::size_t refused = std::exchange(asked_, next());
  if (!searching_) return AskLater{asked_};
  // Sentinels of one reason are named together.
  const std::string sentinel = server_text(sentinels_.addresses[refused]);
  const auto same = std::ranges::find(refusals_, why, &Refusal::why);
  if (same == refusals_.end()) {
    refusals_.push_back({sentinel, why});
  } else {
    same->sentinels += ", " + sentinel;
  }
  if (++refused_ < sentinels_.addresses.size()) return Ask{asked_};
  searching_ = false;
  settled_ = true;  // the next search begins where this one did
  std::string reasons;
  for (const Refusal& refusal : refusals_) {
    reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", refusal.sentinels, refusal.why);
  }
  return GiveUp{fmt::format("no sentinel says where the primary {} is ({})", sentinels_.primary, reasons)};
}

}  // namespace visitd
