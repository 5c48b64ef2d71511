#include "frontend/http/client_address.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include "common/os/text.hpp"
#include "frontend/http/head_fields.hpp"

namespace visitd {

namespace {

/// The parts of all field lines of a name, the last one first. `take` returns whether it wants another.
template <typename Take>
void each_part_backwards(std::string_view fields, std::string_view name, Take take) {
  while (!fields.empty()) {
    const std::size_t before = fields.size() < 2 ? std::string_view::npos : fields.rfind('\n', fields.size() - 2);
    const std::size_t begin = before == std::string_view::npos ? 0 : before + 1;
    const std::string_view line = fields.substr(begin);
    fields = fields.substr(0, begin);
    const auto found = value_in_line(line, name);
    if (!found) continue;
    std::string_view value = *found;
    for (;;) {
      const std::size_t comma = value.rfind(',');
      if (!take(trim(comma == std::string_view::npos ? value : value.substr(comma + 1)))) return;
      if (comma == std::string_view::npos) break;
      value = value.substr(0, comma);
    }
  }
}

/// The node that the "for" of one element of Forwarded names; empty: none.
std::string_view forwarded_for(std::string_view element) noexcept {
  while (!element.empty()) {
    const std::string_view pair = trim(element.substr(0, element.find(';')));
    element.remove_prefix(std::min(element.find(';'), element.size() - 1) + 1);
    if (pair.size() > 4 && is_same_word(pair.substr(0, 4), "for=")) {
      std::string_view node = pair.substr(4);
      if (node.size() > 1 && node.front() == '"' && node.back() == '"') node = node.substr(1, node.size() - 2);
      return node;
    }
  }
  return {};
}

/// An address, with or without brackets and port.
std::optional<IpAddress> parse_node(std::string_view node) noexcept {
  if (node.starts_with('[')) return IpAddress::parse(node.substr(1, std::min(node.find(']'), node.size()) - 1));
  if (std::ranges::count(node, ':') == 1) node = node.substr(0, node.find(':'));
  return IpAddress::parse(node);
}

}  // namespace

ClientAddress client_address(const sockaddr_storage& address) noexcept {
  if (address.ss_family == AF_INET) {
    sockaddr_in ipv4{};
    std::memcpy(&ipv4, &address, sizeof ipv4);
    std::uint8_t octets[4];
    std::memcpy(octets, &ipv4.sin_addr, sizeof octets);
    return IpAddress::from_ipv4(octets);
  }
  if (address.ss_family != AF_INET6) return std::nullopt;
  sockaddr_in6 ipv6{};
  std::memcpy(&ipv6, &address, sizeof ipv6);
  IpAddress found;
  std::memcpy(found.bytes.data(), &ipv6.sin6_addr, sizeof found.bytes);
  return found;
}

IpAddress network_of(const IpAddress& address) noexcept {
  IpAddress network = address;
  if (!address.is_ipv4()) std::fill(network.bytes.begin() + 8, network.bytes.end(), std::uint8_t{0});
  return network;
}

bool TrustedProxies::include(const ClientAddress& client) const noexcept {
  return !client || networks_.contain(*client);
}

std::string TrustedProxies::origin_of(const ClientAddress& client, std::string_view fields, Entrance entrance) const {
  const ClientAddress nearest = client_behind(client, fields, entrance);
  return nearest ? nearest->text() : "a process of this host";
}

ClientAddress TrustedProxies::client_behind(const ClientAddress& client, std::string_view fields,
                                            Entrance entrance) const {
  ClientAddress nearest = client;
  bool standard = false;
  const auto take = [&](std::string_view node) {
    const auto address = parse_node(node);
    if (!address) return false;
    nearest = address;
    return include(nearest);
  };
  if (include(client) && entrance != Entrance::open_unix_socket) {
    each_part_backwards(fields, "forwarded", [&](std::string_view element) {
      standard = true;
      return take(forwarded_for(element));
    });
    if (!standard) each_part_backwards(fields, "x-forwarded-for", take);
  }
  return nearest;
}

}  // namespace visitd
