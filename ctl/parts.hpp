// Does many things that each wait for the flusher, some at once.
#pragma once

#include <cstddef>
#include <functional>
#include <string_view>

namespace visitd {

/// Calls `work` with each number below `parts`, on some threads, and shows on a terminal how far that is: of how many
/// `what`. Once one has thrown, none begins any more, and what it threw is thrown when all have ended.
void each_part(std::size_t parts, std::string_view what, const std::function<void(std::size_t part)>& work);

}  // namespace visitd
