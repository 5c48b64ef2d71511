#include <malloc.h>

#include "common/config/program.hpp"
#include "flusher/flusher_start.hpp"

int main(int argc, char** argv) {
  // The blocks of pending pages are mapped one by one, so that the kernel gets them back as soon as one is free. The C
  // library would raise the limit, and keep them, once a larger piece was freed.
  mallopt(M_MMAP_THRESHOLD, 60 << 10);
  bool renew_spool = false;
  return visitd::run_program(
      argc, argv, "visit-flusher", "Counts the visits of this host and carries them to Redis.", visitd::Secrets::read,
      {{"--renew-spool", "Put the spool away first and begin a new one: only where it is an old copy (docs/operate.md)",
        &renew_spool}},
      [&](visitd::LiveSettings& settings) {
        if (renew_spool) visitd::put_spool_away(settings.get());
        visitd::Learned learned;
        while (visitd::run_flusher(settings, learned) == visitd::FlusherEnd::again) {
        }
        return 0;
      });
}
