#!/usr/bin/env python3
"""Where frontends listen besides the usual port: at a Unix socket, which one of them serves, and at a private address."""

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import unittest
from pathlib import Path

from harness import BUILD_ROOT, PATIENCE_S, Stack, free_port, listening_at, wait_for


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str):
        super().__init__("localhost", timeout=PATIENCE_S)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


def ask(path: str, method: str, target: str) -> tuple[int, bytes]:
    """One request through a Unix socket. Nobody there: (0, b"")."""
    connection = UnixConnection(path)
    try:
        connection.request(method, target)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def sockets_of(pid: int) -> int:
    """How many a process has open; one that it closes meanwhile may not count."""
    found = 0
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += "socket" in os.readlink(link)
    return found


class UnixSocket(unittest.TestCase):
    def test_one_frontend_serves_it_and_another_when_that_one_has_gone(self):
        with Stack(frontends=2) as stack:
            path = str(stack.folder / "http.sock")
            stack.settings.setdefault("http", {})["listen"] = [f"127.0.0.1:{stack.port}", f"unix:{path}"]
            stack.write_settings()
            for name in stack.frontends:
                stack.restart(name)
            stack.wait_ready()
            wait_for("the socket is served", lambda: ask(path, "POST", "/visit/home")[0] == 200)
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o666)
            counted = 1
            for end in (stack.kill9, stack.stop_one):
                # Whoever serves it ends; both get their turn.
                for name in stack.frontends:
                    end(name)
                    wait_for("another one serves it", lambda: ask(path, "POST", "/visit/home")[0] == 200)
                    counted += 1
                    stack.restart(name)
            self.assertEqual(stack.get("home"), counted)
            for name in stack.frontends:
                stack.stop_one(name)
            self.assertFalse(os.path.exists(path), "the last one leaves no socket behind")


    def test_one_that_is_unlinked_is_made_again(self):
        with Stack(frontends=2) as stack:
            path = stack.folder / "http.sock"
            stack.settings.setdefault("http", {})["listen"] = [f"127.0.0.1:{stack.port}", f"unix:{path}"]
            stack.write_settings()
            for name in stack.frontends:
                stack.restart(name)
            stack.wait_ready()
            wait_for("the socket is served", lambda: ask(str(path), "POST", "/visit/home")[0] == 200)
            counted = 1
            for also in ((), (path.with_name("http.sock.lock"),)):
                for removed in (path, *also):
                    removed.unlink()
                wait_for("it is served again", lambda: ask(str(path), "POST", "/visit/home")[0] == 200)
                counted += 1
            self.assertEqual(stack.get("home"), counted)
            for name in stack.frontends:
                self.assertLess(sockets_of(stack.processes[name].pid), 8, "no listening socket is left behind")

    def test_a_path_that_cannot_be_opened_stops_nothing_else(self):
        with Stack(frontends=1, settings={"ring": {"lanes": 1, "lane_bytes": 1 << 16}}) as stack:
            folder = stack.folder / "sockets"
            folder.mkdir()
            path = folder / "http.sock"
            stack.settings.setdefault("http", {})["listen"] = [f"127.0.0.1:{stack.port}", f"unix:{path}"]
            stack.write_settings()
            stack.restart("frontend_1")
            stack.wait_ready()
            shutil.rmtree(folder)
            folder.write_text("no folder any more")
            frontend = stack.processes["frontend_1"]
            wait_for("it cannot be opened", lambda: str(path) in frontend.text())
            # A cache of another size is made anew. Whoever looks for none, and at no head in it, finds its lane full for good.
            stack.settings["cache"] = {"entries": 64}
            stack.write_settings()
            stack.restart("flusher")
            visits = json.dumps(["home"] * 300).encode()
            for _ in range(10):  # more than the lane holds at a time
                wait_for("visits are recorded", lambda: stack.ask("POST", "/visits", visits).status == 200)
            self.assertGreaterEqual(stack.get("home"), 3000)
            self.assertLess(stack.status()["frontends"][0]["heartbeat_age_ms"], 3000)
            folder.unlink()
            folder.mkdir()
            wait_for("it is served once it can be", lambda: ask(str(path), "POST", "/visit/home")[0] == 200)


class PrivateAddress(unittest.TestCase):
    def check(self, stack: Stack, private_port: int) -> None:
        for target, here, there in (("/livez", 404, 200), ("/readyz", 404, 200), ("/metrics", 404, 200), ("/visits/home", 200, 200)):
            self.assertEqual(stack.ask("GET", target).status, here, target)
            connection = http.client.HTTPConnection("127.0.0.1", private_port, timeout=PATIENCE_S)
            connection.request("GET", target)
            self.assertEqual(connection.getresponse().status, there, target)
            connection.close()
        self.assertEqual(stack.get("home"), 0)

    def test_health_and_metrics_are_served_there_alone(self):
        private = free_port()
        with Stack(frontends=2, settings={"http": {"private_listen": [f"127.0.0.1:{private}"]}}) as stack:
            self.check(stack, private)

    def test_a_socket_that_was_passed_under_that_name_is_one(self):
        stack = Stack(frontends=2)
        with listening_at(stack.port) as public, listening_at(0) as private:
            for name in stack.frontends:
                stack.processes[name].pass_sockets({"visitd.socket": public, "private": private})
            with stack:
                self.check(stack, private.getsockname()[1])

    def test_with_sockets_that_were_passed_the_settings_have_no_effect_and_the_log_names_them_with_their_units(self):
        stack = Stack(frontends=1, settings={"http": {"private_listen": [f"127.0.0.1:{free_port()}"], "listen": ["127.0.0.1:1"]}})
        with listening_at(stack.port) as public:
            stack.processes["frontend_1"].pass_sockets({"visitd.socket": public})
            with stack:
                self.assertEqual(stack.ask("GET", "/livez").status, 200)
                log = stack.processes["frontend_1"].text()
                self.assertRegex(log, r"http\.listen = \[127\.0\.0\.1:1\] has no effect.*\bvisitd\.socket\b")
                self.assertRegex(log, r"http\.private_listen = .* has no effect.*\bvisitd-private\.socket\b")

    def test_a_private_socket_alone_is_refused_with_the_unit_that_does_not_listen(self):
        stack = Stack(frontends=1)
        with contextlib.closing(stack), listening_at(0) as private:
            frontend = stack.processes["frontend_1"]
            frontend.pass_sockets({"private": private})
            stack.start_one("frontend_1")
            wait_for("it is refused", lambda: not frontend.alive)
            said = frontend.text()
            for words in ("http.listen", f"[127.0.0.1:{private.getsockname()[1]}] for http.private_listen", "systemctl status visitd.socket", "ListenStream="):
                self.assertIn(words, said)

    def test_a_unit_that_got_no_socket_and_has_no_address_names_the_socket_unit(self):
        with Stack(frontends=1) as stack:
            stack.settings.setdefault("http", {})["listen"] = ["192.0.2.1:8000"]  # of no host, as in a cage without a network
            stack.write_settings()
            # As systemd starts it: the variable holds the process's own id.
            started = ["sh", "-c", 'SYSTEMD_EXEC_PID=$$ exec "$@"', "sh", BUILD_ROOT / "frontend/visit-frontend", "--config", stack.settings_file]
            done = subprocess.run(started, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S)
            self.assertNotEqual(done.returncode, 0)
            said = done.stdout + done.stderr
            for words in ("'192.0.2.1:8000'", "systemctl status visitd.socket", "another program may use its port"):
                self.assertIn(words, said)

    def test_settings_that_name_the_sockets_that_were_passed_are_not_spoken_of(self):
        stack = Stack(frontends=1)
        with listening_at(stack.port) as public:
            host, port = public.getsockname()[:2]
            stack.settings.setdefault("http", {})["listen"] = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
            stack.write_settings()
            stack.processes["frontend_1"].pass_sockets({"visitd.socket": public})
            with stack:
                self.assertNotIn("no effect", stack.processes["frontend_1"].text())


if __name__ == "__main__":
    unittest.main()
