#include "common/config/program.hpp"
#include "frontend/frontend_process.hpp"

int main(int argc, char** argv) {
  bool prepare = false;
  bool prepared = false;
  // A frontend faces the internet and speaks to no Redis: it reads no secret.
  return visitd::run_program(
      argc, argv, "visit-frontend", "Records visits and answers reads over HTTP.", visitd::Secrets::leave,
      {{"--prepare", "Make the ring and the files around it where they are missing, and exit", &prepare},
       {"--prepared", "Make nothing: --prepare was run before, and this process may write no file", &prepared}},
      [&](visitd::LiveSettings& settings) {
        if (prepare) {
          visitd::prepare_ring(settings.get());
          return 0;
        }
        const auto maker = prepared ? visitd::RingMaker::prepared : visitd::RingMaker::each_frontend;
        return static_cast<int>(visitd::run_frontend(settings, maker));
      });
}
