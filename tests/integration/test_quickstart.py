"""deploy/quickstart as a user runs it, on ports and in a folder of its own."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request
from pathlib import Path

from harness import BUILD_ROOT, LIBC, PATIENCE_S, SOURCE_ROOT, VISITCTL, Redis, free_port, remove_segments_of, segments, wait_for

QUICKSTART = SOURCE_ROOT / "deploy/quickstart"
# To the first count that is read, built already.
SOON_S = 2.0
# How often what must be quick is tried: a noisy machine may delay any one of them.
TRIES = 5


class Instance:
    """A running quickstart, its lines and when each came."""

    def __init__(self, state: Path, port: int, shard_ports: tuple[int, int], *options: str):
        self.state, self.port, self.shard_ports = state, port, shard_ports
        self.lines: list[tuple[float, str]] = []
        self.pids: set[int] = set()
        self.ready = False
        # fmt: off
        self.process = subprocess.Popen(
            [QUICKSTART, "--no-install", "--build", BUILD_ROOT, "--port", str(port), "--state", state,
             "--shard-ports", f"{shard_ports[0]},{shard_ports[1]}", *options],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            preexec_fn=lambda: LIBC.prctl(1, signal.SIGTERM))  # it stops with this test
        # fmt: on
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), line.rstrip("\n")))

    def text(self) -> str:
        return "\n".join(line for _, line in self.lines)

    def said(self, pattern: str) -> bool:
        return re.search(pattern, self.text()) is not None

    def children(self) -> dict[str, int]:
        """Name and pid of each process that it keeps running."""
        try:
            children = {entry["name"]: entry["pid"] for entry in json.loads((self.state / "children.json").read_text())}
        except FileNotFoundError:
            return {}
        self.pids |= set(children.values())
        return children

    def wait_ready(self) -> "Instance":
        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"quickstart ended with status {self.process.returncode}: {self.text()}")
            self.children()
            return self.said(r"\(ready after")

        wait_for("it is ready", ready, 60)
        self.ready = True
        return self

    def post(self, page: str) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/visit/{page}", method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            assert answer.status == 200

    def get(self, page: str) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/visits/{page}", timeout=PATIENCE_S) as answer:
            return json.load(answer)["count"]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.children()
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        children = self.children() if self.ready else {}  # a refused one has none: the folder is another's
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        wait_for("all children ended", lambda: not any(map(alive, children.values())), 30)
        self._reader.join(10)
        self.process.stdout.close()
        remove_segments_of(self.pids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class Quickstart(unittest.TestCase):
    def setUp(self):
        self.state = Path(tempfile.mkdtemp(prefix="visitd-quickstart-"))
        self.addCleanup(shutil.rmtree, self.state, ignore_errors=True)
        self.port, self.shard_ports = free_port(), (free_port(), free_port())

    def begin(self, *options: str, **changes) -> Instance:
        instance = Instance(changes.get("state", self.state), changes.get("port", self.port),
                            changes.get("shard_ports", self.shard_ports), *options)  # fmt: skip
        self.addCleanup(instance.close)
        return instance

    def test_it_counts_soon_and_says_what_to_try(self):
        took = []
        # Built already it counts within two seconds; the first start, and what else the machine does, may take longer.
        while len(took) < 2 or (min(took) > SOON_S and len(took) < TRIES):
            instance = self.begin().wait_ready()
            took.append(float(re.search(r"ready after ([0-9.]+) s", instance.text())[1]))
            wait_for("it says what to try", lambda instance=instance: instance.said("Ctrl-C stops everything"))
            self.assertTrue(instance.said(f"curl -X POST http://localhost:{self.port}/visit/home"))
            self.assertEqual(set(instance.children()),
                             {"flusher", "frontend-1", "frontend-2", *(f"redis_{port}" for port in self.shard_ports)})  # fmt: skip
            self.assertEqual(instance.stop(), 0, instance.text())
        self.assertLessEqual(min(took), SOON_S)

    def test_its_redis_servers_are_durable_and_local(self):
        self.begin().wait_ready()
        for port in self.shard_ports:
            with Redis(port) as redis:
                for key, value in (("appendonly", "yes"), ("appendfsync", "everysec"), ("maxmemory-policy", "noeviction")):
                    self.assertEqual(redis("CONFIG", "GET", key)[1], value)
            with socket.socket() as probe, self.assertRaises(ConnectionRefusedError):
                probe.connect(("127.0.0.2", port))

    def kill(self, instance: Instance, name: str) -> float:
        """Kills it, and waits until another one has its place. How long that took."""
        pid = instance.children()[name]
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        wait_for(f"{name} runs again", lambda: instance.children().get(name, pid) != pid, pause_s=0.002)
        took = time.monotonic() - killed
        wait_for("it is said", lambda: instance.said(rf"{name} \(pid {pid}\) was killed by SIGKILL"))
        return took

    def test_what_dies_runs_again_within_100_ms_and_that_is_said(self):
        instance = self.begin("--frontends", "3").wait_ready()
        for name in instance.children():
            # The first times, in a row; a machine that is busy may delay one of them.
            took = [self.kill(instance, name) for _ in range(3)]
            self.assertLess(sorted(took)[1], 0.1, (name, took))
        later = [self.kill(instance, "frontend-3") for _ in range(3)]
        self.assertTrue(all(pause > 0.1 for pause in later) and later[2] > 0.6, f"it does not back off: {later}")

        def counted() -> int | None:
            try:
                instance.post("after")
                return instance.get("after")
            except OSError:
                return None  # nobody listens yet, or the count is not known yet

        self.assertGreaterEqual(wait_for("visits are counted again", counted), 1)

    def test_sigterm_and_ctrl_c_stop_all_and_the_next_start_goes_on_with_the_counts(self):
        expected = 0
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            instance = self.begin().wait_ready()
            self.assertEqual(instance.get("kept"), expected)
            for _ in range(7):
                instance.post("kept")
            expected += 7
            children = instance.children()
            self.assertEqual(instance.stop(number), 0, instance.text())
            self.assertEqual([name for name, pid in children.items() if alive(pid)], [])
            self.assertTrue(instance.said("all stopped"))

    def test_a_killed_quickstart_leaves_nothing_running_and_loses_nothing(self):
        instance = self.begin().wait_ready()
        for _ in range(5):
            instance.post("survives")
        children = instance.children()
        instance.stop(signal.SIGKILL)
        again = self.begin().wait_ready()
        self.assertEqual([name for name, pid in children.items() if alive(pid)], [])
        self.assertEqual(again.get("survives"), 5)

    def test_a_stopped_child_of_a_killed_quickstart_is_ended_by_the_next_one(self):
        instance = self.begin().wait_ready()
        stuck = instance.children()["frontend-1"]
        os.kill(stuck, signal.SIGSTOP)
        instance.stop(signal.SIGKILL)
        again = self.begin().wait_ready()
        self.assertFalse(alive(stuck))
        self.assertTrue(again.said(r"an earlier quickstart was killed; stopping what it left"))

    def test_a_port_in_use_is_named_with_its_holder_and_nothing_is_started(self):
        with socket.socket() as held:
            held.bind(("127.0.0.1", self.port))
            held.listen()
            for port, shard_ports in ((self.port, self.shard_ports), (free_port(), (self.shard_ports[0], self.port))):
                instance = self.begin(port=port, shard_ports=shard_ports)
                self.assertEqual(instance.process.wait(PATIENCE_S), 1)
                instance._reader.join(5)
                self.assertTrue(instance.said(rf"port {self.port} is in use by pid {os.getpid()} \("), instance.text())
                self.assertEqual(instance.children(), {})

    def test_a_second_one_in_the_same_folder_is_refused(self):
        first = self.begin().wait_ready()
        second = self.begin(port=free_port(), shard_ports=(free_port(), free_port()))
        self.assertEqual(second.process.wait(PATIENCE_S), 1)
        second._reader.join(5)
        self.assertTrue(second.said(rf"runs already in {self.state} \(pid {first.process.pid}\)"), second.text())
        self.assertIsNone(first.process.poll())

    def test_two_run_side_by_side(self):
        other_state = Path(tempfile.mkdtemp(prefix="visitd-quickstart-"))
        self.addCleanup(shutil.rmtree, other_state, ignore_errors=True)
        first = self.begin().wait_ready()
        second = self.begin(state=other_state, port=free_port(), shard_ports=(free_port(), free_port())).wait_ready()
        first.post("apart")
        self.assertEqual((first.get("apart"), second.get("apart")), (1, 0))
        for instance in (first, second):
            status = subprocess.run([VISITCTL, "--config", instance.state / "visitd.toml", "status", "--json"],
                                    capture_output=True, text=True, timeout=PATIENCE_S)  # fmt: skip
            self.assertEqual(status.returncode, 0, status.stderr)
            json.loads(status.stdout)

    def test_other_shard_ports_keep_the_counts(self):
        instance = self.begin().wait_ready()
        for n in range(20):
            instance.post(f"moved-{n}")
        self.assertEqual(instance.stop(), 0, instance.text())
        again = self.begin(shard_ports=(free_port(), self.shard_ports[0])).wait_ready()
        self.assertEqual([again.get(f"moved-{n}") for n in range(20)], [1] * 20)

    def test_a_folder_of_any_name_and_options_with_an_equals_sign(self):
        port = free_port()
        for name in ("caf\u00e9", 'a "b" \\c'):
            state = self.state / name
            instance = Instance(state, self.port, self.shard_ports, f"--port={port}")
            self.addCleanup(instance.close)
            instance.port = port
            instance.wait_ready()
            instance.post("home")
            self.assertEqual(instance.get("home"), 1)
            self.assertEqual(instance.stop(), 0, instance.text())
            self.assertTrue(all((state / f"redis_{shard}/appendonlydir").is_dir() for shard in self.shard_ports))

    def test_no_visit_is_counted_that_nobody_made(self):
        instance = self.begin().wait_ready()
        visitctl = [VISITCTL, "--config", instance.state / "visitd.toml"]
        subprocess.run([*visitctl, "flush"], check=True, capture_output=True, timeout=60)
        for port in self.shard_ports:
            with Redis(port) as redis:
                fields = [field for key in redis("KEYS", "visits:{*}") for field in redis("HKEYS", key)]
                self.assertEqual([field for field in fields if not field.startswith("\x01")], [])
        status = json.loads(subprocess.run([*visitctl, "status", "--json"], check=True, capture_output=True, timeout=60).stdout)
        self.assertEqual([frontend["statistics"]["visits"] for frontend in status["frontends"]], [0, 0])

    def test_an_edited_settings_file_is_kept_and_takes_effect(self):
        instance = self.begin().wait_ready()
        self.assertEqual(instance.stop(), 0, instance.text())
        settings = self.state / "visitd.toml"
        edited = settings.read_text() + '\n[http]\napi_prefix = "/mine"\nlisten = ["127.0.0.1:1"]\n\n[ring]\nlanes = 11\n'
        settings.write_text(edited)
        again = self.begin(port=free_port()).wait_ready()
        self.assertEqual(settings.read_text(), edited)
        self.assertTrue(again.said("http.listen has no effect here: --port gives it"))
        with urllib.request.urlopen(f"http://127.0.0.1:{again.port}/mine/visits/home", timeout=PATIENCE_S) as answer:
            self.assertEqual(json.load(answer)["count"], 0)
        lanes = json.loads(subprocess.run([VISITCTL, "--config", settings, "lanes", "--json"], check=True, capture_output=True, timeout=60).stdout)
        self.assertEqual(len(lanes["rings"][-1]["lanes"]), 11)
        self.assertEqual(again.stop(), 0, again.text())
        settings.write_text(edited.replace(f"{self.state}/run", f"{self.state}/other"))
        refused = self.begin()
        self.assertEqual(refused.process.wait(PATIENCE_S), 1)
        wait_for("it says why", lambda: refused.said("names other folders, which visitctl would look at: put paths.runtime_directory right"))

    def remove(self, *options: str) -> subprocess.CompletedProcess:
        return subprocess.run([QUICKSTART, "--build", BUILD_ROOT, "--state", self.state, *options], capture_output=True, text=True,
                              timeout=60, stdin=subprocess.DEVNULL)  # fmt: skip

    def test_it_is_removed_with_its_segments_and_the_counts_only_when_asked(self):
        instance = self.begin().wait_ready()
        instance.post("home")
        self.assertEqual(instance.get("home"), 1)
        running = self.remove("--remove")
        self.assertEqual(running.returncode, 1)
        self.assertIn(f"runs already in {self.state} (pid {instance.process.pid})", running.stderr)
        pids = set(instance.children().values())
        self.assertEqual(instance.stop(), 0, instance.text())
        self.assertEqual(len([segment for segment in segments() if segment["cpid"] in pids]), 2)
        done = self.remove("--remove")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([segment for segment in segments() if segment["cpid"] in pids], [])
        self.assertFalse((self.state / "run").exists())
        again = self.begin().wait_ready()
        self.assertEqual(again.get("home"), 1)
        self.assertEqual(again.stop(), 0, again.text())
        unasked = self.remove("--remove-all")
        self.assertEqual(unasked.returncode, 1)
        self.assertIn("say --yes too", unasked.stderr)
        (self.state / "mine").write_text("not quickstart's")
        all_of_it = self.remove("--remove-all", "--yes")
        self.assertEqual(all_of_it.returncode, 0, all_of_it.stderr)
        self.assertEqual([path.name for path in self.state.iterdir()], ["mine"])
        self.assertIn(f"kept    {self.state}", all_of_it.stdout)

    def test_bad_options_are_refused_with_what_is_allowed(self):
        for options, words in (
            (("--port", "70000"), "--port is '70000'; allowed: 1 to 65535"),
            (("--shard-ports", "7070"), "give two ports"),
            (("--shard-ports", f"{self.port},{self.port}"), "must differ"),
            (("--frontends", "0"), "--frontends is '0'; allowed: 1 to 64"),
            (("--state", ""), "--state is empty"),
            (("--nonsense",), "unknown option '--nonsense'"),
            (("--port=x",), "--port is 'x'; allowed: 1 to 65535"),
            (("--no-install=1",), "'--no-install' takes no value"),
            (("--remove", "--state", str(self.state / "none")), f"there is no state folder {self.state / 'none'}"),
        ):
            done = subprocess.run([QUICKSTART, *options], capture_output=True, text=True, timeout=PATIENCE_S)
            self.assertEqual(done.returncode, 1, options)
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main()
