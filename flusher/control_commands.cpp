#include "flusher/control_commands.hpp"

#include <fmt/ranges.h>

#include "common/os/log.hpp"
#include "flusher/now.hpp"

namespace visitd {

void ControlCommands::handle(const ControlRequest& request, ControlReply reply) {
  switch (request.command) {
    case ControlCommand::flush:
      log::debug("asked to flush");
      flushes_.push_back({engine_.tails(),
                          {},
                          monotonic_ms() + request.timeout_ms,
                          0,
                          statistics_.get(FlusherStatistic::pages_set_aside),
                          std::move(reply)});
      loop_.turn_next();
      return;
    case ControlCommand::page:
      return inspect_page(request.argument, std::move(reply));
    case ControlCommand::accept:
      return accept(request, reply);
    case ControlCommand::change_shards:
      changes_.change(request, std::move(reply));
      loop_.turn_next();
      return;
    case ControlCommand::moves:
      return reply(changes_.progress());
  }
}

/// Without the token of what was offered it only says what would be given up.
void ControlCommands::accept(const ControlRequest& request, const ControlReply& reply) {
  const AcceptOffer offer = engine_.offer(request.argument);
  ControlAnswer answer{true, "", {{"shard", request.argument}, {"token", encode_token(offer.token)}}, {}};
  answer.numbers = {
      {"buckets", offer.buckets}, {"pages", offer.pages}, {"visits", offer.visits}, {"kept_visits", offer.kept_visits}};
  if (request.token) {
    engine_.accept(request.argument, *request.token, now());
    log::warning("shard {} is accepted as it is: the operator said so", request.argument);
    loop_.turn_next();
  }
  reply(std::move(answer));
}

void ControlCommands::inspect_page(const std::string& page, ControlReply reply) {
  const Engine::PageState state = engine_.page_state(page);
  ControlAnswer answer{true, "", {}, {}};
  answer.text = {{"shard", settings_.redis.shards[state.shard].name}, {"known_field", state.field}};
  answer.numbers = {{"bucket", state.bucket}, {"open", state.open}, {"inflight", state.inflight}};
  if (state.set_aside != 0) answer.numbers.emplace_back("set_aside", state.set_aside);
  if (!state.fault.empty()) answer.text.emplace_back("damaged", state.fault);
  if (state.spilled) {
    answer.text.emplace_back("spilled", "open visits of its bucket, maybe of this page, wait in the spool alone");
  }
  engine_.inspect(page, [answer = std::move(answer), reply = std::move(reply)](std::optional<Count> count) mutable {
    if (count && count->readable) {
      answer.numbers.emplace_back("count", count->count);
      answer.text.emplace_back("field", count->field);
    } else {
      answer.text.emplace_back("unreadable", count ? std::string(describe(UncountablePages::Change::unreadable))
                                                   : std::string("the shard cannot be asked now"));
    }
    reply(std::move(answer));
  });
}

void ControlCommands::tell_flushes(Now at) {
  std::erase_if(flushes_, [&](WaitingFlush& waiting) { return tell_flush(waiting, at); });
}

bool ControlCommands::tell_flush(WaitingFlush& waiting, Now at) {
  if (!waiting.flush && engine_.has_applied(waiting.tails)) {
    waiting.visits = statistics_.get(FlusherStatistic::pending_visits);
    waiting.flush = engine_.begin_flush(at);
  }
  if (waiting.flush && engine_.flush_is_done(*waiting.flush)) {
    log::debug("flushed {} visits", waiting.visits);
    ControlAnswer answer{true, "", {}, {{"visits", waiting.visits}}};
    const std::uint64_t aside = statistics_.get(FlusherStatistic::pages_set_aside) - waiting.pages_set_aside;
    if (aside != 0) {
      answer.numbers.emplace_back("pages_set_aside", aside);
      answer.text.emplace_back("set_aside", uncountable_names());
    }
    waiting.reply(std::move(answer));
    return true;
  }
  if (at.ms < waiting.deadline_ms) return false;
  waiting.reply({false, "the flush was not answered in full in time:" + why_late(), {}, {}});
  return true;
}

std::string ControlCommands::why_late() const {
  std::string away;
  for (std::uint32_t shard = 0; shard < settings_.redis.shards.size(); ++shard) {
    if (engine_.shard_state(shard) == ShardState::up) continue;
    away += fmt::format(" shard {} is {};", settings_.redis.shards[shard].name, name_of(engine_.shard_state(shard)));
  }
  return away.empty() ? " the shards are slow" : away;
}

/// The first pages that cannot be counted, for people.
std::string ControlCommands::uncountable_names() const {
  constexpr std::size_t shown = 10;
  std::vector<std::string> pages = engine_.uncountable_pages(shown + 1);
  if (pages.size() > shown) pages.back() = "and others";
  return fmt::format("{}", fmt::join(pages, ", "));
}

}  // namespace visitd
