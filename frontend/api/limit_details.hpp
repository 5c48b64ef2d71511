// What a client is told when a limit refuses its request: how much it sent, where that is known, how much is allowed,
// and which setting says so.
#pragma once

#include <cstdint>
#include <string>

#include "common/config/settings.hpp"
#include "frontend/http/refusals.hpp"
#include "frontend/http/request_head.hpp"

namespace visitd {

class LimitDetails {
 public:
  explicit LimitDetails(const Settings& settings);

  /// Takes what may change while it runs.
  void take_settings(const Settings& settings);

  /// The sentence for a refusal of the request of which `head` holds what was read; empty: no limit is behind it.
  [[nodiscard]] std::string of(Refusal refusal, const RequestHead& head) const;

 private:
  [[nodiscard]] std::string of_target(const RequestHead& head) const;
  [[nodiscard]] std::string of_body(const RequestHead& head) const;

  std::uint64_t head_bytes_;
  std::uint64_t target_bytes_;
  std::uint64_t header_count_;
  std::uint64_t lane_bytes_;
  std::uint64_t body_bytes_ = 0;
  std::uint64_t buffered_bodies_bytes_ = 0;
};

}  // namespace visitd
