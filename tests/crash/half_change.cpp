// Stands in for a flusher that dies in the middle of changing an entry: takes the flusher's lock, makes half of a
// change to a page's entry in the view that is shown, and kills itself. usage: half_change RUNTIME_DIRECTORY PAGE
// STORES
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "common/os/file_lease.hpp"
#include "common/os/runtime_directory.hpp"
#include "common/shm/cache.hpp"
#include "common/shm/page_id.hpp"

namespace {

/// Dies before the store of this number.
struct DieBefore {
  int stores;
  void operator()() {
    if (stores-- == 0) kill(getpid(), SIGKILL);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fputs("usage: half_change RUNTIME_DIRECTORY PAGE STORES\n", stderr);
    return 2;
  }
  const visitd::RuntimeDirectory directory(argv[1]);
  const std::string page = argv[2];
  const auto lease = visitd::FileLease::try_take(directory.flusher_lock());
  if (!lease) {
    std::fputs("a flusher runs\n", stderr);
    return 2;
  }
  auto ring = visitd::Ring::attach(directory.rings().back(), visitd::SharedSegment::Access::read_only);
  auto cache = visitd::Cache::attach(*directory.cache(), visitd::SharedSegment::Access::read_write);
  const auto* const attached_ring = std::get_if<visitd::Ring>(&ring);
  const auto* const attached = std::get_if<visitd::Cache>(&cache);
  if (attached_ring == nullptr || attached == nullptr) {
    std::fputs("no ring or no cache\n", stderr);
    return 2;
  }
  const auto shown = attached->view(attached->header().active.word.load());
  visitd::ViewWriter<DieBefore> writer(shown, DieBefore{std::atoi(argv[3])});
  const std::uint32_t node = writer.find(visitd::page_hash(page, attached_ring->hash_seed()), page);
  if (node == 0) {
    std::fputs("the page has no entry\n", stderr);
    return 2;
  }
  // A visit that is not in any lane: whoever saw it would count one too many.
  writer.apply(node, 1000, 0, writer.applied(0));
  std::fputs("the change was made whole\n", stderr);
  return 2;
}
