#include "flusher/control_commands.hpp"

#include <fmt/ranges.h>

#include <algorithm>

#include "common/os/errors.hpp"
#include "common/os/log.hpp"
#include "common/os/text.hpp"
#include "common/os/user_names.hpp"
#include "common/shm/cache_layout.hpp"
#include "common/shm/hash.hpp"
#include "common/shm/page_id.hpp"
#include "flusher/now.hpp"

namespace visitd {

namespace {

ControlRow row_of(const Writer& writer, const std::string& own) {
  ControlRow row{{{"writer", writer.id}}, {}};
  if (!writer.note.host.empty()) {
    row.text.insert(row.text.end(), {{"host", writer.note.host}, {"version", writer.note.version}});
    row.numbers = {{"incarnation", writer.note.incarnation},
                   {"seen_at", writer.note.seen_at},
                   {"wrote_at", writer.wrote_at},
                   {"batches", writer.note.batches},
                   {"buckets", writer.note.buckets}};
  }
  row.numbers.emplace_back("ours", writer.id == own ? 1 : 0);
  if (writer.forgotten) {
    row.text.emplace_back("forgotten_by", writer.forgotten->by);
    row.numbers.emplace_back("forgotten_at", writer.forgotten->at);
  }
  return row;
}

std::string names_text(const std::vector<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

/// What a total and the best pages say alike.
ControlAnswer sums_answer(const BucketSums::Told& told) {
  ControlAnswer answer{true, "", {}, {{"buckets", told.buckets}, {"unknown", told.unknown_buckets}}};
  if (told.unknown_pages != 0) answer.numbers.emplace_back("unknown_pages", told.unknown_pages);
  if (!told.why.empty()) answer.text.emplace_back("why", told.why);
  return answer;
}

constexpr std::size_t longest_import_id = 128;

std::string asker(const ControlRequest& request) {
  if (!request.by.empty()) return request.by;
  return request.user ? user_name(*request.user) : "somebody";
}

PageChange::Kind kind_of(ControlVerb verb) noexcept {
  switch (verb) {
    case ControlVerb::set:
      return PageChange::Kind::set;
    case ControlVerb::add:
      return PageChange::Kind::add;
    case ControlVerb::lower:
      return PageChange::Kind::lower;
    default:
      return PageChange::Kind::take;
  }
}

/// Throws Error where the flusher can take no such change.
PageChange page_change(ControlChange change, std::size_t page_id_limit) {
  const auto check = [&](const std::string& page) {
    const PageIdFault fault = check_page_id(page, page_id_limit);
    if (fault != PageIdFault::none) throw error("'{}': {}", page, describe(fault, page, page_id_limit));
  };
  check(change.page);
  const PageChange::Kind kind = kind_of(change.verb);
  if (kind == PageChange::Kind::take) {
    check(change.operand);
    return {kind, std::move(change.page), 0, std::move(change.operand)};
  }
  const auto count = to_count(change.operand);
  if (!count) throw error("'{}' is no number from 0 to {}", change.operand, count_limit);
  return {kind, std::move(change.page), *count};
}

/// Another one once the writer has begun another life, or somebody has forgotten it.
std::uint64_t token_of(const Writer& writer) {
  return hash_bytes(
      fmt::format("{} {} {}", writer.id, writer.note.incarnation, writer.forgotten ? writer.forgotten->at : 0));
}

}  // namespace

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
      changes_.change(request, reply);
      loop_.turn_next();
      return;
    case ControlCommand::moves:
      return reply(changes_.progress());
    case ControlCommand::shards:
      return list_shards(reply);
    case ControlCommand::writers:
      return list_writers(std::move(reply));
    case ControlCommand::forget:
      return forget(request, std::move(reply));
    case ControlCommand::pages:
      return list_pages(request, reply);
    case ControlCommand::top:
      return find_top(request, reply);
    case ControlCommand::total:
      return add_up(request, reply);
    case ControlCommand::correct:
      return correct(request, std::move(reply));
    case ControlCommand::import:
      return import(request, std::move(reply));
    case ControlCommand::corrections:
      return list_corrections(reply);
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

void ControlCommands::list_shards(const ControlReply& reply) const {
  ControlAnswer answer{true, "", {}, {}};
  for (std::uint32_t shard = 0; shard < settings_.redis.shards.size(); ++shard) {
    const Engine::ShardReport report = engine_.shard_report(shard, now());
    ControlRow row{{{"name", settings_.redis.shards[shard].name}, {"address", report.address}}, {}};
    const auto add = [](auto& values, const char* name, const auto& value) {
      if (value) values.emplace_back(name, *value);
    };
    if (report.server) {
      add(row.text, "role", report.server->role);
      add(row.text, "version", report.server->version);
      add(row.numbers, "memory_bytes", report.server->memory_bytes);
      add(row.numbers, "memory_limit_bytes", report.server->memory_limit_bytes);
    }
    add(row.numbers, "oldest_wait_ms", report.oldest_wait_ms);
    if (report.replicas) {
      row.numbers.insert(row.numbers.end(), {{"replicas_wanted", report.replicas->wanted},
                                             {"replicas_behind_ms", report.replicas->behind_ms}});
      add(row.numbers, "replicas", report.replicas->have);
    }
    add(row.numbers, "latency_us", links_.latency_us(shard));
    answer.rows.push_back(std::move(row));
  }
  reply(std::move(answer));
}

void ControlCommands::list_writers(ControlReply reply) const {
  const WriterBook& book = engine_.writers();
  book.ask([reply = std::move(reply), own = book.self().id](const WriterBook::Told& told) {
    ControlAnswer answer{true, "", {}, {}};
    if (!told.unasked.empty()) answer.text.emplace_back("unasked", names_text(told.unasked));
    for (const auto& [id, writer] : told.list.writers()) answer.rows.push_back(row_of(writer, own));
    reply(std::move(answer));
  });
}

/// Without the token of what was offered it only says which writer that is.
void ControlCommands::forget(const ControlRequest& request, ControlReply reply) {
  const WriterBook& book = engine_.writers();
  if (request.argument == book.self().id) throw Error("this host's own writer counts, and is not forgotten");
  book.ask([this, request, reply = std::move(reply)](const WriterBook::Told& told) {
    const auto known = told.list.writers().find(request.argument);
    if (known == told.list.writers().end()) {
      return reply({false,
                    fmt::format("{} knows no writer {}: `visitctl writers` shows those that there are",
                                told.unasked.empty() ? "no shard" : "no shard that can be asked", request.argument),
                    {},
                    {}});
    }
    const std::uint64_t token = token_of(known->second);
    if (request.token && *request.token != token) {
      const std::string why = fmt::format("writer {} has changed since it was looked at: look again", known->first);
      return reply({false, why, {}, {}});
    }
    if (request.token) return forget_now(request, reply);
    ControlRow offer = row_of(known->second, engine_.writers().self().id);
    if (known->second.note.host.empty()) {
      offer.text.emplace_back("host", "-");
      for (const char* name : {"seen_at", "wrote_at", "batches", "buckets"}) offer.numbers.emplace_back(name, 0);
    }
    offer.text.emplace_back("token", encode_token(token));
    offer.numbers.emplace_back("gone_after_s", settings_.flusher.writer_gone_s);
    reply({true, "", std::move(offer.text), std::move(offer.numbers)});
  });
}

void ControlCommands::forget_now(const ControlRequest& request, ControlReply reply) {
  engine_.writers().forget(request.argument, now().unix, now().ms + request.timeout_ms,
                           [writer = request.argument, reply = std::move(reply)](const Forgetting::Told& forgotten) {
                             log::warning("writer {} is forgotten in {} buckets: the operator said so", writer,
                                          forgotten.buckets);
                             ControlAnswer answer{true, "", {}, {{"taken_out", forgotten.buckets}}};
                             if (!forgotten.left.empty()) answer.text.emplace_back("left", names_text(forgotten.left));
                             reply(std::move(answer));
                           });
}

void ControlCommands::correct(const ControlRequest& request, ControlReply reply) {
  ChangeOrder order{asker(request), {}, now().ms + request.timeout_ms, {}, request.question};
  for (ControlChange& change : decode_changes(request.argument)) {
    order.changes.push_back(page_change(std::move(change), engine_.page_id_limit()));
  }
  engine_.correct(
      std::move(order),
      [reply = std::move(reply)](const std::vector<ChangedPage>& changed) {
        ControlAnswer answer{true, "", {}, {}};
        for (const ChangedPage& page : changed) {
          ControlRow row{{{"page", page.page}}, {{"before", page.before}, {"after", page.after}}};
          if (!page.problem.empty()) row.text.emplace_back("problem", page.problem);
          if (page.is_below_0) row.numbers.emplace_back("below_0", 1);
          answer.rows.push_back(std::move(row));
        }
        reply(std::move(answer));
      },
      now());
  loop_.turn_next();
}

void ControlCommands::import(const ControlRequest& request, ControlReply reply) {
  const std::size_t end = request.argument.find('\n');
  if (end == 0 || end == std::string::npos || end > longest_import_id) {
    throw error("an import begins with a line that is its id, of 1 to {} bytes", longest_import_id);
  }
  ChangeOrder order{asker(request), {}, now().ms + request.timeout_ms, request.argument.substr(0, end)};
  for (ControlChange& change : decode_changes(std::string_view(request.argument).substr(end + 1))) {
    order.changes.push_back(page_change(std::move(change), engine_.page_id_limit()));
  }
  engine_.correct(
      std::move(order),
      [reply = std::move(reply)](const std::vector<ChangedPage>& changed) {
        const auto refused =
            std::ranges::find_if(changed, [](const ChangedPage& page) { return !page.problem.empty(); });
        if (refused != changed.end()) return reply({false, refused->problem, {}, {}});
        reply({true, "", {}, {{"added", changed.size()}}});
      },
      now());
  loop_.turn_next();
}

void ControlCommands::list_corrections(const ControlReply& reply) const {
  ControlAnswer answer{true, "", {}, {}};
  for (const CorrectedPage& page : engine_.corrected()) {
    ControlRow row{{{"by", page.by}, {"page", page.page}}, {{"at", page.at}}};
    const auto difference = static_cast<std::uint64_t>(page.difference);
    row.numbers.emplace_back(page.difference < 0 ? "lost" : "gained", page.difference < 0 ? -difference : difference);
    if (page.count) row.numbers.emplace_back("count", *page.count);
    if (!page.into.empty()) row.text.emplace_back("into", page.into);
    answer.rows.push_back(std::move(row));
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

// ---- what goes through all buckets

void ControlCommands::wait_to_list(const ControlRequest& request, const ControlReply& reply,
                                   std::function<void(std::uint64_t until_ms)> begin) {
  lists_.push_back({std::move(begin), engine_.tails(), monotonic_ms() + request.timeout_ms, reply});
  loop_.turn_next();
}

void ControlCommands::list_pages(const ControlRequest& request, const ControlReply& reply) {
  wait_to_list(
      request, reply,
      [this, reply, from = parse_scan_place(request.argument), bytes = request.answer_bytes](std::uint64_t until_ms) {
        engine_.list_pages(from, until_ms, bytes, [reply](PageScan::Told told) {
          ControlAnswer answer{true, "", {{"lines", std::move(told.lines)}}, {}};
          if (!told.next.empty()) answer.text.emplace_back("next", std::move(told.next));
          answer.numbers = {{"buckets", told.buckets}, {"finished", told.finished}};
          reply(std::move(answer));
        });
      });
}

void ControlCommands::find_top(const ControlRequest& request, const ControlReply& reply) {
  std::uint32_t limit = 0;
  if (!parse_decimal(request.argument, limit) || limit == 0 || limit > control_top_pages) {
    throw error("'{}' is refused; allowed: how many pages, 1 to {}", request.argument, control_top_pages);
  }
  wait_to_list(request, reply, [this, reply, limit](std::uint64_t until_ms) {
    engine_.top(limit, until_ms, [reply](BucketSums::Told told) {
      ControlAnswer answer = sums_answer(told);
      for (auto& [page, count] : told.pages) answer.rows.push_back({{{"page", std::move(page)}}, {{"count", count}}});
      reply(std::move(answer));
    });
  });
}

void ControlCommands::add_up(const ControlRequest& request, const ControlReply& reply) {
  wait_to_list(request, reply, [this, reply](std::uint64_t until_ms) {
    engine_.total(until_ms, [reply](const BucketSums::Told& told) {
      ControlAnswer answer = sums_answer(told);
      answer.text.emplace_back("total", told.total.text());
      reply(std::move(answer));
    });
  });
}

// ---- what waits

void ControlCommands::tell(Now at) {
  std::erase_if(lists_, [&](WaitingList& waiting) { return begin_list(waiting, at); });
  std::erase_if(flushes_, [&](WaitingFlush& waiting) { return tell_flush(waiting, at); });
}

bool ControlCommands::begin_list(WaitingList& waiting, Now at) {
  if (at.ms >= waiting.deadline_ms) {
    waiting.reply(passing_refusal("what was recorded before could not be counted in time:" + why_late()));
    return true;
  }
  if (!engine_.has_applied(waiting.tails)) return false;
  try {
    waiting.begin(waiting.deadline_ms);
  } catch (const std::exception& fault) {
    waiting.reply(refusal_of(fault));
  }
  return true;
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
  waiting.reply(passing_refusal("the flush was not answered in full in time:" + why_late()));
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
