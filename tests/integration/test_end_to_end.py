"""A visit's whole way: HTTP, ring, flusher, spool, Redis, and back."""

import json
import socket
import subprocess
import threading
import unittest
import urllib.parse

from harness import PATIENCE_S, Client, Stack, Traffic, wait_for

LONGEST_ID_BYTES = 1024  # the default of pages.page_id_limit_bytes


class EndToEnd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = cls.enterClassContext(Stack(frontends=2))

    def raw(self, request: bytes) -> bytes:
        """Sends bytes, and reads until the server closes."""
        with socket.create_connection(("127.0.0.1", self.stack.port), timeout=PATIENCE_S) as connection:
            connection.sendall(request)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        return answer

    def test_a_visit_is_answered_with_the_agreed_words(self):
        answer = self.stack.post("home")
        self.assertEqual(answer.body, b'{"status":"success","message":"Visit recorded for page home"}')
        self.assertTrue(answer.headers["Content-Type"].startswith("application/json"))

    def test_a_count_is_answered_with_the_agreed_words(self):
        self.stack.post("words")
        first = self.stack.read("words")
        self.assertIn(first.json()["served_via"], ["in-memory", *(shard.name for shard in self.stack.shards)])
        self.assertEqual(self.stack.read("words").body, b'{"count":1,"served_via":"in-memory"}')

    def test_a_first_read_goes_to_the_shard_of_the_page_and_says_so(self):
        served = {self.stack.read(f"cold-{n}").json()["served_via"] for n in range(40)}
        self.assertEqual(served, {shard.name for shard in self.stack.shards})

    def test_a_visit_that_asks_for_its_count_is_told_one_that_includes_it(self):
        clients, visits = 8, 200
        told: list[list[int]] = [[] for _ in range(clients)]

        def visit(mine: list[int]) -> None:
            with Client(self.stack.port) as client:
                for _ in range(visits):
                    answer = client.ask("POST", "/visit/counted?count")
                    mine.append(answer.json()["count"])

        threads = [threading.Thread(target=visit, args=(mine,)) for mine in told]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for mine in told:
            self.assertEqual(len(mine), visits)
            self.assertEqual(sorted(set(mine)), mine, "each of a client's visits is one more")
        # One of them came last, and was told all of them.
        self.assertEqual(max(map(max, told)), clients * visits)

    def test_a_page_never_visited_has_count_zero(self):
        self.assertEqual(self.stack.get("never"), 0)

    def test_it_is_healthy(self):
        for path in ("/", "/api/v1/counter/", "/api/v1/counter"):
            answer = self.stack.ask("GET", path)
            self.assertEqual((answer.status, answer.body), (200, b'{"status":"healthy"}'), path)

    def test_both_prefixes_are_one_counter(self):
        self.stack.post("prefix")
        self.stack.post("prefix", "/api/v1/counter")
        self.assertEqual(self.stack.get("prefix"), 2)
        self.assertEqual(self.stack.get("prefix", "/api/v1/counter"), 2)

    def test_every_frontend_knows_a_visit_at_once(self):
        for number in range(1, 51):
            self.stack.post("every")
            self.assertEqual(self.stack.get("every"), number)

    def test_curl_counts_at_once(self):
        url = f"http://127.0.0.1:{self.stack.port}/visit/curl"
        for body in ([], ["-d", ""], ["-d", "x=1"], ["-T", "/dev/null"]):
            subprocess.run(["curl", "-sS", "--fail", "--max-time", "2", "-X", "POST", *body, url], check=True,
                           stdout=subprocess.DEVNULL)  # fmt: skip
        self.assertEqual(self.stack.get("curl"), 4)

    def test_no_body_and_no_length_counts(self):
        answer = self.raw(b"POST /visit/bare HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
        self.assertEqual(self.stack.get("bare"), 1)

    def test_a_beacon_counts_and_its_body_is_thrown_away(self):
        with Client(self.stack.port) as client:
            for kind in ("text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
                answer = client.ask("POST", "/visit/beacon", b"POST /visit/beacon HTTP/1.1\r\n\r\n" + b"b" * 20000,
                                    {"Content-Type": kind, "Origin": "https://example.org"})  # fmt: skip
                self.assertEqual(answer.status, 200, kind)
                self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "https://example.org")
        self.assertEqual(self.stack.get("beacon"), 3)

    def test_a_chunked_body_counts_once(self):
        answer = self.raw(b"POST /visit/chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
                          b"5\r\nhello\r\n0\r\n\r\n")  # fmt: skip
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
        self.assertEqual(self.stack.get("chunked"), 1)

    def test_a_preflight_is_answered(self):
        answer = self.stack.ask("OPTIONS", "/visit/home", None,
                                {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"})  # fmt: skip
        self.assertIn(answer.status, (200, 204))
        self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "https://example.org")
        self.assertIn("POST", answer.headers["Access-Control-Allow-Methods"])

    def test_an_id_is_the_rest_of_the_path_decoded_once(self):
        self.stack.post("a/b")
        self.stack.post("größe")
        self.assertEqual(self.stack.get("größe"), 1)
        self.assertEqual(self.stack.ask("POST", "/visit/100%2525").json()["message"], "Visit recorded for page 100%25")
        for target in ("/visit/a/b", "/api/v1/counter/visit/a/b", "/visit/a%2Fb?from=x/y", f"http://127.0.0.1:{self.stack.port}/visit/a/b"):
            self.assertEqual(self.stack.ask("POST", target).json()["message"], "Visit recorded for page a/b", target)
        self.assertEqual(self.stack.get("a/b"), 5)
        self.assertEqual(self.stack.ask("GET", "/visits/a/b").json()["count"], 5)

    def test_slashes_of_a_path_stay_as_they_are(self):
        pages = ("2024/从零开始/", "2024/从零开始", "2024//从零开始/", "/", "//", "/2024", "query/", "a/../b")
        for page in pages:
            for name in (urllib.parse.quote(page), urllib.parse.quote(page, safe="")):
                self.assertEqual(self.stack.ask("POST", f"/visit/{name}").json()["message"], f"Visit recorded for page {page}")
                self.assertEqual(self.stack.ask("GET", f"/visits/{name}").status, 200)
        counts = self.stack.ask("POST", "/visits/query", json.dumps(pages).encode()).json()["counts"]
        self.assertEqual(counts, dict.fromkeys(pages, 2))
        self.stack.flush()
        self.assertEqual({page: count for page, count in self.stack.redis_counts().items() if page in pages}, counts)

    def test_a_bad_id_is_refused_and_the_rule_is_named(self):
        for path, rule in (("/visit/", "empty"), ("/visit/" + "x" * 1025, "the page id has 1025 bytes; pages.page_id_limit_bytes allows 1024"), ("/visit/%FF", "UTF-8"), ("/visit/%0A", "control")):
            answer = self.stack.ask("POST", path)
            self.assertEqual(answer.status, 400, path)
            self.assertIn(rule, str(answer.json()))

    def test_unknown_paths_and_wrong_methods_are_told_apart(self):
        self.assertEqual(self.stack.ask("GET", "/nothing/here").status, 404)
        wrong = self.stack.ask("GET", "/visit/home")
        self.assertEqual(wrong.status, 405)
        self.assertIn("POST", wrong.headers["Allow"])
        self.assertIn("GET", self.stack.ask("PATCH", "/visits/home").headers["Allow"])

    def test_counts_reach_redis_each_on_one_shard_and_both_are_used(self):
        pages = {f"placed-{n}": n % 3 + 1 for n in range(60)}
        for page, visits in pages.items():
            for _ in range(visits):
                self.stack.post(page)

        def held():
            return {page: count for page, count in self.stack.redis_counts().items() if page in pages}

        wait_for("Redis holds the visits", lambda: held() == pages)
        places = self.stack.redis_places()
        self.assertEqual({places[page][0] for page in pages}, {shard.name for shard in self.stack.shards})

    def test_a_first_read_names_the_shard_that_holds_the_page(self):
        pages = [f"named-{n}" for n in range(20)]
        for page in pages:
            self.stack.post(page)
        served = {page: self.stack.read(page).json()["served_via"] for page in pages}
        wait_for("Redis holds the pages", lambda: set(pages) <= set(self.stack.redis_counts()))
        places = self.stack.redis_places()
        for page in pages:
            self.assertIn(served[page], ("in-memory", places[page][0]))


class ManyAtOnce(unittest.TestCase):
    def test_a_thousand_pages_are_recorded_and_read_at_once_cold_and_warm(self):
        self.recorded_and_read_at_once([f"{number:04d}" + "x" * 246 for number in range(1000)])

    def test_a_thousand_pages_of_the_longest_ids_are_too(self):
        self.recorded_and_read_at_once([f"{number:04d}".ljust(LONGEST_ID_BYTES, "x") for number in range(1000)])

    def recorded_and_read_at_once(self, pages: list[str]) -> None:
        # A flush would make what it carries known before anybody asked.
        with Stack(frontends=2, settings={"flusher": {"flush_interval_ms": 600_000}}) as stack:
            recorded = stack.ask("POST", "/visits", json.dumps(pages).encode())
            self.assertEqual(recorded.json(), {"status": "success", "entries": 1000, "visits": 1000})
            cold = stack.ask("POST", "/visits/query", json.dumps(pages).encode())
            self.assertIn("fwd=miss", cold.headers["Cache-Status"])
            warm = stack.ask("POST", "/visits/query", json.dumps(pages[::-1]).encode())
            self.assertIn("hit; ttl=", warm.headers["Cache-Status"])
            self.assertEqual(cold.json()["counts"], dict.fromkeys(pages, 1))
            self.assertEqual(warm.json()["counts"], dict.fromkeys(pages, 1))


class LongIds(unittest.TestCase):
    """Page ids of up to 1,024 bytes, beside short ones."""

    def test_the_longest_id_is_counted_and_read_as_a_short_one_is(self):
        longest = "从零开始" * 85 + "零x"
        self.assertEqual(len(longest.encode()), LONGEST_ID_BYTES)
        ids = {longest: 3, longest[:-1]: 2, longest[:-1] + "y": 4, longest[:100]: 5, "x": 1}
        with Stack(frontends=2, settings={"flusher": {"flush_interval_ms": 600_000}}) as stack:
            for page, visits in ids.items():
                for _ in range(visits):
                    self.assertEqual(stack.post(page).json()["message"], f"Visit recorded for page {page}")
            # First pending and cold, then from the cache; then while no flusher runs, and from the next one.
            for _ in range(2):
                self.assertEqual({page: stack.get(page) for page in ids}, ids)
            stack.kill9("flusher")
            stack.post(longest)
            ids[longest] += 1
            self.assertEqual({page: stack.get(page) for page in ids}, ids)
            stack.start_one("flusher")
            stack.wait_ready()
            stack.post(longest)
            ids[longest] += 1
            self.assertEqual({page: stack.get(page) for page in ids}, ids)
            body = json.dumps(list(ids), ensure_ascii=False).encode()
            self.assertEqual(stack.ask("POST", "/visits/query", body).json()["counts"], ids)
            query = urllib.parse.urlencode({"page": longest})
            self.assertEqual(stack.ask("GET", f"/visits?{query}").json()["counts"], {longest: ids[longest]})
            self.assertEqual(stack.ask("POST", "/visits", json.dumps(ids).encode()).json()["entries"], len(ids))
            ids = {page: 2 * count for page, count in ids.items()}
            wait_for("the next flusher flushes", lambda: stack.visitctl("flush", check=False).returncode == 0)
            self.assertEqual(stack.redis_counts(), ids)
            self.assertEqual({page: stack.get(page) for page in ids}, ids)
            self.assertEqual(stack.status("page", longest)["sum"], ids[longest])

    def test_one_byte_more_is_refused_and_the_limit_is_named(self):
        longer = "零" * 341 + "xx"
        detail = "the page id has 1025 bytes; pages.page_id_limit_bytes allows 1024"
        quoted = urllib.parse.quote(longer)
        with Stack(frontends=1) as stack:
            for method, target, body in (("POST", f"/visit/{quoted}", None), ("GET", f"/visits/{quoted}", None), ("GET", f"/visits?page=x&page={quoted}", None),
                                         ("POST", "/visits", ["x", longer]), ("POST", "/visits", {"x": 1, longer: 1}),
                                         ("POST", "/visits/query", ["x", longer])):  # fmt: skip
                answer = stack.ask(method, target, body and json.dumps(body).encode())
                self.assertEqual((answer.status, answer.json()["detail"]), (400, detail), f"{method} {target[:20]}")
            self.assertEqual(stack.get("x"), 0)
            self.assertIn(detail, stack.visitctl("page", longer, check=False).stderr)

    def test_lists_of_more_long_ids_than_the_cache_has_cells_for_are_answered(self):
        pages = [f"{number:04d}".ljust(LONGEST_ID_BYTES, "x") for number in range(600)]
        with Stack(frontends=1, settings={"cache": {"entries": 256}, "flusher": {"flush_interval_ms": 600_000}}) as stack:
            self.assertEqual(stack.ask("POST", "/visits", json.dumps(pages).encode()).status, 200)
            answers = {}

            def read(part: int) -> None:
                answers[part] = stack.ask("POST", "/visits/query", json.dumps(pages[part * 150 : part * 150 + 150]).encode())

            readers = [threading.Thread(target=read, args=(part,)) for part in range(4)]
            for reader in readers:
                reader.start()
            for reader in readers:
                reader.join(PATIENCE_S)
            self.assertEqual([answers[part].status for part in range(4)], [200] * 4)
            self.assertEqual({page: count for answer in answers.values() for page, count in answer.json()["counts"].items()}, dict.fromkeys(pages, 1))

    def test_counts_stay_exact_while_entries_are_evicted_and_everything_is_killed(self):
        # Fewer cells than these pages need, so that some lose theirs to others all the time.
        with Stack(frontends=2, supervised=True, settings={"cache": {"entries": 24}}) as stack:
            traffic = Traffic(stack, clients=6, readers=4, visits=3000)
            traffic.pages = [f"page-{number}".ljust((8, 256, 257, 600, LONGEST_ID_BYTES)[number % 5], "x") for number in range(20)]
            traffic.start()
            for name in ("flusher", "frontend_1", "flusher", "frontend_2", "flusher"):
                wait_for(f"{name} runs", lambda name=name: stack.processes[name].alive)
                stack.kill9(name)
                traffic._ending.wait(0.3)
            traffic.wait()
            traffic.check()
            self.assertGreater(stack.status()["flusher"]["statistics"]["entries_evicted"], 0)


class Restarts(unittest.TestCase):
    def test_everything_stopped_and_started_again_goes_on_with_the_same_counts(self):
        with Stack(frontends=2) as stack:
            pages = {f"kept-{n}": n + 1 for n in range(10)}
            for page, visits in pages.items():
                for _ in range(visits):
                    stack.post(page)
            stack.stop_all()
            stack.start()
            for page, visits in pages.items():
                self.assertEqual(stack.get(page), visits)
                stack.post(page)
                self.assertEqual(stack.get(page), visits + 1)
            stack.wait_for_redis({page: visits + 1 for page, visits in pages.items()})

    def test_everything_killed_and_started_again_goes_on_with_the_same_counts(self):
        with Stack(frontends=2) as stack:
            for _ in range(50):
                stack.post("killed")
            for name in [*stack.frontends, "flusher", *(shard.name for shard in stack.shards)]:
                stack.kill9(name)
            stack.start()
            self.assertEqual(stack.get("killed"), 50)
            stack.wait_for_redis({"killed": 50})

    def test_visits_count_before_the_flusher_was_ever_there(self):
        stack = Stack(frontends=1)
        self.addCleanup(stack.close)
        for shard in stack.shards:
            stack.start_one(shard.name)
        stack.start_one("frontend_1")
        wait_for("the frontend listens", lambda: stack.listens(stack.processes["frontend_1"].pid))
        for _ in range(20):
            stack.post("early")
        stack.start_one("flusher")
        stack.wait_ready()
        self.assertEqual(stack.get("early"), 20)
        stack.wait_for_redis({"early": 20})

    def test_a_stopped_flusher_has_carried_everything_to_redis(self):
        with Stack(frontends=1, settings={"flusher": {"flush_interval_ms": 60000}}) as stack:
            for _ in range(30):
                stack.post("last")
            self.assertEqual(stack.stop_one("flusher"), 0)
            self.assertEqual(stack.redis_counts(), {"last": 30})

    def test_kills_at_random_times_lose_and_double_nothing(self):
        with Stack(frontends=2, supervised=True) as stack:
            traffic = Traffic(stack, clients=8, readers=2, pages=20, visits=3000).start()
            for name in ("flusher", "frontend_1", "flusher", "frontend_2", stack.shards[0].name, "flusher"):
                wait_for(f"{name} runs", lambda name=name: stack.processes[name].alive)
                stack.kill9(name)
                traffic._ending.wait(0.3)
            traffic.wait()
            traffic.check()


if __name__ == "__main__":
    unittest.main()
