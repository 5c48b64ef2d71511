#include "frontend/server/listening.hpp"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string_view>

#include "common/os/errors.hpp"
#include "common/os/log.hpp"
#include "common/os/service_manager.hpp"
#include "common/os/unix_address.hpp"
#include "frontend/server/listener_at.hpp"

namespace visitd {

namespace {

constexpr int backlog = 4096;
constexpr std::string_view unix_scheme = "unix:";
constexpr std::string_view private_socket_name = "private";
/// As anybody does over TCP; a folder that few may enter keeps others out.
constexpr mode_t anybody_connects = 0666;
constexpr mode_t all_modes = 07777;

struct HostPort {
  std::string host;
  std::string port;
};

HostPort parse_address(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == address.size()) {
    throw error("listen address '{}' is not HOST:PORT, such as [::]:8000 or 127.0.0.1:8000", address);
  }
  HostPort parsed{address.substr(0, colon), address.substr(colon + 1)};
  if (parsed.host.size() > 2 && parsed.host.front() == '[' && parsed.host.back() == ']') {
    parsed.host = parsed.host.substr(1, parsed.host.size() - 2);
  } else if (parsed.host.find(':') != std::string::npos) {
    throw error("listen address '{}': an IPv6 address stands in brackets, such as [::1]:8000", address);
  }
  return parsed;
}

struct FreeAddresses {
  void operator()(addrinfo* found) const noexcept { ::freeaddrinfo(found); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Addresses resolve(const HostPort& parsed, const std::string& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  if (const int result = ::getaddrinfo(parsed.host.c_str(), parsed.port.c_str(), &hints, &found); result != 0) {
    throw error("listen address '{}': {}", address, ::gai_strerror(result));
  }
  return Addresses(found);
}

bool lacks_ipv6(int error_number) noexcept {
  return error_number == EAFNOSUPPORT || error_number == EADDRNOTAVAIL;
}

void set_option(int fd, int level, int option, int value, const std::string& address) {
  if (::setsockopt(fd, level, option, &value, sizeof value) != 0) {
    throw system_error("cannot set up a socket for listen address '{}'", address);
  }
}

std::uint16_t port_of(const addrinfo& to) noexcept {
  if (to.ai_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(to.ai_addr)->sin6_port);
  return ntohs(reinterpret_cast<const sockaddr_in*>(to.ai_addr)->sin_port);
}

/// Says why the kernel refuses an address, and what to do.
[[noreturn]] void refuse_address(int error_number, std::uint16_t port, const std::string& address) {
  if (error_number == EADDRINUSE) {
    throw error("listen address '{}' is in use by {}: stop it, or choose another address in http.listen", address,
                listener_at(port));
  }
  if (error_number == EACCES) {
    throw error(
        "cannot listen at '{}': ports below {} are for processes with the capability CAP_NET_BIND_SERVICE; choose a "
        "port from there on, or let systemd open this one (visitd.socket), or give the unit the capability "
        "(AmbientCapabilities=CAP_NET_BIND_SERVICE)",
        address, first_unprivileged_port());
  }
  errno = error_number;
  throw system_error("cannot listen at '{}'", address);
}

/// Owns none where errno says that the host has no such address family or address.
UniqueFd open_one(const addrinfo& to, const std::string& address) {
  UniqueFd fd(::socket(to.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) {
    if (lacks_ipv6(errno)) return {};
    throw system_error("cannot make a socket for listen address '{}'", address);
  }
  set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1, address);
  set_option(fd.get(), SOL_SOCKET, SO_REUSEPORT, 1, address);
  if (to.ai_family == AF_INET6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0, address);
  if (::bind(fd.get(), to.ai_addr, to.ai_addrlen) != 0 || ::listen(fd.get(), backlog) != 0) {
    if (lacks_ipv6(errno)) return {};
    refuse_address(errno, port_of(to), address);
  }
  return fd;
}

UniqueFd open_at(const std::string& address) {
  const HostPort parsed = parse_address(address);
  const Addresses found = resolve(parsed, address);
  if (UniqueFd fd = open_one(*found, address)) return fd;
  if (parsed.host == "::") {
    log::info("this host has no IPv6: '{}' serves IPv4 alone", address);
    const Addresses ipv4 = resolve({"0.0.0.0", parsed.port}, address);
    if (UniqueFd fd = open_one(*ipv4, address)) return fd;
  }
  if (started_by_service_manager()) {
    throw error(
        "listen address '{}' cannot be used by this unit, and systemd passed it no socket: see systemctl status "
        "visitd.socket; another program may use its port",
        address);
  }
  throw error("listen address '{}' is not an address of this host", address);
}

/// As settings would name it: "[::]:8000", "127.0.0.1:8000", "unix:/run/visitd.sock".
std::string address_of(int fd) {
  union {
    sockaddr any;
    sockaddr_un path;
    sockaddr_storage room;
  } address{};
  socklen_t size = sizeof address;
  if (::getsockname(fd, &address.any, &size) != 0) return "?";
  if (address.any.sa_family == AF_UNIX) return std::string(unix_scheme) + std::data(address.path.sun_path);
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (::getnameinfo(&address.any, size, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "?";
  }
  const bool is_ipv6 = address.any.sa_family == AF_INET6;
  return fmt::format("{}{}{}:{}", is_ipv6 ? "[" : "", std::data(host), is_ipv6 ? "]" : "", std::data(port));
}

/// Sockets that systemd passed take the place of the settings: whoever set those must learn where to set them instead.
void warn_of_what_counts_not(std::string_view setting, const std::vector<std::string>& set,
                             const std::vector<std::string>& built_in, std::vector<std::string> passed,
                             std::string_view unit) {
  std::vector<std::string> wanted = set;
  std::ranges::sort(wanted);
  std::ranges::sort(passed);
  if (set == built_in || wanted == passed) return;
  log::warning(
      "{} = [{}] has no effect: this frontend serves the sockets that systemd passed (for this setting: {}). Set "
      "ListenStream= of the unit {} instead, or take the setting away",
      setting, fmt::join(set, ", "), passed.empty() ? "none" : fmt::format("{}", fmt::join(passed, ", ")), unit);
}

/// What lets every user of this host connect at a Unix socket's path, or keeps us from seeing who may; nullopt: its
/// mode, or that of a folder on its way, keeps others out.
std::optional<std::string> what_opens(const std::string& path) {
  if (!path.starts_with('/')) return "it has no path, so it has no mode";
  struct stat found{};
  if (::stat(path.c_str(), &found) != 0) return fmt::format("its mode cannot be read: {}", std::strerror(errno));
  if ((found.st_mode & S_IWOTH) == 0) return std::nullopt;
  for (std::filesystem::path folder = std::filesystem::path(path).parent_path();; folder = folder.parent_path()) {
    struct stat way{};
    if (::stat(folder.c_str(), &way) == 0 && (way.st_mode & S_IXOTH) == 0) return std::nullopt;
    if (folder == folder.root_path()) break;
  }
  return fmt::format("its mode is {:04o}, and the folders on its way let others pass", found.st_mode & all_modes);
}

/// `named`: the socket with where it was set. `remedy`: what keeps others out.
Entrance public_unix_entrance(const std::string& path, const std::string& named, const std::string& remedy) {
  const auto why = what_opens(path);
  if (!why) return Entrance::public_address;
  log::warning(
      "{}: every user of this host may connect, as far as can be seen ({}). What comes through it is taken for a "
      "request from outside, which may add what http.public_visits_limit and http.public_entries_limit say. {}",
      named, *why, remedy);
  return Entrance::open_unix_socket;
}

Entrance entrance_of_passed(const std::string& address, const std::string& unit) {
  if (!address.starts_with(unix_scheme)) return Entrance::public_address;
  const std::string path = address.substr(unix_scheme.size());
  return public_unix_entrance(
      path, fmt::format("{}, which systemd passed in the place of http.listen", address),
      fmt::format("Set SocketMode=0660 and SocketGroup= (the proxy's group) of the unit {}; where the "
                  "frontends' unit does not show them the socket, set BindReadOnlyPaths={} of it",
                  unit, path));
}

Listening take_passed(const Settings& settings, std::vector<PassedSocket> sockets) {
  Listening listening;
  std::vector<std::string> addresses;
  std::vector<std::string> private_addresses;
  std::string unit = "visitd.socket";
  for (PassedSocket& passed : sockets) {
    const bool is_private = passed.name == private_socket_name;
    const std::string address = address_of(passed.fd.get());
    (is_private ? private_addresses : addresses).push_back(address);
    if (!is_private && passed.name.ends_with(".socket")) unit = passed.name;
    const Entrance entrance = is_private ? Entrance::private_address : entrance_of_passed(address, unit);
    listening.sockets.push_back({std::move(passed.fd), entrance, true});
  }
  // With the private socket alone the public port would be dead, and nothing would say so. Started again, the frontend
  // has systemd try the socket again.
  if (addresses.empty()) {
    throw error(
        "systemd passed no socket for http.listen, but [{}] for http.private_listen: the unit visitd.socket does not "
        "listen. Another program may have its port. See systemctl status visitd.socket and ss -ltnp; stop that "
        "program, or set another ListenStream= (systemctl edit visitd.socket)",
        fmt::join(private_addresses, ", "));
  }
  const Settings built_in;
  warn_of_what_counts_not("http.listen", settings.http.listen, built_in.http.listen, std::move(addresses), unit);
  warn_of_what_counts_not("http.private_listen", settings.http.private_listen, built_in.http.private_listen,
                          std::move(private_addresses), "visitd-private.socket");
  return listening;
}

}  // namespace

UnixListening::~UnixListening() {
  if (lease_ != nullptr && is_ours_) ::unlink(path_.c_str());
}

std::optional<ListeningSocket> UnixListening::try_open() {
  if (lease_ != nullptr && is_in_place()) return std::nullopt;
  if (lease_ == nullptr) {
    auto lease = FileLease::try_take(path_ + ".lock");
    if (!lease) return std::nullopt;
    lease_ = std::make_unique<FileLease>(std::move(*lease));
  }
  try {
    return make_socket();
  } catch (...) {
    lease_.reset();  // another may be able to
    throw;
  }
}

/// Clients reach a socket by its path: one that was unlinked serves nobody, and nothing says so.
bool UnixListening::is_in_place() {
  const std::optional<FileIdentity> found = file_identity(path_);
  if (found == socket_) return true;
  // Whoever removed the lock's file too lets another process take the path.
  if (!lease_->still_named()) {
    lease_.reset();
    return false;
  }
  socket_ = found;
  is_ours_ = false;
  if (!found) {
    log::warning("{}: this frontend's socket was removed, and is made again", path_);
    return false;
  }
  log::warning("{}: another program put a file in the place of this frontend's socket; it serves no more there", path_);
  return true;
}

ListeningSocket UnixListening::make_socket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) throw system_error("cannot make a socket for '{}'", path_);
  const sockaddr_un address = unix_address(path_);
  if (::unlink(path_.c_str()) != 0 && errno != ENOENT) throw system_error("cannot remove the old socket '{}'", path_);
  const bool bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  if (!bound || ::chmod(path_.c_str(), anybody_connects) != 0 || ::listen(fd.get(), backlog) != 0) {
    throw system_error("cannot listen at '{}'", path_);
  }
  socket_ = file_identity(path_);
  is_ours_ = true;
  return {std::move(fd), entrance_there(), false, path_};
}

Entrance UnixListening::entrance_there() const {
  if (is_private_) return Entrance::private_address;
  return public_unix_entrance(
      path_, fmt::format("http.listen names '{}{}'", unix_scheme, path_),
      fmt::format(
          "Let the proxy's group alone into its folder (chmod 0750 {}), then restart the frontend; or let systemd "
          "make the socket, with SocketMode=0660 and SocketGroup=",
          std::filesystem::path(path_).parent_path().string()));
}

bool Listening::has_private_address() const noexcept {
  return std::ranges::any_of(sockets, &ListeningSocket::is_private) ||
         std::ranges::any_of(unix_paths, &UnixListening::is_private);
}

Listening open_listening(const Settings& settings) {
  if (auto passed = take_passed_sockets(); !passed.empty()) return take_passed(settings, std::move(passed));
  Listening listening;
  const auto open_all = [&](const std::vector<std::string>& addresses, bool is_private) {
    for (const std::string& address : addresses) {
      if (address.starts_with(unix_scheme)) {
        listening.unix_paths.emplace_back(address.substr(unix_scheme.size()), is_private);
      } else {
        listening.sockets.push_back(
            {open_at(address), is_private ? Entrance::private_address : Entrance::public_address});
      }
    }
  };
  open_all(settings.http.listen, false);
  open_all(settings.http.private_listen, true);
  return listening;
}

}  // namespace visitd
