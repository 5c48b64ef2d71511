// The runtime directory: where the programs of one instance find each other. Lock files, doorbells, the control socket,
// and the System V ids of the segments.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace visitd {

/// Names a segment: by its own random id, and by the kernel's.
struct SegmentNote {
  std::uint64_t id = 0;
  int segment = -1;
  friend bool operator==(const SegmentNote&, const SegmentNote&) = default;
};

class RuntimeDirectory {
 public:
  explicit RuntimeDirectory(std::string path) : path_(std::move(path)) {}

  /// Makes the directory (mode 0770) where it does not exist and its parent does.
  void ensure() const;

  /// Throws where this process may not read what stands in the directory: to it everything would look as if nothing had
  /// ever run there.
  void require_readable() const;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::string ring_lock() const { return path_ + "/ring.lock"; }
  [[nodiscard]] std::string lane_lock(std::uint32_t lane) const;
  [[nodiscard]] std::string lane_bell(std::uint32_t lane) const;
  [[nodiscard]] std::string flusher_lock() const { return path_ + "/flusher.lock"; }
  [[nodiscard]] std::string flusher_bell() const { return path_ + "/flusher.bell"; }
  [[nodiscard]] std::string control_socket() const { return path_ + "/flusher.sock"; }

  /// The rings that were made, oldest first; the last one is the one in use. Empty: none.
  [[nodiscard]] std::vector<SegmentNote> rings() const { return read_notes("rings"); }
  void note_rings(const std::vector<SegmentNote>& rings) const { write_notes("rings", rings); }
  /// The cache in use; nullopt: none.
  [[nodiscard]] std::optional<SegmentNote> cache() const;
  void note_cache(const SegmentNote& cache) const { write_notes("cache", {cache}); }

 private:
  [[nodiscard]] std::vector<SegmentNote> read_notes(const char* name) const;
  void write_notes(const char* name, const std::vector<SegmentNote>& notes) const;

  std::string path_;
};

}  // namespace visitd
