// What CountAPI and abacus have in common: the key of a request, its count, and changes of that by the owner.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "frontend/api/call.hpp"
#include "frontend/api/handler_share.hpp"
#include "frontend/api/owner_call.hpp"
#include "frontend/shapes/key_names.hpp"

namespace visitd {

/// The key that the path names, or why it names none.
[[nodiscard]] KeyOfPath key_named_by(const Call& call);
/// The same; nullopt: it names none, and the answer says why (400, or 404 for too many parts).
[[nodiscard]] std::optional<KeyName> key_of_request(const Call& call, Answer& answer);

/// {"value":COUNT}; null, where a visit was recorded and its count is not known.
[[nodiscard]] std::string value_json(std::optional<std::uint64_t> count);

/// A change to a count, which is not below 0.
[[nodiscard]] constexpr CountChange set_to(std::int64_t count) noexcept {
  return {CountChange::Kind::set, static_cast<std::uint64_t>(count)};
}
/// The change of a count by an amount; nullopt: it would leave 0 to 2^63-1.
[[nodiscard]] std::optional<CountChange> change_by(std::uint64_t count, std::int64_t amount) noexcept;

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

/// How a request changes a count. Each function makes the answer, but for `choose` where it has a change.
struct KeyChange {
  /// The change, of what the count is now; nullopt: none, and the answer says why.
  std::function<std::optional<CountChange>(std::uint64_t now)> choose;
  /// It is done. `after`: of what was added, with what others counted meanwhile; nullopt: that is not known just now.
  std::function<void(std::uint64_t before, std::optional<std::uint64_t> after)> done;
  /// Lowered, it would be below 0: it stays as it is now. Only of changes that lower.
  std::function<void(std::uint64_t now)> below_0 = {};
  /// The owner's key is needed, wrong or unset. `now`: the count that stays; nullopt: it is not known just now.
  std::function<void(Refusal why, std::optional<std::uint64_t> now)> refused;
};

/// Changes the count of a page, once, as PUT /visits/{page} does.
[[nodiscard]] Handled change_key(HandlerShare& share, const Call& call, const std::string& page,
                                 const ChangeProof& proof, const KeyChange& change, Answer& answer);

}  // namespace visitd
