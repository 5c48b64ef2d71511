#include "flusher/counting/page_scan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/control/page_lines.hpp"
#include "common/os/errors.hpp"
#include "common/os/text.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/page_id.hpp"

namespace visitd {

namespace {

// A piece of a quarter of a mebibyte takes the loop a few milliseconds in all. An answer has room for sixteen: beside
// what a piece has more in the end, JSON may write two bytes for one.
constexpr std::size_t pieces_in_answer = 16;
constexpr std::size_t buckets_at_once = 64;
constexpr std::size_t bytes_of_asked_page = 512;
// A bucket with more pending pages than this is listed in more than one piece.
constexpr std::size_t pending_at_once = 500;
constexpr std::size_t usual_bucket_bytes = 4096;

}  // namespace

// ---- places

std::string to_text(const ScanPlace& place) {
  if (place.in == ScanPlace::In::start) return fmt::format("{}", place.bucket);
  return fmt::format("{} {} {} {}", place.bucket, place.in == ScanPlace::In::pending ? 'p' : 's', place.at,
                     place.source);
}

ScanPlace parse_scan_place(std::string_view text) {
  ScanPlace place;
  std::string_view rest = text;
  bool fits = parse_decimal(take_until(rest, ' '), place.bucket);
  if (!rest.empty()) {
    const std::string_view in = take_until(rest, ' ');
    fits = fits && (in == "p" || in == "s") && parse_decimal(take_until(rest, ' '), place.at) &&
           parse_decimal(rest, place.source);
    place.in = in == "p" ? ScanPlace::In::pending : ScanPlace::In::shard;
  }
  if (!fits) throw error("'{}' is no place where a list of pages goes on", text);
  return place;
}

// ---- pieces

PageScan::PageScan(PendingParts parts, AskableShards& shards, ScanPort& port)
    : parts_(parts), shards_(shards), port_(port), bucket_bytes_(usual_bucket_bytes) {}

void PageScan::begin(const ScanPlace& from, std::uint64_t until_ms, std::size_t answer_bytes,
                     std::function<void(Told)> done) {
  if (from.bucket >= parts_.placement.buckets()) {
    throw error("there is no bucket {}: the deployment has {}", from.bucket, parts_.placement.buckets());
  }
  const auto piece = std::make_shared<Piece>();
  piece->until_ms = until_ms;
  piece->bytes = answer_bytes / pieces_in_answer;
  piece->done = std::move(done);
  piece->parts.push_back({from});
  pieces_.push_back(piece);
}

void PageScan::tick(std::uint64_t now_ms) {
  now_ms_ = now_ms;
  shards_.set_time(now_ms);
  for (const std::shared_ptr<Piece>& piece : std::vector(pieces_)) advance(piece);
  std::erase_if(pieces_, [](const std::shared_ptr<Piece>& piece) { return !piece->done; });
}

void PageScan::advance(const std::shared_ptr<Piece>& piece) {
  const bool late = now_ms_ >= piece->until_ms;
  if (!late) {
    add_parts(*piece);
    for (std::size_t index = 0; index < piece->parts.size(); ++index) step(piece, index);
  }
  if (late) {
    if (Part& first = piece->parts.front(); !first.over && first.lines.empty()) give_up(first, first.waits_for);
    return tell(*piece);
  }
  const auto ready = [&](const Part& part) {
    // Of a piece that is full, what a bucket has listed is told, and the rest comes with the next one.
    return part.over || (piece->full && !part.asking && !part.lines.empty());
  };
  if (std::ranges::all_of(piece->parts, ready)) tell(*piece);
}

/// So many buckets as make a piece; once it is full, no more of them.
void PageScan::add_parts(Piece& piece) {
  std::size_t bytes = 0;
  std::size_t under_way = 0;
  for (const Part& part : piece.parts) {
    bytes += part.lines.size();
    if (part.over) continue;
    // One that takes many commands comes alone.
    if (!part.lines.empty()) under_way = buckets_at_once;
    ++under_way;
  }
  const std::uint32_t next = piece.parts.back().place.bucket + 1;
  for (std::uint32_t bucket = next; bucket < parts_.placement.buckets() && under_way < buckets_at_once; ++bucket) {
    if (bytes + under_way * bucket_bytes_ >= piece.bytes) break;
    piece.parts.push_back({{bucket}});
    ++under_way;
  }
  piece.full = piece.full || bytes >= piece.bytes ||
               (under_way == 0 && piece.parts.back().place.bucket + 1 < parts_.placement.buckets());
}

void PageScan::step(const std::shared_ptr<Piece>& piece, std::size_t index) {
  Part& part = piece->parts[index];
  if (part.over || part.asking || (piece->full && !part.lines.empty())) return;
  const std::uint32_t bucket = part.place.bucket;
  const std::uint32_t shard = parts_.placement.shard_of(bucket);
  if (const std::string why = shards_.why_unknown(shard); !why.empty()) return give_up(part, why);
  if (part.place.in != ScanPlace::In::start && part.place.source != port_.source(shard)) {
    part.place = {bucket};
    part.lines.clear();
  }
  if (!parts_.open.is_in_memory(bucket)) {
    part.waits_for = "visits of it wait in the spool alone, and could not be read in time";
    return parts_.open.want_for_read(bucket);
  }
  part.waits_for = "its shard did not answer in time";
  if (!shards_.may_ask(shard)) return;
  if (part.place.in == ScanPlace::In::start && parts_.series_of(bucket).size() > pending_at_once) {
    begin_lines(part);
    part.place = {bucket, ScanPlace::In::pending, 0, port_.source(shard)};
  }
  if (part.place.in == ScanPlace::In::pending) return list_pending(part);
  ask(piece, index, shard);
}

// ---- one bucket

void PageScan::begin_lines(Part& part) const {
  if (part.lines.empty()) {
    PageLinesWriter(part.lines).bucket(part.place.bucket, part.place.in == ScanPlace::In::start);
  }
}

void PageScan::give_up(Part& part, std::string_view why) {
  part.lines.clear();
  PageLinesWriter(part.lines).unknown_bucket(part.place.bucket, why);
  part.over = true;
}

/// The next ones by their hashes: pages come and go meanwhile.
void PageScan::list_pending(Part& part) {
  begin_lines(part);
  std::vector<std::pair<std::uint64_t, std::uint32_t>> behind;
  for (const std::uint32_t number : parts_.series_of(part.place.bucket)) {
    if (parts_.pending[number].hash >= part.place.at) behind.emplace_back(parts_.pending[number].hash, number);
  }
  const std::size_t listed = std::min(behind.size(), pending_at_once);
  std::ranges::partial_sort(behind, behind.begin() + static_cast<std::ptrdiff_t>(listed));
  PageLinesWriter lines(part.lines);
  for (std::size_t i = 0; i < listed; ++i) {
    const SeriesVisits& page = parts_.pending[behind[i].second];
    if (page.open + page.inflight != 0) lines.pending_page(page.name(), page.open + page.inflight);
  }
  const bool all = listed == behind.size() || behind[listed - 1].first == ~std::uint64_t{0};
  // The last hash once more: another page may have it.
  part.place.at = all ? 0 : behind[listed - 1].first;
  if (all) part.place.in = ScanPlace::In::shard;
}

void PageScan::ask(const std::shared_ptr<Piece>& piece, std::size_t index, std::uint32_t number) {
  Part& part = piece->parts[index];
  const auto most =
      static_cast<std::uint32_t>(std::min<std::size_t>(most_pages_listed, piece->bytes / bytes_of_asked_page));
  const AskPages asked{part.place.bucket, part.place.at, most};
  // Before it is asked: what cannot be sent may be Lost at once.
  part.asking = true;
  shards_.asked(number);
  const bool sent = port_.list_pages(asked, [this, piece, index, number](const ShardSession::SomePages& some) {
    shards_.answered(number, std::max(some.pages ? some.pages->pages.size() : 0, least_pages_of_bucket));
    piece->parts[index].asking = false;
    if (piece->done) on_pages(piece->parts[index], some);
  });
  if (sent) return;
  part.asking = false;
  shards_.not_sent(number);
}

void PageScan::on_pages(Part& part, const ShardSession::SomePages& some) {
  if (!some.why.empty()) {
    return give_up(
        part, fmt::format("shard {} answers: {}", port_.name(parts_.placement.shard_of(part.place.bucket)), some.why));
  }
  // Spilled meanwhile: the answer would lack what is pending.
  if (!some.pages || !parts_.open.is_in_memory(part.place.bucket)) return;
  list(part, *some.pages);
}

void PageScan::list(Part& part, const Pages& pages) {
  const std::uint32_t bucket = part.place.bucket;
  const bool with_pending = part.place.in == ScanPlace::In::start;
  begin_lines(part);
  PageLinesWriter lines(part.lines);
  std::vector<std::uint32_t> listed;
  for (const Pages::Page& page : pages.pages) {
    // What somebody else wrote into the hash is no page if no request could name it.
    if (check_page_id(page.id, max_page_id_bytes) != PageIdFault::none) continue;
    const std::uint32_t number = parts_.find(page.id);
    if (number != PendingSeries::none && with_pending) listed.push_back(number);
    const std::uint64_t pending = number == PendingSeries::none ? 0 : parts_.visits_of(number);
    if (const auto count = parts_.count_of(page.id, page.count, pending)) {
      lines.page(page.id, *count);
    } else {
      lines.unknown_page(page.id);
    }
  }
  if (with_pending) {
    std::ranges::sort(listed);
    for (const std::uint32_t number : parts_.series_of(bucket)) {
      const SeriesVisits& page = parts_.pending[number];
      if (page.open + page.inflight == 0 || std::ranges::binary_search(listed, number)) continue;
      lines.pending_page(page.name(), page.open + page.inflight);
    }
  }
  part.over = pages.cursor == 0;
  part.place = {bucket, ScanPlace::In::shard, pages.cursor, port_.source(parts_.placement.shard_of(bucket))};
}

/// All that is listed without a gap.
void PageScan::tell(Piece& piece) {
  Told told;
  told.buckets = parts_.placement.buckets();
  ScanPlace next = piece.parts.front().place;
  std::size_t over = 0;
  for (const Part& part : piece.parts) {
    next = part.place;
    if (told.lines.size() >= 2 * piece.bytes) {
      // What it has listed is left out: the next piece lists it once more.
      next = {part.place.bucket};
      break;
    }
    told.lines += part.lines;
    if (!part.over) break;
    ++over;
    next = {part.place.bucket + 1};
  }
  if (over > 1) bucket_bytes_ = std::max<std::size_t>(told.lines.size() / over, 1);
  told.finished = next.bucket;
  if (next.bucket < told.buckets) told.next = to_text(next);
  std::exchange(piece.done, nullptr)(std::move(told));
}

}  // namespace visitd
