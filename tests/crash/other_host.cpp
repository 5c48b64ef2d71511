// Preloaded into a program: machine id and boot id are what stands in the files machine-id and boot_id of the folder
// OTHER_HOST_FOLDER, at any moment.
#undef _FILE_OFFSET_BITS  // with it both functions below would have one name
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

std::FILE* open_elsewhere(const char* path, const char* mode, const char* function) {
  using Open = std::FILE* (*)(const char*, const char*);
  const auto real = reinterpret_cast<Open>(dlsym(RTLD_NEXT, function));
  const char* folder = std::getenv("OTHER_HOST_FOLDER");
  const std::string_view wanted = path;
  const bool machine = wanted == "/etc/machine-id";
  if (folder == nullptr || (!machine && wanted != "/proc/sys/kernel/random/boot_id")) return real(path, mode);
  return real((std::string(folder) + (machine ? "/machine-id" : "/boot_id")).c_str(), mode);
}

}  // namespace

extern "C" std::FILE* fopen(const char* path, const char* mode) {
  return open_elsewhere(path, mode, "fopen");
}

extern "C" std::FILE* fopen64(const char* path, const char* mode) {
  return open_elsewhere(path, mode, "fopen64");
}
