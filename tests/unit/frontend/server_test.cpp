#include <doctest/doctest.h>
#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/os/errors.hpp"
#include "test_client.hpp"
#include "test_server.hpp"

namespace visitd {
namespace {

/// Both ways answer alike: each test runs with the one and the other.
struct Direct {
  static constexpr HotRoutes way = HotRoutes::direct;
};
struct Httplib {
  static constexpr HotRoutes way = HotRoutes::httplib;
};

constexpr const char* success_home = R"({"status":"success","message":"Visit recorded for page home"})";

/// Polls, for a bounded time, until it holds.
template <typename Condition>
bool comes_true(Condition condition) {
  for (int i = 0; i < 4000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return false;
}

void check_problem(const ClientAnswer& answer, int status, const std::string& detail, const std::string& parameter) {
  CHECK(answer.status == status);
  CHECK(answer.field("Content-Type") == "application/problem+json");
  const auto problem = nlohmann::json::parse(answer.body);
  CHECK(problem.at("status") == status);
  CHECK(problem.at("detail") == detail);
  CHECK(problem.at("title").is_string());
  CHECK(problem.at("type").get<std::string>().starts_with("urn:visitd:problem:"));
  CHECK(problem.value("parameter", "") == parameter);
}

TEST_CASE_TEMPLATE("a visit is recorded and then read on one kept connection", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  for (int i = 0; i < 3; ++i) {
    const ClientAnswer posted = client.ask(post_request("/visit/home"));
    CHECK(posted.status == 200);
    CHECK(posted.body == success_home);
    CHECK(posted.field("Content-Type") == "application/json");
    CHECK(posted.field("Access-Control-Allow-Origin") == "*");
    CHECK(posted.field("Date").ends_with(" GMT"));
    CHECK(posted.field("Server").empty());
    CHECK(posted.field("Connection").empty());
    CHECK(posted.field("Keep-Alive").empty());
  }
  const ClientAnswer got = client.ask(get_request("/visits/home?x=1"));
  CHECK(got.status == 200);
  CHECK(got.body == R"({"count":3,"served_via":"in-memory"})");
  CHECK(got.field("Cache-Control") == "no-store");
  CHECK(got.field("Cache-Status") == "visitd; hit; ttl=3");
  CHECK(client.ask(get_request("/")).body == R"({"status":"healthy"})");
  CHECK(server.statistics().requests == 5);
  CHECK(server.statistics().connections_accepted == 1);
}

TEST_CASE_TEMPLATE("a visit that asks for the count is answered with one that includes it", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  CHECK(client.ask(post_request("/visit/home?country=no")).body == success_home);
  const ClientAnswer counted = client.ask(post_request("/visit/home?a=b&count"));
  CHECK(counted.status == 200);
  CHECK(counted.body == R"({"status":"success","message":"Visit recorded for page home","count":2})");
  CHECK(counted.field("Cache-Control") == "no-store");
  CHECK(counted.field("Cache-Status") == "visitd; hit; ttl=3");
  CHECK(client.ask(post_request("/visit/missed?count=1")).body ==
        R"({"status":"success","message":"Visit recorded for page missed","count":9})");
  // The visit is counted, whatever becomes of the count.
  const ClientAnswer unknown = client.ask(post_request("/visit/unknown?count"));
  CHECK(unknown.status == 200);
  CHECK(unknown.body == R"({"status":"success","message":"Visit recorded for page unknown","count":null})");
  CHECK(unknown.field("Cache-Status").empty());
  CHECK(server.counter.count("unknown") == 1);
  server.counter.recorded = Recorded::full;
  CHECK(client.ask(post_request("/visit/home?count")).status == 503);
}

TEST_CASE_TEMPLATE("a visit that is parked for its count is recorded once", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  server.counter.parks = true;
  TestClient client(server.port());
  client.send(post_request("/visit/slow?count", "Content-Length: 4\r\n", "body"));
  CHECK(comes_true([&] { return server.statistics().reads_parked == 1; }));
  for (int i = 0; i < 3; ++i) server.run([](EventLoopServer& inner) { inner.look_at_parked(); });
  CHECK(server.counter.count("slow") == 1);
  server.counter.parks = false;
  CHECK(client.receive().body == R"({"status":"success","message":"Visit recorded for page slow","count":1})");
  CHECK(client.ask(get_request("/visits/slow")).body == R"({"count":1,"served_via":"in-memory"})");
}

TEST_CASE_TEMPLATE("the routes are served below the prefix too, and without it when it is empty", Way, Direct,
                   Httplib) {
  Settings settings = test_settings(Way::way);
  {
    TestServer server(settings);
    TestClient client(server.port());
    CHECK(client.ask(post_request("/api/v1/counter/visit/home")).body == success_home);
    CHECK(client.ask(get_request("/api/v1/counter/visits/home")).body == R"({"count":1,"served_via":"in-memory"})");
    CHECK(client.ask(get_request("/api/v1/counter/")).body == R"({"status":"healthy"})");
    CHECK(client.ask(get_request("/api/v1/counter")).body == R"({"status":"healthy"})");
    CHECK(client.ask(get_request("/api/v1/counters")).status == 404);
    CHECK(client.ask(get_request("/api/v1")).status == 404);
  }
  settings.http.api_prefix = "";
  TestServer server(settings);
  TestClient client(server.port());
  CHECK(client.ask(post_request("/visit/home")).status == 200);
  CHECK(client.ask(post_request("/api/v1/counter/visit/home")).status == 404);
}

TEST_CASE_TEMPLATE("paths of the settings lead where those of the table do, which stay", Way, Direct, Httplib) {
  Settings settings = test_settings(Way::way);
  settings.http.script_path = "/s.js";
  settings.http.visit_path = "/v/";
  TestServer server(settings);
  TestClient client(server.port());
  for (const char* path : {"/v/home", "/visit/home", "/api/v1/counter/v/home"}) {
    CAPTURE(path);
    CHECK(client.ask(post_request(path)).body == success_home);
  }
  CHECK(client.ask(post_request("/v/a%2Fb/c")).body.find("page a/b/c") != std::string::npos);
  const ClientAnswer wrong = client.ask(get_request("/v/home"));
  CHECK(wrong.status == 405);
  CHECK(wrong.field("Allow") == "POST, OPTIONS");
  const std::string script = client.ask(get_request("/count.js")).body;
  CHECK(!script.empty());
  for (const char* path : {"/s.js", "/s.1.js", "/count.1.js", "/api/v1/counter/s.js"}) {
    CAPTURE(path);
    const ClientAnswer answer = client.ask(get_request(path));
    CHECK(answer.body == script);
    CHECK(answer.field("Content-Type") == "text/javascript; charset=utf-8");
    const bool is_version = std::string_view(path).ends_with(".1.js");
    CHECK(answer.field("Cache-Control") ==
          (is_version ? "public, max-age=31536000, immutable" : "public, max-age=86400"));
  }
  for (const char* path : {"/s.2.js", "/s.jsx", "/s", "/v", "/s.js/x"}) {
    CAPTURE(path);
    CHECK(client.ask(get_request(path)).status == 404);
  }
}

TEST_CASE_TEMPLATE("a visit counts whatever the body, and before it has come", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  const std::string form = "a=" + std::string(20000, 'x');
  CHECK(client.ask(post_request("/visit/home")).status == 200);
  CHECK(client.ask(post_request("/visit/home", "Content-Length: 0\r\n")).status == 200);
  CHECK(
      client.ask(post_request("/visit/home", "Content-Type: text/plain;charset=UTF-8\r\nContent-Length: 4\r\n", "home"))
          .status == 200);
  CHECK(client.ask(post_request("/visit/home", "Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n")).status ==
        200);
  CHECK(client
            .ask(post_request("/visit/home",
                              "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: " +
                                  std::to_string(form.size()) + "\r\n",
                              form))
            .status == 200);
  CHECK(client
            .ask(post_request("/visit/home", "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9\r\n",
                              "--b--\r\n\r\n"))
            .status == 200);
  CHECK(server.counter.count("home") == 6);
  // Announced, and never sent.
  CHECK(client.ask(post_request("/visit/home", "Content-Length: 100\r\n", "begin")).status == 200);
  CHECK(server.counter.count("home") == 7);
  client.send(std::string(95, 'x'));
  CHECK(client.ask(get_request("/visits/home")).body == R"({"count":7,"served_via":"in-memory"})");
}

TEST_CASE_TEMPLATE("who expects 100 gets it, and may then send the body", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  CHECK(client.ask(post_request("/visit/home", "Expect: 100-continue\r\nContent-Length: 3\r\n")).status == 100);
  CHECK(client.receive().status == 200);
  client.send("abc");
  CHECK(client.ask(get_request("/")).status == 200);
}

TEST_CASE_TEMPLATE("pipelined requests are answered in order, a parked read in the middle", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  server.counter.parks = true;
  client.send(post_request("/visit/home") + get_request("/visits/slow") + post_request("/visit/home") +
              get_request("/visits/home"));
  CHECK(client.receive().body == success_home);
  CHECK_FALSE(client.hears_within(100));
  CHECK(server.counter.count("home") == 1);
  CHECK(server.statistics().reads_parked == 1);
  CHECK(server.counter.reads > 1);
  server.counter.parks = false;
  CHECK(client.receive().body == R"({"count":0,"served_via":"in-memory"})");
  CHECK(client.receive().body == success_home);
  CHECK(client.receive().body == R"({"count":2,"served_via":"in-memory"})");
}

TEST_CASE_TEMPLATE("parked reads hold up nobody else, and are answered when woken", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  server.counter.parks = true;
  std::vector<std::unique_ptr<TestClient>> parked;
  for (int i = 0; i < 50; ++i) {
    parked.push_back(std::make_unique<TestClient>(server.port()));
    parked.back()->send(get_request("/visits/slow" + std::to_string(i)));
  }
  CHECK(comes_true([&] { return server.statistics().reads_parked == 50; }));
  parked.front()->send(get_request("/"));
  TestClient other(server.port());
  CHECK(other.ask(post_request("/visit/home")).status == 200);
  server.counter.parks = false;
  server.run([](EventLoopServer& inner) { inner.look_at_parked(); });
  for (const auto& client : parked) CHECK(client->receive().body == R"({"count":0,"served_via":"in-memory"})");
  CHECK(parked.front()->receive().body == R"({"status":"healthy"})");
}

TEST_CASE_TEMPLATE("a parked list reads no page twice that it knows, and none while nothing concerns it", Way, Direct,
                   Httplib) {
  TestServer server(test_settings(Way::way));
  server.counter.parks = true;
  server.counter.concerned = false;
  TestClient client(server.port());
  client.send(post_request("/visits/query", "Content-Length: 24\r\n", R"(["a","b","slow","c","d"])"));
  CHECK(comes_true([&] { return server.statistics().reads_parked == 1; }));
  const std::uint64_t reads = server.counter.reads;
  CHECK(reads == 3);
  for (int i = 0; i < 20; ++i) server.run([](EventLoopServer& inner) { inner.look_at_parked(); });
  CHECK(server.counter.reads == reads);
  server.counter.parks = false;
  server.counter.concerned = true;
  server.run([](EventLoopServer& inner) { inner.look_at_parked(); });
  CHECK(client.receive().body == R"({"counts":{"a":0,"b":0,"slow":0,"c":0,"d":0}})");
  CHECK(server.counter.reads == reads + 3);
}

TEST_CASE_TEMPLATE("HEAD of the metrics renders none, and claims no length", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  client.send("HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
  const ClientAnswer answer = client.receive(true);
  CHECK(answer.status == 200);
  CHECK(answer.field("Content-Length").empty());
  CHECK(client.ask(get_request("/")).status == 200);
}

TEST_CASE_TEMPLATE("a client that sends nothing, half a head or half a body holds up no other", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient silent(server.port());
  TestClient half_head(server.port());
  half_head.send("GET / HTTP/1.1\r\nHos");
  TestClient half_body(server.port());
  half_body.send(post_request("/visit/home", "Content-Length: 10\r\n", "123"));
  TestClient other(server.port());
  for (int i = 0; i < 100; ++i) CHECK(other.ask(post_request("/visit/home")).status == 200);
  half_head.send("t: a\r\n\r\n");
  CHECK(half_head.receive().body == R"({"status":"healthy"})");
}

TEST_CASE_TEMPLATE("a client that does not read is not read from, and loses nothing", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient greedy(server.port(), 4096);
  constexpr int requests = 60000;
  std::string all;
  for (int i = 0; i < requests; ++i) all += get_request("/visits/home");
  std::thread sender([&] { greedy.send(all); });
  TestClient other(server.port());
  CHECK(comes_true([&] {
    const std::uint64_t before = server.statistics().requests;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    return server.statistics().requests == before;
  }));
  CHECK(server.statistics().requests < requests);
  CHECK(other.ask(get_request("/")).status == 200);
  int answers = 0;
  while (answers < requests && greedy.receive().status == 200) ++answers;
  sender.join();
  CHECK(answers == requests);
}

TEST_CASE_TEMPLATE("HEAD is GET without the body", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  for (const std::string path : {"/", "/visits/home", "/visits/unknown", "/nowhere", "/visits/%zz"}) {
    CAPTURE(path);
    const ClientAnswer got = client.ask(get_request(path));
    client.send("HEAD " + path + " HTTP/1.1\r\nHost: a\r\n\r\n");
    const ClientAnswer head = client.receive(true);
    CHECK(head.status == got.status);
    CHECK(head.field("Content-Length") == std::to_string(got.body.size()));
    CHECK(head.field("Content-Type") == got.field("Content-Type"));
    CHECK(head.field("Accept-Ranges").empty());
  }
}

TEST_CASE_TEMPLATE("unknown paths are 404, wrong methods 405 with Allow", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  for (const char* path : {"/nowhere", "/visit", "/visit%2Fa", "/visiting/a", "/livez/x", "//visit/a", "//", "/-",
                           "/Visit/a", "/%76isit/a"}) {
    CAPTURE(path);
    check_problem(client.ask(post_request(path)), 404, "there is nothing at this path", "path");
  }
  const auto check_wrong = [&](const std::string& method, const std::string& path, const std::string& allow) {
    CAPTURE(method);
    const ClientAnswer answer = client.ask(method + " " + path + " HTTP/1.1\r\nHost: a\r\n\r\n");
    check_problem(answer, 405, "the Allow field lists the methods of this path", "method");
    CHECK(answer.field("Allow") == allow);
  };
  check_wrong("GET", "/visit/home", "POST, OPTIONS");
  check_wrong("POST", "/visits/home", "GET, HEAD, PUT, DELETE, OPTIONS");
  check_wrong("PATCH", "/visits/query", "GET, HEAD, POST, PUT, DELETE, OPTIONS");
  check_wrong("DELETE", "/visit/home", "POST, OPTIONS");
  check_wrong("BREW", "/visit/home", "POST, OPTIONS");
  check_wrong("POST", "/", "GET, HEAD, OPTIONS");
  check_wrong("PUT", "/visits", "GET, HEAD, POST, OPTIONS");
  check_wrong("POST", "/metrics", "GET, HEAD, OPTIONS");
  CHECK(server.counter.count("home") == 0);
}

TEST_CASE_TEMPLATE("the body of a refused method is not taken for a request", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  const std::string inner = post_request("/visit/smuggled");
  client.send("PATCH /visits/a HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(inner.size()) + "\r\n\r\n" +
              inner);
  CHECK(client.receive().status == 405);
  CHECK(client.ask(get_request("/")).status == 200);
  CHECK(server.counter.count("smuggled") == 0);
}

TEST_CASE_TEMPLATE("an answer to another origin names it, with credentials, and shows its fields", Way, Direct,
                   Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  for (const std::string origin : {"https://o.example", "http://localhost:3000", "null"}) {
    const std::string fields = "Origin: " + origin + "\r\n";
    for (const std::string& request :
         {post_request("/visit/home", fields), get_request("/visits/home", fields), get_request("/", fields),
          get_request("/nowhere", fields), post_request("/visits", fields + "Content-Length: 3\r\n", "[1]"),
          get_request("/docs", fields)}) {
      CAPTURE(request);
      const ClientAnswer answer = client.ask(request);
      CHECK(answer.field("Access-Control-Allow-Origin") == origin);
      CHECK(answer.field("Access-Control-Allow-Credentials") == "true");
      CHECK(answer.field("Access-Control-Expose-Headers") ==
            "Cache-Status, Retry-After, RateLimit, RateLimit-Policy, Date");
      CHECK(answer.field("Vary") == "Origin");
      CHECK(answer.field("Set-Cookie").empty());
    }
  }
  const ClientAnswer same_origin = client.ask(post_request("/visit/home"));
  CHECK(same_origin.field("Access-Control-Allow-Origin") == "*");
  CHECK(same_origin.field("Access-Control-Allow-Credentials").empty());
  CHECK(same_origin.field("Access-Control-Expose-Headers").empty());
  CHECK(same_origin.field("Vary") == "Origin");
}

TEST_CASE("a page of another origin may read why its request was refused before a route had it") {
  Settings settings = test_settings(HotRoutes::direct);
  settings.http.body_limit_bytes = 10;
  TestServer server(settings);
  const std::string fields = "Origin: https://o.example\r\n";
  for (const std::string& request : {post_request("/visits", fields + "Content-Length: 11\r\n"),
                                     post_request("/visits", fields + "Transfer-Encoding: chunked\r\n", "b\r\n"),
                                     post_request("/visit/home", fields + "Content-Encoding: gzip\r\n")}) {
    CAPTURE(request);
    const ClientAnswer answer = TestClient(server.port()).ask(request);
    CHECK(answer.status >= 413);
    CHECK(answer.field("Access-Control-Allow-Origin") == "https://o.example");
  }
  // In pieces: what was read of the head has left the place where it came.
  TestClient slow(server.port());
  slow.send(post_request("/visits", fields + "Transfer-Encoding: chunked\r\n", "1\r\n"));
  CHECK_FALSE(slow.hears_within(50));
  CHECK(slow.ask("[\r\nb\r\n").field("Access-Control-Allow-Origin") == "https://o.example");
}

std::string preflight(const std::string& path, const std::string& fields) {
  return "OPTIONS " + path + " HTTP/1.1\r\nHost: a\r\nAccess-Control-Request-Method: POST\r\n" + fields + "\r\n";
}

TEST_CASE_TEMPLATE("preflights are answered for every origin by default", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  const std::string origin = "Origin: https://o.example\r\n";
  for (const std::string path : {"/visit/home", "/visits/home", "/", "/api/v1/counter/visit/home", "/nowhere"}) {
    CAPTURE(path);
    const ClientAnswer answer = client.ask(preflight(path, origin));
    CHECK(answer.status == 204);
    CHECK(answer.field("Access-Control-Allow-Origin") == "https://o.example");
    CHECK(answer.field("Access-Control-Allow-Credentials") == "true");
    CHECK(answer.field("Access-Control-Allow-Headers") == "*");
    CHECK_FALSE(answer.field("Access-Control-Allow-Methods").empty());
    CHECK_FALSE(answer.field("Access-Control-Max-Age").empty());
    CHECK(answer.field("Content-Length").empty());
  }
  // With credentials "*" would name one header of that name.
  const std::string asked = origin + "access-control-request-headers:  content-type,x-a \r\n";
  CHECK(client.ask(preflight("/visit/home", asked)).field("Access-Control-Allow-Headers") == "content-type,x-a");
  const std::string long_one = origin + "Access-Control-Request-Headers: " + std::string(7000, 'x') + "\r\n";
  CHECK(client.ask(preflight("/visit/home", long_one)).field("Access-Control-Allow-Headers").size() == 7000);
  CHECK(client.ask("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").field("Allow") == "GET, HEAD, POST, PUT, DELETE, OPTIONS");
  CHECK(client.ask("OPTIONS /visit/a HTTP/1.1\r\nHost: a\r\n\r\n").field("Allow") == "POST, OPTIONS");
  CHECK(client.ask("OPTIONS /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").status == 404);
}

TEST_CASE_TEMPLATE("narrowed CORS names the origin to its own, and says that it varies", Way, Direct, Httplib) {
  Settings settings = test_settings(Way::way);
  settings.http.cors_origins = {"https://a.example", "https://b.example"};
  TestServer server(settings);
  TestClient client(server.port());
  const ClientAnswer friendly = client.ask(get_request("/visits/home", "Origin: https://b.example\r\n"));
  CHECK(friendly.field("Access-Control-Allow-Origin") == "https://b.example");
  CHECK(friendly.field("Access-Control-Allow-Credentials") == "true");
  CHECK(friendly.field("Vary") == "Origin");
  for (const std::string& request : {get_request("/visits/home", "Origin: https://c.example\r\n"),
                                     preflight("/visits/home", "Origin: https://c.example\r\n")}) {
    const ClientAnswer stranger = client.ask(request);
    CHECK(stranger.status < 300);
    CHECK(stranger.head.find("Access-Control-") == std::string::npos);
    CHECK(stranger.field("Vary") == "Origin");
  }
  CHECK(client.ask(get_request("/visits/home")).field("Access-Control-Allow-Origin").empty());
}

TEST_CASE_TEMPLATE("only an origin that the settings name may reach a private network through browsers", Way, Direct,
                   Httplib) {
  Settings settings = test_settings(Way::way);
  const std::string from_b = "Origin: https://b.example\r\n";
  const std::string asks = "Access-Control-Request-Private-Network: true\r\n";
  {
    TestServer server(settings);
    TestClient client(server.port());
    CHECK(client.ask(preflight("/visit/home", from_b + asks)).field("Access-Control-Allow-Private-Network").empty());
  }
  settings.http.cors_origins = {"https://b.example"};
  TestServer server(settings);
  TestClient client(server.port());
  CHECK(client.ask(preflight("/visit/home", from_b + asks)).field("Access-Control-Allow-Private-Network") == "true");
  CHECK(client.ask(preflight("/visit/home", from_b)).field("Access-Control-Allow-Private-Network").empty());
  CHECK(client.ask(preflight("/visit/home", "Origin: https://c.example\r\n" + asks))
            .field("Access-Control-Allow-Private-Network")
            .empty());
}

TEST_CASE_TEMPLATE("a head may be as long as logins make it, in one field or in many", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  const std::string cookie = "Cookie: login=" + std::string(12UL << 10U, 'c') + "\r\n";
  CHECK(client.ask(post_request("/visit/home", cookie)).status == 200);
  CHECK(client.ask(get_request("/visits/home", cookie)).status == 200);
  CHECK(client.ask(get_request("/docs", cookie)).status == 200);
  CHECK(client.ask(preflight("/visit/home", "Origin: https://o.example\r\n" + cookie)).status == 204);
  // Around the longest line that cpp-httplib takes.
  for (std::size_t size = 8180; size < 8200; ++size) {
    CAPTURE(size);
    CHECK(client.ask(get_request("/", "X: " + std::string(size, 'x') + "\r\n")).status == 200);
  }
  const std::string fields = "Host: a\r\nCookie: ";
  const std::string before = "POST /visit/home HTTP/1.1\r\n" + fields;
  const std::string whole = before + std::string(32768 - before.size() - 4, 'c') + "\r\n\r\n";
  REQUIRE(whole.size() == 32768);
  CHECK(client.ask(whole).status == 200);
  CHECK(server.counter.count("home") == 2);
  check_problem(client.ask(before + std::string(32768 - before.size() - 3, 'c') + "\r\n\r\n"), 431,
                "the header fields need more than the 32768 bytes that http.head_limit_bytes allows a head",
                "header fields");
}

TEST_CASE_TEMPLATE("page ids are decoded once, and the rule that one breaks is named", Way, Direct, Httplib) {
  Settings settings = test_settings(Way::way);
  settings.pages.page_id_limit_bytes = 255;
  TestServer server(settings);
  TestClient client(server.port());
  CHECK(client.ask(post_request("/visit/a%2Fb")).body ==
        R"({"status":"success","message":"Visit recorded for page a/b"})");
  CHECK(server.counter.count("a/b") == 1);
  CHECK(client.ask(post_request("/visit/%252F")).status == 200);
  CHECK(server.counter.count("%2F") == 1);
  const std::string quoted = client.ask(post_request("/visit/%22%5C%C3%BC")).body;
  CHECK(nlohmann::json::parse(quoted).at("message") == "Visit recorded for page \"\\\xC3\xBC");
  CHECK(client.ask(post_request("/visit/" + std::string(255, 'x'))).status == 200);
  for (const auto& [id, detail] : std::vector<std::pair<std::string, std::string>>{
           {"", "the page id is empty"},
           {std::string(256, 'x'), "the page id has 256 bytes; pages.page_id_limit_bytes allows 255"},
           {"%FF", "the page id is not valid UTF-8"},
           {"%00", "the page id contains a control character"},
           {"a%0D%0Ab", "the page id contains a control character"},
           {"%zz", "invalid percent-encoding"},
           {"%2", "invalid percent-encoding"}}) {
    CAPTURE(id);
    check_problem(client.ask(post_request("/visit/" + id)), 400, detail, "page_id");
    check_problem(client.ask(get_request("/visits/" + id)), 400, detail, "page_id");
  }
}

TEST_CASE_TEMPLATE("the page is the rest of the path, with its slashes", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  struct Named {
    std::string target;  ///< behind "visit/" or "visits/"
    std::string page;
  };
  for (const Named& named : {Named{"blog/2024/x", "blog/2024/x"},
                             {"blog%2F2024%2Fx", "blog/2024/x"},
                             {"blog/2024%2Fx?from=a/b", "blog/2024/x"},
                             {"a//b/", "a//b/"},
                             {"/", "/"},
                             {"//", "//"},
                             {"/a", "/a"},
                             {"a/", "a/"},
                             {"a/../b", "a/../b"},
                             {"%252F/%2f", "%2F//"},
                             {"query/", "query/"},
                             {"query/more", "query/more"},
                             {"visit/a", "visit/a"}}) {
    for (const std::string start : {"/", "/api/v1/counter/", "http://a/", "https://a:8000/api/v1/counter/"}) {
      const std::string target = start + "visit/" + named.target;
      CAPTURE(target);
      const std::uint64_t before = server.counter.count(named.page);
      CHECK(client.ask(post_request(target)).body ==
            R"({"status":"success","message":"Visit recorded for page )" + named.page + "\"}");
      CHECK(server.counter.count(named.page) == before + 1);
      CHECK(client.ask(get_request(start + "visits/" + named.target)).body ==
            fmt::format(R"({{"count":{},"served_via":"in-memory"}})", before + 1));
    }
  }
  CHECK(client.ask("OPTIONS /visit/a/b/ HTTP/1.1\r\nHost: a\r\n\r\n").field("Allow") == "POST, OPTIONS");
  CHECK(client.ask("OPTIONS /visits/a/b/ HTTP/1.1\r\nHost: a\r\n\r\n").field("Allow") ==
        "GET, HEAD, PUT, DELETE, OPTIONS");
  CHECK(client.ask(post_request("/visits/query/")).status == 405);
}

TEST_CASE_TEMPLATE("a limit that refuses names itself, its setting, and how much was sent", Way, Direct, Httplib) {
  Settings settings = test_settings(Way::way);
  settings.http.head_limit_bytes = 4096;
  settings.http.target_limit_bytes = 1000;
  settings.http.header_limit = 8;
  settings.http.body_limit_bytes = 64;
  settings.http.batch_read_limit = 2;
  settings.pages.page_id_limit_bytes = 255;
  TestServer server(settings);
  const auto check = [&](const std::string& request, int status, const std::string& detail,
                         const std::string& parameter) {
    check_problem(TestClient(server.port()).ask(request), status, detail, parameter);
  };
  check(get_request("/visits/" + std::string(993, 'x')), 414,
        "the request target has 1001 bytes; http.target_limit_bytes allows 1000", "request target");
  check("GET /visits/" + std::string(5000, 'x'), 414,
        "the request line needs more than the 4096 bytes that http.head_limit_bytes allows a head", "request target");
  check(get_request("/", "X: " + std::string(5000, 'x') + "\r\n"), 431,
        "the header fields need more than the 4096 bytes that http.head_limit_bytes allows a head", "header fields");
  check(get_request("/", "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\nF: 6\r\nG: 7\r\nI: 8\r\n"), 431,
        "there are more header fields than the 8 that http.header_limit allows", "header fields");
  for (const char* path : {"/visits", "/visit/home"}) {
    CAPTURE(path);
    check(post_request(path, "Content-Length: 70\r\n"), 413, "the body has 70 bytes; http.body_limit_bytes allows 64",
          "body");
  }
  check(post_request("/visits", "Transfer-Encoding: chunked\r\n") + "20\r\n" + std::string(32, ' ') + "\r\n21\r\n", 413,
        "the body has more than the 64 bytes that http.body_limit_bytes allows", "body");
  check(get_request("/visits?page=a&page=b&page=c"), 400,
        "more pages are named than the 2 that http.batch_read_limit allows", "page");
  check(get_request("/visits?page=a&page=" + std::string(256, 'x')), 400,
        "the page id has 256 bytes; pages.page_id_limit_bytes allows 255", "page");
  server.counter.recorded = Recorded::full;
  check(
      post_request("/visit/home"), 503,
      fmt::format("visits come faster than they can be stored, and fill the {} bytes of ring.lane_bytes; this one was "
                  "not counted",
                  settings.ring.lane_bytes),
      "");
}

TEST_CASE_TEMPLATE("what cannot be counted or known now is 503 with Retry-After", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  for (const Recorded recorded : {Recorded::full, Recorded::closed}) {
    server.counter.recorded = recorded;
    const ClientAnswer answer = client.ask(post_request("/visit/home"));
    CHECK(answer.status == 503);
    CHECK(answer.field("Retry-After") == "2");
  }
  const ClientAnswer unknown = client.ask(get_request("/visits/unknown"));
  check_problem(unknown, 503, "redis_7070 cannot be asked", "");
  CHECK(unknown.field("Retry-After") == "2");
  CHECK(unknown.field("Cache-Control") == "no-store");
}

TEST_CASE_TEMPLATE("Cache-Status says where a count came from", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  const ClientAnswer missed = client.ask(get_request("/visits/missed"));
  CHECK(missed.body == R"({"count":9,"served_via":"redis_7070"})");
  CHECK(missed.field("Cache-Status") == "visitd; fwd=miss; detail=redis_7070");
  CHECK(client.ask(get_request("/visits/odd")).field("Cache-Status") == "visitd; fwd=miss; detail=\"7 of 9\"");
  const ClientAnswer stale = client.ask(get_request("/visits/stale"));
  CHECK(stale.body == R"({"count":7,"served_via":"in-memory"})");
  CHECK(stale.field("Cache-Status") == "visitd; hit; ttl=-4");
}

TEST_CASE_TEMPLATE("refused requests are answered and end the connection", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  const auto check_refused = [&](const std::string& bytes, int status) {
    CAPTURE(bytes);
    TestClient client(server.port());
    const ClientAnswer answer = client.ask(bytes + std::string(100000, 'x'));
    CHECK(answer.status == status);
    CHECK(answer.field("Connection") == "close");
    CHECK(answer.field("Content-Type") == "application/problem+json");
    CHECK(client.ends());
  };
  check_refused("GET / HTTP/1.1\r\n\r\n", 400);
  check_refused(post_request("/visit/home", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"), 400);
  check_refused(post_request("/visit/home", "Content-Length: 2000000\r\n"), 413);
  check_refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505);
  check_refused("GET /" + std::string(9000, 'x'), 414);
  check_refused(get_request("/" + std::string(5000, 'x')), 414);
  check_refused(post_request("/visit/home", "Content-Encoding: gzip\r\n"), 415);
  check_refused(get_request("/", "X: " + std::string(9000, 'x')), 431);
  check_refused(get_request("/", "Expect: a-pony\r\n"), 417);
  CHECK(server.counter.count("home") == 0);
  const RefusalCounts refusals = server.refusals();
  CHECK(refusals[static_cast<std::size_t>(Refusal::host_missing)] == 1);
  CHECK(refusals[static_cast<std::size_t>(Refusal::length_ambiguous)] == 1);
  CHECK(server.statistics().requests == 0);
}

TEST_CASE_TEMPLATE("a body that turns out malformed ends the connection after the one answer", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  CHECK(client.ask(post_request("/visit/home", "Transfer-Encoding: chunked\r\n", "zz\r\n" + get_request("/"))).status ==
        200);
  CHECK(client.ends());
}

TEST_CASE_TEMPLATE("the connection ends when the client asks, and HTTP/1.0 is kept only when it asks", Way, Direct,
                   Httplib) {
  TestServer server(test_settings(Way::way));
  {
    TestClient client(server.port());
    CHECK(client.ask(get_request("/", "Connection: close\r\n") + get_request("/")).field("Connection") == "close");
    CHECK(client.ends());
  }
  {
    TestClient client(server.port());
    CHECK(client.ask(post_request("/visit/home", "Connection: close\r\nContent-Length: 3\r\n", "abc"))
              .field("Connection") == "close");
    CHECK(client.ends());
  }
  {
    TestClient client(server.port());
    CHECK(client.ask("GET /visits/home HTTP/1.0\r\n\r\n").field("Connection") == "close");
    CHECK(client.ends());
  }
  TestClient client(server.port());
  CHECK(client.ask("GET /visits/home HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").field("Connection") == "keep-alive");
  CHECK(client.ask("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").field("Connection") == "keep-alive");
  client.send(get_request("/"));
  client.shut_sending();
  CHECK(client.receive().status == 200);
  CHECK(client.ends());
}

TEST_CASE_TEMPLATE("who keeps silent in a head, in a body or between requests is disconnected", Way, Direct, Httplib) {
  Settings settings = test_settings(Way::way);
  settings.http.head_timeout_ms = 1600;
  settings.http.body_timeout_ms = 1650;
  settings.http.idle_timeout_ms = 1700;
  TestServer server(settings);
  TestClient idle(server.port());
  TestClient head(server.port());
  TestClient body(server.port());
  head.send("GET /");
  CHECK(body.ask(post_request("/visit/home", "Content-Length: 5\r\n")).status == 200);
  // Progress does not move a deadline.
  for (int i = 0; i < 3; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    head.send("x");
    body.send("x");
  }
  CHECK(head.ends());
  CHECK(body.ends());
  CHECK(idle.ends());
  CHECK(server.statistics().connections_timed_out == 2);
}

TEST_CASE_TEMPLATE("when full, the connection that is idle longest makes room", Way, Direct, Httplib) {
  Settings settings = test_settings(Way::way);
  settings.http.connection_limit = 3;
  TestServer server(settings);
  TestClient first(server.port());
  TestClient second(server.port());
  TestClient third(server.port());
  for (TestClient* client : {&first, &second, &third, &first}) CHECK(client->ask(get_request("/")).status == 200);
  TestClient fourth(server.port());
  CHECK(fourth.ask(get_request("/")).status == 200);
  CHECK(second.ends());
  CHECK(first.ask(get_request("/")).status == 200);
  CHECK(third.ask(get_request("/")).status == 200);
  CHECK(server.statistics().connections_evicted == 1);
  CHECK(server.statistics().connections_open == 3);
}

TEST_CASE_TEMPLATE("a stopping server closes what is idle and answers what was sent", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  server.counter.parks = true;
  TestClient idle(server.port());
  TestClient parked(server.port());
  TestClient half(server.port());
  CHECK(idle.ask(get_request("/")).status == 200);
  parked.send(get_request("/visits/slow"));
  half.send("GET / HTTP/1.1\r\nHost:");
  CHECK(comes_true([&] { return server.statistics().reads_parked == 1; }));
  std::future<void> ended = server.stop();
  CHECK(idle.ends());
  CHECK_THROWS(TestClient(server.port()));
  CHECK(half.ask(" a\r\n\r\n").field("Connection") == "close");
  server.counter.parks = false;
  // It was read before the stop, and nothing was said of the connection yet.
  CHECK(parked.receive().field("Connection") == "close");
  CHECK(parked.ends());
  CHECK(ended.wait_for(std::chrono::seconds(30)) == std::future_status::ready);
}

TEST_CASE_TEMPLATE("a stopping server waits no longer than it may", Way, Direct, Httplib) {
  Settings settings = test_settings(Way::way);
  settings.http.stop_timeout_ms = 200;
  TestServer server(settings);
  TestClient half(server.port());
  half.send("GET / HTTP/1.1\r\nHost:");
  TestClient after(server.port());
  CHECK(after.ask(get_request("/")).status == 200);
  std::future<void> ended = server.stop();
  CHECK(ended.wait_for(std::chrono::seconds(30)) == std::future_status::ready);
  CHECK(half.ends());
}

/// A POST with a body, whole or in chunks.
std::string post_body(const std::string& path, const std::string& body, bool chunked = false) {
  if (!chunked) return post_request(path, "Content-Length: " + std::to_string(body.size()) + "\r\n") + body;
  std::string request = post_request(path, "Transfer-Encoding: chunked\r\n");
  for (std::size_t at = 0; at < body.size(); at += 7) {
    const std::string part = body.substr(at, 7);
    request += std::to_string(part.size()) + ";x=y\r\n" + part + "\r\n";
  }
  return request + "0\r\nX: y\r\n\r\n";
}

TEST_CASE_TEMPLATE("many visits are recorded from one body, and counts of many pages are read at once", Way, Direct,
                   Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  for (const bool chunked : {false, true}) {
    const ClientAnswer answer = client.ask(post_body("/visits", R"(["a","b","a"])", chunked));
    CHECK(answer.status == 200);
    CHECK(answer.body == R"({"status":"success","entries":3,"visits":3})");
  }
  CHECK(client.ask(post_body("/visits", R"({"a":10,"c":5})")).body ==
        R"({"status":"success","entries":2,"visits":15})");
  CHECK(client.ask(post_body("/api/v1/counter/visits", "\"a\"\n\"b\"\n", true)).body ==
        R"({"status":"success","entries":2,"visits":2})");
  const ClientAnswer read = client.ask(get_request("/visits?page=b&page=a&page=never&page=b"));
  CHECK(read.body == R"({"counts":{"b":3,"a":15,"never":0}})");
  CHECK(read.field("Cache-Control") == "no-store");
  CHECK(read.field("Cache-Status") == "visitd; hit; ttl=3");
  CHECK(client.ask(post_body("/visits/query", R"(["c","\"\\"])")).body == R"({"counts":{"c":5,"\"\\":0}})");
  CHECK(client.ask(get_request("/visits?page=a&page=missed")).field("Cache-Status") == "visitd; hit; ttl=3");
  CHECK(client.ask(get_request("/visits?page=missed")).field("Cache-Status") == "visitd; fwd=miss; detail=redis_7070");
  CHECK(client.ask(get_request("/visits?page=a&page=stale")).field("Cache-Status") == "visitd; hit; ttl=-4");
  CHECK(client.ask(get_request("/visits/query")).body == R"({"count":0,"served_via":"in-memory"})");
}

TEST_CASE_TEMPLATE("a body with a wrong entry is refused as a whole, and says which", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  const ClientAnswer answer = client.ask(post_body("/visits", R"(["a","b",""])"));
  check_problem(answer, 400, "the page id is empty", "page_id");
  CHECK(nlohmann::json::parse(answer.body).at("entry") == 2);
  CHECK(client.ask(post_body("/visits", R"({"a":1,"b":0})")).status == 400);
  CHECK(client.ask(post_body("/visits", "[\"a\"")).status == 400);
  CHECK(client.ask(post_request("/visits")).status == 400);
  CHECK(server.counter.count("a") == 0);
  CHECK(client.ask(get_request("/visits?page=a&page=")).status == 400);
  check_problem(client.ask(get_request("/visits?page=a&page=unknown")), 503, "redis_7070 cannot be asked", "unknown");
  check_problem(client.ask(get_request("/visits?size=3")), 400, "the one parameter known here is page", "query");
  CHECK(server.refusals()[static_cast<std::size_t>(Refusal::count_unknown)] == 1);
  CHECK(server.refusals()[static_cast<std::size_t>(Refusal::invalid_page_id)] == 2);
}

TEST_CASE_TEMPLATE("a lane that fills midway says how many entries were recorded", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  server.counter.room = 2;
  TestClient client(server.port());
  const ClientAnswer answer = client.ask(post_body("/visits", R"(["a","b","c","d"])"));
  CHECK(answer.status == 503);
  CHECK(answer.field("Retry-After") == "2");
  const auto problem = nlohmann::json::parse(answer.body);
  CHECK(problem.at("type") == "urn:visitd:problem:lane-full");
  CHECK(problem.at("recorded") == 2);
  CHECK(server.counter.count("b") == 1);
  CHECK(server.counter.count("c") == 0);
}

TEST_CASE_TEMPLATE("bodies are read between pipelined requests, in order", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  client.send(get_request("/visits/a") + post_body("/visits", R"(["a"])", true) + get_request("/visits/a") +
              post_body("/visits/query", R"(["a"])") + post_body("/visit/a", "ignored") + get_request("/visits/a"));
  CHECK(client.receive().body == R"({"count":0,"served_via":"in-memory"})");
  CHECK(client.receive().body == R"({"status":"success","entries":1,"visits":1})");
  CHECK(client.receive().body == R"({"count":1,"served_via":"in-memory"})");
  CHECK(client.receive().body == R"({"counts":{"a":1}})");
  CHECK(client.receive().status == 200);
  CHECK(client.receive().body == R"({"count":2,"served_via":"in-memory"})");
}

TEST_CASE_TEMPLATE("a body that comes byte by byte is read as a whole, and 100 is said to who waits for it", Way,
                   Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  client.send(post_request("/visits", "Expect: 100-continue\r\nContent-Length: 5\r\n"));
  CHECK(client.receive().status == 100);
  for (const char c : std::string("[\"a\"]")) {
    client.send(std::string(1, c));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  CHECK(client.receive().body == R"({"status":"success","entries":1,"visits":1})");
}

TEST_CASE_TEMPLATE("a read of many waits in one round for those that are not known", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  server.counter.parks = true;
  TestClient client(server.port());
  client.send(post_body("/visits/query", R"(["slow1","a","slow2"])") + get_request("/"));
  REQUIRE(comes_true([&] { return server.counter.reads >= 3; }));
  server.counter.parks = false;
  server.run([](EventLoopServer& running) { running.look_at_parked(); });
  CHECK(client.receive().body == R"({"counts":{"slow1":0,"a":0,"slow2":0}})");
  CHECK(client.receive().body == R"({"status":"healthy"})");
  CHECK(server.statistics().reads_parked == 1);
}

TEST_CASE("what a list asked for ahead is given back when it is answered, and when its client has gone") {
  TestServer server(test_settings(HotRoutes::direct));
  server.counter.parks = true;
  TestClient client(server.port());
  const std::string pages = R"(["slow1","slow2","a","slow3","slow4"])";
  client.send(post_body("/visits/query", pages));
  {
    TestClient leaving(server.port());
    leaving.send(post_body("/visits/query", pages));
    CHECK(comes_true([&] { return server.counter.asked_ahead == 6; }));
  }
  // Its end is seen once something is to be said to it.
  server.counter.parks = false;
  server.run([](EventLoopServer& inner) { inner.look_at_parked(); });
  CHECK(client.receive().status == 200);
  CHECK(comes_true([&] { return server.counter.asked_ahead == 0; }));
}

TEST_CASE("bodies that are received hold no more memory than they may all together") {
  Settings settings = test_settings(HotRoutes::direct);
  settings.http.buffered_bodies_limit_bytes = 131072;
  TestServer server(settings);
  TestClient first(server.port());
  TestClient second(server.port());
  first.send(post_request("/visits", "Content-Length: 100000\r\n") + std::string(90000, ' '));
  CHECK_FALSE(first.hears_within(100));
  second.send(post_request("/visits", "Content-Length: 100000\r\n") + std::string(90000, ' '));
  check_problem(
      second.receive(), 503,
      fmt::format("bodies on their way fill the {} bytes that http.buffered_bodies_limit_bytes allows; nothing of "
                  "this one was counted",
                  settings.http.buffered_bodies_limit_bytes),
      "");
  CHECK(second.ends());
  TestClient third(server.port());
  CHECK(third.ask(post_body("/visits", R"(["a"])")).status == 200);
  first.send(std::string(9994, ' ') + "[\"b\"]" + " ");
  CHECK(first.receive().status == 200);
  TestClient fourth(server.port());
  CHECK(fourth.ask(post_body("/visits", std::string(90000, ' ') + "\"c\"")).status == 200);
}

TEST_CASE_TEMPLATE("health, metrics and documents are served to everybody where there is no private address", Way,
                   Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  CHECK(client.ask(get_request("/livez")).body == R"({"status":"alive"})");
  CHECK(client.ask(get_request("/readyz")).body == R"({"status":"ready"})");
  CHECK(client.ask(get_request("/readyz?verbose")).body ==
        R"({"status":"ready","checks":[{"name":"segment","status":"ok","detail":"attached"},)"
        R"({"name":"flusher","status":"warning","detail":"a \"nap\""}]})");
  const ClientAnswer metrics = client.ask(get_request("/metrics"));
  CHECK(metrics.field("Content-Type") == "text/plain; version=0.0.4; charset=utf-8");
  CHECK(metrics.body.ends_with("visitd_fake 1\n"));
  CHECK(nlohmann::json::parse(client.ask(get_request("/openapi.json")).body).is_object());
  const ClientAnswer docs = client.ask(get_request("/docs"));
  CHECK(docs.field("Content-Type") == "text/html; charset=utf-8");
  CHECK(docs.field("X-Content-Type-Options") == "nosniff");
  CHECK(docs.field("Content-Security-Policy").starts_with("default-src 'none'"));
  client.send("HEAD /docs HTTP/1.1\r\nHost: a\r\n\r\n");
  const ClientAnswer head = client.receive(true);
  CHECK(head.status == 200);
  CHECK(head.body.empty());
  CHECK(head.field("Content-Length") == docs.field("Content-Length"));
}

TEST_CASE_TEMPLATE("a frontend that cannot count is not ready, and says why", Way, Direct, Httplib) {
  TestServer server(test_settings(Way::way));
  server.host.told.push_back({"lane", Check::Result::failed, "it is full"});
  TestClient client(server.port());
  const ClientAnswer answer = client.ask(get_request("/readyz"));
  check_problem(answer, 503, "lane: it is full", "");
  const auto verbose = nlohmann::json::parse(client.ask(get_request("/readyz?verbose")).body);
  CHECK(verbose.at("type") == "urn:visitd:problem:not-ready");
  CHECK(verbose.at("checks").size() == 3);
  CHECK(client.ask(get_request("/livez")).status == 200);
}

TEST_CASE_TEMPLATE("with a private address health and metrics are served there alone", Way, Direct, Httplib) {
  Settings settings = test_settings(Way::way);
  settings.http.private_listen = {"127.0.0.1:0"};
  TestServer server(settings);
  TestClient everybody(server.port());
  TestClient operators(server.private_port());
  for (const char* path : {"/livez", "/readyz", "/metrics", "/api/v1/counter/metrics"}) {
    CAPTURE(path);
    CHECK(everybody.ask(get_request(path)).status == 404);
    CHECK(operators.ask(get_request(path)).status == 200);
  }
  for (const char* path : {"/", "/visits/a", "/docs", "/openapi.json"}) {
    CAPTURE(path);
    CHECK(everybody.ask(get_request(path)).status == 200);
    CHECK(operators.ask(get_request(path)).status == 200);
  }
}

std::string list_request(const std::string& fields, const std::string& body) {
  return post_request("/visits", fields + "Content-Length: " + std::to_string(body.size()) + "\r\n", body);
}

TEST_CASE_TEMPLATE("what the rules refuse or ignore is not counted, alone and in a list", Way, Direct, Httplib) {
  Settings settings = test_settings(Way::way);
  settings.http.count_origins = {"https://o.example"};
  settings.http.ignored_agents = {"bot"};
  settings.http.ignored_addresses = {"192.0.2.9"};
  settings.pages.allowed = {"home", "blog/*"};
  TestServer server(settings);
  TestClient client(server.port());
  const std::string ours = "Origin: https://o.example\r\n";
  const std::string list = R"(["home","blog/1","about"])";
  CHECK(client.ask(post_request("/visit/home", ours)).body == success_home);
  check_problem(client.ask(post_request("/visit/home", "Origin: https://x.example\r\n")), 403,
                "visits from pages of https://x.example do not count here; http.count_origins names the origins from "
                "which they do",
                "Origin");
  check_problem(client.ask(post_request("/visit/about", ours)), 403,
                "the page about is none of those that are counted here; pages.allowed names them", "page_id");
  const ClientAnswer refused = client.ask(list_request(ours, list));
  check_problem(refused, 403, "the page about is none of those that are counted here; pages.allowed names them",
                "page_id");
  CHECK(nlohmann::json::parse(refused.body).at("entry") == 2);
  CHECK(server.counter.count("blog/1") == 0);
  // A process of this host that speaks for itself is no stranger.
  CHECK(client.ask(list_request("", list)).status == 200);
  CHECK(server.counter.count("about") == 1);
  CHECK(client.ask(post_request("/visit/home", ours + "User-Agent: a bot\r\n")).body == success_home);
  CHECK(client.ask(list_request("User-Agent: Robot\r\n", R"({"home":7})")).body ==
        R"({"status":"success","entries":1,"visits":7})");
  CHECK(client.ask(post_request("/visit/home", ours + "X-Forwarded-For: 192.0.2.9\r\n")).body == success_home);
  CHECK(server.counter.count("home") == 2);
  CHECK(server.counter.ignored == 9);
  CHECK(server.refusals()[static_cast<std::size_t>(Refusal::origin_not_allowed)] == 1);
  CHECK(server.refusals()[static_cast<std::size_t>(Refusal::page_not_allowed)] == 2);
}

TEST_CASE_TEMPLATE("a stranger's list that exceeds a limit is refused whole, and whoever is none may send it", Way,
                   Direct, Httplib) {
  Settings settings = test_settings(Way::way);
  settings.http.private_listen = {"127.0.0.1:0"};
  settings.http.public_visits_limit = 5;
  settings.http.public_entries_limit = 3;
  TestServer server(settings);
  TestClient client(server.port());
  const std::string many_visits = R"({"home":3,"about":1} {"home":3})";
  const std::string many_entries = R"(["a","b","c","d"])";
  for (const std::string field : {"Origin: https://o.example\r\n", "Sec-Fetch-Site: same-origin\r\n",
                                  "Forwarded: for=192.0.2.7\r\n", "X-Forwarded-For: 192.0.2.7\r\n"}) {
    CAPTURE(field);
    const ClientAnswer visits = client.ask(list_request(field, many_visits));
    check_problem(visits, 403,
                  "up to this entry the list adds 6 visits to its page; a request from outside may add 5 to a page "
                  "(http.public_visits_limit)",
                  "visits");
    CHECK(nlohmann::json::parse(visits.body).at("type") == "urn:visitd:problem:too-many-visits");
    CHECK(nlohmann::json::parse(visits.body).at("entry") == 2);
    check_problem(client.ask(list_request(field, many_entries)), 403,
                  "the list has 4 entries; a request from outside may have 3 (http.public_entries_limit): send it in "
                  "parts",
                  "body");
    CHECK(client.ask(list_request(field, R"({"within":5} "a" "b")")).status == 200);
  }
  CHECK(server.counter.count("home") == 0);
  CHECK(server.counter.count("a") == 4);
  CHECK(server.counter.count("within") == 20);
  CHECK(server.refusals()[static_cast<std::size_t>(Refusal::too_many_visits)] == 4);
  CHECK(server.refusals()[static_cast<std::size_t>(Refusal::too_many_entries)] == 4);

  CHECK(client.ask(list_request("", many_visits)).status == 200);
  CHECK(client.ask(list_request("", many_entries)).status == 200);
  TestClient trusted(server.private_port());
  CHECK(trusted.ask(list_request("X-Forwarded-For: 192.0.2.7\r\n", many_visits)).status == 200);
  CHECK(server.counter.count("home") == 12);

  settings.http.public_visits_limit = 6;
  settings.http.public_entries_limit = 0;
  server.run([&](EventLoopServer& running) { running.take_settings(settings); });
  CHECK(client.ask(list_request("X-Forwarded-For: 192.0.2.7\r\n", many_visits)).status == 200);
  CHECK(client.ask(list_request("X-Forwarded-For: 192.0.2.7\r\n", many_entries)).status == 200);
}

TEST_CASE_TEMPLATE("a request whose handler throws is answered 500 with an id, and the connection goes on", Way, Direct,
                   Httplib) {
  TestServer server(test_settings(Way::way));
  TestClient client(server.port());
  for (const char* path : {"/metrics", "/api/v1/counter/metrics"}) {
    server.host.throws = true;
    const ClientAnswer answer = client.ask(get_request(path));
    CHECK(answer.status == 500);
    const std::string detail = nlohmann::json::parse(answer.body).at("detail");
    CHECK(detail.starts_with("the request failed; the server's log says why under id "));
    CHECK(detail.find("a secret") == std::string::npos);
    server.host.throws = false;
    CHECK(client.ask(get_request(path)).status == 200);
  }
  CHECK(server.refusals()[static_cast<std::size_t>(Refusal::internal_error)] == 2);
}

TEST_CASE("an address with too many connections loses its longest idle one, and a new one where none is idle") {
  Settings settings = test_settings(HotRoutes::direct);
  settings.http.address_connection_limit = 2;
  settings.http.trusted_proxies = {};
  TestServer server(settings);
  TestClient first(server.port());
  CHECK(first.ask(get_request("/")).status == 200);
  TestClient second(server.port());
  CHECK(second.ask(get_request("/")).status == 200);
  TestClient third(server.port());
  CHECK(third.ask(get_request("/")).status == 200);
  CHECK(first.ends());
  second.send("GET");
  third.send("GET");
  TestClient fourth(server.port());
  CHECK(fourth.ends());
  CHECK(comes_true([&] { return server.statistics().connections_over_address_limit == 2; }));
  CHECK(server.statistics().connections_open == 2);
}

TEST_CASE("in a full server an address that replaces its idle connection takes no other's place") {
  Settings settings = test_settings(HotRoutes::direct);
  settings.http.connection_limit = 2;
  settings.http.address_connection_limit = 2;
  settings.http.trusted_proxies = {};
  TestServer server(settings);
  server.counter.parks = true;
  TestClient parked(server.port());
  parked.send(get_request("/visits/slow"));
  CHECK(comes_true([&] { return server.statistics().reads_parked == 1; }));
  TestClient idle(server.port());
  CHECK(idle.ask(get_request("/")).status == 200);
  TestClient next(server.port());
  CHECK(next.ask(get_request("/")).status == 200);
  CHECK(idle.ends());
  CHECK(server.statistics().connections_over_address_limit == 1);
  CHECK(server.statistics().connections_evicted == 0);
  server.counter.parks = false;
  CHECK(parked.receive().status == 200);
}

TEST_CASE("which connection of an address is idle longest is known after a request and after changed settings too") {
  Settings settings = test_settings(HotRoutes::direct);
  settings.http.address_connection_limit = 3;
  settings.http.trusted_proxies = {};
  TestServer server(settings);
  TestClient first(server.port());
  TestClient second(server.port());
  TestClient third(server.port());
  for (TestClient* client : {&first, &second, &third, &first}) CHECK(client->ask(get_request("/")).status == 200);
  server.run([&](EventLoopServer& running) { running.take_settings(settings); });
  TestClient fourth(server.port());
  CHECK(second.ends());
  CHECK(fourth.ask(get_request("/")).status == 200);
  TestClient fifth(server.port());
  CHECK(third.ends());
  CHECK(first.ask(get_request("/")).status == 200);
}

TEST_CASE_TEMPLATE("who does not take long answers makes room for others, the oldest first", Way, Direct, Httplib) {
  Settings settings = test_settings(Way::way);
  settings.http.buffered_answers_limit_bytes = 2'000'000;
  settings.http.send_buffer_bytes = 4096;
  TestServer server(settings);
  std::vector<std::unique_ptr<TestClient>> slow;
  const std::string long_page(250, 'p');
  std::string pages = "[";
  for (int i = 0; i < 1000; ++i) pages += (i == 0 ? "\"" : ",\"") + std::to_string(i) + long_page.substr(5) + "\"";
  pages += "]";
  for (std::uint64_t i = 0; i < 40; ++i) {
    slow.push_back(std::make_unique<TestClient>(server.port(), 4096));
    slow.back()->send(post_body("/visits/query", pages));
    CHECK(comes_true([&] { return server.statistics().requests == i + 1; }));  // lists take turns: one at a time
  }
  const std::uint64_t evicted = server.statistics().connections_evicted_sending;
  CHECK(evicted >= 30);
  CHECK(evicted < 38);
  CHECK(server.statistics().connections_open == 40 - evicted);
  // Who came last keeps its answer, though it takes it late.
  CHECK(slow.back()->receive().status == 200);
}

TEST_CASE("a body that makes room while an answer before it is not taken is refused behind that answer") {
  Settings settings = test_settings(HotRoutes::direct);
  settings.http.buffered_bodies_limit_bytes = 131072;
  settings.http.send_buffer_bytes = 4096;
  TestServer server(settings);
  TestClient stalled(server.port(), 4096);
  std::string pages = "[";
  for (int i = 0; i < 200; ++i) pages += (i == 0 ? "\"" : ",\"") + std::to_string(i) + std::string(240, 'p') + "\"";
  stalled.send(post_body("/visits/query", pages + "]") + post_request("/visits", "Content-Length: 100000\r\n") +
               std::string(90000, ' '));
  CHECK(comes_true([&] { return server.statistics().requests == 1; }));
  TestClient next(server.port());
  CHECK_FALSE(next.hears_within(2100));
  next.send(post_request("/visits", "Content-Length: 130000\r\n") + std::string(128000, ' '));
  CHECK_FALSE(next.hears_within(100));
  CHECK(stalled.receive().status == 200);
  CHECK(stalled.receive().status == 503);
  next.send(std::string(1997, ' ') + "\"b\"");
  CHECK(next.receive().status == 200);
}

TEST_CASE("a body that makes room for another is answered, and that one is taken") {
  Settings settings = test_settings(HotRoutes::direct);
  settings.http.buffered_bodies_limit_bytes = 131072;
  TestServer server(settings);
  TestClient stalled(server.port());
  stalled.send(post_request("/visits", "Content-Length: 100000\r\n") + std::string(90000, ' '));
  CHECK_FALSE(stalled.hears_within(2100));
  TestClient next(server.port());
  next.send(post_request("/visits", "Content-Length: 100000\r\n") + std::string(90000, ' '));
  CHECK(stalled.receive().status == 503);
  CHECK(stalled.ends());
  next.send(std::string(9994, ' ') + "[\"b\"]" + " ");
  CHECK(next.receive().status == 200);
  CHECK(server.counter.count("b") == 1);
}

}  // namespace
}  // namespace visitd
