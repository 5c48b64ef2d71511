#include "flusher/counting/writer_book.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "common/os/errors.hpp"

namespace visitd {

namespace {

/// What several shards answer, and how many have not yet. `done` is called with it when the last one goes.
template <typename Result>
class Gathered {
 public:
  explicit Gathered(std::function<void(Result)> done) : done_(std::move(done)) {}
  Gathered(const Gathered&) = delete;
  Gathered& operator=(const Gathered&) = delete;
  ~Gathered() = default;

  /// The asking has begun: nothing is told before it has ended.
  void begin() noexcept { ++awaited_; }
  void end() {
    if (--awaited_ == 0) done_(std::move(result));
  }

  Result result;

 private:
  std::function<void(Result)> done_;
  std::size_t awaited_ = 0;
};

}  // namespace

void WriterBook::add_shard(const std::string& name, ShardSession& session, bool in_cluster) {
  shards_.push_back({name, &session, in_cluster});
  shards_.back().noted_batches = written_as_of(static_cast<std::uint32_t>(shards_.size() - 1)).batches;
  for (const auto& forgetting : forgettings_) forgetting->add_shard(to_forget(shards_.back()));
  if (!in_cluster) return;
  // A node's note tells of all nodes: with one more of them, all notes tell more.
  for (Shard& shard : shards_) {
    if (shard.in_cluster) shard.noted_batches = shards_.back().noted_batches;
  }
}

void WriterBook::drop_shards(std::size_t count) {
  shards_.resize(count);
  for (const auto& forgetting : forgettings_) forgetting->drop_shards(count);
}

/// In a cluster the buckets of one node are in many slots.
Forgetting::Shard WriterBook::to_forget(const Shard& shard) {
  return {shard.name, shard.session, shard.in_cluster ? 1 : marks_asked_at_once};
}

Batches::Written WriterBook::written_as_of(std::uint32_t shard) const noexcept {
  if (!shards_[shard].in_cluster) return batches_.written_on(shard);
  Batches::Written written;
  for (std::uint32_t node = 0; node < shards_.size(); ++node) {
    if (!shards_[node].in_cluster) continue;
    const Batches::Written on_node = batches_.written_on(node);
    written.batches += on_node.batches;
    written.buckets += on_node.buckets;
  }
  return written;
}

/// In a cluster the node that keeps the notes does not see the others' tombstones.
bool WriterBook::is_known_to_all() const {
  return std::ranges::all_of(shards_, [](const Shard& shard) { return shard.session->is_up(); });
}

void WriterBook::note(std::uint32_t number, std::uint64_t unix_now) {
  Shard& shard = shards_[number];
  const Batches::Written written = written_as_of(number);
  NoteWriter note{{{self_.id, to_text(WriterNote{self_.host, self_.version, self_.incarnation, unix_now,
                                                 written.batches, written.buckets})}}};
  if (written.batches != shard.noted_batches) note.fields.emplace_back(self_.id + ":wrote", std::to_string(unix_now));
  // A connection comes up only where there is no tombstone of ours, or none any more.
  const std::uint64_t connection = shard.session->connections();
  const bool goes_on = connection != shard.noted_connection && (!shard.in_cluster || is_known_to_all());
  if (goes_on) note.fields.emplace_back(self_.id + ":forgotten", "");
  shard.session->note_writer(std::move(note),
                             [this, number, goes_on, connection, batches = written.batches](bool here) {
                               shards_[number].noted_batches = batches;
                               if (here && goes_on) shards_[number].noted_connection = connection;
                             });
}

void WriterBook::ask(const std::function<void(Told)>& done) const {
  const auto gathered = std::make_shared<Gathered<Told>>(done);
  gathered->begin();
  for (const Shard& shard : shards_) {
    gathered->begin();
    shard.session->ask_writers([gathered, name = shard.name](const std::optional<Writers>& writers) {
      if (writers) {
        gathered->result.list.add(writers->fields);
      } else {
        gathered->result.unasked.push_back(name);
      }
      gathered->end();
    });
  }
  gathered->end();
}

void WriterBook::forget(const std::string& writer, std::uint64_t unix_now, std::uint64_t until_ms,
                        std::function<void(Forgetting::Told)> done) {
  if (writer == self_.id) throw error("{} is this host's own writer, which counts: it is not forgotten", writer);
  const NoteWriter note{{{writer + ":forgotten", to_text(ForgottenNote{unix_now, self_.host})}}};
  std::vector<Forgetting::Shard> shards;
  for (const Shard& shard : shards_) {
    shards.push_back(to_forget(shard));
    if (shard.session->is_up()) shard.session->send(note, [](const ShardAnswer&) {});
  }
  forgettings_.push_back(
      std::make_shared<Forgetting>(writer, std::move(shards), placement_, until_ms, std::move(done)));
  forgettings_.back()->begin();
}

void WriterBook::tick(std::uint64_t now_ms) {
  for (const auto& forgetting : forgettings_) forgetting->tick(now_ms);
  std::erase_if(forgettings_, [](const auto& forgetting) { return forgetting->is_over(); });
}

}  // namespace visitd
