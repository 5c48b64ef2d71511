#include "common/program.hpp"
#include "flusher/flusher_process.hpp"

int main(int argc, char** argv) {
  bool renew_spool = false;
  return visitd::run_program(
      argc, argv, "visit-flusher", "Counts the visits of this host and carries them to Redis.", visitd::Secrets::read,
      {{"--renew-spool",
        "Set the spool aside first and begin a new one: only where it is an old copy (docs/operate.md)", &renew_spool}},
      [&](visitd::LiveSettings& settings) {
        if (renew_spool) visitd::set_spool_aside(settings.get());
        while (visitd::run_flusher(settings) == visitd::FlusherEnd::again) {
        }
        return 0;
      });
}
