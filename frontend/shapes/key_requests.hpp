// What CountAPI and abacus have in common: the key of a request, its count, and changes of that by the owner.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "frontend/api/call.hpp"
#include "frontend/api/handler_share.hpp"
#include "frontend/shapes/key_names.hpp"

namespace visitd {

/// The key that the path names, or why it names none.
[[nodiscard]] KeyOfPath key_named_by(const Call& call);
/// The same; nullopt: it names none, and the answer says why (400, or 404 for too many parts).
[[nodiscard]] std::optional<KeyName> key_of_request(const Call& call, Answer& answer);

/// {"value":COUNT}; null, where a visit was recorded and its count is not known.
[[nodiscard]] std::string value_json(std::optional<std::uint64_t> count);

/// The count, changed by an amount; nullopt: it would leave 0 to 2^63-1.
[[nodiscard]] std::optional<std::uint64_t> changed_count(std::uint64_t count, std::int64_t amount) noexcept;

/// Answers GET /hit/KEY: a visit, and {"value":COUNT}, also as the call of a callback.
[[nodiscard]] Handled hit_key(HandlerShare& share, const Call& call, const KeyName& key, Answer& answer);
/// Answers GET /get/KEY in the same way; `missing`: what is said, with 404, of a key without visits.
[[nodiscard]] Handled get_key(HandlerShare& share, const Call& call, const KeyName& key, std::string_view missing,
                              Answer& answer);

/// The owner's word for a change.
struct ChangeProof {
  std::string key;                  ///< empty: the request has none
  bool at_private_address = false;  ///< none is needed, unless the settings want it
};

/// How a request sets a count. Each function makes the answer, but for `choose` where it has a count.
struct CountSetting {
  /// The count to set, of what it is now; nullopt: none, and the answer says why.
  std::function<std::optional<std::uint64_t>(std::uint64_t now)> choose;
  std::function<void(std::uint64_t before, std::uint64_t after)> done;
  /// The owner's key is needed, wrong or unset. `now`: the count that stays; nullopt: it is not known just now.
  std::function<void(Refusal why, std::optional<std::uint64_t> now)> refused;
};

/// Sets the count of a page as PUT /visits/{page} does.
[[nodiscard]] Handled set_key(HandlerShare& share, const Call& call, const std::string& page, const ChangeProof& proof,
                              const CountSetting& setting, Answer& answer);

}  // namespace visitd
