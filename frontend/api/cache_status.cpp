#include "frontend/api/cache_status.hpp"

#include <algorithm>
#include <string_view>

#include "common/os/text.hpp"

namespace visitd {

namespace {

/// What Cache-Status calls this cache.
constexpr std::string_view cache_name = "visitd";

/// Whether RFC 8941 lets this stand without quotes.
bool is_bare_token(std::string_view text) noexcept {
  const auto is_inner = [](char c) {
    return is_letter(c) || is_digit(c) || std::string_view("!#$%&'*+-.^_`|~:/").find(c) != std::string_view::npos;
  };
  return !text.empty() && is_letter(text.front()) && std::all_of(text.begin(), text.end(), is_inner);
}

}  // namespace

void note_cache_status(const CountAnswer& count, Answer& answer) noexcept {
  answer.cache_status.append(cache_name);
  if (count.kind == CountAnswer::Kind::fresh && count.served_via != "in-memory") {
    const std::string_view quote = is_bare_token(count.served_via) ? "" : "\"";
    append_all(answer.cache_status, "; fwd=miss; detail=", quote, count.served_via, quote);
  } else {
    append_all(answer.cache_status, "; hit; ttl=", count.ttl_s);
  }
}

}  // namespace visitd
