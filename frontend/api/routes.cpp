#include "frontend/api/routes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <random>

#include "common/os/log.hpp"
#include "common/shm/page_id.hpp"
#include "frontend/api/documents.hpp"
#include "frontend/http/target.hpp"

namespace visitd {

namespace {

constexpr std::uint8_t bit(Method method) noexcept {
  return static_cast<std::uint8_t>(1U << static_cast<unsigned>(method));
}

constexpr std::uint8_t reads = bit(Method::get) | bit(Method::head);
constexpr std::string_view read_methods = "GET, HEAD, OPTIONS";
constexpr std::string_view all_methods = "GET, HEAD, POST, OPTIONS";

/// What Cache-Status calls this cache.
constexpr std::string_view cache_name = "visitd";

/// Whether RFC 8941 lets this stand without quotes.
bool is_bare_token(std::string_view text) noexcept {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  const auto is_inner = [&](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') ||
           std::string_view("!#$%&'*+-.^_`|~:/").find(c) != std::string_view::npos;
  };
  return !text.empty() && is_letter(text.front()) && std::all_of(text.begin(), text.end(), is_inner);
}

/// Beyond, the memory of a long answer is given back.
constexpr std::size_t usual_document_bytes = 65536;

void note_cache_status(const CountAnswer& count, Answer& answer) noexcept {
  answer.cache_status.append(cache_name);
  if (count.kind == CountAnswer::Kind::fresh && count.served_via != "in-memory") {
    const bool bare = is_bare_token(count.served_via);
    answer.cache_status.append(bare ? "; fwd=miss; detail=" : "; fwd=miss; detail=\"");
    answer.cache_status.append(count.served_via);
    if (!bare) answer.cache_status.append("\"");
  } else {
    answer.cache_status.append("; hit; ttl=");
    answer.cache_status.append(count.ttl_s);
  }
}

void set_json(Answer& answer) noexcept {
  answer.content_type = ContentType::json;
}

Refusal refusal_of(Recorded recorded) noexcept {
  return recorded == Recorded::full ? Refusal::lane_full : Refusal::restarting;
}

/// Where no handler takes the request.
void answer_unrouted(const Call& call, Answer& answer) noexcept {
  const RequestHead& head = *call.head;
  if (head.method == Method::options) {
    const bool everywhere = call.route == nullptr;
    answer.preflight = head.asks_cross_origin && !head.origin.empty();
    if (!everywhere || answer.preflight || head.path == "*") {
      answer.status = 204;
      answer.allow = everywhere ? all_methods : call.route->allow;
      return;
    }
  }
  if (call.route == nullptr) {
    answer.refuse({.refusal = Refusal::no_such_path});
    return;
  }
  answer.refuse({.refusal = Refusal::method_not_allowed});
  answer.allow = call.route->allow;
}

}  // namespace

const std::array<Route, 10> Routes::table_{{
    {.path = "/visit/",
     .names_page = true,
     .hot = true,
     .methods = bit(Method::post),
     .allow = "POST, OPTIONS",
     .handler = &Routes::visit},
    {.path = "/visits/query",
     .hot = true,
     .takes_body = true,
     .methods = reads | bit(Method::post),
     .allow = all_methods,
     .handler = &Routes::query},
    {.path = "/visits/",
     .names_page = true,
     .hot = true,
     .methods = reads,
     .allow = read_methods,
     .handler = &Routes::visits},
    {.path = "/visits",
     .hot = true,
     .takes_body = true,
     .methods = reads | bit(Method::post),
     .allow = all_methods,
     .handler = &Routes::many},
    {.path = "/", .methods = reads, .allow = read_methods, .handler = &Routes::health},
    {.path = "/livez", .for_operators = true, .methods = reads, .allow = read_methods, .handler = &Routes::alive},
    {.path = "/readyz", .for_operators = true, .methods = reads, .allow = read_methods, .handler = &Routes::ready},
    {.path = "/metrics", .for_operators = true, .methods = reads, .allow = read_methods, .handler = &Routes::metrics},
    {.path = "/openapi.json", .methods = reads, .allow = read_methods, .handler = &Routes::openapi},
    {.path = "/docs", .methods = reads, .allow = read_methods, .handler = &Routes::docs},
}};

std::span<const Route> Routes::table() noexcept {
  return table_;
}

Routes::Routes(const Settings& settings, Counter& counter, const HostStatus& host)
    : counter_(counter),
      host_(host),
      proxies_(settings.http.trusted_proxies),
      prefix_(settings.http.api_prefix),
      limits_(settings),
      page_id_limit_bytes_(settings.pages.page_id_limit_bytes),
      retry_after_s_(settings.http.retry_after_s),
      list_timeout_ms_(settings.http.list_timeout_ms),
      public_limits_(settings),
      decoded_(settings.http.target_limit_bytes, '\0'),
      list_(settings.pages.page_id_limit_bytes, settings.http.batch_read_limit) {}

void Routes::use(const Settings& settings) {
  proxies_ = TrustedProxies(settings.http.trusted_proxies);
  limits_.use(settings);
  retry_after_s_ = settings.http.retry_after_s;
  list_timeout_ms_ = settings.http.list_timeout_ms;
  public_limits_ = PublicLimits(settings);
  list_.set_read_limit(settings.http.batch_read_limit);
}

bool Routes::find_below_prefix(std::string_view path, Call& call) const noexcept {
  for (const Route& route : table_) {
    if (!path.starts_with(route.path)) continue;
    const std::string_view rest = path.substr(route.path.size());
    if (!route.names_page && !rest.empty()) continue;
    if (has_private_address_ && route.for_operators && call.entrance != Entrance::private_address) continue;
    call.route = &route;
    call.encoded_page = rest;
    return true;
  }
  return false;
}

void Routes::find(Call& call) const noexcept {
  const std::string_view path = call.head->path;
  call.route = nullptr;
  if (find_below_prefix(path, call) || prefix_.empty() || !path.starts_with(prefix_)) return;
  const std::string_view rest = path.substr(prefix_.size());
  find_below_prefix(rest.empty() ? "/" : rest, call);
}

Handled Routes::handle(const Call& call, Answer& answer) {
  answer.reset(*call.head);
  Handled handled = Handled::answered;
  if (call.is_routed()) {
    handled = (this->*call.route->handler)(call, answer);
  } else {
    answer_unrouted(call, answer);
  }
  note(answer.refusal);
  return handled;
}

void Routes::refuse_request(Refusal refusal, const RequestHead& head, Answer& answer) noexcept {
  answer.reset(head);
  const std::string detail = limits_.of(refusal, head);
  if (describe(refusal).status == 503) {
    refuse_for_now({.refusal = refusal, .detail = detail}, answer);
  } else {
    answer.refuse({.refusal = refusal, .detail = detail});
  }
  note(refusal);
}

void Routes::fail(const Call& call, const std::exception_ptr& exception, Answer& answer) noexcept {
  std::string what = "unknown exception";
  try {
    std::rethrow_exception(exception);
  } catch (const std::exception& error) {
    what = error.what();
  } catch (...) {  // NOLINT(bugprone-empty-catch)
  }
  const std::string id = fmt::format("{:016x}", std::uniform_int_distribution<std::uint64_t>()(ids_));
  log::error("request of {} failed, id {}: {}", proxies_.origin_of(*call.client, call.head->fields, call.entrance), id,
             what);
  answer.reset(*call.head);
  answer.refuse({.refusal = Refusal::internal_error,
                 .detail = fmt::format("the request failed; the server's log says why under id {}", id)});
  note(answer.refusal);
}

Handled Routes::health(const Call&, Answer& answer) {
  answer.no_store = true;
  set_json(answer);
  answer.body.append(R"({"status":"healthy"})");
  return Handled::answered;
}

Handled Routes::alive(const Call&, Answer& answer) {
  answer.no_store = true;
  set_json(answer);
  answer.body.append(R"({"status":"alive"})");
  return Handled::answered;
}

Handled Routes::ready(const Call& call, Answer& answer) {
  const std::vector<Check> checks = host_.checks();
  const auto failed = std::ranges::find(checks, Check::Result::failed, &Check::result);
  if (failed == checks.end()) {
    answer.no_store = true;
    set_json(answer);
    answer.body.append(R"({"status":"ready"})");
  } else {
    refuse_for_now({.refusal = Refusal::not_ready, .detail = failed->name + ": " + failed->detail}, answer);
  }
  const std::string_view query = call.head->query;
  if (query != "verbose" && !query.starts_with("verbose=")) return Handled::answered;
  std::string& document = start_document();
  document.append(answer.body.view());
  document.pop_back();  // the closing brace
  document.append(R"(,"checks":[)");
  for (const Check& check : checks) {
    if (&check != &checks.front()) document += ',';
    document.append(R"({"name":")");
    append_json(check.name, document);
    document.append(R"(","status":")");
    document.append(name_of(check.result));
    document.append(R"(","detail":")");
    append_json(check.detail, document);
    document.append(R"("})");
  }
  document.append("]}");
  answer.document = document;
  return Handled::answered;
}

Handled Routes::metrics(const Call& call, Answer& answer) {
  answer.no_store = true;
  answer.content_type = ContentType::metrics;
  // What HEAD asks for is not worth the making; its length is then not known.
  answer.length_unknown = call.head->method == Method::head;
  if (answer.length_unknown) return Handled::answered;
  host_.write_metrics(start_document());
  answer.document = document_;
  return Handled::answered;
}

Handled Routes::openapi(const Call&, Answer& answer) {
  set_json(answer);
  answer.document = openapi_document();
  return Handled::answered;
}

Handled Routes::docs(const Call&, Answer& answer) {
  answer.content_type = ContentType::html;
  answer.document = docs_page();
  return Handled::answered;
}

Handled Routes::visit(const Call& call, Answer& answer) {
  const std::string_view page = page_of(call.encoded_page, answer);
  if (page.empty()) return Handled::answered;
  if (const Recorded recorded = counter_.record(page, 1); recorded != Recorded::recorded) {
    const Refusal refusal = refusal_of(recorded);
    refuse_for_now({.refusal = refusal, .detail = limits_.of(refusal, *call.head)}, answer);
    return Handled::answered;
  }
  set_json(answer);
  answer.body.append(R"({"status":"success","message":"Visit recorded for page )");
  append_json(page, answer.body);
  answer.body.append(R"("})");
  return Handled::answered;
}

Handled Routes::visits(const Call& call, Answer& answer) {
  return read_one(call, call.encoded_page, answer);
}

Handled Routes::read_one(const Call& call, std::string_view encoded, Answer& answer) {
  const std::string_view page = page_of(encoded, answer);
  if (page.empty()) return Handled::answered;
  const CountAnswer count = counter_.read(page, *call.read, call.now_ms);
  if (count.kind == CountAnswer::Kind::parked) return Handled::parked;
  if (count.kind == CountAnswer::Kind::unknown) {
    refuse_for_now({.refusal = Refusal::count_unknown, .detail = count.why}, answer);
    return Handled::answered;
  }
  if (count.kind == CountAnswer::Kind::damaged) {
    refuse_for_now({.refusal = Refusal::count_damaged}, answer);
    return Handled::answered;
  }
  answer.no_store = true;
  set_json(answer);
  note_cache_status(count, answer);
  answer.body.append(R"({"count":)");
  answer.body.append(count.count);
  answer.body.append(R"(,"served_via":")");
  append_json(count.served_via, answer.body);
  answer.body.append(R"("})");
  return Handled::answered;
}

Handled Routes::many(const Call& call, Answer& answer) {
  if (*call.list != nullptr) return go_on(**call.list, call, answer);
  if (call.head->method != Method::post) {
    return with_list(list_.read_query(call.head->query), &Routes::read_all, call, answer);
  }
  return with_list(list_.read_json(call.body, PageList::Purpose::record), &Routes::record_all, call, answer);
}

Handled Routes::query(const Call& call, Answer& answer) {
  // Whoever reads a page that is called "query" does not post.
  if (call.head->method != Method::post) return read_one(call, "query", answer);
  if (*call.list != nullptr) return go_on(**call.list, call, answer);
  return with_list(list_.read_json(call.body, PageList::Purpose::read), &Routes::read_all, call, answer);
}

Handled Routes::with_list(const std::optional<Problem>& problem, Route::Handler then, const Call& call,
                          Answer& answer) {
  Handled handled = Handled::answered;
  if (problem) {
    answer.refuse(*problem);
  } else {
    handled = (this->*then)(call, answer);
  }
  list_.release();
  return handled;
}

Handled Routes::record_all(const Call& call, Answer& answer) {
  if (is_strangers(*call.head, *call.client, call.entrance)) {
    if (const auto problem = public_limits_.problem_with(list_)) {
      answer.refuse(*problem);
      return Handled::answered;
    }
  }
  std::uint64_t visits = 0;
  const std::size_t entries = list_.size();
  for (std::size_t entry = 0; entry < entries; ++entry) {
    const Recorded recorded = counter_.record(list_.page(entry), list_.visits(entry));
    if (recorded != Recorded::recorded) {
      refuse_for_now({.refusal = refusal_of(recorded),
                      .detail = "the first entries, as many as `recorded` says, were counted; the others were not",
                      .member = "recorded",
                      .value = entry},
                     answer);
      return Handled::answered;
    }
    visits += list_.visits(entry);
  }
  set_json(answer);
  answer.body.append(R"({"status":"success","entries":)");
  answer.body.append(std::uint64_t{entries});
  answer.body.append(R"(,"visits":)");
  answer.body.append(visits);
  answer.body.append("}");
  return Handled::answered;
}

Handled Routes::read_all(const Call& call, Answer& answer) {
  ListRead reading(std::move(list_), call.now_ms, list_timeout_ms_);
  const Handled handled = go_on(reading, call, answer);
  if (handled == Handled::answered) {
    list_ = reading.take_pages();
  } else {
    *call.list = std::make_unique<ListRead>(std::move(reading));
  }
  return handled;
}

Handled Routes::go_on(ListRead& reading, const Call& call, Answer& answer) {
  switch (reading.go_on(counter_, call.now_ms)) {
    case ListRead::Progress::parked:
      return Handled::parked;
    case ListRead::Progress::paused:
      return Handled::paused;
    case ListRead::Progress::refused: {
      const bool damaged = reading.refusal().kind == CountAnswer::Kind::damaged;
      refuse_for_now({.refusal = damaged ? Refusal::count_damaged : Refusal::count_unknown,
                      .detail = reading.refusal().why,
                      .parameter = reading.page()},
                     answer);
      return Handled::answered;
    }
    case ListRead::Progress::known:
      break;
  }
  std::string& document = start_document();
  document.append(R"({"counts":{)");
  for (std::size_t entry = 0; entry < reading.pages().size(); ++entry) {
    document.append(entry == 0 ? "\"" : ",\"");
    append_json(reading.pages().page(entry), document);
    document.append("\":");
    const fmt::format_int number(reading.count(entry));
    document.append(number.data(), number.size());
  }
  document.append("}}");
  answer.no_store = true;
  set_json(answer);
  note_cache_status(reading.least(), answer);
  answer.document = document;
  return Handled::answered;
}

std::string& Routes::start_document() {
  document_.clear();
  return document_;
}

void Routes::release_document() noexcept {
  if (document_.capacity() > usual_document_bytes) document_ = std::string();
}

std::string_view Routes::page_of(std::string_view encoded, Answer& answer) {
  const auto page = decode_path(encoded, decoded_);
  if (!page) {
    answer.refuse({.refusal = Refusal::invalid_percent_encoding, .parameter = "page_id"});
    return {};
  }
  if (const PageIdFault fault = check_page_id(*page, page_id_limit_bytes_); fault != PageIdFault::none) {
    answer.refuse({.refusal = Refusal::invalid_page_id, .detail = describe(fault, *page, page_id_limit_bytes_)});
    return {};
  }
  return *page;
}

void Routes::refuse_for_now(const Problem& problem, Answer& answer) const noexcept {
  answer.refuse(problem);
  answer.retry_after_s = retry_after_s_;
}

Handled DirectWay::answer(const Call& call, bool keep_alive, OutputBuffer& out) noexcept {
  Handled handled = Handled::answered;
  try {
    handled = routes_.handle(call, answer_);
  } catch (...) {
    routes_.fail(call, std::current_exception(), answer_);
  }
  if (handled == Handled::answered) format_.write(answer_, *call.head, keep_alive, out);
  return handled;
}

}  // namespace visitd
