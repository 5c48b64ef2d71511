#include "common/other_owner.hpp"

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/errors.hpp"

namespace visitd {

void refuse_root_where_another_owns(const std::string& path) {
  struct stat found{};
  if (::geteuid() != 0 || ::stat(path.c_str(), &found) != 0 || found.st_uid == 0) return;
  const passwd* owner = ::getpwuid(found.st_uid);  // this thread is the only one that asks
  const std::string name = owner != nullptr ? owner->pw_name : std::to_string(found.st_uid);
  throw error(
      "{} belongs to user {}, and this process is root: {} could not use the files that root would leave there. Run "
      "this "
      "as that user: setpriv --reuid={} --regid={} --clear-groups COMMAND",
      path, name, name, name, found.st_gid);
}

}  // namespace visitd
