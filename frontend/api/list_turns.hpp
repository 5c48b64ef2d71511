// Which lists of pages may ask the flusher now: those that came first, as many as keep it busy. With more, all of them
// get on a little and none comes to its end. Knows no list and no clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>

namespace visitd {

class ListTurns {
 public:
  /// What one list holds; it ends with the list. Default: a list that has not asked for a turn.
  class Turn {
   public:
    Turn() noexcept = default;
    Turn(Turn&& from) noexcept
        : turns_(std::exchange(from.turns_, nullptr)), number_(from.number_), pages_(from.pages_) {}
    /// `from` ends what this held.
    Turn& operator=(Turn from) noexcept {
      std::swap(turns_, from.turns_);
      std::swap(number_, from.number_);
      std::swap(pages_, from.pages_);
      return *this;
    }
    Turn(const Turn&) = delete;
    ~Turn() {
      if (turns_ != nullptr) turns_->leave(number_, pages_);
    }

    /// 0: it has not asked for a turn.
    [[nodiscard]] std::uint64_t number() const noexcept { return turns_ == nullptr ? 0 : number_; }
    /// It gets no further for now: a list that waits may have a turn beside it. It goes on whenever it can.
    void lend() noexcept;

   private:
    friend class ListTurns;
    Turn(ListTurns& turns, std::uint64_t number, std::size_t pages) noexcept
        : turns_(&turns), number_(number), pages_(pages) {}

    ListTurns* turns_ = nullptr;
    std::uint64_t number_ = 0;
    std::size_t pages_ = 0;  ///< that it keeps others from; 0: lent
  };

  /// `most_pages`: that lists whose turn has come ask for at a time, all together. One list always may.
  explicit ListTurns(std::size_t most_pages) noexcept : most_pages_(most_pages) {}

  /// `pages`: that the list asks for at a time, at least 1.
  [[nodiscard]] Turn wait(std::size_t pages);
  /// Whether the turn of this number has come.
  [[nodiscard]] bool has_come(std::uint64_t number) const noexcept { return number != 0 && number <= last_; }

 private:
  void leave(std::uint64_t number, std::size_t pages) noexcept;
  void free(std::size_t pages) noexcept;
  void go_on() noexcept;

  std::size_t most_pages_;
  std::size_t pages_ = 0;      ///< of those whose turn has come
  std::uint64_t last_ = 0;     ///< the last number whose turn has come
  std::uint64_t numbers_ = 0;  ///< given so far
  std::map<std::uint64_t, std::size_t> waiting_;
};

}  // namespace visitd
