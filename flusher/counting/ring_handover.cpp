#include "flusher/counting/ring_handover.hpp"

namespace visitd {

RingHandover::Step RingHandover::look(bool must_leave, bool deserted) noexcept {
  if (finishing_) return Step::commit;
  if (!must_leave) return Step::stay;
  if (!deserted) return Step::commit;
  finishing_ = true;
  return Step::finish;
}

RingHandover::Step RingHandover::committed(bool finished) const noexcept {
  return finishing_ && finished ? Step::end : Step::stay;
}

}  // namespace visitd
