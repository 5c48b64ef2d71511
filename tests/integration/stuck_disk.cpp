// Preloaded: while the file that STUCK_DISK_FILE names exists, no sync to disk comes back.
#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>

namespace {

constexpr useconds_t look_again_us = 10'000;

int when_unstuck(const char* name, int fd) {
  const char* file = std::getenv("STUCK_DISK_FILE");
  while (file != nullptr && access(file, F_OK) == 0) usleep(look_again_us);
  return reinterpret_cast<int (*)(int)>(dlsym(RTLD_NEXT, name))(fd);
}

}  // namespace

extern "C" int fsync(int fd) {
  return when_unstuck("fsync", fd);
}
extern "C" int fdatasync(int fd) {
  return when_unstuck("fdatasync", fd);
}
