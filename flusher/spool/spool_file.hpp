// The spool's file by its name: whether it still is the one that is open, and how a new one takes its place without a
// moment at which a crash loses it. Knows nothing of what is in it.
#pragma once

#include <optional>
#include <string>

#include "common/os/file_lease.hpp"

namespace visitd {

/// Writes a directory's entries to the disk.
void sync_directory(const std::string& path);

/// A replacement is written to draft(), made whole by finish_draft(), and put in place by take_place(). From
/// finish_draft() on the next start takes it, however this one ends.
class SpoolFile {
 public:
  /// `spool.db` in the directory.
  explicit SpoolFile(std::string directory);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  /// Makes directory and file where they are missing, and first puts a replacement in place that a former process had
  /// finished. Throws Error naming what to do.
  void make();
  /// The replacement of make(), alone.
  void recover();

  /// What lies under the name now is what is open, with its write-ahead log. What is gone by then was removed.
  void note();
  /// The same of the replacement that was put in place. False: it does not lie under the name any more.
  [[nodiscard]] bool note_replacement();
  /// After note(): why what is open is not what lies under the name; empty: it is. Opens nothing: closing it would drop
  /// SQLite's lock.
  [[nodiscard]] std::string displaced() const;

  /// Makes an empty file of the replacement, and the directory where it is missing. Returns its path.
  [[nodiscard]] std::string draft() const;
  /// The draft is complete: syncs it.
  void finish_draft();
  /// Puts the finished draft under the name. What somebody else has put there is kept beside it: returns its path;
  /// empty: there was nothing.
  std::string take_place();
  /// No replacement, after all.
  void drop_draft() const noexcept;

 private:
  [[nodiscard]] std::string make_way() const;
  void make_directory() const;

  std::string directory_;
  std::string path_;
  std::optional<FileIdentity> open_;      ///< the file that is open
  std::optional<FileIdentity> open_log_;  ///< its write-ahead log
  std::optional<FileIdentity> finished_;  ///< the last draft
};

/// A path beginning with `base` that names nothing yet.
[[nodiscard]] std::string free_path(const std::string& base);

}  // namespace visitd
