// One table: which path and method leads to what. Knows no socket, and no clock but the time it is told.
#pragma once

#include <array>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <string_view>

#include "common/config/settings.hpp"
#include "frontend/api/answers.hpp"
#include "frontend/api/counter.hpp"
#include "frontend/api/host_status.hpp"
#include "frontend/api/limit_details.hpp"
#include "frontend/api/list_read.hpp"
#include "frontend/api/page_list.hpp"
#include "frontend/api/public_limits.hpp"
#include "frontend/http/client_address.hpp"
#include "frontend/http/request_reader.hpp"

namespace visitd {

class Routes;
struct Call;

/// parked: it waits for the flusher. paused: it goes on in the connection's next turn.
enum class Handled : std::uint8_t { answered, parked, paused };

struct Route {
  using Handler = Handled (Routes::*)(const Call&, Answer&);

  std::string_view path;       ///< below the prefix; a page id follows where it names a page
  bool names_page = false;     ///< all that follows in the path is the page id
  bool hot = false;            ///< answered straight from the vetted head, unless settings say otherwise
  bool takes_body = false;     ///< of a POST; all other bodies are thrown away
  bool for_operators = false;  ///< served at the private addresses alone where there are any
  std::uint8_t methods = 0;    ///< a bit for each Method that the handler takes
  std::string_view allow;      ///< the methods, and OPTIONS, as the Allow field lists them
  Handler handler = nullptr;

  [[nodiscard]] bool allows(Method method) const noexcept {
    return (methods >> static_cast<unsigned>(method) & 1U) != 0;
  }
};

/// One request on its way to its answer.
struct Call {
  const RequestHead* head = nullptr;
  std::string_view body;                      ///< where the route takes one
  const Route* route = nullptr;               ///< nullptr: there is no such path
  std::string_view encoded_page;              ///< the page id as it stands in the path
  CountRead* read = nullptr;                  ///< state of a read, kept while the request is parked
  std::unique_ptr<ListRead>* list = nullptr;  ///< the same of a read of many pages
  std::uint64_t now_ms = 0;                   ///< monotonic
  const ClientAddress* client = nullptr;      ///< the other end of its connection
  Entrance entrance = Entrance::public_address;

  /// Whether a handler takes it: neither 404 nor 405, nor OPTIONS.
  [[nodiscard]] bool is_routed() const noexcept { return route != nullptr && route->allows(head->method); }
  /// Whether its answer costs so little that nobody is made to wait by it.
  [[nodiscard]] bool is_cheap() const noexcept { return is_routed() && route->hot && route->names_page; }
  [[nodiscard]] bool takes_body() const noexcept {
    return is_routed() && route->takes_body && head->method == Method::post;
  }
};

class Routes {
 public:
  /// The settings are copied; counter and host outlive it.
  Routes(const Settings& settings, Counter& counter, const HostStatus& host);

  /// Takes what may change while it runs.
  void use(const Settings& settings);

  /// From now on what is for operators is found at the private addresses alone.
  void keep_private() noexcept { has_private_address_ = true; }

  [[nodiscard]] static std::span<const Route> table() noexcept;

  /// Notes the route of the call's head, and where the page id lies.
  void find(Call& call) const noexcept;

  /// Makes the answer, whatever find() has found. parked, paused: `answer` holds nothing; call again later, with the
  /// same read state, and of a list without its body.
  [[nodiscard]] Handled handle(const Call& call, Answer& answer);

  /// The answer was turned into bytes: gives back the memory of a long one.
  void release_document() noexcept;

  /// Makes the answer to bytes that are no request, of which `head` holds what was read.
  void refuse_request(Refusal refusal, const RequestHead& head, Answer& answer) noexcept;

  /// Makes the answer to a request whose handler threw, and logs why under an id that the client sees.
  void fail(const Call& call, const std::exception_ptr& exception, Answer& answer) noexcept;

  [[nodiscard]] const RefusalCounts& refusals() const noexcept { return refusals_; }
  /// Counts an answer that refuses, wherever it was made.
  void note(Refusal refusal) noexcept { ++refusals_[static_cast<std::size_t>(refusal)]; }

 private:
  Handled health(const Call& call, Answer& answer);
  Handled alive(const Call& call, Answer& answer);
  Handled ready(const Call& call, Answer& answer);
  Handled metrics(const Call& call, Answer& answer);
  Handled openapi(const Call& call, Answer& answer);
  Handled docs(const Call& call, Answer& answer);
  Handled visit(const Call& call, Answer& answer);
  Handled visits(const Call& call, Answer& answer);
  Handled many(const Call& call, Answer& answer);
  Handled query(const Call& call, Answer& answer);

  Handled record_all(const Call& call, Answer& answer);
  Handled read_all(const Call& call, Answer& answer);
  Handled go_on(ListRead& reading, const Call& call, Answer& answer);

  Handled read_one(const Call& call, std::string_view encoded, Answer& answer);

  /// An empty text that lives until the next answer.
  [[nodiscard]] std::string& start_document();
  /// The page id in the path; empty: it breaks a rule, and `answer` says which.
  [[nodiscard]] std::string_view page_of(std::string_view encoded, Answer& answer);
  /// Lets `then` answer for the list that was read, unless there was a problem with it.
  Handled with_list(const std::optional<Problem>& problem, Route::Handler then, const Call& call, Answer& answer);
  void refuse_for_now(const Problem& problem, Answer& answer) const noexcept;
  bool find_below_prefix(std::string_view path, Call& call) const noexcept;

  static const std::array<Route, 10> table_;

  Counter& counter_;
  const HostStatus& host_;
  TrustedProxies proxies_;
  bool has_private_address_ = false;
  std::string prefix_;
  LimitDetails limits_;
  std::uint32_t page_id_limit_bytes_;
  std::uint32_t retry_after_s_;
  std::uint32_t list_timeout_ms_;
  PublicLimits public_limits_;
  std::string decoded_;   ///< room for a page id while its request is answered
  PageList list_;         ///< of the request that is being answered
  std::string document_;  ///< a long answer until it is bytes
  RefusalCounts refusals_{};
  std::mt19937_64 ids_{std::random_device{}()};
};

/// A way from a vetted request to the bytes of its answer.
class AnsweringWay {
 public:
  virtual ~AnsweringWay() = default;
  /// Appends one whole answer. parked, paused: nothing was appended; call again later.
  [[nodiscard]] virtual Handled answer(const Call& call, bool keep_alive, OutputBuffer& out) noexcept = 0;
};

/// Straight from the vetted head.
class DirectWay final : public AnsweringWay {
 public:
  DirectWay(Routes& routes, const AnswerFormat& format) noexcept : routes_(routes), format_(format) {}
  [[nodiscard]] Handled answer(const Call& call, bool keep_alive, OutputBuffer& out) noexcept override;

 private:
  Routes& routes_;
  const AnswerFormat& format_;
  Answer answer_;
};

}  // namespace visitd
