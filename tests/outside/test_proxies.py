#!/usr/bin/env python3
"""The proxies of deploy/proxies, as Debian has them, in front of real frontends: each example is started with its own words, only
addresses and file names are put in."""

import collections
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

from harness import SOURCE_ROOT, Stack, free_port, has_ipv6, wait_for

EXAMPLES = SOURCE_ROOT / "deploy/proxies"
NAME = "counter.example"
FORGED = {"X-Forwarded-For": "203.0.113.9, 198.51.100.7", "Forwarded": "for=203.0.113.9"}
# Page ids that a proxy might decode, join or shorten on the way, as they stand in a path, and as they are counted.
ODD_PAGES = {"blog%2Fnews": "blog/news", "a%20b": "a b", "50%25": "50%", "%C3%BC": "ü", "x%2F%2Fy": "x//y", "%2E%2E": "..", "a+b": "a+b",
             "q%3F%23": "q?#", "semi;colon": "semi;colon", "a/b//c/": "a/b//c/", "d%2F/e": "d//e", "/": "/"}  # fmt: skip


def put_in(example: str, replacements: dict[str, str]) -> str:
    """An example with some of its words replaced, each of which must be there."""
    text = (EXAMPLES / example).read_text()
    for old, new in replacements.items():
        assert old in text, f"deploy/proxies/{example} says nothing of {old!r}"
        text = text.replace(old, new)
    return text


class Relay:
    """Stands between proxy and frontends, and keeps what passes to them."""

    def __init__(self, port: int):
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.passed: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        try:
            with near, socket.create_connection(("127.0.0.1", self._port), timeout=60) as far:
                back = threading.Thread(target=self._copy, args=(far, near, None), daemon=True)
                back.start()
                self._copy(near, far, self.passed)
                back.join(60)
        except OSError:
            pass  # a proxy that gets no answer says so itself

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket, kept: list[bytes] | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if kept is not None:
                    kept.append(data)
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def fields(self, path: str) -> list[tuple[str, str]]:
        """Names in lower case, and values, of the last request for this path."""
        text = b"".join(self.passed).decode("latin-1")
        heads = [head for head in re.findall(r"[A-Z]+ \S+ HTTP/1\.1\r\n.*?\r\n\r\n", text, re.DOTALL) if head.split()[1] == path]
        assert heads, f"no request for {path} came through"
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in heads[-1].split("\r\n")[1:-2])]

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


class Proxy:
    """One proxy process in a folder of its own, from its example."""

    def __init__(self, upstream: str):
        self.folder = Path(tempfile.mkdtemp(prefix="visitd-proxy-"))
        self.port = free_port()
        self.upstream = upstream
        self.certificate = self.folder / "counter.pem"
        self.key = self.folder / "counter.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
             "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-keyout", self.key, "-out", self.certificate],
            check=True, capture_output=True)  # fmt: skip
        argv = self.configure()
        self.log = self.folder / "log"
        homes = {name: str(self.folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                                            env=os.environ | homes, start_new_session=True)  # fmt: skip
        try:
            wait_for(f"{type(self).__name__} answers", self.answers, 30, 0.1)
        except BaseException:
            print(self.log.read_text(errors="replace")[-4000:], flush=True)
            self.close()
            raise

    def configure(self) -> list[str]:
        """Writes the settings; how it is started."""
        raise NotImplementedError

    def answers(self) -> bool:
        assert self.process.poll() is None, f"it ended: {self.log.read_text(errors='replace')[-4000:]}"
        try:
            with TlsClient(self) as client:
                return client.ask("GET", "/visits/ready")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def curl(self, path: str, *arguments: str) -> tuple[str, str]:
        """Status and version of HTTP as "200 2", and the body."""
        done = subprocess.run(
            ["curl", "-sS", "--noproxy", "*", "--cacert", str(self.certificate), "--resolve", f"{NAME}:{self.port}:127.0.0.1", "--path-as-is", "--max-time",
             "30", "-w", "\n%{http_code} %{http_version}", *arguments, f"https://{NAME}:{self.port}{path}"],
            capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
        body, _, outcome = done.stdout.rpartition("\n")
        return outcome, body

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                # Its own children, such as nginx's workers, are of its session.
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)


class Nginx(Proxy):
    def configure(self) -> list[str]:
        listens = {
            "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
            "listen [::]:443 ssl": f"listen [::1]:{self.port} ssl" if has_ipv6() else "#listen",
            "server 127.0.0.1:8000;": f"server {self.upstream};",
            "/etc/ssl/counter.example.pem": str(self.certificate),
            "/etc/ssl/private/counter.example.key": str(self.key),
        }
        self.has_http_3 = "http_v3_module" in subprocess.run(["nginx", "-V"], capture_output=True, text=True, check=True).stderr
        if self.has_http_3:
            listens["#listen 443 quic"] = f"listen 127.0.0.1:{self.port} quic"
            listens["#add_header"] = "add_header"
        (self.folder / "site.conf").write_text(put_in("nginx.conf", listens))
        temporary = "".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        user = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "main.conf").write_text(
            f"daemon off; {user} worker_processes 1; pid {self.folder}/pid; error_log stderr;\n"
            f"events {{ worker_connections 512; }}\nhttp {{ access_log off; {temporary} include {self.folder}/site.conf; }}\n"
        )
        return ["nginx", "-p", str(self.folder), "-e", "stderr", "-c", str(self.folder / "main.conf")]


class Caddy(Proxy):
    def configure(self) -> list[str]:
        example = put_in("Caddyfile", {
            f"\n{NAME} {{": f"\n{NAME}:{self.port} {{\n\tbind 127.0.0.1",
            "#tls /etc/ssl/counter.example.pem /etc/ssl/private/counter.example.key": f"tls {self.certificate} {self.key}",
            "127.0.0.1:8000": self.upstream.replace("unix:", "unix/", 1),
        })  # fmt: skip
        (self.folder / "Caddyfile").write_text("{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + example)
        return ["caddy", "run", "--config", str(self.folder / "Caddyfile"), "--adapter", "caddyfile"]


class Haproxy(Proxy):
    def configure(self) -> list[str]:
        both = self.folder / "both.pem"
        both.write_text(self.certificate.read_text() + self.key.read_text())
        self.has_http_3 = re.search(r"\+QUIC\b", subprocess.run(["haproxy", "-vv"], capture_output=True, text=True, check=True).stdout) is not None
        commented = ("#limited-quic", "#bind quic4", "#http-after-response") if self.has_http_3 else ()
        (self.folder / "haproxy.cfg").write_text(put_in("haproxy.cfg", {
            **{line: line[1:] for line in commented},
            "quic4@:443": f"quic4@127.0.0.1:{self.port}",
            "bind :443": f"bind 127.0.0.1:{self.port}",
            "/etc/ssl/private/counter.example.pem": str(both),
            "server host 127.0.0.1:8000": f"server host {self.upstream.replace('unix:', 'unix@', 1)}",
            "check port 8001": f"check addr 127.0.0.1 port {STACK.private_port}",
        }))  # fmt: skip
        return ["haproxy", "-db", "-f", str(self.folder / "haproxy.cfg")]


class TlsConnection(http.client.HTTPSConnection):
    """To this host, whatever the name says."""

    def connect(self) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)


class TlsClient:
    """A keep-alive connection over TLS, HTTP/1.1."""

    def __init__(self, proxy: Proxy):
        self._connection = TlsConnection(NAME, proxy.port, timeout=20, context=ssl.create_default_context(cafile=proxy.certificate))

    def ask(self, method: str, path: str) -> tuple[int, bytes]:
        try:
            self._connection.request(method, path)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._connection.close()


STACK: Stack


def setUpModule():
    global STACK
    STACK = Stack(frontends=2, settings={"flusher": {"flush_interval_ms": 500}})
    STACK.private_port = free_port()
    STACK.unix_socket = STACK.folder / "http.sock"
    # Fewer connections of one address than a proxy opens: those of a trusted proxy are not counted.
    STACK.settings["http"] = {"listen": [f"127.0.0.1:{STACK.port}", f"unix:{STACK.unix_socket}"], "address_connection_limit": 4,
                              "private_listen": [f"127.0.0.1:{STACK.private_port}"]}  # fmt: skip
    STACK.write_settings()
    unittest.addModuleCleanup(STACK.close)
    STACK.start().supervise()


class Through:
    """What holds through every proxy; a class below names it."""

    kind: type[Proxy]

    @classmethod
    def setUpClass(cls):
        cls.relay = Relay(STACK.port)
        cls.addClassCleanup(cls.relay.close)
        cls.proxy = cls.kind(f"127.0.0.1:{cls.relay.port}")
        cls.addClassCleanup(cls.proxy.close)

    def page(self, name: str) -> str:
        return f"{self.kind.__name__}-{name}"

    def test_visits_and_counts_go_through_over_http_1_and_http_2(self):
        page = self.page("home")
        for number, (option, version) in enumerate((("--http1.1", "1.1"), ("--http2", "2"), ("--http2", "2")), 1):
            outcome, body = self.proxy.curl(f"/visit/{page}", option, "-X", "POST")
            self.assertEqual(outcome, f"200 {version}")
            self.assertEqual(json.loads(body)["status"], "success")
            outcome, body = self.proxy.curl(f"/visits/{page}", option)
            self.assertEqual((outcome, json.loads(body)["count"]), (f"200 {version}", number))
        outcome, body = self.proxy.curl("/api/v1/counter/visits", "--http2", "-d", json.dumps({page: 5}))
        self.assertEqual((outcome, json.loads(body)["visits"]), ("200 2", 5))
        self.assertEqual(STACK.get(page), 8)

    def test_page_ids_arrive_as_they_were_sent(self):
        for written, page in ODD_PAGES.items():
            with self.subTest(page):
                before = STACK.get(page)
                outcome, body = self.proxy.curl(f"/visit/{written}", "--http2", "-X", "POST")
                self.assertEqual(outcome, "200 2", body)
                self.assertEqual(STACK.get(page), before + 1)

    def test_the_client_is_named_by_the_proxy_alone(self):
        page = self.page("client")
        self.proxy.curl(f"/visit/{page}", "--http2", "-X", "POST", *(f"-H{name}: {value}" for name, value in FORGED.items()))
        fields = self.relay.fields(f"/visit/{page}")
        self.assertEqual([value for name, value in fields if name == "x-forwarded-for"], ["127.0.0.1"])
        self.assertNotIn("forwarded", [name for name, _ in fields])

    def test_what_is_meant_for_the_public_is_passed_on_and_nothing_else(self):
        """Not even what frontends without a private address would answer."""
        for path in ("/", "/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/visited", "/visitsx", "//visits/a", "/a/visits/b", "/?/visits/"):
            for prefix in ("", "/api/v1/counter"):
                self.proxy.curl(f"{prefix}{path}", "--http2")
                self.assertEqual(self.proxy.curl(f"{prefix}{path}", "--http2")[0], "404 2", prefix + path)
        for path in ("/pages", "/top", "/total", "/count.jsx", "/count.x.js", "/count", "/badges/x.svg"):
            self.assertEqual(self.proxy.curl(path, "--http2")[0], "404 2", path)
        for method in ("PUT", "DELETE"):
            self.assertEqual(self.proxy.curl("/visits/x", "--http2", "-X", method)[0], "405 2", method)
        passed = {line.split()[1] for line in re.findall(r"[A-Z]+ \S+ HTTP/1\.1", b"".join(self.relay.passed).decode("latin-1"))}
        public = re.compile(r"(/api/v1/counter)?/(visits?(/|\?|$)|(pixel|badge)/|(count|show)(\.[0-9]+)?\.js(\?|$))")
        self.assertEqual([path for path in passed if not public.match(path)], [])
        page = self.page("passed on")
        for prefix in ("", "/api/v1/counter"):
            self.assertEqual(self.proxy.curl(f"{prefix}/visits", "--http2", "-d", json.dumps([page]))[0], "200 2")
            self.assertEqual(self.proxy.curl(f"{prefix}/visits?page={page.replace(' ', '+')}", "--http2")[0], "200 2")
            self.assertEqual(self.proxy.curl(f"{prefix}/visits/query", "--http2", "-d", json.dumps([page]))[0], "200 2")
            self.assertEqual(self.proxy.curl(f"{prefix}/visit/x", "--http2", "-X", "OPTIONS")[0], "204 2")
            for path in ("/count.js", "/count.1.js", "/count.1.js?x", "/show.1.js", "/pixel/x.gif", "/badge/x.svg?label=a", "/badge/x.json"):
                self.assertEqual(self.proxy.curl(f"{prefix}{path}", "--http2", "-I")[0], "200 2", prefix + path)
        self.assertEqual(STACK.get(page), 2)

    def test_logins_stay_with_the_proxy_however_long_their_cookies_are(self):
        page = self.page("login")
        for number, (version, cookie) in enumerate((version, cookie) for version in ("--http1.1", "--http2") for cookie in (100, 12 * 1024)):
            fields = ("Cookie: session=" + "c" * cookie, "Authorization: Basic " + "YTpi" * 50)
            outcome, body = self.proxy.curl(f"/visit/{page}", version, "-X", "POST", *(f"-H{field}" for field in fields))
            self.assertEqual((outcome[:3], STACK.get(page)), ("200", number + 1), body)
            names = {name for name, _ in self.relay.fields(f"/visit/{page}")}
            self.assertFalse(names & {"cookie", "authorization"}, names)

    def test_a_client_of_the_proxy_may_add_no_more_than_a_stranger(self):
        outcome, body = self.proxy.curl("/visits", "--http2", "-d", json.dumps({self.page("spoiled"): 4294967295}))
        self.assertEqual((outcome, json.loads(body)["type"]), ("403 2", "urn:visitd:problem:too-many-visits"))
        self.assertEqual(STACK.get(self.page("spoiled")), 0)

    def test_refusals_come_through_as_they_are(self):
        outcome, body = self.proxy.curl("/visit/%FF", "--http2", "-X", "POST")
        self.assertEqual((outcome, json.loads(body)["type"]), ("400 2", "urn:visitd:problem:invalid-page-id"))

    def test_many_clients_are_not_limited_as_one(self):
        """Three times as many at once as one address may have."""
        page = self.page("many")
        statuses = collections.Counter()
        ready = threading.Barrier(12)

        def visit() -> None:
            with TlsClient(self.proxy) as client:
                ready.wait(30)
                for _ in range(5):
                    statuses[client.ask("POST", f"/visit/{page}")[0]] += 1

        threads = [threading.Thread(target=visit) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(statuses, {200: 60})
        self.assertEqual(STACK.get(page), 60)

    def test_through_a_unix_socket_kills_of_frontends_double_no_visit(self):
        page = self.page("killed")
        proxy = self.kind(f"unix:{STACK.unix_socket}")
        self.addCleanup(proxy.close)
        acknowledged, unknown = collections.Counter(), collections.Counter()
        ending = threading.Event()

        def visit(number: int) -> None:
            with TlsClient(proxy) as client:
                while not ending.is_set():
                    try:
                        status = client.ask("POST", f"/visit/{page}")[0]
                    except (OSError, http.client.HTTPException):
                        status = 0
                    (acknowledged if status == 200 else unknown)[number] += 1
                    if status != 200:
                        time.sleep(0.02)

        threads = [threading.Thread(target=visit, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        try:
            for name in (*STACK.frontends, *STACK.frontends):
                seen = acknowledged.total()
                wait_for("visits are counted", lambda seen=seen: acknowledged.total() > seen + 20, 30)
                STACK.kill9(name)
            seen = acknowledged.total()
            wait_for("visits are counted after the last kill", lambda: acknowledged.total() > seen + 20, 30)
        finally:
            ending.set()
            for thread in threads:
                thread.join(60)
        STACK.wait_ready(30)

        def known() -> int | None:
            answer = STACK.read(page)
            return answer.json()["count"] if answer.status == 200 else None

        count = wait_for("the count is read", known, 20)
        self.assertGreaterEqual(count, acknowledged.total())
        self.assertLessEqual(count, acknowledged.total() + unknown.total())


class OverHttp3:
    def assert_http_3_is_served(self, port: str) -> None:
        """By what is offered, and by curl where it is new enough."""
        self.assertIn(f'h3=":{port}"', self.proxy.curl("/visits/home", "-D", "-", "-o", "/dev/null")[1])
        if "HTTP3" in subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout:
            page = self.page("http3")
            self.assertEqual(self.proxy.curl(f"/visit/{page}", "--http3-only", "-X", "POST")[0], "200 3")
            self.assertEqual(STACK.get(page), 1)

    def assert_http_3_is_not_offered(self) -> None:
        self.assertNotIn("alt-svc", self.proxy.curl("/visits/home", "-D", "-", "-o", "/dev/null")[1].lower())


class ThroughNginx(Through, OverHttp3, unittest.TestCase):
    kind = Nginx

    def test_http_3_is_served_where_nginx_has_it(self):
        self.assert_http_3_is_served("443") if self.proxy.has_http_3 else self.assert_http_3_is_not_offered()


class ThroughCaddy(Through, OverHttp3, unittest.TestCase):
    kind = Caddy

    def test_http_3_is_served(self):
        self.assert_http_3_is_served(str(self.proxy.port))


class ThroughHaproxy(Through, OverHttp3, unittest.TestCase):
    kind = Haproxy

    def test_http_3_is_served_where_haproxy_has_it(self):
        self.assert_http_3_is_served("443") if self.proxy.has_http_3 else self.assert_http_3_is_not_offered()


if __name__ == "__main__":
    unittest.main()
