#include "common/config/setting_values.hpp"

#include <algorithm>
#include <bit>
#include <optional>
#include <type_traits>
#include <variant>

#include "common/config/setting_text.hpp"
#include "common/os/errors.hpp"

namespace visitd::setting {

namespace {

void set(const Given& given, Draft& draft) {
  const Key& key = *given.key;
  const auto fail = [&]() { refuse(given.origin.where, key, given.input.shown); };
  const auto well_formed = [&](const std::string& text) { return key.form == nullptr || key.form(text); };
  std::visit(
      [&](auto place) {
        using Value = typename decltype(place)::Value;
        auto& target = place.in(draft);
        if constexpr (std::is_same_v<Value, bool>) {
          const bool* value = std::get_if<bool>(&given.input.value);
          if (value == nullptr) return fail();
          target = *value;
        } else if constexpr (std::is_integral_v<Value>) {
          std::optional<std::uint64_t> number;
          if (const auto* value = std::get_if<std::int64_t>(&given.input.value); value != nullptr && *value >= 0) {
            number = static_cast<std::uint64_t>(*value);
          } else if (const auto* text = std::get_if<std::string>(&given.input.value);
                     text != nullptr && key.is_bytes()) {
            number = parse_bytes(*text);
          }
          if (!number || *number < key.least || *number > key.most) return fail();
          if (key.power_of_two && !std::has_single_bit(*number)) return fail();
          target = static_cast<Value>(*number);
        } else if constexpr (std::is_enum_v<Value>) {
          const auto* text = std::get_if<std::string>(&given.input.value);
          if (text == nullptr) return fail();
          const auto name = std::ranges::find(choice_names<Value>, *text);
          if (name == choice_names<Value>.end()) return fail();
          target = static_cast<Value>(name - choice_names<Value>.begin());
        } else if constexpr (std::is_same_v<Value, std::string>) {
          const auto* text = std::get_if<std::string>(&given.input.value);
          if (text == nullptr || text->size() < key.least || text->size() > key.most || !well_formed(*text))
            return fail();
          target = *text;
        } else {
          const auto* list = std::get_if<std::vector<std::string>>(&given.input.value);
          if (list == nullptr || list->size() < key.least || list->size() > key.most) return fail();
          for (const std::string& entry : *list) {
            if (!well_formed(entry)) refuse(given.origin.where, key, in_quotes(entry));
            if (!key.secret && std::ranges::count(*list, entry) > 1)
              refuse(given.origin.where, key, in_quotes(entry) + " twice");
          }
          target = *list;
        }
      },
      key.place);
}

}  // namespace

void refuse(const std::string& where, const Key& key, const std::string& shown) {
  throw error("{}: {} is {}; allowed: {}", where, full_name(key), key.secret ? "(hidden)" : shown, allowed(key));
}

Draft values_of(const Sources& sources) {
  Draft draft;
  for (const Given& given : sources.given) set(given, draft);
  return draft;
}

}  // namespace visitd::setting
