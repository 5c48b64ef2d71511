// A System V shared memory segment: made or attached by id, detached when it goes. shared_segment.cpp is the sole user
// of Boost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace visitd {

/// What the kernel says of a segment (ipcs(1) shows the same).
struct SegmentStatus {
  std::size_t bytes = 0;
  std::uint64_t attached = 0;  ///< how many times it is attached, by all processes
  bool removed = false;        ///< ipcrm'd: lives on while attached
  std::uint32_t owner = 0;     ///< user id
  std::uint32_t group = 0;
  std::uint32_t mode = 0;
  int maker = 0;          ///< process id
  int last_attacher = 0;  ///< process id
  std::uint32_t key = 0;
};

/// The status of segment `id`; nullopt: there is none. Throws where the kernel refuses to say (permissions).
[[nodiscard]] std::optional<SegmentStatus> segment_status(int id);

/// The ids of all segments on this host (in this IPC namespace) that this user owns.
[[nodiscard]] std::vector<int> own_segments();

/// The ids of all segments on this host (in this IPC namespace), of whichever user.
[[nodiscard]] std::vector<int> all_segments();

/// Marks a segment as removed: the kernel frees it when the last process detaches. True: the segment is marked, or does
/// not exist. False: another user owns it.
[[nodiscard]] bool remove_segment(int id) noexcept;

class SharedSegment {
 public:
  enum class Access { read_only, read_write };

  /// A new, zeroed, private one of mode 0640, whatever the umask, attached read-write. Throws naming the limit to
  /// raise.
  [[nodiscard]] static SharedSegment make(std::size_t bytes);
  /// Attaches one. nullopt: it does not exist (any more). Throws where access is refused.
  [[nodiscard]] static std::optional<SharedSegment> attach(int id, Access access);

  SharedSegment(SharedSegment&&) noexcept;
  SharedSegment& operator=(SharedSegment&&) noexcept;
  ~SharedSegment();

  [[nodiscard]] int id() const noexcept;
  [[nodiscard]] std::byte* data() const noexcept;
  [[nodiscard]] std::size_t size() const noexcept;
  [[nodiscard]] SegmentStatus status() const;
  /// Marks it removed: it goes with its last detach.
  void remove() noexcept;
  /// Gives the memory of a page-aligned range back to the kernel; it reads as zeros then. Only read-write.
  void release_memory(std::size_t offset, std::size_t bytes) const noexcept;

 private:
  struct Mapping;
  explicit SharedSegment(std::unique_ptr<Mapping> mapping) noexcept;
  std::unique_ptr<Mapping> mapping_;
};

}  // namespace visitd
