#include "flusher/owner_key.hpp"

namespace visitd {

bool is_owner_key(std::string_view borne, std::string_view owners) noexcept {
  if (borne.empty() || owners.empty()) return false;
  // Every byte of the owner's key is looked at, whatever was borne: nothing here depends on one but the sum of all.
  unsigned differs = borne.size() == owners.size() ? 0 : 1;
  for (std::size_t i = 0; i < owners.size(); ++i) {
    differs |= static_cast<unsigned char>(owners[i] ^ borne[i % borne.size()]);
  }
  return differs == 0;
}

}  // namespace visitd
