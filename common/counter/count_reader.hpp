// One look at a page's count in shared memory: an entry's snapshot, what the lanes hold beyond it, and whether all of
// that is still the truth. A function of memory alone, so that the simulation runs this very code.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "common/counter/backlog.hpp"
#include "common/shm/view.hpp"

namespace visitd {

class CountReader {
 public:
  /// `again`: the flusher was just changing it. `retired`: another cache serves the ring. `superseded`: there is a
  /// newer ring, whose visits cannot be seen from here.
  enum class Look : std::uint8_t { entry, absent, again, retired, superseded };

  struct Sighting {
    std::uint64_t count = 0;
    std::uint64_t expires_ms = 0;
    bool damaged = false;  ///< there is no count to show
  };

  /// What a reader sees of the cache that serves its ring.
  struct CacheMemory {
    const Word* active = nullptr;
    const Word* retired = nullptr;
    const LonelyWord* heads = nullptr;
    std::array<ViewMemory, 2> views;
  };

  /// `superseded`: the ring's word. `index_limit`, `short_bytes`: see Backlog.
  CountReader(std::vector<Backlog::Lane> lanes, const Word& superseded, std::size_t index_limit,
              std::uint64_t short_bytes = Backlog::usual_short_bytes)
      : superseded_(superseded), backlog_(std::move(lanes), index_limit, short_bytes) {}

  /// From now on this cache, which outlives the reader or the next call.
  void use(const CacheMemory& cache) noexcept { cache_ = cache; }

  /// Without a cache nothing is known: `absent`. `sighting` is set where it is `entry`.
  [[nodiscard]] Look look(std::uint64_t hash, std::string_view page, Sighting& sighting);

  /// The same without the count: whether there is an entry, and when it expires. Reads no lane.
  [[nodiscard]] Look glance(std::uint64_t hash, std::string_view page, Sighting& sighting);

  struct Page {
    std::uint64_t hash = 0;
    std::string_view page;
  };
  /// Where each look would read all lanes, they are read once, now, for all of these pages, which look() is asked for
  /// next, in this order. The pages live until forget().
  void gather(std::span<const Page> pages);
  void forget() noexcept { gathered_ = {}; }
  /// Whether gather() would read anything.
  [[nodiscard]] bool gathers() const noexcept { return cache_.active != nullptr && backlog_.is_scanned(); }

  /// Changes whenever anything of a page's chain in the view does.
  [[nodiscard]] std::uint64_t chain_mark(std::uint64_t hash) const noexcept;

  /// See Backlog.
  [[nodiscard]] std::uint64_t direct_scans() const noexcept { return backlog_.direct_scans(); }

 private:
  struct Gathered {
    Page page;
    Sighting sighting;
  };

  /// Takes a snapshot of the page's entry.
  [[nodiscard]] Look find(std::uint64_t hash, std::string_view page) noexcept;
  [[nodiscard]] bool take_gathered(std::uint64_t hash, std::string_view page, Sighting& sighting) noexcept;
  [[nodiscard]] Look judge() const noexcept;
  [[nodiscard]] static Sighting sighting_of(const Snapshot& snapshot, std::uint64_t visits) noexcept;

  const Word& superseded_;
  CacheMemory cache_;
  Backlog backlog_;
  Snapshot snapshot_;
  std::vector<Gathered> gathered_;  ///< those that were not asked for yet, the next one last
};

}  // namespace visitd
