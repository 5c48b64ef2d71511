#include "frontend/api/address_rates.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "common/shm/hash.hpp"
#include "frontend/http/client_address.hpp"

namespace visitd {

namespace {

/// Places of a set: of so many addresses that meet in it, none is forgotten.
constexpr std::size_t set_places = 8;

std::uint64_t random_seed() {
  std::random_device random;
  return std::uint64_t{random()} << 32U | random();
}

}  // namespace

AddressRates::AddressRates(const Settings& settings) : seed_(random_seed()) {
  use(settings);
}

void AddressRates::take_settings(const Settings& settings) {
  use(settings);
}

void AddressRates::use(const Settings& settings) {
  per_minute_ = settings.http.address_visits_per_minute;
  const std::size_t sets = (settings.http.address_visits_remembered + set_places - 1) / set_places;
  const std::size_t slots = per_minute_ == 0 ? 0 : sets * set_places;
  if (slots != slots_.size()) slots_ = std::vector<Slot>(slots);
  if (slots == 0) return;
  rate_ = TokenRate::per_minute(per_minute_, settings.http.address_visits_burst);
  const std::uint64_t window_s = (rate_.burst * rate_.interval_ns + ns_per_s - 1) / ns_per_s;
  policy_ = fmt::format("\"visits\";q={};w={}", rate_.burst, window_s);
}

AddressRates::Slot& AddressRates::slot_of(const IpAddress& client) noexcept {
  const std::array<std::uint8_t, 16> network = network_of(client).bytes;
  const std::string_view bytes(reinterpret_cast<const char*>(network.data()), network.size());
  const std::size_t set = hash_bytes(bytes, seed_) % (slots_.size() / set_places) * set_places;
  Slot* fullest = &slots_[set];
  for (std::size_t place = set; place < set + set_places; ++place) {
    Slot& slot = slots_[place];
    if (slot.network == network) return slot;
    if (slot.full_at < fullest->full_at) fullest = &slot;
  }
  *fullest = {network, 0};
  return *fullest;
}

std::optional<AddressRates::Exceeded> AddressRates::problem_with(const IpAddress& client, std::uint64_t now_ms) {
  const std::uint64_t now = now_ms * ns_per_ms;
  const std::uint64_t full_at = slot_of(client).full_at;
  if (rate_.left(full_at, now) != 0) return std::nullopt;
  const auto wait_s = static_cast<std::uint32_t>(std::min<std::uint64_t>(rate_.left_in_s(1, full_at, now), 86'400));
  detail_ = fmt::format(
      "this client's address may add {} visits a minute, and {} at once (http.address_visits_per_minute, "
      "http.address_visits_burst); none is left",
      per_minute_, rate_.burst);
  return Exceeded{{.refusal = Refusal::visit_rate_exceeded, .detail = detail_}, std::max(wait_s, 1U)};
}

void AddressRates::take(const IpAddress& client, std::uint64_t visits, std::uint64_t now_ms) noexcept {
  Slot& slot = slot_of(client);
  slot.full_at = rate_.taken(slot.full_at, now_ms * ns_per_ms, visits);
}

void AddressRates::show(const IpAddress& client, std::uint64_t now_ms, Answer& answer) noexcept {
  const std::uint64_t full_at = slot_of(client).full_at;
  const std::uint64_t now = now_ms * ns_per_ms;
  answer.rate_limit.clear();
  append_all(answer.rate_limit, R"("visits";r=)", rate_.left(full_at, now), ";t=", TokenRate::full_in_s(full_at, now));
  answer.rate_limit_policy = policy_;
}

}  // namespace visitd
