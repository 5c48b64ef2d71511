"""A site that counts its visits on the server. Run it: COUNTER=http://127.0.0.1:8000 PORT=8080 python3 visits.py"""

import html
import json
import os
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote, urlsplit

COUNTER = os.environ.get("COUNTER", "http://127.0.0.1:8000")


def visits(page: str) -> int | None:
    """Records a visit of a page. Its count, the visit included; None: the counter does not say now, and the page goes without."""
    request = urllib.request.Request(f"{COUNTER}/visit/{quote(page, safe='')}?count", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=1) as answer:
            return json.load(answer).get("count")
    except OSError:
        return None


class Site(BaseHTTPRequestHandler):
    def do_GET(self):
        page = unquote(urlsplit(self.path).path)
        count = visits(page)
        body = f"<!doctype html><meta charset=utf-8><title>{html.escape(page)}</title><h1>{html.escape(page)}</h1>"
        if count is not None:
            body += f"<p>Read {count:,} times</p>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body.encode())


ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Site).serve_forever()
