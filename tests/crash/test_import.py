"""Counts that another counter or a server's log has are added while visits are counted: each once, however often the import is said, and
whatever is killed meanwhile."""

import collections
import json
import random
import signal
import subprocess
import time
import unittest
from pathlib import Path

from harness import VISITCTL, Stack, Traffic, check_sums, wait_for

SETTINGS = {"flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20}, "cache": {"ttl_ms": 300}, "redis": {"buckets": 256},
            "pages": {"page_id_limit_bytes": 1024}}  # fmt: skip
IMPORTS = Path(__file__).parent / "imports"
# What other counters and servers leave, and what is to be counted of it.
EXPECTED = json.loads((IMPORTS / "expected.json").read_text())
class Import(unittest.TestCase):
    def setUp(self):
        self.stack = self.enterContext(Stack(frontends=1, settings=SETTINGS))
        self.file = self.stack.folder / "import"

    def bring_in(self, text: str | bytes, form: str, *more: str, check: bool = True, at: Stack | None = None) -> dict:
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())
        done = (at or self.stack).visitctl("import", str(self.file), "--from", form, "--json", *more, check=check)
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

    def test_each_format_counts_what_its_golden_file_says(self):
        """Of files; test_import_redis.py has those of servers."""
        wanted = collections.Counter()
        for name, golden in EXPECTED.items():
            if name.endswith(".redis"):
                continue
            report = self.bring_in((IMPORTS / name).read_bytes(), golden["from"])
            self.assertEqual((report["pages"], report["visits"], report["left_out"]),
                             (len(golden["counts"]), sum(golden["counts"].values()), golden["left_out"]), name)  # fmt: skip
            self.assertEqual(report["added_before"], 0, name)
            wanted.update(golden["counts"])
        for page, count in wanted.items():
            self.assertEqual(self.stack.get(page), count, page)

    def test_what_an_export_writes_an_import_takes_back_byte_for_byte(self):
        """Counts go from this host to another deployment and back."""
        pages = [f"page-{number}" for number in range(3000)] + ['"', '""a,b', "a,b", "# no remark", " leading and behind ", "grüße 从零开始 🙂", "\\", "'",
                                                                "page", "page,count", "x" * 1024, "é" * 512, "a?b=c&d=%20"]  # fmt: skip
        lines = [json.dumps({"page": page, "count": 1 + number * 7919 % 1000}, ensure_ascii=False) for number, page in enumerate(pages)]
        lines.append(json.dumps({"page": "most", "count": (1 << 63) - 1}))
        self.bring_in("\n".join(lines), "jsonl")
        other = self.enterContext(Stack(frontends=1, settings=SETTINGS))
        for form in ("csv", "jsonl"):
            exported = self.stack.visitctl("export", "--format", form).stdout
            # The same counts in another form are the same import, which is not added twice: also not after they were deleted.
            report = self.bring_in(exported, form, *(["--overwrite", "--yes"] if other.redis_counts() else []), at=other)
            self.assertEqual((report["pages"], report["bad_lines"]), (len(pages) + 1, 0))
            back = other.visitctl("export", "--format", form).stdout

            def counts(text: str) -> str:
                """Without what an export says of itself and of its time."""
                return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(("# visitd", "# ended", '{"export"', '{"ended_at"')))

            self.assertEqual(counts(back), counts(exported))
            if form == "csv":
                other.visitctl("set", "--match", "*", "7", "--yes")
                self.assertEqual(set(other.redis_counts().values()), {7})

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

    def test_an_import_sets_counts_if_it_is_told_to(self):
        self.bring_in("/a,10\n/b,20\n/kept,5\n", "csv")
        dry = self.bring_in("/a,12\n/b,3\n", "csv", "--overwrite", "--dry-run")
        self.assertEqual((dry["more"], dry["fewer"], dry["pages"]), (2, 17, 2))
        asked = self.stack.visitctl("import", str(self.file), "--from", "csv", "--overwrite", check=False)
        self.assertIn("/b: 20 → 3", asked.stdout)
        self.assertIn("--yes", asked.stderr)
        self.assertEqual(self.stack.get("/a"), 10)
        for _ in range(2):
            report = self.bring_in("/a,12\n/b,3\n", "csv", "--overwrite", "--yes")
            self.assertEqual(report["changed"], 2)
            self.assertEqual([self.stack.get(page) for page in ("/a", "/b", "/kept")], [12, 3, 5])
        self.bring_in("/a,13\n", "csv", "--overwrite")  # it does not fall
        self.assertEqual(self.stack.get("/a"), 13)

    def test_rules_of_one_import(self):
        rules = self.stack.folder / "rules"
        rules.write_text("# addresses to paths\ndrop prefix https://example.org\n\ndrop query\n")
        report = self.bring_in("https://example.org/a?b,1\n/a,2\n", "csv", "--map", str(rules))
        self.assertEqual((report["pages"], report["visits"]), (1, 3))
        self.assertEqual(self.stack.get("/a"), 3)
        rules.write_text("drop prefix x\nupper-case\n")
        refused = self.bring_in("/a,2\n", "csv", "--map", str(rules), check=False)
        self.assertIn("line 2: 'upper-case' is no rule; allowed: \"drop trailing-slash\"", refused["error"])

    def test_what_was_read_is_saved_and_never_written_over(self):
        saved = self.stack.folder / "saved.csv"
        self.bring_in('{"page":"a,\\"b","count":3}\n', "jsonl", "--save", str(saved), "--dry-run")
        self.assertEqual(saved.read_text(), 'page,count\n"a,""b",3\n')
        refused = self.bring_in('{"page":"c","count":3}\n', "jsonl", "--save", str(saved), check=False)
        self.assertIn("Import it with --from csv", refused["error"])
        self.assertEqual(self.bring_in(saved.read_bytes(), "csv")["added"], 1)

    def test_what_the_flusher_refuses_for_good_ends_an_import_at_once(self):
        """Here since visitctl knows another limit of page ids than the flusher."""
        other = self.enterContext(Stack(frontends=1, settings=SETTINGS | {"pages": {"page_id_limit_bytes": 1000}}))
        other.settings["pages"]["page_id_limit_bytes"] = 1024
        other.write_settings()
        begun = time.monotonic()
        refused = self.bring_in("x" * 1001 + ",1\n", "csv", check=False, at=other)
        self.assertIn("page_id_limit_bytes", refused["error"])
        self.assertLess(time.monotonic() - begun, 4)

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
