// One table: which path and method leads to what. Knows no socket, and no clock but the time it is told.
#pragma once

#include <exception>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/config/settings.hpp"
#include "frontend/api/answers.hpp"
#include "frontend/api/backend.hpp"
#include "frontend/api/call.hpp"
#include "frontend/api/handler_share.hpp"
#include "frontend/http/refusals.hpp"

namespace visitd {

class Routes {
 public:
  /// The settings are copied.
  Routes(const Settings& settings, const Backend& backend);

  /// Takes what may change while it runs.
  void take_settings(const Settings& settings);

  /// From now on what is for operators is found at the private addresses alone.
  void keep_private() noexcept { has_private_address_ = true; }

  [[nodiscard]] static std::span<const Route> table() noexcept;

  /// Notes the route of the call's head, and where the page id lies.
  void find(Call& call) const noexcept;

  /// Makes the answer, whatever find() has found. parked, paused: `answer` holds nothing; call again later, with the
  /// same read state, and of a list without its body.
  [[nodiscard]] Handled handle(const Call& call, Answer& answer);

  /// The answer was turned into bytes: gives back the memory of a long one.
  void release_document() noexcept { share_.release_document(); }

  /// Makes the answer to bytes that are no request, of which `head` holds what was read.
  void refuse_request(Refusal refusal, const RequestHead& head, Answer& answer) noexcept;

  /// Makes the answer to a request whose handler threw, and logs why under an id that the client sees.
  void fail(const Call& call, const std::exception_ptr& exception, Answer& answer) noexcept;

  /// Those of the settings in use, always the same object.
  [[nodiscard]] const TrustedProxies& proxies() const noexcept { return share_.proxies; }

  [[nodiscard]] const RefusalCounts& refusals() const noexcept { return refusals_; }
  /// Counts an answer that refuses, wherever it was made.
  void note(Refusal refusal) noexcept { ++refusals_[static_cast<std::size_t>(refusal)]; }

 private:
  bool find_in(std::span<const Route> table, std::string_view path, Call& call) const noexcept;
  /// In the table, and among the paths of the settings.
  bool find_own(std::string_view path, Call& call) const noexcept;
  bool find_shape(std::string_view path, Call& call) const noexcept;
  void take_paths(const HttpSettings& http);
  void take_shapes(const std::vector<std::string>& shapes);

  /// A path of the settings that leads where a row of the table does.
  struct OtherPath {
    std::string path;
    const Route* route;
  };

  HandlerShare share_;
  std::vector<OtherPath> other_paths_;
  std::vector<std::span<const Route>> shapes_;  ///< of other counters, that the settings name
  bool has_private_address_ = false;
  std::string prefix_;
  RefusalCounts refusals_{};
  std::mt19937_64 ids_{std::random_device{}()};
};

}  // namespace visitd
