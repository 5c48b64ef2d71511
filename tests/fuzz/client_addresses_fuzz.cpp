// Who a client is: Forwarded, X-Forwarded-For, addresses and networks, against a second, plain implementation.
//
// Input: the connection's address and the trusted networks chosen by a byte each; a line with two more networks, one
// with an address; then field lines.
#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/os/ip_network.hpp"
#include "frontend/http/client_address.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace visitd {
namespace {

using fuzzing::Exact;
using fuzzing::Input;
using fuzzing::lower;
using fuzzing::require;

bool bit(const IpAddress& address, unsigned number) {
  return (address.bytes[number / 8] >> (7 - number % 8) & 1U) != 0;
}

/// A number as networks write it, of at most three digits but for zeros before it; nullopt: none.
std::optional<unsigned> plain_number(std::string_view digits) {
  if (digits.empty() || digits.find_first_not_of("0123456789") != digits.npos) return std::nullopt;
  digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
  return digits.size() > 3 ? std::nullopt
                           : std::optional(static_cast<unsigned>(std::atoi(std::string(digits).c_str())));
}

/// The first address of a network and the bits that all of it begins with.
std::optional<std::pair<IpAddress, unsigned>> plain_network(std::string_view text) {
  const std::size_t slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  if (slash == text.npos) return std::pair(*address, 128U);
  const auto number = plain_number(text.substr(slash + 1));
  const unsigned before = address->is_ipv4() ? 96 : 0;
  if (!number || *number + before > 128) return std::nullopt;
  for (unsigned i = *number + before; i < 128; ++i) {
    if (bit(*address, i)) return std::nullopt;
  }
  return std::pair(*address, *number + before);
}

bool plainly_contains(const std::pair<IpAddress, unsigned>& network, const IpAddress& address) {
  for (unsigned i = 0; i < network.second; ++i) {
    if (bit(network.first, i) != bit(address, i)) return false;
  }
  return true;
}

void check_address(std::string_view text) {
  const Exact own(text);
  const auto address = IpAddress::parse(own.view());
  if (!address) return;
  require(IpAddress::parse(address->text()) == address, "an address written reads the same");
  require(address->is_ipv4() == (address->text().find(':') == std::string::npos), "an IPv4 address is written as one");
}

void check_network(std::string_view text, const std::vector<std::optional<IpAddress>>& addresses) {
  const Exact own(text);
  const auto network = IpNetwork::parse(own.view());
  const auto plain = plain_network(text);
  require(network.has_value() == plain.has_value(), "a network is what the rule says");
  if (!network) return;
  require(network->contains(plain->first), "a network has its first address");
  IpAddress near = plain->first;
  for (unsigned i = 0; i < 128; i += 7) {
    near.bytes[i / 8] ^= static_cast<std::uint8_t>(0x80U >> i % 8);
    require(network->contains(near) == plainly_contains(*plain, near), "a network has what begins as it does");
  }
  for (const auto& address : addresses) {
    if (address) require(network->contains(*address) == plainly_contains(*plain, *address), "a network has its own");
  }
}

// --- who the client is

std::string_view trim(std::string_view text, std::string_view blanks) {
  while (!text.empty() && blanks.find(text.front()) != blanks.npos) text.remove_prefix(1);
  while (!text.empty() && blanks.find(text.back()) != blanks.npos) text.remove_suffix(1);
  return text;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

/// The parts of all lines of a name, in order.
std::vector<std::string_view> elements(std::string_view fields, std::string_view name) {
  std::vector<std::string_view> found;
  for (const std::string_view line : split(fields, '\n')) {
    const std::size_t colon = line.find(':');
    if (colon == line.npos || lower(line.substr(0, colon)) != name) continue;
    for (const std::string_view part : split(trim(line.substr(colon + 1), "\r"), ',')) {
      found.push_back(trim(part, " \t"));
    }
  }
  return found;
}

std::string node_of(std::string_view element) {
  for (const std::string_view pair : split(element, ';')) {
    const std::string_view text = trim(pair, " \t");
    if (lower(text.substr(0, 4)) != "for=" || text.size() == 4) continue;
    const std::string_view node = text.substr(4);
    const bool quoted = node.size() > 1 && node.front() == '"' && node.back() == '"';
    return std::string(quoted ? node.substr(1, node.size() - 2) : node);
  }
  return "";
}

std::optional<IpAddress> address_of(std::string_view node) {
  if (node.starts_with('[')) return IpAddress::parse(split(node, ']')[0].substr(1));
  const auto parts = split(node, ':');
  return IpAddress::parse(parts.size() == 2 ? parts[0] : node);
}

class PlainProxies {
 public:
  explicit PlainProxies(const std::vector<std::string>& networks) {
    for (const std::string& text : networks) {
      if (const auto network = plain_network(text)) networks_.push_back(*network);
    }
  }

  [[nodiscard]] bool trust(const ClientAddress& client) const {
    return !client ||
           std::ranges::any_of(networks_, [&](const auto& network) { return plainly_contains(network, *client); });
  }

  [[nodiscard]] ClientAddress origin(const ClientAddress& client, std::string_view fields) const {
    std::vector<std::string> nodes;
    for (const std::string_view element : elements(fields, "forwarded")) nodes.push_back(node_of(element));
    if (nodes.empty()) {
      for (const std::string_view element : elements(fields, "x-forwarded-for")) nodes.emplace_back(element);
    }
    ClientAddress nearest = client;
    while (trust(nearest) && !nodes.empty()) {
      const auto address = address_of(nodes.back());
      if (!address) break;
      nearest = address;
      nodes.pop_back();
    }
    return nearest;
  }

 private:
  std::vector<std::pair<IpAddress, unsigned>> networks_;
};

/// Field lines as the reader lets them through: each with its CRLF, no other control character.
std::string vetted(std::string_view text) {
  std::string fields;
  for (const std::string_view line : split(text, '\n')) {
    for (const char c : line) fields += static_cast<unsigned char>(c) < 0x20 || c == 0x7F ? '\t' : c;
    fields += "\r\n";
  }
  return fields;
}

std::string text_of(const ClientAddress& client) {
  return client ? client->text() : "a process of this host";
}

}  // namespace
}  // namespace visitd

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace visitd;
  constexpr std::array<std::string_view, 5> clients = {"", "127.0.0.1", "192.0.2.66", "::1", "2001:db8:1::5"};
  constexpr std::array<std::string_view, 6> known = {"127.0.0.0/8", "10.1.0.0/16",   "2001:db8:1::/48",
                                                     "0.0.0.0/0",   "192.0.2.64/29", "::/0"};
  Input input(data, size);
  const std::string_view client_text = clients[input.byte() % clients.size()];
  const ClientAddress client = client_text.empty() ? ClientAddress() : IpAddress::parse(client_text);
  const std::uint8_t chosen = input.byte();
  std::vector<std::string> networks;
  for (std::size_t i = 0; i < known.size(); ++i) {
    if ((chosen >> i & 1U) != 0) networks.emplace_back(known[i]);
  }
  networks.emplace_back(input.until(' '));
  networks.emplace_back(input.until('\n'));
  const std::string_view address = input.until('\n');
  const std::string fields = vetted(input.rest());

  check_address(address);
  for (const std::string& network : networks) check_network(network, {client, IpAddress::parse(address)});

  const TrustedProxies proxies(networks);
  const PlainProxies plain(networks);
  require(proxies.include(client) == plain.trust(client), "a proxy is trusted as the rule says");
  const Exact own(fields);
  const std::string origin = proxies.origin_of(client, own.view(), Entrance::public_address);
  require(origin == text_of(plain.origin(client, fields)), "the client is who the rule says");

  // Once somebody is named whom nobody trusts, what stands before changes nothing.
  const auto named = IpAddress::parse(origin);
  if (named && !proxies.include(named)) {
    const bool standard = !elements(fields, "forwarded").empty();
    const std::string forged =
        standard ? "Forwarded: for=203.0.113.9\r\n" : "X-Forwarded-For: 203.0.113.9, 10.1.0.1\r\n";
    require(proxies.origin_of(client, forged + fields, Entrance::public_address) == origin,
            "a forged field is not heard");
  }
  return 0;
}
