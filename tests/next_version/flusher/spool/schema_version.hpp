// The steps that make the spool of the version after this one, as tests play it. The build puts this file in the place
// of the one of its name in flusher/spool/.
#pragma once

#include <array>

#include "flusher/spool/schema_steps.hpp"

namespace visitd {

inline constexpr SchemaStep to_next_version = {
    5, 2, "ALTER TABLE batch ADD COLUMN made_by TEXT NOT NULL DEFAULT 'nobody'; CREATE TABLE added (number INTEGER)"};

inline constexpr std::array schema_steps = {to_spilled_buckets, to_corrections, to_questions, to_next_version};
inline constexpr int schema_version = schema_steps.back().schema;

}  // namespace visitd
