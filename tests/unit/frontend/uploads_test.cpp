#include "frontend/server/uploads.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "frontend/server/address_limits.hpp"
#include "frontend/server/unsent.hpp"

using namespace visitd;

namespace {

constexpr std::uint64_t limit_bytes = 1'000'000;

ClientAddress address_of(std::uint8_t host) {
  IpAddress address;
  address.bytes[10] = address.bytes[11] = 0xFF;
  address.bytes[12] = 192;
  address.bytes[15] = host;
  return address;
}

/// Clients that send bodies, and notice when theirs is given up.
struct Clients {
  struct Client final : Uploader {
    Client(Uploads& all, AddressShare* address) : upload(all, *this, address, {}, "POST /visits HTTP/1.1\r\n\r\n") {}
    void upload_lost() noexcept override { ++lost; }
    int lost = 0;
    Upload upload;
  };

  Client& come(std::uint8_t host) {
    AddressShare* const share = limits.add(address_of(host));
    return *clients.emplace_back(std::make_unique<Client>(uploads, share));
  }
  /// Sends so many bytes more.
  bool send(Client& client, std::size_t bytes, std::uint64_t now_ms = 1) const {
    client.upload.body().append(bytes, 'x');
    return client.upload.has_room(now_ms);
  }

  TrustedProxies exempt{{"192.0.0.9"}};
  AddressLimits limits{0, exempt};
  Uploads uploads{limit_bytes};
  std::vector<std::unique_ptr<Client>> clients;
};

}  // namespace

TEST_CASE("bodies of one address make room for those of another, the one without progress for longest first") {
  Clients c;
  std::vector<Clients::Client*> greedy;
  for (int i = 0; i < 10; ++i) {
    greedy.push_back(&c.come(1));
    REQUIRE(c.send(*greedy.back(), 99'000));
  }
  CHECK(c.send(*greedy.front(), 1024));  // it makes progress
  Clients::Client& honest = c.come(2);
  CHECK(c.send(honest, 300'000));
  CHECK(greedy[0]->lost == 0);
  for (int i = 1; i < 4; ++i) {
    CHECK(greedy[i]->lost == 1);
    CHECK(greedy[i]->upload.is_lost());
    CHECK(greedy[i]->upload.body().empty());
  }
  CHECK(greedy[4]->lost == 0);
  CHECK(c.uploads.bytes() <= limit_bytes);
  // Nobody makes room for who holds most.
  CHECK_FALSE(c.send(*greedy.back(), 100'000));
  c.clients.clear();
  CHECK(c.uploads.bytes() == 0);
}

TEST_CASE("an address that takes all it can leaves another at least half") {
  Clients c;
  for (int i = 0; i < 50; ++i) static_cast<void>(c.send(c.come(1), 90'000));
  Clients::Client& honest = c.come(2);
  for (int i = 0; i < 49; ++i) REQUIRE(c.send(honest, 10'000));
  for (int i = 0; i < 50; ++i) static_cast<void>(c.send(c.come(1), 90'000, 2));
  CHECK(honest.lost == 0);
}

TEST_CASE("a stalled body makes room for anybody, also for one of a proxy") {
  Clients c;
  for (const std::uint8_t host : {std::uint8_t{1}, std::uint8_t{9}}) {
    Clients::Client& stalled = c.come(host);
    Clients::Client& dripping = c.come(host);
    Clients::Client& busy = c.come(host);
    REQUIRE(c.send(stalled, 300'000));
    REQUIRE(c.send(dripping, 300'000));
    REQUIRE(c.send(busy, 300'000));
    for (std::uint64_t now_ms = 1; now_ms < Uploads::stalled_after_ms; now_ms += 100) {
      REQUIRE(c.send(dripping, 1, now_ms));
      REQUIRE(c.send(busy, 1024, now_ms));
    }
    Clients::Client& next = c.come(host);
    CHECK_FALSE(c.send(next, 310'000, Uploads::stalled_after_ms));
    CHECK(c.send(next, 0, Uploads::stalled_after_ms + 1));
    CHECK(stalled.lost == 1);
    CHECK(dripping.lost == 0);
    CHECK(c.send(c.come(host), 300'000, Uploads::stalled_after_ms + 1));
    CHECK(dripping.lost == 1);
    CHECK(busy.lost == 0);
    CHECK_FALSE(c.send(c.come(host), 300'000, Uploads::stalled_after_ms + 1));
    c.clients.clear();
  }
}

TEST_CASE("a body that waits for its turn counts, and is not stalled") {
  Clients c;
  Clients::Client& whole = c.come(9);
  whole.upload.body().assign(900'000, 'x');
  CHECK(whole.upload.has_room_whole(1));
  CHECK(c.uploads.bytes() == 900'000);
  CHECK_FALSE(c.send(c.come(9), 200'000, 10 * Uploads::stalled_after_ms));
  Clients::Client& other = c.come(9);
  other.upload.body().assign(200'000, 'x');
  CHECK_FALSE(other.upload.has_room_whole(10 * Uploads::stalled_after_ms));
  CHECK(whole.lost == 0);
}

TEST_CASE("small bodies find a reserve, and what waits for its counts is given up for another address alone") {
  Clients c;
  Clients::Client& large = c.come(9);
  REQUIRE(c.send(large, limit_bytes));
  CHECK_FALSE(c.send(large, 1));
  for (std::size_t sum = 0; sum + Uploads::small_bytes < limit_bytes / 8; sum += Uploads::small_bytes) {
    CHECK(c.send(c.come(9), Uploads::small_bytes));
  }
  CHECK_FALSE(c.send(c.come(9), Uploads::small_bytes));
  c.clients.clear();

  Clients::Client& listing = c.come(1);
  REQUIRE(c.send(listing, 900'000));
  listing.upload.keep_list_alone(950'000);
  CHECK(c.uploads.bytes() == 950'000);
  CHECK_FALSE(c.send(c.come(1), 100'000, 10 * Uploads::stalled_after_ms));
  CHECK(c.send(c.come(2), 100'000, 10 * Uploads::stalled_after_ms));
  CHECK(listing.lost == 1);
}

TEST_CASE("an upload goes over to another share of its address, and back to none") {
  Clients c;
  Clients::Client& greedy = c.come(1);
  REQUIRE(c.send(greedy, 900'000));
  const TrustedProxies nobody{{}};
  AddressLimits others{0, nobody};
  greedy.upload.move_to(others.add(address_of(1)));
  CHECK(c.send(c.come(2), 200'000));
  CHECK(greedy.lost == 1);
  Clients::Client& proxied = c.come(1);
  REQUIRE(c.send(proxied, 700'000));
  proxied.upload.move_to(nullptr);
  CHECK_FALSE(c.send(c.come(2), 200'000));
  CHECK(proxied.lost == 0);
}

TEST_CASE("what is unsent is counted for all, and given back as it is sent") {
  std::uint64_t all = 0;
  {
    Unsent first(all);
    Unsent second(all);
    first.hold(std::string(1000, 'a') + std::string(1000, 'b'));
    second.hold("cc");
    CHECK(all == 2002);
    first.sent(999);
    CHECK(first.view() == "a" + std::string(1000, 'b'));
    first.sent(1);
    CHECK(all == 1002);
    CHECK(first.view() == std::string(1000, 'b'));
    first.sent(1000);
    CHECK(first.empty());
    CHECK(all == 2);
  }
  CHECK(all == 0);
}
