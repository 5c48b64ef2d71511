"""The flusher dies, or its connection breaks, at the worst moments: nothing is doubled, nothing lost, reads go on."""

import socket
import subprocess
import threading
import time
import unittest

from harness import BUILD_ROOT, PATIENCE_S, Client, Stack, free_port, wait_for


class Proxy:
    """Stands between the flusher and a shard. `hold_answers`: commands still reach Redis, answers do not come back."""

    def __init__(self, target_port: int):
        self.port = free_port()
        self.target_port = target_port
        self.hold_answers = False
        self.scripts_executed = 0
        self._connections: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._ending = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._ending:
            try:
                near, _ = self._listening.accept()
                far = socket.create_connection(("127.0.0.1", self.target_port))
            except OSError:
                continue
            self._connections += [near, far]
            threading.Thread(target=self._carry, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near, True), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                if answers and self.hold_answers:
                    # The script's answer begins with its verdict: it was executed.
                    self.scripts_executed += data.count(b"OK ")
                    continue
                target.sendall(data)
        except OSError:
            pass
        finally:
            source.close()
            target.close()

    def break_all(self) -> None:
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._connections.clear()

    def close(self) -> None:
        self._ending = True
        self._listening.close()
        self.break_all()


class ProxiedStack(Stack):
    """A stack of one shard, which the flusher reaches through a proxy."""

    def __init__(self, **arguments):
        super().__init__(shards=1, **arguments)
        self.proxy = Proxy(self.shards[0].port)
        text = self.settings_file.read_text()
        self.settings_file.write_text(text.replace(f":{self.shards[0].port}\"", f":{self.proxy.port}\""))

    def close(self):
        self.proxy.close()
        super().close()


class Flusher(unittest.TestCase):
    def record(self, stack: Stack, visits: int) -> None:
        for _ in range(visits):
            stack.post("home")

    def until_executed(self, stack: ProxiedStack) -> None:
        wait_for("Redis has executed the batch", lambda: stack.proxy.scripts_executed > 0)

    def test_killed_between_execution_and_the_spool_a_batch_is_not_doubled(self):
        with ProxiedStack(frontends=1, settings={"redis": {"timeout_ms": 30000}}) as stack:
            stack.proxy.hold_answers = True
            self.record(stack, 25)
            self.until_executed(stack)
            stack.kill9("flusher")
            executed = stack.redis_counts()["home"]
            self.assertTrue(0 < executed <= 25)
            stack.proxy.hold_answers = False
            stack.restart("flusher")
            wait_for("the batch is answered", lambda: stack.status()["flusher"]["statistics"]["unanswered_batches"] == 0
                     and stack.status()["flusher"]["statistics"]["batches_duplicate"] == 1)  # fmt: skip
            stack.wait_for_redis({"home": 25})
            self.assertEqual(stack.get("home"), 25)

    def test_an_answer_that_is_lost_doubles_nothing(self):
        with ProxiedStack(frontends=1, settings={"redis": {"timeout_ms": 30000}}) as stack:
            stack.proxy.hold_answers = True
            self.record(stack, 25)
            self.until_executed(stack)
            stack.proxy.break_all()
            stack.proxy.hold_answers = False
            self.record(stack, 5)
            stack.wait_for_redis({"home": 30})
            self.assertEqual(stack.get("home"), 30)

    def test_killed_in_the_middle_of_changing_an_entry_the_page_is_read_on_exactly(self):
        with Stack(frontends=2, settings={"cache": {"ttl_ms": 60000}, "flusher": {"flush_interval_ms": 60000}}) as stack:
            self.record(stack, 10)
            self.assertEqual(stack.get("home"), 10)
            stack.kill9("flusher")
            # Eight stores note the change, the ninth makes the version odd, the tenth and eleventh are the change.
            for stores in (8, 9, 10, 11):
                died = subprocess.run([str(BUILD_ROOT / "tests/crash/half_change"), str(stack.runtime_directory), "home", str(stores)])
                self.assertEqual(died.returncode, -9)
                stack.post("home")
                begun = time.monotonic()
                expected = 10 + (stores - 7)
                for _ in range(50):
                    self.assertEqual(stack.get("home"), expected)
                self.assertLess(time.monotonic() - begun, 5)
                if stores >= 9:
                    # Odd now, for ever: the next half change would begin in the middle of this one.
                    stack.restart("flusher")
                    self.assertEqual(stack.get("home"), expected)
                    wait_for("the restarted flusher has applied the visit", lambda: stack.status("page", "home")["unapplied"] == 0)
                    stack.kill9("flusher")
            stack.restart("flusher")
            self.assertEqual(stack.get("home"), 14)
            wait_for("the flush is answered", lambda: stack.visitctl("flush", check=False).returncode == 0)
            self.assertEqual(stack.redis_counts()["home"], 14)

    def test_reads_and_visits_go_on_while_the_flusher_stands_still(self):
        with Stack(frontends=2, settings={"cache": {"ttl_ms": 200}}) as stack:
            self.record(stack, 3)
            self.assertEqual(stack.get("home"), 3)
            stack.pause("flusher")
            time.sleep(1.5)
            with Client(stack.port) as client:
                for n in range(4, 40):
                    self.assertEqual(client.ask("POST", "/visit/home").status, 200)
                    answer = client.ask("GET", "/visits/home")
                    self.assertEqual((answer.status, answer.json()["count"]), (200, n))
                    self.assertIn("ttl=", answer.headers["Cache-Status"])
            self.assertEqual(stack.read("never seen before").status, 503)
            stack.resume("flusher")
            stack.wait_for_redis({"home": 39})

    def test_a_second_flusher_is_refused_and_told_by_whom(self):
        with Stack(frontends=1) as stack:
            second = subprocess.run(stack.processes["flusher"].argv, capture_output=True, text=True, timeout=PATIENCE_S)
            self.assertEqual(second.returncode, 1)
            self.assertIn("flusher.lock", second.stderr)
            self.assertIn(str(stack.processes["flusher"].pid), second.stderr)
            self.assertTrue(stack.processes["flusher"].alive)

    def test_stopped_with_a_shard_down_what_it_did_not_take_stays_in_the_spool(self):
        with Stack(frontends=1, settings={"flusher": {"stop_flush_timeout_ms": 300}}) as stack:
            pages = {f"page-{n}": 3 for n in range(30)}
            for shard in stack.shards:
                stack.kill9(shard.name)
            for page, visits in pages.items():
                for _ in range(visits):
                    stack.post(page)
            self.assertEqual(stack.stop_one("flusher"), 0)
            for shard in stack.shards:
                stack.restart(shard.name)
            stack.restart("flusher")
            stack.wait_for_redis(pages)

    def test_frontends_count_before_the_flusher_was_ever_there(self):
        stack = Stack(frontends=1)
        try:
            for shard in stack.shards:
                stack.start_one(shard.name)
                stack.wait_for_shard(shard)
            stack.start_one("frontend_1")
            wait_for("the frontend listens", lambda: stack.listens(stack.processes["frontend_1"].pid))
            for _ in range(20):
                stack.post("early")
            self.assertEqual(stack.read("early").status, 503)
            stack.start_one("flusher")
            stack.wait_for_redis({"early": 20})
            self.assertEqual(stack.get("early"), 20)
        finally:
            stack.close()

    def test_a_shard_that_evicts_or_forgets_is_refused_unless_accepted(self):
        for arguments, word, accept in ((("--maxmemory-policy", "allkeys-lru"), "maxmemory-policy", "accept_eviction"),
                                        (("--appendonly", "no"), "appendonly", "accept_no_append_only")):  # fmt: skip
            stack = Stack(frontends=1, shards=1, redis_arguments=arguments)
            try:
                stack.start_one(stack.shards[0].name)
                stack.wait_for_shard(stack.shards[0])
                stack.start_one("frontend_1")
                stack.start_one("flusher")
                self.assertEqual(stack.processes["flusher"].running.wait(PATIENCE_S), 1)
                self.assertIn(word, stack.processes["flusher"].text())
                stack.settings["redis"][accept] = True
                stack.write_settings()
                stack.restart("flusher")
                stack.wait_ready()
                stack.post("home")
                stack.wait_for_redis({"home": 1})
            finally:
                stack.close()


if __name__ == "__main__":
    unittest.main()
