// A HostStatus that says what a test has told it.
#pragma once

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "frontend/api/host_status.hpp"

namespace visitd {

class FakeHostStatus final : public HostStatus {
 public:
  std::vector<Check> told{{"segment", Check::Result::ok, "attached"}, {"flusher", Check::Result::warning, "a \"nap\""}};

  [[nodiscard]] std::vector<Check> checks() const override { return told; }
  std::atomic<bool> throws = false;

  void write_metrics(std::string& out) const override {
    if (throws) throw std::runtime_error("a secret");
    out += "# HELP visitd_fake A number.\nvisitd_fake 1\n";
  }
};

}  // namespace visitd
