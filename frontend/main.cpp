#include "common/program.hpp"
#include "frontend/frontend_process.hpp"

int main(int argc, char** argv) {
  // A frontend faces the internet and speaks to no Redis: it reads no secret.
  return visitd::run_program(
      argc, argv, "visit-frontend", "Records visits and answers reads over HTTP.", visitd::Secrets::leave, {},
      [](visitd::LiveSettings& settings) { return static_cast<int>(visitd::run_frontend(settings)); });
}
