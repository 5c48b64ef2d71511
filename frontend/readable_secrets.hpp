// A frontend faces the internet: it must not be able to read what only the flusher needs.
#pragma once

#include <string>
#include <vector>

namespace visitd {

/// Throws Error naming the first of these files that this process can read, and what to do. A file of this process's
/// own user is passed over, and so are all where it is root: then one user runs everything, and nothing is kept apart.
void refuse_readable_secrets(const std::vector<std::string>& secret_files);

}  // namespace visitd
