// The flusher's durable state: what is counted and not yet answered by Redis.
//
// Nothing here decides anything: a Transaction says what becomes durable together, SpoolState what stood there at the
// start.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "flusher/counting/spool_layout.hpp"
#include "flusher/counting/spool_state.hpp"

namespace visitd {

/// What put_away has put away.
struct SpoolPutAway {
  std::string path;                          ///< of the file now
  std::optional<std::uint64_t> open_visits;  ///< in it, not yet in a batch; nullopt: it cannot be read
  std::optional<std::uint64_t>
      unanswered_batches;  ///< in it, which no shard has acknowledged; nullopt: it cannot be read
};

/// The SQLite file `spool.db` in the state directory. Used from one thread at a time. WAL, synchronous=FULL, exclusive.
class Spool {
 public:
  /// Opens or makes it, checks its schema version, and makes a new incarnation durable. Throws Error naming the file
  /// and what to do. `layout`: of the settings; noted at the spool's first use, and any other one refused before
  /// anything is written. nullopt: not looked at.
  explicit Spool(const std::string& state_directory, const std::optional<SpoolLayout>& layout = std::nullopt);
  Spool(Spool&&) noexcept;
  Spool& operator=(Spool&&) noexcept;
  ~Spool();

  /// What stands in it. Throws Error naming the damaged row.
  [[nodiscard]] SpoolState load();

  /// Notes on which machine this life of the spool is. Returns the one that was noted before; empty: none.
  [[nodiscard]] std::string note_machine(const std::string& machine);

  /// One transaction, synced when this returns. Throws SpoolFull, or Error if the file can no longer be trusted (then:
  /// stop, recover).
  SpoolResult apply(const Transaction& transaction);

  /// Looks whether the file under the name is still the one that is open, as apply() does before and after. Where it
  /// was removed or replaced, or lost its write-ahead log, all that is open is written to a new file there, what
  /// somebody put there is kept beside it, and the log says so. Throws SpoolFull where that is not possible now.
  void look();

  /// Renames spool.db to spool.db.aside-UNIXTIME, whatever its state, so that the next start makes a new one. The
  /// caller has made sure that no flusher starts meanwhile. `buckets`: that it was written with. Throws Error when
  /// there is none, or when another process has it open.
  [[nodiscard]] static SpoolPutAway put_away(const std::string& state_directory, std::uint32_t buckets);

 private:
  class Opened;
  std::unique_ptr<Opened> opened_;
};

}  // namespace visitd
