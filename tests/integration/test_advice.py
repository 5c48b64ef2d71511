"""What the programs say when something is wrong, with real servers and processes: the facts, the right setting, and commands that work."""

import contextlib
import http.server
import os
import re
import shutil
import subprocess
import tempfile
import threading
import unittest
from pathlib import Path

from harness import FLUSHER, FRONTEND, VISITCTL, Shard, Stack, free_port, listening_at, wait_for

SETTINGS = {"flusher": {"flush_interval_ms": 100, "commit_interval_ms": 20},
            "redis": {"held_recheck_ms": 200, "reconnect_interval_ms": 100, "check_interval_ms": 200}}  # fmt: skip
UNPRIVILEGED = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


class Refusing(http.server.BaseHTTPRequestHandler):
    """An HTTP server, as Python has it."""

    def log_message(self, *_):
        pass


class ShardsThatAreSomethingElse(unittest.TestCase):
    def stack(self, *redis_arguments: str, host: str = "127.0.0.1") -> Stack:
        """Started as far as it goes: its one shard does not come up."""
        stack = Stack(frontends=1, shards=1, settings=SETTINGS, redis_arguments=redis_arguments)
        self.addCleanup(stack.close)
        stack.shards[0].host = host
        stack.write_settings()
        return stack

    def begin(self, stack: Stack, *names: str) -> None:
        for name in (*names, "flusher", *stack.frontends):
            stack.start_one(name)

    def reason(self, stack: Stack, words: str) -> str:
        def said() -> str:
            shards = stack.visitctl("status", "--json", check=False)
            reasons = re.findall(r'"reason": "(.*)"', shards.stdout)
            return next((reason for reason in reasons if words in reason), "")

        return wait_for(f"the reason says {words!r}", said)

    def test_a_wrong_password_is_blamed_on_what_gave_it(self):
        stack = self.stack("--requirepass", "right", host=":wrong@127.0.0.1")
        self.begin(stack, stack.shards[0].name)
        reason = self.reason(stack, "the password was not accepted, which comes from the shard's URL")
        self.assertIn(f"{stack.settings_file}:", reason)
        self.assertNotIn("redis.password", reason)
        self.assertNotIn("wrong", reason.replace("WRONGPASS", ""))

        stack.stop_one("flusher")
        stack.shards[0].host = "127.0.0.1"
        stack.write_settings()
        flusher = stack.processes["flusher"]
        for name in ("REDIS_PASSWORD", "VISITD_REDIS_PASSWORD"):
            flusher.environment = flusher.environment | {name: "wrong"}
            stack.restart("flusher")
            self.reason(stack, f"which comes from environment variable {name}: WRONGPASS")
        password_file = stack.folder / "password"
        password_file.write_text("wrong\n")
        flusher.environment = {name: value for name, value in flusher.environment.items() if not name.endswith("REDIS_PASSWORD")}
        stack.settings["redis"]["password_file"] = str(password_file)
        stack.write_settings()
        stack.restart("flusher")
        self.reason(stack, f"which comes from redis.password_file ({password_file}): WRONGPASS")
        password_file.write_text("right\n")
        stack.restart("flusher")
        stack.wait_ready()

    def test_a_password_that_is_missing_is_named(self):
        stack = self.stack("--requirepass", "right")
        self.begin(stack, stack.shards[0].name)
        self.reason(stack, "the server wants a password, and the settings have none for this shard (redis.password,")

    def test_an_http_server_is_told_from_redis(self):
        stack = self.stack()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", stack.shards[0].port), Refusing)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.begin(stack)
        self.reason(stack, "an HTTP server answers there: put the shard's address right")

    def test_a_server_that_speaks_something_else_is_called_so(self):
        stack = self.stack()
        listening = listening_at(stack.shards[0].port)
        self.addCleanup(listening.close)

        def greet() -> None:
            with contextlib.suppress(OSError):  # it is closed
                while True:
                    with listening.accept()[0] as peer:
                        peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                        peer.recv(4096)

        threading.Thread(target=greet, daemon=True).start()
        self.begin(stack)
        self.reason(stack, "another server than Redis answers there: put the shard's address right")

    def test_one_server_under_two_names_is_held_with_both(self):
        stack = self.stack("--bind", "*")
        port = stack.shards[0].port
        stack.shards.append(Shard("twin", port, stack.folder))
        stack.shards[1].host = "127.0.0.2"
        stack.write_settings()
        self.begin(stack, stack.shards[0].name)
        reason = self.reason(stack, f"shard twin (127.0.0.2:{port}) is one server and database with shard redis_{port} (127.0.0.1:{port})")
        self.assertLess(len(reason), 250)
        states = {shard["name"]: shard["state"] for shard in stack.status()["shards"]}
        self.assertEqual(states["twin"], "held")
        # Another database of that server is another shard.
        stack.stop_one("flusher")
        shutil.rmtree(stack.state_directory)
        with stack.shards[0].client() as redis:
            redis("FLUSHALL")
        stack.shards[1].port = f"{port}/1"
        stack.write_settings()
        stack.restart("flusher")
        wait_for("both are up", lambda: {shard["state"] for shard in stack.status()["shards"]} == {"up"})

    def test_a_shard_that_was_turned_to_anothers_server_while_it_counts(self):
        with Stack(frontends=1, settings=SETTINGS, redis_arguments=("--bind", "*")) as stack:
            for n in range(20):
                stack.post(f"page-{n}")
            stack.wait_for_redis({f"page-{n}": 1 for n in range(20)})
            # As where somebody mistypes an address.
            right, (first, second) = stack.shards[1].port, stack.shards
            second.host, second.port = "127.0.0.2", first.port
            stack.write_settings()
            stack.restart("flusher")
            self.reason(stack, f"shard {second.name} (127.0.0.2:{first.port}) is one server and database with shard {first.name}")
            second.host, second.port = "127.0.0.1", right
            stack.write_settings()
            stack.restart("flusher")
            stack.wait_for_redis({f"page-{n}": 1 for n in range(20)})


class Pasted(unittest.TestCase):
    def test_the_hint_of_a_held_shard_works_as_it_is(self):
        stack = Stack(frontends=1, shards=1, settings=SETTINGS)
        self.addCleanup(stack.close)
        # What a shell would take apart.
        odd = stack.folder / "settings of it's own.toml"
        for name in ("flusher", *stack.frontends):
            stack.processes[name].argv[-1] = str(odd)
        shutil.copy(stack.settings_file, odd)
        stack.start()
        stack.post("home")
        stack.wait_for_redis({"home": 1})
        with stack.shards[0].client() as redis:
            redis("FLUSHALL")
        hint = r"or accept it as it is with: (visitctl .*)$"
        wait_for("the log has the hint", lambda: re.search(hint, stack.processes["flusher"].text(), re.MULTILINE))
        command = re.search(hint, stack.processes["flusher"].text(), re.MULTILINE)[1]
        self.assertIn("--config", command)
        environment = {"PATH": f"{VISITCTL.parent}:/usr/bin:/bin"}
        asked = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, env=environment, stdin=subprocess.DEVNULL)
        self.assertEqual(asked.returncode, 1)
        again = re.search(r"to accept it say: (.*)$", asked.stderr, re.MULTILINE)[1]
        done = subprocess.run(["bash", "-c", again], capture_output=True, text=True, timeout=60, env=environment)
        self.assertEqual(done.returncode, 0, done)
        wait_for("the shard is up", lambda: stack.status()["shards"][0]["state"] == "up")


class Listening(unittest.TestCase):
    def frontend(self, address: str, *wrapper: str) -> str:
        """What a frontend says that cannot listen there."""
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o777)
            environment = {"VISITD_HTTP_LISTEN": address, "VISITD_PATHS_RUNTIME_DIRECTORY": f"{folder}/run", "VISITD_RING_LANE_BYTES": "64KiB",
                           "PATH": "/usr/bin:/bin"}  # fmt: skip
            done = subprocess.run([*wrapper, str(FRONTEND)], capture_output=True, text=True, timeout=60, env=environment)
            self.assertEqual(done.returncode, 1, done)
            left = subprocess.run([str(VISITCTL), "remove", "--instance", f"{folder}/run", "--yes"], capture_output=True, text=True, timeout=60)
            self.assertIn(left.returncode, (0, 1), left)
            return done.stdout + done.stderr

    def test_a_port_that_is_taken_is_named_with_who_has_it(self):
        port = free_port()
        with listening_at(port):
            self.assertIn(f"listen address '127.0.0.1:{port}' is in use by process {os.getpid()} ({Path('/proc/self/comm').read_text().strip()})",
                          self.frontend(f"127.0.0.1:{port}"))  # fmt: skip

    @unittest.skipUnless(os.geteuid() == 0, "needs to become another user")
    def test_what_another_user_has_is_named_with_the_user(self):
        port = free_port()
        with listening_at(port):
            self.assertIn("is in use by a process of user root", self.frontend(f"127.0.0.1:{port}", *UNPRIVILEGED))

    @unittest.skipUnless(os.geteuid() == 0, "needs to become another user")
    def test_a_privileged_port_is_called_so(self):
        first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
        if first < 82:
            self.skipTest("no port is privileged here")
        said = self.frontend("127.0.0.1:81", *UNPRIVILEGED)
        self.assertIn(f"cannot listen at '127.0.0.1:81': ports below {first} are for processes with the capability CAP_NET_BIND_SERVICE", said)


class Environment(unittest.TestCase):
    def test_a_variable_of_ours_that_is_no_setting_is_refused_by_every_program(self):
        for program in (FRONTEND, FLUSHER, VISITCTL):
            for name, words in (("VISITD_FOO", "VISITD_FOO is unknown."), ("VISITD_HTTP_LISTN", "did you mean 'VISITD_HTTP_LISTEN'?")):
                done = subprocess.run([program, "--check-config"], capture_output=True, text=True, timeout=60, env={name: "1"})
                self.assertEqual(done.returncode, 2, (program, done))
                self.assertIn(words, done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1)

    def test_what_a_cluster_sets_for_a_service_is_passed_over(self):
        service = {"VISITD_SERVICE_HOST": "10.96.0.17", "VISITD_SERVICE_PORT": "8000", "VISITD_SERVICE_PORT_HTTP": "8000",
                   "VISITD_PORT": "tcp://10.96.0.17:8000", "VISITD_PORT_8000_TCP": "tcp://10.96.0.17:8000", "VISITD_PORT_8000_TCP_PROTO": "tcp",
                   "VISITD_PORT_8000_TCP_PORT": "8000", "VISITD_PORT_8000_TCP_ADDR": "10.96.0.17"}  # fmt: skip
        for program in (FRONTEND, FLUSHER, VISITCTL):
            done = subprocess.run([program, "--check-config"], capture_output=True, text=True, timeout=60, env=service)
            self.assertEqual(done.returncode, 0, (program, done.stderr))


if __name__ == "__main__":
    unittest.main()
