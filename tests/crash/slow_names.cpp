// Preloaded into a program: it knows the names held.test and quick.test, both of this machine's loopback address. The
// first one is not resolved while the file SLOW_NAMES_FILE exists, as where a name server does not answer.
#include <dlfcn.h>
#include <netdb.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

extern "C" int getaddrinfo(const char* name, const char* service, const addrinfo* hints, addrinfo** found) {
  static const auto real = reinterpret_cast<decltype(&getaddrinfo)>(dlsym(RTLD_NEXT, "getaddrinfo"));
  const std::string_view wanted = name == nullptr ? "" : name;
  if (wanted != "held.test" && wanted != "quick.test") return real(name, service, hints, found);
  const char* file = std::getenv("SLOW_NAMES_FILE");
  const timespec pause{0, 10'000'000};
  while (wanted == "held.test" && file != nullptr && access(file, F_OK) == 0) nanosleep(&pause, nullptr);
  return real("127.0.0.1", service, hints, found);
}
