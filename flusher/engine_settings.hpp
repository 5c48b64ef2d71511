// What the engine and the spool need of the settings.
#pragma once

#include "common/config/live_settings.hpp"
#include "flusher/counting/engine.hpp"
#include "flusher/counting/spool_layout.hpp"

namespace visitd {

[[nodiscard]] EngineSettings engine_settings(const LiveSettings& live, std::uint32_t page_id_limit);
/// As the settings name the shards.
[[nodiscard]] SpoolLayout spool_layout(const LiveSettings& live);

}  // namespace visitd
