// How a request of the owner asks the flusher, and takes what it says: what all handlers of the owner share.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "frontend/api/call.hpp"
#include "frontend/api/handler_share.hpp"
#include "frontend/api/owner_call.hpp"

namespace visitd {

/// The key of an Authorization field; empty: there is none of the scheme Bearer (RFC 6750).
[[nodiscard]] std::string_view key_of(const RequestHead& head) noexcept;

/// Begins what the request asks as the owner, with the key of its head; at a private address none is needed.
OwnerCall& begin_asking(HandlerShare& share, const Call& call);
/// The same with this key, which is needed at every address.
OwnerCall& begin_asking_with(std::string_view key, HandlerShare& share, const Call& call);

/// Asks; the request waits for the answer, or is refused.
[[nodiscard]] Handled ask_flusher(HandlerShare& share, const Call& call, ControlCommand command, std::string argument,
                                  Answer& answer);

/// What the flusher says. nullopt: the request is refused, or goes on waiting, as `handled` says.
[[nodiscard]] std::optional<ControlAnswer> take_said(HandlerShare& share, const Call& call, Answer& answer,
                                                     Handled& handled);

/// Asks that the page's count becomes another one; as ask_flusher().
[[nodiscard]] Handled ask_to_change(HandlerShare& share, const Call& call, std::string_view page,
                                    const CountChange& change, Answer& answer);
/// What became of that, each time it is asked; as take_said().
[[nodiscard]] std::optional<ChangedCount> take_change(HandlerShare& share, const Call& call, Answer& answer,
                                                      Handled& handled);

/// Whether a page of a site that the settings do not name sends the request: in the browser of somebody who can reach a
/// private address, it changes nothing.
[[nodiscard]] bool comes_from_elsewhere(const HandlerShare& share, const RequestHead& head) noexcept;

}  // namespace visitd
