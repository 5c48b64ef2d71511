"""Counts that another counter or a server's log has are added while visits are counted: each once, however often the import is said, and
whatever is killed meanwhile."""

import collections
import json
import random
import signal
import subprocess
import time
import unittest

from harness import VISITCTL, Stack, Traffic, check_sums, wait_for

SETTINGS = {"flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20}, "cache": {"ttl_ms": 300}, "redis": {"buckets": 256}}
GOATCOUNTER = '''2Path,Title,Event,UserAgent,Browser,System,Session,Bot,Referrer,Referrer scheme,Screen size,Location,FirstVisit,Date
/a,"A, first",false,,Firefox 1,Linux,1,0,,,,DE,true,2026-01-01T00:00:00Z
/a,"A ""quoted""",false,,Firefox 1,Linux,2,0,,,,DE,true,2026-01-02T00:00:00Z
/b,B,false,,Firefox 1,Linux,3,0,,,,DE,true,2026-01-02T00:00:00Z
download,D,true,,Firefox 1,Linux,3,0,,,,DE,true,2026-01-02T00:00:00Z
/a,A,false,,bot,Linux,4,150,,,,DE,true,2026-01-02T00:00:00Z
'''
ACCESS_LOG = r'''127.0.0.1 - - [01/Jan/2026:00:00:00 +0000] "GET /a?utm=1 HTTP/1.1" 200 612 "-" "Firefox \"x\""
127.0.0.1 - - [01/Jan/2026:00:00:01 +0000] "GET /gr%C3%BC%C3%9Fe HTTP/2.0" 304 0 "-" "Firefox"
127.0.0.1 - - [01/Jan/2026:00:00:02 +0000] "GET http://example.org/a#top HTTP/1.1" 200 612
127.0.0.1 - - [01/Jan/2026:00:00:03 +0000] "POST /a HTTP/1.1" 200 612 "-" "Firefox"
127.0.0.1 - - [01/Jan/2026:00:00:04 +0000] "GET /missing HTTP/1.1" 404 12 "-" "Firefox"
'''


class Import(unittest.TestCase):
    def setUp(self):
        self.stack = self.enterContext(Stack(frontends=1, settings=SETTINGS))
        self.file = self.stack.folder / "import"

    def bring_in(self, text: str | bytes, form: str, *more: str, check: bool = True) -> dict:
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())
        done = self.stack.visitctl("import", str(self.file), "--from", form, "--json", *more, check=check)
        return json.loads(done.stdout)

    def test_counts_are_added_once_and_the_next_read_has_them(self):
        for _ in range(3):
            self.stack.post("/a")
        self.stack.flush()
        text = 'page,count\n/a,10\n"with ""quotes"", and a comma",20\n/a,5\ngrüße,1\nzero,0\n'
        report = self.bring_in(text, "csv")
        self.assertEqual((report["pages"], report["visits"], report["added"], report["added_before"]), (3, 36, 3, 0))
        wanted = {"/a": 18, 'with "quotes", and a comma': 20, "grüße": 1}
        for page, count in wanted.items():
            self.assertEqual(self.stack.get(page), count)
        report = self.bring_in(text, "csv")
        self.assertEqual((report["added"], report["added_before"]), (0, 3))
        self.stack.flush()
        self.assertEqual(self.stack.redis_counts(), wanted)
        self.assertEqual(self.stack.status("corrections")["corrections"][0]["gained"], 36)
        self.stack.stop_one("flusher")
        self.stack.start_one("flusher")
        self.stack.wait_ready()
        self.assertEqual(self.bring_in(text, "csv")["added_before"], 3)
        self.assertEqual(self.stack.redis_counts(), wanted)

    def test_each_format_says_what_it_counts(self):
        lines = '{"export":"x","version":1}\n{"page":"/a","count":3}\n{"page":"/b","count":9223372036854775807}\n'
        report = self.bring_in(lines, "jsonl")
        self.assertEqual((report["pages"], report["left_out"]), (2, 1))
        report = self.bring_in(GOATCOUNTER, "goatcounter")
        self.assertEqual((report["pages"], report["visits"], report["left_out"]), (2, 3, 2))
        report = self.bring_in(ACCESS_LOG, "access-log")
        self.assertEqual((report["pages"], report["visits"], report["left_out"]), (2, 3, 2))
        self.assertEqual(self.stack.get("/a"), 3 + 2 + 2)
        self.assertEqual(self.stack.get("/grüße"), 1)

    def test_bad_lines_are_named_and_nothing_is_counted_unless_they_are_left_out(self):
        for form, text, why in [("csv", "/a,1\n/b,x\n", "line 2: 'x' is no count"), ("csv", "/a,1\n/b\n", "line 2: it is not a page and a count"),
                                ("csv", '/a,1\n"/b,2\n', "line 2: it is not a page and a count"), ("csv", "/a,9223372036854775808\n", "line 1"),
                                ("csv", b"/a,1\n\xff,2\n", "line 2: the page id is not valid UTF-8"), ("csv", ",1\n", "the page id is empty"),
                                ("jsonl", '{"page":"/a"}\n', "line 1: it has no"), ("jsonl", "x\n", "line 1: it is no JSON object"),
                                ("jsonl", '{"page":"/a","count":-1}\n', "line 1"), ("goatcounter", "a,b\n1,2\n", "no column Path"),
                                ("access-log", "hello\n", "line 1: it has no request and status"),
                                ("access-log", '- "GET /%zz HTTP/1.1" 200 1\n', "is not percent-encoded"),
                                ("csv", "/a,9223372036854775807\n/a,1\n", "counts more than")]:  # fmt: skip
            refused = self.bring_in(text, form, check=False)
            self.assertIn(why, refused["error"], text)
            self.assertIn("nothing was counted", refused["error"])
        report = self.bring_in("/a,1\n/b,x\n", "csv", "--skip-bad")
        self.assertEqual((report["added"], report["bad_lines"]), (1, 1))
        self.assertEqual(self.bring_in("/c,1\n", "csv", "--dry-run")["added"], 0)
        self.stack.flush()
        self.assertEqual(self.stack.redis_counts(), {"/a": 1})

    def test_an_import_that_is_interrupted_goes_on_where_it_was(self):
        """Of 60,000 pages, while visits of some of them are counted, and flusher, shards and visitctl are killed."""
        self.stack.supervise()
        chance = random.Random(random.randrange(1 << 32))
        counts = {f"page-{number}": 1 + number % 7 for number in range(60_000)}
        self.file.write_text("".join(f"{page},{count}\n" for page, count in counts.items()))
        traffic = Traffic(self.stack, clients=4, readers=0, pages=40).start()
        kills = collections.Counter()
        for attempt in range(60):
            with self.stack.inside():
                visitctl = subprocess.Popen([str(VISITCTL), "--config", str(self.stack.settings_file), "import", str(self.file), "--from", "csv", "--json"],
                                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
            time.sleep(chance.uniform(0.05, 0.4))
            if attempt < 8:
                name = chance.choice(["flusher", "visitctl", chance.choice(self.stack.shards).name])
                kills[name.partition("_")[0]] += 1
                visitctl.send_signal(signal.SIGKILL) if name == "visitctl" else self.stack.kill9(name)
            out, _ = visitctl.communicate(timeout=120)
            if visitctl.returncode == 0 and attempt >= 8:
                break
        report = json.loads(out)
        self.assertEqual(report["added"] + report["added_before"], len(counts))
        traffic.stop()
        for shard in self.stack.shards:
            self.stack.wait_for_shard(shard)
        wait_for("all is in Redis", lambda: self.stack.visitctl("flush", check=False).returncode == 0, 60, 0.2)
        held = collections.Counter(self.stack.redis_counts())
        held.subtract(counts)
        check_sums([traffic], held)
        self.assertEqual([page for page, count in held.items() if count != 0 and page not in traffic.pages][:5], [])
        print(f"{len(counts)} pages in {attempt + 1} attempts, {traffic.acknowledged.total()} visits, kills: {dict(kills)}", flush=True)


if __name__ == "__main__":
    unittest.main()
