// How the spool's tables became what they are, step by step.
#pragma once

namespace visitd {

/// What makes a spool of the schema before into one of `schema`. Older versions go on with it from `least_schema` on,
/// as with additions that they do not look at; or from a later one, if that is what the spool says already.
struct SchemaStep {
  int schema;
  int least_schema;
  const char* sql;
};

/// Buckets are folded one by one, and spilled. A program of schema 1 would count what the journal says of a folded
/// bucket a second time.
inline constexpr SchemaStep to_spilled_buckets = {
    2, 2,
    "ALTER TABLE open ADD COLUMN folded INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE spilled (number INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, digest INTEGER NOT NULL,"
    " pages BLOB NOT NULL);"
    "CREATE INDEX spilled_bucket ON spilled (bucket)"};

/// What corrections changed, for people; a count of -1: not known. And which parts of imports were counted. The first
/// correction that is sealed makes 3 the least schema: an older program would take it for a batch of visits.
inline constexpr SchemaStep to_corrections = {
    3, 2,
    "CREATE TABLE correction (number INTEGER PRIMARY KEY, at INTEGER NOT NULL, by TEXT NOT NULL, page BLOB NOT NULL,"
    " difference INTEGER NOT NULL, count INTEGER NOT NULL, given_to BLOB NOT NULL);"
    "CREATE TABLE import (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE)"};

/// Which questions of the owner were done, or begun: a bucket of -1 says that it is done. An older program takes no
/// question that must not be done twice.
inline constexpr SchemaStep to_questions = {
    4, 2,
    "CREATE TABLE question (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, bucket INTEGER NOT NULL,"
    " count_before INTEGER NOT NULL, count_after INTEGER NOT NULL)"};

}  // namespace visitd
