#!/usr/bin/env python3
"""Clients of other counters in a real browser, against a visitd in their counter's place: those of npm as they are published, the others
as their documentation has them. Prints what the pages saw and what was counted."""

import contextlib
import http.server
import json
import socket
import ssl
import tempfile
import threading
import unittest
from collections.abc import Iterator
from pathlib import Path

import chromium
from certificates import Authority
from harness import SOURCE_ROOT, Stack, wait_for
from npm_packages import installed
from shaped_stack import ShapedStack

LIMIT_S = 90
PUMP_BYTES = 65536
SITE = "blog.example"
# Where the clients of npm look for their counters, which no setting of theirs changes.
SECURE_COUNTERS = ("api.countapi.xyz", "events.vercount.one")
COUNTER = "http://counter.example"

COMMON = """<!doctype html><meta charset="utf-8"><title>%(path)s</title>
<script>
const counter = "http://counter.example";
const report = (what) => window.fetch("/report", {method: "POST", body: JSON.stringify(what), keepalive: true});
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
// As bundlers load a package.
const load = async (file, others = {}) => {
  const module = {exports: {}};
  const text = await (await window.fetch(file)).text();
  new Function("module", "exports", "require", text)(module, module.exports, (name) => others[name]);
  return module.exports;
};
const shown = async (id) => {
  for (let i = 0; i < 200 && !document.getElementById(id).textContent; ++i) await sleep(100);
  return document.getElementById(id).textContent;
};
</script>
"""

BUSUANZI = """
<span id="busuanzi_container_page_pv" style="display: none"><b id="busuanzi_value_page_pv"></b></span>
<span id="busuanzi_container_site_pv" style="display: none"><b id="busuanzi_value_site_pv"></b></span>
<script>(async () => {
  await load("/npm/busuanzi.pure.js/busuanzi.pure.js");
  const page = await shown("busuanzi_value_page_pv");
  const seen = document.getElementById("busuanzi_container_page_pv").style.display;
  await report({[location.pathname]: {page, site: await shown("busuanzi_value_site_pv"), seen}});
  location = "%(next)s";
})();</script>
"""

FULL_REFERRER = '<meta name="referrer" content="no-referrer-when-downgrade">'

COUNTAPI = """<script>(async () => {
  const countapi = await load("/npm/countapi-js/lib/index.js", {"cross-fetch": window.fetch.bind(window)});
  const told = {};
  const tell = async (name, made) => { try { told[name] = await made; } catch (error) { told[name] = "" + error; } };
  await tell("hit", countapi.hit("example.org", "visits"));
  await tell("hit again", countapi.hit("example.org", "visits"));
  await tell("get", countapi.get("example.org", "visits"));
  await tell("get nobody", countapi.get("example.org", "nobody"));
  await tell("visits", countapi.visits());
  await tell("event", countapi.event("clicked"));
  await tell("set", countapi.set("example.org", "visits", 7));
  await tell("update", countapi.update("example.org", "visits", 7));
  await tell("create", countapi.create({namespace: "example.org", key: "new", value: 0, enable_reset: 1}));
  await tell("info", countapi.info("example.org", "visits"));
  await tell("stats", countapi.stats());
  await report(told);
  location = "%(next)s";
})();</script>
"""

# As a page has it that loads the counter's own script.
OWN_BUSUANZI = """
%(script)s
<span id="busuanzi_container_page_pv" style="display: none"><b id="busuanzi_value_page_pv"></b></span>
<b id="busuanzi_value_site_pv"></b><i id="busuanzi_page_pv"></i>
<script>
(async () => {
  const text = (id) => document.getElementById(id).textContent;
  while (!text("busuanzi_value_site_pv")) await sleep(20);
  await report({page: text("busuanzi_value_page_pv"), site: text("busuanzi_value_site_pv"), "own page": text("busuanzi_page_pv"),
                seen: document.getElementById("busuanzi_container_page_pv").style.display});
  if ("%(next)s") location = "%(next)s";
})();
</script>"""

VERCOUNT = """
<script src="/npm/react/umd/react.production.min.js"></script>
<script src="/npm/react-dom/umd/react-dom.production.min.js"></script>
<script type="importmap">{"imports": {"react": "/react.mjs"}}</script>
<div id="root"></div>
<script type="module">
import {useVercount} from "/npm/vercount-react/dist/index.js";
const Counts = () => {
  const counts = useVercount();
  React.useEffect(() => { if (counts.pagePv !== "0") report(counts).then(() => { location = "%(next)s"; }); }, [counts]);
  return null;
};
ReactDOM.createRoot(document.getElementById("root")).render(React.createElement(Counts));
</script>
"""

REACT_MODULE = "export const {useState, useRef, useEffect} = window.React;\n"

# What their documentation says to put into a page.
DOCUMENTED = """<script>(async () => {
  const told = {};
  const image = (source) => new Promise((resolve) => {
    const img = new Image(); img.onload = () => resolve(img.naturalWidth); img.onerror = () => resolve("broken"); img.src = source;
  });
  told["goatcounter"] = await image(counter + "/count?p=" + encodeURIComponent(location.pathname) + "&rnd=" + Math.random());
  const path = encodeURIComponent(location.pathname);
  told["goatcounter json"] = await (await fetch(counter + "/counter/" + path + ".json")).json();
  told["goatcounter svg"] = await image(counter + "/counter/" + path + ".svg") > 40;
  told["hits"] = await image(counter + "/dwyl/start-here.svg") > 40;
  told["refused image"] = await image(counter + "/dwyl/a%%20b.svg");
  told["busuanzi"] = await new Promise((resolve) => {
    const xhr = new XMLHttpRequest();
    xhr.open("POST", counter + "/api", true);
    xhr.setRequestHeader("x-bsz-referer", location.href);
    xhr.onload = () => resolve(JSON.parse(xhr.responseText));
    xhr.onerror = () => resolve("failed");
    xhr.send();
  });
  told["vercount"] = await (await fetch(counter + "/api/v2/log", {method: "POST", headers: {"Content-Type": "application/json"},
    body: JSON.stringify({url: location.href, isNewUv: true})})).json();
  await report(told);
  location = "/ended/";
})();</script>
"""

ABACUS = """<script>
let called;
const isCalled = new Promise((resolve) => { called = (value) => resolve(value); });
(async () => {
  const script = document.createElement("script");
  script.src = counter + "/hit/example.org/visits?callback=called";
  document.head.append(script);
  const told = {"callback": await isCalled};
  told["get"] = await (await fetch(counter + "/get/example.org/visits")).json();
  told["stream"] = [];
  const stream = new EventSource(counter + "/stream/example.org/visits");
  stream.onmessage = ({data}) => told["stream"].push(JSON.parse(data).value);
  while (told["stream"].length < 1) await sleep(100);
  told["shield"] = await new Promise((resolve) => {
    const img = new Image(); img.onload = () => resolve(img.naturalWidth > 40); img.onerror = () => resolve("broken");
    img.src = counter + "/hit/example.org/visits/shield";
  });
  while (told["stream"].length < 2) await sleep(100);
  stream.close();
  const post = (key) => fetch(counter + "/set/example.org/visits?value=1", {method: "POST", headers: {"Authorization": "Bearer " + key}})
    .then((answer) => answer.status, (error) => "refused by the browser");
  told["set"] = await post("correct-horse-battery-staple");
  await report(told);
})();</script>
"""


class Site:
    """Pages of http://blog.example, what they load, and what they report."""

    def __init__(self, pages: dict[str, str], modules: Path):
        site = self
        self.reports: list[dict] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                name = self.path.partition("?")[0]
                if name in pages:
                    return self.answer("text/html; charset=utf-8", (COMMON % {"path": name} + pages[name]).encode())
                if name == "/react.mjs":
                    return self.answer("text/javascript", REACT_MODULE.encode())
                file = modules / name.removeprefix("/npm/")
                if name.startswith("/npm/") and file.is_file():
                    return self.answer("text/javascript", file.read_bytes())
                return self.send_error(404)

            def do_POST(self):
                site.reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer("application/json", b"{}")

            def answer(self, kind: str, body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class SecureDoor:
    """Takes connections over TLS and passes on what they hold, as a proxy in front of visitd does."""

    def __init__(self, folder: Path, to_port: int):
        authority = Authority(folder, "authority")
        signed = authority.sign("counters", ",".join(f"DNS:{name}" for name in SECURE_COUNTERS))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(signed.file, signed.key)
        self._to_port = to_port
        self._listener = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True, do_handshake_on_connect=False)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it was closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, client: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._to_port)) as server:
            client.do_handshake()
            threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
            self._pump(client, server)

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(PUMP_BYTES):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.close()


class ShapeClients(unittest.TestCase):
    @contextlib.contextmanager
    def opened(self, stack: Stack, pages: dict[str, str]) -> Iterator[Site]:
        """The first of the pages, in a browser for which the other counters' names lead to the stack."""
        modules = installed(SOURCE_ROOT / "tests/integration/shapes", "shape-clients")
        with tempfile.TemporaryDirectory(prefix="visitd-shapes-", ignore_cleanup_errors=True) as name, contextlib.ExitStack() as closing:
            folder = Path(name)
            site = closing.enter_context(contextlib.closing(Site(pages, modules)))
            door = closing.enter_context(contextlib.closing(SecureDoor(folder / "certificates", stack.port)))
            rules = [f"MAP {SITE}:80 127.0.0.1:{site.port}", f"MAP counter.example:80 127.0.0.1:{stack.port}",
                     f"MAP busuanzi.ibruce.info:80 127.0.0.1:{stack.port}"]  # fmt: skip
            rules += [f"MAP {counter}:443 127.0.0.1:{door.port}" for counter in SECURE_COUNTERS]
            options = [f"--host-resolver-rules={', '.join(rules)}", "--ignore-certificate-errors"]
            log = folder / "log"
            url = f"http://{SITE}{next(iter(pages))}"
            with chromium.browsing(url, str(folder / "profile"), log, *options):
                try:
                    yield site
                except BaseException:
                    print(site.reports, log.read_text(errors="replace")[-3000:], flush=True)
                    raise

    def reports(self, stack: Stack, pages: dict[str, str]) -> list[dict]:
        with self.opened(stack, pages) as site:
            wait_for("each page has reported", lambda: len(site.reports) >= len(pages), LIMIT_S)
            for report in site.reports:
                print(json.dumps(report, indent=1), flush=True)
            return site.reports

    def test_scripts_of_busuanzi_vercount_and_goatcounter(self):
        pages = {"/full/one/": FULL_REFERRER + BUSUANZI % {"next": "/full/two/"},
                 "/full/two/": FULL_REFERRER + BUSUANZI % {"next": "/trimmed/"},
                 "/trimmed/": BUSUANZI % {"next": "/vercount/"},
                 "/vercount/": VERCOUNT % {"next": "/documented/"},
                 "/documented/": DOCUMENTED % {}}  # fmt: skip
        with ShapedStack("busuanzi", "vercount", "goatcounter", "hits") as stack:
            told = self.reports(stack, pages)
            self.assertEqual(told[0], {"/full/one/": {"page": "1", "site": "1", "seen": "inline"}})
            self.assertEqual(told[1], {"/full/two/": {"page": "1", "site": "2", "seen": "inline"}})
            # Browsers send no more of a page's address than its site, unless the page says so.
            self.assertEqual(told[2], {"/trimmed/": {"page": "1", "site": "3", "seen": "inline"}})
            self.assertEqual(told[3], {"sitePv": "4", "pagePv": "1", "siteUv": "0"})
            documented = told[4]
            self.assertEqual(documented["goatcounter"], 1)
            self.assertEqual(documented["goatcounter json"], {"count": "1", "count_unique": "1"})
            self.assertEqual(documented["vercount"]["data"], {"site_uv": 1, "site_pv": 6, "page_pv": 1})
            self.assertEqual(documented["busuanzi"]["data"], {"site_pv": 5, "site_uv": 5, "page_pv": 1, "page_uv": 1})
            self.assertEqual((documented["hits"], documented["goatcounter svg"]), (True, True))
            self.assertNotEqual(documented["refused image"], "broken")
            stack.flush()
            stack.wait_for_redis({f"{SITE}/full/one/": 1, f"{SITE}/full/two/": 1, f"{SITE}/": 1, f"{SITE}/vercount": 1,
                                  f"{SITE}/documented/": 1, f"{SITE}/documented": 1, f"site:{SITE}": 6, f"visitors:{SITE}": 1,
                                  "/documented": 1, "site:TOTAL": 1, "dwyl/start-here": 1})  # fmt: skip

    def test_pages_that_change_the_name_of_busuanzis_host_alone_count_each_page(self):
        script = '<script async src="%s"></script>'
        public = script % "http://counter.example/busuanzi/2.3/busuanzi.pure.mini.js"
        own = script % "http://counter.example/js?x=1"
        below = script % "http://counter.example/api/v1/counter/js"
        pages = {"/a/": OWN_BUSUANZI % {"script": public, "next": "/b/"}, "/b/": OWN_BUSUANZI % {"script": own, "next": "/c/"},
                 "/c/": OWN_BUSUANZI % {"script": below, "next": ""}}  # fmt: skip
        with ShapedStack("busuanzi") as stack:
            told = self.reports(stack, pages)
            self.assertEqual(told, [{"page": "1", "site": str(number), "own page": "1", "seen": "inline"} for number in (1, 2, 3)])
            stack.flush()
            stack.wait_for_redis({f"{SITE}/a/": 1, f"{SITE}/b/": 1, f"{SITE}/c/": 1, f"site:{SITE}": 3})

    def test_the_client_of_countapi(self):
        with ShapedStack("countapi") as stack:
            (told,) = self.reports(stack, {"/blog/post/": FULL_REFERRER + COUNTAPI % {"next": "/ended/"}})
            path = "example.org/visits"
            self.assertEqual(told["hit"], {"status": 200, "path": path, "value": 1})
            self.assertEqual(told["hit again"], {"status": 200, "path": path, "value": 2})
            self.assertEqual(told["get"], {"status": 200, "path": path, "value": 2})
            self.assertEqual(told["get nobody"], {"status": 404, "path": "example.org/nobody", "value": None})
            self.assertEqual(told["visits"], {"status": 200, "path": f"{SITE}/blog.post", "value": 1})
            self.assertEqual(told["event"], {"status": 200, "path": f"{SITE}/clicked", "value": 1})
            self.assertEqual((told["set"]["status"], told["set"]["old_value"], told["set"]["value"]), (403, 2, 2))
            self.assertEqual((told["update"]["status"], told["update"]["value"]), (403, 2))
            self.assertEqual((told["create"]["status"], told["create"]["value"]), (200, 0))
            self.assertEqual((told["info"]["status"], told["info"]["value"]), (200, 2))
            self.assertEqual(told["stats"]["status"], 200)
            stack.flush()
            stack.wait_for_redis({path: 2, f"{SITE}/blog.post": 1, f"{SITE}/clicked": 1})

    def test_pages_with_abacus(self):
        with ShapedStack("abacus") as stack:
            (told,) = self.reports(stack, {"/": ABACUS})
            self.assertEqual(told["callback"], {"value": 1})
            self.assertEqual(told["get"], {"value": 1})
            self.assertEqual(told["shield"], True)
            self.assertEqual(told["stream"], [1, 2])
            # Pages of sites that no setting names change nothing, whatever key they have.
            self.assertEqual(told["set"], "refused by the browser")
            stack.flush()
            stack.wait_for_redis({"example.org/visits": 2})


if __name__ == "__main__":
    unittest.main()
