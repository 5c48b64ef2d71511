#!/usr/bin/env python3
"""The examples of deploy/examples with what they are written for: sites in a real browser, on a phone and on a desk; servers in Debian's
PHP, Node, Python, Go and Ruby; the snippets of themes in Hugo, EJS, and in PHP with functions that stand for those of WordPress."""

import contextlib
import functools
import http.client
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import unittest
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import chromium
from harness import PATIENCE_S, SOURCE_ROOT, Stack, free_port, wait_for
from script_site import AS_PEOPLE_HAVE_IT, QuietServer

EXAMPLES = SOURCE_ROOT / "deploy/examples"
COUNTER = "https://counter.example"
PHONE, DESK = (390, 844), (1280, 800)
# Where the pictures of the manual are made: a folder.
PICTURES = os.environ.get("EXAMPLE_PICTURES")

COUNTS_ARE_THERE = """
  const all = () => [...document.querySelectorAll("[data-visits]:not(script)")];
  for (let i = 0; i < 400 && !(all().length && all().every((one) => one.textContent)); ++i) await new Promise((next) => setTimeout(next, 25));
  return [all().map((one) => one.textContent), document.documentElement.scrollWidth <= innerWidth];
"""
# No WordPress: functions of the same names that do what the footer needs of them.
WORDPRESS = """<?php
function is_user_logged_in() { return (bool) getenv('LOGGED_IN'); }
function is_preview() { return false; }
function is_404() { return false; }
function is_singular() { return true; }
function esc_url($url) { return htmlspecialchars($url, ENT_QUOTES); }
function esc_html__($text, $domain) { return htmlspecialchars($text, ENT_QUOTES); }
function wp_footer() { echo '<!-- footer -->'; }
echo '<!doctype html><html lang="en"><head><link rel="canonical" href="/a-post/"></head><body>';
require $argv[1];
"""
EJS = """
const ejs = require("ejs");
console.log(ejs.render(require("fs").readFileSync(process.argv[1], "utf8"), {theme: {counter: process.argv[2]}}));
"""


def said(*words: str | Path, **options) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=2 * PATIENCE_S, **options)
    assert done.returncode == 0, f"{words}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


class Files(http.server.SimpleHTTPRequestHandler):
    """A folder as a site; a path without a file is the application's."""

    def send_head(self):
        if not Path(self.translate_path(self.path)).exists():
            self.path = "/index.html"
        return super().send_head()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    server = QuietServer(("127.0.0.1", 0), functools.partial(Files, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class Sites(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = cls.enterClassContext(Stack(frontends=1))
        cls.counter = f"http://127.0.0.1:{cls.stack.port}"
        cls.tab = cls.enterClassContext(chromium.tab(AS_PEOPLE_HAVE_IT))

    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="visitd-example-")))

    def copied(self, name: str) -> Path:
        """An example with this stack's address in place of the counter's."""
        folder = self.folder / name
        shutil.copytree(EXAMPLES / name, folder)
        for file in folder.rglob("*"):
            if file.is_file():
                file.write_text(file.read_text().replace(COUNTER, self.counter))
        return folder

    def shown(self, url: str, size: tuple[int, int] = DESK, picture: str = "") -> list[str]:
        """The counts that a page shows. It must not be wider than the window."""
        self.tab.size(*size)
        self.tab.open(url)
        return self.counts(picture)

    def counts(self, picture: str = "") -> list[str]:
        counts, fits = self.tab.run(COUNTS_ARE_THERE)
        self.assertTrue(fits, "it is wider than the window")
        image = self.tab.picture()
        self.assertTrue(image.startswith(b"\x89PNG"))
        if PICTURES and picture:
            Path(PICTURES, f"{picture}.png").write_bytes(image)
        return counts

    def test_a_static_site(self):
        with served(self.copied("static")) as site:
            missing = 4711 - self.stack.get("/")  # another example counts its own first page
            self.stack.ask("POST", "/visits", json.dumps({"/bread.html": 1283, "/winter.html": 96, "/": missing}).encode())
            self.assertEqual(self.shown(f"{site}/", PHONE, "example-phone"), ["4,712", "1,283", "96"])
            self.assertEqual(self.shown(f"{site}/", DESK, "example-desk"), ["4,713", "1,283", "96"])
            self.assertEqual(self.shown(f"{site}/bread.html?from=mail", PHONE), ["1,284"])

    def test_a_single_page_application(self):
        with served(self.copied("spa")) as site:
            for step, size in enumerate((PHONE, DESK), 1):
                self.assertEqual(self.shown(f"{site}/salad", size), [str(step)])
                self.tab.run('document.querySelector("a").click();')
                self.assertEqual(self.counts()[2], str(step))
                self.tab.run('document.querySelector("a[href=\'/soup\']").click();')
                wait_for("its page is shown", lambda step=step: self.counts() == [str(step)])
                self.tab.run("history.back(); await new Promise((next) => setTimeout(next, 300));")
                self.assertEqual(self.counts()[0], str(step))
            self.assertEqual([self.stack.get(page) for page in ("/salad", "/soup")], [2, 2])

    def page_of(self, body: str, name: str) -> int:
        """Opens a page that a snippet has made; how often its name was counted."""
        (self.folder / "site").mkdir(exist_ok=True)
        (self.folder / "site/index.html").write_text(body)
        with served(self.folder / "site") as site:
            self.assertEqual(self.shown(f"{site}/", PHONE), [str(self.stack.get(name))])
        return self.stack.get(name)

    def test_the_footer_of_a_wordpress_theme(self):
        footer = self.copied("wordpress") / "footer.php"
        stubs = self.folder / "page.php"
        stubs.write_text(WORDPRESS)
        self.assertIn("No syntax errors", said("php", "-l", footer))
        self.assertEqual(self.page_of(said("php", stubs, footer), "/a-post/"), 1)
        self.assertNotIn("count.1.js", said("php", stubs, footer, env=os.environ | {"LOGGED_IN": "1"}))

    def test_hugo(self):
        site = self.copied("hugo")
        (site / "config.toml").write_text(f'baseURL = "/"\n[params]\ncounter = "{self.counter}"\n')
        (site / "content").mkdir()
        (site / "content/hello.md").write_text("---\ntitle: Hello\n---\n")
        (site / "layouts/_default").mkdir()
        (site / "layouts/_default/single.html").write_text(
            '<!doctype html><html lang="en"><link rel="canonical" href="{{ .RelPermalink }}"><h1>{{ .Title }}</h1>{{ partial "visits.html" . }}</html>'
        )
        said("hugo", "--source", site, "--destination", self.folder / "public")
        self.assertEqual(self.page_of((self.folder / "public/hello/index.html").read_text(), "/hello/"), 1)
        said("hugo", "--source", site, "--destination", self.folder / "draft", "--environment", "development")
        self.assertNotIn("count.1.js", (self.folder / "draft/hello/index.html").read_text())

    def test_hexo(self):
        """Its snippet alone, through EJS: Debian has no Hexo."""
        snippet = self.copied("hexo") / "layout/_partial/visits.ejs"
        modules = os.environ | {"NODE_PATH": "/usr/share/nodejs"}
        page = said("node", "-e", EJS, snippet, self.counter, env=modules)
        self.assertEqual(self.page_of('<!doctype html><html lang="en"><link rel="canonical" href="/hexo/">' + page, "/hexo/"), 1)
        self.assertNotIn("script", said("node", "-e", EJS, snippet, "", env=modules))


class Servers(unittest.TestCase):
    COMMANDS = {"visits.php": ["php", "-S", "127.0.0.1:PORT"], "visits.mjs": ["node"], "visits.py": ["python3"], "visits.go": ["go", "run"], "visits.rb": ["ruby"]}

    @contextlib.contextmanager
    def running(self, name: str, counter: str) -> Iterator[int]:
        port = free_port()
        with tempfile.TemporaryDirectory(prefix="visitd-example-") as folder:
            command = [word.replace("PORT", str(port)) for word in self.COMMANDS[name]]
            environment = os.environ | {"COUNTER": counter, "PORT": str(port), "GOCACHE": f"{folder}/go", "GOFLAGS": "-p=1", "HOME": folder}
            with open(Path(folder) / "log", "wb") as log:
                site = subprocess.Popen([*command, str(EXAMPLES / "server" / name)], env=environment, stdin=subprocess.DEVNULL, stdout=log,
                                        stderr=log, start_new_session=True)  # fmt: skip
            try:
                wait_for(f"{name} listens", lambda: self.page(port, "/start") is not None, 4 * PATIENCE_S, 0.1)
                yield port
            except BaseException:
                print((Path(folder) / "log").read_text(errors="replace")[-3000:], flush=True)
                raise
            finally:
                os.killpg(site.pid, signal.SIGKILL)  # `go run` has a child
                site.wait(PATIENCE_S)

    @staticmethod
    def page(port: int, path: str) -> str | None:
        """None: nobody listens yet."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            try:
                connection.request("GET", quote(path))
                return connection.getresponse().read().decode()
            except ConnectionRefusedError:
                return None

    def check(self, name: str) -> None:
        self.assertTrue(shutil.which(self.COMMANDS[name][0]), f"{self.COMMANDS[name][0]} is not installed")
        with Stack(frontends=1) as stack:
            with self.running(name, f"http://127.0.0.1:{stack.port}") as port:
                for page in ("/2024/größe & mehr/", "/a<b"):
                    self.assertEqual(stack.post(page).status, 200)
                    self.assertRegex(self.page(port, page), r"<p>Read 2 times</p>", page)
                    self.assertEqual(stack.get(page), 2, page)
                    self.assertNotIn("<b", re.sub("<body", "", self.page(port, page)), page)
            with self.running(name, f"http://127.0.0.1:{free_port()}") as port:
                page = self.page(port, "/without")
                self.assertIn("<h1>/without</h1>", page)
                self.assertNotIn("Read", page)

    def test_php(self):
        self.check("visits.php")

    def test_node(self):
        self.check("visits.mjs")

    def test_python(self):
        self.check("visits.py")

    def test_go(self):
        self.check("visits.go")

    def test_ruby(self):
        self.check("visits.rb")


if __name__ == "__main__":
    unittest.main()
