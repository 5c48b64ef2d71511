// The writers of a deployment (its hosts), as they note themselves down on each shard. Pure.
//
// visits:writers is a hash on each shard:
//   WRITER            "HOST VERSION INCARNATION SEEN BATCHES BUCKETS": noted after each flush of the shard
//   WRITER:wrote      Unix seconds: the last flush that brought something
//   WRITER:forgotten  "AT HOST": when it was forgotten, and on which host that was asked for
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace visitd {

/// What a writer says of itself on one shard.
struct WriterNote {
  std::string host;
  std::string version;
  std::uint64_t incarnation = 0;  ///< number of its life
  std::uint64_t seen_at = 0;      ///< Unix seconds
  std::uint64_t batches = 0;      ///< that the shard has ever had of it
  std::uint64_t buckets = 0;      ///< of the shard, that it ever wrote to
};
[[nodiscard]] std::string to_text(const WriterNote& note);
/// nullopt: the text is something else.
[[nodiscard]] std::optional<WriterNote> parse_writer_note(std::string_view text);

/// When somebody forgot a writer, and on which host.
struct ForgottenNote {
  std::uint64_t at = 0;  ///< Unix seconds
  std::string by;
};
[[nodiscard]] std::string to_text(const ForgottenNote& note);
[[nodiscard]] std::optional<ForgottenNote> parse_forgotten_note(std::string_view text);

/// A writer as all shards say that were asked.
struct Writer {
  std::string id;
  WriterNote note;             ///< batches and buckets of all shards together, the rest of the newest note
  std::uint64_t wrote_at = 0;  ///< Unix seconds; 0: never, as far as is known
  std::optional<ForgottenNote> forgotten = std::nullopt;
};

class WriterList {
 public:
  /// Of one more shard: what visits:writers on it holds.
  void add(const std::vector<std::pair<std::string, std::string>>& fields);
  /// By id. A writer that has written no note has no host.
  [[nodiscard]] const std::map<std::string, Writer>& writers() const noexcept { return writers_; }

 private:
  void add(Writer& writer, std::string_view kind, std::string_view value);

  std::map<std::string, Writer> writers_;
};

}  // namespace visitd
