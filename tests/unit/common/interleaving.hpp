// Runs tasks by turns on one thread: any load or store of a shared word may be where the turn ends. Which task goes on
// is drawn from a seed, so that what went wrong once goes wrong again.
//
// Include it before anything that names a shared word: for this program, words announce every access.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "common/shm/shared_word.hpp"

// gcc says it with a macro, clang with a feature.
#if defined(__SANITIZE_ADDRESS__)
#define VISITD_ADDRESS_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define VISITD_ADDRESS_SANITIZED
#endif
#endif
#if defined(VISITD_ADDRESS_SANITIZED)
#include <sanitizer/common_interface_defs.h>
#endif

namespace visitd::test {

class Interleaving {
 public:
  Interleaving(std::uint64_t seed, std::uint64_t accesses_a_turn) : random_(seed), turn_(accesses_a_turn) {
    running_ = this;
  }
  ~Interleaving() { running_ = nullptr; }
  Interleaving(const Interleaving&) = delete;
  Interleaving& operator=(const Interleaving&) = delete;

  /// A task to be run. `forgetful`: its second, relaxed look at a word shows what the first one did.
  void add(std::function<void()> body, bool forgetful = false) {
    tasks_.push_back(std::make_unique<Task>());
    Task& task = *tasks_.back();
    task.body = std::move(body);
    task.forgetful = forgetful;
    task.stack.resize(stack_bytes);
    ucontext_t& context = task.place.context;
    getcontext(&context);
    context.uc_stack.ss_sp = task.stack.data();
    context.uc_stack.ss_size = task.stack.size();
    context.uc_link = nullptr;
    makecontext(&context, &Interleaving::enter, 0);
  }

  /// Until every task is done. What a task throws comes out of here.
  void run() {
    while (true) {
      std::vector<Task*> left;
      for (const auto& task : tasks_) {
        if (!task->done) left.push_back(task.get());
      }
      if (left.empty()) return;
      current_ = left[random_() % left.size()];
      resume(*current_);
      current_ = nullptr;
      if (failure_ != nullptr) std::rethrow_exception(failure_);
    }
  }

  /// Announces an access of a word.
  static void access() {
    if (running_ != nullptr && running_->current_ != nullptr && running_->random_() % running_->turn_ == 0) {
      running_->leave();
    }
  }
  /// Whether the running task shall not see that a word has changed.
  static std::map<const void*, std::uint64_t>* memory() {
    const bool forgetful = running_ != nullptr && running_->current_ != nullptr && running_->current_->forgetful;
    return forgetful ? &running_->current_->seen : nullptr;
  }

 private:
  static constexpr std::size_t stack_bytes = std::size_t{256} * 1024;

  /// Where something goes on that is not running.
  struct Place {
    ucontext_t context{};
    jmp_buf jump{};
    bool was_left = false;
  };
  struct Task {
    std::function<void()> body;
    std::vector<char> stack;
    Place place;
    bool done = false;
    bool forgetful = false;
    std::map<const void*, std::uint64_t> seen;
    void* shadow = nullptr;
  };

  static void enter() {
    Interleaving& all = *running_;
    all.arrived(nullptr);
    try {
      all.current_->body();
    } catch (...) {
      all.failure_ = std::current_exception();
    }
    all.current_->done = true;
    all.leave();
  }

  void resume(Task& task) {
#if defined(VISITD_ADDRESS_SANITIZED)
    void* shadow = nullptr;
    __sanitizer_start_switch_fiber(&shadow, task.stack.data(), task.stack.size());
#endif
    go(main_, task.place);
#if defined(VISITD_ADDRESS_SANITIZED)
    __sanitizer_finish_switch_fiber(shadow, nullptr, nullptr);
#endif
  }
  void leave() {
    Task& task = *current_;
#if defined(VISITD_ADDRESS_SANITIZED)
    __sanitizer_start_switch_fiber(task.done ? nullptr : &task.shadow, main_stack_, main_stack_bytes_);
#endif
    go(task.place, main_);
    arrived(task.shadow);
  }
  /// The sanitizer knows swapcontext. Its two system calls, which keep the signal mask, take half of the time.
  static void go(Place& from, Place& to) {
#if defined(VISITD_ADDRESS_SANITIZED)
    swapcontext(&from.context, &to.context);
#else
    from.was_left = true;
    if (_setjmp(from.jump) != 0) return;
    if (to.was_left) _longjmp(to.jump, 1);
    setcontext(&to.context);
#endif
  }
  void arrived([[maybe_unused]] void* shadow) {
#if defined(VISITD_ADDRESS_SANITIZED)
    __sanitizer_finish_switch_fiber(shadow, &main_stack_, &main_stack_bytes_);
#endif
  }

  static inline Interleaving* running_ = nullptr;

  std::mt19937_64 random_;
  std::uint64_t turn_;
  std::vector<std::unique_ptr<Task>> tasks_;
  Task* current_ = nullptr;
  Place main_;
  std::exception_ptr failure_;
  [[maybe_unused]] const void* main_stack_ = nullptr;
  [[maybe_unused]] std::size_t main_stack_bytes_ = 0;
};

/// A shared word whose every access may end its task's turn.
class AnnouncedWord {
 public:
  static constexpr bool is_always_lock_free = true;

  constexpr AnnouncedWord(std::uint64_t value = 0) noexcept : word_(value) {}

  std::uint64_t load(std::memory_order order = std::memory_order_seq_cst) const {
    Interleaving::access();
    const std::uint64_t value = word_.load(std::memory_order_relaxed);
    if (auto* seen = Interleaving::memory()) {
      if (order != std::memory_order_relaxed) return (*seen)[this] = value;
      return (*seen)[this];
    }
    return value;
  }
  void store(std::uint64_t value, std::memory_order = std::memory_order_seq_cst) {
    Interleaving::access();
    word_.store(value, std::memory_order_relaxed);
  }
  std::uint64_t exchange(std::uint64_t value) {
    Interleaving::access();
    return word_.exchange(value, std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint64_t> word_;
};
static_assert(sizeof(AnnouncedWord) == sizeof(Word));

struct alignas(cache_line_bytes) AnnouncedLonelyWord {
  AnnouncedWord word;
};

[[nodiscard]] inline std::uint64_t value_of(const AnnouncedWord& word) {
  return word.load(std::memory_order_acquire);
}

}  // namespace visitd::test

#define Word test::AnnouncedWord
#define LonelyWord test::AnnouncedLonelyWord
