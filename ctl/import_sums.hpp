// Adds up what an import says of pages, under the names that they are counted by. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/pages/page_rules.hpp"
#include "ctl/page_sums.hpp"

namespace visitd {

struct Imported {
  PageCounts counts;
  /// Tells it from another import with the same counts; 0: the same counts are the same import.
  std::uint64_t source = 0;
  std::uint64_t left_out = 0;           ///< lines or keys that are no visits
  std::vector<std::string> not_visits;  ///< the first keys of them
  std::vector<std::string> bad;         ///< what cannot be read: "line N: why", of the first ones
  std::uint64_t bad_lines = 0;
  std::vector<std::string> notes;  ///< what else people should know of it
};

/// How ids become names.
struct ImportNames {
  std::size_t page_id_limit = 0;    ///< bytes of a name
  PageRules map = PageRules({});    ///< of this import alone; applied first
  PageRules rules = PageRules({});  ///< of the settings
};

class ImportSums {
 public:
  explicit ImportSums(ImportNames names) : names_(std::move(names)) {}

  /// Adds visits to a page; says why not. Empty: it is done.
  [[nodiscard]] std::string add(std::string_view id, std::uint64_t visits);
  void add_line(std::uint64_t line, std::string_view id, std::uint64_t visits);
  void leave_out() noexcept { ++imported_.left_out; }
  void leave_out_key(std::string_view key);
  void bad_line(std::uint64_t line, std::string_view why);
  /// `where`: names the line or key.
  void bad(std::string_view where, std::string_view why);
  void note(std::string text) { imported_.notes.push_back(std::move(text)); }
  [[nodiscard]] Imported take() &&;

 private:
  ImportNames names_;
  Imported imported_;
  PageSums sums_;
};

}  // namespace visitd
