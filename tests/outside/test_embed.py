#!/usr/bin/env python3
"""The snippets of docs/embed.md in a real browser, as they stand there; only the counter's address is put in."""

import http.server
import re
import subprocess
import tempfile
import threading
import unittest

import chromium
from harness import SOURCE_ROOT, Stack, free_port, wait_for
from script_site import AS_PEOPLE_HAVE_IT

LIST = """<pre id="list"></pre><script>(async () => { const counter = "COUNTER"; %s
document.getElementById("list").textContent = JSON.stringify(counts); })();</script>"""


def snippets(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", (SOURCE_ROOT / "docs/embed.md").read_text(), re.MULTILINE | re.DOTALL)


class Embed(unittest.TestCase):
    def show(self, path: str, page: str) -> str:
        """What a browser makes of a page that stands at this path."""

        class Site(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = page.encode() if self.path == path else b""
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), Site) as server, tempfile.TemporaryDirectory(prefix="visitd-embed-") as folder:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                return chromium.show(f"http://127.0.0.1:{server.server_port}{path}", f"{folder}/profile", AS_PEOPLE_HAVE_IT).stdout
            finally:
                server.shutdown()

    def test_the_snippets_count_and_show(self):
        line, shown, _, own = snippets("html")
        (listed,) = snippets("js")
        with Stack(frontends=1) as stack:
            address = f"http://127.0.0.1:{stack.port}"
            # Known before the browser asks: its clock does not wait for an answer from Redis.
            stack.ask("POST", "/visits", b'{"/other": 6}')
            for page in ("/blog/news", "/blog/one", "/blog/two", "/other"):
                stack.post(page)
                stack.get(page)
            page = "<!doctype html>" + line + shown + own + (LIST % listed).replace("COUNTER", "https://counter.example")
            self.assertIn("https://counter.example", page)
            dom = self.show("/blog/news", page.replace("https://counter.example", address))
            self.assertRegex(dom, r'<span data-visits="" aria-live="polite">[23]</span>')
            self.assertRegex(dom, r'<span data-visits="/other" aria-live="polite">7</span>')
            self.assertIn('{"/blog/one":1,"/blog/two":1}', dom)
            wait_for("both visits of the page are counted", lambda: stack.get("/blog/news") == 3)

    def test_the_requests_of_a_server_are_answered_as_shown(self):
        with Stack(frontends=1) as stack:
            (console,) = snippets("console")
            for command, answer in re.findall(r"^\$ (.*)\n(.*)$", console, re.MULTILINE):
                done = subprocess.run(["sh", "-c", command.replace("http://localhost:8000", f"http://127.0.0.1:{stack.port}")],
                                      capture_output=True, text=True, timeout=60)  # fmt: skip
                self.assertEqual(done.stdout.strip(), answer, command)
            self.assertEqual(stack.get("/blog/news"), 6)


if __name__ == "__main__":
    unittest.main()
