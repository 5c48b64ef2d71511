// The view as the flusher writes it. The simulation builds the deciders with a step that can kill between any two
// stores.
#pragma once

#include "common/view.hpp"
#ifdef VISITD_SIMULATED_KILLS
#include "tests/simulation/kill_step.hpp"
#endif

namespace visitd {

#ifdef VISITD_SIMULATED_KILLS
using FlusherView = ViewWriter<KillStep>;
#else
using FlusherView = ViewWriter<>;
#endif

}  // namespace visitd
