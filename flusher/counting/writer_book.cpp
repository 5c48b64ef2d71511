#include "flusher/counting/writer_book.hpp"

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
  // A node's note tells of all nodes: with one more of them, all notes tell more.
  for (std::uint32_t number = 0; number < shards_.size(); ++number) {
    if (shards_[number].in_cluster == in_cluster) shards_[number].noted_batches = written_as_of(number).batches;
  }
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

void WriterBook::note(std::uint32_t number, std::uint64_t unix_now) {
  const Batches::Written written = written_as_of(number);
  NoteWriter note{
      to_text(WriterNote{self_.host, self_.version, self_.incarnation, unix_now, written.batches, written.buckets}),
      std::nullopt};
  if (written.batches != shards_[number].noted_batches) note.wrote_at = unix_now;
  shards_[number].session->note_writer(
      std::move(note), [this, number, batches = written.batches] { shards_[number].noted_batches = batches; });
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

void WriterBook::forget(const std::string& writer, std::uint64_t unix_now,
                        const std::function<void(Forgotten)>& done) const {
  if (writer == self_.id) throw error("{} is this host's own writer, which counts: it is not forgotten", writer);
  const auto gathered = std::make_shared<Gathered<Forgotten>>(done);
  gathered->begin();
  for (const Shard& shard : shards_) {
    gathered->begin();
    shard.session->forget(writer, to_text(ForgottenNote{unix_now, self_.host}),
                          [gathered, name = shard.name](std::optional<std::uint64_t> buckets) {
                            gathered->result.buckets += buckets.value_or(0);
                            if (!buckets) gathered->result.left.push_back(name);
                            gathered->end();
                          });
  }
  gathered->end();
}

}  // namespace visitd
