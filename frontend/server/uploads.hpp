// Requests whose body is being received, or whose list waits for its counts: how much memory they hold, and who makes
// room where it is too much. Knows no socket, and no clock but the time it is told.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "frontend/http/request_head.hpp"
#include "frontend/server/address_limits.hpp"
#include "frontend/server/deadlines.hpp"

namespace visitd {

class Uploads;

/// Who sends a body.
class Uploader {
 public:
  virtual ~Uploader() = default;
  /// Its upload was given up to make room for others, and holds nothing any more. Called while another's bytes are
  /// being read: it answers in a turn of its own.
  virtual void upload_lost() noexcept = 0;
};

/// One request's head and what has come of its body, until it is answered.
class Upload {
 public:
  /// `address`: nullptr: of a proxy, which sends for many. All outlive it.
  /// `head`: in `bytes`; both are copied.
  Upload(Uploads& all, Uploader& uploader, AddressShare* address, const RequestHead& head, std::string_view bytes);
  Upload(const Upload&) = delete;
  Upload& operator=(const Upload&) = delete;
  ~Upload();

  [[nodiscard]] const RequestHead& head() const noexcept { return head_; }
  [[nodiscard]] std::string& body() noexcept { return body_; }
  /// Given up to make room for others.
  [[nodiscard]] bool is_lost() const noexcept { return lost_; }

  /// What has come of the body is counted. (What is allocated beyond, nothing was written to: it takes no memory.)
  /// False: there is no room for it, and nobody who would have to make room.
  [[nodiscard]] bool has_room(std::uint64_t now_ms);
  /// The same of a body that has come whole and waits for its turn, and not for its client.
  [[nodiscard]] bool has_room_whole(std::uint64_t now_ms);
  /// The body is of no more use: what its list holds counts in its place.
  void keep_list_alone(std::size_t list_bytes);
  /// The address has another share from now on, because settings changed.
  void move_to(AddressShare* address);

 private:
  friend class Uploads;
  /// Its place in a list.
  struct Place : DeadlineMember {
    Upload* upload = nullptr;
  };

  void count(std::size_t bytes);
  [[nodiscard]] bool make_room(std::uint64_t now_ms);
  void lose();

  Uploads& all_;
  Uploader& uploader_;
  AddressShare* address_;
  std::string head_bytes_;
  RequestHead head_;  ///< in head_bytes_
  std::string body_;
  std::size_t counted_ = 0;
  std::size_t at_progress_ = 0;  ///< bytes of the body when it last made progress
  Place by_progress_;            ///< among all that wait for bytes
  Place in_address_;
  bool lost_ = false;
};

class Uploads {
 public:
  explicit Uploads(std::uint64_t limit_bytes) noexcept : limit_bytes_(limit_bytes) {}
  Uploads(const Uploads&) = delete;
  Uploads& operator=(const Uploads&) = delete;

  void set_limit(std::uint64_t limit_bytes) noexcept { limit_bytes_ = limit_bytes; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

  /// A body of up to so many bytes is taken although there is no room for others, as long as all are at most an eighth
  /// above the limit.
  static constexpr std::size_t small_bytes = 16384;
  /// Whoever sent less than `progress_bytes` in that time makes room for another.
  static constexpr std::uint64_t stalled_after_ms = 2000;
  static constexpr std::size_t progress_bytes = 1024;

 private:
  friend class Upload;
  void change(AddressShare* address, std::uint64_t from, std::uint64_t to);
  /// False: nobody has to make room for it.
  bool make_room_for(const Upload& upload, std::uint64_t now_ms);
  [[nodiscard]] Upload* stalled(std::uint64_t now_ms) const noexcept;
  [[nodiscard]] Upload* of_the_largest_above(std::uint64_t bytes) const noexcept;

  std::uint64_t limit_bytes_;
  std::uint64_t bytes_ = 0;
  DeadlineList by_progress_{stalled_after_ms};
  std::set<std::pair<std::uint64_t, AddressShare*>> addresses_;  ///< that hold any, by how much they do
};

}  // namespace visitd
