#include "flusher/spool/spool.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <stop_token>
#include <thread>
#include <utility>

#include "common/os/clock.hpp"
#include "common/shm/page_id.hpp"
#include "flusher/spool/spool_thread.hpp"
#include "tests/unit/flusher/spool_contents.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace visitd {

namespace {

using test::TemporaryFolder;

Batch batch_of(std::uint32_t bucket, std::uint64_t seq, std::vector<Effect> pages) {
  Batch batch;
  batch.bucket = bucket;
  batch.effects = std::move(pages);
  batch.mark = {{3, 0xfeed}, seq, digest_of(encode_effects(batch.effects))};
  batch.expected = seq == 1 ? "" : fmt::format("what stood before {}", seq);
  return batch;
}

bool same(const Batch& one, const Batch& other) {
  return one.bucket == other.bucket && one.mark == other.mark && one.expected == other.expected &&
         one.effects == other.effects;
}

bool same(const KeptBatch& kept, const Batch& batch) {
  return kept.bucket == batch.bucket && kept.mark == batch.mark && kept.expected == batch.expected &&
         decode_effects(kept.content) == batch.effects;
}

constexpr std::uint32_t buckets = 100;

/// A page of a bucket, with a name of its own.
std::string page_in(std::uint32_t bucket, std::string_view name) {
  for (std::uint32_t n = 0;; ++n) {
    std::string page = fmt::format("{} {}", name, n);
    if (page_bucket(page, buckets) == bucket) return page;
  }
}

std::vector<Effect> open_in(const SpoolState& state) {
  return test::open_in(state, buckets);
}

std::vector<Effect> sorted(std::vector<Effect> pages) {
  std::sort(pages.begin(), pages.end(),
            [](const Effect& one, const Effect& other) { return one.series < other.series; });
  return pages;
}

std::string file_of(const TemporaryFolder& directory) {
  return directory.path() + "/spool.db";
}

/// Replaces bytes of the closed spool's file.
void overwrite(const std::string& path, std::size_t offset, std::string_view bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(offset));
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// Changes a spool that nobody has open.
void change(const std::string& path, const char* sql) {
  sqlite3* file = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &file) == SQLITE_OK);
  char* refused = nullptr;
  const int result = sqlite3_exec(file, sql, nullptr, nullptr, &refused);
  INFO(sql, ": ", std::string(refused == nullptr ? "" : refused));
  CHECK(result == SQLITE_OK);
  sqlite3_free(refused);
  sqlite3_close(file);
}

std::int64_t number_in(const std::string& path, const char* sql) {
  sqlite3* file = nullptr;
  REQUIRE(sqlite3_open(path.c_str(), &file) == SQLITE_OK);
  sqlite3_stmt* query = nullptr;
  REQUIRE(sqlite3_prepare_v2(file, sql, -1, &query, nullptr) == SQLITE_OK);
  REQUIRE(sqlite3_step(query) == SQLITE_ROW);
  const std::int64_t number = sqlite3_column_int64(query, 0);
  sqlite3_finalize(query);
  sqlite3_close(file);
  return number;
}

std::size_t find_in(const std::string& path, std::string_view wanted) {
  std::ifstream file(path, std::ios::binary);
  const std::string all{std::istreambuf_iterator<char>(file), {}};
  return all.find(wanted);
}

std::string message_of(const std::string& directory) {
  try {
    Spool spool(directory);
    static_cast<void>(open_in(spool.load()));
  } catch (const Error& failed) {
    return failed.what();
  }
  return {};
}

/// A small file system in memory.
class SmallDisk {
 public:
  SmallDisk() { mounted_ = ::mount("visitd-test", path().c_str(), "tmpfs", 0, "size=1m") == 0; }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (mounted_) ::umount2(path().c_str(), MNT_DETACH);
  }

  [[nodiscard]] bool mounted() const noexcept { return mounted_; }
  [[nodiscard]] const std::string& path() const noexcept { return directory_.path(); }
  void enlarge() const { REQUIRE(::mount("visitd-test", path().c_str(), "tmpfs", MS_REMOUNT, "size=16m") == 0); }

 private:
  TemporaryFolder directory_;
  bool mounted_ = false;
};

}  // namespace

TEST_CASE("a new spool is made with its directory, for its owner alone, and knows that it is new") {
  const TemporaryFolder parent;
  const std::string directory = parent.path() + "/state";
  std::string writer;
  Incarnation first;
  {
    Spool spool(directory);
    const SpoolState state = spool.load();
    CHECK(state.created);
    CHECK(state.writer.size() == 16);
    CHECK(state.incarnation.number == 1);
    CHECK(state.history.empty());
    CHECK(state.rings.empty());
    CHECK(state.open.empty());
    writer = state.writer;
    first = state.incarnation;
    struct stat status{};
    REQUIRE(::stat((directory + "/spool.db").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777U) == 0600);
    REQUIRE(::stat((directory + "/spool.db-wal").c_str(), &status) == 0);
    CHECK((status.st_mode & 0777U) == 0600);
    REQUIRE(::stat(directory.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777U) == 0700);
  }
  Spool spool(directory);
  const SpoolState state = spool.load();
  CHECK_FALSE(state.created);
  CHECK(state.writer == writer);
  CHECK(state.incarnation.number == 2);
  CHECK(state.incarnation.random != first.random);
  CHECK(state.history == std::vector<Incarnation>{first});
}

TEST_CASE("a state directory whose parent is missing is refused with its name") {
  const TemporaryFolder parent;
  std::string message;
  try {
    Spool spool(parent.path() + "/missing/state");
  } catch (const std::exception& failed) {
    message = failed.what();
  }
  CHECK(message.find("/missing/state") != std::string::npos);
  CHECK(message.find("state_directory") != std::string::npos);
}

TEST_CASE("every part of a transaction is read back") {
  const TemporaryFolder directory;
  const RingNote ring{0xffff'0000'1234'5678U, 42, false, {0, 0xffff'ffff'ffff'fff8U, 4096}};
  const RingNote other_ring{7, 43, true, {}};
  const std::string odd("\0odd\xff", 5);
  {
    Spool spool(directory.path());
    Transaction first;
    first.ring = ring;
    first.number = 1;
    first.deltas = encode_effects({{"home", 2}, {odd, 1}});
    first.identities = {{"redis_7070", "identity one"}, {"redis_7071", "identity two"}};
    first.set_aside = {{5, {odd, 9}, "no integer"}};
    first.accepted = {{9, 12, "a field"}};
    CHECK_FALSE(first.empty());
    spool.apply(first);

    Transaction second;  // a page more than once in the journal
    second.ring = other_ring;
    second.number = 2;
    second.deltas = encode_effects({{"home", 3}, {"about", 1}});
    spool.apply(second);
    CHECK(open_in(spool.load()) == sorted({{odd, 1}, {"home", 5}, {"about", 1}}));

    Transaction third;  // a seal
    third.number = 3;
    third.journal_until = 2;
    third.sealed = {batch_of(1, 1, {{"home", 5}}), batch_of(2, 1, {{odd, 1}}), batch_of(3, 4, {})};
    third.open = {{page_bucket("about", buckets), encode_effects({{"about", 1}})},
                  {4, encode_effects({{page_in(4, "news"), 6}})},
                  {6, encode_effects({{page_in(6, "gone"), 1}})}};
    spool.apply(third);

    Transaction fourth;
    fourth.number = 4;
    fourth.deltas = encode_effects({{"about", 10}, {"new", 1}});
    fourth.open = {{6, ""}};
    fourth.answered = {{1, 1, "mark one"}};
    fourth.answered_at = 1'700'000'000;
    fourth.replaced = {batch_of(2, 1, {{"smaller", 1}})};
    fourth.identities = {{"redis_7070", "identity three"}};
    spool.apply(fourth);

    Transaction fifth;
    fifth.sealed = {batch_of(1, 2, {{"home", 1}})};
    spool.apply(fifth);
    fifth = {};
    fifth.answered = {{1, 2, "mark two"}, {3, 4, "mark three"}};
    fifth.answered_at = 1'700'000'030;
    spool.apply(fifth);
    fifth = {};
    fifth.forgotten = {{1, 1}, {2, 1}};  // the second one waits for an answer: it stays
    fifth.ring = RingNote{ring.id, 42, true, {8, 16, 24}};
    spool.apply(fifth);
    spool.apply({});
  }
  Spool spool(directory.path());
  const SpoolState state = spool.load();
  REQUIRE(state.rings.size() == 2);
  CHECK(state.rings[0].id == ring.id);
  CHECK(state.rings[0].segment == 42);
  CHECK(state.rings[0].finished);
  CHECK(state.rings[0].positions == std::vector<std::uint64_t>{8, 16, 24});
  CHECK(state.rings[1].id == 7);
  CHECK(state.rings[1].finished);
  CHECK(state.rings[1].positions.empty());
  CHECK(open_in(state) == sorted({{"about", 11}, {page_in(4, "news"), 6}, {"new", 1}}));
  REQUIRE(state.journal.size() == 1);
  CHECK(state.journal[0].number == 4);
  REQUIRE(state.open.size() == 3);
  for (const OpenRow& row : state.open) CHECK(row.folded == (row.bucket == 6 ? 4 : 3));
  REQUIRE(state.unanswered.size() == 1);
  CHECK(same(state.unanswered[0], batch_of(2, 1, {{"smaller", 1}})));
  REQUIRE(state.kept.size() == 2);
  CHECK(same(state.kept[0], batch_of(1, 2, {{"home", 1}})));
  CHECK(state.kept[0].answered_at == 1'700'000'030);
  CHECK(same(state.kept[1], batch_of(3, 4, {})));
  REQUIRE(state.marks.size() == 3);
  CHECK(state.marks[0].bucket == 1);
  CHECK(state.marks[0].seq == 2);
  CHECK(state.marks[0].field == "mark two");
  CHECK(state.marks[1].bucket == 3);
  CHECK(state.marks[2].bucket == 9);
  CHECK(state.marks[2].seq == 12);
  CHECK(state.marks[2].field == "a field");
  REQUIRE(state.identities.size() == 2);
  CHECK(state.identities[0].shard == "redis_7070");
  CHECK(state.identities[0].identity == "identity three");
  REQUIRE(state.set_aside.size() == 1);
  CHECK(state.set_aside[0].bucket == 5);
  CHECK(state.set_aside[0].effect == Effect{odd, 9});
  CHECK(state.set_aside[0].reason == "no integer");
}

TEST_CASE("what became of a question is read back as it was noted last") {
  const TemporaryFolder directory;
  using State = QuestionNote::State;
  {
    Spool spool(directory.path());
    Transaction first;
    first.questions = {
        {"add", State::done, 0, 0, 7}, {"set", State::sealed, 5, 0, 0}, {"lower", State::sealed, 0, 0, 0}};
    spool.apply(first);
    Transaction second;
    second.questions = {{"set", State::done, 0, 12, 3},
                        {"lower", State::withdrawn, 0, 0, 0},
                        {"another", State::sealed, 99, 0, 0},
                        {"nobody's", State::withdrawn, 0, 0, 0}};
    spool.apply(second);
  }
  Spool spool(directory.path());
  const SpoolState state = spool.load();
  REQUIRE(state.questions.size() == 3);
  const auto same = [&](std::size_t i, const QuestionNote& note) {
    const QuestionNote& read = state.questions[i];
    return read.id == note.id && read.state == note.state && read.bucket == note.bucket && read.before == note.before &&
           read.after == note.after;
  };
  CHECK(same(0, {"add", State::done, 0, 0, 7}));
  CHECK(same(1, {"set", State::done, 0, 12, 3}));
  CHECK(same(2, {"another", State::sealed, 99, 0, 0}));
}

TEST_CASE("a spool that holds a correction is not for a version that knows none, whatever was added since") {
  const TemporaryFolder directory;
  {
    Spool spool(directory.path());
    Transaction seal;
    Batch correction = batch_of(1, 1, {{"home", 5}});
    correction.correction = Correction{0, "root", {""}};
    seal.sealed = {correction};
    spool.apply(seal);
  }
  change(file_of(directory), "DROP TABLE question; PRAGMA user_version = 3");
  {
    Spool spool(directory.path());
    CHECK(spool.load().unanswered.size() == 1);
  }
  // The version before this one would go on with it, and the one before that would not.
  CHECK(number_in(file_of(directory), "PRAGMA user_version") == 4);
  CHECK(number_in(file_of(directory), "SELECT value FROM meta WHERE key = 'least_schema'") == 3);
}

TEST_CASE("corrections are read back, unanswered, kept, and on record") {
  const TemporaryFolder directory;
  Batch correction = batch_of(1, 1, {{"home", std::uint64_t{0} - 5}});
  correction.correction = Correction{17, "root", {"into"}};
  Batch waiting = batch_of(2, 1, {{"about", 5}});
  waiting.correction = Correction{0, "root", {""}};
  {
    Spool spool(directory.path());
    Transaction first;
    first.sealed = {correction, waiting};
    spool.apply(first);
    Transaction second;
    second.answered = {{1, 1, "mark one"}};
    second.corrected = {{1, correction.mark, "home", -5, 2, "into", "root", 1'700'000'000}};
    CHECK_FALSE(second.empty());
    spool.apply(second);
  }
  const SpoolState state = Spool(directory.path()).load();
  REQUIRE(state.unanswered.size() == 1);
  CHECK(state.unanswered[0].correction == waiting.correction);
  CHECK(state.unanswered[0].effects == waiting.effects);
  REQUIRE(state.kept.size() == 1);
  Batch kept;
  decode_content(state.kept[0].content, kept);
  CHECK(kept.correction == correction.correction);
  REQUIRE(state.corrected.size() == 1);
  CHECK(state.corrected[0].page == "home");
  CHECK(state.corrected[0].difference == -5);
  CHECK(state.corrected[0].count == 2);
  CHECK(state.corrected[0].into == "into");
  CHECK(state.corrected[0].by == "root");
  CHECK(state.corrected[0].at == 1'700'000'000);
}

TEST_CASE("the newest 64 rings are kept") {
  const TemporaryFolder directory;
  Spool spool(directory.path());
  for (std::uint64_t id = 1; id <= 100; ++id) {
    Transaction note;
    note.ring = RingNote{id, 1, true, {id}};
    spool.apply(note);
    spool.apply(note);
  }
  const SpoolState state = spool.load();
  REQUIRE(state.rings.size() == 64);
  CHECK(state.rings.front().id == 37);
  CHECK(state.rings.back().id == 100);
}

TEST_CASE("a transaction that cannot be is refused whole") {
  const TemporaryFolder directory;
  Spool spool(directory.path());
  Transaction wrong;
  wrong.number = 1;
  wrong.deltas = encode_effects({{"home", 1}});
  SUBCASE("an answer to a batch that is not there") {
    wrong.answered = {{1, 1, "mark"}};
  }
  SUBCASE("a replacement of a batch that is not there") {
    wrong.replaced = {batch_of(1, 1, {})};
  }
  SUBCASE("a batch sealed twice") {
    wrong.sealed = {batch_of(1, 1, {}), batch_of(1, 1, {})};
  }
  CHECK_THROWS_AS(spool.apply(wrong), Error);
  CHECK(spool.load().journal.empty());
  wrong = {};
  wrong.number = 1;
  wrong.deltas = encode_effects({{"home", 1}});
  spool.apply(wrong);
  CHECK(open_in(spool.load()) == std::vector<Effect>{{"home", 1}});
}

TEST_CASE("what is open of a page is its bucket's row, and what the journal says behind the row's number") {
  const TemporaryFolder directory;
  std::mt19937_64 random(7);
  std::vector<Effect> expected;
  for (int page = 0; page < 5000; ++page) expected.push_back({fmt::format("page {}", page), 0});
  {
    Spool spool(directory.path());
    for (std::uint64_t number = 1; number <= 20; ++number) {
      Transaction commit;
      commit.number = number;
      for (int visit = 0; visit < 2000; ++visit) {
        Effect& page = expected[random() % expected.size()];
        append_effect(commit.deltas, page.series, 2);
        page.operand += 2;
      }
      // Five buckets are folded by each transaction: all of them at some time.
      for (auto bucket = static_cast<std::uint32_t>((number - 1) * 5); bucket < number * 5; ++bucket) {
        std::string row;
        for (const Effect& page : expected) {
          if (page_bucket(page.series, buckets) == bucket) append_effect(row, page.series, page.operand);
        }
        commit.open.emplace_back(bucket, row);
      }
      spool.apply(commit);
    }
  }
  std::erase_if(expected, [](const Effect& page) { return page.operand == 0; });
  Spool spool(directory.path());
  const SpoolState state = spool.load();
  CHECK(state.open.size() == buckets);
  CHECK(state.journal.size() == 20);
  CHECK(open_in(state) == sorted(expected));
  Transaction shorten;
  shorten.number = 21;
  shorten.journal_until = 1;  // every bucket is folded past it
  spool.apply(shorten);
  CHECK(spool.load().journal.size() == 19);
  CHECK(open_in(spool.load()) == sorted(expected));
  shorten.number = 22;
  shorten.journal_until = 2;  // those that were folded first are not
  spool.apply(shorten);
  CHECK(spool.load().journal.size() == 18);
  CHECK(open_in(spool.load()) != sorted(expected));
}

TEST_CASE("a spool that another has open is refused, and the other goes on") {
  const TemporaryFolder directory;
  Spool spool(directory.path());
  SUBCASE("in this process") {
    CHECK(message_of(directory.path()).find("another flusher has") != std::string::npos);
  }
  SUBCASE("in another process") {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(message_of(directory.path()).find("another flusher has") != std::string::npos ? 0 : 1);
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
  Transaction commit;
  commit.number = 1;
  commit.deltas = encode_effects({{"home", 1}});
  spool.apply(commit);
  CHECK(message_of(directory.path()).find("another flusher has") != std::string::npos);
  CHECK_THROWS_AS(static_cast<void>(Spool::put_away(directory.path(), buckets)), Error);
}

TEST_CASE("a spool of a newer visitd, another program's database and a file of junk are refused untouched") {
  const TemporaryFolder directory;
  {
    Spool spool(directory.path());
  }
  SUBCASE("newer") {
    change(file_of(directory), "UPDATE meta SET value = '99' WHERE key = 'least_schema'; PRAGMA user_version = 99");
    const std::string message = message_of(directory.path());
    CHECK(message.find("newer visitd (schema 99") != std::string::npos);
    CHECK(message.find(file_of(directory)) != std::string::npos);
  }
  SUBCASE("another program's") {
    overwrite(file_of(directory), 68, std::string_view("\0\0\0\x01", 4));  // application_id
    CHECK(message_of(directory.path()).find("is not a spool of visitd") != std::string::npos);
  }
  SUBCASE("junk") {
    overwrite(file_of(directory), 0, "no database");
    CHECK(message_of(directory.path()).find("is damaged") != std::string::npos);
  }
}

TEST_CASE("a damaged row is found and named") {
  const TemporaryFolder directory;
  {
    Spool spool(directory.path());
    Transaction commit;
    commit.ring = RingNote{1, 1, false, {1234567}};
    commit.number = 1;
    commit.deltas = encode_effects({{"in the journal", 1}});
    commit.spilled = {{78, encode_effects({{"spilt", 1}})}};
    commit.open = {{77, encode_effects({{"in a row", 1}})}};
    commit.sealed = {batch_of(5, 9, {{"sealed", 1}})};
    spool.apply(commit);
  }
  CHECK(message_of(directory.path()).empty());
  const auto damage = [&](std::string_view text, const char* named) {
    const std::size_t offset = find_in(file_of(directory), text);
    REQUIRE(offset != std::string::npos);
    overwrite(file_of(directory), offset, std::string(1, static_cast<char>(text.front() + 1)));
    const std::string message = message_of(directory.path());
    CHECK(message.find(named) != std::string::npos);
    CHECK(message.find(file_of(directory)) != std::string::npos);
  };
  SUBCASE("ring") {
    damage("1234567 ", "row 1 of table ring");
  }
  SUBCASE("journal") {
    damage("in the journal", "row 1 of table journal");
  }
  SUBCASE("open") {
    damage("in a row", "row 77 of table open");
  }
  SUBCASE("spilled") {
    damage("spilt", "row 1 of table spilled");
  }
  SUBCASE("batch") {
    damage("sealed", "row 5, 9 of table batch");
  }
  SUBCASE("what a batch expects") {
    damage("what stood before 9", "row 5, 9 of table batch");
  }
}

TEST_CASE("after a kill the spool holds all that was committed, and each transaction whole") {
  const TemporaryFolder directory;
  std::mt19937 random(std::random_device{}());
  std::uint64_t committed = 0;
  for (int life = 0; life < 8; ++life) {
    int told[2];
    REQUIRE(::pipe(told) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      try {
        Spool spool(directory.path());
        for (std::uint64_t next = committed + 1; next < committed + 100'000; ++next) {
          Transaction commit;
          commit.ring = RingNote{1, 1, false, {next}};
          commit.number = next;
          commit.deltas = encode_effects({{"home", 1}});
          commit.sealed = {batch_of(static_cast<std::uint32_t>(next % 100), next, {{std::string(300, 'x'), next}})};
          if (next > 1) commit.answered = {{static_cast<std::uint32_t>((next - 1) % 100), next - 1, "mark"}};
          commit.answered_at = next;
          spool.apply(commit);
          if (::write(told[1], &next, sizeof next) != sizeof next) break;
        }
      } catch (const std::exception&) {
        // The parent sees that too little was told.
      }
      ::_exit(0);
    }
    ::close(told[1]);
    const std::uint64_t end = monotonic_ms() + 20 + random() % 100;
    std::uint64_t last = committed;
    while (::read(told[0], &last, sizeof last) == sizeof last && monotonic_ms() < end) {
    }
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    for (std::uint64_t late = 0; ::read(told[0], &late, sizeof late) == sizeof late;) last = late;
    ::close(told[0]);

    Spool spool(directory.path());
    const SpoolState state = spool.load();
    REQUIRE(last > committed);
    REQUIRE(state.rings.size() == 1);
    const std::uint64_t held = state.rings[0].positions.at(0);
    CHECK((held == last || held == last + 1));
    CHECK(open_in(state) == std::vector<Effect>{{"home", held}});
    REQUIRE(state.unanswered.size() == 1);
    CHECK(state.unanswered[0].mark.seq == held);
    CHECK(state.kept.size() == held - 1);
    committed = held;
  }
}

TEST_CASE("a full disk refuses a transaction whole, and takes it when there is room") {
  const SmallDisk disk;
  REQUIRE_MESSAGE(disk.mounted(), "a tmpfs must be mounted: run the tests as root");
  std::uint64_t committed = 0;
  {
    Spool spool(disk.path());
    Transaction commit;
    bool full = false;
    for (std::uint64_t next = 1; next < 1000 && !full; ++next) {
      commit = {};
      commit.ring = RingNote{1, 1, false, {next}};
      commit.number = next;
      commit.deltas = encode_effects({{"home", 1}, {std::string(40'000, 'x'), 1}});
      commit.sealed = {batch_of(1, next, {{std::string(500, 'y'), next}})};
      try {
        spool.apply(commit);
        committed = next;
      } catch (const SpoolFull& refused) {
        full = true;
        CHECK(std::string(refused.what()).find("spool.db: the disk is full") != std::string::npos);
      }
    }
    REQUIRE(full);
    REQUIRE(committed > 1);
    for (int again = 0; again < 5; ++again) CHECK_THROWS_AS(spool.apply(commit), SpoolFull);
    SpoolState state = spool.load();
    CHECK(state.rings.at(0).positions.at(0) == committed);
    CHECK(open_in(state).front() == Effect{"home", committed});
    CHECK(state.unanswered.size() == committed);

    disk.enlarge();
    spool.apply(commit);
    ++committed;
    state = spool.load();
    CHECK(state.rings.at(0).positions.at(0) == committed);
    CHECK(state.unanswered.size() == committed);
  }
  Spool spool(disk.path());
  CHECK(open_in(spool.load()).front() == Effect{"home", committed});
}

namespace {

std::string blob_literal(const std::string& bytes) {
  std::string literal = "x'";
  for (const char byte : bytes) literal += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return literal + "'";
}

/// A spool as schema 1 had it: what is open are the rows of `open`, and all of the journal.
void make_schema_1(const TemporaryFolder& directory) {
  const std::string row = encode_effects({{page_in(4, "folded"), 6}});
  const std::string deltas = encode_effects({{page_in(4, "folded"), 1}, {"home", 2}});
  const Batch batch = batch_of(9, 1, {{page_in(9, "sealed"), 5}});
  const std::string pages = encode_effects(batch.effects);
  const auto digest = [](std::uint64_t value) { return static_cast<std::int64_t>(value); };
  const std::string mark = to_text(batch.mark);
  const std::string sql = fmt::format(
      "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
      "CREATE TABLE incarnation (number INTEGER PRIMARY KEY, random TEXT NOT NULL);"
      "CREATE TABLE ring (noted INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, segment INTEGER NOT NULL,"
      " finished INTEGER NOT NULL, positions TEXT NOT NULL, digest INTEGER NOT NULL);"
      "CREATE TABLE journal (number INTEGER PRIMARY KEY, digest INTEGER NOT NULL, deltas BLOB NOT NULL);"
      "CREATE TABLE open (bucket INTEGER PRIMARY KEY, digest INTEGER NOT NULL, pages BLOB NOT NULL);"
      "CREATE TABLE batch (number INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, seq INTEGER NOT NULL,"
      " mark TEXT NOT NULL, expected TEXT NOT NULL, digest INTEGER NOT NULL, pages BLOB NOT NULL,"
      " UNIQUE (bucket, seq));"
      "CREATE TABLE answered (number INTEGER PRIMARY KEY, at INTEGER NOT NULL);"
      "CREATE TABLE bucket (bucket INTEGER PRIMARY KEY, seq INTEGER NOT NULL, field TEXT NOT NULL);"
      "CREATE TABLE identity (shard TEXT PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID;"
      "CREATE TABLE set_aside (number INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, page BLOB NOT NULL,"
      " visits INTEGER NOT NULL, reason TEXT NOT NULL);"
      "INSERT INTO meta VALUES ('writer', '00000000000000aa');"
      "INSERT INTO incarnation VALUES (1, '0000000000000bbb');"
      "INSERT INTO ring VALUES (1, '0000000000000007', 42, 0, '8 16 ', {});"
      "INSERT INTO open VALUES (4, {}, {});"
      "INSERT INTO journal VALUES (1, {}, {});"
      "INSERT INTO batch VALUES (1, 9, 1, '{}', '', {}, {});"
      "INSERT INTO bucket VALUES (3, 8, 'a mark');"
      "INSERT INTO identity VALUES ('one', 'an identity');"
      "PRAGMA application_id = {};"
      "PRAGMA user_version = 1",
      digest(digest_of("0000000000000007 8 16 ")), digest(digest_of(row) + 4), blob_literal(row),
      digest(digest_of(deltas)), blob_literal(deltas), mark, digest(digest_of(fmt::format("9 1 {}  {}", mark, pages))),
      blob_literal(pages), 0x76697374);
  change(file_of(directory), sql.c_str());
}

}  // namespace

TEST_CASE("a spool of schema 1 is taken over with all that it holds, and goes on by bucket") {
  const TemporaryFolder directory;
  make_schema_1(directory);
  const std::vector<Effect> expected = sorted({{page_in(4, "folded"), 7}, {"home", 2}});
  {
    Spool spool(directory.path());
    const SpoolState state = spool.load();
    CHECK_FALSE(state.created);
    CHECK(state.writer == "00000000000000aa");
    CHECK(state.incarnation.number == 2);
    REQUIRE(state.rings.size() == 1);
    CHECK(state.rings[0].positions == std::vector<std::uint64_t>{8, 16});
    REQUIRE(state.open.size() == 1);
    CHECK(state.open[0].folded == 0);  // the journal, which begins with 1, is not in it
    CHECK(open_in(state) == expected);
    REQUIRE(state.unanswered.size() == 1);
    CHECK(same(state.unanswered[0], batch_of(9, 1, {{page_in(9, "sealed"), 5}})));
    REQUIRE(state.marks.size() == 1);
    CHECK(state.marks[0].seq == 8);
    REQUIRE(state.identities.size() == 1);

    Transaction fold;  // of the one bucket, whose row then holds what the journal says of it
    fold.number = 2;
    fold.open = {{4, encode_effects({{page_in(4, "folded"), 7}})}};
    fold.spilled = {{page_bucket("home", buckets), encode_effects({{"home", 3}})}};
    spool.apply(fold);
  }
  Spool spool(directory.path());
  CHECK(open_in(spool.load()) == sorted({{page_in(4, "folded"), 7}, {"home", 5}}));
}

TEST_CASE("a spool of schema 1 that is put away before anybody took it over is counted as it was") {
  const TemporaryFolder directory;
  make_schema_1(directory);
  const SpoolPutAway away = Spool::put_away(directory.path(), buckets);
  CHECK(away.open_visits == 9);
  CHECK(away.unanswered_batches == 1);
}

TEST_CASE("spilled rows come back together, become one, and go with their bucket") {
  const TemporaryFolder directory;
  Spool spool(directory.path());
  const std::string first = page_in(7, "first");
  const std::string second = page_in(7, "second");
  for (std::uint64_t number = 1; number <= 3; ++number) {
    Transaction spill;
    spill.number = number;
    spill.spilled = {{7, encode_effects({{first, number}, {second, 1}})}, {8, encode_effects({{page_in(8, "x"), 1}})}};
    const SpoolResult result = spool.apply(spill);
    CHECK(result.recalled.empty());
    CHECK(result.compacted.empty());
  }
  CHECK(open_in(spool.load()) == sorted({{first, 6}, {second, 3}, {page_in(8, "x"), 3}}));

  Transaction recall;
  recall.number = 4;
  recall.recalled = {7, 9};
  SpoolResult result = spool.apply(recall);
  REQUIRE(result.recalled.size() == 2);
  CHECK(result.recalled[0].first == 7);
  CHECK(decode_effects(result.recalled[0].second) ==
        std::vector<Effect>{{first, 1}, {second, 1}, {first, 2}, {second, 1}, {first, 3}, {second, 1}});
  CHECK(result.recalled[1] == std::pair<std::uint32_t, std::string>{9, ""});  // nothing is spilled of it
  CHECK(open_in(spool.load()).size() == 3);  // what is recalled stays until its bucket is folded

  Transaction compact;
  compact.number = 5;
  compact.spilled = {{7, encode_effects({{second, 10}})}};
  compact.compacted = {7};
  compact.recalled = {7};
  result = spool.apply(compact);
  const std::string whole = encode_effects({{first, 6}, {second, 13}});
  CHECK(result.compacted == std::vector<std::pair<std::uint32_t, std::uint64_t>>{{7, whole.size()}});
  REQUIRE(result.recalled.size() == 1);
  CHECK(result.recalled[0].second == whole);
  std::uint64_t rows = 0;
  spool.load().each_spilled([&](std::uint32_t bucket, std::string_view) { rows += bucket == 7 ? 1 : 0; });
  CHECK(rows == 1);

  Transaction fold;
  fold.number = 6;
  fold.open = {{7, whole}};
  fold.unspilled = {7};
  spool.apply(fold);
  rows = 0;
  spool.load().each_spilled([&](std::uint32_t bucket, std::string_view) { rows += bucket == 7 ? 1 : 0; });
  CHECK(rows == 0);
  CHECK(open_in(spool.load()) == sorted({{first, 6}, {second, 13}, {page_in(8, "x"), 3}}));

  // What is spilled again in the transaction that deletes the rows of before is not deleted.
  Transaction again;
  again.number = 7;
  again.open = {{7, ""}};
  again.unspilled = {7};
  again.spilled = {{7, whole}};
  spool.apply(again);
  CHECK(open_in(spool.load()) == sorted({{first, 6}, {second, 13}, {page_in(8, "x"), 3}}));
}

TEST_CASE("visits of folded and spilled buckets are told once when a spool is put away") {
  const TemporaryFolder directory;
  {
    Spool spool(directory.path());
    const std::string page = page_in(7, "page");
    Transaction commit;
    commit.number = 1;
    commit.deltas = encode_effects({{page, 3}, {page_in(8, "page"), 4}});
    spool.apply(commit);
    commit = {};
    commit.number = 2;
    commit.open = {{7, encode_effects({{page, 5}})}};  // three of the journal, two more
    spool.apply(commit);
    commit = {};
    commit.number = 3;
    commit.deltas = encode_effects({{page, 10}});
    commit.spilled = {{9, encode_effects({{page_in(9, "page"), 100}})}};
    spool.apply(commit);
  }
  CHECK(Spool::put_away(directory.path(), buckets).open_visits == 5 + 4 + 10 + 100);
}

TEST_CASE("a spool that is put away is whole in its new place, told of, and followed by a new one") {
  const TemporaryFolder directory;
  CHECK_THROWS_AS(static_cast<void>(Spool::put_away(directory.path(), buckets)), Error);
  std::string writer;
  {
    Spool spool(directory.path());
    Transaction commit;
    commit.number = 1;
    commit.deltas = encode_effects({{"home", 3}});
    commit.open = {{page_bucket("about", buckets), encode_effects({{"about", 4}})}};
    commit.sealed = {batch_of(1, 1, {{"sealed", 1}}), batch_of(2, 1, {{"sealed too", 1}})};
    commit.answered = {{1, 1, "mark"}};
    spool.apply(commit);
    writer = spool.load().writer;
  }
  const SpoolPutAway away = Spool::put_away(directory.path(), buckets);
  CHECK(away.path.starts_with(file_of(directory) + ".aside-"));
  CHECK(away.open_visits == 7);
  CHECK(away.unanswered_batches == 1);
  CHECK_FALSE(std::filesystem::exists(file_of(directory)));
  {
    Spool spool(directory.path());
    CHECK(spool.load().created);
    CHECK(spool.load().writer != writer);
  }
  const SpoolPutAway second = Spool::put_away(directory.path(), buckets);
  CHECK(second.path != away.path);
  CHECK(second.open_visits == 0);
  std::filesystem::rename(away.path, file_of(directory));
  {
    Spool spool(directory.path());
    CHECK(spool.load().writer == writer);
    CHECK(open_in(spool.load()).size() == 2);
  }
  overwrite(file_of(directory), 0, "no database");
  const SpoolPutAway damaged = Spool::put_away(directory.path(), buckets);
  CHECK_FALSE(damaged.open_visits);
  CHECK_FALSE(damaged.unanswered_batches);
  CHECK(std::filesystem::exists(damaged.path));
}

TEST_CASE("the thread commits in order, tells on the loop, and gives a refused transaction back") {
  const SmallDisk disk;
  REQUIRE_MESSAGE(disk.mounted(), "a tmpfs must be mounted: run the tests as root");
  uv_loop_t loop{};
  REQUIRE(uv_loop_init(&loop) == 0);
  std::vector<SpoolThread::Outcome> outcomes;
  {
    SpoolThread thread(&loop, Spool(disk.path()),
                       [&](SpoolThread::Outcome outcome) { outcomes.push_back(std::move(outcome)); });
    const auto run = [&](Transaction transaction) {
      const std::size_t before = outcomes.size();
      thread.submit(std::move(transaction));
      CHECK(thread.busy());
      CHECK(outcomes.size() == before);
      for (int turns = 0; turns < 1000 && outcomes.size() == before; ++turns) uv_run(&loop, UV_RUN_ONCE);
      REQUIRE(outcomes.size() == before + 1);
      CHECK_FALSE(thread.busy());
      return std::exchange(outcomes.back(), {});
    };
    Transaction small;
    small.number = 1;
    small.deltas = encode_effects({{"home", 1}});
    CHECK(run(small).kind == SpoolThread::Outcome::Kind::committed);
    Transaction large;
    large.number = 2;
    large.deltas = encode_effects({{"home", 2}, {std::string(3'000'000, 'x'), 1}});
    SpoolThread::Outcome outcome = run(large);
    CHECK(outcome.kind == SpoolThread::Outcome::Kind::full);
    CHECK(outcome.transaction.deltas == large.deltas);
    disk.enlarge();
    outcome = run(std::move(outcome.transaction));
    CHECK(outcome.kind == SpoolThread::Outcome::Kind::committed);
    Transaction wrong;
    wrong.answered = {{1, 1, "mark"}};
    outcome = run(wrong);
    CHECK(outcome.kind == SpoolThread::Outcome::Kind::failed);
    CHECK(outcome.message.find("batch 1 of bucket 1") != std::string::npos);
    small.number = 3;
    thread.submit(small);  // under way when the thread is told to end: finished, not told
    outcomes.clear();
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&loop) == 0);
  CHECK(outcomes.empty());
  Spool spool(disk.path());
  CHECK(open_in(spool.load()).front() == Effect{"home", 4});
}

// ---- the file under its name

namespace {

Transaction one_visit() {
  static std::uint64_t number = 0;
  Transaction transaction;
  transaction.number = ++number;
  transaction.deltas = encode_effects({{"home", 1}});
  return transaction;
}

std::uint64_t visits_in(const TemporaryFolder& directory) {
  std::uint64_t visits = 0;
  Spool spool(directory.path());
  for (const Effect& page : open_in(spool.load())) visits += page.operand;
  return visits;
}

}  // namespace

TEST_CASE("a spool that was removed or replaced is written anew under its name, with all that it held") {
  const TemporaryFolder directory;
  const std::string file = file_of(directory);
  {
    Spool spool(directory.path());
    spool.apply(one_visit());
    for (const char* ending : {"", "-wal"}) {
      std::filesystem::remove(file + ending);
      spool.look();
      CHECK(std::filesystem::exists(file));
      spool.apply(one_visit());
    }
    std::ofstream(file + ".other") << "somebody's";
    std::filesystem::rename(file + ".other", file);
    spool.apply(one_visit());
    std::filesystem::remove_all(directory.path());
    spool.apply(one_visit());
  }
  CHECK(visits_in(directory) == 5);
}

TEST_CASE("a state directory that somebody removes again and again takes nothing along") {
  const TemporaryFolder directory;
  std::uint64_t committed = 0;
  std::uint64_t refused = 0;
  // If the spool is refused again and again, because the machine is slow, the remover pauses for longer.
  constexpr std::uint32_t usual_pause_us = 60'000;
  std::atomic<std::uint32_t> longest_pause_us = usual_pause_us;
  {
    Spool spool(directory.path());
    std::jthread remover([&](const std::stop_token& stop) {
      // The pauses are drawn at random, so that the remover meets every step by which the spool writes its file anew.
      for (std::mt19937 random(1); !stop.stop_requested();) {
        std::error_code failed;
        std::filesystem::remove_all(directory.path(), failed);
        std::this_thread::sleep_for(std::chrono::microseconds(random() % longest_pause_us));
      }
    });
    std::uint32_t refused_in_row = 0;
    for (int attempt = 0; attempt < 3000 && (committed < 50 || refused < 10); ++attempt) {
      try {
        spool.apply(one_visit());
        ++committed;
        refused_in_row = 0;
        longest_pause_us = usual_pause_us;
      } catch (const SpoolFull&) {
        ++refused;
        if (++refused_in_row % 5 == 0) longest_pause_us = 2 * longest_pause_us;
      }
    }
    remover.request_stop();
    remover.join();
    spool.look();
  }
  CHECK(committed >= 50);
  CHECK(visits_in(directory) == committed);
}

TEST_CASE("a spool that was replaced just before it ends leaves the other file beside it, and is whole") {
  const TemporaryFolder directory;
  {
    Spool spool(directory.path());
    spool.apply(one_visit());
    std::ofstream(file_of(directory) + ".other") << "somebody's";
    std::filesystem::rename(file_of(directory) + ".other", file_of(directory));
  }
  CHECK(visits_in(directory) == 1);
  int kept = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path())) {
    kept += entry.path().string().find("spool.db.found-") != std::string::npos ? 1 : 0;
  }
  CHECK(kept == 1);
}

TEST_CASE("a start takes the new file that a killed flusher had finished, and keeps what lay under the name") {
  const TemporaryFolder directory;
  {
    Spool spool(directory.path());
    spool.apply(one_visit());
  }
  std::filesystem::rename(file_of(directory), file_of(directory) + ".rescued");
  for (const char* ending : {"", "-wal", "-shm"}) std::ofstream(file_of(directory) + ending) << "somebody's";
  CHECK(visits_in(directory) == 1);
  CHECK_FALSE(std::filesystem::exists(file_of(directory) + ".rescued"));
}

TEST_CASE("where no new file can be made nothing is written, and the spool goes on once one can") {
  const TemporaryFolder directory;
  {
    Spool spool(directory.path());
    spool.apply(one_visit());
    std::filesystem::remove_all(directory.path());
    std::ofstream(directory.path()) << "in the way";
    CHECK_THROWS_AS(spool.apply(one_visit()), SpoolFull);
    CHECK_THROWS_AS(spool.look(), SpoolFull);
    std::filesystem::remove(directory.path());
    spool.apply(one_visit());
  }
  CHECK(visits_in(directory) == 2);
}

TEST_CASE("a spool remembers on which machine it was used last") {
  const TemporaryFolder directory;
  {
    Spool spool(directory.path());
    CHECK(spool.note_machine("one").empty());
    CHECK(spool.note_machine("one") == "one");
  }
  Spool spool(directory.path());
  CHECK(spool.note_machine("two") == "one");
  CHECK(spool.note_machine("two") == "two");
}

// ---- the layout

namespace {

/// What a start with this layout says; empty: it is taken.
std::string start_with(const std::string& directory, const SpoolLayout& layout) {
  try {
    const Spool spool(directory, layout);
  } catch (const Error& failed) {
    return failed.what();
  }
  return {};
}

}  // namespace

TEST_CASE("a spool is used with the layout of its first use alone") {
  const TemporaryFolder directory;
  const SpoolLayout made{64, 100, {"one", "two"}};
  CHECK(start_with(directory.path(), made).empty());
  CHECK(start_with(directory.path(), made).empty());
  CHECK(start_with(directory.path(), {32, 100, {"one", "two"}}).find("redis.buckets = 64") != std::string::npos);
  CHECK(start_with(directory.path(), {64, 10, {"one", "two"}}).find("redis.virtual_nodes = 100") != std::string::npos);
  CHECK(start_with(directory.path(), {64, 100, {"one"}}).find("shards one, two") != std::string::npos);
  CHECK(start_with(directory.path(), made).empty());
  // Refused starts began no life: three were taken.
  CHECK(Spool(directory.path()).load().incarnation.number == 4);
}

TEST_CASE("a spool without a note takes the one under which its pages lie where they are") {
  const TemporaryFolder directory;
  {
    Spool spool(directory.path());
    Transaction sealed;
    for (int n = 0; n < 20; ++n) {
      const std::string page = fmt::format("page-{}", n);
      sealed.open.emplace_back(page_bucket(page, 64), encode_effects({{page, 1}}));
    }
    spool.apply(sealed);
  }
  CHECK(start_with(directory.path(), {8, 100, {"one"}}).find("Set redis.buckets as it was") != std::string::npos);
  CHECK(start_with(directory.path(), {128, 100, {"one"}}).find("Set redis.buckets as it was") != std::string::npos);
  CHECK(start_with(directory.path(), {64, 100, {"one"}}).empty());
  CHECK(start_with(directory.path(), {128, 100, {"one"}}).find("redis.buckets = 64") != std::string::npos);
}

TEST_CASE("a layout reads as it was written") {
  const SpoolLayout layout{8192, 100, {"a,b", "c d"}};
  SpoolLayout parsed;
  REQUIRE(parse_layout(to_text(layout), parsed));
  CHECK(parsed == layout);
  for (const char* text : {"", "8192", "8192\n100", "8192\n0\na", "x\n100\na", "8192\n100x\na"}) {
    CHECK_FALSE(parse_layout(text, parsed));
  }
  CHECK(parsed == layout);
}

}  // namespace visitd
