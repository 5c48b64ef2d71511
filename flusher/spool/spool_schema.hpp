// The spool's tables: how they are made, and how those of an older version become the ones of this version.
#pragma once

#include <string_view>

#include "flusher/counting/spool_layout.hpp"
#include "flusher/spool/spool_database.hpp"

namespace visitd {

/// Throws Error where the file is no spool, or one that this version cannot read. Returns whether it is empty.
[[nodiscard]] bool check_schema(SpoolDatabase& database);
/// Of an empty file. `writer`: 16 hex digits that no other spool has.
void make_tables(SpoolDatabase& database, std::string_view writer);
/// To the newest schema, step by step.
void upgrade_schema(SpoolDatabase& database);
/// Notes the layout where there is no note. Throws Error where the spool was made with another.
void keep_layout(SpoolDatabase& database, const SpoolLayout& layout);

}  // namespace visitd
