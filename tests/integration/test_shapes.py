#!/usr/bin/env python3
"""In other counters' places: what their clients ask for is answered as they expect it (tests/integration/shapes/), and counted as all
visits are."""

import concurrent.futures
import json
import os
import random
import re
import signal
import subprocess
import threading
import unittest
from pathlib import Path

from golden_exchanges import exchanges
from harness import FRONTEND, Answer, Client, Stack, wait_for
from shaped_stack import OWNER_KEY, ShapedStack

GOLDEN = Path(__file__).resolve().parent / "shapes"
ALL_BUT_ABACUS = ("countapi", "goatcounter", "busuanzi", "vercount", "hits")
# What makes a request of this host one from outside.
FROM_OUTSIDE = {"Sec-Fetch-Site": "cross-site"}
BLOG = {"Referer": "https://blog.example/post/"}


class Golden(unittest.TestCase):
    def check_shape(self, name: str, **http) -> None:
        files = sorted((GOLDEN / name).glob("*.golden"))
        self.assertTrue(files)
        with ShapedStack(name, http=http) as stack:
            for file in files:
                for exchange in exchanges(file):
                    with self.subTest(exchange.where), Client(stack.private if exchange.at_private else stack.port) as client:
                        answer = client.ask(exchange.method, exchange.target, exchange.content, exchange.fields)
                        self.assertEqual(exchange.faults(answer), [], f"{exchange.method} {exchange.target}")

    def test_countapi(self):
        self.check_shape("countapi")

    def test_abacus(self):
        self.check_shape("abacus")

    def test_both_ways_of_answering_say_the_same(self):
        for name in ("countapi", "busuanzi"):
            self.check_shape(name, hot_routes="httplib")

    def test_goatcounter(self):
        self.check_shape("goatcounter")

    def test_busuanzi(self):
        self.check_shape("busuanzi")

    def test_vercount(self):
        self.check_shape("vercount")

    def test_hits(self):
        self.check_shape("hits")



def visits_of_all_shapes(referer: str) -> dict[str, tuple]:
    """A visit of each shape: what ask() takes."""
    return {
        "countapi": ("GET", "/hit/blog.example/visits", None, {"Referer": referer}),
        "goatcounter": ("GET", "/count?p=%2Fpost", None, {"Referer": referer}),
        "busuanzi": ("GET", "/busuanzi?jsonpCallback=f", None, {"Referer": referer}),
        "vercount": ("POST", "/api/v2/log", json.dumps({"url": referer}).encode(), {"Referer": referer}),
        "hits": ("GET", "/dwyl/start-here.svg", None, {"Referer": referer}),
    }


def ask_all(stack: Stack, referer: str, **fields: str) -> dict[str, Answer]:
    visits = visits_of_all_shapes(referer)
    return {name: stack.ask(method, path, body, headers | FROM_OUTSIDE | fields) for name, (method, path, body, headers) in visits.items()}


class Limits(unittest.TestCase):
    """The settings that say which visits count hold for these as for all others."""

    def test_visits_count_from_the_sites_that_the_settings_name(self):
        with ShapedStack(*ALL_BUT_ABACUS, http={"count_origins": ["https://blog.example"]}) as stack:
            for name, answer in ask_all(stack, "https://other.example/post").items():
                self.assertEqual(answer.status, 403, f"{name}: {answer}")
            for name, answer in ask_all(stack, "https://blog.example/post").items():
                self.assertEqual(answer.status, 200, f"{name}: {answer}")
            stack.flush()
            stack.wait_for_redis({"blog.example/visits": 1, "/post": 1, "site:TOTAL": 1, "blog.example/post": 2, "site:blog.example": 2,
                                  "dwyl/start-here": 1})  # fmt: skip

    def test_what_is_ignored_is_answered_as_if_it_counted(self):
        with ShapedStack(*ALL_BUT_ABACUS, http={"ignored_agents": ["bot"]}) as stack:
            for name, answer in ask_all(stack, "https://blog.example/post", **{"User-Agent": "a Bot"}).items():
                self.assertEqual(answer.status, 200, f"{name}: {answer}")
            stack.flush()
            stack.wait_for_redis({})

    def test_pages_that_are_not_allowed_count_nowhere(self):
        with ShapedStack(*ALL_BUT_ABACUS, settings={"pages": {"allowed": ["blog.example/*"]}}) as stack:
            statuses = {name: answer.status for name, answer in ask_all(stack, "https://blog.example/post").items()}
            self.assertEqual(statuses, {"countapi": 200, "goatcounter": 403, "busuanzi": 200, "vercount": 200, "hits": 403})
            stack.flush()
            stack.wait_for_redis({"blog.example/visits": 1, "blog.example/post": 2, "site:blog.example": 2})

    def test_too_many_visits_of_a_client_are_refused(self):
        with ShapedStack(*ALL_BUT_ABACUS, frontends=1, http={"address_visits_per_minute": 1, "address_visits_burst": 1,
                                                            "trusted_proxies": ["127.0.0.1"]}) as stack:  # fmt: skip
            client = {"X-Forwarded-For": "198.51.100.9"}
            first = stack.ask("GET", "/busuanzi?jsonpCallback=f", None, BLOG | client)
            self.assertEqual(first.status, 200)
            self.assertTrue(first.headers["RateLimit"])
            refused = stack.ask("GET", "/busuanzi?jsonpCallback=f", None, BLOG | client)
            self.assertEqual((refused.status, refused.json()["type"]), (429, "urn:visitd:problem:visit-rate-exceeded"))
            image = stack.ask("GET", "/count?p=%2Fpost", None, client)
            self.assertEqual((image.status, image.headers["X-Goatcounter"], image.body[:6]), (429, "visit-rate-exceeded", b"GIF89a"))
            stack.flush()
            stack.wait_for_redis({"blog.example/post/": 1, "site:blog.example": 1})

    def test_new_pages_are_limited_and_what_waits_for_that_counts_once(self):
        with ShapedStack("vercount", "busuanzi", frontends=1, http={"public_new_pages_per_minute": 1}) as stack:

            def visit(page: str) -> Answer:
                body = json.dumps({"url": f"https://blog.example/{page}"}).encode()
                return stack.ask("POST", "/api/v2/log", body, dict(FROM_OUTSIDE))

            self.assertEqual(visit("one").json()["data"]["page_pv"], 1)
            self.assertEqual(visit("two").status, 429)
            self.assertEqual(visit("one").json()["data"], {"site_uv": 0, "site_pv": 2, "page_pv": 2})
            stack.flush()
            stack.wait_for_redis({"blog.example/one": 2, "site:blog.example": 2})

    def test_rules_of_names_hold(self):
        with ShapedStack("busuanzi", "countapi", settings={"pages": {"rules": ["drop trailing-slash", "lower-case"]}}) as stack:
            stack.ask("GET", "/busuanzi?jsonpCallback=f", None, {"Referer": "https://blog.example/Post/"})
            answer = stack.ask("GET", "/jsonp?callback=f", None, {"Referer": "https://blog.example/post"})
            self.assertIn(b'"page_pv":2', answer.body)
            self.assertEqual(stack.ask("GET", "/hit/Mine/Visits").json(), {"value": 1})
            self.assertEqual(stack.get("mine/visits"), 1)


class Together(unittest.TestCase):
    """A visit of a page and of its site's total."""

    def test_where_a_lane_is_full_neither_is_counted(self):
        with ShapedStack("busuanzi", settings={"ring": {"lanes": 2, "lane_bytes": 65536}}, frontends=1) as stack:
            # Known, so that a count can be said while the flusher stands still.
            stack.ask("GET", "/api", None, {"x-bsz-referer": BLOG["Referer"]})
            stack.pause("flusher")
            counted = 0
            while (answer := stack.ask("PUT", "/api", None, {"x-bsz-referer": BLOG["Referer"]})).status == 204:
                counted += 1
            self.assertEqual(answer.status, 503)
            self.assertGreater(counted, 50)
            stack.resume("flusher")
            stack.wait_for_redis({"blog.example/post/": counted, "site:blog.example": counted})

    def test_killed_frontends_lose_no_answered_visit_and_count_none_twice(self):
        with ShapedStack("busuanzi", frontends=2) as stack:
            visits = 400

            def visit(number: int) -> bool:
                answer = stack.ask("GET", "/busuanzi?jsonpCallback=f", None, {"Referer": f"https://blog.example/{number % 5}/"})
                return answer.status == 200 and answer.body.startswith(b"try{f(")

            with concurrent.futures.ThreadPoolExecutor(8) as clients:
                answers = [clients.submit(visit, number) for number in range(visits)]
                for name in ("frontend_1", "frontend_2"):
                    wait_for("some are answered", lambda done=sum(a.done() for a in answers): sum(a.done() for a in answers) >= min(done + 60, visits))
                    stack.kill9(name)
                    stack.restart(name)
                answered = sum(answer.result() for answer in answers)
            stack.flush()
            counts = stack.redis_counts()
            pages = sum(count for page, count in counts.items() if not page.startswith("site:"))
            print(f"\n{visits} visits, 2 frontends killed: {answered} answered, {pages} counted of pages, {counts['site:blog.example']} of the site", flush=True)
            self.assertGreaterEqual(pages, answered)
            self.assertGreaterEqual(counts["site:blog.example"], answered)
            self.assertLessEqual(max(pages, counts["site:blog.example"]), visits)


class Updates(unittest.TestCase):
    """/update changes a count by an amount while visits are counted: nothing of either is lost."""

    def check_updates(self, shape: str, method: str, parameter: str) -> None:
        owner = {"Authorization": f"Bearer {OWNER_KEY}"}
        with ShapedStack(shape, settings={"flusher": {"commit_interval_ms": 20}}) as stack:
            self.assertEqual(stack.ask("GET", "/hit/mine/visits").json(), {"value": 1})
            ending = threading.Event()

            def visit() -> int:
                visits = 0
                with Client(stack.port) as client:
                    while not ending.is_set():
                        visits += client.ask("GET", "/hit/mine/visits").status == 200
                return visits

            def update(seed: int) -> int:
                chance, total = random.Random(seed), 0
                with Client(stack.port) as client:
                    for number in range(40):
                        # What is taken away was added before, by the same client: it never falls below 0.
                        amount = chance.randrange(1, 1000) if number % 4 != 3 else -chance.randrange(0, total)
                        amount = amount or 1
                        answer = client.ask(method, f"/update/mine/visits?{parameter}={amount}", None, owner)
                        self.assertEqual(answer.status, 200, f"{answer}")
                        total += amount
                        self.assertGreaterEqual(answer.json()["value"], total)
                return total

            with concurrent.futures.ThreadPoolExecutor(8) as clients:
                visitors = [clients.submit(visit) for _ in range(2)]
                owners = [clients.submit(update, seed) for seed in range(4)]
                try:
                    added = sum(one.result() for one in owners)
                finally:
                    ending.set()
                visits = 1 + sum(one.result() for one in visitors)
            self.assertEqual(stack.ask("GET", "/get/mine/visits").json(), {"value": visits + added})
            stack.flush()
            stack.wait_for_redis({"mine/visits": visits + added})
            print(f"\n{shape}: {visits} visits, 160 updates by {added} in all", flush=True)

    def test_countapi(self):
        self.check_updates("countapi", "GET", "amount")

    def test_abacus(self):
        self.check_updates("abacus", "POST", "value")

    def test_many_at_once_take_no_count_below_0(self):
        for shape, method, parameter, refused in (("countapi", "GET", "amount", 403), ("abacus", "POST", "value", 400)):
            with ShapedStack(shape) as stack:
                stack.visitctl("add", "mine/visits", "20")

                def lower(_: int, stack=stack, method=method, parameter=parameter) -> Answer:
                    return stack.ask(method, f"/update/mine/visits?{parameter}=-7", None, {"Authorization": f"Bearer {OWNER_KEY}"})

                with concurrent.futures.ThreadPoolExecutor(8) as clients:
                    answers = list(clients.map(lower, range(8)))
                self.assertEqual(sorted(answer.status for answer in answers), [200] * 2 + [refused] * 6)
                self.assertEqual(sorted(answer.json()["value"] for answer in answers if answer.status == 200), [6, 13])
                self.assertEqual(stack.ask("GET", "/get/mine/visits").json(), {"value": 6})
                stack.flush()
                stack.wait_for_redis({"mine/visits": 6})

    def test_what_is_added_is_answered_while_the_shard_of_its_page_is_away(self):
        with ShapedStack("countapi", frontends=1, settings={"redis": {"timeout_ms": 500}}, http={"lookup_timeout_ms": 200}) as stack:
            stack.ask("GET", "/hit/mine/visits")
            stack.flush()
            for shard in stack.shards:
                stack.kill9(shard.name)
            owner = {"Authorization": f"Bearer {OWNER_KEY}"}
            answer = stack.ask("GET", "/update/mine/visits?amount=5", None, owner)
            # A count that was read before is shown on while its shard is away.
            self.assertEqual((answer.status, answer.json()), (200, {"value": 6}))
            for shard in stack.shards:
                stack.restart(shard.name)
            stack.wait_for_redis({"mine/visits": 6})


class Unknown(unittest.TestCase):
    def test_a_visit_counts_though_its_count_cannot_be_said_and_nothing_says_0(self):
        http = {"lookup_timeout_ms": 200, "list_timeout_ms": 400}
        with ShapedStack(*ALL_BUT_ABACUS, http=http, settings={"redis": {"timeout_ms": 500}}, frontends=1) as stack:
            for shard in stack.shards:
                stack.kill9(shard.name)
            wait_for("the shards are known to be away", lambda: stack.read("new").status == 503)
            answers = ask_all(stack, "https://blog.example/post")
            self.assertEqual(answers["countapi"].json(), {"value": None})
            self.assertEqual((answers["goatcounter"].status, answers["goatcounter"].body[:6]), (200, b"GIF89a"))
            self.assertEqual((answers["busuanzi"].status, answers["busuanzi"].body[:18]), (200, b"try{console.error("))
            self.assertEqual((answers["vercount"].status, answers["vercount"].json()["status"]), (503, "error"))
            self.assertIn(b"unknown", answers["hits"].body)
            reads = {
                "countapi": stack.ask("GET", "/get/blog.example/visits"),
                "goatcounter": stack.ask("GET", "/counter/%2Fpost.json"),
                "vercount": stack.ask("GET", "/api/v1/log?url=https%3A%2F%2Fblog.example%2Fpost"),
            }
            for name, answer in reads.items():
                self.assertEqual(answer.status, 503, f"{name}: {answer}")
            api = stack.ask("GET", "/api", None, {"x-bsz-referer": "https://blog.example/post"})
            self.assertEqual((api.status, api.json()), (200, {"success": False, "message": "count-unknown"}))
            for shard in stack.shards:
                stack.restart(shard.name)
            stack.wait_for_redis({"blog.example/visits": 1, "/post": 1, "site:TOTAL": 1, "blog.example/post": 2, "site:blog.example": 2,
                                  "dwyl/start-here": 1})  # fmt: skip


class Setting(unittest.TestCase):
    def test_a_reload_takes_shapes_and_their_paths_are_nothing_before(self):
        with ShapedStack(frontends=1) as stack:
            for path in ("/hit/a.example/visits", "/busuanzi?jsonpCallback=f", "/count?p=%2F", "/log", "/dwyl/start-here.svg"):
                self.assertEqual(stack.ask("GET", path).status, 404, path)
            for shapes, status in ((["countapi"], 200), ([], 404)):
                stack.settings["http"]["shapes"] = shapes
                stack.write_settings()
                os.kill(stack.processes["frontend_1"].pid, signal.SIGHUP)
                wait_for("the shapes are taken over", lambda status=status: stack.ask("GET", "/hit/a.example/visits").status == status)

    def test_shapes_are_below_the_prefix_too(self):
        with ShapedStack("busuanzi", "hits", frontends=1, http={"api_prefix": "/counter"}) as stack:
            self.assertEqual(stack.ask("GET", "/counter/busuanzi?jsonpCallback=f", None, BLOG).status, 200)
            self.assertEqual(stack.ask("GET", "/counter/dwyl/start-here.json").json()["message"], "1")

    def test_hits_take_what_others_leave(self):
        with ShapedStack("hits", "goatcounter", frontends=1) as stack:
            stack.ask("GET", "/count?p=%2Fdwyl")
            self.assertEqual(stack.ask("GET", "/counter/dwyl.json").json()["count"], "1")
            self.assertEqual(stack.ask("GET", "/counters/dwyl.json").json()["label"], "hits")

    def test_a_setting_that_cannot_be_is_refused(self):
        for shapes, said in ((["countapi", "abacus"], "name one of them"), (["nobody"], "countapi, abacus, goatcounter, busuanzi, vercount or hits")):
            stack = ShapedStack(*shapes)
            self.addCleanup(stack.close)
            done = subprocess.run([FRONTEND, "--config", stack.settings_file], capture_output=True, text=True, timeout=30)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("http.shapes", done.stderr)
            self.assertIn(said, done.stderr)


class Imports(unittest.TestCase):
    """What was counted elsewhere before is in the counts that the shapes show."""

    def test_counts_of_goatcounter_go_on(self):
        with ShapedStack("goatcounter", frontends=1) as stack:
            file = stack.folder / "export.csv"
            file.write_text('2Path,Title,Event,Bot\n/blog/post,A,false,0\n/blog/post,A,false,0\n/gr%C3%B6%C3%9Fe,B,false,0\n')
            stack.visitctl("import", str(file), "--from", "goatcounter")
            stack.ask("GET", "/count?p=%2Fblog%2Fpost%2F")
            self.assertEqual(stack.ask("GET", "/counter/%2Fblog%2Fpost.json").json()["count"], "3")
            stack.ask("GET", "/count?p=%2Fgr%25C3%25B6%25C3%259Fe%2F")
            self.assertEqual(stack.ask("GET", "/counter/%2Fgr%25C3%25B6%25C3%259Fe.json").json()["count"], "2")

    def test_counts_of_vercount_and_busuanzi_go_on(self):
        with ShapedStack("vercount", "busuanzi", frontends=1) as stack:
            address = "https://blog.example/größe/"
            with stack.shards[0].client() as redis:
                redis("SELECT", "5")
                redis("SET", "pv:page:blog.example:/größe", "40")
                site, page = (subprocess.run(["md5sum"], input=text.encode(), capture_output=True).stdout.decode().split()[0]
                              for text in ("blog.example", "/größe/"))  # fmt: skip
                redis("ZADD", f"bsz:page_pv:{site}", "7", page)
            source = f"redis://127.0.0.1:{stack.shards[0].port}/5"
            addresses = stack.folder / "addresses.txt"
            addresses.write_text(address + "\n")
            stack.visitctl("import", source, "--from", "vercount", "--with-host")
            stack.visitctl("import", source, "--from", "busuanzi", "--with-host", "--pages", str(addresses))
            encoded = "https://blog.example/gr%C3%B6%C3%9Fe/"
            answer = stack.ask("POST", "/log", json.dumps({"url": encoded}).encode())
            self.assertEqual(answer.json()["page_pv"], 41)
            answer = stack.ask("GET", "/busuanzi?jsonpCallback=f", None, {"Referer": encoded})
            self.assertEqual(re.search(rb'"page_pv":(\d+)', answer.body)[1], b"8")


if __name__ == "__main__":
    unittest.main()
