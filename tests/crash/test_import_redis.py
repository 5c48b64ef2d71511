"""Counts come out of the Redis servers of other counters: each key once, of all servers or of none, while visits are counted here."""

import hashlib
import json
import random
import shlex
import signal
import subprocess
import time
import unittest
from pathlib import Path

from harness import VISITCTL, Shard, Stack

SETTINGS = {"flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20}, "cache": {"ttl_ms": 300}, "redis": {"buckets": 256}}
IMPORTS = Path(__file__).parent / "imports"
EXPECTED = json.loads((IMPORTS / "expected.json").read_text())


def play(server: Shard, golden: str) -> None:
    """Says to a server what the counter says to it."""
    with server.client() as redis:
        redis.pipeline([shlex.split(line) if '"' in line and "{" not in line else line.split() for line in golden.splitlines()])


class ImportFromRedis(unittest.TestCase):
    def setUp(self):
        self.stack = self.enterContext(Stack(frontends=1, settings=SETTINGS))

    def bring_in(self, form: str, *words: str, check: bool = True) -> dict:
        return json.loads(self.stack.visitctl("import", *words, "--from", form, "--json", check=check).stdout)

    def test_each_counter_counts_what_its_golden_file_says(self):
        pages = ["--pages", str(IMPORTS / "busuanzi-pages.txt")]
        for name, golden in EXPECTED.items():
            if not name.endswith(".redis"):
                continue
            server = self.stack.spare()
            play(server, (IMPORTS / name).read_text())
            words = [server.url, *(pages if golden["from"] == "busuanzi" else [])]
            dry = self.bring_in(golden["from"], *words, "--dry-run")
            saved = self.stack.folder / name
            report = self.bring_in(golden["from"], *words, "--save", str(saved))
            self.assertEqual((report["pages"], report["visits"], report["left_out"]),
                             (len(golden["counts"]), sum(golden["counts"].values()), golden["left_out"]), name)  # fmt: skip
            for told in ("pages", "visits", "left_out", "notes"):
                self.assertEqual(dry[told], report[told], name)
            self.assertEqual(report["added"], len(golden["counts"]))
            self.assertEqual(self.bring_in(golden["from"], *words)["added_before"], len(golden["counts"]))
            self.assertEqual(self.bring_in("csv", str(saved))["added_before"], len(golden["counts"]))
            if golden["from"] == "original":
                self.assertEqual(len(set(report["left_out_keys"]) & {"session:1", "settings", "below", "queue", "long", "empty"}), 5)
            if golden["from"] == "busuanzi":
                self.assertEqual(report["notes"], [f"1 pages of these sites, with 4 visits, are not counted: {pages[1]} does not name them",
                                                   f"1 other sites are not counted: {pages[1]} names no page of theirs"])  # fmt: skip
            self.stack.flush()
            held = self.stack.redis_counts()
            self.assertEqual({page: held.pop(page) for page in golden["counts"]}, golden["counts"])
            self.stack.visitctl("delete", "--match", "*", "--yes")

    def test_the_originals_nodes_may_be_our_shards_and_counts_on_two_nodes_add_up(self):
        self.stack.post("home")
        self.stack.flush()
        first, second = self.stack.shards
        play(first, "INCRBY home 10\nINCRBY moved 4\n")
        play(second, "INCRBY moved 3\n")
        report = self.bring_in("original", first.url, second.url)
        self.assertEqual((report["pages"], report["visits"], report["left_out"]), (2, 17, 0))
        self.assertEqual(report["notes"], ["1 pages are on more than one server, and their counts are added up: moved"])
        self.assertEqual([self.stack.get(page) for page in ("home", "moved")], [11, 7])

    def test_keys_that_a_server_names_twice_count_once(self):
        """SCAN names keys twice while a server's table shrinks and grows: here it does so all the time."""
        server = self.stack.spare("--activerehashing", "yes")
        keys = 30_000
        with server.client() as redis:
            redis.pipeline([("SET", f"page-{number}", 1 + number % 7) for number in range(keys)])
            redis.pipeline([("SET", f"filler-{number}", "x") for number in range(200_000)])
            words = [str(VISITCTL), "--config", str(self.stack.settings_file), "import", server.url, "--from", "original", "--dry-run", "--json"]
            reading = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            for start in range(0, 200_000, 1000):
                redis.pipeline([("DEL", f"filler-{number}") for number in range(start, start + 1000)])
            out, _ = reading.communicate(timeout=60)
        report = json.loads(out)
        self.assertEqual((report["pages"], report["visits"]), (keys, sum(1 + number % 7 for number in range(keys))))

    def test_sites_are_told_apart(self):
        server = self.stack.spare()
        play(server, "INCRBY pv:page:example.org:/a 3\nINCRBY pv:page:example.com:8080:/a 4\n")
        refused = self.bring_in("vercount", server.url, check=False)
        self.assertIn("example.com:8080 and example.org", refused["error"])
        self.assertEqual(self.bring_in("vercount", server.url, "--site", "example.org", "--dry-run")["visits"], 3)
        self.bring_in("vercount", server.url, "--with-host")
        self.assertEqual([self.stack.get(page) for page in ("example.org/a", "example.com:8080/a")], [3, 4])
        pages = self.stack.folder / "pages"
        pages.write_text("https://example.org/a\nhttps://example.com/a\n")
        self.assertIn("more than one site", self.bring_in("busuanzi", server.url, "--pages", str(pages), check=False)["error"])
        pages.write_text("/a\n")
        self.assertIn("line 1: '/a' is no address", self.bring_in("busuanzi", server.url, "--pages", str(pages), check=False)["error"])
        self.assertIn("--pages", self.bring_in("busuanzi", server.url, check=False)["error"])
        pages.write_text("https://example.org/a\n")
        site, page = (hashlib.md5(text.encode()).hexdigest() for text in ("example.org", "/a"))
        play(server, f"ZINCRBY other:page_pv:{site} 5 {page}\nZADD other:page_pv:{site} 1.5 {page[8:24]}")
        for prefix, visits in (("other", 5), ("bsz", 0)):
            report = self.bring_in("busuanzi", server.url, "--pages", str(pages), "--prefix", prefix, "--dry-run")
            self.assertEqual(report["visits"], visits)

    def test_totals_of_sites_come_along_if_they_are_asked_for(self):
        server = self.stack.spare()
        play(server, "SET pv:page:example.org:/a 3\nSET pv:site:example.org 70\nSET uv:site:count:example.org 20\nSET pv:site:example.com 9\n")
        dry = self.bring_in("vercount", server.url, "--dry-run")
        self.assertEqual((dry["pages"], dry["visits"]), (1, 3))
        report = self.bring_in("vercount", server.url, "--site", "example.org", "--site-totals")
        self.assertEqual((report["pages"], report["visits"], report["left_out"]), (3, 93, 1))
        site = hashlib.md5(b"blog.example").hexdigest()
        page = hashlib.md5(b"/b").hexdigest()
        play(server, f"ZADD bsz:page_pv:{site} 5 {page}\nSET bsz:site_pv:{site} 500\nSET bsz:site_pv:{'0' * 32} 1\nSET bsz:site_pv:{site[8:24]} 11\n")
        pages = self.stack.folder / "pages.txt"
        pages.write_text("https://blog.example/b\n")
        report = self.bring_in("busuanzi", server.url, "--pages", str(pages), "--site-totals")
        self.assertEqual((report["pages"], report["visits"], report["left_out"]), (2, 516, 1))
        self.stack.flush()
        held = self.stack.redis_counts()
        wanted = {"/a": 3, "site:example.org": 70, "visitors:example.org": 20, "/b": 5, "site:blog.example": 511}
        self.assertEqual({page: held.get(page) for page in wanted}, wanted)
        self.assertNotIn("site:example.com", held)

    def test_a_server_that_cannot_be_read_counts_nothing_and_no_password_is_shown(self):
        secured = self.stack.spare()
        with secured.client() as redis:
            redis("CONFIG", "SET", "requirepass", "s3cret")
        open_one = self.stack.spare()
        with open_one.client() as redis:
            redis("SET", "home", "5")
        secret = secured.url.replace("redis://", "redis://:s3cret@")
        wrong = secured.url.replace("redis://", "redis://:wr0ng@")
        for urls, why in [([secured.url], "name user and password in the URL"), ([open_one.url, wrong], "refuses AUTH"), (["redis://:wr0ng@127.0.0.1:1"], "cannot be connected to"),
                          (["rediss://:wr0ng@127.0.0.1:1"], "neither over TLS"), ([open_one.url, open_one.url], "are the same server"),
                          (["home.txt"], "takes URLs of Redis servers"), (["redis://:wr0ng@:0"], "is not the address")]:  # fmt: skip
            refused = self.stack.visitctl("import", *urls, "--from", "original", check=False)
            self.assertEqual(refused.returncode, 1, urls)
            self.assertIn(why, refused.stderr, urls)
            self.assertNotIn("wr0ng", refused.stderr + refused.stdout)
        with secured.client() as redis:
            redis.pipeline([("AUTH", "s3cret"), ("SET", "home", "3")])
        report = self.stack.visitctl("import", secret, open_one.url, "--from", "original", "--json")
        self.assertNotIn("s3cret", report.stdout + report.stderr)
        self.assertEqual(self.stack.get("home"), 8)
        replica = self.stack.spare("--replicaof", f"127.0.0.1 {open_one.port}")
        refused = self.bring_in("original", open_one.url, replica.url, check=False)
        self.assertIn("is a replica", refused["error"])

    def test_an_import_that_is_interrupted_goes_on_where_it_was(self):
        """Of 60,000 keys on two servers, of which one is killed while it is read, as are flusher and visitctl."""
        self.stack.supervise()
        chance = random.Random(random.randrange(1 << 32))
        servers = [self.stack.spare("--appendfsync", "always") for _ in range(2)]
        counts = {f"page-{number}": 1 + number % 7 for number in range(60_000)}
        for index, server in enumerate(servers):
            with server.client() as redis:
                redis.pipeline([("SET", page, count) for page, count in list(counts.items())[index::2]])
        words = [str(VISITCTL), "--config", str(self.stack.settings_file), "import", *(server.url for server in servers), "--from", "original", "--json"]
        for attempt in range(60):
            visitctl = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            time.sleep(chance.uniform(0.02, 0.4))
            if attempt < 8:
                name = chance.choice(["flusher", "visitctl", servers[0].name])
                visitctl.send_signal(signal.SIGKILL) if name == "visitctl" else self.stack.kill9(name)
            out, _ = visitctl.communicate(timeout=120)
            if visitctl.returncode == 0 and attempt >= 8:
                break
            for server in servers:
                self.stack.wait_for_shard(server)
        report = json.loads(out)
        self.assertEqual(report["added"] + report["added_before"], len(counts))
        self.stack.flush()
        self.assertEqual(self.stack.redis_counts(), counts)


if __name__ == "__main__":
    unittest.main()
