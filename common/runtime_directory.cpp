#include "common/runtime_directory.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>
#include <fstream>

#include "common/errors.hpp"
#include "common/unique_fd.hpp"

namespace visitd {

void RuntimeDirectory::ensure() const {
  if (mkdir(path_.c_str(), 0770) == 0) {
    if (chmod(path_.c_str(), 0770) != 0) throw system_error("{}: cannot set its mode to 0770", path_);
  } else if (errno != EEXIST) {
    throw system_error("the runtime directory {} cannot be made; make it, or set paths.runtime_directory", path_);
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
  if (!fd || fchmod(fd.get(), 0640) != 0 ||
      write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      rename(part.c_str(), path.c_str()) != 0) {
    throw system_error("{}: cannot be written; may this user write to the runtime directory, and is there room?", path);
  }
}

}  // namespace visitd
