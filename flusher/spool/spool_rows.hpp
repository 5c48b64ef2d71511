// How rows of the spool are written as text and blobs, and the digests that find a damaged one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/os/text.hpp"
#include "flusher/counting/batch.hpp"
#include "flusher/spool/spool_database.hpp"

namespace visitd {

/// Decimal numbers, a space behind each.
[[nodiscard]] std::string join(const std::vector<std::uint64_t>& numbers);
/// Appends what join() wrote. False: it is something else.
[[nodiscard]] bool split(std::string_view text, std::vector<std::uint64_t>& numbers);

[[nodiscard]] std::uint64_t ring_digest(std::string_view id, std::string_view positions);
/// Of a row of table open or spilled (`folded` 0): a blob under another bucket or number is damaged too.
[[nodiscard]] std::uint64_t row_digest(std::string_view pages, std::uint32_t bucket, std::uint64_t folded);
/// `mark`, `pages`: of the batch, as they are written. `scratch`: memory to use again.
[[nodiscard]] std::uint64_t batch_digest(const Batch& batch, std::string_view mark, std::string_view pages,
                                         std::string& scratch);

/// Calls use(bucket, blob) for each row that `rows` gives of table spilled: number, digest, pages, bucket.
template <typename Use>
void each_spilled_row(const SpoolDatabase& database, SpoolStatement& rows, const Use& use) {
  while (rows.row()) {
    const std::string_view blob = rows.bytes(2);
    const std::uint32_t bucket = rows.bucket(3);
    if (row_digest(blob, bucket, 0) != rows.number(1)) {
      throw database.damaged("row " + std::to_string(rows.integer(0)) + " of table spilled", "digest");
    }
    use(bucket, blob);
  }
}

}  // namespace visitd
