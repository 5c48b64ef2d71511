// The view as the flusher writes it.
#pragma once

#include "common/shm/view.hpp"

// A build may name what stands between any two stores: the simulation's build puts a step there that can kill.
#ifndef VISITD_VIEW_STEP
#define VISITD_VIEW_STEP NoStep
#endif

namespace visitd {

using FlusherView = ViewWriter<VISITD_VIEW_STEP>;

}  // namespace visitd
