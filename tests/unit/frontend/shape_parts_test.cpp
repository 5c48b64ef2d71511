#include <doctest/doctest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "frontend/shapes/goatcounter_paths.hpp"
#include "frontend/shapes/key_names.hpp"
#include "frontend/shapes/key_requests.hpp"
#include "frontend/shapes/request_parts.hpp"
#include "frontend/shapes/shape_tables.hpp"
#include "frontend/shapes/vercount_body.hpp"
#include "frontend/shapes/vercount_pages.hpp"

namespace visitd {
namespace {

const std::optional<SitePage> post = SitePage{"example.org:8080", "/blog/über uns/"};

std::string key(std::string_view path, const std::optional<SitePage>& caller = {}) {
  const KeyOfPath found = key_of_path(path, caller);
  if (found.fault == KeyOfPath::Fault::too_deep) return "too deep";
  return found.fault == KeyOfPath::Fault::none ? found.key.page() : "refused: " + found.problem;
}

std::string vercount(std::string_view url) {
  const VercountPage found = vercount_page_of(url);
  return found.problem.empty() ? found.page.id(true) : "refused";
}

TEST_CASE("a key is a name, in a name space or in the usual one") {
  CHECK(key("example.org/visits") == "example.org/visits");
  CHECK(key("visits") == "default/visits");
  CHECK(key("visits/") == "default/visits");
  CHECK(key("a_b-c.D9/" + std::string(64, 'x')) == "a_b-c.D9/" + std::string(64, 'x'));
  CHECK(key("a/b/c") == "too deep");
  CHECK(key("abc//abc") == "too deep");
}

TEST_CASE("a key that breaks the pattern is refused, and the part that does is named") {
  for (const std::string_view path :
       {"", "/", "ab", "/abc", "ab/abc", "abc/ab", "abc/a b", "a\xC3\xBC/abc", "abc/a:b"}) {
    CAPTURE(path);
    CHECK(key(path).starts_with("refused: the "));
  }
  CHECK(key("abc/" + std::string(65, 'x')).starts_with("refused: the key must"));
  CHECK(key("ab/abc").starts_with("refused: the namespace must"));
}

TEST_CASE("words of a key stand for the host and the path of the page that asks") {
  CHECK(key(":HOST:/visits", post) == "example.org.8080/visits");
  CHECK(key(":HOST:/:PATHNAME:", post) == "example.org.8080/blog...ber.uns");
  CHECK(key("mine/:PATH:", SitePage{"x", "/"}) == "mine/...");
  CHECK(key(":HOST:/:PATH:", SitePage{"x", "/" + std::string(100, 'y')}) == "..x/" + std::string(64, 'y'));
  CHECK(key(":HOST:/visits").starts_with("refused: :HOST: stands for"));
  CHECK(key(":host:/visits", post).starts_with("refused: the namespace must"));
}

TEST_CASE("a callback is identifiers with dots between them") {
  for (const std::string_view good : {"f", "BusuanziCallback_77", "$", "_a.b.$c1", "window.app.show"}) {
    CAPTURE(good);
    CHECK(is_callback(good));
  }
  CHECK(is_callback(std::string(64, 'f')));
  CHECK_FALSE(is_callback(std::string(65, 'f')));
  for (const std::string_view bad : {"", "1a", "a b", "a(", "alert(1);a", ".a", "a.", "a..b", "a.1", "a[0]", "\xC3\xBC",
                                     "a\n", "</script>", "a-b", "a;"}) {
    CAPTURE(bad);
    CHECK_FALSE(is_callback(bad));
  }
}

TEST_CASE("a parameter is decoded, and the first one of its name holds") {
  CHECK(parameter_of("a=1&b=x+y%2F&b=z", "b") == "x y/");
  CHECK(parameter_of("b", "b") == "");
  CHECK(parameter_of("b=", "b") == "");
  CHECK(parameter_of("b=a=b", "b") == "a=b");
  CHECK_FALSE(parameter_of("bb=1&ab=2", "b"));
  CHECK_FALSE(parameter_of("", "b"));
  CHECK_FALSE(parameter_of("b=%2", "b"));
}

TEST_CASE("a whole number has no room for anything else") {
  CHECK(whole_number("-3") == -3);
  CHECK(whole_number("9223372036854775807") == 9223372036854775807);
  for (const std::string_view bad : {"", "-", "+3", " 3", "3 ", "3.0", "1e3", "9223372036854775808", "0x1"}) {
    CAPTURE(bad);
    CHECK_FALSE(whole_number(bad));
  }
}

TEST_CASE("only addresses over http name a page of the web, with the host that they have") {
  CHECK(web_page_of("https://example.org/a%20b?c#d")->id(true) == "example.org/a b");
  CHECK(web_page_of("HTTP://example.org")->id(true) == "example.org/");
  CHECK(web_page_of("http://[::1]:8080/x")->host == "[::1]:8080");
  for (const std::string_view bad :
       {"", "example.org/a", "file:///a", "ftp://example.org/", "https://user@example.org/", "https:// /", "https:/a",
        "http://a b/", "null", "https://"}) {
    CAPTURE(bad);
    CHECK_FALSE(web_page_of(bad));
  }
}

TEST_CASE("GoatCounter's pages have one slash before them and tell of no campaign") {
  CHECK(goatcounter_page("/blog/post", false) == "/blog/post");
  CHECK(goatcounter_page("/blog/post/", false) == "/blog/post");
  CHECK(goatcounter_page("//blog//", false) == "/blog");
  CHECK(goatcounter_page("blog", false) == "/blog");
  CHECK(goatcounter_page(" / ", false) == "/");
  CHECK(goatcounter_page("", false).empty());
  CHECK(goatcounter_page("/gr%C3%B6%C3%9Fe", false) == "/gr%C3%B6%C3%9Fe");
  CHECK(goatcounter_page("/a?", false) == "/a");
  CHECK(goatcounter_page("/a/?", false) == "/a");
  CHECK(goatcounter_page("/a?utm_source=x&b=2&a=1+2&fbclid=y", false) == "/a?a=1+2&b=2");
  CHECK(goatcounter_page("/a/?ref=x", false) == "/a");
  CHECK(goatcounter_page("/a?from=here", false) == "/a?from=here");
  CHECK(goatcounter_page("/a?from=groupmessage", false) == "/a");
  CHECK(goatcounter_page("/a?b=%2F%zz", false) == "/a?b=%252F%25zz");
  CHECK(goatcounter_page("/download-x", true) == "download-x");
  CHECK(goatcounter_page("click me/", true) == "click me/");
}

TEST_CASE("Vercount's pages have no index, no slash at their end, and at most 200 bytes of path") {
  CHECK(vercount("https://Example.org:443/a/") == "example.org/a");
  CHECK(vercount("http://example.org:80") == "example.org/");
  CHECK(vercount("http://example.org:443/") == "example.org:443/");
  CHECK(vercount(" https://example.org/index.html ") == "example.org/");
  CHECK(vercount("https://example.org/a/index?b#c") == "example.org/a");
  CHECK(vercount("https://example.org/gr%C3%BC%C3%9Fe") == "example.org/grüße");
  CHECK(vercount("https://example.org/" + std::string(300, 'a')) == "example.org/" + std::string(199, 'a'));
  CHECK(vercount("https://example.org/" + std::string(198, 'a') + "üb") == "example.org/" + std::string(198, 'a'));
  for (const std::string_view bad :
       {"", "example.org", "ftp://example.org/", "https://", "https:///a", "https://a@b/", "https://a b/"}) {
    CAPTURE(bad);
    CHECK(vercount(bad) == "refused");
  }
}

TEST_CASE("a visit of Vercount's clients names an address, and may claim to be a visitor's first") {
  const auto body = vercount_body(R"({"url":"https://a.example/","isNewUv":true,"token":"x"})");
  REQUIRE(body);
  CHECK(body->url == "https://a.example/");
  CHECK(body->is_new_visitor);
  CHECK(vercount_body(R"({"isNewUv":1})")->url.empty());
  CHECK_FALSE(vercount_body(R"({"isNewUv":1})")->is_new_visitor);
  for (const std::string_view bad : {"", "[]", "{", "null", "\"a\"", "{} {}"}) {
    CAPTURE(bad);
    CHECK_FALSE(vercount_body(bad));
  }
  CHECK_FALSE(vercount_body(R"({"url":")" + std::string(8192, 'a') + "\"}"));
}

TEST_CASE("a count is changed as long as it stays between 0 and the largest one") {
  using Kind = CountChange::Kind;
  CHECK(change_by(5, -5) == CountChange{Kind::lower, 5});
  CHECK(change_by(5, 7) == CountChange{Kind::add, 7});
  CHECK(change_by(5, 0) == CountChange{Kind::lower, 0});
  CHECK_FALSE(change_by(5, -6));
  CHECK_FALSE(change_by(0, INT64_MIN));
  CHECK(change_by(0, INT64_MAX) == CountChange{Kind::add, static_cast<std::uint64_t>(INT64_MAX)});
  CHECK_FALSE(change_by(1, INT64_MAX));
}

TEST_CASE("each shape of the settings has routes, and others have none") {
  for (const std::string_view shape : {"countapi", "abacus", "goatcounter", "busuanzi", "vercount", "hits"}) {
    CAPTURE(shape);
    CHECK_FALSE(shape_routes(shape).empty());
    for (const Route& route : shape_routes(shape)) {
      CAPTURE(route.path);
      const bool has_handler = route.handler != nullptr;
      CHECK(has_handler);
      CHECK(route.methods != 0);
      CHECK(route.allow.ends_with("OPTIONS"));
    }
  }
  CHECK(shape_routes("nobody").empty());
}

TEST_CASE("counts are grouped in threes by a narrow space") {
  CHECK(grouped(0) == "0");
  CHECK(grouped(999) == "999");
  CHECK(grouped(1234) == "1\u202F234");
  CHECK(grouped(1234567) == "1\u202F234\u202F567");
}

}  // namespace
}  // namespace visitd
