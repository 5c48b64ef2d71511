#!/usr/bin/env python3
"""What the owner of a site does and sees over HTTP: counts set and deleted, pages listed, a total; at a private address, or with the
owner's key, which the flusher alone knows. With real processes, kills, and a second host."""

import json
import os
import signal
import subprocess
import threading
import time
import unittest
import urllib.parse
from pathlib import Path

from harness import FLUSHER, Client, Stack, free_port, started_host, wait_for

KEY = "correct-horse-battery-staple"
LARGEST = 2**63 - 1


def with_key(key: str = KEY) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def problem(answer) -> str:
    return answer.json()["type"].rpartition(":")[2]


class Owner(unittest.TestCase):
    """One stack with a private address and a key."""

    @classmethod
    def setUpClass(cls):
        cls.private = free_port()
        cls.stack = Stack(frontends=2, settings={"http": {"private_listen": [f"127.0.0.1:{cls.private}"]},
                                                 "cache": {"ttl_ms": 300}, "flusher": {"flush_interval_ms": 600_000}})  # fmt: skip
        cls.key_file = cls.stack.folder / "owner_key"
        cls.key_file.write_text(KEY + "\n")
        cls.stack.settings["owner"] = {"key_file": str(cls.key_file)}
        cls.stack.write_settings()
        cls.enterClassContext(cls.stack)

    def public(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None):
        return self.stack.ask(method, path, body, headers)

    def at_private(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None):
        with Client(self.private) as client:
            return client.ask(method, path, body, headers)

    def put(self, page: str, count, headers: dict | None = None):
        return self.at_private("PUT", f"/visits/{urllib.parse.quote(page, safe='')}", json.dumps({"count": count}).encode(), headers)

    def log(self) -> str:
        return self.stack.processes["flusher"].log.read_text()

    # ---- who may

    def test_a_private_address_needs_no_key(self):
        self.stack.post("private")
        answer = self.put("private", 40)
        self.assertEqual((answer.status, answer.json()), (200, {"page": "private", "before": 1, "count": 40}))
        self.assertEqual(self.stack.get("private"), 40, "the next read has it")

    def test_a_public_address_needs_the_key(self):
        self.stack.post("public")
        path, body = "/visits/public", b'{"count":7}'
        without = self.public("PUT", path, body)
        self.assertEqual((without.status, problem(without)), (401, "owner-key-needed"))
        self.assertEqual(without.headers["WWW-Authenticate"], 'Bearer realm="visitd"')
        for wrong in (KEY[:-1], KEY + "x", KEY.upper(), "x" * len(KEY), KEY[:-1] + "f"):
            refused = self.public("PUT", path, body, with_key(wrong))
            self.assertEqual((refused.status, problem(refused)), (403, "owner-key-wrong"), wrong)
        other_scheme = self.public("PUT", path, body, {"Authorization": f"Basic {KEY}"})
        self.assertEqual(other_scheme.status, 401)
        self.assertEqual(self.stack.get("public"), 1, "nobody has changed it")
        done = self.public("PUT", path, body, {"authorization": f"bearer  {KEY} "})
        self.assertEqual((done.status, done.json()["count"]), (200, 7))
        self.assertEqual(self.stack.get("public"), 7)
        wait_for("the refusals are in the log", lambda: "more were refused" in self.log())
        self.assertRegex(self.log(), r"refused what 127\.0\.0\.1.* asks for as the owner \(to change a count\): it bears no key")
        self.assertNotIn(KEY, self.log())

    def test_who_it_was_is_in_the_audit_log(self):
        self.stack.post("audited")
        self.assertEqual(self.public("PUT", "/visits/audited", b'{"count":5}', with_key()).status, 200)
        rows = [row for row in self.stack.status("corrections")["corrections"] if row["page"] == "audited"]
        self.assertEqual([row["count"] for row in rows], [5])
        self.assertRegex(rows[0]["by"], r"the owner over HTTP, from 127\.0\.0\.1")

    def test_no_key_stays_in_shared_memory(self):
        secret = "only-once-in-this-test-" + os.urandom(8).hex()
        self.assertEqual(self.public("GET", "/pages", headers=with_key(secret)).status, 403)
        for name in self.stack.frontends:
            pid = self.stack.processes[name].pid
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                if "SYSV" not in line:
                    continue
                begin, end = (int(part, 16) for part in line.split()[0].split("-"))
                with open(f"/proc/{pid}/mem", "rb") as memory:
                    memory.seek(begin)
                    self.assertNotIn(secret.encode(), memory.read(min(end - begin, 64 << 20)))

    def test_pages_of_other_sites_change_and_see_nothing(self):
        self.stack.post("csrf")
        origin = {"Origin": "https://evil.example"}
        refused = self.put("csrf", 9, origin)
        self.assertEqual((refused.status, problem(refused)), (403, "owner-from-elsewhere"))
        self.assertNotIn("Access-Control-Allow-Origin", refused.headers)
        listed = self.at_private("GET", "/pages", headers=origin)
        self.assertEqual(listed.status, 200)
        self.assertNotIn("Access-Control-Allow-Origin", listed.headers)
        preflight = self.at_private("OPTIONS", "/visits/csrf", headers=origin | {"Access-Control-Request-Method": "PUT"})
        self.assertEqual(preflight.headers["Access-Control-Allow-Methods"], "GET, HEAD, OPTIONS")
        self.assertIn("DELETE", preflight.headers["Allow"])
        self.assertEqual(self.stack.get("csrf"), 1)

    # ---- changing

    def test_delete_makes_it_zero(self):
        for _ in range(3):
            self.stack.post("deleted")
        answer = self.at_private("DELETE", "/visits/deleted")
        self.assertEqual((answer.status, answer.json()), (200, {"page": "deleted", "before": 3, "count": 0}))
        self.assertEqual(self.stack.get("deleted"), 0)
        self.assertNotIn("deleted", self.stack.redis_counts())
        self.stack.post("deleted")
        self.assertEqual(self.stack.get("deleted"), 1, "what comes afterwards counts")

    def test_every_page_and_every_count(self):
        for page in ("größe/✓", 'quotes " \\', "x" * 1024, '"' * 1024, "query", "a b+c", "%41"):
            for count in (0, 1, LARGEST, 12):
                answer = self.put(page, count)
                self.assertEqual((answer.status, answer.json()["page"], answer.json()["count"]), (200, page, count))
                self.assertEqual(json.loads(self.stack.ask("POST", "/visits/query", json.dumps([page]).encode()).body)["counts"], {page: count})
            self.assertEqual(self.at_private("DELETE", f"/visits/{urllib.parse.quote(page, safe='')}").json()["before"], 12)

    def test_bad_bodies_change_nothing(self):
        self.stack.post("bad")
        for body in (b"", b"{}", b"5", b'{"count":-1}', b'{"count":1.5}', b'{"count":"5"}', b'{"count":9223372036854775808}', b'{"count":1,"x":2}', b'{"count":',
                     b"[" * 100_000, b'{"count":1e3}', b'{"count":null}'):  # fmt: skip
            answer = self.at_private("PUT", "/visits/bad", body)
            self.assertEqual((answer.status, problem(answer)), (400, "invalid-count"), body[:40])
        self.assertEqual(self.at_private("PUT", "/visits/%00", b'{"count":1}').status, 400)
        self.assertEqual(self.at_private("PUT", "/visits/", b'{"count":1}').status, 400)
        self.assertEqual(self.at_private("PATCH", "/visits/bad", b'{"count":1}').status, 405)
        self.assertEqual(self.stack.get("bad"), 1)

    def test_chunked_and_pipelined(self):
        with Client(self.private) as client:
            answer = client.ask("PUT", "/visits/chunked", iter([b'{"cou', b'nt":3}']))
            self.assertEqual(answer.json()["count"], 3)
            self.assertEqual(client.ask("GET", "/visits/chunked").json()["count"], 3)

    # ---- lists

    def test_lists_in_order_with_a_cursor(self):
        pages = [f"list/{number:04}" for number in range(250)] + ["list/é", 'list/"', "list/ "]
        with Client(self.stack.port) as client:
            for page in pages:
                self.assertEqual(client.ask("POST", f"/visit/{urllib.parse.quote(page, safe='')}").status, 200)
        self.stack.flush()
        with Client(self.stack.port) as client:
            for page in pages[::2]:
                client.ask("POST", f"/visit/{urllib.parse.quote(page, safe='')}")
        expected = sorted(pages, key=str.encode)
        counts = {page: 2 if page in pages[::2] else 1 for page in pages}
        seen, after = [], ""
        while True:
            query = urllib.parse.urlencode({"prefix": "list/", "limit": 100, "after": after})
            answer = self.at_private("GET", f"/pages?{query}").json()
            seen += answer["pages"]
            if "after" not in answer:
                break
            after = answer["after"]
        self.assertEqual([one["page"] for one in seen], expected)
        self.assertEqual({one["page"]: one["count"] for one in seen}, counts)
        total = self.at_private("GET", "/total?prefix=list/").json()
        self.assertEqual(total, {"total": sum(counts.values()), "unknown_pages": 0})
        self.assertEqual(self.public("GET", "/pages?prefix=list/&limit=1", headers=with_key()).json()["pages"], [{"page": expected[0], "count": counts[expected[0]]}])
        self.assertEqual(self.at_private("HEAD", "/pages").body, b"")

    def test_top_and_total(self):
        before = self.at_private("GET", "/total").json()["total"]
        for page, count in (("top/1", 2**62), ("top/2", 2**62 - 1), ("top/3", 2**62)):
            self.assertEqual(self.put(page, count).status, 200)
        self.stack.post("top/2")
        self.stack.post("top/3")
        best = self.at_private("GET", "/top?limit=3").json()["pages"]
        self.assertEqual(best, [{"page": "top/3", "count": 2**62 + 1}, {"page": "top/1", "count": 2**62}, {"page": "top/2", "count": 2**62}])
        self.assertEqual(self.public("GET", "/top?limit=1", headers=with_key()).json()["pages"], best[:1])
        self.assertEqual(self.at_private("GET", "/total").json(), {"total": before + 3 * 2**62 + 1, "unknown_pages": 0})
        for page in ("top/1", "top/2", "top/3"):
            self.assertEqual(self.at_private("DELETE", f"/visits/{page}").status, 200)
        self.assertEqual(self.at_private("GET", "/total").json()["total"], before)
        self.assertEqual(self.public("GET", "/top").status, 401)

    def test_bad_parameters(self):
        self.assertEqual(self.at_private("GET", "/total?limit=5").status, 400)
        for query, kind in (("limit=0", "invalid-limit"), ("limit=1001", "invalid-limit"), ("limit=x", "invalid-limit"), ("page=x", "unknown-parameter"),
                            ("prefix=%zz", "invalid-percent-encoding")):  # fmt: skip
            answer = self.at_private("GET", f"/pages?{query}")
            self.assertEqual((answer.status, problem(answer)), (400, kind), query)
        self.assertEqual(self.at_private("POST", "/pages").status, 405)

    def test_many_at_once_are_all_answered(self):
        self.stack.post("many")
        answers = []

        def ask(number: int) -> None:
            answer = self.put(f"many/{number}", number) if number % 10 else self.at_private("GET", "/total")
            answers.append((answer.status, answer.json().get("detail", "")))

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(set(answers), {(200, "")})
        for number in range(60):
            self.assertEqual(self.stack.get(f"many/{number}"), number if number % 10 else 0)


class Settings(unittest.TestCase):
    def test_without_a_key_nobody_changes_counts_in_public(self):
        with Stack(frontends=1) as stack:
            stack.post("page")
            for headers in ({}, with_key()):
                answer = stack.ask("PUT", "/visits/page", b'{"count":5}', headers)
                self.assertEqual((answer.status, problem(answer)), (403, "owner-key-unset"))
                self.assertEqual(stack.ask("GET", "/pages", headers=headers).status, 403)
            self.assertEqual(stack.get("page"), 1)

    def test_lists_may_be_public_and_keys_needed_everywhere(self):
        private = free_port()
        with Stack(frontends=1, settings={"http": {"private_listen": [f"127.0.0.1:{private}"]},
                                          "owner": {"public_lists": True, "key_at_private_address": True}}) as stack:  # fmt: skip
            stack.post("page")
            self.assertEqual(stack.ask("GET", "/pages").json(), {"pages": [{"page": "page", "count": 1}]})
            with Client(private) as client:
                self.assertEqual(problem(client.ask("PUT", "/visits/page", b'{"count":5}')), "owner-key-unset")

    def test_a_new_key_counts_after_a_reload(self):
        stack = Stack(frontends=1)
        key_file = stack.folder / "owner_key"
        key_file.write_text(KEY)
        stack.settings["owner"] = {"key_file": str(key_file)}
        stack.write_settings()
        with stack:
            self.assertEqual(stack.ask("GET", "/total", headers=with_key()).status, 200)
            key_file.write_text("another-key-of-the-owner\n")
            os.kill(stack.processes["flusher"].pid, signal.SIGHUP)
            wait_for("the new key counts", lambda: stack.ask("GET", "/total", headers=with_key("another-key-of-the-owner")).status == 200)
            self.assertEqual(stack.ask("GET", "/total", headers=with_key()).status, 403)

    def test_a_key_that_anybody_guesses_is_refused(self):
        for key in ("short", "with a space in it", "x" * 257, "größe-größe-größe"):
            stack = Stack(frontends=1)
            self.addCleanup(stack.close)
            key_file = stack.folder / "owner_key"
            key_file.write_text(key)
            stack.settings["owner"] = {"key_file": str(key_file)}
            stack.write_settings()
            checked = subprocess.run([str(FLUSHER), "--config", str(stack.settings_file), "--check-config"], capture_output=True, text=True, timeout=30)
            self.assertNotEqual(checked.returncode, 0)
            self.assertIn("16 to 256 visible ASCII characters", checked.stderr)


class Away(unittest.TestCase):
    """What is away is said; what was asked for is done once, or not at all."""

    def setUp(self):
        self.private = free_port()
        self.stack = self.enterContext(Stack(frontends=1, settings={
            "http": {"private_listen": [f"127.0.0.1:{self.private}"]}, "owner": {"timeout_ms": 1500}, "redis": {"buckets": 16},
            "flusher": {"flush_interval_ms": 600_000}}))  # fmt: skip

    def ask(self, method: str, path: str, body: bytes | None = None):
        with Client(self.private) as client:
            return client.ask(method, path, body)

    def test_a_shard_that_is_away(self):
        for number in range(40):
            self.stack.post(f"page/{number}")
        self.stack.flush()
        away = self.stack.shards[0].name
        self.stack.kill9(away)
        wait_for("it is down", lambda: self.ask("GET", "/pages").status == 503)
        answer = self.ask("GET", "/total")
        self.assertEqual((answer.status, problem(answer)), (503, "count-unknown"))
        self.assertIn(away, answer.json()["detail"])
        self.assertIn("Retry-After", answer.headers)
        statuses = {page: self.ask("PUT", f"/visits/{page}", b'{"count":9}') for page in (f"page/{number}" for number in range(12))}
        refused = {page: answer.json()["detail"] for page, answer in statuses.items() if answer.status == 503}
        self.assertTrue(0 < len(refused) < 12)
        self.assertTrue(any(away in detail for detail in refused.values()), refused)
        self.stack.start_one(away)
        wait_for("it is back", lambda: self.ask("GET", "/total").status == 200)
        self.assertEqual(self.stack.get(next(iter(refused))), 1)

    def test_a_flusher_that_is_away_or_comes_back(self):
        self.stack.post("page")
        self.stack.kill9("flusher")
        begun = time.monotonic()
        answer = self.ask("PUT", "/visits/page", b'{"count":50}')
        self.assertEqual((answer.status, problem(answer)), (503, "not-done"))
        self.assertLess(time.monotonic() - begun, 5)
        self.stack.start_one("flusher")
        self.stack.wait_ready()
        self.assertEqual(self.stack.get("page"), 1, "nobody waited for it any more")
        # Asked while it is away, answered by the one that comes.
        self.stack.kill9("flusher")
        answers = []
        thread = threading.Thread(target=lambda: answers.append(self.ask("PUT", "/visits/page", b'{"count":60}').status))
        thread.start()
        self.stack.start_one("flusher")
        thread.join()
        wait_for("it is as was answered", lambda: self.stack.get("page") == (60 if answers == [200] else 1) or answers == [503])

    def test_killed_all_the_time_each_count_is_what_the_last_answer_said(self):
        until = time.monotonic() + 12
        known: dict[str, set[int]] = {}
        done = [0]

        def change(name: str) -> None:
            number = 0
            while time.monotonic() < until:
                number += 1
                try:
                    answer = self.ask("PUT", f"/visits/{name}", json.dumps({"count": number}).encode())
                    if answer.status == 200:
                        known[name] = {number}
                        done[0] += 1
                        continue
                except OSError:
                    time.sleep(0.05)
                known.setdefault(name, {0}).add(number)  # it may be done, or not

        threads = [threading.Thread(target=change, args=(f"killed/{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        kills = 0
        while time.monotonic() < until - 2:
            for name in ("flusher", self.stack.shards[kills % 2].name, "frontend_1"):
                time.sleep(0.4)
                self.stack.kill9(name)
                self.stack.start_one(name)
                kills += 1
        for thread in threads:
            thread.join()
        self.stack.wait_ready()
        self.assertGreater(done[0], 20)
        for name, counts in known.items():
            self.assertIn(self.stack.get(name), counts, name)
        print(f"{done[0]} counts set through {kills} kills", flush=True)


class TwoHosts(unittest.TestCase):
    def test_the_other_host_follows(self):
        settings = {"cache": {"ttl_ms": 300}, "owner": {"public_lists": True}}
        here = self.enterContext(Stack(frontends=1, settings=settings))
        key_file = here.folder / "owner_key"
        key_file.write_text(KEY)
        here.settings["owner"]["key_file"] = str(key_file)
        here.write_settings()
        os.kill(here.processes["flusher"].pid, signal.SIGHUP)
        there = started_host(here, self, settings, supervised=False, frontends=1)
        there.post("both")
        there.flush()
        wait_for("the key counts", lambda: here.ask("PUT", "/visits/both", b'{"count":30}', with_key()).status == 200)
        self.assertEqual(here.get("both"), 30)
        wait_for("the other host has it within a TTL", lambda: there.get("both") == 30)
        there.post("both")
        there.flush()
        self.assertEqual(here.ask("GET", "/total").json()["total"], 31)


if __name__ == "__main__":
    unittest.main()
