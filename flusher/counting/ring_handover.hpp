// In which order a flusher leaves its ring for the next one: nobody can add to the ring any more, then all that is in
// it is durable, then the spool notes that it is finished. Knows no ring, lock or file: it is told what is so, and says
// what to do next.
#pragma once

#include <cstdint>

namespace visitd {

class RingHandover {
 public:
  enum class Step : std::uint8_t {
    stay,    ///< the ring is in use
    commit,  ///< make durable what is in the ring, without waiting for the commit interval
    finish,  ///< the same, and once all of it is durable the spool notes that the ring is finished
    end,     ///< the ring is drained: a next life of the flusher looks for the next one
  };

  /// What is seen of the ring now and then. `must_leave`: another one is in use, or this one was removed.
  /// `deserted`: nobody can add to it any more; without must_leave it does not matter. finish is said once.
  [[nodiscard]] Step look(bool must_leave, bool deserted) noexcept;
  /// After each commit. `finished`: the spool has noted that the ring is.
  [[nodiscard]] Step committed(bool finished) const noexcept;

 private:
  bool finishing_ = false;
};

}  // namespace visitd
