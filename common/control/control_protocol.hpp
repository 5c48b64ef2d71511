// What visitctl asks of a running flusher, and how both write it: one JSON object a line each way, over the Unix stream
// socket flusher.sock of the runtime directory.
//
//   → {"command":"flush","timeout_ms":20000}      ← {"ok":true,"visits":12}
//   → {"command":"page","argument":"home"}        ← {"ok":true,"shard":"redis_7070","count":123}
//   → {"command":"accept","argument":"redis_7070"} ← {"ok":true,"token":"5d41402abc4b2a76","visits":90}
//   → {"command":"accept","argument":"redis_7070","token":"5d41402abc4b2a76"} ← {"ok":true,"shard":"redis_7070"}
//   → {"command":"accept","argument":"redis_7071"} ← {"ok":false,"error":"redis_7071 is not held"}
//   → {"command":"flush","timeout_ms":10}         ← {"ok":false,"error":"… in time …","passing":1}
//   → {"command":"shards"}                        ← {"ok":true,"rows":[{"name":"redis_7070","memory_bytes":900000}]}
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace visitd {

/// What is asked for, and the texts and numbers of its answer.
enum class ControlCommand : std::uint8_t {
  /// Carry to Redis what the lanes hold at this moment. Answered once the shards have it.
  ///   visits           that Redis had not acknowledged
  ///   pages_set_aside  if Redis could not take the visits of some pages meanwhile: how many pages
  ///   set_aside        the first pages that cannot be counted; only beside pages_set_aside
  flush,
  /// Say what the flusher and Redis know of a page. The argument is its id.
  ///   shard, bucket        where Redis keeps it
  ///   known_field          what the flusher last saw in its field
  ///   open, inflight       visits that are not sent, and that are not acknowledged
  ///   set_aside            visits that Redis could not take; only if there are any
  ///   damaged, spilled     why the page cannot be counted, and that the spool holds more; only if so
  ///   count, field         what Redis holds now; or else
  ///   unreadable           why nobody can say
  page,
  /// Take what a held shard holds as the truth. The argument is the shard's name. Without a token nothing changes: the
  /// answer is the offer, and its token accepts it.
  ///   shard, token               which shard, and the token of this offer
  ///   buckets                    that hold something else than this host left there
  ///   pages, visits              that this host last saw in them
  ///   kept_visits                that come back out of kept batches
  accept,
  /// Change the deployment's shards. The argument is "add NAME=URL", "remove NAME", "replace NAME=URL", or
  /// "settings": the shards become those that the settings name; or "cluster HOST:PORT,HOST:PORT": all buckets go into
  /// that cluster, or "shards NAME=URL NAME=URL": out of theirs. "rate=N " before it: at most N buckets a second move.
  /// Without a token nothing changes: the answer is the offer, and its token makes the change.
  ///   token, version     of the offer; the change's number
  ///   buckets, moves     how many there are, and how many would move
  ///   shards             what each shard would give and take
  ///   which              the buckets that would move: "3-5,9"
  change_shards,
  /// Say how far buckets have moved.
  ///   version, shards, moving          the last change, the shards, and 1 while buckets move
  ///   next, buckets, moved             while they move: to which shards, how many, how many are there durably
  ///   by_this_host, problem            1: this host moves them; what holds them up, only if something does
  moves,
  /// Say what the flusher knows of each shard, in rows, in the order of the settings.
  ///   name, address
  ///   role, version              of the server, as it last said; only if it did
  ///   memory_bytes               that the server uses; only if it said so
  ///   memory_limit_bytes         0: none; only if it said so
  ///   oldest_wait_ms             how long the oldest visits wait that the shard should have; only if any do
  ///   latency_us                 how long it took to answer when it was last asked what it is; only if it was
  shards,
  /// Say which writers (hosts) the shards know, in rows, by id.
  ///   unasked                    names of shards that cannot be asked now; only if there are any
  /// In a row:
  ///   writer                     its id
  ///   host, version              as it last said; only if it did, as the next ones
  ///   incarnation                the number of its life
  ///   seen_at, wrote_at          Unix seconds: its last flush, and its last one that brought something (0: none)
  ///   batches, buckets           of all shards together: that it ever brought, and that it ever wrote to
  ///   ours                       1: it is this host's
  ///   forgotten_at, forgotten_by when and on which host it was forgotten; only if it was
  writers,
  /// Forget a writer that is gone: its id. Without a token nothing changes: the answer is the offer, and its token
  /// forgets it.
  ///   as in its row of `writers`; host is "-" if nobody knows it
  ///   token                      of this offer
  ///   gone_after_s               so long ago it should have been seen (flusher.writer_gone_s)
  /// With the token:
  ///   taken_out                  buckets that its field was taken out of
  ///   left                       names of shards that may know it still; only if there are any
  forget,
  /// List pages with their counts, in pieces. The argument is where the piece begins: "0", and then what the piece
  /// before said. Each visit that was recorded before the piece was asked for is included.
  ///   lines              the pages: see PageLinesReader
  ///   next               where the next piece begins; only if there is more
  ///   buckets, finished  how many there are, and so many of them are listed
  pages,
  /// Say which pages have the largest counts. The argument is how many, 1 to 1000. In rows, the largest first:
  ///   page, count
  /// Each visit that was recorded before is included. Of pages with the same count as the last one, some may be left
  /// out.
  ///   buckets, unknown   how many there are, and of how many nobody can say now what they hold
  ///   unknown_pages      pages in the others of which nobody can say a count; only if there are any
  ///   why                the first bucket is not known; only if one is not
  top,
  /// Say what the counts of all pages come to.
  ///   total              its digits, as text: it may pass 64 bits
  ///   buckets, unknown, unknown_pages, why   as of `top`: what is not known is not in it
  total,
  /// Change counts. The argument is a list of changes, see encode_changes(). Answered once it is known what became of
  /// each, in rows, in their order.
  ///   page
  ///   before, after              in Redis; of an `add` only after: what was added
  ///   problem                    why it was not done, or is not known; only if so
  ///   below_0                    1: the count would have fallen below 0, and stays; only beside problem
  correct,
  /// Count visits that came from elsewhere, once. The argument is the import's id, a newline, and a list of changes
  /// that
  /// add. Answered once the spool has them.
  ///   added                      pages; 0: they were counted before
  import,
  /// Say which counts were changed lately, in rows, the oldest first.
  ///   at, by, page               Unix seconds, who asked for it, the page
  ///   gained, lost               one of them
  ///   count                      in Redis, afterwards; not of an `add`
  ///   into                       the page that was given what this one lost; only if there is one
  corrections,
};

/// How long one piece of a list of pages is waited for: a shard that rests, or is away for a moment, answers within it.
constexpr std::uint32_t control_piece_timeout_ms = 5000;
/// A request's line is shorter.
constexpr std::size_t control_request_bytes = 1U << 20U;
/// An answer's line is not longer.
constexpr std::size_t control_answer_bytes = 4U << 20U;

struct ControlRequest {
  ControlCommand command = ControlCommand::flush;
  std::string argument = {};                ///< empty: the command takes none
  std::uint32_t timeout_ms = 10'000;        ///< how long the client waits; decoded: at most 600,000
  std::optional<std::uint64_t> token = {};  ///< of accept: the offer that is accepted
  // Who asks, and how; no part of the line.
  std::optional<std::uint32_t> user = {};  ///< as the kernel says
  std::string by = {};                     ///< for people, where it is no user of this host
  std::string question = {};               ///< of `correct`: an id under which it is done once; empty: it has none
  std::size_t answer_bytes = control_answer_bytes;  ///< the answer's line is not longer
};

/// What is to become of a page's count.
enum class ControlVerb : std::uint8_t {
  set,    ///< it becomes `operand`
  add,    ///< so much more
  lower,  ///< so much less, where that is not below 0
  take    ///< 0, and `operand` is given what it was
};
struct ControlChange {
  ControlVerb verb = ControlVerb::set;
  std::string page;
  std::string operand;
};
/// A change a line, its parts apart by tabs: ids have neither.
void append_change(std::string& argument, ControlVerb verb, std::string_view page, std::string_view operand);
/// The verb of a change that this word stands for; nullopt: the word stands for none.
[[nodiscard]] std::optional<ControlVerb> verb_named(std::string_view word) noexcept;
[[nodiscard]] std::string encode_changes(const std::vector<ControlChange>& changes);
/// Throws Error for the client.
[[nodiscard]] std::vector<ControlChange> decode_changes(std::string_view argument);

/// The text or number of this name; nullptr: no value has the name.
template <typename Values>
[[nodiscard]] const auto* value_named(const Values& values, std::string_view name) noexcept {
  const auto found = std::ranges::find(values, name, [](const auto& one) { return std::string_view(one.first); });
  return found == values.end() ? nullptr : &found->second;
}

/// Texts and numbers under their names, the texts first.
struct ControlRow {
  std::vector<std::pair<std::string, std::string>> text = {};
  std::vector<std::pair<std::string, std::uint64_t>> numbers = {};
};

/// What becomes of it. Texts and numbers stand beside "ok" in the answer.
struct ControlAnswer {
  bool ok = false;
  std::string error;  ///< not ok: why, and what to do
  std::vector<std::pair<std::string, std::string>> text;
  std::vector<std::pair<std::string, std::uint64_t>> numbers;
  std::vector<ControlRow> rows = {};  ///< under "rows"; a command that lists nothing has none
  bool passing = false;               ///< not ok: the same may be done if it is asked for again soon
};

/// Why something was not done.
[[nodiscard]] ControlAnswer refusal_of(const std::exception& failure);
[[nodiscard]] ControlAnswer passing_refusal(std::string why);

/// The most pages that `top` says.
constexpr std::uint32_t control_top_pages = 1000;
/// So long after a request's timeout the flusher says that it is not done, and the client waits no longer.
constexpr std::uint32_t control_answer_grace_ms = 1000;
constexpr std::uint32_t control_client_grace_ms = 3000;

/// Lines end with a newline where they are encoded, and have none where they are decoded.
[[nodiscard]] std::string encode_request(const ControlRequest& request);
/// A vetted request: it has the argument that its command needs. Throws Error for the client.
[[nodiscard]] ControlRequest decode_request(std::string_view line);
[[nodiscard]] std::string encode_answer(const ControlAnswer& answer);
/// Leaves out what is neither text, number nor row. Throws Error where it is no answer of a flusher.
[[nodiscard]] ControlAnswer decode_answer(std::string_view line);

/// A token as requests and answers hold it.
[[nodiscard]] std::string encode_token(std::uint64_t token);
/// Throws Error for the client.
[[nodiscard]] std::uint64_t decode_token(std::string_view text);

}  // namespace visitd
