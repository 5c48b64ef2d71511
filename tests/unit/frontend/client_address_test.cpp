#include "frontend/http/client_address.hpp"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "frontend/server/address_limits.hpp"

namespace visitd {
namespace {

ClientAddress at(std::string_view text) {
  return IpAddress::parse(text);
}

std::string origin(std::string_view client, std::string_view fields, Entrance entrance = Entrance::public_address) {
  const TrustedProxies proxies({"127.0.0.0/8", "10.1.0.0/16", "2001:db8:1::/48"});
  return proxies.origin_of(client == "unix" ? ClientAddress() : at(client), fields, entrance);
}

TEST_CASE("the client is the nearest address that no trusted proxy has") {
  CHECK(origin("127.0.0.1", "X-Forwarded-For: 192.0.2.7\r\n") == "192.0.2.7");
  CHECK(origin("127.0.0.1", "Host: a\r\nX-FORWARDED-FOR: 203.0.113.9, 192.0.2.7 , 10.1.2.3\r\nA: b\r\n") ==
        "192.0.2.7");
  CHECK(origin("127.0.0.1", "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 192.0.2.7\r\n") == "192.0.2.7");
  CHECK(origin("unix", "X-Forwarded-For: 2001:db8:2::1\r\n") == "2001:db8:2::1");
  CHECK(origin("2001:db8:1::5", "X-Forwarded-For: [2001:db8:2::1]:4711\r\n") == "2001:db8:2::1");
  CHECK(origin("127.0.0.1", "X-Forwarded-For: 192.0.2.7:4711\r\n") == "192.0.2.7");
}

TEST_CASE("the standard field counts before the other one") {
  CHECK(origin("127.0.0.1", "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.7;proto=https\r\n") == "192.0.2.7");
  CHECK(origin("127.0.0.1", "Forwarded: for=203.0.113.9, by=x; For=\"[2001:db8:2::1]:80\"\r\n") == "2001:db8:2::1");
  CHECK(origin("127.0.0.1", "Forwarded: for=unknown\r\nX-Forwarded-For: 192.0.2.1\r\n") == "127.0.0.1");
}

TEST_CASE("what an untrusted client says of others does not count") {
  CHECK(origin("192.0.2.66", "X-Forwarded-For: 203.0.113.9\r\nForwarded: for=203.0.113.9\r\n") == "192.0.2.66");
  CHECK(origin("10.2.0.1", "X-Forwarded-For: 203.0.113.9\r\n") == "10.2.0.1");
  CHECK(origin("127.0.0.1", "X-Forwarded-For: 203.0.113.9, 198.51.100.1\r\n") == "198.51.100.1");
  CHECK(origin("unix", "X-Forwarded-For: 203.0.113.9\r\n", Entrance::open_unix_socket) == "a process of this host");
}

TEST_CASE("what is named and is no address ends the search") {
  CHECK(origin("127.0.0.1", "X-Forwarded-For: 203.0.113.9, nonsense\r\n") == "127.0.0.1");
  CHECK(origin("127.0.0.1", "X-Forwarded-For: 203.0.113.9, nonsense, 10.1.0.1\r\n") == "10.1.0.1");
  CHECK(origin("127.0.0.1", "X-Forwarded-For:\r\n") == "127.0.0.1");
  CHECK(origin("127.0.0.1", "X-Forwarded-For: [\r\n") == "127.0.0.1");
  CHECK(origin("127.0.0.1", "Forwarded: for=\"\r\n") == "127.0.0.1");
  CHECK(origin("127.0.0.1", "Forwarded: by=192.0.2.1\r\n") == "127.0.0.1");
  CHECK(origin("127.0.0.1", "") == "127.0.0.1");
  CHECK(origin("unix", "") == "a process of this host");
}

TEST_CASE("addresses and networks are what they say, IPv4 within IPv6 too") {
  CHECK(IpAddress::parse("::ffff:192.0.2.7") == IpAddress::parse("192.0.2.7"));
  CHECK(IpAddress::parse("192.0.2.7")->text() == "192.0.2.7");
  for (const std::string_view bad : {"", "192.0.2", "192.0.2.256", "::g", "[::1]", "192.0.2.7 ", "1:2", "localhost"}) {
    CAPTURE(bad);
    CHECK_FALSE(IpAddress::parse(bad));
  }
  const auto within = [](std::string_view network, std::string_view address) {
    return IpNetwork::parse(network)->contains(*IpAddress::parse(address));
  };
  CHECK(within("10.0.0.0/9", "10.127.255.255"));
  CHECK_FALSE(within("10.0.0.0/9", "10.128.0.0"));
  CHECK(within("192.0.2.7", "192.0.2.7"));
  CHECK_FALSE(within("192.0.2.7", "192.0.2.8"));
  CHECK(within("::/0", "192.0.2.8"));
  CHECK(within("0.0.0.0/0", "192.0.2.8"));
  CHECK_FALSE(within("0.0.0.0/0", "2001:db8::1"));
  for (const std::string_view bad :
       {"10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "2001:db8::/129", "/8", "a/8"}) {
    CAPTURE(bad);
    CHECK_FALSE(IpNetwork::parse(bad));
  }
}

TEST_CASE("an address has so many connections and no more, and a /64 of IPv6 counts as one") {
  const TrustedProxies exempt({"127.0.0.0/8"});
  AddressLimits limits(2, exempt);
  static_cast<void>(limits.add(at("192.0.2.7")));
  CHECK(limits.reached(at("192.0.2.7")) == nullptr);
  static_cast<void>(limits.add(at("192.0.2.7")));
  CHECK(limits.reached(at("192.0.2.7")) != nullptr);
  CHECK(limits.reached(at("192.0.2.8")) == nullptr);
  static_cast<void>(limits.add(at("2001:db8::1")));
  static_cast<void>(limits.add(at("2001:db8::2")));
  CHECK(limits.reached(at("2001:db8::3")) != nullptr);
  CHECK(limits.reached(at("2001:db8:0:1::3")) == nullptr);
  CHECK(limits.add(at("2001:db8::1")) == limits.reached(at("2001:db8::2")));
  limits.remove(at("2001:db8::1"));
  limits.remove(at("192.0.2.7"));
  CHECK(limits.reached(at("192.0.2.7")) == nullptr);
  limits.remove(at("192.0.2.7"));
  limits.remove(at("2001:db8::1"));
  limits.remove(at("2001:db8::1"));
  CHECK(limits.addresses() == 0);
  for (int i = 0; i < 9; ++i) static_cast<void>(limits.add(at("127.0.0.1")));
  CHECK(limits.reached(at("127.0.0.1")) == nullptr);
  CHECK(limits.reached(ClientAddress()) == nullptr);
  CHECK(limits.addresses() == 0);
}

TEST_CASE("without a limit an address has as many connections as it likes") {
  const TrustedProxies exempt({});
  AddressLimits limits(0, exempt);
  for (int i = 0; i < 9; ++i) static_cast<void>(limits.add(at("192.0.2.7")));
  CHECK(limits.reached(at("192.0.2.7")) == nullptr);
  for (int i = 0; i < 9; ++i) limits.remove(at("192.0.2.7"));
  CHECK(limits.addresses() == 0);
}

}  // namespace
}  // namespace visitd
