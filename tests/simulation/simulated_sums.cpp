// What a simulated server does with the field of a bucket's sum, as flusher/redis/batch.lua and sum.lua do.
#include <fmt/format.h>

#include <algorithm>

#include "common/os/text.hpp"
#include "common/shm/hash.hpp"
#include "tests/simulation/simulated_shard.hpp"

namespace visitd {

namespace {

using Fields = std::map<std::string, std::string>;

constexpr std::uint64_t digest_modulus = std::uint64_t{1} << 48U;

struct SumField {
  std::uint64_t fields = 0;
  std::uint64_t digest = 0;
  std::uint64_t sum = 0;
  std::uint64_t largest = 0;
};

bool parse(const std::string& text, SumField& field) {
  std::string_view rest = text;
  return parse_decimal(take_until(rest, ' '), field.fields) && parse_decimal(take_until(rest, ' '), field.digest) &&
         parse_decimal(take_until(rest, ' '), field.sum) && parse_decimal(rest, field.largest);
}

std::string to_text(const SumField& field) {
  return fmt::format("{} {} {} {}", field.fields, field.digest, field.sum, field.largest);
}

/// Another number for each mark: salts of real marks do that.
std::uint64_t part(const std::string& mark) {
  return mark.empty() ? 0 : hash_bytes(mark) % digest_modulus;
}

bool is_page(const std::string& name) {
  return !name.starts_with('\x01');
}

std::uint64_t held_of(const Fields& fields, const std::string& page) {
  const auto held = fields.find(page);
  std::uint64_t count = 0;
  return held != fields.end() && parse_decimal(held->second, count) ? count : 0;
}

}  // namespace

void SimulatedShard::keep_sum(const Fields& before, Fields& fields) const {
  SumField field;
  const auto held = before.find(sum_field);
  if (held == before.end() || !parse(held->second, field)) return;
  const auto digest = [](const Fields& of) {
    std::uint64_t sum = 0;
    for (const auto& [name, value] : of) {
      if (name.starts_with("\x01w:")) sum += part(value);
      if (name == fix_field) sum += std::stoull(value);
    }
    return sum;
  };
  field.fields += fields.size() - before.size();
  field.digest = (field.digest + digest(fields) - digest(before)) % digest_modulus;
  const bool corrects =
      before.contains(fix_field) ? before.at(fix_field) != fields.at(fix_field) : fields.contains(fix_field);
  const std::uint64_t largest = field.largest;
  bool falls = false;
  Fields all = before;
  all.insert(fields.begin(), fields.end());
  for (const auto& [page, _] : all) {
    if (!is_page(page)) continue;
    const std::uint64_t was = held_of(before, page);
    const std::uint64_t is = held_of(fields, page);
    if (!corrects || summing_ != Summing::correction_leaves_sum) field.sum += is - was;
    if (is < was && was == largest) falls = true;
    if (is > was && summing_ != Summing::largest_is_not_raised) field.largest = std::max(field.largest, is);
  }
  if (falls) {
    fields.erase(sum_field);
  } else {
    fields[sum_field] = to_text(field);
  }
}

Sums SimulatedShard::run_sums(const AskSums& ask, const std::string& writer) {
  Sums sums;
  for (const std::uint32_t bucket : ask.buckets) {
    if (auto elsewhere = redirect(bucket, ask.once)) {
      sums.buckets.push_back({});
      sums.buckets.back().redirect = std::move(elsewhere);
    } else {
      sums.buckets.push_back(sum_of(bucket, ask, writer));
    }
  }
  return sums;
}

Sums::Held SimulatedShard::sum_of(std::uint32_t bucket, const AskSums& ask, const std::string& writer) {
  Sums::Held said{field(bucket, id_field),
                  field(bucket, moved_field),
                  mark(bucket, writer),
                  tombstone(bucket, writer),
                  false,
                  "",
                  0,
                  0,
                  0};
  if (said.id.empty() || !said.moved.empty()) return said;
  said.known = true;
  Fields& fields = now_.buckets[bucket].fields;
  SumField kept;
  std::uint64_t digest = fix_of(bucket) + part(said.field);
  for (const std::string& other : ask.writers) digest += part(mark(bucket, other));
  const bool is_there = parse(field(bucket, sum_field), kept);
  const bool fits = digest % digest_modulus == kept.digest && fields.size() == kept.fields;
  if (is_there && (fits || summing_ == Summing::digest_is_not_compared)) {
    said.sum = std::to_string(kept.sum);
    said.largest = kept.largest;
    return said;
  }
  SumField made{fields.size() + (fields.contains(sum_field) ? 0 : 1), fix_of(bucket), 0, 0};
  for (const auto& [name, value] : fields) {
    if (name.starts_with("\x01w:")) made.digest += part(value);
    if (!is_page(name)) continue;
    ++said.read;
    std::uint64_t count = 0;
    if (!parse_decimal(value, count)) ++said.odd;
    made.sum += count;
    made.largest = std::max(made.largest, count);
  }
  made.digest %= digest_modulus;
  said.sum = std::to_string(made.sum);
  said.largest = made.largest;
  if (said.odd == 0 && !fields.contains(moving_field) && refusing_ == Refusing::nothing) {
    fields[sum_field] = to_text(made);
    note_change();
  }
  return said;
}

}  // namespace visitd
