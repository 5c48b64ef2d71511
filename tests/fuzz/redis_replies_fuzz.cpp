// What a Redis server says: bytes → replies → what they mean to each of our commands. However the bytes are cut, they
// mean the same; an answer fits its command; and what we say reads as it was meant.
//
// Input: the command, how large it is, where the bytes are cut, then the bytes.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "flusher/redis/codec.hpp"
#include "flusher/redis/dialect.hpp"
#include "flusher/redis/handshake.hpp"
#include "flusher/redis/sentinel_dialect.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace visitd {
namespace {

using fuzzing::Exact;
using fuzzing::Input;
using fuzzing::require;

constexpr std::uint64_t largest_count = 0x7fff'ffff'ffff'ffffU;

/// An answer as text, with all that holds of any.
struct Told {
  std::size_t size;  ///< of the command: pages or buckets

  std::string operator()(const Facts& facts) const {
    return fmt::format("facts {} {} {} {} {}", facts.maxmemory_policy.value_or("?"), facts.append_only.value_or("?"),
                       facts.role.value_or("?"), facts.run_id.value_or("?"), facts.topology);
  }
  std::string operator()(const Topology& topology) const { return "topology " + topology.topology; }
  std::string operator()(const Marks& marks) const {
    require(marks.buckets.size() == size, "each bucket has a mark");
    std::string text = "marks";
    for (const Marks::Held& held : marks.buckets)
      text += fmt::format(" {}/{}/{}/{}", held.id, held.field, held.moved, held.gone);
    return text;
  }
  std::string operator()(const BatchAnswer& answer) const {
    const bool counted = answer.kind == BatchAnswer::Kind::applied || answer.kind == BatchAnswer::Kind::duplicate;
    if (counted) require(answer.totals.size() == size, "each page has a total");
    std::string text = fmt::format("batch {} {} {}", static_cast<int>(answer.kind), answer.have, answer.why);
    for (const std::uint64_t total : answer.totals) {
      const bool may_be_none = answer.kind == BatchAnswer::Kind::duplicate && total == no_total;
      require(total <= largest_count || may_be_none, "a total is a count");
      text += fmt::format(" {}", total);
    }
    for (const std::uint32_t page : answer.bad_series) {
      require(page < size, "a bad page is one of the batch's");
      text += fmt::format(" !{}", page);
    }
    return text;
  }
  std::string operator()(const MoveAnswer& answer) const {
    return fmt::format("move {} {}", static_cast<int>(answer.kind), answer.text);
  }
  std::string operator()(const MovesTaken& taken) const { return fmt::format("taken {}", taken.ours); }
  std::string operator()(const Persistence& persistence) const {
    require(persistence.replicated <= persistence.written, "no replica has more than there is");
    return fmt::format("waits {} {} {} {}", persistence.waits, persistence.written, persistence.replicas,
                       persistence.replicated);
  }
  std::string operator()(const Count& count) const {
    require(count.count <= largest_count, "a count is one");
    require(count.readable || count.count == 0, "what is no count is 0");
    return fmt::format("count {} {} {} {} {} {} {}", count.id, count.fix, count.moved, count.field, count.gone,
                       count.count, count.readable);
  }
  std::string operator()(const Noted& /*unused*/) const { return "noted"; }
  std::string operator()(const Writers& writers) const {
    std::string text = "writers";
    for (const auto& [field, value] : writers.fields) text += fmt::format(" {}={}", field, value);
    return text;
  }
  std::string operator()(const Forgotten& forgotten) const {
    require(forgotten.buckets.size() == size, "each bucket has an answer");
    std::string text = "forgotten";
    for (const auto& [kind, marker] : forgotten.buckets) text += fmt::format(" {}/{}", static_cast<int>(kind), marker);
    return text;
  }
  std::string operator()(const Pages& pages) const {
    std::string text =
        fmt::format("pages {} {} {} {} {}", pages.cursor, pages.id, pages.moved, pages.field, pages.gone);
    for (const Pages::Page& page : pages.pages) {
      require(!page.id.starts_with('\x01'), "a field of ours is no page");
      require(!page.count || *page.count <= largest_count, "a count is one");
      text += fmt::format(" {}/{}", page.id, page.count ? fmt::format("{}", *page.count) : "?");
    }
    return text;
  }
  std::string operator()(const Sums& sums) const {
    require(sums.buckets.size() == size, "each bucket has an answer");
    std::string text = "sums";
    for (const Sums::Held& held : sums.buckets) {
      require(held.largest <= largest_count, "a count is one");
      require(!held.known || held.sum.find_first_not_of("0123456789") == std::string::npos, "a sum is digits");
      require(!held.known || (held.error.empty() && !held.redirect), "what is known is no error");
      text += fmt::format(" {}/{}/{}/{}/{}/{}/{}/{}/{}", held.id, held.moved, held.field, held.gone, held.known,
                          held.sum, held.largest, held.read + held.odd, held.error);
    }
    return text;
  }
  std::string operator()(const Nodes& nodes) const {
    for (const ClusterMap::Slots& slots : nodes.map.slots) {
      require(slots.first <= slots.last && slots.last < cluster_slots, "slots are those of a cluster");
    }
    static_cast<void>(nodes.map.place(64));
    return fmt::format("nodes {} {}", to_text(nodes.map), nodes.fault);
  }
  std::string operator()(const Replicas& replicas) const {
    return fmt::format("replicas {} {}", replicas.replicas, replicas.on_disk);
  }
  std::string operator()(const Redirect& redirect) const {
    return fmt::format("redirect {} {}", redirect.node, redirect.once);
  }
  std::string operator()(const Refused& refused) const { return "refused " + refused.error; }
  std::string operator()(const Lost& /*unused*/) const {
    require(false, "what a server says is not lost");
    return {};
  }
};

/// What the bytes mean as answers to the same command again and again, where they come in pieces of that size.
std::vector<std::string> answers(const ShardCommand& command, std::size_t size, std::string_view bytes,
                                 std::size_t piece, const ShardSettings& shard) {
  std::vector<std::string> told;
  Dialect dialect("w", shard);
  RequestText text;
  ReplyReader reader;
  const Awaited anew = dialect.write(command, text);
  Awaited awaited = anew;
  try {
    while (!bytes.empty()) {
      const Exact part(bytes.substr(0, piece));
      bytes.remove_prefix(part.view().size());
      reader.feed(part.view());
      while (const auto reply = reader.next()) {
        if (const auto answer = dialect.read(awaited, *reply)) {
          told.push_back(std::visit(Told{size}, *answer));
          awaited = anew;
        }
      }
    }
  } catch (const Error& unusable) {
    told.emplace_back(unusable.what());
  }
  return told;
}

void greet(std::string_view bytes, bool named_by_sentinels) {
  ShardSettings shard;
  shard.password = "secret";
  shard.database = 1;
  if (named_by_sentinels) shard.sentinels = {.addresses = {{"s", 1}}, .primary = "p"};
  Handshake handshake(shard);
  RequestText text;
  handshake.write(text);
  ReplyReader reader;
  const Exact own(bytes);
  reader.feed(own.view());
  try {
    while (const auto reply = reader.next()) {
      const Handshake::Progress progress = handshake.read(*reply);
      if (progress == Handshake::Progress::refused) require(!handshake.error().empty(), "a refusal has a reason");
      if (progress != Handshake::Progress::under_way) return;
    }
  } catch (const Error&) {
    return;
  }
}

/// What a sentinel says, as text.
std::vector<std::string> told_by_sentinel(std::string_view bytes, std::size_t piece) {
  std::vector<std::string> told;
  SentinelDialect dialect({.addresses = {{"s", 1}}, .primary = "p", .password = {.text = "secret"}});
  RequestText text;
  dialect.begin(text);
  ReplyReader reader;
  try {
    while (!bytes.empty()) {
      const Exact part(bytes.substr(0, piece));
      bytes.remove_prefix(part.view().size());
      reader.feed(part.view());
      while (const auto reply = reader.next()) {
        const SentinelDialect::Said said = dialect.read(*reply);
        if (const auto* address = std::get_if<ServerAddress>(&said)) {
          require(address->port != 0 && !address->host.empty(), "an address is whole");
          require(address->host.find('\0') == std::string::npos, "an address has no NUL");
          told.push_back(fmt::format("{} {}", address->host, address->port));
        } else if (const auto* refusal = std::get_if<SentinelDialect::Refusal>(&said)) {
          require(!refusal->why.empty(), "a refusal has a reason");
          told.push_back(refusal->why);
        } else {
          told.emplace_back();
        }
      }
    }
  } catch (const Error& unusable) {
    told.emplace_back(unusable.what());
  }
  return told;
}

/// What we say is an array of strings to a reader of the protocol.
void check_request(std::string_view words) {
  std::vector<std::string_view> arguments;
  for (std::size_t at = 0; at <= words.size();) {
    const std::size_t end = std::min(words.find(' ', at), words.size());
    arguments.push_back(words.substr(at, end - at));
    at = end + 1;
  }
  RequestText text;
  text.start(arguments.size());
  for (const std::string_view argument : arguments) text.add(argument);
  ReplyReader reader;
  reader.feed(text.text());
  const auto read = reader.next();
  require(read && read->is_array() && read->size() == arguments.size(), "a request is an array of its arguments");
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    require((*read)[i].is_string() && (*read)[i].text() == arguments[i], "an argument reads as it was meant");
  }
  require(!reader.next(), "a request is one array");
}

}  // namespace
}  // namespace visitd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace visitd;
  Input input(data, size);
  const std::uint8_t which = input.byte() % 20;
  const std::uint8_t second = input.byte();
  const std::size_t large = second % 8;
  ShardSettings shard;
  shard.host = "node";
  shard.in_cluster = (second & 8U) != 0;
  const std::size_t piece = input.byte() + std::size_t{1};
  const std::string_view bytes = input.rest();
  const Batch batch{7, {{1, 2}, 3, 4}, "", std::vector<Effect>(large, {"page", 1})};
  const ShardCommand commands[] = {AskFacts{},
                                   MakeTopology{},
                                   AskMarks{std::vector<std::uint32_t>(large), ""},
                                   SendBatch{&batch, ""},
                                   AskCount{7, "page"},
                                   NoteWriter{{{"w2", "note"}}},
                                   AskWriters{},
                                   ForgetWriter{"w2", "id 2", std::vector<std::uint32_t>(large)},
                                   NoteWriter{{{"w2:forgotten", ""}}},
                                   MoveBucket{MoveBucket::Step::copy_out, 7, "id 2", "b 2"},
                                   TakeMoves{"w2", 5000},
                                   AskPersistence{},
                                   AskReplicas{7, 2, false, 3000},
                                   AskReplicas{7, 2, true, 3000},
                                   AskPages{7, 12, 500},
                                   AskSums{std::vector<std::uint32_t>(large), 2000, {"w2"}},
                                   AskCount{7, "page", false, true}};
  if (which == 5) {
    greet(bytes, large % 2 == 1);
  } else if (which == 6) {
    check_request(bytes);
  } else if (which == 7) {
    require(told_by_sentinel(bytes, bytes.size()) == told_by_sentinel(bytes, piece),
            "what a sentinel says and was cut reads as when it came whole");
  } else {
    const ShardCommand ask_nodes = AskNodes{};
    const ShardCommand& command = shard.in_cluster && which == 1 ? ask_nodes : commands[which < 5 ? which : which - 3];
    require(answers(command, large, bytes, bytes.size(), shard) == answers(command, large, bytes, piece, shard),
            "what was cut reads as when it came whole");
  }
  return 0;
}
