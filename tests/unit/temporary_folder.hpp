// A folder for one test case.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <string>

#include "common/os/errors.hpp"

namespace visitd::test {

/// Made in the system's place for temporary files; removed with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() : path_((std::filesystem::temp_directory_path() / "visitd-test-XXXXXX").string()) {
    if (::mkdtemp(path_.data()) == nullptr) throw system_error("{}: cannot be made", path_);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::string operator/(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace visitd::test
