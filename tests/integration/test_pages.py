#!/usr/bin/env python3
"""`visitctl pages`, `total` and `export` on real shards: each page once, with all that is pending on this host, while visits are
counted and buckets move; what cannot be known is said, and is never 0."""

import csv
import fnmatch
import io
import json
import subprocess
import time
import unittest

from harness import VISITCTL, Client, Shard, Stack, Traffic, started_host, wait_for
from redis_cluster import ClusterStack

SETTINGS = {"flusher": {"flush_interval_ms": 600_000, "commit_interval_ms": 20}, "redis": {"buckets": 64, "check_interval_ms": 200}}
BUSY = {"flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20, "scan_pages_per_s": 1_000_000}, "cache": {"ttl_ms": 500},
        "redis": {"buckets": 64, "check_interval_ms": 500}}  # fmt: skip
ODD = ["a page with spaces", 'quotes " and , commas', "größe/✓", "back\\slash", "#hash", "~tilde", "=1+1", "x" * 1000]
LARGEST = 2**63 - 1


def found(stack: Stack, *arguments: str) -> dict[str, int]:
    """What `visitctl pages` lists; a page that comes twice is an error."""
    report = stack.status("pages", "--limit", "1000000", *arguments)
    pages = {page["page"]: page["count"] for page in report["pages"]}
    assert len(pages) == len(report["pages"]) == report["matching"], "a page came twice"
    return pages


def exported(stack: Stack) -> dict[str, int]:
    first, *lines, last = stack.visitctl("export", "--format", "jsonl").stdout.splitlines()
    pages = [(page["page"], page["count"]) for page in map(json.loads, lines)]
    assert len(dict(pages)) == len(pages) == json.loads(last)["pages"], "a page came twice"
    assert "this host recorded before" in json.loads(first)["consistent_to"], first
    return dict(pages)


def post_all(stack: Stack, pages) -> None:
    with Client(stack.port) as client:
        for page in pages:
            assert client.ask("POST", f"/visit/{page}").status == 200, page


def without_a_shard(stack: Stack) -> tuple[list[str], Shard, set[str]]:
    """Kills one of two shards that hold pages: all of the pages, that shard, and the pages that the other one holds."""
    pages = [f"page-{n}" for n in range(200)]
    post_all(stack, pages)
    stack.flush()
    down, other = stack.shards
    held = {page for page, (shard, _) in stack.redis_places().items() if shard == other.name}
    stack.kill9(down.name)
    wait_for("the shard is down", lambda: stack.status()["shards"][0]["state"] == "down")
    return pages, down, held


class Pages(unittest.TestCase):
    def stack(self, settings: dict = SETTINGS, **others) -> Stack:
        return self.enterContext(Stack(frontends=1, settings=settings, **others))

    def other_host(self, first: Stack) -> Stack:
        return started_host(first, self, SETTINGS, supervised=False, frontends=1)

    def test_lists_what_all_hosts_brought_and_what_is_pending_here(self):
        here = self.stack()
        there = self.other_host(here)
        for page in [*ODD, "both"]:
            here.post(page)
        here.flush()
        there.post("both")
        there.post("of the other")
        there.flush()
        for page in ("both", "pending", ODD[0]):
            here.post(page)
        there.post("pending there")
        expected = {page: 1 for page in [*ODD, "of the other", "pending"]} | {"both": 3, ODD[0]: 2}
        self.assertEqual(found(here), expected)
        self.assertEqual(exported(here), expected)
        self.assertEqual(found(there), {page: 1 for page in [*ODD, "of the other", "pending there"]} | {"both": 2})
        self.assertEqual(found(here, "--prefix", "pend"), {"pending": 1})
        self.assertEqual(found(here, "--match", "*s*a*"),
                         {page: count for page, count in expected.items() if fnmatch.fnmatchcase(page, "*s*a*")})
        by_count = here.status("pages", "--sort", "count", "--limit", "2")
        self.assertEqual(by_count["pages"], [{"page": "both", "count": 3}, {"page": ODD[0], "count": 2}])
        self.assertEqual((by_count["matching"], by_count["total"]), (len(expected), sum(expected.values())))
        self.assertEqual([page["page"] for page in here.status("pages")["pages"]], sorted(expected, key=str.encode))
        self.assertEqual(here.visitctl("total").stdout, f"{sum(expected.values())} visits\n")
        self.assertEqual(here.visitctl("total", "--prefix", "o").stdout, "1 visits of 1 pages\n")
        self.assertEqual(here.status("total", "--prefix", "b")["total"], 4)
        rows = list(csv.reader(line for line in io.StringIO(here.visitctl("export", "--format", "csv").stdout) if not line.startswith("# ")))
        self.assertEqual(rows[0], ["page", "count"])
        self.assertEqual({page: int(count) for page, count in rows[1:]}, expected)
        here.flush()
        self.assertEqual(found(here), expected)

    def test_a_bucket_of_thousands_of_pages_comes_in_pieces_with_what_is_pending(self):
        stack = self.stack({**SETTINGS, "flusher": {**SETTINGS["flusher"], "scan_pages_per_s": 10_000_000}, "redis": {**SETTINGS["redis"], "buckets": 2}}, shards=1)
        expected = {f"held-{n}": n for n in range(5000)}
        with stack.shards[0].client() as redis:
            redis("HSET", "visits:{0}", *(str(word) for item in expected.items() for word in item))
        pending = [f"pending-{n}" for n in range(3000)]
        post_all(stack, pending)
        self.assertEqual(found(stack), expected | {page: 1 for page in pending})
        stack.flush()
        post_all(stack, pending[:700])
        self.assertEqual(found(stack), expected | {page: 1 for page in pending[700:]} | {page: 2 for page in pending[:700]})

    def test_sums_do_not_wrap_and_a_page_without_a_number_has_no_count(self):
        stack = self.stack(shards=1)
        with stack.shards[0].client() as redis:
            redis("HSET", "visits:{0}", "a", str(LARGEST), "b", str(LARGEST), "c", str(LARGEST), "odd", "many")
        self.assertEqual(stack.status("total")["total"], str(3 * LARGEST))
        self.assertIn(f"{3 * LARGEST} visits\n(1 pages have no count", stack.visitctl("total").stdout)
        self.assertEqual(found(stack), {"a": LARGEST, "b": LARGEST, "c": LARGEST, "odd": None})

    def test_what_cannot_be_known_is_said_and_is_never_0(self):
        stack = self.stack()
        pages, down, held = without_a_shard(stack)
        stack.post(next(page for page in pages if page not in held))
        listed = stack.visitctl("pages", "--json", "--limit", "1000", check=False)
        self.assertEqual(listed.returncode, 1, listed)
        report = json.loads(listed.stdout)
        self.assertEqual({page["page"] for page in report["pages"]}, held)
        self.assertIn(f"shard {down.name} is down", report["error"])
        export = stack.visitctl("export", "--format", "csv", check=False)
        self.assertEqual(export.returncode, 1)
        self.assertIn("; not complete: ", export.stdout.splitlines()[-1])
        stack.restart(down.name)
        wait_for("all of it is known again", lambda: stack.visitctl("total", check=False).returncode == 0)
        self.assertEqual(len(found(stack)), len(pages))

    def test_an_emptied_bucket_is_not_known(self):
        stack = self.stack(shards=1)
        stack.post("home")
        stack.flush()
        place = stack.status("shards", "locate", "home")
        with stack.shards[0].client() as redis:
            redis("DEL", place["key"])
        listed = stack.visitctl("total", "--json", check=False)
        self.assertEqual(listed.returncode, 1, listed)
        self.assertIn("are not known", json.loads(listed.stdout)["error"])

    def check_while(self, stack: Stack, traffic: Traffic, goes_on) -> int:
        """Lists again and again: every page is there, once, and no count falls."""
        lists, before = 0, {}
        while goes_on() or lists == 0:
            listed = exported(stack)
            self.assertEqual({page: (count, listed.get(page)) for page, count in before.items() if listed.get(page, -1) < count}, {})
            before, lists = listed, lists + 1
        traffic.stop()
        held = traffic.check(60)
        self.assertEqual({page: (count, held.get(page)) for page, count in before.items() if held.get(page, -1) < count}, {})
        stack.flush()
        self.assertEqual(exported(stack), held)
        return lists

    def test_lists_are_exact_while_buckets_move_and_eight_clients_count(self):
        stack = self.stack(BUSY)
        traffic = Traffic(stack, clients=8, pages=500).start()
        spare = stack.spare()
        stack.shards.append(spare)
        wait_for("there is something to list", lambda: len(exported(stack)) > 100)
        stack.visitctl("shards", "add", f"{spare.name}=redis://{spare.host}:{spare.port}", "--no-wait", "--rate", "16")
        end = time.monotonic() + 15

        def moves() -> bool:
            said = stack.visitctl("shards", "moves", "--json", check=False)
            return time.monotonic() < end and (said.returncode != 0 or json.loads(said.stdout)["moving"])

        self.assertGreater(self.check_while(stack, traffic, moves), 2)

    def test_lists_a_cluster_while_slots_move(self):
        with ClusterStack(replicas=0, settings={**BUSY, "redis": {}}) as stack:
            traffic = Traffic(stack, clients=4, pages=300).start()
            wait_for("there is something to list", lambda: len(exported(stack)) > 100)
            first, second = (stack.node_at(port) for port in stack.primary_ports()[:2])
            stack.reshard(first, second, 500)
            stack.wait_for_cluster()
            end = time.monotonic() + 3
            self.check_while(stack, traffic, lambda: time.monotonic() < end)

    def test_a_flusher_that_is_restarted_in_the_middle_goes_on(self):
        stack = self.stack({**SETTINGS, "flusher": {**SETTINGS["flusher"], "scan_pages_per_s": 1000}}, supervised=True)
        pages = [f"page-{n}-{'x' * 900}" for n in range(2000)]
        post_all(stack, pages)
        stack.flush()
        stack.post(pages[0])
        with subprocess.Popen([str(VISITCTL), "--config", str(stack.settings_file), "total", "--prefix", "page-"], stdout=subprocess.PIPE, text=True) as listing:
            time.sleep(0.3)
            self.assertIsNone(listing.poll(), "the list is over already")
            stack.kill9("flusher")
            said, _ = listing.communicate(timeout=60)
        self.assertEqual(said, "2001 visits of 2000 pages\n")

    def test_an_unknown_place_is_refused(self):
        stack = self.stack()
        self.assertIn("csv", stack.visitctl("export", "--format", "xml", check=False).stderr)
        self.assertEqual(stack.visitctl("pages", "--sort", "size", check=False).returncode, 2)


SUM = "\x01sum"


def best(stack: Stack, limit: int = 1000) -> dict[str, int]:
    """What `visitctl top` says; the largest first, and no page twice."""
    pages = [(page["page"], page["count"]) for page in stack.status("top", "--limit", str(limit))["pages"]]
    assert len(dict(pages)) == len(pages), "a page came twice"
    assert pages == sorted(pages, key=lambda page: (-page[1], page[0].encode())), pages
    return dict(pages)


def total(stack: Stack) -> int:
    return int(stack.status("total")["total"])


def sums_read(stack: Stack) -> int:
    """How many times shards have read all pages of a bucket to say its sum."""
    calls = 0
    for shard in stack.shards:
        with shard.client() as redis:
            lines = [line for line in redis("INFO", "commandstats").splitlines() if line.startswith("cmdstat_hgetall:")]
        calls += sum(int(line.split("calls=")[1].split(",")[0]) for line in lines)
    return calls


class Sums(unittest.TestCase):
    """`visitctl top`, and `total` without a prefix: out of what buckets say of themselves."""

    def stack(self, settings: dict = SETTINGS, **others) -> Stack:
        return self.enterContext(Stack(frontends=1, settings=settings, **others))

    def check_all(self, stack: Stack) -> None:
        """They say what a list of all pages says."""
        listed = found(stack)
        self.assertEqual(total(stack), sum(listed.values()))
        for limit in (1, 3, 1000):
            said = best(stack, limit)
            self.assertEqual(list(said.values()), sorted(listed.values(), reverse=True)[:limit])
            self.assertEqual({page: listed[page] for page in said}, said)

    def test_two_hosts_and_what_is_pending(self):
        here = self.stack()
        self.assertEqual((total(here), best(here)), (0, {}))
        there = started_host(here, self, SETTINGS, supervised=False, frontends=1)
        for round_number in range(1, 4):
            for number, page in enumerate(ODD):
                for _ in range(number):
                    here.post(page)
            there.post("of the other")
            self.check_all(here)  # pending here; of the other host, what it has brought before
            here.flush()
            there.flush()
            self.check_all(here)
            self.check_all(there)
            self.assertEqual(total(here), round_number * (sum(range(len(ODD))) + 1))
        read = sums_read(here)
        here.post("one more")
        here.flush()
        self.check_all(there)
        # Each asks for the writers, by HGETALL too; no bucket is read.
        self.assertLessEqual(sums_read(here) - read, 8 * len(here.shards))
        self.assertEqual(best(here, 1), {ODD[-1]: 3 * (len(ODD) - 1)})

    def test_corrections_and_counts_mended_by_hand(self):
        stack = self.stack(shards=1)
        for number in range(1, 30):
            stack.visitctl("add", f"page-{number}", str(number))
        stack.flush()
        self.check_all(stack)
        stack.visitctl("set", "page-29", "3", "--yes")
        stack.visitctl("delete", "page-28", "--yes")
        stack.visitctl("rename", "page-27", "page-1", "--yes")
        self.check_all(stack)
        stack.flush()
        self.check_all(stack)
        key = stack.status("shards", "locate", "page-20")["key"]
        before = total(stack)
        with stack.shards[0].client() as redis:
            redis("HSET", key, "page-20", "1020")
            self.assertEqual(total(stack), before, "a count that was mended without \\x01fix is not known to its bucket's sum")
            redis("HINCRBY", key, "\x01fix", "1")
            self.assertEqual(total(stack), before + 1000)
            self.assertEqual(best(stack, 1), {"page-20": 1020})
            redis("HSET", key, "page by hand", "5000")
            self.assertEqual(total(stack), before + 6000)
            redis("HDEL", key, "page by hand", SUM)
            self.check_all(stack)
            redis("HSET", key, "page-20", "many")
            redis("HINCRBY", key, "\x01fix", "1")
        self.assertEqual(total(stack), before - 20)
        self.assertIn("(1 pages have no count", stack.visitctl("total").stdout)
        self.assertNotIn("page-20", best(stack))
        self.assertIn("(1 pages have no count", stack.visitctl("top").stdout)

    def test_sums_pass_64_bits(self):
        stack = self.stack(shards=1)
        for page in ("a", "b", "c"):
            stack.visitctl("set", page, str(LARGEST))
        stack.visitctl("set", "d", str(LARGEST - 1))
        stack.post("e")
        self.assertEqual(total(stack), 4 * LARGEST)
        self.assertEqual(best(stack), {"a": LARGEST, "b": LARGEST, "c": LARGEST, "d": LARGEST - 1, "e": 1})

    def test_what_cannot_be_known_is_said(self):
        stack = self.stack()
        _, down, held = without_a_shard(stack)
        for command in ("top", "total"):
            said = stack.visitctl(command, "--json", check=False)
            self.assertEqual(said.returncode, 1, said)
            report = json.loads(said.stdout)
            self.assertRegex(report["error"], rf"^\d+ of 64 buckets are not known.*shard {down.name} is down")
            if command == "total":
                self.assertEqual(report["total"], len(held))
        stack.restart(down.name)
        wait_for("all of it is known again", lambda: stack.visitctl("total", check=False).returncode == 0)
        self.check_all(stack)
        self.assertEqual(stack.visitctl("top", "--limit", "1001", check=False).returncode, 2)

    def test_an_emptied_bucket_is_not_known(self):
        stack = self.stack(shards=1)
        stack.post("home")
        stack.flush()
        place = stack.status("shards", "locate", "home")
        self.check_all(stack)
        with stack.shards[0].client() as redis:
            redis("DEL", place["key"])
        said = stack.visitctl("total", "--json", check=False)
        self.assertEqual(said.returncode, 1, said)
        self.assertIn("are not known", json.loads(said.stdout)["error"])

    def check_while(self, stack: Stack, traffic: Traffic, goes_on) -> None:
        """Totals and the best counts never fall, and are exact in the end."""
        before, best_before, rounds = 0, [], 0
        while goes_on() or rounds == 0:
            now, best_now = total(stack), list(best(stack, 10).values())
            self.assertGreaterEqual(now, before)
            self.assertTrue(all(count >= least for count, least in zip(best_now, best_before)), (best_before, best_now))
            before, best_before, rounds = now, best_now, rounds + 1
        traffic.stop()
        held = traffic.check(60)
        self.assertGreaterEqual(sum(held.values()), before)
        stack.flush()
        self.assertEqual(total(stack), sum(held.values()))
        self.check_all(stack)

    def test_exact_while_buckets_move_and_eight_clients_count(self):
        stack = self.stack(BUSY)
        traffic = Traffic(stack, clients=8, pages=500).start()
        spare = stack.spare()
        stack.shards.append(spare)
        wait_for("there is something to add up", lambda: total(stack) > 100)
        stack.visitctl("shards", "add", f"{spare.name}=redis://{spare.host}:{spare.port}", "--no-wait", "--rate", "16")
        end = time.monotonic() + 12

        def moves() -> bool:
            said = stack.visitctl("shards", "moves", "--json", check=False)
            return time.monotonic() < end and (said.returncode != 0 or json.loads(said.stdout)["moving"])

        self.check_while(stack, traffic, moves)

    def test_exact_in_a_cluster_while_slots_move(self):
        with ClusterStack(replicas=0, settings={**BUSY, "redis": {}}) as stack:
            traffic = Traffic(stack, clients=4, pages=300).start()
            wait_for("there is something to add up", lambda: total(stack) > 100)
            first, second = (stack.node_at(port) for port in stack.primary_ports()[:2])
            stack.reshard(first, second, 500)
            stack.wait_for_cluster()
            end = time.monotonic() + 3
            self.check_while(stack, traffic, lambda: time.monotonic() < end)


if __name__ == "__main__":
    unittest.main()
