// The steps that make the spool of this version. tests/next_version/ has a file of this name, with which the build
// makes the flusher that plays the version after this one.
#pragma once

#include <array>

#include "flusher/spool/schema_steps.hpp"

namespace visitd {

inline constexpr std::array schema_steps = {to_spilled_buckets, to_corrections, to_questions};
inline constexpr int schema_version = schema_steps.back().schema;

}  // namespace visitd
