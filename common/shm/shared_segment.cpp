#include "common/shm/shared_segment.hpp"

#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include <boost/interprocess/mapped_region.hpp>
#include <boost/interprocess/xsi_shared_memory.hpp>
#include <fstream>
#include <string>
#include <string_view>

#include "common/os/advice.hpp"
#include "common/os/errors.hpp"

namespace visitd {

namespace bi = boost::interprocess;

struct SharedSegment::Mapping {
  bi::xsi_shared_memory memory;
  bi::mapped_region region;
};

namespace {

std::string first_line(const char* path) {
  std::string line;
  std::getline(std::ifstream(path) >> std::ws, line);
  return line;
}

/// What refused a segment of so many bytes, and what to do.
std::string limit_to_raise(int number, std::size_t bytes) {
  constexpr std::string_view smaller =
      "or make ring.lanes, ring.lane_bytes (the ring) or cache.entries (the cache) smaller";
  switch (number) {
    case EINVAL:
      return fmt::format(
          "the limit kernel.shmmax is {}: raise it (sysctl -w kernel.shmmax={}, and in /etc/sysctl.d), {}",
          first_line("/proc/sys/kernel/shmmax"), bytes, smaller);
    case ENOSPC:
      return fmt::format(
          "all segments together have reached kernel.shmall ({} pages of {} bytes) or kernel.shmmni ({} segments): "
          "raise it with sysctl, remove segments that nobody uses (visitctl clean; ipcs -m, ipcrm -m for those of "
          "others), {}",
          first_line("/proc/sys/kernel/shmall"), getpagesize(), first_line("/proc/sys/kernel/shmmni"), smaller);
    case ENOMEM:
      return fmt::format("the machine or the unit's control group has too little memory: give it more, {}", smaller);
    default:
      return fmt::format("see kernel.shmmax, kernel.shmall and kernel.shmmni (sysctl), {}", smaller);
  }
}

}  // namespace

std::optional<SegmentStatus> segment_status(int id) {
  shmid_ds state{};
  if (shmctl(id, IPC_STAT, &state) != 0) {
    if (errno == EINVAL || errno == EIDRM) return std::nullopt;
    throw system_error("shared memory segment {} cannot be looked at; {}", id, advice_for_segment(id));
  }
  SegmentStatus status;
  status.bytes = state.shm_segsz;
  status.attached = state.shm_nattch;
  status.removed = (state.shm_perm.mode & SHM_DEST) != 0;
  status.owner = state.shm_perm.uid;
  status.group = state.shm_perm.gid;
  status.mode = state.shm_perm.mode & 0777U;
  status.maker = state.shm_cpid;
  status.last_attacher = state.shm_lpid;
  status.key = static_cast<std::uint32_t>(state.shm_perm.__key);
  return status;
}

/// `command`: SHM_STAT, which is refused for segments of others, or SHM_STAT_ANY.
template <typename Wanted>
static std::vector<int> listed_segments(int command, const Wanted& is_wanted) {
  std::vector<int> ids;
  shmid_ds unused{};
  const int last = shmctl(0, SHM_INFO, &unused);
  for (int index = 0; index <= last; ++index) {
    shmid_ds state{};
    const int id = shmctl(index, command, &state);
    if (id >= 0 && is_wanted(state)) ids.push_back(id);
  }
  return ids;
}

std::vector<int> own_segments() {
  return listed_segments(SHM_STAT, [](const shmid_ds& state) { return state.shm_perm.uid == geteuid(); });
}

std::vector<int> all_segments() {
  return listed_segments(SHM_STAT_ANY, [](const shmid_ds&) { return true; });
}

bool remove_segment(int id) noexcept {
  return shmctl(id, IPC_RMID, nullptr) == 0 || errno == EINVAL || errno == EIDRM;
}

SharedSegment::SharedSegment(std::unique_ptr<Mapping> mapping) noexcept : mapping_(std::move(mapping)) {}
SharedSegment::SharedSegment(SharedSegment&&) noexcept = default;
SharedSegment& SharedSegment::operator=(SharedSegment&&) noexcept = default;
SharedSegment::~SharedSegment() = default;

SharedSegment SharedSegment::make(std::size_t bytes) {
  if (first_line("/proc/sys/kernel/shm_rmid_forced") == "1") {
    throw Error(
        "kernel.shm_rmid_forced is 1: the kernel would destroy a segment with its last process, and the visits in it; "
        "set it to 0 (sysctl kernel.shm_rmid_forced=0)");
  }
  bi::permissions permissions;
  permissions.set_permissions(0640);
  try {
    auto mapping = std::make_unique<Mapping>();
    mapping->memory = bi::xsi_shared_memory(bi::create_only, bi::xsi_key(), bytes, permissions);
    try {
      mapping->region = bi::mapped_region(mapping->memory, bi::read_write);
    } catch (...) {
      bi::xsi_shared_memory::remove(mapping->memory.get_shmid());
      throw;
    }
    return SharedSegment(std::move(mapping));
  } catch (const bi::interprocess_exception& failure) {
    throw error("a shared memory segment of {} bytes cannot be made: {}; {}", bytes, failure.what(),
                limit_to_raise(failure.get_native_error(), bytes));
  }
}

std::optional<SharedSegment> SharedSegment::attach(int id, Access access) {
  if (!segment_status(id)) return std::nullopt;
  try {
    auto mapping = std::make_unique<Mapping>();
    mapping->memory = bi::xsi_shared_memory(bi::open_only, id);
    mapping->region = bi::mapped_region(mapping->memory, access == Access::read_only ? bi::read_only : bi::read_write);
    return SharedSegment(std::move(mapping));
  } catch (const bi::interprocess_exception& failure) {
    if (!segment_status(id)) return std::nullopt;  // it went between the two calls
    throw error("shared memory segment {} cannot be attached {}: {}; {}", id,
                access == Access::read_only ? "read-only" : "read-write", failure.what(), advice_for_segment(id));
  }
}

int SharedSegment::id() const noexcept {
  return mapping_->memory.get_shmid();
}
std::byte* SharedSegment::data() const noexcept {
  return static_cast<std::byte*>(mapping_->region.get_address());
}
std::size_t SharedSegment::size() const noexcept {
  return mapping_->region.get_size();
}

SegmentStatus SharedSegment::status() const {
  const auto status = segment_status(id());
  if (!status) throw error("shared memory segment {} is gone although it is attached", id());
  return *status;
}

void SharedSegment::remove() noexcept {
  bi::xsi_shared_memory::remove(id());
}

void SharedSegment::release_memory(std::size_t offset, std::size_t bytes) const noexcept {
  // Only a saving: where the kernel refuses, the memory stays.
  static_cast<void>(madvise(data() + offset, bytes, MADV_REMOVE));
}

}  // namespace visitd
