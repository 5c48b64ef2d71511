"""A page of another origin counts and reads in a real browser: beacons, fetch, and a preflight."""

import functools
import http.server
import tempfile
import threading
import unittest
from pathlib import Path

import chromium
from harness import Stack, free_port, wait_for

PAGE = """<!doctype html>
<title>waiting</title>
<pre id="result">waiting</pre>
<script>
  const counter = "http://127.0.0.1:%(port)d";
  async function run() {
    const beacon = navigator.sendBeacon(counter + "/visit/beacon");
    const text = navigator.sendBeacon(counter + "/visit/beacon", "some text");
    const form = navigator.sendBeacon(counter + "/visit/beacon", new URLSearchParams({a: "b"}));
    const post = await (await fetch(counter + "/visit/fetched", {method: "POST"})).json();
    // A header of its own makes the browser ask first.
    const asked = await (await fetch(counter + "/visit/fetched", {method: "POST", headers: {"Content-Type": "application/json"}, body: "{}"})).json();
    const count = await (await fetch(counter + "/visits/fetched")).json();
    return {beacon, text, form, post: post.status, asked: asked.status, count: count.count};
  }
  run().then(r => JSON.stringify(r), e => "error: " + e).then(text => { document.getElementById("result").textContent = text; });
</script>
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Browser(unittest.TestCase):
    def test_a_page_of_another_origin_counts_and_reads(self):
        with Stack(frontends=1) as stack, tempfile.TemporaryDirectory(prefix="visitd-browser-") as folder:
            (Path(folder) / "index.html").write_text(PAGE % {"port": stack.port})
            server = http.server.ThreadingHTTPServer(("127.0.0.1", free_port()), functools.partial(Quiet, directory=folder))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            try:
                shown = chromium.show(f"http://127.0.0.1:{server.server_port}/index.html", f"{folder}/profile")
            finally:
                server.shutdown()
                server.server_close()
            expected = '{"beacon":true,"text":true,"form":true,"post":"success","asked":"success","count":2}'
            self.assertIn(expected, shown.stdout, shown.stdout + shown.stderr[-2000:])
            wait_for("the beacons are counted", lambda: stack.get("beacon") == 3)
            stack.wait_for_redis({"beacon": 3, "fetched": 2})


if __name__ == "__main__":
    unittest.main()
