#include "ctl/import_keys.hpp"

#include <doctest/doctest.h>

#include "ctl/md5.hpp"

namespace visitd {

TEST_CASE("MD5 of the texts that RFC 1321 gives, and of one that fills blocks") {
  CHECK(md5_hex("") == "d41d8cd98f00b204e9800998ecf8427e");
  CHECK(md5_hex("a") == "0cc175b9c0f1b6a831c399e269772661");
  CHECK(md5_hex("message digest") == "f96b697d7cb7938d525a2f31aaf161d0");
  CHECK(md5_hex("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") ==
        "d174ab98d277d9f5a5611c2c9f419d9f");
  CHECK(md5_hex("12345678901234567890123456789012345678901234567890123456789012345678901234567890") ==
        "57edf4a22be3c955ac49da2e2107b67a");
}

TEST_CASE("a key of Vercount names host and path, decoded") {
  const auto page = vercount_page("pv:page:example.org:8080:/gr%C3%BC%C3%9Fe/a:b");
  REQUIRE(page);
  CHECK(page->host == "example.org:8080");
  CHECK(page->id(false) == "/grüße/a:b");
  CHECK(page->id(true) == "example.org:8080/grüße/a:b");
  CHECK(vercount_page("pv:page:x:/100%")->path == "/100%");
  for (const std::string_view key :
       {"pv:page:index:example.org", "pv:site:example.org", "uv:site:count:example.org", "pv:page::/a", "pv:page:"}) {
    CHECK_FALSE(vercount_page(key));
  }
}

TEST_CASE("an address of a page is host and path, decoded, without query and fragment") {
  const auto page = page_of_url("https://example.org:8080/a%20b/?q=/c#d");
  REQUIRE(page);
  CHECK(page->host == "example.org:8080");
  CHECK(page->path == "/a b/");
  CHECK(page_of_url("http://example.org")->path == "/");
  for (const std::string_view url : {"", "/a", "example.org/a", "://x/a", "https:///a"}) CHECK_FALSE(page_of_url(url));
}

TEST_CASE("busuanzi's digests of a page are found in every form that its settings know, and no other") {
  BusuanziPages pages(false);
  pages.add({"example.org", "/a"});
  const std::string site = md5_hex("example.org");
  for (const std::string_view name : {"/a", "example.org&/a"}) {
    const std::string digest = md5_hex(name);
    for (const auto& [of_site, of_page] : {std::pair{site, digest}, {site.substr(8, 16), digest.substr(8, 16)}}) {
      CHECK(pages.site(of_site) != nullptr);
      REQUIRE(pages.find(of_site, of_page) != nullptr);
      CHECK(*pages.find(of_site, of_page) == "/a");
    }
  }
  CHECK(pages.find(site, md5_hex("/b")) == nullptr);
  CHECK(pages.find(site, md5_hex("/a").substr(8, 16)) == nullptr);
  CHECK(pages.site(md5_hex("example.com")) == nullptr);
}

TEST_CASE("visitd's own keys are known") {
  for (const std::string_view key :
       {"visits:{17}", "visits:{17}:wait", "visits:topology", "visits:writers{visits:topology}"})
    CHECK(is_own_key(key));
  for (const std::string_view key : {"visits:17", "visits:topology2", "home"}) CHECK_FALSE(is_own_key(key));
}

}  // namespace visitd
