// How much a request from outside may add with one list, so that one request from any page of the web does not spoil a
// count for good. Knows no socket.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/config/settings.hpp"
#include "frontend/api/page_list.hpp"
#include "frontend/http/client_address.hpp"
#include "frontend/http/entrance.hpp"
#include "frontend/http/refusals.hpp"
#include "frontend/http/request_head.hpp"

namespace visitd {

/// Whether somebody outside of this host may have sent the request: it came neither to a private address nor from a
/// process of this host that speaks for itself. A browser and a proxy on this host say in a header field that they
/// speak for somebody else. A Unix socket at which every user may connect says nothing of who sent it. `client`: the
/// other end of the connection.
[[nodiscard]] bool is_strangers(const RequestHead& head, const ClientAddress& client, Entrance entrance) noexcept;

class PublicLimits {
 public:
  explicit PublicLimits(const Settings& settings) noexcept
      : visits_(settings.http.public_visits_limit), entries_(settings.http.public_entries_limit) {}

  /// What a stranger's list exceeds; nullopt: nothing. The problem's detail lives until the next call.
  [[nodiscard]] std::optional<Problem> problem_with(const PageList& list);

 private:
  [[nodiscard]] Problem too_many_visits(std::uint64_t visits, std::size_t entry);

  std::uint32_t visits_;   ///< to one page; 0: no limit
  std::uint32_t entries_;  ///< 0: no limit
  std::string detail_;
};

}  // namespace visitd
