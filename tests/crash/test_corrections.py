"""An owner sets, adds to, deletes, renames and merges counts on two hosts, while visits are counted, and through kills: each correction
counts once, the next read of its host shows it, and other hosts follow."""

import collections
import json
import os
import random
import shutil
import subprocess
import threading
import time
import unittest

from harness import VISITCTL, Stack, Traffic, check_sums, started_host, wait_for

# VISITD_CORRECTIONS_SECONDS: for a longer campaign.
SECONDS = float(os.environ.pop("VISITD_CORRECTIONS_SECONDS", "15"))
# Between two corrections of an owner: of each host the record shows a thousand pages, and all are to be in it.
PAUSE_S = 0.05
SETTINGS = {"flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20}, "cache": {"ttl_ms": 300}, "redis": {"buckets": 64}}
PAGES = 12


def fields(stack: Stack, name: str) -> list[tuple[str, str]]:
    """What buckets hold in this field: key and value."""
    found = []
    for shard in stack.shards:
        with shard.client() as redis:
            keys = redis("KEYS", "visits:{*}")
            found += [(key, value) for key, value in zip(keys, redis.pipeline([("HGET", key, name) for key in keys])) if value is not None]
    return found


class Corrections(unittest.TestCase):
    def setUp(self):
        self.stack = self.enterContext(Stack(frontends=2, settings=SETTINGS))
        self.other = started_host(self.stack, self, SETTINGS, supervised=False)

    def correct(self, *words: str) -> list[dict]:
        report = json.loads(self.stack.visitctl(*words, "--yes", "--json").stdout)
        self.assertTrue(all(change["done"] for change in report["changes"]))
        return report["changes"]

    def follows(self, counts: dict[str, int]) -> None:
        """The host where it was done shows it with the next read, the other one within a TTL, and Redis holds it."""
        for page, count in counts.items():
            self.assertEqual(self.stack.get(page), count, page)
        for page, count in counts.items():
            wait_for(f"the other host follows: {page}", lambda page=page, count=count: self.other.shows(page, count))

    def count(self, visits: dict[str, int]) -> None:
        for page, times in visits.items():
            for _ in range(times):
                self.stack.post(page)
        self.stack.flush()
        self.follows(visits)

    def test_a_count_is_set_added_to_and_taken_out(self):
        self.count({"home": 5, "about": 3, "old": 2})
        self.stack.post("home")  # not in Redis yet: it is among what is corrected
        changes = self.correct("set", "home", "2")
        self.assertEqual([(change["now"], change["becomes"]) for change in changes], [(6, 2)])
        self.follows({"home": 2})
        self.stack.post("home")
        self.assertEqual(self.stack.get("home"), 3)
        self.correct("set", "about", "100")
        self.correct("set", "new", "7")
        self.follows({"about": 100, "new": 7})
        self.stack.visitctl("add", "about", "11")
        self.follows({"about": 111})
        changes = self.correct("delete", "home", "old", "never-counted")
        self.assertEqual([change["now"] for change in changes], [3, 2, 0])
        self.follows({"home": 0, "old": 0, "never-counted": 0})
        self.stack.flush()
        self.assertEqual(self.stack.redis_counts(), {"about": 111, "new": 7})

    def test_counts_go_to_another_page(self):
        self.count({f"from-{number}": number + 1 for number in range(5)} | {"into": 10})
        self.correct("rename", "from-4", "renamed")
        self.follows({"from-4": 0, "renamed": 5})
        self.correct("merge", "from-0", "from-1", "from-2", "from-3", "into")
        self.follows({"into": 20} | {f"from-{number}": 0 for number in range(4)})
        self.stack.flush()
        self.assertEqual(self.stack.redis_counts(), {"into": 20, "renamed": 5})

    def test_every_correction_is_on_record_also_for_the_next_flusher(self):
        self.count({"home": 5, "old": 2})
        self.correct("set", "home", "2")
        self.correct("rename", "old", "new")
        self.stack.visitctl("add", "new", "4")

        def on_record() -> list[dict]:
            return self.stack.status("corrections")["corrections"]

        wanted = [(None, 3, 2, "home", None), (None, 2, 0, "old", "new"), (4, None, None, "new", None)]
        self.assertEqual([(row["gained"], row["lost"], row["count"], row["page"], row["into"]) for row in on_record()], wanted)
        self.assertTrue(all(abs(row["at"] - time.time()) < 60 and row["by"] for row in on_record()))
        text = self.stack.visitctl("corrections").stdout
        self.assertIn("-3", text)
        self.assertIn("+4", text)
        before = on_record()
        self.stack.stop_one("flusher")
        self.stack.start_one("flusher")
        self.stack.wait_ready()
        self.assertEqual(on_record(), before)
        self.assertEqual(len(self.stack.status("corrections", "--limit", "1")["corrections"]), 1)

    def test_nothing_falls_unless_somebody_says_so(self):
        self.count({"home": 5})
        asked = self.stack.visitctl("set", "home", "4", check=False)
        self.assertEqual(asked.returncode, 1)
        self.assertIn("home: 5 → 4", asked.stdout)
        self.assertIn("--yes", asked.stderr)
        dry = self.stack.visitctl("delete", "home", "--dry-run").stdout
        self.assertIn("home: 5 → 0", dry)
        self.assertIn("1 pages would be changed", dry)
        self.assertEqual(self.stack.get("home"), 5)
        self.stack.visitctl("set", "home", "6")  # it does not fall
        self.follows({"home": 6})

    def test_changes_from_a_file(self):
        self.count({"a": 1, "b": 2, "page with spaces": 3})
        file = self.stack.folder / "counts"
        file.write_text("a\t10\nb\t20\r\npage with spaces\t30\n\n" + "".join(f"n-{number}\t{number}\n" for number in range(1, 1201)))
        self.assertEqual(len(self.correct("set", "--from", str(file))), 1203)
        self.follows({"a": 10, "b": 20, "page with spaces": 30, "n-1200": 1200})
        file.write_text("a\nb\n")
        self.correct("delete", "--from", str(file))
        self.follows({"a": 0, "b": 0})

    def test_all_pages_that_match_a_pattern(self):
        self.count({"old/a": 1, "old/b": 2, "old/c/d": 3, "a": 4, "into": 5})
        dry = self.stack.visitctl("rename", "--match", "old/*", "new/*.html", "--dry-run")
        self.assertIn("old/a: 1 → 0, and new/a.html is given them\n", dry.stdout)
        self.assertIn("3 pages would be changed: 6 visits given to other pages", dry.stdout)
        dry = json.loads(self.stack.visitctl("delete", "--match", "old/?", "--dry-run", "--json").stdout)
        self.assertEqual((dry["pages"], dry["fewer"], [change["page"] for change in dry["changes"]]), (2, 3, ["old/a", "old/b"]))
        asked = self.stack.visitctl("delete", "--match", "old/*", check=False)
        self.assertEqual(asked.returncode, 1)
        self.assertIn("3 pages, 6 visits fewer", asked.stdout)
        self.assertIn("--yes", asked.stderr)
        self.follows({"old/a": 1, "old/b": 2, "old/c/d": 3})
        self.correct("rename", "--match", "old/*", "new/*.html")
        self.follows({"old/a": 0, "new/a.html": 1, "new/b.html": 2, "new/c/d.html": 3, "a": 4})
        self.correct("merge", "--match", "*.html", "into")
        self.follows({"new/a.html": 0, "into": 11})
        self.stack.visitctl("add", "--match", "*a*", "10")
        self.follows({"a": 14, "new/a.html": 0})
        self.assertEqual(len(self.correct("set", "--match", "*", "11")), 1)  # that of the other page is 11 already
        self.correct("delete", "--match", "a")
        self.stack.flush()
        self.assertEqual(self.stack.redis_counts(), {"into": 11})
        self.assertEqual(self.correct("delete", "--match", "nothing*"), [])

    def test_patterns_that_say_too_little_change_nothing(self):
        self.count({"a1": 1, "aa1": 2})
        for words, why in [(("rename", "--match", "a*"), "needs with --match"), (("rename", "--match", "a*", "b"), "one * each"),
                           (("rename", "--match", "a*b*", "c*"), "one * each"), (("rename", "--match", "a*", "a*"), "cannot become itself"),
                           (("rename", "--match", "a*", "aa*"), "'a1' would become 'aa1', which matches too"),
                           (("delete", "--match", "a*", "aa1"), "'aa1' is one more"), (("set", "--match", "a*"), "a pattern and a count"),
                           (("set", "--match", "a*", "x"), "is no count"), (("merge", "--match", "a*"), "the page that is given"),
                           (("delete", "--match", "a*", "--from", "x"), "from one place"),
                           (("rename", "--match", "a*", "b" * 1024 + "*"), "page_id_limit_bytes")]:  # fmt: skip
            refused = self.stack.visitctl(*words, "--yes", check=False)
            self.assertNotEqual(refused.returncode, 0, words)
            self.assertIn(why, refused.stderr, words)
        self.follows({"a1": 1, "aa1": 2})

    def test_a_pattern_while_a_shard_is_away_changes_nothing(self):
        self.count({f"page-{number}": 1 for number in range(20)})
        away = self.stack.shards[0].name
        self.stack.kill9(away)
        refused = self.stack.visitctl("delete", "--match", "*", "--yes", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("nothing was changed: which pages match is not known", refused.stderr)
        self.assertIn(away, refused.stderr)
        self.stack.start_one(away)
        wait_for("all can be read", lambda: all(self.stack.shows(f"page-{number}", 1) for number in range(20)))

    def test_many_changes_from_a_file_are_looked_up_in_the_list(self):
        self.count({"a": 5, "b": 2})
        file = self.stack.folder / "counts"
        file.write_text("a\t3\nb\t20\n" + "".join(f"n-{number}\t{number}\n" for number in range(1, 2501)))
        asked = json.loads(self.stack.visitctl("set", "--from", str(file), "--json", check=False).stdout)
        self.assertEqual((asked["pages"], asked["fewer"], asked["more"]), (2502, 2, 18 + 2500 * 2501 // 2))
        self.assertEqual(len(self.correct("set", "--from", str(file))), 2502)
        self.follows({"a": 3, "b": 20, "n-2500": 2500})
        file.write_text("a\t3\nb\t4\na\t5\n")
        self.assertIn("'a' is to be changed twice", self.stack.visitctl("set", "--from", str(file), "--yes", check=False).stderr)

    def test_bad_input_changes_nothing(self):
        self.count({"home": 5})
        for words, why in [(("set", "home", "-1"), "is no count"), (("set", "home", "1.5"), "is no count"), (("set", "home"), "needs a page and a count"),
                           (("set", "home", str(1 << 63)), "is no count"), (("rename", "home", "home"), "cannot become itself"),
                           (("merge", "home", "home", "x"), "twice"), (("set", "x" * 1025, "1"), "page_id_limit_bytes"),
                           (("rename", "home"), "needs two pages"), (("delete",), "needs a page"),
                           (("set", "--from", "/nonexistent"), "cannot be read")]:  # fmt: skip
            refused = self.stack.visitctl(*words, "--yes", check=False)
            self.assertNotEqual(refused.returncode, 0, words)
            self.assertIn(why, refused.stderr, words)
        self.assertEqual(self.stack.get("home"), 5)
        self.assertEqual(self.stack.status("corrections")["corrections"], [])

    def test_a_page_whose_field_is_no_count_is_said_and_left(self):
        self.count({"home": 5})
        ((shard, _),) = [place for page, place in self.stack.redis_places().items() if page == "home"]
        server = next(one for one in self.stack.shards if one.name == shard)
        with server.client() as redis:
            key = next(key for key in redis("KEYS", "visits:{*}") if redis("HEXISTS", key, "home"))
            redis("HSET", key, "home", "five")
            refused = self.stack.visitctl("set", "home", "7", "--yes", check=False)
            self.assertIn("no count", refused.stdout)
            self.assertIn("1 of 1 pages were not changed", refused.stderr)
            redis("HSET", key, "home", "5")
        self.correct("set", "home", "7")
        wait_for("the host shows it", lambda: self.stack.shows("home", 7))

    def test_a_count_mended_in_redis_by_hand_is_followed_once_it_is_said_so(self):
        self.count({"home": 50})
        ((shard, _),) = [place for page, place in self.stack.redis_places().items() if page == "home"]
        with next(one for one in self.stack.shards if one.name == shard).client() as redis:
            key = next(key for key in redis("KEYS", "visits:{*}") if redis("HEXISTS", key, "home"))
            redis("HSET", key, "home", "20")
            time.sleep(1.0)
            self.assertEqual(self.stack.get("home"), 50)  # a shard that lost visits of others does not make it fall
            redis("HINCRBY", key, "\x01fix", "1")
        for host in (self.stack, self.other):
            wait_for("the host follows", lambda host=host: host.shows("home", 20))
        self.correct("set", "home", "10")
        self.follows({"home": 10})

    def test_a_shard_that_is_away_is_said_and_nothing_waits(self):
        self.count({"home": 5})
        ((shard, _),) = [place for page, place in self.stack.redis_places().items() if page == "home"]
        self.stack.kill9(shard)
        refused = self.stack.visitctl("set", "home", "3", "--yes", "--timeout", "1", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("nothing was changed", refused.stdout)
        self.assertIn(shard, refused.stdout)
        self.stack.start_one(shard)
        wait_for("it counts on", lambda: self.stack.shows("home", 5))
        self.correct("set", "home", "3")
        self.follows({"home": 3})

    def test_what_waits_for_a_shard_stays_a_count(self):
        self.count({"home": 5})
        most = (1 << 63) - 1
        shards = [shard.name for shard in self.stack.shards]
        for shard in shards:
            self.stack.kill9(shard)
        rows = self.stack.folder / "more.csv"
        rows.write_text("other,1\nhome,6\n")
        self.stack.visitctl("add", "home", str(most - 5))
        for more in (("add", "home", "6"), ("import", str(rows), "--from", "csv")):
            refused = self.stack.visitctl(*more, "--timeout", "2", check=False)
            self.assertEqual(refused.returncode, 1, refused.stdout + refused.stderr)
            self.assertIn("would wait for its shard", refused.stdout + refused.stderr)
        for shard in shards:
            self.stack.start_one(shard)
        for shard in shards:
            self.stack.wait_shard(shard, "up")
        self.stack.flush()
        self.follows({"home": most, "other": 0})


class LostTail(unittest.TestCase):
    def test_what_a_shard_lost_of_corrections_and_of_what_they_took_away_comes_again(self):
        """The shard goes back to before two hosts counted, and one of them took the other's visits away. Whichever host is back first,
        it ends where it was."""
        with Stack(frontends=1, shards=1, settings=SETTINGS, redis_arguments=("--appendfsync", "always")) as stack:
            other = started_host(stack, self, SETTINGS, supervised=False)
            shard = stack.shards[0]
            stack.post("home")
            stack.flush()
            stack.stop_one(shard.name)
            shutil.copytree(shard.folder, f"{shard.folder}.copy")
            stack.start_one(shard.name)
            wait_for("both count", lambda: stack.visitctl("flush", check=False).returncode == 0 and other.visitctl("flush", check=False).returncode == 0)
            for _ in range(20):
                other.post("home")
            for _ in range(5):
                other.post("old")
            other.flush()
            wait_for("the host sees the other's", lambda: stack.shows("home", 21) and stack.shows("old", 5))
            for words in (("set", "home", "4"), ("rename", "old", "new"), ("add", "home", "2")):
                stack.visitctl(*words, *(() if words[0] == "add" else ("--yes",)))
            stack.flush()
            for host in (stack, other):
                wait_for("a host shows it", lambda host=host: host.shows("home", 6) and host.shows("new", 5))
            other.stop_one("flusher")
            stack.kill9(shard.name)
            shutil.rmtree(shard.folder)
            shutil.move(f"{shard.folder}.copy", shard.folder)
            stack.start_one(shard.name)
            stack.wait_for_shard(shard)
            time.sleep(2.0)
            # The correction took away more than the shard holds now: it waits for the other host, and nothing is guessed.
            self.assertEqual(stack.redis_counts().get("home"), 1)
            other.start_one("flusher")
            stack.wait_for_redis({"home": 6, "new": 5})
            for host in (stack, other):
                wait_for("a host shows it", lambda host=host: host.shows("home", 6) and host.shows("old", 0) and host.shows("new", 5))


class Owner(threading.Thread):
    """Corrects the pages of one host again and again, and dies in the middle of it at times."""

    def __init__(self, host: Stack, seed: int):
        super().__init__(daemon=True)
        self.host = host
        self.chance = random.Random(seed)
        self.ending = threading.Event()
        self.asked = 0
        self.killed = 0
        self.done = 0

    def run(self) -> None:
        while not self.ending.is_set():
            page, other = (f"page-{number}" for number in self.chance.sample(range(PAGES), 2))
            words = self.chance.choice([("set", page, str(self.chance.randrange(300))), ("rename", page, other), ("merge", page, other),
                                        ("add", page, str(self.chance.randrange(1, 50)), "--timeout", "5"), ("delete", page),
                                        ("merge", "--match", "page-1*", "page-0"), ("delete", "--match", "page-?")])  # fmt: skip
            words += () if words[0] == "add" else ("--yes", "--timeout", "5")
            with self.host.inside():
                visitctl = subprocess.Popen([str(VISITCTL), "--config", str(self.host.settings_file), *words],
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)  # fmt: skip
            self.asked += 1
            if self.chance.random() < 0.1:
                time.sleep(self.chance.uniform(0, 0.1))
                visitctl.kill()
                self.killed += 1
            if visitctl.wait() == 0:
                self.done += 1
            time.sleep(PAUSE_S)


class UnderKills(unittest.TestCase):
    def test_two_hosts_correct_while_both_count_and_everything_is_killed(self):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}", flush=True)
        chance = random.Random(seed)
        first = self.enterContext(Stack(frontends=2, supervised=True, settings=SETTINGS, redis_arguments=("--appendfsync", "always")))
        hosts = [first, started_host(first, self, SETTINGS)]
        traffic = [Traffic(host, clients=4, readers=0, pages=PAGES) for host in hosts]
        owners = [Owner(host, seed + number) for number, host in enumerate(hosts)]
        for one in traffic:
            one.start()
        for owner in owners:
            owner.start()
        kills = collections.Counter()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            time.sleep(chance.uniform(0.1, 0.5))
            name = chance.choice(["flusher"] * 3 + ["frontend_1", chance.choice(first.shards).name])
            (first if name.startswith("redis_") else chance.choice(hosts)).kill9(name)
            kills[name.partition("_")[0]] += 1
        for owner in owners:
            owner.ending.set()
        for one in owners + traffic:
            one.join(60) if isinstance(one, Owner) else one.stop()
        for shard in first.shards:
            first.wait_for_shard(shard)
        for _ in range(2):  # what a page was given is sent with the next flush
            for host in hosts:
                wait_for("a host carries all to Redis", lambda host=host: host.visitctl("flush", check=False).returncode == 0, 60, 0.2)
        self.check(hosts, traffic)
        done = sum(owner.done for owner in owners)
        self.assertGreater(done, 3)  # with a sanitizer each takes long
        self.assertGreater(len(fields(first, "\x01fix")), 0)
        print(f"{sum(one.acknowledged.total() for one in traffic)} visits, {sum(owner.asked for owner in owners)} corrections asked for, "
              f"{done} done, {sum(owner.killed for owner in owners)} visitctl killed, kills: {dict(kills)}", flush=True)  # fmt: skip

    def check(self, hosts: list[Stack], traffic: list[Traffic]) -> None:
        """The shards hold what was counted and what the hosts have on record; and every host reads it so."""
        held = collections.Counter(first := hosts[0].redis_counts())
        for host in hosts:
            rows = host.status("corrections", "--limit", "1000")["corrections"]
            self.assertLess(len(rows), 1000, "all of them are on record")
            for row in rows:
                difference = (row["gained"] or 0) - (row["lost"] or 0)
                held[row["page"]] -= difference
                if row["into"] is not None:
                    held[row["into"]] += difference
        check_sums(traffic, held)
        for host in hosts:
            for page in traffic[0].pages:
                wait_for(f"a host reads all of {page}", lambda host=host, page=page: host.shows(page, first.get(page, 0)))


if __name__ == "__main__":
    unittest.main()
