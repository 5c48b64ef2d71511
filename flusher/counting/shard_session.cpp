#include "flusher/counting/shard_session.hpp"

#include <utility>

namespace visitd {

ShardSession::ShardSession(SessionSettings settings, std::string identity, std::string new_identity,
                           ShardBuckets buckets, Deployment& deployment, Batches& batches, Lookups& lookups,
                           FlusherStatistics statistics, SessionPort& port)
    : buckets_(buckets),
      deployment_(deployment),
      batches_(batches),
      lookups_(lookups),
      link_(std::move(settings), port, *this),
      in_flight_(buckets, deployment, batches, statistics, link_),
      marks_(buckets, deployment, batches, lookups, link_, in_flight_),
      admission_(std::move(identity), std::move(new_identity), deployment, batches, link_, marks_, in_flight_),
      replicas_(buckets, batches, link_, in_flight_) {}

void ShardSession::use(SessionSettings settings) {
  const bool same_layout = settings.layout == link_.settings().layout;
  link_.use(std::move(settings));
  replicas_.use();
  if (!same_layout) admission_.take_layout();
}

// ---- events

void ShardSession::tick(std::uint64_t now_ms) {
  link_.set_time(now_ms);
  switch (link_.step()) {
    case SessionLink::Step::away:
      return link_.connect_when_due();
    case SessionLink::Step::waiting:
      return admission_.ask_when_due();
    case SessionLink::Step::up:
      admission_.check_when_due();
      in_flight_.tick();
      marks_.tick();
      replicas_.tick(admission_.server());
      return;
    default:
      return;
  }
}

void ShardSession::on_answer(const Completion& done, ShardAnswer answer, std::uint64_t now_ms, std::uint64_t unix_now) {
  link_.set_time(now_ms, unix_now);
  done(std::move(answer));
}

void ShardSession::on_broken(const std::string& why, std::uint64_t now_ms) {
  link_.set_time(now_ms);
  link_.on_broken(why);
}

void ShardSession::on_turned_away(const std::string& why, std::uint64_t now_ms) {
  link_.set_time(now_ms);
  link_.turn_away(why);
}

void ShardSession::try_soon(std::uint64_t now_ms) {
  link_.set_time(now_ms);
  link_.try_soon();
  in_flight_.try_soon();
}

void ShardSession::refuse(const std::string& why, std::uint64_t now_ms) {
  link_.set_time(now_ms);
  if (link_.is_up()) in_flight_.refuse(why);
}

void ShardSession::accept(std::uint64_t token, std::uint64_t now_ms) {
  link_.set_time(now_ms);
  marks_.accept(token);
}

void ShardSession::on_leave() {
  noting_ = false;
  in_flight_.leave();
  marks_.leave();
  admission_.leave();
  replicas_.begin_anew();
}

// ---- reads

bool ShardSession::look_up(std::uint32_t page, std::uint32_t bucket, const std::string& id) {
  // What the shard lost is sent again first.
  if (!link_.is_up() || in_flight_.is_repairing(bucket) || in_flight_.is_arriving(bucket)) return false;
  send_if_executed(bucket);
  link_.send(
      AskCount{bucket, id, false, may_be_forgotten(bucket)}, [this, bucket, page, id](const ShardAnswer& answer) {
        const auto* const redirect = std::get_if<Redirect>(&answer);
        if (redirect == nullptr || !redirect->once) return on_look_up(bucket, page, answer);
        link_.port().ask_node(redirect->node, AskCount{bucket, id, true, may_be_forgotten(bucket)},
                              [this, bucket, page](const ShardAnswer& there) { on_look_up(bucket, page, there); });
      });
  return true;
}

/// A batch that an earlier connection may have executed goes first: then its answer, not a guess, says what the read
/// includes. Where batches wait, the mark that comes with the read says whether it was.
void ShardSession::send_if_executed(std::uint32_t bucket) {
  if (in_flight_.may_be_executed(bucket) && !in_flight_.writes_wait()) in_flight_.send(bucket);
}

/// Our field is empty again where the bucket's first batch was executed and this host was forgotten since. After any
/// other batch, an empty field is not what was left.
bool ShardSession::may_be_forgotten(std::uint32_t bucket) const {
  return batches_.field(bucket).empty() && in_flight_.may_be_executed(bucket);
}

void ShardSession::on_look_up(std::uint32_t bucket, std::uint32_t page, const ShardAnswer& answer) {
  const auto* const count = std::get_if<Count>(&answer);
  if (count != nullptr && buckets_.has(bucket) && link_.is_up()) return on_count(bucket, page, *count);
  lookups_.dropped(page);  // also where it has moved since it was asked for
  const auto* const redirect = std::get_if<Redirect>(&answer);
  if (redirect != nullptr && !redirect->once && buckets_.has(bucket)) {
    link_.port().redirected(bucket, redirect->node);
  }
}

void ShardSession::on_count(std::uint32_t bucket, std::uint32_t page, const Count& count) {
  if (!is_as_left(bucket, count)) return lookups_.dropped(page);
  if (!count.readable) return lookups_.unreadable(page, link_.now_ms());
  link_.worked();
  lookups_.counted(page, count.count, count.fix, link_.now_ms());
}

template <typename Read>
bool ShardSession::is_as_left(std::uint32_t bucket, const Read& read) {
  if (read.id != deployment_.bucket_id()) {
    in_flight_.is_foreign(bucket, read.id);
    return false;
  }
  if (!read.moved.empty()) {
    // Where a batch of it is on its way, the batch's answer says so too.
    if (!in_flight_.is_on_its_way(bucket)) link_.port().moved(bucket, read.moved);
    return false;
  }
  if (read.field.empty() && !read.gone.empty()) {
    in_flight_.is_forgotten(bucket);
    return false;
  }
  if (read.field == batches_.field(bucket)) return true;
  // An earlier connection may have executed the batch that waits, and nobody has read its answer yet.
  if (!marks_.was_left(bucket, read.field)) in_flight_.holds_other(bucket, read.field);
  return false;
}

// ---- lists of pages

bool ShardSession::list_pages(const AskPages& asked, std::function<void(SomePages)> done) {
  if (!link_.is_up() || in_flight_.is_repairing(asked.bucket) || in_flight_.is_arriving(asked.bucket)) return false;
  send_if_executed(asked.bucket);
  link_.send(asked, [this, asked, done = std::move(done)](ShardAnswer answer) mutable {
    const auto* const redirect = std::get_if<Redirect>(&answer);
    if (redirect == nullptr || !redirect->once) return done(on_pages(asked.bucket, std::move(answer)));
    // Where a cursor goes on, the other node does not know: it is asked only for a bucket that comes whole.
    if (asked.cursor != 0) return done({});
    AskPages there = asked;
    there.once = true;
    link_.port().ask_node(redirect->node, there,
                          [this, bucket = asked.bucket, done = std::move(done)](ShardAnswer said) {
                            SomePages some = on_pages(bucket, std::move(said));
                            if (some.pages && some.pages->cursor != 0) some.pages.reset();
                            done(std::move(some));
                          });
  });
  return true;
}

ShardSession::SomePages ShardSession::on_pages(std::uint32_t bucket, ShardAnswer answer) {
  if (!buckets_.has(bucket) || !link_.is_up()) return {};
  if (const auto* refused = std::get_if<Refused>(&answer)) return {std::nullopt, refused->error};
  const auto* const redirect = std::get_if<Redirect>(&answer);
  if (redirect != nullptr && !redirect->once) link_.port().redirected(bucket, redirect->node);
  auto* const pages = std::get_if<Pages>(&answer);
  if (pages == nullptr || !is_as_left(bucket, *pages)) return {};
  link_.worked();
  return {std::move(*pages)};
}

// ---- sums

struct ShardSession::AskedSums {
  AskSums asked;
  std::vector<SomeSum> not_asked;  ///< told with the first answer
  std::size_t elsewhere = 0;       ///< answers of other nodes that are to come
  TellSums told;
};

bool ShardSession::ask_sums(AskSums asked, TellSums told) {
  if (!link_.is_up()) return false;
  const auto asking = std::make_shared<AskedSums>();
  for (const std::uint32_t bucket : asked.buckets) {
    if (in_flight_.is_repairing(bucket) || in_flight_.is_arriving(bucket)) {
      asking->not_asked.push_back({bucket});
    } else {
      send_if_executed(bucket);
      asking->asked.buckets.push_back(bucket);
    }
  }
  if (asking->asked.buckets.empty()) return false;
  asking->asked.pages = asked.pages;
  asking->asked.writers = std::move(asked.writers);
  asking->told = std::move(told);
  link_.send(asking->asked, [this, asking](ShardAnswer answer) { on_sums(asking, std::move(answer)); });
  return true;
}

void ShardSession::on_sums(const std::shared_ptr<AskedSums>& asked, ShardAnswer answer) {
  auto* const sums = std::get_if<Sums>(&answer);
  const auto* const refused = std::get_if<Refused>(&answer);
  std::vector<SomeSum> told = std::move(asked->not_asked);
  std::vector<std::pair<std::uint32_t, std::string>> elsewhere;
  for (std::size_t i = 0; i < asked->asked.buckets.size(); ++i) {
    const std::uint32_t bucket = asked->asked.buckets[i];
    if (sums == nullptr) {
      told.push_back({bucket, std::nullopt, refused == nullptr ? std::string() : without_script(refused->error)});
      continue;
    }
    const auto& redirect = sums->buckets[i].redirect;
    if (redirect && redirect->once) {
      elsewhere.emplace_back(bucket, redirect->node);
    } else {
      told.push_back(on_sum(bucket, std::move(sums->buckets[i])));
    }
  }
  asked->elsewhere = elsewhere.size();
  asked->told(told, elsewhere.empty());
  for (const auto& [bucket, node] : elsewhere) {
    link_.port().ask_node(
        node, AskSums{{bucket}, asked->asked.pages, asked->asked.writers, true},
        [this, asked, bucket](ShardAnswer there) { on_sum_elsewhere(asked, bucket, std::move(there)); });
  }
}

void ShardSession::on_sum_elsewhere(const std::shared_ptr<AskedSums>& asked, std::uint32_t bucket, ShardAnswer answer) {
  auto* const sums = std::get_if<Sums>(&answer);
  asked->told({sums == nullptr ? SomeSum{bucket} : on_sum(bucket, std::move(sums->buckets.front()))},
              --asked->elsewhere == 0);
}

ShardSession::SomeSum ShardSession::on_sum(std::uint32_t bucket, Sums::Held held) {
  if (!buckets_.has(bucket) || !link_.is_up()) return {bucket};
  if (held.redirect) {
    if (!held.redirect->once) link_.port().redirected(bucket, held.redirect->node);
    return {bucket};
  }
  if (!held.error.empty()) return {bucket, std::nullopt, without_script(held.error)};
  if (!is_as_left(bucket, held)) return {bucket};
  link_.worked();
  return {bucket, std::move(held)};
}

// ---- writers

void ShardSession::note_writer(NoteWriter note, std::function<void(bool here)> noted) {
  if (!link_.is_up() || in_flight_.writes_wait() || noting_) return;
  noting_ = true;
  link_.send(note, [this, noted = std::move(noted)](const ShardAnswer& answer) {
    if (std::holds_alternative<Lost>(answer)) return;
    noting_ = false;
    const bool here = std::holds_alternative<Noted>(answer);
    if (here || std::holds_alternative<Redirect>(answer)) noted(here);
  });
}

void ShardSession::ask_writers(std::function<void(std::optional<Writers>)> done) {
  if (!link_.is_up()) return done(std::nullopt);
  link_.send(AskWriters{}, [done = std::move(done)](ShardAnswer answer) {
    // Of a cluster, the node that serves visits:writers knows them all.
    if (std::holds_alternative<Redirect>(answer)) return done(Writers{});
    auto* const writers = std::get_if<Writers>(&answer);
    done(writers == nullptr ? std::nullopt : std::optional(std::move(*writers)));
  });
}

void ShardSession::forget(const std::string& writer, std::vector<std::uint32_t> buckets,
                          std::function<void(const ForgottenSome&)> done) {
  ForgetWriter forget{writer, deployment_.bucket_id(), std::move(buckets)};
  link_.send(forget, [this, forget, done = std::move(done)](const ShardAnswer& answer) mutable {
    const auto* const redirect = std::get_if<Redirect>(&answer);
    if (redirect == nullptr || !redirect->once) return done(on_forgotten(forget.buckets, answer));
    forget.once = true;
    link_.port().ask_node(redirect->node, forget,
                          [this, buckets = forget.buckets, done = std::move(done)](const ShardAnswer& there) {
                            done(on_forgotten(buckets, there));
                          });
  });
}

/// A bucket that is on another shard is asked for there.
ShardSession::ForgottenSome ShardSession::on_forgotten(const std::vector<std::uint32_t>& buckets,
                                                       const ShardAnswer& answer) {
  const auto* const redirect = std::get_if<Redirect>(&answer);
  if (redirect != nullptr) {
    for (const std::uint32_t bucket : buckets) {
      if (!redirect->once && buckets_.has(bucket)) link_.port().redirected(bucket, redirect->node);
    }
    return {0, buckets};
  }
  const auto* const forgotten = std::get_if<Forgotten>(&answer);
  if (forgotten == nullptr) return {0, {}, true};
  ForgottenSome some;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    const auto& [kind, marker] = forgotten->buckets[i];
    if (kind == Forgotten::Bucket::Kind::taken_out) ++some.taken_out;
    if (kind == Forgotten::Bucket::Kind::not_now || kind == Forgotten::Bucket::Kind::moved) {
      some.later.push_back(buckets[i]);
    }
    // Where a batch of it is on its way, the batch's answer says so too.
    if (kind == Forgotten::Bucket::Kind::moved && link_.is_up() && buckets_.has(buckets[i]) &&
        !in_flight_.is_on_its_way(buckets[i])) {
      link_.port().moved(buckets[i], marker);
    }
  }
  return some;
}

void ShardSession::inspect(std::uint32_t bucket, const std::string& id, Inspection done) {
  if (!link_.is_up()) return done(std::nullopt);
  const auto tell = [done = std::move(done)](ShardAnswer answer) {
    auto* const count = std::get_if<Count>(&answer);
    done(count == nullptr ? std::nullopt : std::optional(std::move(*count)));
  };
  link_.send(AskCount{bucket, id}, [this, tell, bucket, id](const ShardAnswer& answer) {
    const auto* const redirect = std::get_if<Redirect>(&answer);
    if (redirect == nullptr || !redirect->once) return tell(answer);
    link_.port().ask_node(redirect->node, AskCount{bucket, id, true}, tell);
  });
}

}  // namespace visitd
