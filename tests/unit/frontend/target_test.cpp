#include "frontend/http/target.hpp"

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <string_view>

namespace visitd {
namespace {

std::string decoded(std::string_view encoded) {
  std::array<char, 64> buffer;
  const auto text = decode_path(encoded, buffer);
  return text ? std::string(*text) : "refused";
}

TEST_CASE("a part of a path is percent-decoded once") {
  CHECK(decoded("home") == "home");
  CHECK(decoded("") == "");
  CHECK(decoded("a%2Fb%2fc") == "a/b/c");
  CHECK(decoded("a/b%2Fc/") == "a/b/c/");
  CHECK(decoded("//") == "//");
  CHECK(decoded("%252F") == "%2F");
  CHECK(decoded("%C3%bc") == "\xC3\xBC");
  CHECK(decoded("a+b") == "a+b");
  CHECK(decoded("%00") == std::string(1, '\0'));
}

TEST_CASE("an escape that is not two hex digits is refused") {
  for (const std::string_view bad : {"%", "%2", "a%2", "%zz", "%2g", "%%20", "%u1234", "% 2"}) {
    CAPTURE(bad);
    CHECK(decoded(bad) == "refused");
  }
}

TEST_CASE("in a form-urlencoded text a plus is a space") {
  std::array<char, 64> buffer;
  CHECK(decode_form("a+b%2Bc", buffer) == "a b+c");
  CHECK_FALSE(decode_form("a%2", buffer));
}

TEST_CASE("path and query are told apart in every form of a target") {
  const auto parts = [](std::string_view target) {
    const auto found = parts_of_target(target);
    return found ? std::string(found->path) + " " + std::string(found->query) : "none";
  };
  CHECK(parts("/visits?page=a&page=b?c") == "/visits page=a&page=b?c");
  CHECK(parts("/visits") == "/visits ");
  CHECK(parts("/visits?") == "/visits ");
  CHECK(parts("http://host?page=a") == "/ page=a");
  CHECK(parts("https://host:8000/visits?x") == "/visits x");
  CHECK(parts("*") == "* ");
  CHECK(parts("visits") == "none");
}

}  // namespace
}  // namespace visitd
