// The pages that one request names, in order: from a JSON body, or from a query. page_list.cpp is the frontend's sole
// user of nlohmann-json.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "frontend/http/refusals.hpp"

namespace visitd {

class PageList {
 public:
  /// What a list is for. Visits may be numbered; reads name pages only, each counted once.
  enum class Purpose : std::uint8_t { record, read };

  /// `page_id_limit`: bytes. `read_limit`: the most pages of a read.
  PageList(std::uint32_t page_id_limit, std::uint32_t read_limit) noexcept
      : page_id_limit_(page_id_limit), read_limit_(read_limit) {}

  void set_read_limit(std::uint32_t read_limit) noexcept { read_limit_ = read_limit; }

  /// Takes JSON values, one or more, with white space between them: a string is a page id, an array holds page ids, an
  /// object maps page id to visits. The problem says which entry, from 0, is wrong; the list is of no use then. What it
  /// holds of text lives until the next call.
  [[nodiscard]] std::optional<Problem> read_json(std::string_view body, Purpose purpose);

  /// Takes page=ID&page=ID…, form-urlencoded. As above.
  [[nodiscard]] std::optional<Problem> read_query(std::string_view query);

  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
  [[nodiscard]] std::string_view page(std::size_t entry) const noexcept {
    return std::string_view(text_).substr(entries_[entry].begin, entries_[entry].length);
  }
  [[nodiscard]] std::uint32_t visits(std::size_t entry) const noexcept { return entries_[entry].visits; }

  /// Bytes of the longest page id.
  [[nodiscard]] std::size_t longest() const noexcept { return longest_; }

  /// Memory that it holds.
  [[nodiscard]] std::size_t bytes() const noexcept { return text_.capacity() + entries_.capacity() * sizeof(Entry); }

  /// After use: gives back the memory of a long list.
  void release() noexcept;

 private:
  struct Entry {
    std::uint32_t begin;
    std::uint32_t length;
    std::uint32_t visits;
  };
  class JsonReader;

  void start(Purpose purpose) noexcept;
  /// False: the page id breaks a rule, or is one too many; `problem_` says which.
  bool add(std::string_view page, std::uint32_t visits);
  bool refuse(const Problem& problem) noexcept;
  bool refuse_json(std::string detail);
  [[nodiscard]] std::optional<Problem> result();
  void keep_first_of_each();

  std::uint32_t page_id_limit_;
  std::uint32_t read_limit_;
  Purpose purpose_ = Purpose::record;
  std::string text_;  ///< all pages, one behind the other
  std::vector<Entry> entries_;
  std::size_t longest_ = 0;
  std::optional<Problem> problem_;
  std::string detail_;
};

}  // namespace visitd
