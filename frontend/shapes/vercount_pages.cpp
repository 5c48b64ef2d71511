#include "frontend/shapes/vercount_pages.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "common/os/text.hpp"
#include "frontend/http/target.hpp"

namespace visitd {

namespace {

constexpr std::size_t longest_path_bytes = 200;

std::string host_name(std::string_view host, bool is_secure) {
  const std::string_view usual_port = is_secure ? ":443" : ":80";
  if (host.ends_with(usual_port)) host.remove_suffix(usual_port.size());
  std::string name(host);
  for (char& c : name) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return name;
}

/// Cut where no character is cut in two.
std::string_view cut(std::string_view path) noexcept {
  if (path.size() <= longest_path_bytes) return path;
  // A character has at most four bytes; what has more of its kind is no UTF-8, and is refused as it is.
  constexpr std::size_t least_end = longest_path_bytes - 3;
  std::size_t end = longest_path_bytes;
  while (end > least_end && (static_cast<unsigned char>(path[end]) & 0xC0U) == 0x80U) --end;
  return path.substr(0, end);
}

std::string_view without_index(std::string_view path) noexcept {
  if (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  for (const std::string_view index : std::array<std::string_view, 3>{"/index.html", "/index.htm", "/index"}) {
    if (path.ends_with(index)) path.remove_suffix(index.size());
  }
  return path.empty() ? std::string_view("/") : path;
}

}  // namespace

VercountPage vercount_page_of(std::string_view url) {
  url = trim(url);
  const std::string_view scheme = url.substr(0, url.find(':'));
  const bool is_secure = is_same_word(scheme, "https");
  if (!is_secure && !is_same_word(scheme, "http")) {
    return {{}, "Invalid URL protocol. Only HTTP and HTTPS are supported."};
  }
  const auto page = page_of_url(url);
  if (!page || !is_host(page->host)) return {{}, "Invalid URL host"};
  return {{host_name(page->host, is_secure), std::string(cut(without_index(page->path)))}, {}};
}

}  // namespace visitd
