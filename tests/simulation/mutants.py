#!/usr/bin/env python3
"""Takes one rule of the protocol out of the real deciders at a time, builds the simulation with it, and expects that it is found.

usage: mutants.py [--seeds N] [--jobs N] [NAME...]
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
DECIDERS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'flusher/counting').glob('*.cpp'))
SIMULATION = sorted(str(path.relative_to(ROOT)) for path in (ROOT / 'tests/simulation').glob('*.cpp'))
SOURCES = DECIDERS + SIMULATION + ['common/control/page_lines.cpp', 'common/counter/backlog.cpp', 'common/counter/count_reader.cpp'] + [f'common/os/{name}.cpp' for name in ('advice', 'file_lease', 'text', 'wide_sum')] + [
    f'common/shm/{name}.cpp' for name in ('cache', 'hash', 'page_id', 'ring', 'shared_segment')]

# name: (file, what stands there, what stands there without the rule, and so on in pairs)
MUTANTS = {
    'a moved bucket is dropped once its copy is durable': (
        'flusher/counting/bucket_mover.cpp', 'while (!persistence.waits && is_old(', 'while (is_old('),
    'a copy of a former connection is looked for again': (
        'flusher/counting/bucket_mover.cpp', 'oldest.connection == asked.connection', 'true'),
    'a drop is durable before its bucket has moved': (
        'flusher/counting/bucket_mover.cpp', 'disks_[by].drops.push_back({bucket, port_.connection(by)});', '++progress_.moved;'),
    'a copy is on the replicas before its former shard drops it': (
        'flusher/counting/bucket_mover.cpp', 'if (here && *oldest.written > persistence.replicated) break;', ''),
    'replicas that are not there are waited for': (
        'flusher/counting/bucket_mover.cpp', 'if (persistence.replicas >= port_.least_replicas()) {', 'if (true) {'),
    'a correction looks whether its bucket has left': (
        'flusher/counting/batches_in_flight.cpp', '(batch->correction && !may_correct(bucket))', 'false'),
    'a correction has a number that none had before': (
        'flusher/counting/batches_in_flight.cpp', 'link_.unix_ms() + (may_be_there ? 1 : 0)', 'link_.unix_now() + (may_be_there ? 1 : 0)'),
    'what is given is told to who asked for it': (
        'flusher/counting/corrections.cpp', ' && giving.loser == loser;', ';'),
    'every bucket is where it shall be before the end of a change is taken': (
        'flusher/counting/engine_placement.cpp', 'return all_there ? LayoutStep::take : LayoutStep::wait;', 'return LayoutStep::take;'),
    'a mover sends nothing for a former layout': (
        'flusher/counting/bucket_mover.hpp', 'void stop() noexcept { stopped_ = true; }', 'void stop() noexcept {}'),
    'nothing of a bucket is sent before it has come': (
        'flusher/counting/batches_in_flight.cpp', '|| is_arriving(bucket)) return;', ') return;'),
    'a later layout is followed': (
        'flusher/counting/shard_admission.cpp', 'link_.port().layout_changed(topology.layout);\n  } else {', '} else {'),
    'a shard with an earlier layout is told the later one': (
        'flusher/counting/shard_admission.cpp', '} else {\n    make_topology(topology.identity);', '} else {'),
    'a copy that a shard lost comes again': (
        'flusher/counting/shard_marks.cpp', 'if (!has_come(bucket, held)) return in_flight_.expect(bucket);', ''),
    'a bucket that moves follows its slot': (
        'flusher/counting/engine_placement.cpp', 'placement_.follow_slot(bucket, to);', ''),
    'a step goes where the slot is on its way to': (
        'flusher/counting/bucket_mover.cpp', 'if (redirect == nullptr || !redirect->once) return on_step(bucket, shard, then, answer);',
        'return on_step(bucket, shard, then, answer);'),
    'a copy is durable on the node where it is': (
        'flusher/counting/bucket_mover.cpp', 'disks_[copy_on].copies.push_back({bucket, connection});', 'drop(bucket);'),
    'a marker of a node is explained by visits:topology on another one': (
        'flusher/counting/shard_marks.cpp', 'return deployment_.looks() < *unsaid_since_ + 2;', 'return false;'),
    'what joins is not taken for a shard that was emptied': (
        'flusher/counting/shard_admission.cpp', 'if (link_.settings().joins) {', 'if (link_.settings().joins && identity_.empty()) {'),
    'answered batches of a bucket that moves are kept': (
        'flusher/counting/kept_order.cpp', 'if (placement_.moves(entry.bucket)) return true;', ''),
    'the undo note comes before the change': (
        'common/shm/view.hpp', 'set(undo.node, n);', 'if (lane == no_lane) set(undo.node, n);'),
    'an unlink moves the version': (
        'common/shm/view.hpp', 'set(view_.version(chain), own(view_.version(chain)) + 2);', ''),
    'open and applied move in one change': (
        'flusher/counting/drain.cpp', 'if (total.node != 0) view_.apply(total.node, record.visits, lane, next);',
        'if (total.node != 0) view_.apply(total.node, record.visits, lane, view_.applied(lane));'),
    'base and inflight move in one change': (
        'flusher/counting/batches.cpp', 'view_.acknowledge(node, visits, base,',
        'view_.refresh(node, base, expires); view_.acknowledge(node, visits, base,'),
    'an entry is made with what is pending': (
        'flusher/counting/lookups.cpp', 'page.inflight, pending_.shown_open(number),', '0, 0,'),
    'the answered batch is noted before its pages move': (
        'flusher/counting/batches.cpp', 'view_.note_answered(number, batch.mark.seq);', ''),
    'bases come over only where the bucket agrees': (
        'flusher/counting/recovery.cpp', 'entry.answered != batches.last_seq(entry.bucket) ||', ''),
    'head waits for the spool': (
        'flusher/counting/engine.cpp', 'committing_positions_ = ring.positions;', 'committing_positions_ = ring.positions; durable_ = ring.positions; store_heads();'),
    'a seal is durable before anything is sent': (
        'flusher/counting/bucket.cpp', 'state_ = State::sealing;', 'state_ = State::ready;'),
    'lost batches are sent again': (
        'flusher/counting/batches_in_flight.cpp',
        'repairs_[bucket].assign(std::move_iterator(lost.begin()), std::move_iterator(lost.end()));', ''),
    # Each of the two guards the other: a read before such a batch is answered has another mark.
    'a read waits for a batch that may have been executed': (
        'flusher/counting/shard_session.cpp',
        'if (in_flight_.may_be_executed(bucket) && !in_flight_.writes_wait()) in_flight_.send(bucket);', '',
        'if (read.field == batches_.field(bucket)) return true;', 'return true;'),
    'a total includes what is pending': (
        'flusher/counting/bucket_sums.cpp', 'told.total.add(parts_.visits_of(number));', ''),
    'a bound includes what is pending': (
        'flusher/counting/bucket_sums.cpp', 'held.largest + std::min(most, room)', 'held.largest'),
    # Each of the two guards the other, as with a read.
    'a sum is of a bucket that is as it was left': (
        'flusher/counting/shard_session.cpp', 'if (!is_as_left(bucket, held)) return {bucket};', '',
        'if (in_flight_.may_be_executed(bucket) && !in_flight_.writes_wait()) in_flight_.send(bucket);', ''),
    'no sum is taken of a bucket that was spilled': (
        'flusher/counting/bucket_sums.cpp', '} else if (!held || !parts_.open.is_in_memory(bucket)) {', '} else if (!held) {',
        '} else if (!parts_.open.is_in_memory(bucket)) {', '} else if (false) {'),
    'buckets are read until the best pages have the next bound': (
        'flusher/counting/top_pages.cpp', 'least_of_best() < next.most', 'least_of_best() < next.most / 2'),
    'a read looks at the bucket\'s identity': (
        'flusher/counting/shard_session.cpp', 'if (read.id != deployment_.bucket_id()) {', 'if (false) {'),
    'a mark that the spool does not know is a reason to hold': (
        'flusher/counting/shard_marks.cpp', '} else if (!accepting_) { Mark ours;', '} else if (false) { Mark ours;'),
    'a host that was forgotten goes on only once somebody says so': (
        'flusher/counting/shard_marks.cpp', 'if (!batches_.may_rejoin(bucket, field)) gone_.emplace_back(bucket, field);', ''),
    'a tombstone says what a bucket held': (
        'flusher/counting/shard_marks.cpp', 'const std::string& field = gone ? held.gone : held.field;', 'const std::string& field = held.field;',
        'auto rejoin = rejoin_of(bucket, field);', 'auto rejoin = rejoin_of(bucket, held.gone);',
        'again.push_back(std::move(*rejoin));', ''),
    'a read looks for the tombstone of a first batch': (
        'flusher/counting/shard_session.cpp', 'if (read.field.empty() && !read.gone.empty()) {', 'if (false) {'),
    'a mark that was taken out is put back': (
        'flusher/counting/shard_marks.cpp', 'again.push_back(std::move(*rejoin));', ''),
    'a writer is forgotten where a bucket has moved to': (
        'flusher/counting/shard_session.cpp',
        'if (kind == Forgotten::Bucket::Kind::not_now || kind == Forgotten::Bucket::Kind::moved) {',
        'if (kind == Forgotten::Bucket::Kind::not_now) {'),
    'a writer is forgotten in a bucket that is just being moved': (
        'flusher/counting/shard_session.cpp',
        'if (kind == Forgotten::Bucket::Kind::not_now || kind == Forgotten::Bucket::Kind::moved) {',
        'if (kind == Forgotten::Bucket::Kind::moved) {'),
    'a writer is forgotten at the node to which a bucket went': (
        'flusher/counting/shard_session.cpp', 'return {0, buckets};', 'return {};'),
    'a bucket that has not come is not given the identity': (
        'flusher/counting/shard_marks.cpp',
        'if (!stamp.empty()) std::erase_if(asked_, [this](std::uint32_t bucket) { return in_flight_.is_arriving(bucket); });', ''),
    'a kept batch waits for replicas': (
        'flusher/counting/kept_order.cpp', 'return shard.waits && entry.number > shard.confirmed;', 'return false;'),
    'what is confirmed was answered before the question': (
        'flusher/counting/replica_watch.cpp', 'batches_.confirm(shard_, covers_);', 'batches_.confirm(shard_, batches_.kept().newest());'),
    'a mark has a salt': (
        'flusher/counting/batches.hpp', 'digest_of(blob) ^ (salt_ ? salt_() : 0);', 'digest_of(blob);'),
    'a spool that is older than its ring is refused': (
        'flusher/counting/recovery.cpp', 'if (known && noted < heads[lane]) {', 'if (false) {'),
    'what a lane\'s owner says stops no later start': (
        'flusher/counting/engine.cpp', 'durable_ = positions_of(spool, memory.ring_id, heads_of(memory));', 'durable_ = drain_.positions();'),
    'one look at a time at what the server is': (
        'flusher/counting/shard_admission.cpp', 'if (!std::exchange(checking_, true)) {', 'if (true) {'),
    'one read of Redis a page': (
        'flusher/counting/lookups.cpp', 'if (known.looked_up != 0) {', 'if (false) {'),
    'one batch of a bucket is on its way': (
        'flusher/counting/batches_in_flight.cpp', 'if (is_on_its_way(bucket) ||', 'if ('),
    'a count is asked for again after its TTL': (
        'flusher/counting/lookups.cpp', 'view_.expires(known.node) > now_ms + refresh_ahead_ms(ttl_ms_)', 'true'),
    'an answered batch brings what others counted': (
        'flusher/counting/batches.cpp', 'std::max(totals[i], view_.base(node) + visits);', 'view_.base(node) + visits;'),
    'a count does not fall with what a shard lost of others': (
        'common/shm/view.hpp', 'count : std::max(count, base(n));', 'count : count;'),
    'an emptied shard is not made again': (
        'flusher/counting/shard_admission.cpp',
        'if (const std::string why = why_topology_is_missed(); !why.empty() && !marks_.is_accepting()) {',
        'if (const std::string why = why_topology_is_missed(); false) {'),
    'nothing of the old connection survives': (
        'flusher/counting/batches_in_flight.cpp', 'sent_here_.assign(sent_here_.size(), false);', ''),
    'a read whose connection has gone is over': (
        'flusher/counting/shard_session.cpp', 'return on_count(bucket, page, *count); lookups_.dropped(page);', 'return on_count(bucket, page, *count);'),
    'a page stays pending until it is acknowledged': (
        'flusher/counting/pending_series.hpp', '(*this)[number].inflight += visits; }', '}'),
    'a seal replaces its bucket\'s row by what was not sealed': (
        'flusher/counting/open_visits.cpp', 'for (const std::uint32_t series : taken) pending_.set_in_bucket(pending_[series], false); fold(number);',
        'for (const std::uint32_t series : taken) pending_.set_in_bucket(pending_[series], false);'),
    'a bucket\'s row says up to where the journal is folded': (
        'flusher/counting/open_visits.cpp', 'if (row.number <= folded[pending_[number].bucket]) {', 'if (false) {'),
    'the journal is cut only where every bucket is folded': (
        'flusher/counting/open_visits.cpp', 'unfolded_.empty() ? transaction.number : unfolded_.front().first - 1;', 'transaction.number;'),
    'a bucket is recalled before it is sealed, and before a page of it is read': (
        'flusher/counting/open_visits.hpp', 'return buckets_[bucket].place == Place::memory || buckets_[bucket].place == Place::recalled;',
        'return bucket < buckets_.size();'),
    'what was recalled is deleted from the spool with its fold': (
        'flusher/counting/open_visits.cpp', 'transaction.unspilled.push_back(number);', ''),
    'a bucket that cannot be sealed keeps none waiting that can': (
        'flusher/counting/open_visits.cpp', 'if (takes_batches_[shard] && recalled_[shard] != 0) return true;', 'if (recalled_[shard] != 0) return true;'),
    'a spill folds its bucket': (
        'flusher/counting/open_visits.cpp', 'if (spilling.series.empty()) return; fold(number);', 'if (spilling.series.empty()) return;'),
    'only what the transaction has spilled leaves the memory': (
        'flusher/counting/open_visits.cpp', 'pending_.spill(number, visits);', 'pending_.spill(number, pending_[number].open);'),
    'an entry that comes over counts what is spilled of its page': (
        'flusher/counting/open_visits.cpp', 'known->second += reader.operand();', '{}'),
    'a page counts itself again once it is recalled': (
        'flusher/counting/open_visits.cpp', 'pending_.recall(series, reader.operand());', ''),
    'a stop flushes once the lanes are empty': (
        'flusher/counting/shutdown.cpp', 'if (!progress.idle && !late) return Step::wait;', ''),
    'a stop waits for its last flush': (
        'flusher/counting/shutdown.cpp', 'if (!progress.flushed && !late) return Step::wait;', ''),
    'a stop waits for its last commit': (
        'flusher/counting/shutdown.cpp', 'if (!progress.durable && now_ms < flush_deadline_ms_ + commit_ms) return Step::commit;', ''),
    'a ring is finished once nobody writes to it': (
        'flusher/counting/ring_handover.cpp', 'if (!deserted) return Step::commit;', ''),
    'a snapshot is of one version': (
        'common/shm/view.hpp', 'view.version(chain).load(std::memory_order_relaxed) != version ||', ''),
    'a field that is no count damages the entry': (
        'flusher/counting/shard_session.cpp', 'lookups_.unreadable(page, link_.now_ms());', 'lookups_.counted(page, 0, link_.now_ms());'),
    'visits that are put aside leave no number behind': (
        'common/shm/view.hpp', 'set(node.state, state_word(CountState::damaged, fix_in_state(own(node.state)))); set(node.expires, 0);', ''),
    'the next life knows what is damaged': (
        'flusher/counting/recovery.cpp', 'entry.state = is_damaged_state(get(node.state)) ? CountState::damaged : CountState::fine;', ''),
    'a count that was lowered is taken as it stands': (
        'common/shm/view.hpp', 'return is_damaged(n) || fix_now > fix(n) ?', 'return is_damaged(n) ?'),
    'an answered batch brings what others lowered': (
        'flusher/counting/batches.cpp', 'fix > view_.fix(node) ? totals[i] : std::max(', 'std::max('),
    'an entry knows which corrections its base includes': (
        'common/shm/view.hpp', 'set(node.state, state_word(CountState::fine, std::max(fix, fix_in_state(own(node.state)))));',
        'set(node.state, state_word(CountState::fine, 0));'),
    'what a page was given is shown once it is durable': (
        'flusher/counting/engine.cpp', 'batches_.show_corrections();', ''),
    'a correction is told once it is durable': (
        'flusher/counting/batches.cpp', 'transaction.corrected = noting_ = std::exchange(corrected_, {});',
        'transaction.corrected = noting_ = std::exchange(corrected_, {}); for (const CorrectedPage& page : std::exchange(noting_, {})) listener_->noted(page);'),
    'what another batch was answered is no answer to a correction': (
        'flusher/counting/corrections.cpp', '!to_note_.contains(bucket) &&', ''),
    'a correction that is sent again leaves room for the next one': (
        'flusher/counting/batches_in_flight.cpp', 'request.fix_at_least = after->correction->fix;', ''),
    'a correction that a shard lost is sent again whatever was corrected since': (
        'flusher/counting/batches_in_flight.cpp', '(may_be_there ? 1 : 0), repair};', '(may_be_there ? 1 : 0), false};'),
    'an unanswered correction is none of the pending visits': (
        'flusher/counting/recovery.cpp', 'if (batch.correction) break;', ''),
    'a flush under way does not wait for a correction': (
        'flusher/counting/batches.cpp', 'sealed.flush = flush_ + 1;', 'sealed.flush = flush_;'),
    'what a page loses goes to the other one': (
        'flusher/counting/batches.cpp', "if (!batch.correction->into[i].empty()) {", "if (false) {"),
    'a question that was done is not done again': (
        'flusher/counting/corrections.cpp', 'if (!order->asked.question.empty() && was_asked_before(order)) return;', ''),
    'a correction that was begun for a question is the one that answers it': (
        'flusher/counting/corrections.cpp', 'if (std::ranges::none_of(spool.unanswered, is_its_batch)) continue;', 'continue;'),
    'what an add gives is noted with it': (
        'flusher/counting/batches.cpp', 'if (!question.empty()) questions_.push_back(', 'if (false) questions_.push_back('),
    'the undo note has the state': (
        'common/shm/view.hpp', 'set(undo.state, own(node.state));', 'set(undo.state, 0);'),
    'no count is shown without visits that are not durably put aside': (
        'flusher/counting/uncountable_pages.cpp', 'if (undurable_.contains(page)) return false;', ''),
    'heads are looked at after the lanes': (
        'common/counter/count_reader.cpp', 'visits_since(snapshot_.applied, cache_.heads,', 'visits_since(snapshot_.applied, nullptr,'),
    'a retired cache shows no count': (
        'common/counter/count_reader.cpp', 'if (cache_.header->retired.word.load(std::memory_order_relaxed) != 0) return Why::retired;', ''),
    'a ring that has a successor shows no count': (
        'common/counter/count_reader.cpp', 'if (superseded_.load(std::memory_order_acquire) != 0) return Why::superseded;', ''),
    'visits in the lanes are part of the count': (
        'common/counter/count_reader.cpp', 'snapshot.count_with(visits);', 'snapshot.count_with(0);'),
    'a new spool takes over no base': (
        'flusher/counting/recovery.cpp', 'if (note == spool.rings.end()) return {};', 'if (note == spool.rings.end()) return std::move(shown.entries);'),
    'a spool that is older than the ring before takes over no base': (
        'flusher/counting/recovery.cpp', 'if (note->positions[lane] < shown.heads[lane]) return {};', ''),
    'a lane starts at what its owner had seen freed': (
        'flusher/counting/recovery.cpp', 'if (seen > start.position)', 'if (false)'),
    'the owner notes what it has seen freed': (
        'common/shm/lane.hpp', 'if (freed_word_ != nullptr) freed_word_->store(head, std::memory_order_release);', ''),
    'a lane starts at the head that a cache knows': (
        'flusher/counting/recovery.cpp', 'heads[lane] != 0 ?', 'false ?'),
    'the index takes off what is applied': (
        'common/counter/backlog.cpp', 'each_visit(lanes_[lane].records, range.start, start, range.end, [&](std::uint64_t, const Record& record) { subtract(record); });', ''),
}

# Readers of the simulation stand between two stores, never between two loads: what only a racing reader can see, the tests in
# tests/threads and tests/unit/common find.
SEEN_BY_THREADS_ONLY = {'an unlink moves the version', 'a snapshot is of one version'}

# Few seeds meet what these rules are for: at least so many are tried.
RARE = {'a bucket that cannot be sealed keeps none waiting that can': 10000, 'a correction that is sent again leaves room for the next one': 10000,
        'what another batch was answered is no answer to a correction': 10000,
        'a correction that a shard lost is sent again whatever was corrected since': 10000,
        'every bucket is where it shall be before the end of a change is taken': 8000, 'a mover sends nothing for a former layout': 8000}

# These are looked for in the one scene that is about them, by its place in simulation_main.cpp.
SCENES = {'a read looks for the tombstone of a first batch': 54, 'a count that was lowered is taken as it stands': 37, 'an answered batch brings what others lowered': 37,
          'an entry knows which corrections its base includes': 37, 'what a page was given is shown once it is durable': 36,
          'a correction that a shard lost is sent again whatever was corrected since': 37,
          'an unanswered correction is none of the pending visits': 36, 'a flush under way does not wait for a correction': 36,
          'what a page loses goes to the other one': 36, 'a question that was done is not done again': 36,
          'a correction that was begun for a question is the one that answers it': 37, 'what an add gives is noted with it': 36,
          'a correction is told once it is durable': 36, 'a correction that is sent again leaves room for the next one': 36,
          'what another batch was answered is no answer to a correction': 36, 'a copy is durable on the node where it is': 30,
          'answered batches of a bucket that moves are kept': 30, 'a marker of a node is explained by visits:topology on another one': 34,
          'a drop is durable before its bucket has moved': 17, 'a moved bucket is dropped once its copy is durable': 17,
          'a copy of a former connection is looked for again': 17, 'a copy is on the replicas before its former shard drops it': 17,
          'replicas that are not there are waited for': 17, 'a correction looks whether its bucket has left': 50,
          'a correction has a number that none had before': 39, 'what is given is told to who asked for it': 36,
          'every bucket is where it shall be before the end of a change is taken': 18, 'a mover sends nothing for a former layout': 18}


def compile_flags() -> list[str]:
    return ['-std=c++20', '-O1', '-g0', '-w', '-DVISITD_VIEW_STEP=KillStep', '-include', str(ROOT / 'tests/simulation/kill_step.hpp')] + shlex.split(os.environ.get('CXXFLAGS', ''))


def build(tree: pathlib.Path, sources: list[str], objects: dict[str, pathlib.Path], out: pathlib.Path) -> pathlib.Path:
    """Compiles `sources` in `tree`; takes all other objects as they are."""
    compiler = shlex.split(os.environ.get('CXX', 'g++'))
    mine = dict(objects)
    for source in sources:
        mine[source] = out / (source.replace('/', '_') + '.o')
        subprocess.run([*compiler, *compile_flags(), '-I', str(tree), '-c', str(tree / source), '-o', str(mine[source])], check=True)
    program = out / 'simulation'
    subprocess.run([*compiler, *map(str, mine.values()), '-lfmt', '-o', str(program)], check=True)
    return program


def includes(tree: pathlib.Path, source: str, header: str, seen: set[str]) -> bool:
    for line in (tree / source).read_text().splitlines():
        if not line.startswith('#include "'):
            continue
        name = line.split('"')[1]
        if name == header:
            return True
        if name not in seen and (tree / name).exists():
            seen.add(name)
            if includes(tree, name, header, seen):
                return True
    return False


def pattern_of(rule: str) -> str:
    """Finds the rule also where clang-format has broken its line elsewhere."""
    return r'\s+'.join(re.escape(word) for word in rule.split())


def stale() -> list[str]:
    """Rules that do not stand in their files any more."""
    return [f'{name}: {file} does not hold the rule any more: {rule}' for name, (file, *changes) in MUTANTS.items()
            for rule in changes[::2] if not re.search(pattern_of(rule), (ROOT / file).read_text())]


def try_mutant(name: str, objects: dict[str, pathlib.Path], seeds: int) -> tuple[str, str]:
    file, *changes = MUTANTS[name]
    with tempfile.TemporaryDirectory(prefix='visitd-mutant-') as folder:
        tree = pathlib.Path(folder) / 'tree'
        for part in ('common', 'flusher', 'frontend', 'tests/simulation'):
            shutil.copytree(ROOT / part, tree / part)
        mutated = (tree / file).read_text()
        for rule, without in zip(changes[::2], changes[1::2]):
            mutated, found = re.subn(pattern_of(rule), lambda _: without, mutated, count=1)
            if not found:
                return name, f'ERROR: {file} does not hold the rule any more: {rule}'
        (tree / file).write_text(mutated)
        sources = [file] if file.endswith('.cpp') else [s for s in SOURCES if includes(tree, s, file, set())]
        program = build(tree, sources, objects, pathlib.Path(folder))
        # A mutant may also crash or hang: found as well.
        try:
            run = subprocess.run([str(program), '--seeds', str(max(seeds, RARE.get(name, 0))), '--no-mutants', *(['--scene', str(SCENES[name])] if name in SCENES else [])],
                                 capture_output=True, text=True, timeout=600)
        except subprocess.TimeoutExpired:
            return name, 'found: it does not end'
        if run.returncode == 0:
            return name, 'NOT FOUND'
        first = (run.stdout + run.stderr).strip().split('\n')[0]
        return name, f'found: {first[:160]}'


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument('--seeds', type=int, default=2000)
    parser.add_argument('--jobs', type=int, default=2)
    parser.add_argument('names', nargs='*')
    arguments = parser.parse_args()
    names = arguments.names or list(MUTANTS)
    failed = 0
    with tempfile.TemporaryDirectory(prefix='visitd-mutants-') as folder:
        out = pathlib.Path(folder)
        objects = {source: out / (source.replace('/', '_') + '.o') for source in SOURCES}
        with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
            def compile_one(source: str) -> None:
                subprocess.run([*shlex.split(os.environ.get('CXX', 'g++')), *compile_flags(), '-I', str(ROOT), '-c', str(ROOT / source),
                                '-o', str(objects[source])], check=True)
            list(pool.map(compile_one, SOURCES))
            for name, outcome in pool.map(lambda name: try_mutant(name, objects, arguments.seeds), names):
                expected = name in SEEN_BY_THREADS_ONLY and outcome == 'NOT FOUND'
                print(f'without "{name}": {outcome}' + (' (seen by racing readers only)' if expected else ''), flush=True)
                failed += not outcome.startswith('found') and not expected
    print(f'{len(names) - failed} of {len(names)} rules are missed when taken out')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
