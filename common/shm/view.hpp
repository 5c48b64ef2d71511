// A view of the counts: what readers see of the flusher's state. One writer changes it a store at a time; a reader
// takes a snapshot that is right at one moment, or takes it again; a writer that dies between any two stores holds up
// nobody.
//
// Memory orders: every shared store is a release, every load an acquire in the order in which a read is written below,
// but the last look at version and active, which is ordered by the acquires before it. The names W1… and R1… pair them:
//   R1 active     ↔ the store that shows a view
//   R2 version    ↔ W2 (odd, after the note), W4 (even, after the change), W7 (moved by two, after an unlink)
//   R3 the note   ↔ W1 (a note newer than the version that was read means that the version has moved too: R7 sees it)
//   R4 links      ↔ W6 (an entry that is found is whole)
//   R5 the entry  ↔ W3, W5 (a newer value, or a reused cell, makes R7 see the odd version, or W7)
//   R6 applied    ↔ W3 (the same)
//   R7 version and active again
//
// The further cells of a long page id are like its node: filled (W5) before the entry can be found (W6), used again
// only after its chain has moved (W7). A reader follows as many of them as the id needs that it looks for, each number
// within the bound (R5). Over a cell that is used again it compares other bytes, or comes to no cell of the view: then
// it says that this is another page, and R7 has it look again.
//
// One file, though a long one: writer and reader are understood only side by side.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "common/os/invariant.hpp"
#include "common/shm/cache_layout.hpp"

namespace visitd {

/// Pointers into one view of a cache segment (or into a test's memory).
struct ViewMemory {
  CacheShape shape;
  std::byte* start = nullptr;

  [[nodiscard]] Word& applied(std::uint64_t lane) const noexcept { return word(0, lane, max_lanes); }
  [[nodiscard]] UndoNote& undo() const noexcept { return *reinterpret_cast<UndoNote*>(start + shape.undo_offset()); }
  [[nodiscard]] Word& version(std::uint64_t chain) const noexcept {
    return word(shape.versions_offset(), chain, shape.chains());
  }
  [[nodiscard]] Word& first(std::uint64_t chain) const noexcept {
    return word(shape.firsts_offset(), chain, shape.chains());
  }
  [[nodiscard]] Word& answered(std::uint64_t bucket) const noexcept {
    return word(shape.answered_offset(), bucket, shape.buckets);
  }
  [[nodiscard]] std::span<Word> cell(std::uint64_t n) const noexcept {
    must_hold(n <= shape.entries, "a cell is one of the view's");
    return {reinterpret_cast<Word*>(start + shape.cells_offset() + n * shape.cell_bytes()), shape.cell_words()};
  }
  [[nodiscard]] NodeHead& node(std::uint64_t n) const noexcept { return *reinterpret_cast<NodeHead*>(cell(n).data()); }
  /// The room for a page in a node.
  [[nodiscard]] std::span<Word> page_room(std::uint64_t n) const noexcept {
    return cell(n).subspan(sizeof(NodeHead) / sizeof(Word));
  }

  /// Goes through the first `words` words of the page of node n: take(part, from) gets the part of them that begins
  /// with number `from`. False: `take` said so, or they lead to no cell of the view.
  template <typename Take>
  [[nodiscard]] bool each_part(std::uint64_t n, std::size_t words, Take take) const {
    std::span<Word> room = page_room(n);
    std::size_t from = 0;
    while (words - from > room.size()) {
      if (!take(room.first(room.size() - 1), from)) return false;
      from += room.size() - 1;
      const std::uint64_t further = room.back().load(std::memory_order_acquire);
      if (further == 0 || further > shape.entries) return false;
      room = cell(further);
    }
    return take(room.first(words - from), from);
  }

  /// Whether node n holds this page (R5, or the writer's own look).
  [[nodiscard]] bool is_page(std::uint64_t n, std::uint64_t hash, std::string_view page) const noexcept {
    const NodeHead& head = node(n);
    if (head.hash.load(std::memory_order_acquire) != hash ||
        head.page_length.load(std::memory_order_acquire) != page.size()) {
      return false;
    }
    return each_part(n, words_for(page.size()), [page](std::span<const Word> part, std::size_t from) {
      for (std::size_t i = 0; i < part.size(); ++i) {
        if (part[i].load(std::memory_order_acquire) != text_word(page, from + i)) return false;
      }
      return true;
    });
  }

 private:
  [[nodiscard]] Word& word(std::size_t offset, std::uint64_t i, std::uint64_t bound) const noexcept {
    must_hold(i < bound, "an index into a view is below its bound");
    return reinterpret_cast<Word*>(start + offset)[i];
  }
};

/// What stands between two stores in production: nothing. A test puts its kill here.
struct NoStep {
  void operator()() const noexcept {}
};

/// The writing end of one view: the flusher's, one thread. `Step` is called before every store.
template <typename Step = NoStep>
class ViewWriter {
 public:
  using Node = std::uint32_t;  ///< number of a cell; 0: none

  explicit ViewWriter(ViewMemory memory, Step step = {}) : view_(memory), step_(std::move(step)) {}

  /// Empties the view, which must not be the one shown. Lives of a view differ by `active` alone.
  void clear(std::span<const std::uint64_t> applied) {
    const CacheShape& shape = view_.shape;
    for (std::uint64_t c = 0; c < shape.chains(); ++c) {
      set(view_.version(c), 2);
      set(view_.first(c), 0);
    }
    for (std::uint64_t b = 0; b < shape.buckets; ++b) set(view_.answered(b), 0);
    for (std::uint64_t lane = 0; lane < max_lanes; ++lane)
      set(view_.applied(lane), lane < applied.size() ? applied[lane] : 0);
    set(view_.undo().node, 0);
    entries_ = 0;
    free_.clear();
    for (Node n = shape.entries; n >= 1; --n) free_.push_back(n);
  }

  [[nodiscard]] Node find(std::uint64_t hash, std::string_view page) const noexcept {
    Node n = static_cast<Node>(own(view_.first(chain_of(hash))));
    while (n != 0 && !view_.is_page(n, hash, page)) n = static_cast<Node>(own(view_.node(n).next));
    return n;
  }

  /// Whether an entry of a page id of so many bytes can be linked.
  [[nodiscard]] bool has_room(std::size_t page_length) const noexcept {
    return view_.shape.cells_for(page_length) <= free_.size();
  }
  [[nodiscard]] std::size_t entries() const noexcept { return entries_; }

  /// Makes an entry of a page that has none, with what is pending. Only where it has room. `fix`, here and below: the
  /// number of the bucket's last correction that the base includes; 0: none.
  Node link(std::uint64_t hash, std::string_view page, std::uint64_t base, std::uint64_t expires,
            std::uint64_t inflight, std::uint64_t open, CountState state = CountState::fine, std::uint64_t fix = 0) {
    const Node n = take_cell();
    NodeHead& node = view_.node(n);
    set(node.hash, hash);  // W5: all fields, before the entry can be found
    set(node.page_length, page.size());
    fill(n, page);
    set(node.base, base);
    set(node.expires, expires);
    set(node.inflight, inflight);
    set(node.open, open);
    set(node.state, state_word(state, fix));
    Word& first = view_.first(chain_of(hash));
    set(node.next, own(first));
    set(first, n);  // W6
    ++entries_;
    return n;
  }

  /// Removes an entry, before anything else changes.
  void unlink(Node n) {
    const std::uint64_t chain = chain_of(own(view_.node(n).hash));
    Word* previous = &view_.first(chain);
    while (own(*previous) != n) previous = &view_.node(own(*previous)).next;
    set(*previous, own(view_.node(n).next));
    set(view_.version(chain),
        own(view_.version(chain)) + 2);  // W7: a reader that stands on one of its cells starts again
    free_cells(n);
    --entries_;
  }

  /// A lane's position moves past records of pages that have no entry.
  void set_applied(std::uint64_t lane, std::uint64_t position) {
    must_hold(applied(lane) <= position, "applied never goes back");
    set(view_.applied(lane), position);
  }
  [[nodiscard]] std::uint64_t applied(std::uint64_t lane) const noexcept { return own(view_.applied(lane)); }

  /// Visits of an entry's page are counted, and their lane's position moves, in one change.
  void apply(Node n, std::uint64_t visits, std::uint64_t lane, std::uint64_t position) {
    must_hold(applied(lane) <= position, "applied never goes back");
    change(n, lane, [&](NodeHead& node) {
      set(node.open, own(node.open) + visits);
      set(view_.applied(lane), position);
    });
  }

  /// Visits that came out of no lane are counted.
  void give(Node n, std::uint64_t visits) {
    change(n, no_lane, [&](NodeHead& node) { set(node.open, own(node.open) + visits); });
  }

  /// Visits move from open to inflight.
  void seal(Node n, std::uint64_t visits) {
    change(n, no_lane, [&](NodeHead& node) {
      set(node.inflight, own(node.inflight) + visits);
      set(node.open, own(node.open) - visits);
    });
  }

  /// Visits that were inflight are part of base from now on. A damaged count stays so until Redis is asked again, and
  /// is asked as soon as before.
  void acknowledge(Node n, std::uint64_t visits, std::uint64_t base, std::uint64_t expires, std::uint64_t fix = 0) {
    change(n, no_lane, [&](NodeHead& node) {
      set(node.base, base);
      if (!is_damaged_state(own(node.state))) set(node.expires, expires);
      set(node.inflight, own(node.inflight) - visits);
      if (fix > fix_in_state(own(node.state))) set(node.state, (own(node.state) & 0xffU) | fix << 8U);
    });
  }

  /// What Redis says now: a count.
  void refresh(Node n, std::uint64_t base, std::uint64_t expires, std::uint64_t fix = 0) {
    change(n, no_lane, [&](NodeHead& node) {
      set(node.base, base);
      set(node.expires, expires);
      // Last: who takes over a change that was not finished shows no number that Redis did not say.
      set(node.state, state_word(CountState::fine, std::max(fix, fix_in_state(own(node.state)))));
    });
  }

  /// What Redis says now is no count.
  void damage(Node n, std::uint64_t expires) {
    change(n, no_lane, [&](NodeHead& node) {
      set(node.state, state_word(CountState::damaged, fix_in_state(own(node.state))));
      set(node.expires, expires);
    });
  }

  /// Visits that no shard can take leave the count, which is damaged until Redis says a count again.
  void set_aside(Node n, std::uint64_t inflight) {
    change(n, no_lane, [&](NodeHead& node) {
      set(node.state, state_word(CountState::damaged, fix_in_state(own(node.state))));
      set(node.expires, 0);
      set(node.inflight, own(node.inflight) - inflight);
    });
  }

  [[nodiscard]] std::uint64_t base(Node n) const noexcept { return own(view_.node(n).base); }
  [[nodiscard]] std::uint64_t expires(Node n) const noexcept { return own(view_.node(n).expires); }
  [[nodiscard]] bool is_damaged(Node n) const noexcept { return is_damaged_state(own(view_.node(n).state)); }
  [[nodiscard]] std::uint64_t fix(Node n) const noexcept { return fix_in_state(own(view_.node(n).state)); }
  /// What becomes of the base now that Redis says `count`: it does not fall where a shard has lost visits of other
  /// hosts for now. One that somebody mended or corrected since is taken as it stands.
  [[nodiscard]] std::uint64_t base_after(Node n, std::uint64_t count, std::uint64_t fix_now) const noexcept {
    return is_damaged(n) || fix_now > fix(n) ? count : std::max(count, base(n));
  }

  /// The bucket's newest batch whose pages begin to move to base.
  void note_answered(std::uint64_t bucket, std::uint64_t seq) { set(view_.answered(bucket), seq); }

  [[nodiscard]] const ViewMemory& memory() const noexcept { return view_; }

 private:
  [[nodiscard]] std::uint64_t chain_of(std::uint64_t hash) const noexcept { return hash & (view_.shape.chains() - 1); }
  [[nodiscard]] static std::uint64_t own(const Word& word) noexcept { return word.load(std::memory_order_relaxed); }
  void set(Word& word, std::uint64_t value) {
    step_();
    word.store(value, std::memory_order_release);
  }

  Node take_cell() {
    must_hold(!free_.empty(), "an entry is linked where it has room");
    const Node n = free_.back();
    free_.pop_back();
    return n;
  }
  /// Writes the page of node n, with the cells that it needs further.
  void fill(Node n, std::string_view page) {
    std::span<Word> room = view_.page_room(n);
    std::size_t from = 0;
    while (words_for(page.size()) - from > room.size()) {
      const std::size_t part = room.size() - 1;
      for (std::size_t i = 0; i < part; ++i) set(room[i], text_word(page, from + i));
      from += part;
      const Node further = take_cell();
      set(room.back(), further);
      room = view_.cell(further);
    }
    for (std::size_t i = 0; from + i < words_for(page.size()); ++i) set(room[i], text_word(page, from + i));
  }
  /// The cells of an entry that is unlinked can be used again.
  void free_cells(Node n) {
    const std::uint32_t cells = view_.shape.cells_for(own(view_.node(n).page_length));
    std::span<Word> room = view_.page_room(n);
    free_.push_back(n);
    for (std::uint32_t further = 1; further < cells; ++further) {
      free_.push_back(static_cast<Node>(own(room.back())));
      room = view_.cell(free_.back());
    }
  }

  template <typename Stores>
  void change(Node n, std::uint64_t lane, Stores stores) {
    NodeHead& node = view_.node(n);
    UndoNote& undo = view_.undo();
    set(undo.node, n);  // W1
    set(undo.base, own(node.base));
    set(undo.expires, own(node.expires));
    set(undo.inflight, own(node.inflight));
    set(undo.open, own(node.open));
    set(undo.state, own(node.state));
    set(undo.lane, lane);
    if (lane != no_lane) set(undo.applied, own(view_.applied(lane)));
    Word& version = view_.version(chain_of(own(node.hash)));
    set(version, own(version) + 1);  // W2: odd
    stores(node);                    // W3
    set(version, own(version) + 1);  // W4: even
  }

  ViewMemory view_;
  Step step_;
  std::vector<Node> free_;
  std::size_t entries_ = 0;
};

/// What one try to read an entry came to.
enum class SnapshotOutcome { entry, absent, again };

/// An entry and every lane's position, of one moment.
struct Snapshot {
  std::uint64_t base = 0;
  std::uint64_t expires = 0;
  std::uint64_t inflight = 0;
  std::uint64_t open = 0;
  std::uint64_t state = 0;  ///< see state_word()
  std::uint64_t applied[max_lanes] = {};

  [[nodiscard]] bool is_damaged() const noexcept { return is_damaged_state(state); }
  /// The page's count, with its visits that stand in the lanes. nullopt: it has none, damaged or past what Redis holds.
  [[nodiscard]] std::optional<std::uint64_t> count_with(std::uint64_t visits) const noexcept {
    std::uint64_t count = 0;
    for (const std::uint64_t part : {base, inflight, open, visits}) {
      if (part > count_limit - count) return std::nullopt;
      count += part;
    }
    return is_damaged() ? std::nullopt : std::optional(count);
  }
};

/// The longest chain a reader follows: far beyond any that a seeded hash makes.
inline constexpr std::uint32_t chain_limit = 256;

/// A number that differs once an entry of the page's chain was made, changed or removed, or another view is shown. A
/// reader that waits compares it with the one from before, and takes a snapshot where they differ.
[[nodiscard]] inline std::uint64_t chain_mark(const Word& active_word, std::span<const ViewMemory, 2> views,
                                              std::uint64_t hash) noexcept {
  const std::uint64_t active = active_word.load(std::memory_order_acquire);  // as R1
  if (active == 0) return 0;
  const ViewMemory& view = views[active & 1U];
  const std::uint64_t chain = hash & (view.shape.chains() - 1);
  // As R2 and R4: version counts changes and removals, first changes with each new entry. Only a hint: none of the
  // three says anything of the count.
  const std::uint64_t version = view.version(chain).load(std::memory_order_acquire);
  return (version * 0x9e3779b97f4a7c15U ^ view.first(chain).load(std::memory_order_acquire)) * 0x9e3779b97f4a7c15U ^
         active;
}

/// One try to read a page's entry from the view shown. `views[0]`, `views[1]`: the cache's two. `again`: the flusher
/// was changing just this chain. With no view shown yet it is `absent`, and `applied` is all zero.
[[nodiscard]] inline SnapshotOutcome take_snapshot(const Word& active_word, std::span<const ViewMemory, 2> views,
                                                   std::uint64_t hash, std::string_view page,
                                                   Snapshot& snapshot) noexcept {
  const std::uint64_t active = active_word.load(std::memory_order_acquire);  // R1
  if (active == 0) {
    std::fill(std::begin(snapshot.applied), std::end(snapshot.applied), 0);
    return SnapshotOutcome::absent;
  }
  const ViewMemory& view = views[active & 1U];
  const std::uint64_t cells = view.shape.entries;
  const std::uint64_t chain = hash & (view.shape.chains() - 1);
  const std::uint64_t version = view.version(chain).load(std::memory_order_acquire);  // R2
  bool found = false;
  std::uint64_t lane = no_lane;
  std::uint64_t lane_applied = 0;
  if ((version & 1U) != 0) {  // being changed, perhaps by a flusher that is dead: as it was before
    const UndoNote& undo = view.undo();
    const std::uint64_t n = undo.node.load(std::memory_order_acquire);  // R3
    lane = undo.lane.load(std::memory_order_acquire);
    lane_applied = undo.applied.load(std::memory_order_acquire);
    snapshot.base = undo.base.load(std::memory_order_acquire);
    snapshot.expires = undo.expires.load(std::memory_order_acquire);
    snapshot.inflight = undo.inflight.load(std::memory_order_acquire);
    snapshot.open = undo.open.load(std::memory_order_acquire);
    snapshot.state = undo.state.load(std::memory_order_acquire);
    if (n == 0 || n > cells) return SnapshotOutcome::again;
    found = view.is_page(n, hash, page);  // only a linked entry is ever changed: its page is whole
  }
  if (!found) {
    std::uint32_t steps = 0;
    for (std::uint64_t n = view.first(chain).load(std::memory_order_acquire); n != 0;  // R4
         n = view.node(n).next.load(std::memory_order_acquire)) {
      if (n > cells || ++steps > chain_limit)
        return SnapshotOutcome::again;  // over a reused cell: another chain, or a circle
      if (!view.is_page(n, hash, page)) continue;
      const NodeHead& node = view.node(n);
      snapshot.base = node.base.load(std::memory_order_acquire);  // R5
      snapshot.expires = node.expires.load(std::memory_order_acquire);
      snapshot.inflight = node.inflight.load(std::memory_order_acquire);
      snapshot.open = node.open.load(std::memory_order_acquire);
      snapshot.state = node.state.load(std::memory_order_acquire);
      found = true;
      break;
    }
  }
  for (std::uint32_t l = 0; l < view.shape.lanes; ++l) {  // R6: after the entry, before any tail
    snapshot.applied[l] = view.applied(l).load(std::memory_order_acquire);
  }
  if (lane < view.shape.lanes) snapshot.applied[lane] = lane_applied;
  if (view.version(chain).load(std::memory_order_relaxed) != version ||  // R7
      active_word.load(std::memory_order_relaxed) != active) {
    return SnapshotOutcome::again;
  }
  return found ? SnapshotOutcome::entry : SnapshotOutcome::absent;
}

}  // namespace visitd
