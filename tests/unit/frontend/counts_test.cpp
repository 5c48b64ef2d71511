#include "frontend/api/counts.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/unit/frontend/frontend_host.hpp"

using namespace visitd;
using test::FrontendHost;
using Kind = CountAnswer::Kind;

namespace {

constexpr std::uint64_t lookup_timeout_ms = 2000;
constexpr std::uint64_t flusher_away_ms = 1000;

/// One frontend, and a flusher that the test plays: its cache shows an empty view.
struct Reading {
  Reading() : Reading(true) {}
  explicit Reading(bool with_cache) : membership(host.settings) {
    host.settings.cache.stale_limit_s = 60;
    if (with_cache) {
      cache = &host.make_cache(membership.ring());
      view.emplace(FrontendHost::show_view(*cache));
      membership.follow_cache();
    }
    counts.emplace(host.settings, membership, host.statistics());
    beat();
  }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;

  /// The flusher lives at this moment.
  void beat() {
    if (cache != nullptr) cache->header().heartbeat_ns.word.store(now_ms * 1'000'000);
  }
  [[nodiscard]] std::uint64_t hash_of(std::string_view page) const {
    return page_hash(page, membership.ring().hash_seed());
  }
  /// The page has an entry, fresh for so long.
  ViewWriter<>::Node link(std::string_view page, std::uint64_t base, std::int64_t ttl_ms, std::uint64_t inflight = 0,
                          std::uint64_t open = 0) {
    const std::uint64_t expires = now_ms + static_cast<std::uint64_t>(ttl_ms);
    return view->link(hash_of(page), page, base, expires, inflight, open);
  }
  void visit(std::string_view page, std::uint32_t visits) {
    REQUIRE(membership.records().publish(RecordKind::visit, page, visits, 0, hash_of(page)) == Published::published);
  }
  [[nodiscard]] CountAnswer read(std::string_view page, CountRead& state) { return counts->read(page, state, now_ms); }
  [[nodiscard]] CountAnswer read(std::string_view page) {
    CountRead state;
    return read(page, state);
  }
  /// The pages that were asked of the flusher since the last look.
  [[nodiscard]] std::vector<std::string> requests() {
    const std::uint64_t tail = membership.lane_header().requests_tail.word.load();
    std::vector<std::string> pages;
    for (const auto& seen : test::records_between(membership.ring().requests(membership.lane()), requests_seen, tail)) {
      CHECK(seen.record.kind == RecordKind::request);
      CHECK(seen.record.page_hash == hash_of(seen.page));
      pages.push_back(seen.page);
    }
    requests_seen = tail;
    return pages;
  }
  /// Parked at first, and again until the deadline; then this is the answer.
  [[nodiscard]] CountAnswer read_until_deadline(std::string_view page) {
    CountRead state;
    for (std::uint64_t waited = 0; waited < lookup_timeout_ms; waited += 100) {
      beat();
      REQUIRE(read(page, state).kind == Kind::parked);
      now_ms += 100;
    }
    beat();
    return read(page, state);
  }

  FrontendHost host;
  RingMembership membership;
  Cache* cache = nullptr;
  std::optional<ViewWriter<>> view;
  std::optional<Counts> counts;
  std::uint64_t now_ms = 1'000'000;
  std::uint64_t requests_seen = 0;
};

using Pages = std::vector<std::string>;

std::string shard_name(const Cache& cache, std::string_view page) {
  return load_text(FrontendHost::shard_of(cache, page).name);
}

}  // namespace

// ---- fresh

TEST_CASE("a fresh count is what Redis holds, what is on its way there, and what stands in the lanes") {
  Reading r;
  r.link("home", 100, 4200, 20, 3);
  r.visit("home", 2);
  r.visit("about", 50);
  const CountAnswer answer = r.read("home");
  CHECK(answer.kind == Kind::fresh);
  CHECK(answer.count == 125);
  CHECK(answer.ttl_s == 5);  // rounded up
  CHECK(answer.served_via == "in-memory");
  CHECK(r.requests().empty());
  CHECK(r.host.statistic(FrontendStatistic::reads) == 1);
  CHECK(r.host.statistic(FrontendStatistic::reads_parked) == 0);
  r.visit("home", 1);
  CHECK(r.read("home").count == 126);
}

TEST_CASE("visits of another frontend count too, and those that are applied count once") {
  Reading r;
  RingMembership other(r.host.settings);
  REQUIRE(other.records().publish(RecordKind::visit, "home", 7, 0, r.hash_of("home")) == Published::published);
  const auto node = r.link("home", 100, 5000);
  CHECK(r.read("home").count == 107);
  r.view->apply(node, 7, other.lane(), other.records().tail());
  CHECK(r.read("home").count == 107);
  CHECK(r.cache->header().head[other.lane()].word.load() == 0);
}

TEST_CASE("a count that had to be asked for names the shard that gave it") {
  Reading r;
  CountRead state;
  CHECK(r.read("home", state).kind == Kind::parked);
  r.link("home", 12, 5000);
  const CountAnswer answer = r.read("home", state);
  CHECK(answer.kind == Kind::fresh);
  CHECK(answer.count == 12);
  CHECK(answer.served_via == shard_name(*r.cache, "home"));
  CHECK(r.read("home").served_via == "in-memory");
  CHECK(r.host.statistic(FrontendStatistic::reads) == 2);
}

TEST_CASE("a count that had to be asked for names the shard also when the read is to ask for others at once") {
  Reading r;
  CountRead state;
  CHECK(r.read("home", state).kind == Kind::parked);
  state.asked_at_ms = 0;  // a list of pages of which some found no room among the requests
  r.link("home", 12, 5000);
  CHECK(r.read("home", state).served_via == shard_name(*r.cache, "home"));
}

TEST_CASE("a list asks for no page before its turn has come, and then at once") {
  Reading r;
  ListTurns& turns = r.counts->list_turns();
  std::optional<ListTurns::Turn> first = turns.wait(1'000'000);
  const ListTurns::Turn second = turns.wait(1);
  CountRead state;
  state.is_of_list = true;
  state.turn = second.number();
  CHECK(r.read("home", state).kind == Kind::parked);
  CHECK_FALSE(state.asked);
  CHECK(state.wants_room);
  CHECK_FALSE(r.counts->concerns(state, r.now_ms));
  first.reset();
  CHECK(r.counts->concerns(state, r.now_ms));
  CHECK(r.read("home", state).kind == Kind::parked);
  CHECK(state.asked);
}

TEST_CASE("a read while the flusher stands in the middle of a change is exact") {
  Reading r;
  const auto node = r.link("home", 100, 5000, 20, 3);
  const ViewMemory view = r.cache->view(1);
  const std::uint64_t chain = r.hash_of("home") & (view.shape.chains() - 1);
  // As a flusher leaves it that dies between the note and the last of its stores.
  UndoNote& undo = view.undo();
  undo.node.store(node);
  undo.base.store(100);
  undo.expires.store(view.node(node).expires.load());
  undo.inflight.store(20);
  undo.open.store(3);
  undo.lane.store(no_lane);
  view.version(chain).store(view.version(chain).load() + 1);
  view.node(node).base.store(120);
  CHECK(r.read("home").count == 123);
}

// ---- asked for ahead

TEST_CASE("a page in use is asked for once in the last fifth of its TTL, and answered from memory all the while") {
  Reading r;
  r.cache->header().ttl_ms.store(5000);
  Counts counts(r.host.settings, r.membership, r.host.statistics());
  const auto read = [&](std::string_view page) {
    CountRead state;
    const CountAnswer answer = counts.read(page, state, r.now_ms);
    CHECK(answer.kind == Kind::fresh);
    CHECK(answer.served_via == "in-memory");
    return answer.count;
  };
  const auto node = r.link("home", 12, 5000);
  r.link("about", 3, 9000);
  r.now_ms += 3999;
  CHECK(read("home") == 12);
  CHECK(r.requests().empty());
  const Doorbell bell = Doorbell::open(r.host.directory.flusher_bell());
  for (int reads = 0; reads < 10; ++reads) {
    r.now_ms += 1;
    CHECK(read("home") == 12);
    CHECK(read("about") == 3);
  }
  CHECK(r.requests() == Pages{"home"});
  CHECK(FrontendHost::was_rung(bell));
  CHECK(r.host.statistic(FrontendStatistic::reads_parked) == 0);
  // The next TTL is another one.
  r.view->refresh(node, 15, r.now_ms + 5000);
  CHECK(read("home") == 15);
  CHECK(r.requests().empty());
  r.now_ms += 4500;
  CHECK(read("home") == 15);
  CHECK(r.requests() == Pages{"home"});
}

// ---- parked

TEST_CASE("a page that is not known is asked for, and again when no answer comes") {
  Reading r;
  const Doorbell bell = Doorbell::open(r.host.directory.flusher_bell());
  CountRead state;
  CHECK(r.read("home", state).kind == Kind::parked);
  CHECK(r.requests() == Pages{"home"});
  CHECK(FrontendHost::was_rung(bell));
  r.now_ms += 249;
  CHECK(r.read("home", state).kind == Kind::parked);
  CHECK(r.requests().empty());
  CHECK_FALSE(FrontendHost::was_rung(bell));
  r.now_ms += 1;
  CHECK(r.read("home", state).kind == Kind::parked);
  CHECK(r.requests() == Pages{"home"});
  CHECK(FrontendHost::was_rung(bell));
  CHECK(r.host.statistic(FrontendStatistic::reads) == 1);
  CHECK(r.host.statistic(FrontendStatistic::reads_parked) == 1);
}

TEST_CASE("an expired count is asked for again, and not answered meanwhile") {
  Reading r;
  r.link("home", 12, 0);
  CountRead state;
  CHECK(r.read("home", state).kind == Kind::parked);
  CHECK(r.requests() == Pages{"home"});
  const auto node = r.view->find(r.hash_of("home"), "home");
  r.view->refresh(node, 15, r.now_ms + 5000);
  CHECK(r.read("home", state).count == 15);
}

TEST_CASE("requests that find no room are posted again, and the flusher is rung all the same") {
  Reading r;
  const Doorbell bell = Doorbell::open(r.host.directory.flusher_bell());
  while (r.membership.requests().publish(RecordKind::request, "other", 0, 0, 1) == Published::published) {
  }
  r.requests_seen = r.membership.requests().tail();
  CountRead state;
  CHECK(r.read("home", state).kind == Kind::parked);
  CHECK(r.requests().empty());
  CHECK(FrontendHost::was_rung(bell));
  r.cache->header().requests_read[0].store(r.membership.requests().tail());
  r.now_ms += 250;
  CHECK(r.read("home", state).kind == Kind::parked);
  CHECK(r.requests() == Pages{"home"});
}

// ---- deadlines

TEST_CASE("at its deadline a read gets the last known count, with its age") {
  Reading r;
  r.link("home", 12, -7000);
  r.visit("home", 3);
  const CountAnswer answer = r.read_until_deadline("home");
  CHECK(answer.kind == Kind::stale);
  CHECK(answer.count == 15);
  CHECK(answer.ttl_s == -9);
  CHECK(answer.served_via == "in-memory");
  CHECK(r.host.statistic(FrontendStatistic::reads_stale) == 1);
}

TEST_CASE("at its deadline a page that is not known is unknown, and never 0") {
  Reading r;
  r.visit("home", 3);
  const CountAnswer answer = r.read_until_deadline("home");
  CHECK(answer.kind == Kind::unknown);
  CHECK(answer.why.ends_with(
      fmt::format("{} ms that http.lookup_timeout_ms allows", r.host.settings.http.lookup_timeout_ms)));
  CHECK(r.host.statistic(FrontendStatistic::reads_unknown) == 1);
}

TEST_CASE("a last known count has its limit") {
  Reading r;
  r.link("home", 12, -59'000 + 2000);
  CHECK(r.read_until_deadline("home").kind == Kind::stale);
  r.link("old", 12, -60'000);
  CHECK(r.read_until_deadline("old").kind == Kind::unknown);
}

// ---- shards

TEST_CASE("of a shard that is down or held the last known count is given at once, and only of that one") {
  for (const ShardState state : {ShardState::down, ShardState::held}) {
    Reading r;
    r.link("home", 12, 0);
    set_shard_state(FrontendHost::shard_of(*r.cache, "home"), state, "refused");
    const CountAnswer stale = r.read("home");
    CHECK(stale.kind == Kind::stale);
    CHECK(stale.count == 12);
    CHECK(stale.ttl_s == 0);
    CHECK(r.requests().empty());
    // Pages of the same shard that nobody asked for, and of the other one.
    std::optional<std::string> unknown;
    std::optional<std::string> elsewhere;
    for (int i = 0; !unknown || !elsewhere; ++i) {
      std::string page = "page-" + std::to_string(i);
      const bool here = &FrontendHost::shard_of(*r.cache, page) == &FrontendHost::shard_of(*r.cache, "home");
      (here ? unknown : elsewhere) = std::move(page);
    }
    const CountAnswer answer = r.read(*unknown);
    CHECK(answer.kind == Kind::unknown);
    CHECK(answer.why ==
          (state == ShardState::down ? "the page's shard is down" : "the page's shard is held for the operator"));
    CHECK(r.read(*elsewhere).kind == Kind::parked);
    CHECK(r.requests() == Pages{*elsewhere});
    // A count that is fresh is fresh.
    r.link(*unknown, 5, 5000);
    CHECK(r.read(*unknown).kind == Kind::fresh);
  }
}

TEST_CASE("a shard that is not known yet is waited for") {
  Reading r;
  set_shard_state(FrontendHost::shard_of(*r.cache, "home"), ShardState::connecting, "");
  CHECK(r.read("home").kind == Kind::parked);
}

// ---- the flusher

TEST_CASE("while the flusher is away what is known is given at once, and what is not waits for it to return") {
  Reading r;
  r.link("home", 12, 0);
  r.now_ms += flusher_away_ms;
  CHECK(r.read("home").kind == Kind::parked);
  CHECK(r.read("about").kind == Kind::parked);
  r.now_ms += 1;
  CHECK(r.read("home").kind == Kind::stale);
  CHECK(r.read("home").count == 12);
  CHECK(r.read("about").kind == Kind::parked);
  r.now_ms += lookup_timeout_ms - flusher_away_ms;
  const CountAnswer answer = r.read("about");
  CHECK(answer.kind == Kind::unknown);
  CHECK(answer.why == "the flusher is away");
  // Its visits go on counting meanwhile.
  r.visit("home", 5);
  CHECK(r.read("home").count == 17);
}

TEST_CASE("before there is any cache a read waits, and is unknown in the end") {
  Reading r(false);
  r.visit("home", 3);
  CHECK(r.requests().empty());
  const CountAnswer answer = r.read_until_deadline("home");
  CHECK(answer.kind == Kind::unknown);
  CHECK(answer.why == "no flusher has counted yet");
  // A cache that shows no view yet says nothing either.
  r.cache = &r.host.make_cache(r.membership.ring());
  r.beat();
  r.membership.follow_cache();
  CHECK(r.read("home").kind == Kind::parked);
  r.view.emplace(FrontendHost::show_view(*r.cache));
  r.link("home", 10, 5000);
  CHECK(r.read("home").count == 13);
}

TEST_CASE(
    "a read that waits finds the first cache by itself, and looks for it no more often than all ten milliseconds") {
  Reading r(false);
  CountRead state;
  CHECK(r.read("home", state).kind == Kind::parked);
  r.cache = &r.host.make_cache(r.membership.ring());
  r.view.emplace(FrontendHost::show_view(*r.cache));
  r.link("home", 10, 5000);
  r.beat();
  r.now_ms += 9;
  CHECK(r.read("home", state).kind == Kind::parked);
  r.now_ms += 1;
  CHECK(r.read("home", state).count == 10);
}

TEST_CASE("a read finds another cache where the flusher of the former one does not show itself") {
  Reading r;
  r.link("home", 10, 5000);
  CHECK(r.read("home").count == 10);
  r.cache = &r.host.make_cache(r.membership.ring());
  r.view.emplace(FrontendHost::show_view(*r.cache));
  r.link("home", 20, 5000);
  CHECK(r.read("home").count == 10);
  r.now_ms += 500;
  r.beat();
  CHECK(r.read("home").count == 20);
}

TEST_CASE("a shard that is just being connected is asked once it is up, however lately it was asked in vain") {
  Reading r;
  CountRead state;
  CHECK(r.read("home", state).kind == Kind::parked);
  CHECK(r.requests() == Pages{"home"});
  ShardSlot& shard = FrontendHost::shard_of(*r.cache, "home");
  set_shard_state(shard, ShardState::connecting, "");
  CHECK(r.read("home", state).kind == Kind::parked);
  CHECK(r.requests().empty());
  set_shard_state(shard, ShardState::up, "");
  CHECK(r.read("home", state).kind == Kind::parked);
  CHECK(r.requests() == Pages{"home"});
  CHECK(r.host.statistic(FrontendStatistic::reads_parked) == 1);
}

TEST_CASE("a cache that was retired is left for the one in use, within the read") {
  Reading r;
  r.link("home", 10, 5000);
  r.visit("home", 1);
  CHECK(r.read("home").count == 11);
  Cache& former = *r.cache;
  r.cache = &r.host.make_cache(r.membership.ring());
  store_text(r.cache->header().shard[0].name, "redis_a");
  store_text(r.cache->header().shard[1].name, "redis_b");
  r.beat();
  const std::uint64_t tail = r.membership.records().tail();
  r.view.emplace(FrontendHost::show_view(*r.cache, std::array<std::uint64_t, 2>{tail, 0}));
  r.link("home", 20, 5000);
  former.header().retired.word.store(1);
  CHECK(r.read("home").count == 20);
  CHECK(r.membership.cache_changes() == 2);
  CountRead state;
  CHECK(r.read("about", state).kind == Kind::parked);
  r.link("about", 1, 5000);
  CHECK(r.read("about", state).served_via == shard_name(*r.cache, "about"));
}

TEST_CASE("a read that waits looks at no cache that another one has replaced") {
  Reading r;
  CountRead state;
  REQUIRE(r.read("home", state).kind == Kind::parked);
  CHECK_FALSE(r.counts->concerns(state, r.now_ms));
  r.cache->header().retired.word.store(1);
  r.cache = &r.host.make_cache(r.membership.ring());
  r.view.emplace(FrontendHost::show_view(*r.cache));
  r.membership.follow_cache();  // as it does once a second: the former one is attached no more
  CHECK(r.counts->concerns(state, r.now_ms));
  r.counts->gather(std::array<std::string_view, 1>{"home"});
  CHECK(r.counts->ahead("home", r.now_ms) == Counts::Ahead::asked);
}

TEST_CASE("a retired cache without a successor answers nothing") {
  Reading r;
  r.link("home", 10, 5000);
  r.cache->header().retired.word.store(1);
  CHECK(r.read_until_deadline("home").kind == Kind::unknown);
  CHECK(r.host.statistic(FrontendStatistic::snapshots_again) == 0);  // to look for another one costs the loop time
}

TEST_CASE("a chain that cannot be read parks, is asked for, and is unknown in the end") {
  Reading r;
  r.link("home", 10, 5000);
  const ViewMemory view = r.cache->view(1);
  const std::uint64_t chain = r.hash_of("home") & (view.shape.chains() - 1);
  view.undo().node.store(0);
  view.version(chain).store(view.version(chain).load() + 1);
  const CountAnswer answer = r.read_until_deadline("home");
  CHECK(answer.kind == Kind::unknown);
  CHECK(r.host.statistic(FrontendStatistic::snapshots_again) >= 1000);
}

TEST_CASE("a frontend of a ring that has a successor gives no count, be it fresh") {
  Reading r;
  r.link("home", 10, 5000);
  CHECK(r.read("home").kind == Kind::fresh);
  r.membership.ring().header().superseded.store(1);
  const CountAnswer answer = r.read("home");
  CHECK(answer.kind == Kind::unknown);
  CHECK(answer.why == "this frontend is about to leave its ring for a newer one");
}

// ---- damaged

TEST_CASE("a page that Redis cannot count has no number, fresh, stale or with the flusher away") {
  Reading r;
  const auto node = r.link("home", 100, 5000, 1, 2);
  r.view->damage(node, r.now_ms + 5000);
  CHECK(r.read("home").kind == Kind::damaged);
  r.view->damage(node, r.now_ms - 1);
  CountRead state;
  CHECK(r.read("home", state).kind == Kind::parked);  // asked again
  CHECK(r.requests() == Pages{"home"});
  r.now_ms += 100'000;  // and the flusher does not answer
  CHECK(r.read("home", state).kind == Kind::damaged);
  CHECK(r.host.statistics().get(FrontendStatistic::reads_damaged) == 2);
}

TEST_CASE("a sum that passes the most that Redis holds is no number, whichever part carries it there") {
  Reading r;
  r.link("base", count_limit + 1, 5000);
  r.link("inflight", count_limit, 5000, 1);
  r.link("open", count_limit - 1, 5000, 1, 1);
  r.link("lane", count_limit - 2, 5000, 1, 1);
  r.link("huge", count_limit, 5000, ~std::uint64_t{0}, ~std::uint64_t{0});
  for (const char* page : {"base", "inflight", "open", "huge"}) CHECK(r.read(page).kind == Kind::damaged);
  CHECK(r.read("lane").count == count_limit);
  r.visit("lane", 1);
  CHECK(r.read("lane").kind == Kind::damaged);
}
