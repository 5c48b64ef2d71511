#include "common/os/ip_network.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace visitd {

namespace {

constexpr std::array<std::uint8_t, 12> ipv4_prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

}  // namespace

std::optional<IpAddress> IpAddress::parse(std::string_view text) noexcept {
  char terminated[INET6_ADDRSTRLEN];
  if (text.size() >= sizeof terminated) return std::nullopt;
  text.copy(terminated, text.size());
  terminated[text.size()] = '\0';
  if (text.find('\0') != std::string_view::npos) return std::nullopt;
  std::uint8_t octets[4];
  if (::inet_pton(AF_INET, terminated, octets) == 1) return from_ipv4(octets);
  IpAddress address;
  return ::inet_pton(AF_INET6, terminated, address.bytes.data()) == 1 ? std::optional(address) : std::nullopt;
}

IpAddress IpAddress::from_ipv4(const std::uint8_t (&octets)[4]) noexcept {
  IpAddress address;
  std::ranges::copy(ipv4_prefix, address.bytes.begin());
  std::ranges::copy(octets, address.bytes.begin() + ipv4_prefix.size());
  return address;
}

bool IpAddress::is_ipv4() const noexcept {
  return std::equal(ipv4_prefix.begin(), ipv4_prefix.end(), bytes.begin());
}

bool IpAddress::is_loopback() const noexcept {
  if (is_ipv4()) return bytes[ipv4_prefix.size()] == 127;
  return std::all_of(bytes.begin(), bytes.end() - 1, [](std::uint8_t byte) { return byte == 0; }) && bytes.back() == 1;
}

std::string IpAddress::text() const {
  char text[INET6_ADDRSTRLEN] = "";
  const bool ipv4 = is_ipv4();
  ::inet_ntop(ipv4 ? AF_INET : AF_INET6, bytes.data() + (ipv4 ? ipv4_prefix.size() : 0), text, sizeof text);
  return text;
}

std::optional<IpNetwork> IpNetwork::parse(std::string_view text) noexcept {
  const std::size_t slash = std::min(text.find('/'), text.size());
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  IpNetwork network;
  network.address_ = *address;
  if (slash == text.size()) return network;
  const std::string_view digits = text.substr(slash + 1);
  const unsigned most = address->is_ipv4() ? 32 : 128;
  unsigned bits = 0;
  const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
  if (failed != std::errc{} || end != digits.data() + digits.size() || bits > most) return std::nullopt;
  network.bits_ = bits + 128 - most;
  for (unsigned bit = network.bits_; bit < 128; ++bit) {
    if ((address->bytes[bit / 8] >> (7 - bit % 8) & 1) != 0) return std::nullopt;
  }
  return network;
}

bool IpNetwork::contains(const IpAddress& address) const noexcept {
  const unsigned whole = bits_ / 8;
  if (!std::equal(address_.bytes.begin(), address_.bytes.begin() + whole, address.bytes.begin())) return false;
  const unsigned rest = bits_ % 8;
  return rest == 0 || (address_.bytes[whole] ^ address.bytes[whole]) >> (8 - rest) == 0;
}

IpNetworks::IpNetworks(const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    if (const auto network = IpNetwork::parse(text)) networks_.push_back(*network);
  }
}

bool IpNetworks::contain(const IpAddress& address) const noexcept {
  return std::ranges::any_of(networks_, [&](const IpNetwork& network) { return network.contains(address); });
}

}  // namespace visitd
