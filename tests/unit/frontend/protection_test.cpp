// What settings protect counts from, seen over HTTP: names of pages, rates of clients, new pages.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "test_client.hpp"
#include "test_server.hpp"

namespace visitd {
namespace {

struct OwnWay {
  static constexpr HotRoutes way = HotRoutes::direct;
};
struct HttplibsWay {
  static constexpr HotRoutes way = HotRoutes::httplib;
};

/// Of a client behind a proxy on this host.
std::string sent_for(const std::string& client) {
  return "X-Forwarded-For: " + client + "\r\n";
}

std::string list_for(const std::string& client, const std::string& body) {
  return post_request("/visits", fmt::format("{}Content-Length: {}\r\n", sent_for(client), body.size()), body);
}

std::string type_of(const ClientAnswer& answer) {
  return nlohmann::json::parse(answer.body).value("type", "").substr(std::string("urn:visitd:problem:").size());
}

TEST_CASE_TEMPLATE("a page is counted under one name, and answers repeat the id", Way, OwnWay, HttplibsWay) {
  Settings settings = test_settings(Way::way);
  settings.pages.rules = {"drop trailing-slash", "lower-case", "drop prefix x:"};
  TestServer server(settings);
  TestClient client(server.port());
  CHECK(client.ask(post_request("/visit/Home/")).body ==
        R"({"status":"success","message":"Visit recorded for page Home/"})");
  CHECK(client.ask(post_request("/visit/x:home?count")).body ==
        R"({"status":"success","message":"Visit recorded for page x:home","count":2})");
  CHECK(client.ask(list_for("127.0.0.1", R"({"HOME":3,"home//":4})")).status == 200);
  CHECK(server.counter.count("home") == 9);
  CHECK(client.ask(get_request("/visits/Home")).body == R"({"count":9,"served_via":"in-memory"})");
  CHECK(client.ask(get_request("/visits?page=Home&page=home/&page=Home")).body == R"({"counts":{"Home":9,"home/":9}})");
  const ClientAnswer nothing = client.ask(post_request("/visit/x:x:"));
  CHECK(nothing.status == 400);
  CHECK(type_of(nothing) == "invalid-page-id");
  settings.pages.rules = {};
  server.run([&](EventLoopServer& running) { running.take_settings(settings); });
  CHECK(client.ask(get_request("/visits/Home")).body == R"({"count":0,"served_via":"in-memory"})");
}

TEST_CASE_TEMPLATE("a client that adds too many visits is refused with 429, and no other", Way, OwnWay, HttplibsWay) {
  Settings settings = test_settings(Way::way);
  settings.http.address_visits_per_minute = 1;
  settings.http.address_visits_burst = 3;
  TestServer server(settings);
  TestClient client(server.port());
  const std::string one = sent_for("192.0.2.1");
  const ClientAnswer first = client.ask(post_request("/visit/home", one));
  CHECK(first.status == 200);
  CHECK(first.field("RateLimit") == R"("visits";r=2;t=60)");
  CHECK(first.field("RateLimit-Policy") == R"("visits";q=3;w=180)");
  CHECK(client.ask(post_request("/visit/home?count", one)).field("RateLimit").starts_with(R"("visits";r=1;t=1)"));
  CHECK(client.ask(list_for("192.0.2.1", R"({"home":5})")).status == 200);
  const ClientAnswer refused = client.ask(post_request("/visit/home", one));
  CHECK(refused.status == 429);
  CHECK(type_of(refused) == "visit-rate-exceeded");
  CHECK(std::stoi(refused.field("Retry-After")) > 240);
  CHECK(refused.field("RateLimit").starts_with(R"("visits";r=0;t=)"));
  CHECK(type_of(client.ask(list_for("192.0.2.1", R"(["home"])"))) == "visit-rate-exceeded");
  CHECK(server.counter.count("home") == 7);
  CHECK(server.refusals()[static_cast<std::size_t>(Refusal::visit_rate_exceeded)] == 2);
  // Its reads go on, others' visits too, and so does who is no stranger.
  CHECK(client.ask(get_request("/visits/home")).status == 200);
  CHECK(client.ask(post_request("/visit/home", sent_for("192.0.2.2"))).status == 200);
  for (int visit = 0; visit < 5; ++visit) {
    const ClientAnswer own = client.ask(post_request("/visit/home"));
    CHECK(own.status == 200);
    CHECK(own.field("RateLimit").empty());
    // A proxy on this host that does not say for whom it speaks.
    CHECK(client.ask(post_request("/visit/home", "Origin: https://o.example\r\n")).status == 200);
  }
  settings.http.address_visits_per_minute = 0;
  server.run([&](EventLoopServer& running) { running.take_settings(settings); });
  CHECK(client.ask(post_request("/visit/home", one)).status == 200);
}

TEST_CASE_TEMPLATE("a visit that is parked for its count is charged once", Way, OwnWay, HttplibsWay) {
  Settings settings = test_settings(Way::way);
  settings.http.address_visits_per_minute = 1;
  settings.http.address_visits_burst = 3;
  TestServer server(settings);
  server.counter.parks = true;
  TestClient client(server.port());
  client.send(post_request("/visit/slow?count", sent_for("192.0.2.1")));
  for (int look = 0; look < 5; ++look) {
    server.run([](EventLoopServer& running) { running.look_at_parked(); });
  }
  server.counter.parks = false;
  server.run([](EventLoopServer& running) { running.look_at_parked(); });
  const ClientAnswer answer = client.receive();
  CHECK(answer.body == R"({"status":"success","message":"Visit recorded for page slow","count":1})");
  CHECK(answer.field("RateLimit").starts_with(R"("visits";r=2;t=)"));
}

TEST_CASE_TEMPLATE("pages that nobody has counted come at their rate, and others always", Way, OwnWay, HttplibsWay) {
  Settings settings = test_settings(Way::way);
  settings.http.public_new_pages_per_minute = 3;
  TestServer server(settings);
  TestClient client(server.port());
  const std::string from = sent_for("192.0.2.1");
  CHECK(client.ask(post_request("/visit/old")).status == 200);
  CHECK(client.ask(post_request("/visit/one", from)).status == 200);
  CHECK(client.ask(list_for("192.0.2.1", R"(["old","two","two","three"])")).status == 200);
  const ClientAnswer refused = client.ask(post_request("/visit/four?count", from));
  CHECK(refused.status == 429);
  CHECK(type_of(refused) == "too-many-new-pages");
  CHECK(std::stoi(refused.field("Retry-After")) >= 1);
  const ClientAnswer list = client.ask(list_for("192.0.2.1", R"(["one","old","four"])"));
  CHECK(type_of(list) == "too-many-new-pages");
  CHECK(nlohmann::json::parse(list.body).at("entry") == 2);
  CHECK(server.counter.count("four") == 0);
  CHECK(server.counter.count("old") == 2);
  CHECK(server.refusals()[static_cast<std::size_t>(Refusal::too_many_new_pages)] == 2);
  CHECK(client.ask(post_request("/visit/two?count", from)).body ==
        R"({"status":"success","message":"Visit recorded for page two","count":3})");
  // Of "unknown" nobody can say whether it is new.
  CHECK(client.ask(post_request("/visit/unknown", from)).status == 200);
  CHECK(client.ask(list_for("192.0.2.1", R"(["one","unknown","five"])")).status == 200);
  CHECK(client.ask(post_request("/visit/four")).status == 200);
  CHECK(client.ask(post_request("/visit/four", from)).status == 200);
}

TEST_CASE_TEMPLATE("a visit waits until it is known whether its page is new, and is recorded once", Way, OwnWay,
                   HttplibsWay) {
  Settings settings = test_settings(Way::way);
  settings.http.public_new_pages_per_minute = 1;
  TestServer server(settings);
  server.counter.parks = true;
  TestClient single(server.port());
  TestClient list(server.port());
  single.send(post_request("/visit/slow-1?count", sent_for("192.0.2.1")));
  for (int tries = 0; tries < 1000 && server.counter.reads == 0; ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  list.send(list_for("192.0.2.2", R"(["slow-1","slow-2"])"));
  for (int look = 0; look < 5; ++look) {
    server.run([](EventLoopServer& running) { running.look_at_parked(); });
  }
  CHECK(server.counter.count("slow-1") == 0);
  server.counter.parks = false;
  server.run([](EventLoopServer& running) { running.look_at_parked(); });
  CHECK(single.receive().body == R"({"status":"success","message":"Visit recorded for page slow-1","count":1})");
  const ClientAnswer refused = list.receive();
  CHECK(type_of(refused) == "too-many-new-pages");
  CHECK(server.counter.count("slow-1") == 1);
}

}  // namespace
}  // namespace visitd
