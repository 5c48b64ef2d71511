#include "common/os/other_owner.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include "common/os/errors.hpp"
#include "common/os/user_names.hpp"

namespace visitd {

void refuse_root_where_another_owns(const std::string& path) {
  struct stat found{};
  if (::geteuid() != 0 || ::stat(path.c_str(), &found) != 0 || found.st_uid == 0) return;
  const std::string name = user_name(found.st_uid);
  throw error(
      "{} belongs to user {}, and this process is root: {} could not use the files that root would leave there. Run "
      "this as that user: setpriv --reuid={} --regid={} --clear-groups COMMAND",
      path, name, name, name, found.st_gid);
}

}  // namespace visitd
