// What the owner of a site asks of the flusher through a frontend, over HTTP, and what it answers. A frontend holds no
// secret: it hands on the key that it was given, in the lane's question slot of the ring, and the flusher says whether
// it is the owner's. The answer comes back in the lane's answer slot of the cache.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/control/control_protocol.hpp"

namespace visitd {

struct OwnerQuestion {
  std::uint64_t until_ms = 0;       ///< monotonic: nobody waits for the answer any more
  bool at_private_address = false;  ///< it came in where only those are let who may see and add all
  std::string from;                 ///< the client, for people
  std::string key;                  ///< that the client sent; empty: it sent no key
  ControlRequest request;           ///< one of may_be_asked()
};

/// Whether the owner can ask for it: lists, and `correct` with one change by a number.
[[nodiscard]] bool may_be_asked(const ControlRequest& request) noexcept;
/// Whether it changes counts.
[[nodiscard]] bool changes_counts(const ControlRequest& request) noexcept;

/// A newline in the key or in `from` becomes a space.
[[nodiscard]] std::string encode_question(const OwnerQuestion& question);
/// Throws Error if the text is no question.
[[nodiscard]] OwnerQuestion decode_question(std::string_view text);

struct OwnerAnswer {
  enum class Verdict : std::uint8_t {
    answered,    ///< `answer` says what came of it
    key_needed,  ///< the client sent no key
    key_wrong,   ///< the client sent a key that is not the owner's
    key_unset,   ///< the client would need a key, and the settings name none
  };
  Verdict verdict = Verdict::answered;
  ControlAnswer answer = {};  ///< only of `answered`
};

[[nodiscard]] std::string encode_owner_answer(const OwnerAnswer& answer);
/// Throws Error if the text is no answer.
[[nodiscard]] OwnerAnswer decode_owner_answer(std::string_view text);

}  // namespace visitd
