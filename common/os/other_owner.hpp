// Programs of an instance that is another user's, run by hand as root.
#pragma once

#include <string>

namespace visitd {

/// Throws Error where this process is root and `path` exists and belongs to another user: what root would make beside
/// it that user's own programs could not use, and not replace. Names the user, and how to run as that one.
void refuse_root_where_another_owns(const std::string& path);

}  // namespace visitd
