#include "frontend/api/admission.hpp"

#include <optional>
#include <unordered_set>

#include "frontend/api/public_limits.hpp"

namespace visitd {

namespace {

bool is_from_outside(const Call& call) noexcept {
  return is_strangers(*call.head, *call.client, call.entrance);
}

ClientAddress sender_of(const HandlerShare& share, const Call& call) {
  return share.proxies.client_behind(*call.client, call.head->fields, call.entrance);
}

/// Who is limited as one client; nullopt: a process of this host, or a proxy that says not for whom it speaks.
ClientAddress limited_client(const HandlerShare& share, const Call& call) {
  const ClientAddress sender = sender_of(share, call);
  return share.proxies.include(sender) ? std::nullopt : sender;
}

Admission refuse(const Problem& problem, Answer& answer) noexcept {
  answer.refuse(problem);
  return Admission::refused;
}

Admission refuse_for(const Problem& problem, std::uint32_t wait_s, Answer& answer) noexcept {
  answer.retry_after_s = wait_s;
  return refuse(problem, answer);
}

bool is_ignored(const HandlerShare& share, const Call& call) {
  return share.visit_rules.any() && share.visit_rules.ignores(*call.head, sender_of(share, call));
}

/// counted: the client has visits left.
Admission admit_rate(HandlerShare& share, const Call& call, const ClientAddress& client, Answer& answer) {
  if (!client) return Admission::counted;
  const auto exceeded = share.address_rates.problem_with(*client, call.now_ms);
  if (!exceeded) return Admission::counted;
  share.address_rates.show(*client, call.now_ms, answer);
  return refuse_for(exceeded->problem, exceeded->wait_s, answer);
}

void note_visits(HandlerShare& share, const Call& call, const ClientAddress& client, std::uint64_t visits,
                 Answer& answer) noexcept {
  if (!client) return;
  share.address_rates.take(*client, visits, call.now_ms);
  share.address_rates.show(*client, call.now_ms, answer);
}

/// Whether nobody has counted a page; nullopt: it is not known yet. One of which nobody can say it now is not new.
std::optional<bool> is_new(HandlerShare& share, const Call& call, std::string_view page) {
  CountSource& counts = share.backend.counts;
  CountRead& state = call.read->page;
  bool found = !counts.is_known(page, call.now_ms);
  if (found) {
    const CountAnswer count = counts.read(page, state, call.now_ms);
    if (count.kind == CountAnswer::Kind::parked) return std::nullopt;
    found = count.has_count() && count.count == 0;
  }
  // What asks for the visit's count reads on its own.
  if (state.deadline_ms != 0) state = {};
  return found;
}

}  // namespace

Admission admit_visit(HandlerShare& share, const Call& call, std::string_view page, Answer& answer) {
  const bool from_outside = is_from_outside(call);
  if (from_outside && share.visit_rules.any()) {
    auto problem = share.visit_rules.problem_with_origin(*call.head);
    if (!problem) problem = share.visit_rules.problem_with_page(page);
    if (problem) return refuse(*problem, answer);
  }
  if (is_ignored(share, call)) return Admission::ignored;
  if (!from_outside) return Admission::counted;
  const ClientAddress client = share.address_rates.any() ? limited_client(share, call) : std::nullopt;
  if (admit_rate(share, call, client, answer) == Admission::refused) return Admission::refused;
  if (share.new_pages.any()) {
    const std::optional<bool> new_page = is_new(share, call, page);
    if (!new_page) return Admission::parked;
    if (*new_page && share.new_pages.left(call.now_ms) == 0) {
      return refuse_for(share.new_pages.problem(page, nullptr), share.new_pages.wait_s(call.now_ms), answer);
    }
    if (*new_page) share.new_pages.take(1, call.now_ms);
  }
  note_visits(share, call, client, 1, answer);
  return Admission::counted;
}

Admission admit_list(HandlerShare& share, const Call& call, Answer& answer) {
  const bool from_outside = is_from_outside(call);
  if (from_outside) {
    if (const auto problem = share.public_limits.problem_with(share.list)) return refuse(*problem, answer);
    if (share.visit_rules.any()) {
      if (const auto problem = share.visit_rules.problem_with_origin(*call.head)) return refuse(*problem, answer);
      if (const auto problem = share.visit_rules.problem_with_pages(share.list)) return refuse(*problem, answer);
    }
  }
  if (is_ignored(share, call)) return Admission::ignored;
  if (!from_outside || !share.address_rates.any()) return Admission::counted;
  return admit_rate(share, call, limited_client(share, call), answer);
}

bool awaits_new_pages(const HandlerShare& share, const Call& call) noexcept {
  return share.new_pages.any() && is_from_outside(call);
}

Admission admit_new_pages(HandlerShare& share, const Call& call, const ListRead& reading, Answer& answer) {
  std::unordered_set<std::string_view> new_pages;
  const std::uint64_t left = share.new_pages.left(call.now_ms);
  for (std::size_t entry = 0; entry < reading.counts().size(); ++entry) {
    if (reading.counts().of(entry) != 0) continue;
    new_pages.insert(reading.pages().page(entry));
    if (new_pages.size() <= left) continue;
    return refuse_for(share.new_pages.problem(reading.pages().asked(entry), &entry),
                      share.new_pages.wait_s(call.now_ms), answer);
  }
  share.new_pages.take(new_pages.size(), call.now_ms);
  return Admission::counted;
}

void note_list(HandlerShare& share, const Call& call, const PageList& list, Answer& answer) {
  if (!share.address_rates.any() || !is_from_outside(call)) return;
  std::uint64_t visits = 0;
  for (std::size_t entry = 0; entry < list.size(); ++entry) visits += list.visits(entry);
  note_visits(share, call, limited_client(share, call), visits, answer);
}

void show_rate(HandlerShare& share, const Call& call, Answer& answer) {
  if (!share.address_rates.any() || !is_from_outside(call)) return;
  if (const ClientAddress client = limited_client(share, call)) {
    share.address_rates.show(*client, call.now_ms, answer);
  }
}

}  // namespace visitd
