// Whether visits of a request are counted: the rules and limits of settings in their order. Knows no socket.
#pragma once

#include <cstdint>
#include <string_view>

#include "frontend/api/call.hpp"
#include "frontend/api/handler_share.hpp"

namespace visitd {

/// ignored: it is answered as if they were. refused: the answer says why. parked, paused: as of a read.
enum class Admission : std::uint8_t { counted, ignored, refused, parked, paused };

/// Of one visit of a page.
[[nodiscard]] Admission admit_visit(HandlerShare& share, const Call& call, std::string_view page, Answer& answer);

/// Of the share's list, before it is known which of its pages are new.
[[nodiscard]] Admission admit_list(HandlerShare& share, const Call& call, Answer& answer);
/// Whether it is to be known first which pages of an admitted list are new.
[[nodiscard]] bool awaits_new_pages(const HandlerShare& share, const Call& call) noexcept;
/// Of a list whose counts are known, as far as they can be: a page that is not known to be new is none.
[[nodiscard]] Admission admit_new_pages(HandlerShare& share, const Call& call, const ListRead& reading, Answer& answer);
/// Notes what an admitted list adds.
void note_list(HandlerShare& share, const Call& call, const PageList& list, Answer& answer);

/// The fields about the client's rate in an answer to a visit that was admitted before.
void show_rate(HandlerShare& share, const Call& call, Answer& answer);

}  // namespace visitd
