"""`visitctl writers` lists the hosts that count into the same shards, and forgets one that is gone. If that one comes back, its shards
are held, and once somebody accepts them it goes on exactly where it was, whatever was on its way when it died."""

import random
import subprocess
import time
import unittest

from harness import VISITCTL, Stack, Traffic, check_sums, started_host, wait_for

SETTINGS = {"flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20}, "cache": {"ttl_ms": 300},
            "redis": {"buckets": 64, "held_recheck_ms": 200, "check_interval_ms": 200}}  # fmt: skip
SECONDS = 12.0


def listed(host: Stack) -> dict[str, dict]:
    return {row["writer"]: row for row in host.status("writers")["writers"]}


def writer_of(host: Stack) -> str:
    """Its id, once a shard knows it."""
    return wait_for("the host is listed", lambda: next((row["writer"] for row in listed(host).values() if row["ours"]), None))


def fields_of(host: Stack, writer: str, kind: str = "w") -> int:
    """How many buckets have a mark of this writer; `gone`: a tombstone."""
    found = 0
    for shard in host.shards:
        with shard.client() as redis:
            keys = redis("KEYS", "visits:{*}")
            found += sum(redis.pipeline([("HEXISTS", key, f"\x01{kind}:{writer}") for key in keys])) if keys else 0
    return found


def states(host: Stack) -> set[str]:
    return {shard["state"] for shard in host.status()["shards"]}


def accept_all(host: Stack) -> None:
    for shard in host.status()["shards"]:
        if shard["state"] == "held":
            host.visitctl("accept", shard["name"], "--yes", check=False)


class Writers(unittest.TestCase):
    def setUp(self):
        self.first = self.enterContext(Stack(frontends=1, settings=SETTINGS, redis_arguments=("--appendfsync", "always")))
        self.other = started_host(self.first, self, SETTINGS, supervised=False)

    def count(self, host: Stack, pages: range) -> None:
        for number in pages:
            host.post(f"page-{number}")

    def test_every_host_is_listed_by_each_with_what_it_wrote_and_when(self):
        began = int(time.time()) - 1  # a flusher's time is of whole seconds
        self.count(self.first, range(40))
        self.count(self.other, range(3))
        for host in (self.first, self.other):
            host.flush()
        ours, theirs = writer_of(self.first), writer_of(self.other)
        rows = wait_for("both are listed with what they wrote",
                        lambda: (rows := listed(self.first)).keys() == {ours, theirs} and all(row["wrote_at"] for row in rows.values()) and rows)  # fmt: skip
        self.assertEqual([rows[one]["ours"] for one in (ours, theirs)], [True, False])
        self.assertEqual([listed(self.other)[one]["ours"] for one in (ours, theirs)], [False, True])
        for row in rows.values():
            self.assertGreaterEqual(row["wrote_at"], began)
            self.assertGreaterEqual(row["seen_at"], row["wrote_at"])
            self.assertIsNone(row["forgotten_at"])
            self.assertEqual(row["incarnation"], 1)
            self.assertGreaterEqual(row["batches"], row["buckets"])
        self.assertEqual(rows[theirs]["buckets"], fields_of(self.first, theirs))
        self.assertEqual(rows[ours]["buckets"], fields_of(self.first, ours))
        # A host that has nothing to write is seen all the same.
        seen = rows[theirs]["seen_at"]
        row = wait_for("it is seen again", lambda: (row := listed(self.first)[theirs])["seen_at"] > seen + 1 and row)
        self.assertEqual(row["wrote_at"], rows[theirs]["wrote_at"])
        self.other.restart("flusher")
        row = wait_for("it lives anew", lambda: (row := listed(self.first)[theirs])["incarnation"] == 2 and row)
        self.assertEqual(row["wrote_at"], rows[theirs]["wrote_at"])
        text = self.first.visitctl("writers").stdout
        self.assertEqual(text.count("this host"), 1)
        self.assertIn(theirs, text)
        self.first.kill9(self.first.shards[0].name)
        wait_for("a shard cannot be asked", lambda: self.first.status("writers")["unasked"] == self.first.shards[0].name)
        self.first.kill9("flusher")
        self.assertIn("the flusher is away", self.first.visitctl("writers", check=False).stderr)

    def test_who_counts_is_not_forgotten_by_mistake(self):
        self.count(self.other, range(3))
        self.other.flush()
        ours, theirs = writer_of(self.first), writer_of(self.other)
        wait_for("it is listed", lambda: theirs in listed(self.first))
        for writer, why in ((ours, "own writer"), (theirs, "flusher.writer_gone_s"), ("0" * 16, "knows no writer")):
            refused = self.first.visitctl("writers", "forget", writer, check=False)
            self.assertEqual(refused.returncode, 1, refused)
            self.assertIn(why, refused.stderr)
        # One that is gone for as long as the setting says is shown, and somebody at a terminal is asked.
        self.first.settings["flusher"]["writer_gone_s"] = 0
        self.first.write_settings()
        self.first.restart("flusher")
        wait_for("its flusher answers", lambda: self.first.visitctl("writers", check=False).returncode == 0)
        wait_for("the shards are up", lambda: states(self.first) == {"up"})
        self.other.kill9("flusher")
        wait_for("a second has passed", lambda: listed(self.first)[theirs]["seen_at"] < time.time() - 1)
        refused = self.first.visitctl("writers", "forget", theirs, check=False)
        self.assertIn("nothing was changed", refused.stderr)
        self.assertGreater(fields_of(self.first, theirs), 0)
        # An id of a life that has ended meanwhile is not forgotten by an offer of before.
        self.assertIsNone(listed(self.first)[theirs]["forgotten_at"])

    def test_a_forgotten_host_that_comes_back_is_held_until_that_is_accepted_and_counts_on_exactly(self):
        self.count(self.first, range(30))
        self.count(self.other, range(30))
        for host in (self.first, self.other):
            host.flush()
        theirs = writer_of(self.other)
        # What it sends now is executed, and it dies before it has the answers; more it has not sent yet.
        for shard in self.first.shards:
            self.first.pause(shard.name)
        self.count(self.other, range(60))
        wait_for("batches are on their way", lambda: sum(shard["unanswered_batches"] for shard in self.other.status()["shards"]) > 10)
        time.sleep(0.3)
        self.other.kill9("flusher")
        for shard in self.first.shards:
            self.first.resume(shard.name)
        wait_for("the first is up again", lambda: states(self.first) == {"up"})
        self.count(self.other, range(20))

        wait_for("the batches are executed", lambda: fields_of(self.first, theirs) > 30)
        done = self.first.visitctl("writers", "forget", theirs, "--yes")
        self.assertIn("is forgotten", done.stdout)
        self.assertEqual(fields_of(self.first, theirs), 0)
        row = listed(self.first)[theirs]
        self.assertIsNotNone(row["forgotten_at"])
        self.assertIn("forgotten", self.first.visitctl("writers").stdout)
        self.first.visitctl("writers", "forget", theirs, "--yes")  # once more changes nothing

        self.other.start_one("flusher")
        wait_for("its shards are held", lambda: states(self.other) == {"held"})
        for shard in self.other.status()["shards"]:
            self.assertIn("has forgotten this host", shard["reason"])
        self.count(self.other, range(5))
        self.assertEqual(fields_of(self.first, theirs), 0)
        offer = self.other.visitctl("accept", self.first.shards[0].name, check=False).stderr
        self.assertIn("0 buckets hold something else", offer)
        accept_all(self.other)
        wait_for("its shards are up", lambda: states(self.other) == {"up"})
        self.other.flush()
        expected = {f"page-{n}": (n < 30) * 2 + 1 + (n < 20) + (n < 5) for n in range(60)}
        self.first.wait_for_redis(expected)
        for page in ("page-0", "page-59"):
            wait_for("both read it", lambda page=page: all(h.shows(page, expected[page]) for h in (self.first, self.other)))
        wait_for("it is no more forgotten", lambda: listed(self.first)[theirs]["forgotten_at"] is None)

    def test_a_host_is_forgotten_while_buckets_move_and_its_tombstones_move_with_them(self):
        self.count(self.other, range(60))
        self.other.flush()
        theirs = writer_of(self.other)
        self.other.kill9("flusher")
        marks = fields_of(self.first, theirs)
        spare = self.first.spare()
        adding = subprocess.Popen([str(VISITCTL), "--config", str(self.first.settings_file), "shards", "add",
                                   f"{spare.name}=redis://{spare.host}:{spare.port}", "--rate", "4"], stdout=subprocess.DEVNULL)  # fmt: skip
        self.first.shards.append(spare)
        with spare.client() as redis:
            wait_for("buckets have moved", lambda: len(redis("KEYS", "visits:{*}")) > 2)
        # Not while the flusher begins anew.
        wait_for("it is forgotten", lambda: self.first.visitctl("writers", "forget", theirs, "--yes", check=False).returncode == 0)
        self.assertIsNone(adding.poll(), "buckets move still")
        self.assertEqual(adding.wait(60), 0)
        self.assertEqual(fields_of(self.first, theirs), 0)
        self.assertEqual(fields_of(self.first, theirs, "gone"), marks)
        with spare.client() as redis:
            moved = redis.pipeline([("HEXISTS", key, f"\x01gone:{theirs}") for key in redis("KEYS", "visits:{*}")])
        self.assertGreater(sum(moved), 0)

        self.other.start_one("flusher")
        wait_for("it finds out", lambda: "held" in states(self.other))

        def goes_on() -> bool:
            accept_all(self.other)
            return states(self.other) == {"up"}

        wait_for("its shards are up", goes_on, 30, 0.2)
        self.count(self.other, range(60))
        self.other.flush()
        self.first.wait_for_redis({f"page-{n}": 2 for n in range(60)})
        self.assertEqual(fields_of(self.first, theirs, "gone"), 0)
        self.assertEqual(fields_of(self.first, theirs), marks)

    def test_a_host_that_lives_and_is_forgotten_loses_and_doubles_nothing(self):
        """Each forgets the others again and again, under load and kills, and somebody accepts."""
        seed = random.randrange(1 << 32)
        print(f"seed {seed}", flush=True)
        chance = random.Random(seed)
        hosts = [self.first, self.other]
        for host in hosts:
            host.supervise()
        writers = {writer_of(host): host for host in hosts}
        traffic = [Traffic(host, clients=4, readers=2, pages=30) for host in hosts]
        for one in traffic:
            one.together = traffic
            one.start()
        forgotten = 0
        begun = time.monotonic()
        # Longer where the machine is slow, but not for ever.
        while time.monotonic() < begun + SECONDS or (forgotten < 4 and time.monotonic() < begun + 6 * SECONDS):
            time.sleep(chance.uniform(0.05, 0.3))
            writer, host = chance.choice(list(writers.items()))
            if chance.random() < 0.4:
                host.kill9("flusher")
            if chance.random() < 0.2:
                self.first.kill9(chance.choice(self.first.shards).name)
            if chance.random() < 0.5:
                asked = next(one for one in hosts if one is not host)
                forgotten += asked.visitctl("writers", "forget", writer, "--yes", check=False).returncode == 0
            accept_all(chance.choice(hosts))
        for one in traffic:
            one.stop()
        self.assertEqual([fault for one in traffic for fault in one.faults][:20], [])
        for host in hosts:
            def carried(host=host):
                accept_all(host)
                return states(host) == {"up"} and host.visitctl("flush", check=False).returncode == 0
            wait_for("a host carries all to Redis", carried, 60, 0.2)
        held = self.first.redis_counts()
        check_sums(traffic, held)
        self.assertGreater(forgotten, 3)
        print(f"{sum(one.acknowledged.total() for one in traffic)} visits acknowledged, {forgotten} times forgotten", flush=True)


if __name__ == "__main__":
    unittest.main()
