"""Requests that are refused, by the name of the problem."""


def request_bytes(method: str, target: str, *fields: str, body: bytes = b"", version: str = "HTTP/1.1", host: str = "Host: x") -> bytes:
    lines = [f"{method} {target} {version}", *([host] if host else []), *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def refused_by_form(method: str, target: str) -> list[tuple[str, bytes]]:
    """For each way in which a request's form can be refused: the problem's name, and such a request."""

    def made(*fields: str, **others) -> bytes:
        return request_bytes(method, target, *fields, **others)

    longer = target + ("&" if "?" in target else "?") + "a" * 5000
    return [
        ("malformed-request-line", request_bytes(method, target, version="HTTP/1.1 and more")),
        ("malformed-target", request_bytes(method, f"{target}#part")),
        ("bare-line-break", made("X: a\nY: b")),
        ("control-character", made("X: \x01")),
        ("folded-field", made("X: a\r\n b")),
        ("space-before-colon", made("X : a")),
        ("malformed-field-name", made("X(): a")),
        ("host-missing", made(host="")),
        ("host-repeated", made("Host: y")),
        ("host-malformed", made(host="Host: a b")),
        ("content-length-malformed", made("Content-Length: -1")),
        ("content-length-repeated", made("Content-Length: 1", "Content-Length: 1", body=b"x")),
        ("transfer-encoding-unsupported", made("Transfer-Encoding: gzip")),
        ("length-ambiguous", made("Transfer-Encoding: chunked", "Content-Length: 1", body=b"0\r\n\r\n")),
        ("body-too-large", made("Content-Length: 999999999999")),
        ("target-too-long", request_bytes(method, longer)),
        ("content-encoding-unsupported", made("Content-Encoding: gzip", "Content-Length: 1", body=b"x")),
        ("expectation-unknown", made("Expect: 200-ok")),
        ("head-too-large", made("X: " + "a" * 33000)),
        ("too-many-fields", made(*["X: a"] * 100)),
        ("unsupported-version", made(version="HTTP/2.0")),
    ]


def refused_by_content(path: str) -> list[tuple[str, str, bytes, int | None]]:
    """The problem's name, the method, a whole request, and the number of the entry at fault."""

    def post(body: bytes, *fields: str) -> bytes:
        return request_bytes("POST", path, f"Content-Length: {len(body)}", *fields, body=body)

    def put(target: str, body: bytes = b'{"count":1}') -> bytes:
        return request_bytes("PUT", target, f"Content-Length: {len(body)}", body=body)

    def listed(query: str) -> bytes:
        return request_bytes("GET", f"{path}?{query}")

    many = ",".join(f'"p{number}"' for number in range(1001)).encode()
    cases = {
        "/visit/{page_id}": [
            ("invalid-percent-encoding", "POST", request_bytes("POST", "/visit/%zz"), None),
            ("invalid-page-id", "POST", request_bytes("POST", "/visit/%01"), None),
        ],
        "/visits/{page_id}": [
            ("invalid-percent-encoding", "GET", request_bytes("GET", "/visits/%zz"), None),
            ("invalid-page-id", "GET", request_bytes("GET", "/visits/" + "x" * 1100), None),
            ("invalid-percent-encoding", "PUT", put("/visits/%zz"), None),
            ("invalid-page-id", "PUT", put("/visits/%01"), None),
            ("invalid-count", "PUT", put("/visits/home", b'{"count":-1}'), None),
            ("malformed-chunk", "PUT", request_bytes("PUT", "/visits/home", "Transfer-Encoding: chunked", body=b"zz\r\n"), None),
            ("invalid-percent-encoding", "DELETE", request_bytes("DELETE", "/visits/%zz"), None),
            ("invalid-page-id", "DELETE", request_bytes("DELETE", "/visits/"), None),
        ],
        "/pixel/{page_id}.gif": [
            (problem, method, request_bytes(method, f"/pixel/{page}.gif"), None)
            for method in ("GET", "HEAD")
            for problem, page in (("invalid-percent-encoding", "%zz"), ("invalid-page-id", "%01"))
        ],
        **{
            f"/badge/{{page_id}}.{form}": [
                (problem, method, request_bytes(method, f"/badge/{page}"), None)
                for method in ("GET", "HEAD")
                for problem, page in (
                    ("invalid-percent-encoding", f"%zz.{form}"),
                    ("invalid-page-id", f"%01.{form}"),
                    ("invalid-badge", f"home.{form}?color=nocolour"),
                )
            ]
            for form in ("svg", "json")
        },
        "/visits": [
            ("malformed-json", "POST", post(b'["home"'), None),
            ("invalid-page-id", "POST", post(b'["home","","also"]'), 1),
            ("invalid-visits", "POST", post(b'{"home":1,"about":0}'), 1),
            ("nothing-to-do", "POST", post(b"[]"), None),
            ("malformed-chunk", "POST", request_bytes("POST", path, "Transfer-Encoding: chunked", body=b"zz\r\n"), None),
            ("too-many-visits", "POST", post(b'{"home":1,"about":101}', "Origin: https://example.org"), 1),
            ("too-many-entries", "POST", post(b"[" + many + b"]", "X-Forwarded-For: 192.0.2.7"), None),
            ("unknown-parameter", "GET", request_bytes("GET", "/visits?pages=a"), None),
            ("invalid-percent-encoding", "GET", request_bytes("GET", "/visits?page=a&page=%zz"), 1),
            ("invalid-page-id", "GET", request_bytes("GET", "/visits?page=a&page="), 1),
            ("nothing-to-do", "GET", request_bytes("GET", "/visits"), None),
            ("too-many-pages", "GET", request_bytes("GET", "/visits?" + "&".join(f"page={n % 10}" for n in range(500))), None),
        ],
        "/visits/query": [
            ("malformed-json", "POST", post(b'{"home":1}'), None),
            ("invalid-page-id", "POST", post(b'["home","about",""]'), 2),
            ("nothing-to-do", "POST", post(b""), None),
            ("too-many-pages", "POST", post(b"[" + many + b"]"), None),
            ("malformed-chunk", "POST", request_bytes("POST", path, "Transfer-Encoding: chunked", body=b"zz\r\n"), None),
            ("invalid-count", "PUT", put(path, b"5"), None),
            ("malformed-chunk", "PUT", request_bytes("PUT", path, "Transfer-Encoding: chunked", body=b"zz\r\n"), None),
        ],
        "/pages": [
            ("unknown-parameter", "GET", listed("page=home"), None),
            ("invalid-percent-encoding", "GET", listed("after=%zz"), None),
            ("invalid-limit", "GET", listed("limit=1001"), None),
        ],
        "/top": [
            ("unknown-parameter", "GET", listed("prefix=a"), None),
            ("invalid-percent-encoding", "GET", listed("limit=%z"), None),
            ("invalid-limit", "GET", listed("limit=0"), None),
        ],
        "/total": [
            ("unknown-parameter", "GET", listed("limit=1"), None),
            ("invalid-percent-encoding", "GET", listed("prefix=%"), None),
        ],
    }
    return cases.get(path, [])
