"""A site whose pages have the counter's script, in a browser: the pages, the way of their requests to the counter, and what they report."""

import collections
import contextlib
import dataclasses
import http.client
import http.server
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import chromium

# Else the browser says of itself that a program drives it, and the script counts nothing.
AS_PEOPLE_HAVE_IT = "--disable-blink-features=AutomationControlled"

CONNECTS = 500

PAGE = """<!doctype html><html lang="%(lang)s"><head><meta charset="utf-8"><title>%(path)s</title>%(head)s
<script nonce="test">
const counter = "%(counter)s";
const report = (what) => fetch("/report", {method: "POST", body: JSON.stringify(what), keepalive: true});
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const until = async (what) => { for (let i = 0; i < 400 && !what(); ++i) await sleep(25); };
%(before)s
</script>
%(script)s</head><body>%(body)s
<script nonce="test">
addEventListener("load", async () => {
  await sleep(%(rest_ms)d);
  const told = await (async () => { %(work)s })();
  await report({[%(name)s]: told ?? true});
  %(leave)s
}, {once: true});
</script></body></html>"""


@dataclasses.dataclass
class Page:
    """A page of the site. What it sees it reports, and then it goes on to the next one."""

    path: str
    attributes: str = ""  # of the script's element
    head: str = ""
    before: str = ""  # JavaScript that runs before the counter's script
    body: str = ""
    work: str = ""  # the same, some time after it; what it returns is reported
    lang: str = "en"
    fields: dict[str, str] = dataclasses.field(default_factory=dict)
    script: str | None = None  # the whole element
    leave: str | None = None  # where it goes, in place of the next page
    rest_ms: int = 100


@dataclasses.dataclass
class Request:
    method: str
    path: str
    mode: str  # Sec-Fetch-Mode: no-cors of a beacon and of an image, cors of a fetch
    body: bytes

    @property
    def page(self) -> str:
        """The page that it counts; empty: it counts none."""
        head, _, rest = self.path.lstrip("/").partition("/")
        return unquote(rest) if (self.method, head) in (("POST", "visit"), ("POST", "v")) else ""


def ask(port: int, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[http.client.HTTPResponse, bytes]:
    """One request on a connection of its own. Where nobody listens, nothing was carried out: it is sent again."""
    for _ in range(CONNECTS):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.connect()
        except ConnectionRefusedError:
            time.sleep(0.01)
            continue
        with contextlib.closing(connection):
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer, answer.read()
    raise ConnectionRefusedError(f"nobody listens at port {port}")


class Gateway:
    """Passes all on to the counter, and keeps what it has passed on."""

    def __init__(self, port: int):
        gateway = self
        self.requests: list[Request] = []
        self.unanswered: list[Request] = []  # carried out or not, nobody knows
        self.answered: collections.Counter[str] = collections.Counter()  # by path: POST that was answered with success

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                gateway.requests.append(Request(self.command, self.path, self.headers.get("Sec-Fetch-Mode", ""), body))
                headers = {name: value for name, value in self.headers.items() if name.lower() not in ("connection", "host")}
                try:
                    answer, content = ask(port, self.command, self.path, body, headers)
                except (OSError, http.client.HTTPException):
                    gateway.unanswered.append(gateway.requests[-1])
                    return self.send_error(502)
                gateway.answered[self.path] += self.command == "POST" and answer.status == 200
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "date"):
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_OPTIONS = pass_on

            def log_message(self, *_):
                pass

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def counted(self) -> dict[str, int]:
        """How often each page was sent to be counted."""
        return dict(collections.Counter(request.page for request in list(self.requests) if request.page))

    def of(self, page: str) -> list[Request]:
        return [request for request in list(self.requests) if request.page == page]

    def asked(self, path: str) -> list[Request]:
        return [request for request in list(self.requests) if request.path == path]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class QuietServer(http.server.ThreadingHTTPServer):
    """A browser that leaves a page breaks connections off: nothing to tell of."""

    daemon_threads = True

    def handle_error(self, *_):
        pass


class ReportingSite:
    """A site on this host whose pages report what they see."""

    server: http.server.HTTPServer
    reports: list[dict]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def told(self) -> dict:
        return {name: value for report in list(self.reports) for name, value in report.items()}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Site(ReportingSite):
    """The pages, of an origin of their own. Each one leads to the one behind it."""

    def __init__(self, pages: list[Page], counter: str, script: str, port: int = 0):
        site = self
        self.reports: list[dict] = []
        self.answers: dict[str, object] = {}  # what GET of these paths says, as JSON
        by_path = {page.path: page for page in pages}
        following = {page.path: after.path for page, after in zip(pages, pages[1:], strict=False)}

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path = self.path.partition("?")[0]
                if path in site.answers:
                    return self.answer(json.dumps(site.answers[path]))
                page = by_path.get(path)
                return self.answer(render(page, counter, script, following.get(path)) if page else "", page)

            def do_POST(self):
                site.reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer("{}")

            def answer(self, body: str, page: Page | None = None) -> None:
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body.encode())))
                for name, value in (page.fields if page else {}).items():
                    self.send_header(name, value.replace("COUNTER", counter))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        self.server = QuietServer(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def render(page: Page, counter: str, script: str, following: str | None) -> str:
    element = page.script if page.script is not None else f'<script defer src="{counter}{script}" {page.attributes}></script>'
    leave = page.leave if page.leave is not None else f"location = {json.dumps(following)};" if following else ""
    text = PAGE % {"lang": page.lang, "path": page.path, "head": page.head, "counter": counter, "before": page.before, "body": page.body,
                   "script": element, "work": page.work, "name": json.dumps(page.path), "leave": leave, "rest_ms": page.rest_ms}  # fmt: skip
    return text.replace("COUNTER", counter)


@contextlib.contextmanager
def browsed(pages: list[Page], port: int, *options: str, script: str = "/count.1.js", site_port: int = 0) -> Iterator[tuple[Site, Gateway]]:
    """The first of the pages in a browser, which goes on from there. `port`: of the counter; `site_port`: of the site, 0: a free one."""
    with tempfile.TemporaryDirectory(prefix="visitd-script-", ignore_cleanup_errors=True) as folder, contextlib.ExitStack() as ends:
        gateway = Gateway(port)
        ends.callback(gateway.close)
        site = Site(pages, gateway.url, script, site_port)
        ends.callback(site.close)
        log = Path(folder) / "log"
        with chromium.browsing(site.url(pages[0].path), f"{folder}/profile", log, *options):
            try:
                yield site, gateway
            except BaseException:
                print(site.reports, gateway.requests, log.read_text(errors="replace")[-3000:], flush=True)
                raise
