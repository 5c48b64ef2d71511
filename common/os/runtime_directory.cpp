#include "common/os/runtime_directory.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string_view>

#include "common/os/advice.hpp"
#include "common/os/errors.hpp"
#include "common/os/unique_fd.hpp"

namespace visitd {

namespace {

bool write_whole(const UniqueFd& fd, std::string_view text) noexcept {
  const ssize_t written = write(fd.get(), text.data(), text.size());
  if (written < 0) return false;
  // A part is written where there is room for no more.
  if (static_cast<std::size_t>(written) != text.size()) errno = ENOSPC;
  return static_cast<std::size_t>(written) == text.size();
}

}  // namespace

void RuntimeDirectory::ensure() const {
  if (mkdir(path_.c_str(), 0770) == 0) {
    if (chmod(path_.c_str(), 0770) != 0) throw system_error("{}: cannot set its mode to 0770", path_);
  } else if (errno != EEXIST) {
    throw system_error("the runtime directory {} (paths.runtime_directory) cannot be made; {}", path_,
                       advice_for_path(errno, path_));
  }
}

void RuntimeDirectory::require_readable() const {
  for (const char* name : {"rings", "cache"}) {
    const std::string path = fmt::format("{}/{}", path_, name);
    if (access(path.c_str(), R_OK) != 0 && errno == EACCES) {
      throw system_error("{} cannot be read; {}", path, advice_for_path(errno, path));
    }
  }
}

std::string RuntimeDirectory::lane_lock(std::uint32_t lane) const {
  return fmt::format("{}/lane-{}.lock", path_, lane);
}
std::string RuntimeDirectory::lane_bell(std::uint32_t lane) const {
  return fmt::format("{}/lane-{}.bell", path_, lane);
}

std::optional<SegmentNote> RuntimeDirectory::cache() const {
  const auto notes = read_notes("cache");
  return notes.empty() ? std::nullopt : std::optional(notes.back());
}

std::vector<SegmentNote> RuntimeDirectory::read_notes(const char* name) const {
  std::ifstream file(fmt::format("{}/{}", path_, name));
  std::vector<SegmentNote> notes;
  SegmentNote note;
  while (file >> std::hex >> note.id >> std::dec >> note.segment) notes.push_back(note);
  return notes;
}

void RuntimeDirectory::write_notes(const char* name, const std::vector<SegmentNote>& notes) const {
  const std::string path = fmt::format("{}/{}", path_, name);
  const std::string part = path + ".new";
  std::string text;
  for (const SegmentNote& note : notes) text += fmt::format("{:016x} {}\n", note.id, note.segment);
  UniqueFd fd(open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640));
  // Readers see the old notes or the new ones. No sync: the segments that they name do not outlive a crash of the
  // kernel either.
  if (!fd || fchmod(fd.get(), 0640) != 0 || !write_whole(fd, text) || rename(part.c_str(), path.c_str()) != 0) {
    const std::system_error failure = system_error("{} cannot be written; {}", path, advice_for_path(errno, part));
    unlink(part.c_str());
    throw failure;
  }
}

}  // namespace visitd
