// Lanes, a cache, a flusher, a spool and a Redis small enough to be looked at whole after every store. What the flusher
// knows dies with it; spool, Redis, lanes and views stay. Then every page's count must be exact in the view shown.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/counter/count_reader.hpp"
#include "common/shm/lane.hpp"
#include "common/shm/view.hpp"
#include "tests/unit/common/view_memory.hpp"

namespace visitd::test {

/// Thrown in place of a store: the flusher is dead.
struct Killed {};

/// Counts down stores; 0: nobody is killed.
struct KillStep {
  std::uint64_t* stores_left;
  void operator()() const {
    if (*stores_left == 0) return;
    --*stores_left;
    if (*stores_left == 0) throw Killed{};
  }
};

/// One rule of the protocol taken out. `none`: all stand.
enum class Broken {
  none,
  note_after_version,       ///< W1 after W2
  no_note_of_position,      ///< the note names no lane
  no_note_of_base,          ///< the note leaves out the base
  apply_open_first,         ///< open, then applied, and no change around them
  apply_position_first,     ///< applied, then open, and no change around them
  seal_without_change,      ///< inflight, then open, and no change around them
  acknowledge_bare,         ///< base, then inflight, and no change around them
  version_stays_odd,        ///< W4 left out
  link_before_filling,      ///< W6 before W5
  link_before_next,         ///< W6 before the node leads to the rest of its chain
  unlink_cuts_the_chain,    ///< the rest of the chain is hung back in a second store
  unlink_without_version,   ///< W7 left out
  unlink_version_by_one,    ///< W7 odd
  unlink_version_late,      ///< W7 after the node was used again
  build_in_the_shown_view,  ///< recovery clears what readers read
  show_before_building,     ///< active before the entries and positions
  carry_any_base,           ///< recovery takes bases over whatever batch they include
  note_answered_after,      ///< the answered batch is noted after its pages moved
  head_before_commit,       ///< space is freed before the spool has what was in it
};

/// The writer of common/shm/view.hpp, with one rule taken out.
class RuleBreaker : public ViewWriter<KillStep> {
 public:
  RuleBreaker(ViewMemory memory, KillStep step, Broken broken)
      : ViewWriter<KillStep>(memory, step), step_(step), broken_(broken) {}

  void apply(Node n, std::uint64_t visits, std::uint64_t lane, std::uint64_t position) {
    NodeHead& node = memory().node(n);
    const std::uint64_t open = get(node.open) + visits;
    switch (broken_) {
      case Broken::note_after_version:
      case Broken::no_note_of_position:
      case Broken::no_note_of_base:
      case Broken::version_stays_odd:
        begin(n, lane);
        set(node.open, open);
        set(memory().applied(lane), position);
        end(n);
        return;
      // Where each runs on a thread of its own, the yield has readers come between the two also on few cores.
      case Broken::apply_open_first:
        set(node.open, open);
        std::this_thread::yield();
        set(memory().applied(lane), position);
        return;
      case Broken::apply_position_first:
        set(memory().applied(lane), position);
        std::this_thread::yield();
        set(node.open, open);
        return;
      default:
        ViewWriter::apply(n, visits, lane, position);
    }
  }

  void seal(Node n, std::uint64_t visits) {
    if (broken_ != Broken::seal_without_change) return ViewWriter::seal(n, visits);
    NodeHead& node = memory().node(n);
    set(node.inflight, get(node.inflight) + visits);
    set(node.open, get(node.open) - visits);
  }

  void acknowledge(Node n, std::uint64_t visits, std::uint64_t base, std::uint64_t expires) {
    const bool bare = broken_ == Broken::acknowledge_bare;
    if (!bare && broken_ != Broken::no_note_of_base) return ViewWriter::acknowledge(n, visits, base, expires);
    NodeHead& node = memory().node(n);
    if (!bare) begin(n, no_lane);
    set(node.base, base);
    set(node.expires, expires);
    set(node.inflight, get(node.inflight) - visits);
    if (!bare) end(n);
  }

  Node link(std::uint64_t hash, std::string_view page, std::uint64_t base, std::uint64_t expires,
            std::uint64_t inflight, std::uint64_t open) {
    Word& first = memory().first(hash & (memory().shape.chains() - 1));
    const std::uint64_t rest = get(first);
    if (broken_ == Broken::link_before_filling || broken_ == Broken::link_before_next) {
      // The node that will be taken is not known before: fill as the rules say, then take the early store apart.
      const std::uint64_t stores_left = std::exchange(*step_.stores_left, 0);
      const Node n = ViewWriter::link(hash, page, base, expires, inflight, open);
      *step_.stores_left = stores_left;
      NodeHead& node = memory().node(n);
      first.store(rest);
      const std::uint64_t next = node.next.exchange(0);
      const std::uint64_t own_open = node.open.exchange(0);
      const std::uint64_t own_base = node.base.exchange(0);
      if (broken_ == Broken::link_before_filling) {
        set(node.next, next);
        set(first, n);
        set(node.base, own_base);
        set(node.open, own_open);
      } else {
        set(node.base, own_base);
        set(node.open, own_open);
        set(first, n);
        set(node.next, next);
      }
      return n;
    }
    const Node n = ViewWriter::link(hash, page, base, expires, inflight, open);
    if (late_ != nullptr) set(*std::exchange(late_, nullptr), late_version_);
    return n;
  }

  void unlink(Node n) {
    const std::uint64_t chain = get(memory().node(n).hash) & (memory().shape.chains() - 1);
    const std::uint64_t version = get(memory().version(chain));
    if (broken_ == Broken::unlink_cuts_the_chain) {
      Word& first = memory().first(chain);
      const std::uint64_t was = get(first);
      set(first, 0);
      set(first, was);
    }
    ViewWriter::unlink(n);
    if (broken_ == Broken::unlink_without_version) memory().version(chain).store(version);
    if (broken_ == Broken::unlink_version_by_one) memory().version(chain).store(version + 1);
    if (broken_ == Broken::unlink_version_late) {
      memory().version(chain).store(version);
      late_ = &memory().version(chain);
      late_version_ = version + 2;
    }
  }

 private:
  static std::uint64_t get(const Word& word) { return word.load(); }
  void set(Word& word, std::uint64_t value) {
    step_();
    word.store(value);
  }
  Word& version_of(Node n) { return memory().version(get(memory().node(n).hash) & (memory().shape.chains() - 1)); }

  void note(Node n, std::uint64_t lane) {
    const NodeHead& node = memory().node(n);
    UndoNote& undo = memory().undo();
    set(undo.node, n);
    if (broken_ != Broken::no_note_of_base) set(undo.base, get(node.base));
    set(undo.expires, get(node.expires));
    set(undo.inflight, get(node.inflight));
    set(undo.open, get(node.open));
    set(undo.state, get(node.state));
    set(undo.lane, broken_ == Broken::no_note_of_position ? no_lane : lane);
    if (lane != no_lane) set(undo.applied, get(memory().applied(lane)));
  }
  void begin(Node n, std::uint64_t lane) {
    if (broken_ != Broken::note_after_version) note(n, lane);
    set(version_of(n), get(version_of(n)) + 1);
    if (broken_ == Broken::note_after_version) note(n, lane);
  }
  void end(Node n) {
    if (broken_ != Broken::version_stays_odd) set(version_of(n), get(version_of(n)) + 1);
  }

  KillStep step_;
  Broken broken_;
  Word* late_ = nullptr;
  std::uint64_t late_version_ = 0;
};

class ViewWorld {
 public:
  static constexpr std::uint32_t lanes = 3;
  static constexpr std::uint32_t cells = 8;  // of pages that need one to four each
  static constexpr std::size_t pages = 12;

  explicit ViewWorld(std::uint64_t seed, Broken broken = Broken::none, std::uint64_t lane_bytes = 4096)
      : broken_(broken), random_(seed), views_{TestView(shape()), TestView(shape())} {
    for (std::size_t p = 0; p < pages; ++p) {
      // Some ids lie in one cell, some need two, and the longest four.
      const std::size_t longer = p % 4 == 1 ? 300 : p % 6 == 2 ? max_page_id_bytes : p % 7 + 5;
      page_[p].id = std::to_string(p) + "-page";
      page_[p].id.resize(std::max(longer, page_[p].id.size()), 'x');
      page_[p].hash = p % 3 + 16 * (p + 1);  // three chains for all
    }
    for (std::uint32_t l = 0; l < lanes; ++l) {
      lane_[l].records = std::vector<Word>(lane_bytes / 8);
      lane_[l].producer = std::make_unique<LaneProducer>(lane_[l].tail, lane_[l].records, &header_.head[l].word);
    }
  }

  /// One life of a flusher: it starts, and goes on until it is killed in place of some store, or for `actions`.
  void live(std::uint64_t actions, bool killed_at_start, std::uint64_t stores) {
    stores_left_ = killed_at_start ? stores : 0;
    if (current_ != page_none) page_[current_].linked = false;  // or not: the last flusher died over it
    current_ = page_none;
    try {
      recover();
      if (!killed_at_start) stores_left_ = stores;
      for (std::uint64_t i = 0; i < actions; ++i) act();
    } catch (const Killed&) {
      ++kills_;
    }
    stores_left_ = 0;
    writer_.reset();
    if (publishes_) publish_some(random_);  // frontends go on without a flusher
  }

  /// From now on visits come from others who call publish_some, not between what the flusher does.
  void publish_apart() { publishes_ = false; }
  /// A few visits in lanes `first` to `last`. One thread a lane.
  void publish_some(std::mt19937_64& random, std::uint32_t first = 0, std::uint32_t last = lanes - 1) {
    for (std::uint64_t n = random() % 4; n != 0; --n) {
      Page& page = page_[random() % pages];
      const auto visits = static_cast<std::uint32_t>(1 + random() % 3);
      page.attempted += visits;
      if (lane_[first + random() % (last - first + 1)].producer->publish(RecordKind::visit, page.id, visits, 0,
                                                                         page.hash) == Published::published) {
        page.published += visits;
      } else {
        page.attempted -= visits;
      }
    }
  }

  struct Read {
    std::uint64_t count = 0;
    std::uint32_t tries = 0;
    bool known = false;
  };
  /// A reader of its own for each thread or task. `index_limit`, `short_bytes`: see Backlog.
  [[nodiscard]] CountReader reader(std::size_t index_limit = 4096,
                                   std::uint64_t short_bytes = Backlog::usual_short_bytes) const {
    std::vector<Backlog::Lane> lanes_seen;
    for (const Lane& lane : lane_) lanes_seen.push_back({&lane.tail, LaneRecords(lane.records)});
    CountReader reader(std::move(lanes_seen), superseded_, index_limit, short_bytes);
    reader.follow({&header_, header_.head, {views_[0].memory, views_[1].memory}, {}});
    return reader;
  }
  /// Reads a count as a frontend does, while others write.
  [[nodiscard]] Read read(CountReader& reader, std::size_t p) const {
    const CountReader::Reading reading = reader.read(page_[p].hash, page_[p].id, 0);
    if (reading.tries_again >= 1'000) throw std::runtime_error(page_[p].id + ": 1,000 tries were not enough");
    return {reading.count, reading.tries_again + 1, reading.has_entry};
  }
  [[nodiscard]] const std::string& id(std::size_t p) const noexcept { return page_[p].id; }
  [[nodiscard]] std::uint64_t hash(std::size_t p) const noexcept { return page_[p].hash; }

  [[nodiscard]] std::uint64_t published(std::size_t p) const noexcept { return page_[p].published.load(); }
  [[nodiscard]] std::uint64_t attempted(std::size_t p) const noexcept { return page_[p].attempted.load(); }

  /// What is wrong in the view shown; empty: nothing.
  [[nodiscard]] std::string fault() const {
    const std::array<ViewMemory, 2> views{views_[0].memory, views_[1].memory};
    for (std::size_t p = 0; p < pages; ++p) {
      Snapshot snapshot;
      const SnapshotOutcome outcome = take_snapshot(header_.active.word, views, page_[p].hash, page_[p].id, snapshot);
      if (outcome == SnapshotOutcome::again)
        return page_[p].id + ": the read has to be tried again although nobody writes";
      if (outcome == SnapshotOutcome::absent) {
        // Only the page whose entry was just coming or going may be without one.
        if (page_[p].linked && p != current_) return page_[p].id + ": has an entry that is not found";
        continue;
      }
      std::uint64_t count = snapshot.base + snapshot.inflight + snapshot.open;
      for (std::uint32_t l = 0; l < lanes; ++l) {
        if (snapshot.applied[l] < header_.head[l].word.load())
          return "lane " + std::to_string(l) + ": head passed applied";
        count += scan(l, snapshot.applied[l], page_[p]);
      }
      if (count != page_[p].published) {
        return page_[p].id + ": read " + std::to_string(count) + ", recorded " + std::to_string(page_[p].published);
      }
    }
    return {};
  }

  [[nodiscard]] std::uint64_t kills() const noexcept { return kills_; }
  [[nodiscard]] std::uint64_t evictions() const noexcept { return evictions_; }
  [[nodiscard]] std::uint64_t found() const noexcept { return links_; }
  std::uint64_t pick(std::uint64_t below) { return random_() % below; }

 private:
  struct Page {
    std::string id;
    std::uint64_t hash = 0;
    std::atomic<std::uint64_t> published{0};  // the truth
    std::atomic<std::uint64_t> attempted{0};
    bool linked = false;  // in the view shown, as the flusher last did it
    std::uint64_t redis = 0;
    struct {
      std::uint64_t open = 0;
      std::uint64_t inflight = 0;
    } flusher, spool;
    RuleBreaker::Node node = 0;  // the flusher's
  };
  struct Lane {
    Word tail{0};
    std::vector<Word> records;
    std::unique_ptr<LaneProducer> producer;
    std::uint64_t position = 0;  // the flusher's
    std::uint64_t spooled = 0;
  };
  struct Batches {
    std::uint64_t sealed = 0;
    std::uint64_t answered = 0;
  };
  static constexpr std::size_t page_none = pages;

  static CacheShape shape() { return {lanes, cells, 1, max_page_id_bytes}; }

  void step() { KillStep{&stores_left_}(); }
  void store(Word& word, std::uint64_t value) {
    step();
    word.store(value);
  }

  [[nodiscard]] std::uint64_t scan(std::uint32_t l, std::uint64_t position, const Page& page) const {
    const LaneRecords records(lane_[l].records);
    const std::uint64_t tail = lane_[l].tail.load();
    std::uint64_t visits = 0;
    while (position < tail) {
      Record record;
      if (records.read(position, tail, record) != RecordCheck::whole) return ~std::uint64_t{0};
      if (record.kind == RecordKind::visit && record.page_hash == page.hash &&
          records.is_page(position, record, page.id)) {
        visits += record.visits;
      }
      position += record.size;
    }
    return visits;
  }

  void act() {
    if (publishes_) publish_some(random_);
    switch (pick(10)) {
      case 0:
      case 1:
      case 2:
        apply(pick(lanes));
        break;
      case 3:
      case 4:
      case 8:
      case 9:
        look_up(pick(pages));
        break;
      case 5:
        commit();
        break;
      case 6:
        if (batches_.sealed == batches_.answered) seal();
        break;
      default:
        if (batches_.sealed != batches_.answered) answer();
        break;
    }
    current_ = page_none;
  }

  // A burst: pages without an entry move their lane's position once, at its end.
  void apply(std::uint64_t l) {
    Lane& lane = lane_[l];
    const LaneRecords records(lane.records);
    const std::uint64_t tail = lane.tail.load();
    for (int n = 0; n < 4 && lane.position < tail; ++n) {
      Record record;
      if (records.read(lane.position, tail, record) != RecordCheck::whole) throw std::logic_error("a damaged record");
      const std::uint64_t next = lane.position + record.size;
      for (Page& page : page_) {
        if (record.kind != RecordKind::visit || record.page_hash != page.hash) continue;
        page.flusher.open += record.visits;
        if (page.node != 0) writer_->apply(page.node, record.visits, l, next);
      }
      lane.position = next;
    }
    writer_->set_applied(l, lane.position);
  }

  void look_up(std::size_t p) {
    Page& page = page_[p];
    if (batches_.sealed != batches_.answered && redis_seq_ == batches_.sealed) answer();  // batches first, then reads
    if (page.node != 0) {
      writer_->refresh(page.node, page.redis, pick(100));
      return;
    }
    while (!writer_->has_room(page.id.size())) {
      std::size_t victim = pick(pages);
      while (page_[victim].node == 0) victim = (victim + 1) % pages;
      current_ = victim;
      writer_->unlink(std::exchange(page_[victim].node, 0));
      page_[victim].linked = false;
      ++evictions_;
    }
    current_ = p;
    page.node = writer_->link(page.hash, page.id, page.redis, pick(100), page.flusher.inflight, page.flusher.open);
    page.linked = true;
    ++links_;
    current_ = page_none;
  }

  void commit() {
    if (broken_ == Broken::head_before_commit) free_space(&Lane::position);
    step();  // one transaction
    for (Page& page : page_) page.spool = {page.flusher.open, page.flusher.inflight};
    for (Lane& lane : lane_) lane.spooled = lane.position;
    spooled_ = batches_;
    free_space(&Lane::spooled);
  }
  void free_space(std::uint64_t Lane::* up_to) {
    for (std::uint32_t l = 0; l < lanes; ++l) store(header_.head[l].word, lane_[l].*up_to);
  }

  void seal() {
    step();  // durable before anything moves in the view or is sent
    for (Page& page : page_) page.spool = {0, page.flusher.open};
    for (Lane& lane : lane_) lane.spooled = lane.position;
    spooled_ = {batches_.sealed + 1, batches_.answered};
    ++batches_.sealed;
    for (Page& page : page_) {
      const std::uint64_t visits = std::exchange(page.flusher.open, 0);
      page.flusher.inflight = visits;
      if (page.node != 0 && visits != 0) writer_->seal(page.node, visits);
    }
  }

  void answer() {
    step();
    if (redis_seq_ != batches_.sealed) {  // else it has been applied already, and its answer was lost
      redis_seq_ = batches_.sealed;
      for (Page& page : page_) page.redis += page.flusher.inflight;
    }
    if (broken_ != Broken::note_answered_after) writer_->note_answered(0, batches_.sealed);
    for (Page& page : page_) {
      const std::uint64_t visits = std::exchange(page.flusher.inflight, 0);
      if (page.node != 0 && visits != 0) writer_->acknowledge(page.node, visits, page.redis, pick(100));
    }
    if (broken_ == Broken::note_answered_after) writer_->note_answered(0, batches_.sealed);
    batches_.answered = batches_.sealed;
  }

  void recover() {
    const std::uint64_t active = header_.active.word.load();
    const std::uint64_t shown = active & 1U;
    const std::uint64_t built = broken_ == Broken::build_in_the_shown_view && active != 0 ? shown : shown ^ 1U;
    for (Page& page : page_) {
      page.flusher = page.spool;
      page.node = 0;
    }
    for (Lane& lane : lane_) lane.position = lane.spooled;
    batches_ = spooled_;
    if (broken_ == Broken::show_before_building) store(header_.active.word, active + 1);

    writer_ = std::make_unique<RuleBreaker>(views_[built].memory, KillStep{&stores_left_}, broken_);
    std::array<std::uint64_t, lanes> positions{};
    for (std::uint32_t l = 0; l < lanes; ++l) positions[l] = lane_[l].position;
    writer_->clear(positions);
    writer_->note_answered(0, batches_.answered);
    if (active != 0) {
      const ViewMemory& old = views_[shown].memory;
      const ViewWriter<> looks(old);
      const bool same_batch = old.answered(0).load() == batches_.answered;
      for (Page& page : page_) {
        const auto n = looks.find(page.hash, page.id);
        if (n == 0 || !(same_batch || broken_ == Broken::carry_any_base)) continue;
        page.node = writer_->link(page.hash, page.id, looks.base(n), looks.expires(n), page.flusher.inflight,
                                  page.flusher.open);
      }
    }
    if (broken_ != Broken::show_before_building) store(header_.active.word, active + 1);
    for (Page& page : page_) page.linked = page.node != 0;
    free_space(&Lane::spooled);
  }

  Broken broken_;
  std::mt19937_64 random_;
  std::array<TestView, 2> views_;
  CacheHeader header_{};
  Word superseded_{0};
  std::array<Lane, lanes> lane_;
  std::array<Page, pages> page_;
  Batches batches_;
  Batches spooled_;
  std::uint64_t redis_seq_ = 0;
  std::unique_ptr<RuleBreaker> writer_;
  bool publishes_ = true;
  std::uint64_t stores_left_ = 0;
  std::size_t current_ = page_none;
  std::uint64_t kills_ = 0;
  std::uint64_t evictions_ = 0;
  std::uint64_t links_ = 0;
};

}  // namespace visitd::test
