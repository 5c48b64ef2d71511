// Questions of the owner that come through frontends: the flusher finds each in its lane's slot of the ring, says
// whether who asks may, has it answered as visitctl's are, and writes the answer into the lane's slot of the cache.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/config/settings.hpp"
#include "common/control/owner_question.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/ring.hpp"
#include "flusher/control.hpp"

namespace visitd {

class OwnerQuestions {
 public:
  /// `wake`: rings the bell of a lane whose answer stands. All of them outlive it, but for answers that come later:
  /// those are dropped.
  OwnerQuestions(const Ring& ring, const Cache& cache, ControlHandler& commands, const Settings& settings,
                 std::function<void(std::uint32_t lane)> wake);

  /// In each turn: takes the questions that have come since.
  void look(std::uint64_t now_ms);

 private:
  void take(std::uint32_t lane, std::uint64_t number, std::uint64_t now_ms);
  [[nodiscard]] OwnerAnswer::Verdict judge(const OwnerQuestion& question) const;
  void tell_refused(const OwnerQuestion& question, OwnerAnswer::Verdict verdict, std::uint64_t now_ms);
  void tell_untold(std::uint64_t now_ms);

  /// What answers write to, as long as there is somebody to answer.
  struct Answers {
    const Cache& cache;
    std::function<void(std::uint32_t lane)> wake;
    std::vector<std::uint64_t> taken;  ///< of each lane, the last question
    /// Writes nothing where another question was taken since: a frontend asks it only once it has forgotten this one.
    void write(std::uint32_t lane, std::uint64_t number, const OwnerAnswer& answer) const;
  };

  const Ring& ring_;
  ControlHandler& commands_;
  const Settings& settings_;
  std::shared_ptr<Answers> answers_;
  std::uint64_t next_told_ms_ = 0;  ///< no refusal is logged before
  std::uint64_t untold_ = 0;        ///< refusals that are not
};

}  // namespace visitd
