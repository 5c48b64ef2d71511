#!/usr/bin/env python3
"""How much one request from outside may add, and who is not outside: with real processes, peers and sockets."""

import collections
import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import time
import unittest

from harness import PATIENCE_S, VISITCTL, Stack, free_port, listening_at, wait_for

CLONE_NEWNET = 0x40000000
# Addresses of this test's own network namespace: who connects to one of them comes from it.
OUTSIDE_IPV4, OUTSIDE_IPV6 = "192.0.2.77", "2001:db8::77"
SPEAKS_FOR_ANOTHER = ["Origin: https://blog.example", "Sec-Fetch-Site: cross-site", "Forwarded: for=198.51.100.9", "X-Forwarded-For: 198.51.100.9"]
MOST_VISITS, MOST_ENTRIES = 100, 1000
ANSWERED: collections.Counter[str] = collections.Counter()  # of the stack at hand, by the problem's type
SPOILING = b'{"home":4294967295}'


def setUpModule():
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "a network namespace of its own (run as root)")
    for words in ("link set lo up", f"addr add {OUTSIDE_IPV4}/32 dev lo", f"addr add {OUTSIDE_IPV6}/128 dev lo nodad"):
        subprocess.run(["ip", *words.split()], check=True)


def connect(address: str, port: int) -> socket.socket:
    if address.startswith("/"):
        address = address.removeprefix("/") if address.startswith("/\0") else address
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(PATIENCE_S)
        connection.connect(address)
        return connection
    return socket.create_connection((address, port), timeout=PATIENCE_S)


def post(address: str, port: int, body: bytes, *fields: str, target: str = "/visits") -> tuple[int, dict]:
    head = [f"POST {target} HTTP/1.1", "Host: counter.example", "Connection: close", f"Content-Length: {len(body)}", *fields]
    with connect(address, port) as connection:
        connection.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    status, answer = int(received.split(b" ", 2)[1]), json.loads(received.partition(b"\r\n\r\n")[2])
    ANSWERED[answer.get("type", "")] += 1
    return status, answer


class PublicLimits:
    way = ""

    @classmethod
    def setUpClass(cls):
        ANSWERED.clear()
        cls.stack = cls.enterClassContext(Stack(frontends=1))
        cls.path, cls.private = str(cls.stack.folder / "http.sock"), free_port()
        cls.stack.settings["http"] = {
            "hot_routes": cls.way,
            "listen": [f"[::]:{cls.stack.port}", f"unix:{cls.path}"],
            "private_listen": [f"{OUTSIDE_IPV4}:{cls.private}"],
        }
        cls.stack.write_settings()
        cls.stack.restart("frontend_1")
        cls.stack.wait_ready()
        wait_for("the Unix socket is there", lambda: os.path.exists(cls.path))

    def check_refused(self, *request, kind: str, words: str) -> None:
        status, answer = post(*request)
        self.assertEqual((status, answer["type"]), (403, f"urn:visitd:problem:{kind}"), request)
        self.assertIn(words, answer["detail"])

    def check_limited(self, address: str, *fields: str) -> None:
        """What this sender sends is a stranger's: small lists are taken, of others nothing is counted."""
        before = self.stack.get("small"), self.stack.get("home")
        at = (address, self.stack.port)
        self.check_refused(*at, SPOILING, *fields, kind="too-many-visits", words="adds 4294967295 visits to its page; a request from outside may add 100 ")
        halves = b'{"other":100,"home":60} ["small"] {"home":41}'
        self.check_refused(*at, halves, *fields, kind="too-many-visits", words="adds 101 visits")
        many = json.dumps(["home"] + [f"page {number}" for number in range(MOST_ENTRIES)]).encode()
        self.check_refused(*at, many, *fields, kind="too-many-entries", words=f"has {MOST_ENTRIES + 1} entries; a request from outside may have {MOST_ENTRIES} ")
        self.assertEqual(post(*at, b'{"small":100}', *fields)[0], 200)
        self.assertEqual(post(*at, b"", *fields, target="/visit/small")[0], 200)
        self.assertEqual((self.stack.get("small"), self.stack.get("home")), (before[0] + MOST_VISITS + 1, before[1]))
        self.assertEqual(self.stack.get("other"), 0)

    def check_unlimited(self, address: str, port: int, *fields: str) -> None:
        before = self.stack.get("trusted")
        status, answer = post(address, port, b'{"trusted":4294967295}', *fields)
        self.assertEqual((status, answer["visits"]), (200, 4294967295), (address, fields))
        many = json.dumps([f"page {number}" for number in range(MOST_ENTRIES + 1)]).encode()
        self.assertEqual(post(address, port, many, *fields)[0], 200)
        self.assertEqual(self.stack.get("trusted"), before + 4294967295)

    def test_a_process_beside_the_counter_may_add_what_it_likes(self):
        for address in ("127.0.0.1", "127.0.0.2", "::1", self.path):
            self.check_unlimited(address, self.stack.port)

    def test_whoever_speaks_for_another_is_limited(self):
        for field in SPEAKS_FOR_ANOTHER:
            for address in ("127.0.0.1", "::1", self.path):
                self.check_limited(address, field)

    def test_another_host_is_limited(self):
        for address in (OUTSIDE_IPV4, OUTSIDE_IPV6):
            self.check_limited(address)

    def test_who_reaches_a_private_address_may_add_what_it_likes(self):
        self.check_unlimited(OUTSIDE_IPV4, self.private)
        self.check_unlimited(OUTSIDE_IPV4, self.private, "X-Forwarded-For: 198.51.100.9")

    def test_refusals_are_figures(self):
        kinds = ("too-many-visits", "too-many-entries")

        def figures() -> list[int]:
            with connect(OUTSIDE_IPV4, self.private) as connection:
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                text = b"".join(iter(lambda: connection.recv(65536), b"")).decode()
            found = [re.search(rf'^visitd_frontend_requests_refused_total{{[^}}]*"{kind}"[^}}]*}} (\d+)$', text, re.MULTILINE) for kind in kinds]
            self.assertTrue(all(found), text)
            return [int(figure[1]) for figure in found if figure]

        def told() -> list[int]:
            by_type = {one["type"]: one for one in self.stack.status("refusals")["refusals"]}
            return [by_type[kind]["refused"] if kind in by_type else 0 for kind in kinds]

        answered = [ANSWERED[f"urn:visitd:problem:{kind}"] + 1 for kind in kinds]
        self.assertEqual(post(OUTSIDE_IPV4, self.stack.port, SPOILING)[0], 403)
        many = json.dumps([f"page {number}" for number in range(MOST_ENTRIES + 1)]).encode()
        self.assertEqual(post(OUTSIDE_IPV4, self.stack.port, many)[0], 403)
        wait_for("all refusals are figures", lambda: figures() == answered)
        wait_for("visitctl tells them", lambda: told() == answered)
        measuring = subprocess.Popen([str(VISITCTL), "--config", str(self.stack.settings_file), "--json", "refusals", "--measure", "4"], stdout=subprocess.PIPE)
        with measuring:
            time.sleep(1)
            self.assertEqual(post(OUTSIDE_IPV4, self.stack.port, SPOILING)[0], 403)
            report = json.loads(measuring.communicate(timeout=PATIENCE_S)[0])
        self.assertEqual([one["lately"] for one in report["refusals"] if one["type"] in kinds], [1, 0])
        self.assertGreaterEqual(report["measured_ms"], 4000)
        text = self.stack.visitctl("refusals", "--measure", "0.1").stdout
        self.assertRegex(text, rf"too-many-visits +403 +{answered[0] + 1} +0 +{answered[0] + 1}  \S")

    def test_the_limits_are_read_again_by_a_reload(self):
        usual = dict(self.stack.settings["http"])
        at = (OUTSIDE_IPV4, self.stack.port)
        self.assertEqual(post(*at, b'{"changed":101}')[0], 403)
        try:
            for visits, entries, expected in ((101, 1, 200), (0, 0, 200), (99, 1000, 403)):
                self.stack.settings["http"].update(public_visits_limit=visits, public_entries_limit=entries)
                self.stack.write_settings()
                os.kill(self.stack.processes["frontend_1"].pid, signal.SIGHUP)
                wait_for(f"the limit is {visits}", lambda: post(*at, b'{"changed":101}')[0] == expected)
                self.assertEqual(post(*at, b'["a","b"]')[0], 403 if entries == 1 else 200)
        finally:
            self.stack.settings["http"] = usual
            self.stack.write_settings()
            os.kill(self.stack.processes["frontend_1"].pid, signal.SIGHUP)
        wait_for("the limits are the usual ones", lambda: post(*at, b'{"changed":100}')[0] == 200)

    @contextlib.contextmanager
    def limited(self, **http):
        """The frontend has these settings, taken over by a reload."""
        usual = dict(self.stack.settings["http"])

        def reload(settings: dict, origin: str) -> None:
            self.stack.settings["http"] = settings | {"cors_origins": [origin]}
            self.stack.write_settings()
            os.kill(self.stack.processes["frontend_1"].pid, signal.SIGHUP)
            wait_for("the settings are read", lambda: self.stack.ask("GET", "/", headers={"Origin": origin}).headers["Access-Control-Allow-Origin"])

        reload(usual | http, "https://limited.example")
        try:
            yield
        finally:
            reload(usual, "https://usual.example")
            self.stack.settings["http"] = usual

    def test_a_client_adds_no_more_visits_than_its_rate(self):
        with self.limited(address_visits_per_minute=1, address_visits_burst=3, trusted_proxies=["127.0.0.0/8", "::1"]):
            for address in (OUTSIDE_IPV4, OUTSIDE_IPV6):
                before = self.stack.get("rated")
                answers = [post(address, self.stack.port, b"", target="/visit/rated") for _ in range(5)]
                self.assertEqual([status for status, _ in answers], [200, 200, 200, 429, 429])
                self.assertEqual(answers[-1][1]["type"], "urn:visitd:problem:visit-rate-exceeded")
                self.assertEqual(post(address, self.stack.port, b'["rated"]')[0], 429)
                self.assertEqual(self.stack.get("rated"), before + 3)
            # Behind this host's proxy each client has a rate of its own; of IPv6 each /64 network.
            clients = ["198.51.100.1", "198.51.100.2", '"[2001:db8:1:1::1]:80"', '"[2001:db8:1:1::2]"', '"[2001:db8:1:2::1]"']
            taken = [[post("127.0.0.1", self.stack.port, b"", f"Forwarded: for={client}", target="/visit/rated")[0] for _ in range(2)] for client in clients]
            self.assertEqual(taken, [[200, 200], [200, 200], [200, 200], [200, 429], [200, 200]])
            for _ in range(5):  # who is not from outside, and a proxy that names nobody
                self.assertEqual(post("127.0.0.1", self.stack.port, b"", target="/visit/rated")[0], 200)
                self.assertEqual(post("127.0.0.1", self.stack.port, b"", "Origin: https://blog.example", target="/visit/rated")[0], 200)
                self.assertEqual(post(OUTSIDE_IPV4, self.private, b"", target="/visit/rated")[0], 200)
        self.assertEqual(post(OUTSIDE_IPV4, self.stack.port, b"", target="/visit/rated")[0], 200)

    def test_new_pages_come_at_their_rate_and_known_ones_always(self):
        at = (OUTSIDE_IPV4, self.stack.port)
        known = [f"{self.way}-known-{number}" for number in range(20)]
        self.assertEqual(post("127.0.0.1", self.stack.port, json.dumps(known).encode())[0], 200)
        self.stack.flush()
        self.stack.restart("flusher")  # nobody has asked for them: Redis alone knows them
        self.stack.wait_ready()
        with self.limited(public_new_pages_per_minute=2):
            for page in known[:10]:
                self.assertEqual(post(*at, b"", target=f"/visit/{page}")[0], 200)
            self.assertEqual(post(*at, json.dumps(known).encode())[0], 200)
            new = [f"{self.way}-new-{number}" for number in range(4)]
            self.assertEqual(post(*at, b"", target=f"/visit/{new[0]}?count")[1]["count"], 1)
            refused = post(*at, json.dumps([known[0], new[0], new[1], new[1], new[2]]).encode())
            self.assertEqual((refused[0], refused[1]["type"], refused[1]["entry"]), (429, "urn:visitd:problem:too-many-new-pages", 4))
            self.assertEqual(post(*at, json.dumps([new[1]] * 3).encode())[0], 200)
            self.assertEqual(post(*at, b"", target=f"/visit/{new[2]}")[0], 429)
            self.assertEqual(post(*at, b"", target=f"/visit/{new[0]}")[0], 200)
            self.assertEqual(post("127.0.0.1", self.stack.port, b"", target=f"/visit/{new[3]}")[0], 200)
            self.assertEqual([self.stack.get(page) for page in (known[0], known[19], *new)], [3, 2, 2, 3, 0, 1])

    def test_whose_visits_count_is_read_again_by_a_reload(self):
        usual, usual_pages = dict(self.stack.settings["http"]), dict(self.stack.settings.get("pages", {}))
        at, ours = (OUTSIDE_IPV4, self.stack.port), "Origin: https://blog.example"

        def visit(page: str, *fields: str) -> str:
            status, answer = post(*at, b"", *fields, target=f"/visit/{page}")
            return answer["type"].rpartition(":")[2] if status != 200 else "counted"

        def reload(pages: dict, **http) -> None:
            self.stack.settings |= {"http": usual | http, "pages": usual_pages | pages}
            self.stack.write_settings()
            os.kill(self.stack.processes["frontend_1"].pid, signal.SIGHUP)

        try:
            reload({"allowed": ["ruled*"]}, count_origins=["https://blog.example"], ignored_addresses=["198.51.100.0/24"], ignored_agents=["bot"],
                   trusted_proxies=[OUTSIDE_IPV4])  # fmt: skip
            wait_for("the rules are read", lambda: visit("ruled-first", "Origin: https://x.example") == "origin-not-allowed")
            self.assertEqual(visit("ruled"), "origin-not-allowed")
            self.assertEqual(visit("other", ours), "page-not-allowed")
            self.assertEqual(post(*at, b'["ruled","other"]', ours)[1]["entry"], 1)
            self.assertEqual(visit("ruled", ours), "counted")
            for field in ("X-Forwarded-For: 198.51.100.9", "User-Agent: a Bot"):
                self.assertEqual(visit("ruled", ours, field), "counted", "so it is told")
            self.assertEqual(self.stack.get("ruled"), 1)
            self.assertEqual(post(OUTSIDE_IPV4, self.private, b'["other"]')[0], 200)
        finally:
            reload({})
        wait_for("all count again", lambda: visit("other") == "counted")


class UnixSockets(unittest.TestCase):
    """Whoever reaches one is trusted where its mode, or its folder's, keeps other users out."""

    WARNING = "every user of this host may connect"

    def check(self, stack: Stack, path: str, is_open: bool, *named: str) -> None:
        many = post(path, stack.port, b'{"many":101}')
        self.assertEqual(many[0], 403 if is_open else 200, many)
        self.assertEqual(post(path, stack.port, b'{"few":100}')[0], 200)
        said = [line for line in stack.processes["frontend_1"].text().splitlines() if self.WARNING in line]
        self.assertEqual(len(said), 1 if is_open else 0, said)
        for words in named:
            self.assertIn(words, said[0])

    def test_one_that_systemd_passed_is_judged_by_its_mode(self):
        for mode, is_open in ((0o660, False), (0o600, False), (0o666, True), (0o662, True)):
            with self.subTest(mode=f"{mode:o}"), socket.socket(socket.AF_UNIX) as passed:
                stack = Stack(frontends=1)
                stack.folder.chmod(0o755)
                path = str(stack.folder / "passed.sock")
                passed.bind(path)
                os.chmod(path, mode)
                passed.listen(64)
                with listening_at(stack.port) as public:
                    stack.processes["frontend_1"].pass_sockets({"visitd.socket": public, "proxy.socket": passed})
                    with stack:
                        self.check(stack, path, is_open, *[path, "http.listen", "SocketMode=", "proxy.socket"] if is_open else [])

    def test_one_that_systemd_passed_and_nobody_sees_is_open(self):
        with socket.socket(socket.AF_UNIX) as passed:
            passed.bind("\0visitd-test-" + str(os.getpid()))
            passed.listen(64)
            stack = Stack(frontends=1)
            with listening_at(stack.port) as public:
                stack.processes["frontend_1"].pass_sockets({"visitd.socket": public, "proxy.socket": passed})
                with stack:
                    self.check(stack, "/\0visitd-test-" + str(os.getpid()), True, "SocketMode=")

    def test_one_of_the_settings_is_judged_by_its_folders(self):
        with Stack(frontends=1) as stack:
            folder = stack.folder / "sockets"
            folder.mkdir()
            path = str(folder / "http.sock")
            stack.settings.setdefault("http", {})["listen"] = [f"127.0.0.1:{stack.port}", f"unix:{path}"]
            stack.write_settings()
            stack.folder.chmod(0o755)
            for mode, is_open in ((0o750, False), (0o755, True)):
                with self.subTest(mode=f"{mode:o}"):
                    folder.chmod(mode)
                    stack.restart("frontend_1")
                    stack.wait_ready()
                    wait_for("the socket is there", lambda: os.path.exists(path))
                    self.check(stack, path, is_open, *["http.listen", "SocketMode=", f"chmod 0750 {folder}"] if is_open else [])


class Direct(PublicLimits, unittest.TestCase):
    way = "direct"


class ThroughHttplib(PublicLimits, unittest.TestCase):
    way = "httplib"


if __name__ == "__main__":
    unittest.main()
