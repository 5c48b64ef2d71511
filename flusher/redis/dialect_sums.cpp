// How the sums of buckets are asked for.
#include <algorithm>
#include <utility>

#include "flusher/redis/dialect_words.hpp"

namespace visitd {

using namespace dialect;

namespace {

// What one command may name: Lua takes no more than some thousands of arguments. If there are more, all is read.
constexpr std::size_t most_writers = 1000;

bool is_decimal(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// False: it is no answer of the script.
bool parse_sum(std::string_view said, Sums::Held& held) {
  if (said == "LATER") return true;
  held.known = true;
  held.sum = take_until(said, ' ');
  return is_decimal(held.sum) && parse_count(take_until(said, ' '), held.largest) &&
         parse_decimal(take_until(said, ' '), held.read) && parse_decimal(said, held.odd);
}

bool parse_sum_of_bucket(std::string_view text, Sums::Held& held) {
  if (text == "!") {
    held.error = "its key is no hash";
    return true;
  }
  for (std::string* const part : {&held.id, &held.moved, &held.field, &held.gone}) *part = take_until(text, '\n');
  return parse_sum(text, held);
}

}  // namespace

// ---- sums: sum.lua

void Dialect::write_sums(std::span<const std::uint32_t> buckets, const AskSums& asked, RequestText& text) const {
  const std::size_t writers = std::min(asked.writers.size(), most_writers);
  text.start(11 + buckets.size() + writers);
  text.add("EVALSHA");
  text.add(scripts_.sum);
  text.add_number(buckets.size());
  for (const std::uint32_t bucket : buckets) add_bucket_key(text, bucket);
  text.add_number(asked.pages);
  text.add(id_field);
  text.add(moved_field);
  text.add(fix_field);
  text.add(sum_field);
  text.add(moving_field);
  text.add(tombstone_);
  text.add(writer_field_);
  for (std::size_t i = 0; i < writers; ++i) text.add(field_of_writer(asked.writers[i]));
}

/// In a cluster each bucket is asked for by itself: the buckets of one node are in many slots.
Awaited Dialect::write_command(const AskSums& asked, RequestText& text) const {
  const auto size = static_cast<std::uint32_t>(asked.buckets.size());
  add_asking(text, asked.once);
  if (in_cluster_) {
    for (std::size_t i = 0; i < size; ++i) write_sums(std::span(asked.buckets).subspan(i, 1), asked, text);
  } else {
    write_sums(asked.buckets, asked, text);
  }
  return {Awaited::Kind::sums, size, asked.once};
}

std::optional<ShardAnswer> Dialect::read_sums(Awaited& awaited, Reply reply) {
  if (reply.is_error() && !in_cluster_) return Refused{std::string(reply.text())};
  const std::size_t replied = in_cluster_ ? 1 : awaited.size;
  Sums::Held failed;
  failed.redirect = read_redirect(reply);
  if (!failed.redirect && reply.is_error()) {
    // Asked again in a while.
    const bool unserved = reply.text().starts_with("CLUSTERDOWN") || reply.text().starts_with("TRYAGAIN");
    if (unserved) failed.redirect = Redirect{"", true};
    if (!unserved) failed.error = reply.text();
  }
  const bool is_failed = failed.redirect || !failed.error.empty();
  if (!is_failed && (!reply.is_array() || reply.size() != replied)) unexpected("EVALSHA of sum.lua");
  for (std::size_t i = 0; i < replied; ++i) {
    sums_.buckets.push_back(failed);
    if (!is_failed && !parse_sum_of_bucket(reply[i].text(), sums_.buckets.back())) unexpected("EVALSHA of sum.lua");
  }
  awaited.size -= static_cast<std::uint32_t>(replied);
  if (awaited.size > 0) return std::nullopt;
  return std::exchange(sums_, {});
}

}  // namespace visitd
