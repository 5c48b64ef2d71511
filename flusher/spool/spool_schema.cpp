#include "flusher/spool/spool_schema.hpp"

#include <fmt/format.h>

#include <string>

#include "common/shm/page_id.hpp"
#include "flusher/counting/batch.hpp"
#include "flusher/counting/deployment.hpp"
#include "flusher/spool/schema_version.hpp"

namespace visitd {

namespace {

constexpr int application_id = 0x76697374;  // "vist"

constexpr const char* schema = R"sql(
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE incarnation (number INTEGER PRIMARY KEY, random TEXT NOT NULL);
  CREATE TABLE ring (noted INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, segment INTEGER NOT NULL,
                     finished INTEGER NOT NULL, positions TEXT NOT NULL, digest INTEGER NOT NULL);
  CREATE TABLE journal (number INTEGER PRIMARY KEY, digest INTEGER NOT NULL, deltas BLOB NOT NULL);
  CREATE TABLE open (bucket INTEGER PRIMARY KEY, digest INTEGER NOT NULL, pages BLOB NOT NULL);
  CREATE TABLE batch (number INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, seq INTEGER NOT NULL, mark TEXT NOT NULL,
                      expected TEXT NOT NULL, digest INTEGER NOT NULL, pages BLOB NOT NULL, UNIQUE (bucket, seq));
  -- When a batch was answered. Beside it, so that the batch is not written anew.
  CREATE TABLE answered (number INTEGER PRIMARY KEY, at INTEGER NOT NULL);
  CREATE TABLE bucket (bucket INTEGER PRIMARY KEY, seq INTEGER NOT NULL, field TEXT NOT NULL);
  CREATE TABLE identity (shard TEXT PRIMARY KEY, identity TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE set_aside (number INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, page BLOB NOT NULL,
                          visits INTEGER NOT NULL, reason TEXT NOT NULL);
)sql";

void change_schema(SpoolDatabase& database, const SchemaStep& step) {
  database.execute("BEGIN IMMEDIATE");
  database.execute(step.sql);
  database.execute(
      fmt::format("INSERT INTO meta (key, value) VALUES ('least_schema', '{}') ON CONFLICT (key) DO UPDATE SET "
                  "value = excluded.value WHERE CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER)",
                  step.least_schema)
          .c_str());
  database.execute(fmt::format("PRAGMA user_version = {}", step.schema).c_str());
  database.execute("COMMIT");
}

/// Of a spool that has no note: whether its rows lie where this layout puts them.
void check_places(SpoolDatabase& database, const SpoolLayout& layout) {
  const auto refuse = [&](std::int64_t bucket) {
    return error(
        "the spool {} cannot be used with these settings: it holds visits in bucket {} which are in another bucket, or "
        "in none, with redis.buckets = {}. Set redis.buckets as it was when they were counted",
        database.path(), bucket, layout.buckets);
  };
  const std::int64_t largest = database.number_of(
      "SELECT max(coalesce((SELECT max(bucket) FROM batch), 0), coalesce((SELECT max(bucket) FROM open), 0), "
      "coalesce((SELECT max(bucket) FROM bucket), 0))");
  if (largest >= std::int64_t{layout.buckets}) throw refuse(largest);
  // Each page lies in the bucket of its hash: a few tell another number of buckets.
  for (const char* sql :
       {"SELECT bucket, pages FROM batch ORDER BY number DESC LIMIT 100", "SELECT bucket, pages FROM open LIMIT 100"}) {
    SpoolStatement rows(database, sql);
    while (rows.row()) {
      EffectReader effects(rows.bytes(1));
      if (effects.next() && page_bucket(effects.series(), layout.buckets) != rows.integer(0))
        throw refuse(rows.integer(0));
    }
  }
}

}  // namespace

bool check_schema(SpoolDatabase& database) {
  const std::int64_t version = database.number_of("PRAGMA user_version");
  const std::int64_t application = database.number_of("PRAGMA application_id");
  const bool empty = database.number_of("SELECT count(*) FROM sqlite_schema") == 0;
  if (empty ? application != 0 || version != 0 : application != application_id) {
    throw error("{} is not a spool of visitd: move it away, or name another state directory (paths.state_directory)",
                database.path());
  }
  if (version > schema_version) {
    const std::int64_t least = database.number_of("SELECT value FROM meta WHERE key = 'least_schema'");
    if (least == 0 || least > schema_version) {
      throw error("{} was written by a newer visitd (schema {}, this one knows {}): run that version", database.path(),
                  version, schema_version);
    }
  }
  return empty;
}

void make_tables(SpoolDatabase& database, std::string_view writer) {
  database.execute("BEGIN IMMEDIATE");
  database.execute(schema);
  SpoolStatement(database, "INSERT INTO meta (key, value) VALUES ('writer', ?)").text(writer).run();
  database.execute(fmt::format("PRAGMA application_id = {}", application_id).c_str());
  database.execute("PRAGMA user_version = 1");  // what follows is changed step by step
  database.execute("COMMIT");
}

void upgrade_schema(SpoolDatabase& database) {
  for (const SchemaStep& step : schema_steps) {
    if (step.schema > database.number_of("PRAGMA user_version")) change_schema(database, step);
  }
}

void keep_layout(SpoolDatabase& database, const SpoolLayout& layout) {
  SpoolStatement noted(database, "SELECT value FROM meta WHERE key = 'layout'");
  if (noted.row()) {
    SpoolLayout known;
    if (!parse_layout(noted.bytes(0), known)) throw database.damaged("table meta", "no layout");
    // From the first change on the deployment says which shards there are.
    SpoolStatement changed(database, "SELECT 1 FROM identity WHERE shard = ?");
    if (changed.text(layout_row).row()) known.shards = layout.shards;
    if (const std::string fault = layout_fault(known, layout); !fault.empty()) {
      throw error("the spool {} cannot be used with these settings: {}", database.path(), fault);
    }
    return;
  }
  check_places(database, layout);
  const std::string text = to_text(layout);
  SpoolStatement(database, "INSERT INTO meta (key, value) VALUES ('layout', ?)").text(text).run();
}

}  // namespace visitd
