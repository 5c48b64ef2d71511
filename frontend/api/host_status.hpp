// What the routes ask about the processes of this host, without knowing where that is written.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace visitd {

/// One thing that may be wrong with the service.
struct Check {
  /// warning: visits are counted all the same. failed: this frontend cannot count.
  enum class Result : std::uint8_t { ok, warning, failed };

  std::string name;  ///< "segment", "lane", "flusher", "spool", "pages", "shard NAME"
  Result result = Result::ok;
  std::string detail;  ///< a sentence for people
};

[[nodiscard]] constexpr std::string_view name_of(Check::Result result) noexcept {
  return result == Check::Result::ok ? "ok" : result == Check::Result::warning ? "warning" : "failed";
}

class HostStatus {
 public:
  virtual ~HostStatus() = default;
  /// Looks at all that a visit and a count need.
  [[nodiscard]] virtual std::vector<Check> checks() const = 0;
  /// Appends the metrics of every process of the host, in Prometheus' text format 0.0.4.
  virtual void write_metrics(std::string& out) const = 0;
};

}  // namespace visitd
