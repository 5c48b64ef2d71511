// A lane: a lock-free ring of records with one producer. Positions are bytes that only grow; modulo capacity they are
// offsets.
//
//   head ≤ applied ≤ tail ≤ head + capacity
//
// The producer owns tail. head says up to where the consumer has made records durable, so that their space is free
// again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "common/os/invariant.hpp"
#include "common/shm/ring_layout.hpp"
#include "common/shm/shared_word.hpp"

namespace visitd {

/// A record's parts, copied out of shared memory.
struct Record {
  RecordKind kind = RecordKind::none;
  std::uint16_t page_length = 0;
  std::uint32_t size = 0;  ///< bytes
  std::uint32_t visits = 0;
  std::uint32_t time = 0;
  std::uint64_t page_hash = 0;
};

enum class Published { published, full };

/// The writing end. One thread of one process, the owner of the lane's lock.
class LaneProducer {
 public:
  /// `tail`, `records`: of the ring. `head`: of the cache, or nullptr while there is none (then head is what `freed`
  /// says). `freed`: of the lane's header, where the producer notes which head it has seen; nullptr: nowhere.
  LaneProducer(Word& tail, std::span<Word> records, const Word* head, Word* freed = nullptr) noexcept
      : tail_word_(&tail),
        freed_word_(freed),
        records_(records.data()),
        capacity_(records.size_bytes()),
        tail_(tail.load(std::memory_order_acquire)) {
    // What the owner before had seen freed stays free, also while there is no cache.
    if (freed_word_ != nullptr) head_ = known_freed(freed_word_->load(std::memory_order_acquire), tail_, capacity_);
    attach_head(head);
  }

  /// What a lane's `freed` says, as far as it can be true beside the lane's tail; 0: nothing.
  [[nodiscard]] static constexpr std::uint64_t known_freed(std::uint64_t freed, std::uint64_t tail,
                                                           std::uint64_t capacity) noexcept {
    return freed <= tail && tail - freed <= capacity && freed % 8 == 0 ? freed : 0;
  }

  /// Another cache serves this ring from now on. A head never goes back, whichever cache says it.
  void attach_head(const Word* head) noexcept {
    head_word_ = head;
    look_at_head();
  }

  /// Writes a record and publishes it with one store of tail: it is there whole or not at all, whenever the process
  /// dies. `full`: the consumer has not freed enough space; nothing was written.
  [[nodiscard]] Published publish(RecordKind kind, std::string_view page, std::uint32_t visits, std::uint32_t time,
                                  std::uint64_t page_hash) noexcept {
    const std::uint64_t size = record_bytes(page.size());
    std::uint64_t position = tail_;
    const std::uint64_t to_end = capacity_ - offset(position);
    const std::uint64_t pad = to_end < size ? to_end : 0;
    if (position + pad + size > head_ + capacity_) {
      look_at_head();
      if (position + pad + size > head_ + capacity_) return Published::full;
    }
    // Release: a reader that finds these bytes in place of older ones must also find the head that freed them.
    Word* word = records_ + offset(position) / 8;
    if (pad != 0) {
      word[0].store(first_word(pad, RecordKind::pad, 0), std::memory_order_release);
      position += pad;
      word = records_;
    }
    word[0].store(first_word(size, kind, page.size()), std::memory_order_release);
    word[1].store(visits | std::uint64_t{time} << 32U, std::memory_order_release);
    word[2].store(page_hash, std::memory_order_release);
    const std::size_t page_words = words_for(page.size());
    for (std::size_t i = 0; i < page_words; ++i) {
      word[record_head_words + i].store(text_word(page, i), std::memory_order_release);
    }
    tail_ = position + size;
    must_hold(head_ <= tail_ && tail_ - head_ <= capacity_, "head <= tail <= head + capacity");
    tail_word_->store(tail_, std::memory_order_release);  // partner: the consumer's and the readers' load of tail
    return Published::published;
  }

  /// Whether records of `bytes` in all, none of them longer than `longest`, can be published now without one that finds
  /// the lane full: the lane's end may lie between them, and then a pad goes before one of them.
  [[nodiscard]] bool has_room(std::uint64_t bytes, std::uint64_t longest) noexcept {
    const std::uint64_t needed = bytes + longest;
    if (tail_ + needed > head_ + capacity_) look_at_head();
    return tail_ + needed <= head_ + capacity_;
  }

  /// To be called before a look at whether the consumer sleeps: that look finds it asleep, or its own last look at tail
  /// finds everything published. Once after many a publish will do.
  void confirm() noexcept {
    // Sequentially consistent, as are the look that follows and the consumer's store of its flag and load of tail: with
    // less, each side may miss what the other has just stored.
    tail_word_->store(tail_, std::memory_order_seq_cst);
  }

  /// Bytes published.
  [[nodiscard]] std::uint64_t tail() const noexcept { return tail_; }
  /// As last seen.
  [[nodiscard]] std::uint64_t head() const noexcept { return head_; }
  [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }
  /// Takes a newer head from the cache, if there is one, and notes it as freed.
  void look_at_head() noexcept {
    if (head_word_ == nullptr) return;
    // Acquire, with the flusher's release: it has finished reading what we write over.
    const std::uint64_t head = head_word_->load(std::memory_order_acquire);
    if (head <= head_ || head > tail_) return;
    head_ = head;
    // Before anything is written over: a flusher that has lost spool and cache, and starts where this says, finds whole
    // records from there on. Release, with its load before those of the records.
    if (freed_word_ != nullptr) freed_word_->store(head, std::memory_order_release);
  }

  static constexpr std::uint64_t first_word(std::uint64_t size, RecordKind kind, std::uint64_t page_length) noexcept {
    return size | std::uint64_t{static_cast<std::uint8_t>(kind)} << 32U | page_length << 48U;
  }

 private:
  [[nodiscard]] std::uint64_t offset(std::uint64_t position) const noexcept { return position & (capacity_ - 1); }

  Word* tail_word_;
  Word* freed_word_;
  Word* records_;
  const Word* head_word_ = nullptr;
  std::uint64_t capacity_;  ///< bytes, a power of two
  std::uint64_t tail_;
  std::uint64_t head_ = 0;
};

enum class RecordCheck { whole, damaged };

/// The reading end's view of a lane: trusts no record, copies each once and checks size and bounds on the copy.
class LaneRecords {
 public:
  explicit LaneRecords(std::span<const Word> records) noexcept
      : words_(records.data()), capacity_(records.size_bytes()) {}

  /// The record at `position`, which is below `tail`. `whole`: `record` is filled, and lies below tail.
  [[nodiscard]] RecordCheck read(std::uint64_t position, std::uint64_t tail, Record& record) const noexcept {
    const Word* word = words_ + offset(position) / 8;
    const std::uint64_t first = word[0].load(std::memory_order_acquire);
    record.size = static_cast<std::uint32_t>(first);
    record.kind = static_cast<RecordKind>(static_cast<std::uint8_t>(first >> 32U));
    record.page_length = static_cast<std::uint16_t>(first >> 48U);
    const std::uint64_t room = capacity_ - offset(position);
    const bool fits = record.size >= 8 && record.size % 8 == 0 && record.size <= room && record.size <= tail - position;
    if (record.kind == RecordKind::pad) return fits ? RecordCheck::whole : RecordCheck::damaged;
    if (!fits || (record.kind != RecordKind::visit && record.kind != RecordKind::request) || record.page_length == 0 ||
        record.page_length > max_page_id_bytes || record.size != record_bytes(record.page_length)) {
      return RecordCheck::damaged;
    }
    const std::uint64_t second = word[1].load(std::memory_order_acquire);
    record.visits = static_cast<std::uint32_t>(second);
    record.time = static_cast<std::uint32_t>(second >> 32U);
    record.page_hash = word[2].load(std::memory_order_acquire);
    return RecordCheck::whole;
  }

  /// Copies the page of a record that `read` found whole. `buffer` has room for max_page_id_bytes; the view is into it.
  [[nodiscard]] std::string_view page(std::uint64_t position, const Record& record, char* buffer) const noexcept {
    const Word* word = words_ + offset(position) / 8 + record_head_words;
    for (std::size_t i = 0; i < words_for(record.page_length); ++i) {
      const std::uint64_t bytes = word[i].load(std::memory_order_acquire);
      std::memcpy(buffer + 8 * i, &bytes, 8);
    }
    return {buffer, record.page_length};
  }

  /// Whether the record at `position` is of this page.
  [[nodiscard]] bool is_page(std::uint64_t position, const Record& record, std::string_view page) const noexcept {
    if (record.page_length != page.size()) return false;
    const Word* word = words_ + offset(position) / 8 + record_head_words;
    for (std::size_t i = 0; i < words_for(page.size()); ++i) {
      if (word[i].load(std::memory_order_acquire) != text_word(page, i)) return false;
    }
    return true;
  }

  void prefetch(std::uint64_t position) const noexcept { __builtin_prefetch(words_ + offset(position) / 8); }

  [[nodiscard]] std::uint64_t capacity() const noexcept { return capacity_; }

 private:
  [[nodiscard]] std::uint64_t offset(std::uint64_t position) const noexcept { return position & (capacity_ - 1); }

  const Word* words_;
  std::uint64_t capacity_;
};

}  // namespace visitd
