#include "frontend/shapes/vercount_pages.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "common/os/text.hpp"
#include "common/os/utf8.hpp"
#include "frontend/http/target.hpp"

namespace visitd {

namespace {

constexpr std::size_t longest_path_bytes = 200;

std::string host_name(std::string_view host, bool is_secure) {
  const std::string_view usual_port = is_secure ? ":443" : ":80";
  if (host.ends_with(usual_port)) host.remove_suffix(usual_port.size());
  return lower_case(host);
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
  return {
      {host_name(page->host, is_secure), std::string(first_characters(without_index(page->path), longest_path_bytes))},
      {}};
}

}  // namespace visitd
