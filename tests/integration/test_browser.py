#!/usr/bin/env python3
"""A page of another origin counts and reads in a real browser, whatever it sends and however it is shown and left. Prints what was sent
and what was counted."""

import contextlib
import http.server
import json
import re
import tempfile
import threading
import unittest
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import chromium
from harness import SOURCE_ROOT, Stack, wait_for
from script_site import AS_PEOPLE_HAVE_IT, ReportingSite

LIMIT_S = 90
COUNTER = "https://counter.example"
# A login of 12 KiB. Cookies do not look at ports: they go to the counter too, with whatever sends credentials.
COOKIES = [f"login{number}={'c' * 4000}; Path=/" for number in range(3)]

# Every page reports what it sees to its own site, and then goes on to the next one.
PAGE = """<!doctype html><meta charset="utf-8"><title>%(path)s</title>%(snippet)s
<script>
const counter = "%(counter)s";
const report = (what) => fetch("/report", {method: "POST", body: JSON.stringify(what), keepalive: true});
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const ask = async (path, options) => {
  try { const answer = await fetch(counter + path, options); return {status: answer.status, fields: [...answer.headers.keys()].sort()}; }
  catch (error) { return {status: String(error)}; }
};
%(script)s
</script>"""

SENDING = """
const form = new FormData(); form.set("a", "b");
const bodies = {"no body": undefined, "string": "text", "JSON": new Blob(["{}"], {type: "application/json"}),
                "URLSearchParams": new URLSearchParams({a: "b"}), "FormData": form};
(async () => {
  const told = {};
  for (const [name, body] of Object.entries(bodies)) told["beacon, " + name] = navigator.sendBeacon(counter + "/visit/" + encodeURIComponent("beacon, " + name), body);
  const json = {"Content-Type": "application/json", "X-Own": "1"};
  const wanted = {
    "fetch": {}, "fetch, JSON": {headers: json, body: "{}"}, "fetch, credentials": {credentials: "include"},
    "fetch, credentials, JSON": {credentials: "include", headers: json, body: "{}"},
  };
  for (const [name, options] of Object.entries(wanted)) told[name] = await ask("/visit/" + encodeURIComponent(name), {method: "POST", ...options});
  told["read"] = await ask("/visits/known");
  told["read, credentials"] = await ask("/visits/known", {credentials: "include"});
  told["read, unknown"] = await ask("/visits/unknown", {credentials: "include"});
  await report(told);
  location = "/no-referrer";
})();
"""

NO_REFERRER = """
(async () => {
  const told = {"no-referrer, beacon": navigator.sendBeacon(counter + "/visit/no-referrer%2C%20beacon"),
                "no-referrer, fetch": await ask("/visit/no-referrer%2C%20fetch", {method: "POST", credentials: "include"})};
  await report(told);
  location = "/leaving";
})();
"""

LEAVING = """
addEventListener("pagehide", () => {
  navigator.sendBeacon(counter + "/visit/pagehide%2C%20beacon");
  fetch(counter + "/visit/pagehide%2C%20fetch%20with%20keepalive", {method: "POST", keepalive: true});
});
addEventListener("load", async () => { await report({"leaving": true}); location = "/speculating"; });
"""

# The browser makes two pages ready and shows one of them.
SPECULATING = """
const rules = document.createElement("script");
rules.type = "speculationrules";
rules.textContent = JSON.stringify({prerender: [{urls: ["/prerendered/shown/", "/prerendered/never/"], eagerness: "immediate"}]});
document.head.append(rules);
(async () => {
  for (let i = 0; i < 100 && !(await (await fetch("/may-go-on")).json()); ++i) await sleep(100);
  location = "/prerendered/shown/";
})();
"""

PRERENDERED = """
const when = document.prerendering ? "made ready" : "opened";
report({[location.pathname]: when});
if (document.prerendering) document.addEventListener("prerenderingchange", () => report({[location.pathname]: "shown"}));
"""


def snippet() -> str:
    """The line of docs/embed.md, as it stands there."""
    return re.search(r"^```html\n(.*?)^```", (SOURCE_ROOT / "docs/embed.md").read_text(), re.MULTILINE | re.DOTALL)[1]


class Site(ReportingSite):
    """The pages, of an origin of their own, and what they report."""

    def __init__(self, pages: dict[str, str], counter: str):
        site = self
        self.reports: list[dict] = []
        self.may_go_on = False

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path == "/may-go-on":
                    return self.answer(200, json.dumps(site.may_go_on))
                if self.path not in pages:
                    return self.answer(404, "")
                shown = snippet().replace(COUNTER, counter) if self.path.endswith("/") else ""
                return self.answer(200, PAGE % {"path": self.path, "snippet": shown, "counter": counter, "script": pages[self.path]})

            def do_POST(self):
                site.reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer(200, "{}")

            def answer(self, status: int, body: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body.encode())))
                if self.path == "/no-referrer":
                    self.send_header("Referrer-Policy", "no-referrer")
                for cookie in COOKIES:
                    self.send_header("Set-Cookie", cookie)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Browser(unittest.TestCase):
    @contextlib.contextmanager
    def opened(self, stack: Stack, pages: dict[str, str]) -> Iterator[Site]:
        """The first of the pages, in a browser."""
        with tempfile.TemporaryDirectory(prefix="visitd-browser-", ignore_cleanup_errors=True) as folder:
            site = Site(pages, f"http://127.0.0.1:{stack.port}")
            log = Path(folder) / "log"
            try:
                with chromium.browsing(site.url(next(iter(pages))), f"{folder}/profile", log, AS_PEOPLE_HAVE_IT):
                    try:
                        yield site
                    except BaseException:
                        print(site.reports, log.read_text(errors="replace")[-3000:], flush=True)
                        raise
            finally:
                site.close()

    def test_what_is_sent_is_counted_and_what_is_answered_can_be_read(self):
        pages = {"/sending": SENDING, "/no-referrer": NO_REFERRER, "/leaving": LEAVING, "/speculating": SPECULATING,
                 "/prerendered/shown/": PRERENDERED, "/prerendered/never/": PRERENDERED}  # fmt: skip
        with Stack(frontends=1, settings={"http": {"lookup_timeout_ms": 300}}) as stack:
            stack.post("known")
            self.assertEqual(stack.get("known"), 1)
            stack.pause("flusher")
            with self.opened(stack, pages) as site:
                wait_for("the pages have sent", lambda: "leaving" in site.told(), LIMIT_S)
                stack.resume("flusher")
                ready = self.see_pages_made_ready(stack, site)
                wait_for("the last page is shown", lambda: site.told().get("/prerendered/shown/") in ("shown", "opened"), LIMIT_S)
                told = site.told()
                wait_for("it is counted", lambda: stack.get("/prerendered/shown/") == 1)
            sent = [name for name in told if name.startswith(("beacon", "fetch", "no-referrer"))]
            sent += ["pagehide, beacon", "pagehide, fetch with keepalive"]
            self.check_counted(stack, told, sent, ready)
            self.check_read(told)

    def see_pages_made_ready(self, stack: Stack, site: Site) -> dict[str, int]:
        """What is counted of pages that are ready and not shown."""
        paths = ("/prerendered/shown/", "/prerendered/never/")
        wait_for("two pages are made ready", lambda: all(site.told().get(path) == "made ready" for path in paths), LIMIT_S)
        counted = {path: stack.get(path) for path in paths}
        site.may_go_on = True
        return counted

    def check_counted(self, stack: Stack, told: dict, sent: list[str], ready: dict[str, int]) -> None:
        wait_for("what was sent as a page was left is counted", lambda: stack.get(sent[-1]) == 1)
        rows = [(name, self.words(told.get(name)), stack.get(name), 1) for name in sent]
        rows += [(f"prerendered, not shown: {path}", "", count, 0) for path, count in ready.items()]
        rows += [("prerendered, then shown: /prerendered/shown/", "", stack.get("/prerendered/shown/"), 1),
                 ("prerendered, never shown: /prerendered/never/", "", stack.get("/prerendered/never/"), 0)]  # fmt: skip
        print(f"\n{'sent by a page of another origin':<50} {'the page was told':<20} counted")
        for name, answer, count, _ in rows:
            print(f"{name:<50} {answer:<20} {count:>7}", flush=True)
        self.assertEqual([(name, count) for name, _, count, _ in rows], [(name, expected) for name, _, _, expected in rows])
        self.assertEqual(len(sent), 13)
        for name in sent[:-2]:
            self.assertIn(self.words(told[name]), ("queued", "200"), name)

    @staticmethod
    def words(told) -> str:
        if isinstance(told, dict):
            return str(told["status"])
        return {True: "queued", False: "not queued"}.get(told, "")

    def check_read(self, told: dict) -> None:
        for name in ("read", "read, credentials"):
            self.assertEqual(told[name]["status"], 200, name)
            self.assertLessEqual({"cache-status", "date", "content-type"}, set(told[name]["fields"]), name)
        self.assertEqual(told["read, unknown"]["status"], 503)
        self.assertLessEqual({"retry-after", "date"}, set(told["read, unknown"]["fields"]))
        for name in ("read", "read, credentials", "read, unknown"):
            print(f"{name:<50} {told[name]['status']:<20} {', '.join(told[name]['fields'])}", flush=True)

    def test_browser_and_server_mean_one_page(self):
        """Whatever the path is written in; also where it holds a % that encodes nothing."""
        names = {"/2024/从零开始/": quote("/2024/从零开始/"), "/größe und mehr/": quote("/größe und mehr/"), "/100%/": "/100%/", "/a+b&c;d/": "/a+b&c;d/"}
        pages = {path: f"report({{[{json.dumps(page)}]: location.pathname}})" for page, path in names.items()}
        paths = list(pages)
        for here, following in zip(paths, paths[1:], strict=False):
            pages[here] += f".then(() => sleep(100)).then(() => {{ location = {json.dumps(following)}; }})"
        with Stack(frontends=1) as stack:
            for page in names:
                self.assertEqual(stack.post(page).status, 200)  # a server: the page's name, percent-encoded
            with self.opened(stack, pages) as site:
                wait_for("all pages were shown", lambda: set(names) <= set(site.told()), LIMIT_S)
                self.assertEqual(site.told()["/2024/从零开始/"], quote("/2024/从零开始/"))
                for page in names:
                    wait_for(f"{page} is one page", lambda page=page: stack.get(page) == 2)
            stack.wait_for_redis(dict.fromkeys(names, 2))


if __name__ == "__main__":
    unittest.main()
