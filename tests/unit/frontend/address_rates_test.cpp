#include "frontend/api/address_rates.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <string>

#include "frontend/api/new_pages.hpp"

namespace visitd {
namespace {

Settings rated(std::uint32_t per_minute, std::uint32_t burst, std::uint32_t remembered = 64) {
  Settings settings;
  settings.http.address_visits_per_minute = per_minute;
  settings.http.address_visits_burst = burst;
  settings.http.address_visits_remembered = remembered;
  return settings;
}

IpAddress address(const std::string& text) {
  return *IpAddress::parse(text);
}

/// How many visits, one by one, the client may add at this moment.
int added(AddressRates& rates, const std::string& client, std::uint64_t now_ms) {
  int count = 0;
  while (count < 10'000 && !rates.problem_with(address(client), now_ms)) {
    rates.take(address(client), 1, now_ms);
    ++count;
  }
  return count;
}

std::string shown(AddressRates& rates, const std::string& client, std::uint64_t now_ms) {
  Answer answer;
  rates.show(address(client), now_ms, answer);
  return std::string(answer.rate_limit.view());
}

TEST_CASE("a client may add as many visits at once as the burst, and then as many a minute as the rate") {
  AddressRates rates(rated(60, 5));
  CHECK(rates.any());
  CHECK(added(rates, "192.0.2.1", 1000) == 5);
  CHECK(added(rates, "192.0.2.1", 1999) == 0);
  CHECK(added(rates, "192.0.2.1", 2000) == 1);
  CHECK(added(rates, "192.0.2.1", 5000) == 3);
  CHECK(added(rates, "192.0.2.1", 500'000) == 5);
  CHECK(added(rates, "192.0.2.2", 500'000) == 5);
  CHECK_FALSE(AddressRates(Settings()).any());
}

TEST_CASE("who is refused is told how long to wait, and who is not what is left") {
  AddressRates rates(rated(6, 3));
  CHECK(shown(rates, "192.0.2.1", 1000) == R"("visits";r=3;t=0)");
  rates.take(address("192.0.2.1"), 1, 1000);
  CHECK(shown(rates, "192.0.2.1", 1000) == R"("visits";r=2;t=10)");
  rates.take(address("192.0.2.1"), 2, 1000);
  CHECK(shown(rates, "192.0.2.1", 1500) == R"("visits";r=0;t=30)");
  const auto exceeded = rates.problem_with(address("192.0.2.1"), 1500);
  REQUIRE(exceeded);
  CHECK(exceeded->wait_s == 10);
  CHECK(exceeded->problem.refusal == Refusal::visit_rate_exceeded);
  CHECK_FALSE(rates.problem_with(address("192.0.2.1"), 1000 + exceeded->wait_s * 1000));
}

TEST_CASE("a list may take more than is left, and is paid for afterwards") {
  AddressRates rates(rated(60, 5));
  rates.take(address("192.0.2.1"), 100, 0);
  const auto exceeded = rates.problem_with(address("192.0.2.1"), 0);
  REQUIRE(exceeded);
  CHECK(exceeded->wait_s == 96);
  CHECK(added(rates, "192.0.2.1", 95'999) == 0);
  CHECK(added(rates, "192.0.2.1", 96'000) == 1);
  // However many: what it owes has an end.
  rates.take(address("192.0.2.2"), ~std::uint64_t{0}, 0);
  rates.take(address("192.0.2.2"), ~std::uint64_t{0}, 0);
  CHECK(rates.problem_with(address("192.0.2.2"), 1'000'000));
}

TEST_CASE("of IPv6 one client is a /64 network") {
  AddressRates rates(rated(1, 2));
  CHECK(added(rates, "2001:db8:0:1::1", 0) == 2);
  CHECK(added(rates, "2001:db8:0:1:ffff::9", 0) == 0);
  CHECK(added(rates, "2001:db8:0:2::1", 0) == 2);
  CHECK(added(rates, "::ffff:192.0.2.1", 0) == 2);
  CHECK(added(rates, "192.0.2.1", 0) == 0);
  CHECK(added(rates, "192.0.2.2", 0) == 2);
}

TEST_CASE("the table is bounded, and who has taken most is remembered longest") {
  AddressRates rates(rated(1, 10));
  for (int client = 0; client < 8; ++client) {
    rates.take(address(fmt::format("198.51.100.{}", client)), 10, 0);
  }
  for (int client = 0; client < 20'000; ++client) {
    rates.take(address(fmt::format("10.{}.{}.1", client / 256, client % 256)), 1, 0);
  }
  for (int client = 0; client < 8; ++client) {
    CHECK(rates.problem_with(address(fmt::format("198.51.100.{}", client)), 0));
  }
}

TEST_CASE("a reload keeps what clients have taken, and takes the new rate") {
  AddressRates rates(rated(60, 5));
  CHECK(added(rates, "192.0.2.1", 0) == 5);
  rates.take_settings(rated(120, 5));
  CHECK(added(rates, "192.0.2.1", 2999) == 0);
  CHECK(added(rates, "192.0.2.1", 3000) == 1);
  rates.take_settings(rated(0, 5));
  CHECK_FALSE(rates.any());
}

TEST_CASE("new pages come at their rate") {
  Settings settings;
  settings.http.public_new_pages_per_minute = 6;
  NewPages pages(settings);
  CHECK(pages.left(0) == 6);
  pages.take(4, 0);
  CHECK(pages.left(0) == 2);
  pages.take(2, 0);
  CHECK(pages.left(9'999) == 0);
  CHECK(pages.wait_s(1'500) == 9);
  CHECK(pages.left(10'000) == 1);
  CHECK(pages.left(1'000'000) == 6);
}

}  // namespace
}  // namespace visitd
