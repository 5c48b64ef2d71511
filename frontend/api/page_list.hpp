// The pages that one request names, in order: from a JSON body, or from a query. page_list.cpp is the frontend's sole
// user of nlohmann-json.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/pages/page_rules.hpp"
#include "frontend/http/refusals.hpp"

namespace visitd {

class PageList {
 public:
  /// What a list is for. Visits may be numbered; reads name pages only, each counted once.
  enum class Purpose : std::uint8_t { record, read };

  /// `page_id_limit`: bytes. `read_limit`: the most pages of a read. `rules`: of the names of pages; they outlive it.
  PageList(std::uint32_t page_id_limit, std::uint32_t read_limit, PageRules& rules) noexcept
      : page_id_limit_(page_id_limit), read_limit_(read_limit), rules_(&rules) {}

  void set_read_limit(std::uint32_t read_limit) noexcept { read_limit_ = read_limit; }

  /// Takes JSON values, one or more, with white space between them: a string is a page id, an array holds page ids, an
  /// object maps page id to visits. The problem says which entry, from 0, is wrong; the list is of no use then. What it
  /// holds of text lives until the next call.
  [[nodiscard]] std::optional<Problem> read_json(std::string_view body, Purpose purpose);

  /// Takes page=ID&page=ID…, form-urlencoded. As above.
  [[nodiscard]] std::optional<Problem> read_query(std::string_view query);

  /// Takes the ids of pages that a request names in another form. As above.
  [[nodiscard]] std::optional<Problem> read_ids(std::span<const std::string> ids);

  [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
  /// The name under which the entry's page is counted.
  [[nodiscard]] std::string_view page(std::size_t entry) const noexcept { return text_of(entries_[entry].name); }
  /// The id that the client sent for it.
  [[nodiscard]] std::string_view asked(std::size_t entry) const noexcept { return text_of(entries_[entry].asked); }
  [[nodiscard]] std::uint32_t visits(std::size_t entry) const noexcept { return entries_[entry].visits; }

  /// Bytes of the longest name.
  [[nodiscard]] std::size_t longest() const noexcept { return longest_; }

  /// Memory that it holds.
  [[nodiscard]] std::size_t bytes() const noexcept { return text_.capacity() + entries_.capacity() * sizeof(Entry); }

  /// After use: gives back the memory of a long list.
  void release() noexcept;

 private:
  struct Part {
    std::uint32_t begin;
    std::uint32_t length;
  };
  struct Entry {
    Part asked;
    Part name;
    std::uint32_t visits;
  };
  class JsonReader;

  void start(Purpose purpose) noexcept;
  /// False: the page id breaks a rule, or is one too many; `problem_` says which.
  bool add(std::string_view page, std::uint32_t visits);
  /// The same; `detail`: what is wrong with the page's id.
  bool refuse_id(std::string detail);
  Part append(std::string_view text);
  [[nodiscard]] std::string_view text_of(Part part) const noexcept {
    return std::string_view(text_).substr(part.begin, part.length);
  }
  bool refuse(const Problem& problem) noexcept;
  bool refuse_json(std::string detail);
  [[nodiscard]] std::optional<Problem> result();
  void keep_first_of_each();

  std::uint32_t page_id_limit_;
  std::uint32_t read_limit_;
  Purpose purpose_ = Purpose::record;
  PageRules* rules_;
  std::string text_;  ///< all ids, and the names that are others, one behind the other
  std::vector<Entry> entries_;
  std::size_t longest_ = 0;
  std::optional<Problem> problem_;
  std::string detail_;
};

}  // namespace visitd
