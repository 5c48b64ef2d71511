"""Shards are added and removed while visits are counted: buckets move, every acknowledged visit is counted exactly once, no
read falls; also where flushers, shards and visitctl are killed meanwhile."""

import json
import os
import random
import re
import shutil
import subprocess
import time
import unittest

from harness import VISITCTL, Shard, Stack, Traffic, check_sums, free_port, wait_for

SETTINGS = {"flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20}, "cache": {"ttl_ms": 500},
            "redis": {"buckets": 256, "check_interval_ms": 500}}  # fmt: skip
# VISITD_MOVES: additions and removals; a campaign makes 20.
CHANGES = int(os.environ.pop("VISITD_MOVES", "2"))
CLIENTS = 16


def url(shard: Shard) -> str:
    return f"{shard.name}=redis://{shard.host}:{shard.port}"


def moves(stack: Stack) -> dict:
    return stack.status("shards", "moves")


def knows(stack: Stack, version: int) -> bool:
    """Whether the flusher knows this change; not while it begins anew."""
    said = stack.visitctl("shards", "moves", "--json", check=False)
    return said.returncode == 0 and json.loads(said.stdout)["version"] == version


def tombstones(shard: Shard) -> dict[str, list[str]]:
    """The buckets that have moved away from a shard, with the fields that they have left there."""
    with shard.client() as redis:
        keys = redis("KEYS", "visits:{*}")
        fields = dict(zip(keys, redis.pipeline([("HKEYS", key) for key in keys])))
    return {key: sorted(names) for key, names in fields.items() if "\x01moved" in names}


class Moves(unittest.TestCase):
    def setUp(self):
        self.stack = self.enterContext(Stack(frontends=2, supervised=True, settings=SETTINGS))

    def check(self, traffic: Traffic) -> None:
        self.assertEqual(traffic.faults, [])
        held = traffic.check(60)
        check_sums([traffic], held)

    def starts_over(self) -> int:
        return self.stack.processes["flusher"].text().count("starting over from the spool")

    def test_a_shard_is_added_and_another_one_removed_while_visits_are_counted(self):
        traffic = Traffic(self.stack).start()
        time.sleep(1)
        spare = self.stack.spare()
        plan = self.stack.visitctl("shards", "add", url(spare), "--dry-run").stdout
        self.assertIn("nothing was changed", plan)
        ranges = re.search(r"each is one key, visits:\{BUCKET\}; these: ([\d,-]+)\n", plan)
        self.assertTrue(ranges, plan)
        planned = {bucket for part in ranges[1].split(",") for first, _, last in [part.partition("-")] for bucket in range(int(first), int(last or first) + 1)}
        self.assertEqual(moves(self.stack)["version"], 1)
        began = time.monotonic()
        made = self.stack.visitctl("shards", "add", url(spare), "--rate", "20")
        self.assertGreater(time.monotonic() - began, 3)  # a third of 256 buckets
        self.assertIn(spare.name, made.stdout)
        self.assertRegex(made.stderr, r"of \d+ buckets")
        self.stack.shards.append(spare)
        self.assertEqual(moves(self.stack)["version"], 3)
        on_spare = {page for page, (shard, _) in self.stack.redis_places().items() if shard == spare.name}
        self.assertGreater(len(on_spare), 3)
        left = {key: fields for shard in self.stack.shards[:2] for key, fields in tombstones(shard).items()}
        self.assertGreater(len(left), 40)
        self.assertEqual({int(key[8:-1]) for key in left}, planned, "those that the dry run said")
        self.assertEqual({tuple(fields) for fields in left.values()}, {("\x01id", "\x01moved")}, "only the markers stay")
        self.assertEqual(self.starts_over(), 0, "a running flusher takes a shard that is added")
        read = next(answer for page in range(1000) if (answer := self.stack.read(f"new-{page}").json())["served_via"] == spare.name)
        self.assertEqual(read["count"], 0)
        self.stack.visitctl("shards", "remove", spare.name)
        self.stack.stop_one(spare.name)
        self.stack.shards.remove(spare)
        self.assertEqual(moves(self.stack)["version"], 5)
        self.assertEqual(self.starts_over(), 0, "and lets the last one go")
        other = self.stack.spare()
        self.stack.visitctl("shards", "add", url(other))
        self.stack.shards.append(other)
        first = self.stack.shards[0]
        self.stack.visitctl("shards", "remove", first.name)
        self.stack.stop_one(first.name)
        self.stack.shards.remove(first)
        wait_for("the flusher knows", lambda: knows(self.stack, 9))
        self.assertEqual(self.starts_over(), 1, "once, where those behind it get other numbers")
        time.sleep(1)
        traffic.stop()
        self.check(traffic)
        self.stack.restart("flusher")
        self.stack.wait_ready()
        for page in traffic.pages:
            wait_for(f"{page} is read after a restart", lambda p=page: self.stack.shows(p, self.stack.redis_counts()[p]))

    def test_shards_come_and_go_while_flushers_shards_and_visitctl_are_killed(self):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}", flush=True)
        chance = random.Random(seed)
        traffic = Traffic(self.stack, clients=CLIENTS).start()
        spare = self.stack.spare()
        kills = 0
        for number in range(CHANGES):
            is_in = spare in self.stack.shards
            if not is_in and number > 0:
                spare = self.stack.spare()  # what was removed holds where its buckets went
            argument = ("remove", spare.name) if is_in else ("add", url(spare))
            before = moves(self.stack)["version"]
            ctl = subprocess.Popen([str(VISITCTL), "--config", str(self.stack.settings_file), "shards", *argument],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
            if not is_in:
                self.stack.shards.append(spare)
            deadline = time.monotonic() + 60
            done = False
            while not done:
                self.assertLess(time.monotonic(), deadline, f"change {number} comes to no end")
                time.sleep(chance.uniform(0.05, 0.5))
                name = chance.choice(["flusher", "flusher", "visitctl", *[shard.name for shard in self.stack.shards]])
                if kills < 10 * (number + 1):
                    kills += 1
                    ctl.kill() if name == "visitctl" else self.stack.kill9(name)
                last = self.stack.visitctl("shards", "moves", "--json", check=False)
                if last.returncode != 0:
                    continue
                state = json.loads(last.stdout)
                if state["version"] == before and ctl.poll() is not None:
                    ctl = subprocess.Popen([str(VISITCTL), "--config", str(self.stack.settings_file), "shards", *argument],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
                done = state["version"] >= before + 2 and state["moving"] == 0
            ctl.kill()
            ctl.wait()
            if is_in:
                self.stack.shards.remove(spare)
        traffic.stop()
        for shard in self.stack.shards:
            self.stack.wait_for_shard(shard)
        self.check(traffic)
        print(f"{traffic.acknowledged.total()} visits acknowledged, {traffic.reads} reads, {CHANGES} changes, {kills} kills", flush=True)


class Disturbed(unittest.TestCase):
    def setUp(self):
        self.stack = self.enterContext(Stack(frontends=1, settings=SETTINGS))
        self.traffic = Traffic(self.stack).start()
        time.sleep(0.5)

    def check(self) -> None:
        self.traffic.stop()
        self.assertEqual(self.traffic.faults, [])
        self.traffic.check(60)

    def test_a_shard_put_back_as_it_was_before_a_change_takes_its_buckets_when_they_come_back(self):
        stack, shard = self.stack, self.stack.shards[0]
        stack.kill9(shard.name)
        shutil.copytree(shard.folder, f"{shard.folder}.copy")
        stack.restart(shard.name)
        stack.wait_for_shard(shard)
        added = stack.spare()
        stack.visitctl("shards", "add", url(added))
        stack.shards.append(added)
        stack.kill9(shard.name)
        shutil.rmtree(shard.folder)
        shutil.move(f"{shard.folder}.copy", shard.folder)
        stack.restart(shard.name)
        stack.wait_for_shard(shard)
        self.assertEqual(tombstones(shard), {}, "it holds once more what has left it")
        said = rf"shard {shard.name} holds \d+ of them as they were before they left it: these older copies are replaced"
        wait_for("it can be removed", lambda: stack.visitctl("shards", "remove", added.name, "--dry-run", check=False).returncode == 0)
        self.assertRegex(stack.visitctl("shards", "remove", added.name, "--dry-run").stdout, said)
        self.assertEqual(tombstones(shard), {}, "nothing was changed")
        self.assertRegex(stack.visitctl("shards", "remove", added.name).stdout, said)
        stack.stop_one(added.name)
        stack.shards.remove(added)
        self.assertEqual(moves(stack)["version"], 5)
        self.check()

    def test_what_keeps_buckets_from_moving_is_told_and_logged(self):
        stack = self.stack
        deciding = min(stack.shards, key=lambda shard: shard.name)
        with deciding.client() as redis:
            redis("RPUSH", "visits:mover", "no", "hash")
        added = stack.spare()
        adding = subprocess.Popen([str(VISITCTL), "--config", str(stack.settings_file), "shards", "add", url(added)],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        self.addCleanup(lambda: (adding.kill(), adding.wait()))
        why = f"shard {deciding.name} does not say who moves buckets, in visits:mover: WRONGTYPE"
        wait_for("it is told", lambda: f"held up by {why}" in stack.visitctl("shards", "moves", check=False).stdout)
        wait_for("it is logged", lambda: f"buckets wait to move, held up by {why}" in stack.processes["flusher"].text())
        self.assertNotIn(f"shard {deciding.name} is down", stack.processes["flusher"].text())
        with deciding.client() as redis:
            redis("DEL", "visits:mover")
        self.assertEqual(adding.wait(60), 0)
        stack.shards.append(added)
        self.assertEqual(moves(stack)["version"], 3)
        self.check()

    def test_a_shard_to_which_buckets_would_go_is_down(self):
        stack, down = self.stack, self.stack.shards[0]
        added = stack.spare()
        stack.visitctl("shards", "add", url(added))
        stack.shards.append(added)
        stack.kill9(down.name)
        refused = stack.visitctl("shards", "remove", added.name, check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn(down.name, refused.stderr)
        self.assertIn("try again once it is up", refused.stderr)
        self.assertEqual(moves(stack)["version"], 3)
        stack.restart(down.name)
        self.check()


class Hosts(unittest.TestCase):
    def test_a_host_follows_what_another_one_was_told_while_both_count_into_what_moves(self):
        first = self.enterContext(Stack(frontends=1, supervised=True, settings=SETTINGS))
        second = Stack(frontends=1, shards=0, settings=SETTINGS)
        self.addCleanup(second.close)
        second.shards = list(first.shards)
        second.write_settings()
        for name in ["flusher", *second.frontends]:
            second.start_one(name)
        second.wait_ready()
        traffic = [Traffic(host, clients=4, readers=2, pages=40) for host in (first, second)]
        for one in traffic:
            one.together = traffic
            one.start()
        time.sleep(0.5)
        spare = first.spare()
        first.visitctl("shards", "add", url(spare))
        first.shards.append(spare)
        wait_for("the other host knows", lambda: knows(second, 3))
        # Not before it has seen every shard again.
        wait_for("the other host removes one", lambda: second.visitctl("shards", "remove", first.shards[0].name, check=False).returncode == 0)
        wait_for("the other host knows", lambda: knows(first, 5))
        time.sleep(0.5)
        for one in traffic:
            one.stop()
            self.assertEqual(one.faults, [])
        for host in (first, second):
            host.flush()
        held = first.redis_counts()
        check_sums(traffic, held)
        for host in (first, second):
            for page in traffic[0].pages:
                wait_for(f"{page} is read everywhere", lambda h=host, p=page: h.shows(p, held[p]))


class Refusals(unittest.TestCase):
    """What cannot become a shard, or cease to be one, is refused with what is wrong, and nothing is changed."""

    def setUp(self):
        self.stack = self.enterContext(Stack(frontends=1, shards=1, settings=SETTINGS))
        self.stack.post("home")
        self.stack.wait_for_redis({"home": 1})
        self.spare = self.stack.spare()

    def tearDown(self):
        self.assertEqual(moves(self.stack)["version"], 1)
        self.stack.post("home")
        self.stack.wait_for_redis({"home": 2})

    def refused(self, *words: str) -> str:
        done = self.stack.visitctl("shards", *words, check=False)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        return done.stderr

    def test_names_and_addresses(self):
        shard = self.stack.shards[0]
        self.assertIn("already", self.refused("add", url(shard)))
        self.assertIn(f"is the address of shard {shard.name} already", self.refused("add", f"other=redis://{shard.host}:{shard.port}"))
        self.assertIn("not the address of a shard", self.refused("add", "a name=redis://127.0.0.1:1"))
        self.assertIn("has a user or a password", self.refused("add", f"other=redis://:secret@{shard.host}:{self.spare.port}"))
        self.assertIn("there is no shard other", self.refused("remove", "other"))
        self.assertIn("the only shard", self.refused("remove", shard.name))
        self.assertIn("there is no shard", self.refused("replace", url(self.spare)))
        self.assertIn(f"is not shard {shard.name}", self.refused("replace", f"{shard.name}=redis://{self.spare.host}:{self.spare.port}"))
        self.assertIn("has the shards that the settings name", self.refused("rebalance"))
        self.assertIn("--rate", self.stack.visitctl("shards", "add", url(self.spare), "--rate", "0", check=False).stderr)

    def test_servers(self):
        with self.spare.client() as redis:
            redis("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
            self.assertIn("evicts keys", self.refused("add", url(self.spare)))
            redis("CONFIG", "SET", "maxmemory-policy", "noeviction", "appendonly", "no")
            self.assertIn("no append-only file", self.refused("add", url(self.spare)))
            redis("CONFIG", "SET", "appendonly", "yes", "maxmemory", "100kb")
            self.assertIn("has too little memory", self.refused("add", url(self.spare)))
            redis("CONFIG", "SET", "maxmemory", "0")
            redis("REPLICAOF", "127.0.0.1", str(self.stack.shards[0].port))
            wait_for("it is a replica", lambda: redis("ROLE")[0] == "slave")
            self.assertIn("is a replica", self.refused("add", url(self.spare)))
            wait_for("it holds what the shard holds", lambda: str(redis("EXISTS", "visits:topology")) == "1")
            redis("REPLICAOF", "NO", "ONE")
            self.assertIn("belongs to a deployment already", self.refused("add", url(self.spare)))
            redis("DEL", "visits:topology")
            self.assertIn("holds counts already", self.refused("add", url(self.spare)))
        self.stack.kill9(self.spare.name)
        self.assertIn("cannot be used", self.refused("add", url(self.spare)))

    def test_a_node_of_a_cluster(self):
        node = self.stack.spare("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
        with node.client() as redis:
            redis("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
            wait_for("it serves all slots", lambda: "cluster_state:ok" in redis("CLUSTER", "INFO"))
        self.assertIn("node of a cluster", self.refused("add", url(node)))

    def test_a_deployment_of_a_newer_version(self):
        shard = self.stack.shards[0]
        self.stack.kill9("flusher")
        with shard.client() as redis:
            topology = redis("GET", "visits:topology")
            redis("SET", "visits:topology", topology.replace(" 2 ", " 4 ", 1))
        self.stack.start_one("flusher")
        wait_for("the shard is held", lambda: "newer version of visitd" in self.stack.visitctl("shards", "list").stdout)
        self.assertEqual(self.stack.visitctl("accept", shard.name, "--yes", check=False).returncode, 1)
        with shard.client() as redis:
            redis("SET", "visits:topology", topology)
        self.stack.wait_for_shard(shard)


if __name__ == "__main__":
    unittest.main()
