// One request on its way to its answer, and the row of the table that says who makes it.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "frontend/api/answers.hpp"
#include "frontend/api/list_read.hpp"
#include "frontend/http/client_address.hpp"
#include "frontend/http/entrance.hpp"
#include "frontend/http/request_head.hpp"

namespace visitd {

struct Call;
struct HandlerShare;

/// parked: it waits for the flusher. paused: it goes on in the connection's next turn. streamed: a piece of its answer
/// is made, and others follow.
enum class Handled : std::uint8_t { answered, parked, paused, streamed };

/// A bit for each method, as Route::methods has them.
[[nodiscard]] constexpr std::uint8_t methods_of(std::initializer_list<Method> methods) noexcept {
  std::uint8_t bits = 0;
  for (const Method method : methods) bits |= static_cast<std::uint8_t>(1U << static_cast<unsigned>(method));
  return bits;
}

// The methods of routes that only read; and how the Allow field lists these, with OPTIONS.
inline constexpr std::uint8_t by_get_or_head = methods_of({Method::get, Method::head});
inline constexpr std::string_view allow_get_or_head = "GET, HEAD, OPTIONS";
inline constexpr std::uint8_t by_post = methods_of({Method::post});
inline constexpr std::string_view allow_post = "POST, OPTIONS";

struct Route {
  using Handler = Handled (*)(HandlerShare&, const Call&, Answer&);

  std::string_view path;       ///< below the prefix; a page id follows where it names a page
  std::string_view suffix{};   ///< what follows the page id; empty: nothing
  bool names_page = false;     ///< all that follows in the path, but the suffix, is the page id
  bool is_image = false;       ///< asked for by images of pages: what it refuses is drawn
  bool hot = false;            ///< answered straight from the vetted head, unless settings say otherwise
  bool takes_body = false;     ///< of a POST or PUT; all other bodies are thrown away
  bool for_operators = false;  ///< served at the private addresses alone where there are any
  bool streams = false;        ///< its answer comes in pieces, and ends with the connection
  bool for_owner = false;      ///< what it answers, and does, is the owner's: pages of no other site see or ask it
  std::uint8_t methods = by_get_or_head;       ///< those that the handler takes: methods_of()
  std::string_view allow = allow_get_or_head;  ///< the methods of its path, and OPTIONS, as the Allow field lists them
  std::string_view allow_elsewhere{};          ///< those that pages of every site may use; empty: all of them
  Handler handler = nullptr;

  /// The page id that a path names, as it stands there; empty where the route names none. nullopt: the path is another
  /// route's.
  [[nodiscard]] std::optional<std::string_view> page_in(std::string_view whole) const noexcept {
    if (!whole.starts_with(path)) return std::nullopt;
    std::string_view rest = whole.substr(path.size());
    if (!names_page) return rest.empty() ? std::optional(rest) : std::nullopt;
    if (!suffix.empty()) {
      if (!rest.ends_with(suffix)) return std::nullopt;
      rest.remove_suffix(suffix.size());
    }
    return rest;
  }
  [[nodiscard]] bool allows(Method method) const noexcept {
    return (methods >> static_cast<unsigned>(method) & 1U) != 0;
  }
};

/// One request on its way to its answer.
struct Call {
  const RequestHead* head = nullptr;
  std::string_view body;                  ///< where the route takes one
  const Route* route = nullptr;           ///< nullptr: there is no such path
  std::string_view encoded_page;          ///< the page id as it stands in the path
  PendingRead* read = nullptr;            ///< kept while the request is parked
  std::uint64_t now_ms = 0;               ///< monotonic
  const ClientAddress* client = nullptr;  ///< the other end of its connection
  Entrance entrance = Entrance::public_address;

  /// Whether a handler takes it: neither 404 nor 405, nor OPTIONS.
  [[nodiscard]] bool is_routed() const noexcept { return route != nullptr && route->allows(head->method); }
  /// Whether its answer costs so little that nobody is made to wait by it.
  [[nodiscard]] bool is_cheap() const noexcept { return is_routed() && route->hot && route->names_page; }
  [[nodiscard]] bool takes_body() const noexcept {
    return is_routed() && route->takes_body && (head->method == Method::post || head->method == Method::put);
  }
};

}  // namespace visitd
