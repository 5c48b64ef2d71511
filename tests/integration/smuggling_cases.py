"""Requests that two parties may read differently, and what the strict reading of RFC 9112 says of each.

Written from the published techniques: CL.TE, TE.CL, TE.TE, CL.CL, 0.CL and CL.0, chunk sizes and extensions that end in different
places, fields that only some parsers see, versions, targets and what stays in the connection after a body. `NNNNN` in what is
sent stands for a number that every sending gets anew.

Most cases carry SMUGGLED, a whole request, where a lenient reader would find the next one. AFTER is the honest request that
follows in every case, and that must be answered if, and only if, the connection goes on.
"""

from typing import NamedTuple

SMUGGLED = b"POST /visit/smuggled-NNNNN HTTP/1.1\r\nHost: a\r\n\r\n"
AFTER = b"POST /visit/after-NNNNN HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
OUTER_LINE = b"POST /visit/outer-NNNNN HTTP/1.1"

# What an answer is called: the status, and what was counted or read by it.
OUTER, HIDDEN, FOLLOWING = "200 outer", "200 smuggled", "200 after"


class Case(NamedTuple):
    name: str
    sent: bytes
    answers: tuple[tuple[str, ...], ...]  # one of these, in order; then the server ends the connection
    hangs_up: bool = False  # the client sends no more after this, and says so
    bodiless: tuple[int, ...] = ()  # numbers of the answers that are to HEAD


CASES: list[Case] = []


def refused(name: str, sent: bytes, status: int = 400, before: tuple[str, ...] = ()) -> None:
    """Answered once with the status, and the connection is closed: nothing behind it is read."""
    CASES.append(Case(name, sent + AFTER, ((*before, str(status)),)))


def taken(name: str, sent: bytes, *answers: str, bodiless: tuple[int, ...] = ()) -> None:
    """Answered so, and the honest request after it is read from the right place."""
    CASES.append(Case(name, sent + AFTER, ((*answers, FOLLOWING),), bodiless=bodiless))


def ends(name: str, sent: bytes, *answers: str) -> None:
    """Answered so, and nothing behind it."""
    CASES.append(Case(name, sent + AFTER, (answers,)))


def unfinished(name: str, sent: bytes, *answers: str) -> None:
    """Still waits for more when the client hangs up, all that was sent having been read as what came before."""
    CASES.append(Case(name, sent + AFTER, (answers,), hangs_up=True))


def post(fields: bytes, body: bytes = b"", line: bytes = OUTER_LINE, host: bytes = b"Host: a\r\n") -> bytes:
    """A request with these further field lines, each with its line break."""
    return line + b"\r\n" + host + fields + b"\r\n" + body


def length(body: bytes, more: int = 0) -> bytes:
    return b"Content-Length: %d\r\n" % (len(body) + more)


def with_length(body: bytes, line: bytes = OUTER_LINE, fields: bytes = b"") -> bytes:
    return post(length(body) + fields, body, line)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST = b"0\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


def chunked(body: bytes, line: bytes = OUTER_LINE, fields: bytes = b"") -> bytes:
    return post(CHUNKED + fields, body, line)


def broken(name: str, body: bytes) -> None:
    """A chunked body that is none, and another request behind it. The visit may have been answered by then."""
    CASES.append(Case(name, chunked(body) + SMUGGLED + AFTER, ((OUTER,), ("400",))))


def too_large(name: str, body: bytes) -> None:
    CASES.append(Case(name, chunked(body) + SMUGGLED + AFTER, ((OUTER,), ("413",))))


# --- Content-Length beside Transfer-Encoding

refused("CL.TE", post(length(LAST + SMUGGLED) + CHUNKED, LAST + SMUGGLED))
refused("TE.CL", post(CHUNKED + b"Content-Length: 4\r\n", chunk(SMUGGLED) + LAST))
refused("TE.CL, the fields the other way round", post(b"Content-Length: 4\r\n" + CHUNKED, chunk(SMUGGLED) + LAST))
refused("TE beside a CL of 0", post(b"Content-Length: 0\r\n" + CHUNKED, chunk(SMUGGLED) + LAST))
refused("TE beside a CL that agrees", post(CHUNKED + length(chunk(SMUGGLED) + LAST), chunk(SMUGGLED) + LAST))
refused("TE between two CLs", post(b"Content-Length: 5\r\n" + CHUNKED + b"Content-Length: 5\r\n", LAST + SMUGGLED))
refused("CL.TE on GET", post(length(LAST + SMUGGLED) + CHUNKED, LAST + SMUGGLED, b"GET /visits/outer-NNNNN HTTP/1.1"))

# --- Transfer-Encoding that one party does not see, with a Content-Length that the other goes by

BOTH = LAST + SMUGGLED
for _name, _field in {
    "xchunked": b"Transfer-Encoding: xchunked\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n",
    "a tab before the colon": b"Transfer-Encoding\t: chunked\r\n",
    "a vertical tab before the value": b"Transfer-Encoding: \x0bchunked\r\n",
    "a form feed before the value": b"Transfer-Encoding: \x0cchunked\r\n",
    "a vertical tab behind the value": b"Transfer-Encoding: chunked\x0b\r\n",
    "NUL behind the value": b"Transfer-Encoding: chunked\x00\r\n",
    "NUL in the name": b"Transfer-Encoding\x00: chunked\r\n",
    "a no-break space before the value": b"Transfer-Encoding: \xa0chunked\r\n",
    "a no-break space of UTF-8": b"Transfer-Encoding:\xc2\xa0chunked\r\n",
    "double quotes": b'Transfer-Encoding: "chunked"\r\n',
    "single quotes": b"Transfer-Encoding: 'chunked'\r\n",
    "a parameter": b"Transfer-Encoding: chunked;q=1\r\n",
    "chunked, identity": b"Transfer-Encoding: chunked, identity\r\n",
    "identity, chunked": b"Transfer-Encoding: identity, chunked\r\n",
    "identity": b"Transfer-Encoding: identity\r\n",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n",
    "chunked, chunked": b"Transfer-Encoding: chunked, chunked\r\n",
    "an empty member before it": b"Transfer-Encoding: ,chunked\r\n",
    "an empty member behind it": b"Transfer-Encoding: chunked,\r\n",
    "an empty value": b"Transfer-Encoding:\r\n",
    "a split word": b"Transfer-Encoding: chunk ed\r\n",
    "the first of two fields": b"Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n",
    "the second of two fields": b"Transfer-Encoding: x\r\nTransfer-encoding: chunked\r\n",
    "two fields that agree": CHUNKED + CHUNKED,
    "behind a bare LF": b"X: x\nTransfer-Encoding: chunked\r\n",
    "behind a bare CR": b"X: x\rTransfer-Encoding: chunked\r\n",
    "behind CR CR LF": b"X: x\r\r\nTransfer-Encoding: chunked\r\n",
    "behind CR LF CR": b"X: x\r\n\rTransfer-Encoding: chunked\r\n",
    "an LF before the colon": b"Transfer-Encoding\n: chunked\r\n",
    "an LF behind the colon": b"Transfer-Encoding:\n chunked\r\n",
    "folded value": b"Transfer-Encoding:\r\n chunked\r\n",
    "folded with a tab": b"Transfer-Encoding:\r\n\tchunked\r\n",
    "folded in the word": b"Transfer-Encoding: chun\r\n ked\r\n",
    "the fold of another field": b"X: x\r\n Transfer-Encoding: chunked\r\n",
    "a space in the name": b"Transfer Encoding: chunked\r\n",
    "a colon before the name": b":Transfer-Encoding: chunked\r\n",
    "a name with =": b"Transfer-Encoding=: chunked\r\n",
    "a name with ;": b"Transfer-Encoding;: chunked\r\n",
    "a dotless i in the name": "Transfer-Encodıng: chunked\r\n".encode(),
    "an unseen character before the name": b"\xef\xbb\xbfTransfer-Encoding: chunked\r\n",
    "no colon": b"Transfer-Encoding chunked\r\n",
}.items():
    refused(f"TE.TE: {_name}", post(length(BOTH) + _field, BOTH))
    refused(f"TE.TE, without CL: {_name}", post(_field, BOTH))

taken("TE.TE: no blank before the value", post(b"Transfer-Encoding:chunked\r\n", chunk(SMUGGLED) + LAST), OUTER)
taken("TE.TE: a tab before the value", post(b"Transfer-Encoding:\tchunked\t \r\n", chunk(SMUGGLED) + LAST), OUTER)
taken("TE.TE: upper and lower case", post(b"tRANSFER-eNCODING: ChUnKeD\r\n", chunk(SMUGGLED) + LAST), OUTER)
taken("TE.TE: an underscore in the name is another field", post(length(BOTH) + b"Transfer_Encoding: chunked\r\n", BOTH), OUTER)
taken("TE.TE: a longer name is another field", post(length(BOTH) + b"X-Transfer-Encoding: chunked\r\n", BOTH), OUTER)
taken("TE.TE: TE is another field", post(length(BOTH) + b"TE: chunked, trailers\r\n", BOTH), OUTER)
taken("TE.TE: percent-encoded line breaks stay a value", post(length(BOTH) + b"X: x%0d%0aTransfer-Encoding:%20chunked\r\n", BOTH), OUTER)
refused("TE.TE: percent-encoded word", post(b"Transfer-Encoding: %63hunked\r\n", BOTH))
refused("Content-Encoding: chunked", post(length(BOTH) + b"Content-Encoding: chunked\r\n", BOTH), 415)
refused("Content-Encoding: gzip", post(length(SMUGGLED) + b"Content-Encoding: gzip\r\n", SMUGGLED), 415)

# --- Content-Length

for _name, _value in {
    "a plus": b"+%d",
    "a minus": b"-%d",
    "minus zero": b"-0",
    "hexadecimal": b"0x30",
    "an exponent": b"1e1",
    "a fraction": b"%d.0",
    "an underscore": b"4_8",
    "a blank between": b"4 8",
    "a list of two that agree": b"%d, %d",
    "a list of two that differ": b"0, %d",
    "an empty list member": b"%d,",
    "a semicolon": b"%d;",
    "a parameter": b"%d;x=y",
    "quotes": b'"%d"',
    "empty": b"",
    "a word": b"forty",
    "percent-encoded": b"%%34%%38",
    "digits of another script": "٤٨".encode(),
    "full-width digits": "４８".encode(),
    "a vertical tab": b"%d\x0b",
    "NUL": b"%d\x00",
    "a bare CR": b"%d\r0",
    "a no-break space": b"\xa0%d",
    "2 to the 64th more": b"18446744073709551664",
    "2 to the 63rd more": b"9223372036854775856",
    "zeros beyond any number": b"0" * 40 + b"48",
}.items():
    _count = _value.replace(b"%%", b"").count(b"%d")
    _text = _value % ((len(SMUGGLED),) * _count)
    refused(f"CL: {_name}", post(b"Content-Length: " + _text + b"\r\n", SMUGGLED))
for _name, _fields in {
    "two that differ": b"Content-Length: 0\r\n" + length(SMUGGLED),
    "two that differ, the other way round": length(SMUGGLED) + b"Content-Length: 0\r\n",
    "two that agree": length(SMUGGLED) * 2,
    "two, one in small letters": length(SMUGGLED) + length(SMUGGLED).lower(),
    "a blank before the colon": length(SMUGGLED).replace(b":", b" :"),
    "a blank in the name": length(SMUGGLED).replace(b"-", b" "),
    "folded": length(SMUGGLED).replace(b": ", b":\r\n "),
    "the fold of another field": b"X: x\r\n " + length(SMUGGLED),
    "continued by a fold": b"Content-Length: 4\r\n 8\r\n",
    "behind a bare LF": b"X: x\n" + length(SMUGGLED),
    "before a bare LF": length(SMUGGLED).replace(b"\r\n", b"\n"),
    "a control character before the name": b"\x01" + length(SMUGGLED),
    "no name": length(SMUGGLED).replace(b"Content-Length", b""),
}.items():
    refused(f"CL: {_name}", post(_fields, SMUGGLED))
refused("CL: 2 to the 32nd more", post(b"Content-Length: 4294967344\r\n", SMUGGLED), 413)
refused("CL: as many digits as are read", post(b"Content-Length: 999999999999999999\r\n", SMUGGLED), 413)
taken("CL: white space around it", post(b"Content-Length:\t %d \t\r\n" % len(SMUGGLED), SMUGGLED), OUTER)
taken("CL: a leading zero is no octal", post(b"Content-Length: 0%d\r\n" % len(SMUGGLED), SMUGGLED), OUTER)
taken("CL: an underscore in the name is another field", post(b"Content_Length: 48\r\n", SMUGGLED), OUTER, HIDDEN)
taken("CL: a longer name is another field", post(b"X-Content-Length: 48\r\n", SMUGGLED), OUTER, HIDDEN)
taken("CL: 0, and what follows is a request", post(b"Content-Length: 0\r\n", SMUGGLED), OUTER, HIDDEN)
taken("CL: too short by one, and the rest is another method", post(length(b"x" * 5), b"x" * 6 + SMUGGLED), OUTER, "405")
CASES.append(Case("CL: too long by one, and the next method lacks a letter", post(length(SMUGGLED, 1), SMUGGLED) + AFTER, ((OUTER, "405"),)))
unfinished("CL: longer than all that comes", post(length(SMUGGLED + AFTER, 1), SMUGGLED), OUTER)

# --- bodies where nobody expects one (CL.0, 0.CL)

for _method, _path, _status in (
    (b"GET", b"/visits/outer-NNNNN", "200 count"),
    (b"GET", b"/", "200 healthy"),
    (b"OPTIONS", b"/visit/outer-NNNNN", "204"),
    (b"OPTIONS", b"*", "204"),
    (b"PUT", b"/visit/outer-NNNNN", "405"),
    (b"DELETE", b"/visits/outer-NNNNN", "403"),
    (b"PUT", b"/visits/outer-NNNNN", "400"),
    (b"DELETE", b"/visit/outer-NNNNN", "405"),
    (b"GET", b"/pages", "403"),
    (b"TRACE", b"/", "405"),
    (b"BREW", b"/visit/outer-NNNNN", "405"),
    (b"post", b"/visit/outer-NNNNN", "405"),
    (b"POST", b"/nothing", "404"),
    (b"POST", b"/visit/", "400"),
    (b"POST", b"/visit/%0d%0aX:%20y", "400"),
    (b"POST", b"/visit/%zz", "400"),
    (b"POST", b"/", "405"),
):
    _line = b"%s %s HTTP/1.1" % (_method, _path)
    _what = _line.decode().removesuffix(" HTTP/1.1").replace("-NNNNN", "")
    taken(f"CL.0: {_what} with a body", with_length(SMUGGLED, _line), _status)
    taken(f"CL.0: {_what} with a chunked body", chunked(chunk(SMUGGLED) + LAST, _line), _status)
    refused(f"0.CL: {_what} with a folded CL", post(length(SMUGGLED).replace(b": ", b":\r\n "), SMUGGLED, _line))
taken("CL.0: HEAD with a body", with_length(SMUGGLED, b"HEAD /visits/outer-NNNNN HTTP/1.1"), "200", bodiless=(0,))
taken("CL.0: HEAD of nothing, with a body", with_length(SMUGGLED, b"HEAD /nothing HTTP/1.1"), "404", bodiless=(0,))

# --- chunks

taken("chunks: one", chunked(chunk(SMUGGLED) + LAST), OUTER)
taken("chunks: three, one of them a last chunk to look at", chunked(chunk(b"x") + chunk(LAST + SMUGGLED) + chunk(b"y" * 17) + LAST), OUTER)
taken("chunks: hexadecimal in both cases", chunked(b"A\r\n0123456789\r\nb\r\n0123456789X\r\n" + LAST), OUTER)
taken("chunks: leading zeros", chunked(b"0000005\r\nhello\r\n0000\r\n\r\n"), OUTER)
taken("chunks: an extension", chunked(b'5;a=b;c="d e"\r\nhello\r\n0;z\r\n\r\n'), OUTER)
taken("chunks: trailers are thrown away", chunked(b"5\r\nhello\r\n0\r\nX: y\r\nZ:\r\n\r\n"), OUTER)
taken("chunks: a CL in the trailers", chunked(b"0\r\nContent-Length: 48\r\n\r\n") + SMUGGLED, OUTER, HIDDEN)
taken("chunks: a TE in the trailers", chunked(b"0\r\nTransfer-Encoding: chunked\r\n\r\n") + SMUGGLED, OUTER, HIDDEN)
taken("chunks: a Host in the trailers", chunked(b"0\r\nHost: b\r\n\r\n") + SMUGGLED, OUTER, HIDDEN)
taken("chunks: an announced trailer", chunked(chunk(SMUGGLED) + b"0\r\nContent-Length: 5\r\n\r\n", fields=b"Trailer: Content-Length\r\n"), OUTER)
for _name, _size in {
    "0x": b"0x5",
    "a plus": b"+5",
    "a minus": b"-5",
    "a space before": b" 5",
    "a space behind": b"5 ",
    "a tab behind": b"5\t",
    "a vertical tab": b"5\x0b",
    "NUL": b"5\x00",
    "no digit": b"",
    "an extension alone": b";x",
    "a letter beyond f": b"g",
    "h behind": b"5h",
    "a fraction": b"5.0",
    "an underscore": b"0_5",
    "a list": b"5,5",
    "quotes": b'"5"',
    "a no-break space": b"\xa05",
    "full-width digit": "５".encode(),
    "zeros without end": b"0" * 1000 + b"5",
    "an extension without end": b"5;" + b"x" * 5000,
    "NUL in an extension": b"5;a\x00b",
    "a bare CR in an extension": b"5;a\rb",
    "a bare LF in an extension": b"5;a\nb",
    "a bare LF ends the extension (TERM.EXT)": b"5;\n",
    "LF CR": b"5\n\r",
    "CR CR LF": b"5\r\r",
    "a quoted line break in an extension": b'5;a="\r\n"',
}.items():
    broken(f"chunk size: {_name}", _size + b"\r\nhello\r\n" + LAST)
broken("chunk size: a quotation in an extension that does not end", b'1;a="\r\nx\r\n' + LAST)
broken("chunk size: a bare LF ends the line", b"5\nhello\r\n" + LAST)
broken("chunk size: a bare CR ends the line", b"5\rhello\r\n" + LAST)
broken("chunk size: an extension hides a chunk (EXT.TERM)", b"5;\nxx\r\nhello\r\n%x\r\n" % len(LAST + SMUGGLED) + LAST + SMUGGLED + b"\r\n" + LAST)
too_large("chunk size: 2 to the 64th more", b"10000000000000005\r\nhello\r\n" + LAST)
too_large("chunk size: 2 to the 32nd more", b"100000005\r\nhello\r\n" + LAST)
too_large("chunk size: minus one", b"ffffffffffffffff\r\nhello\r\n" + LAST)
too_large("chunk size: f without end", b"f" * 400 + b"\r\nhello\r\n" + LAST)
broken("chunk data: longer than its size (SPILL)", b"5\r\nhello!!\r\n" + LAST)
broken("chunk data: no line break behind it", b"5\r\nhello0\r\n\r\n")
broken("chunk data: two other bytes for the line break", b"5\r\nhelloXX" + LAST)
broken("chunk data: an LF behind it", b"5\r\nhello\n" + LAST)
broken("chunk data: two LFs behind it", b"5\r\nhello\n\n" + LAST)
broken("chunk data: LF CR behind it", b"5\r\nhello\n\r" + LAST)
broken("chunk data: a CR behind it", b"5\r\nhello\r" + LAST)
broken("chunk data: a line break too many", b"5\r\nhello\r\n\r\n" + LAST)
broken("chunk data: longer by a last chunk", b"5\r\nhello0\r\n\r\n\r\n" + LAST)
broken("last chunk: a bare LF", b"0\n\r\n")
broken("last chunk: LF LF", b"0\n\n")
broken("last chunk: CR LF LF", b"0\r\n\n")
broken("last chunk: CR LF CR, and no LF", b"0\r\n\r")
broken("last chunk: a request for a trailer", b"0\r\n")
broken("last chunk: a trailer without colon", b"0\r\nnothing\r\n\r\n")
broken("last chunk: a blank before the colon of a trailer", b"0\r\nX : y\r\n\r\n")
broken("last chunk: a folded trailer", b"0\r\nX: y\r\n z\r\n\r\n")
broken("last chunk: a trailer ended by LF", b"0\r\nX: y\n\r\n")
broken("last chunk: a trailer with a bare CR", b"0\r\nX: y\rz\r\n\r\n")
broken("last chunk: a trailer with NUL", b"0\r\nX: \x00\r\n\r\n")
broken("last chunk: a trailer without a name", b"0\r\n: y\r\n\r\n")
unfinished("chunk data: a chunk that takes all that comes", chunked(b"fff\r\n") + SMUGGLED, OUTER)
broken("chunk size: the next request for digits", b"5\r\nhello\r\n")

# --- the lines of a head

for _name, _sent in {
    "a bare LF ends each line": b"POST /visit/outer-NNNNN HTTP/1.1\nHost: a\n\n",
    "a bare LF ends the request line": b"POST /visit/outer-NNNNN HTTP/1.1\nHost: a\r\n\r\n",
    "a bare LF ends a field": b"POST /visit/outer-NNNNN HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
    "a bare LF ends the head": b"POST /visit/outer-NNNNN HTTP/1.1\r\nHost: a\r\n\n",
    "a bare CR ends the request line": b"POST /visit/outer-NNNNN HTTP/1.1\rHost: a\r\n\r\n",
    "a bare CR ends each line": b"POST /visit/outer-NNNNN HTTP/1.1\rHost: a\r\r",
    "a bare LF before the request line": b"\nPOST /visit/outer-NNNNN HTTP/1.1\r\nHost: a\r\n\r\n",
    "two empty lines before the request line": b"\r\n\r\nPOST /visit/outer-NNNNN HTTP/1.1\r\nHost: a\r\n\r\n",
    "a bare CR in a value": post(b"X: a\rb\r\n"),
    "NUL in a value": post(b"X: a\x00b\r\n"),
    "DEL in a value": post(b"X: a\x7fb\r\n"),
    "an escape in a value": post(b"X: \x1b[2J\r\n"),
    "a fold": post(b"X: a\r\n b\r\n"),
    "a fold of nothing": post(b"X: a\r\n \r\n"),
    "a fold before the first field": b"POST /visit/outer-NNNNN HTTP/1.1\r\n Host: a\r\n\r\n",
    "a field without colon": post(b"nothing\r\n"),
    "a field without a name": post(b": x\r\n"),
    "a name in parentheses": post(b"X(y): x\r\n"),
    "a name with a letter beyond ASCII": post("Ä: x\r\n".encode()),
    "a name with NUL": post(b"X\x00Y: x\r\n"),
    "a blank before the colon": post(b"X : x\r\n"),
    "a request for a field": post(SMUGGLED[:-2]),
    "two spaces behind the method": post(b"", line=b"POST  /visit/outer-NNNNN HTTP/1.1"),
    "a tab behind the method": post(b"", line=b"POST\t/visit/outer-NNNNN HTTP/1.1"),
    "a space before the method": post(b"", line=b" POST /visit/outer-NNNNN HTTP/1.1"),
    "a space behind the version": post(b"", line=b"POST /visit/outer-NNNNN HTTP/1.1 "),
    "two spaces before the version": post(b"", line=b"POST /visit/outer-NNNNN  HTTP/1.1"),
    "a tab before the version": post(b"", line=b"POST /visit/outer-NNNNN\tHTTP/1.1"),
    "a space in the target": post(b"", line=b"POST /visit/outer NNNNN HTTP/1.1"),
    "a whole version in the target": post(b"", line=b"POST /visit/outer-NNNNN HTTP/1.1 HTTP/1.1"),
    "a no-break space in the request line": post(b"", line=b"POST\xa0/visit/outer-NNNNN HTTP/1.1"),
    "a space of another script in the target": post(b"", line="POST /visit/outer\u3000-NNNNN HTTP/1.1".encode()),
    "a vertical tab in the request line": post(b"", line=b"POST\x0b/visit/outer-NNNNN HTTP/1.1"),
    "letters beyond ASCII in the target": post(b"", line="POST /visit/größe-NNNNN HTTP/1.1".encode()),
    "a fragment": post(b"", line=b"POST /visit/outer-NNNNN#x HTTP/1.1"),
    "NUL in the target": post(b"", line=b"POST /visit/outer-NNNNN\x00 HTTP/1.1"),
    "a bare CR in the target": post(b"", line=b"POST /visit/outer-NNNNN\rX HTTP/1.1"),
    "no method": post(b"", line=b"/visit/outer-NNNNN HTTP/1.1"),
    "a method that is no word": post(b"", line=b"PO[ST /visit/outer-NNNNN HTTP/1.1"),
    "a record of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    # --- targets
    "a target without slash": post(b"", line=b"POST visit/outer-NNNNN HTTP/1.1"),
    "asterisk with POST": post(b"", line=b"POST * HTTP/1.1"),
    "authority-form with POST": post(b"", line=b"POST a:80 HTTP/1.1"),
    "CONNECT": post(b"", line=b"CONNECT a:443 HTTP/1.1"),
    "absolute-form of another scheme": post(b"", line=b"POST ftp://a/visit/outer-NNNNN HTTP/1.1"),
    "absolute-form without host": post(b"", line=b"POST http:///visit/outer-NNNNN HTTP/1.1"),
    "absolute-form with a user": post(b"", line=b"POST http://u@a/visit/outer-NNNNN HTTP/1.1"),
    "absolute-form without Host": post(b"", line=b"POST http://a/visit/outer-NNNNN HTTP/1.1", host=b""),
    # --- Host
    "no Host": post(b"", host=b""),
    "two Hosts": post(b"Host: a\r\n"),
    "two Hosts that differ": post(b"Host: b\r\n"),
    "an empty Host": post(b"", host=b"Host:\r\n"),
    "a list of Hosts": post(b"", host=b"Host: a, b\r\n"),
    "a Host with a path": post(b"", host=b"Host: a/b\r\n"),
    "a Host with a user": post(b"", host=b"Host: u@a\r\n"),
    "a Host with a word for a port": post(b"", host=b"Host: a:b\r\n"),
    "a Host with a space": post(b"", host=b"Host: a b\r\n"),
    "a Host with a space before the colon": post(b"", host=b"Host : a\r\n"),
    "a folded Host": post(b"", host=b"Host:\r\n a\r\n"),
    "a second Host in a fold": post(b"", host=b"Host: a\r\n Host: b\r\n"),
    # --- versions
    "HTTP/0.9 without a version": b"GET /visits/outer-NNNNN\r\n",
    "HTTP/0.9 with fields": b"POST /visit/outer-NNNNN\r\nHost: a\r\n\r\n",
    "HTTP/0.9 by its name": post(b"", line=b"POST /visit/outer-NNNNN HTTP/0.9"),
    "a version in small letters": post(b"", line=b"POST /visit/outer-NNNNN http/1.1"),
    "a version with two digits": post(b"", line=b"POST /visit/outer-NNNNN HTTP/1.10"),
    "a version with a leading zero": post(b"", line=b"POST /visit/outer-NNNNN HTTP/01.1"),
    "a version with a comma": post(b"", line=b"POST /visit/outer-NNNNN HTTP/1,1"),
    "a version without minor": post(b"", line=b"POST /visit/outer-NNNNN HTTP/1"),
    "a version of another protocol": post(b"", line=b"POST /visit/outer-NNNNN RTSP/1.1"),
    "a version split by a space": post(b"", line=b"POST /visit/outer-NNNNN HTTP/ 1.1"),
    "HTTP/1.0 with TE": post(CHUNKED, chunk(SMUGGLED) + LAST, line=b"POST /visit/outer-NNNNN HTTP/1.0"),
    "HTTP/1.0 with TE and CL": post(CHUNKED + b"Content-Length: 5\r\n", LAST, line=b"POST /visit/outer-NNNNN HTTP/1.0"),
}.items():
    refused(_name, _sent + SMUGGLED)
refused("HTTP/2.0", post(b"", line=b"POST /visit/outer-NNNNN HTTP/2.0") + SMUGGLED, 505)
refused("HTTP/3", post(b"", line=b"POST /visit/outer-NNNNN HTTP/3") + SMUGGLED, 505)
CASES.append(Case("HTTP/1.2", post(b"", line=b"POST /visit/outer-NNNNN HTTP/1.2") + AFTER, ((OUTER, FOLLOWING), ("505",))))
taken("one empty line before the request line", b"\r\n" + post(b""), OUTER)
taken("absolute-form with another Host", post(b"", line=b"POST http://b:81/visit/outer-NNNNN HTTP/1.1") + SMUGGLED, OUTER, HIDDEN)
taken("absolute-form with a body", with_length(SMUGGLED, b"POST HTTPS://b/visit/outer-NNNNN?x=/visit/y HTTP/1.1"), OUTER)
taken("a percent-encoded request in the target", post(b"", line=b"POST /visit/x%20HTTP/1.1%0d%0aHost:%20a HTTP/1.1"), "400")
taken("dots in the target", post(b"", line=b"POST /x/../visit/smuggled-NNNNN HTTP/1.1"), "404")
taken("two slashes in the target", post(b"", line=b"POST //visit/smuggled-NNNNN HTTP/1.1"), "404")
refused("a head without end", post(b"X: " + b"x" * 33000 + b"\r\n") + SMUGGLED, 431)
refused("a CL beyond the largest head", post(b"X: " + b"x" * 32726 + b"\r\n" + length(SMUGGLED), SMUGGLED), 431)
refused("a CL beyond the most fields", post(b"X: x\r\n" * 64 + length(SMUGGLED), SMUGGLED), 431)
refused("a target without end", post(b"", line=b"POST /visit/" + b"x" * 9000 + b" HTTP/1.1") + SMUGGLED, 414)

# --- how long a connection lasts

ends("Connection: close, and a request behind it", post(b"Connection: close\r\n") + SMUGGLED, OUTER)
ends("Connection: close, keep-alive", post(b"Connection: close, keep-alive\r\n") + SMUGGLED, OUTER)
ends("Connection: keep-alive, and close in a second field", post(b"Connection: keep-alive\r\nConnection: CLOSE\r\n") + SMUGGLED, OUTER)
ends("Connection: close, with a body", with_length(SMUGGLED, fields=b"Connection: close\r\n") + SMUGGLED, OUTER)
ends("Connection: close, with a chunked body", chunked(chunk(SMUGGLED) + LAST, fields=b"Connection: close\r\n") + SMUGGLED, OUTER)
ends("HTTP/1.0, and a request behind it", post(b"", line=b"POST /visit/outer-NNNNN HTTP/1.0") + SMUGGLED, OUTER)
ends("HTTP/1.0 without Host", post(b"", line=b"POST /visit/outer-NNNNN HTTP/1.0", host=b"") + SMUGGLED, OUTER)
ends("HTTP/1.0 with a body", with_length(SMUGGLED, b"POST /visit/outer-NNNNN HTTP/1.0") + SMUGGLED, OUTER)
taken("HTTP/1.0 kept alive, with a body", with_length(SMUGGLED, b"POST /visit/outer-NNNNN HTTP/1.0", b"Connection: keep-alive\r\n"), OUTER)
taken("Connection names Content-Length", with_length(SMUGGLED, fields=b"Connection: Content-Length\r\n"), OUTER)
taken("Connection names Transfer-Encoding", chunked(chunk(SMUGGLED) + LAST, fields=b"Connection: keep-alive, Transfer-Encoding\r\n"), OUTER)
taken("Connection names Host", with_length(SMUGGLED, fields=b"Connection: Host\r\n"), OUTER)
taken("Connection with empty members", with_length(SMUGGLED, fields=b"Connection: , ,closed,\r\n"), OUTER)
taken("Proxy-Connection: close is another field", with_length(SMUGGLED, fields=b"Proxy-Connection: close\r\nKeep-Alive: max=1\r\n"), OUTER)

# --- Expect

taken("Expect: 100-continue, with a body", with_length(SMUGGLED, fields=b"Expect: 100-continue\r\n"), OUTER)
taken("Expect: 100-continue, with a chunked body", chunked(chunk(SMUGGLED) + LAST, fields=b"expect: 100-Continue\r\n"), OUTER)
taken("Expect: 100-continue, without a body", post(b"Expect: 100-continue\r\n") + SMUGGLED, OUTER, HIDDEN)
taken("Expect: 100-continue, on GET with a body", with_length(SMUGGLED, b"GET /visits/outer-NNNNN HTTP/1.1", b"Expect: 100-continue\r\n"), "200 count")
taken("Expect: 100-continue, where nothing is, with a body", with_length(SMUGGLED, b"POST /nothing HTTP/1.1", b"Expect: 100-continue\r\n"), "404")
ends("Expect: 100-continue, on HTTP/1.0", with_length(SMUGGLED, b"POST /visit/outer-NNNNN HTTP/1.0", b"Expect: 100-continue\r\n"), OUTER)
refused("Expect: something else", with_length(SMUGGLED, fields=b"Expect: y 100-continue\r\n"), 417)
refused("Expect: a list", with_length(SMUGGLED, fields=b"Expect: 100-continue, x\r\n"), 417)
refused("Expect: empty", with_length(SMUGGLED, fields=b"Expect:\r\n"), 417)
refused("Expect: folded", with_length(SMUGGLED, fields=b"Expect:\r\n 100-continue\r\n"), 417)
refused("Expect: 100-continue beside TE and CL", post(CHUNKED + length(BOTH) + b"Expect: 100-continue\r\n", BOTH))

# --- other protocols on the same connection

UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
taken("Upgrade: h2c is not followed", with_length(SMUGGLED, fields=UPGRADE), OUTER)
taken("Upgrade: websocket is not followed",
      with_length(SMUGGLED, fields=b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"), OUTER)
for _name, _before, _answers in (("", b"", ()), (" behind an upgrade", post(UPGRADE), (OUTER,))):
    CASES.append(Case(f"the preface of HTTP/2{_name}", _before + PREFACE + SMUGGLED + AFTER, ((*_answers, "400"), (*_answers, "505"))))
refused("PROXY protocol", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + post(b"") + SMUGGLED)

# --- fields that some servers take for the request

_other = b"X-HTTP-Method-Override: POST\r\nX-Original-URL: /visit/smuggled-NNNNN\r\nX-Rewrite-URL: /visit/smuggled-NNNNN\r\nX-Forwarded-Host: b\r\n"
taken("another method and target in fields", post(_other, line=b"GET /visits/outer-NNNNN HTTP/1.1"), "200 count")
taken("a field named like a variable of the server", with_length(SMUGGLED, fields=b"REMOTE_ADDR: 192.0.2.1\r\nREMOTE_PORT: 1\r\nLOCAL_ADDR: x\r\n"), OUTER)
taken("a form for a body", with_length(b"page=smuggled-NNNNN&x=" + SMUGGLED, fields=b"Content-Type: application/x-www-form-urlencoded\r\n"), OUTER)
taken("a form of parts that does not end", with_length(b"--b\r\n\r\n" + SMUGGLED, fields=b"Content-Type: multipart/form-data; boundary=b\r\n"), OUTER)
taken("a Range", with_length(SMUGGLED, b"GET /visits/outer-NNNNN HTTP/1.1", b"Range: bytes=0-0\r\n"), "200 count")

# --- what stays in the connection

taken("an empty line behind a body", with_length(SMUGGLED) + b"\r\n", OUTER)
refused("two empty lines behind a body", with_length(SMUGGLED) + b"\r\n\r\n" + SMUGGLED, before=(OUTER,))
refused("NUL behind a body", with_length(SMUGGLED) + b"\x00" + SMUGGLED, before=(OUTER,))
refused("a last chunk behind a body", with_length(b"hello") + LAST + SMUGGLED, before=(OUTER,))
refused("a second last chunk", chunked(chunk(b"hello") + LAST + LAST) + SMUGGLED, before=(OUTER,))
refused("a body that was not announced", post(b"") + b"x=1\r\n" + SMUGGLED, before=(OUTER,))
refused("three requests, the second of them ambiguous",
        with_length(SMUGGLED) + post(length(BOTH) + CHUNKED, BOTH) + SMUGGLED, before=(OUTER,))
taken("three requests, two of them with bodies",
      with_length(SMUGGLED) + chunked(chunk(SMUGGLED) + LAST) + with_length(SMUGGLED, b"GET /visits/outer-NNNNN HTTP/1.1"), OUTER, OUTER, "200 count")
taken("a request in the body of a request in a body", with_length(with_length(SMUGGLED, SMUGGLED[:-4])), OUTER)
taken("a hundred requests", post(b"") * 99 + with_length(SMUGGLED), *(OUTER,) * 100)

# --- bodies that a handler reads

MANY = b"POST /visits HTTP/1.1"
RECORDED = "200 entries"
IDS = b'["outer-NNNNN"]'
taken("many visits", with_length(IDS, MANY), RECORDED)
taken("many visits in chunks", chunked(chunk(IDS[:4]) + chunk(IDS[4:]) + b"0;x\r\nContent-Length: 1\r\n\r\n", MANY), RECORDED)
taken("many visits, Expect: 100-continue", with_length(IDS, MANY, b"Expect: 100-continue\r\n"), RECORDED)
taken("many visits, and a request behind them", with_length(IDS, MANY) + SMUGGLED, RECORDED, HIDDEN)
taken("many visits, and a request for a body", with_length(SMUGGLED, MANY), "400")
taken("many visits, and a request behind the JSON", with_length(IDS + b"\r\n" + SMUGGLED, MANY), "400")
refused("many visits, and a length too short by one", post(length(IDS, -1), IDS, MANY) + SMUGGLED, before=("400",))
taken("many visits without a body", post(b"", line=MANY), "400")
refused("many visits, CL.TE", post(length(BOTH) + CHUNKED, BOTH, MANY))
refused("many visits, two lengths", post(length(IDS) + b"Content-Length: 0\r\n", IDS, MANY))
refused("many visits, Content-Encoding", with_length(IDS, MANY, b"Content-Encoding: gzip\r\n"), 415)
refused("many visits, a bare LF in a chunk extension", chunked(b"f;\n\r\n" + IDS + b"\r\n" + LAST, MANY) + SMUGGLED)
refused("many visits, a chunk that spills", chunked(b"e\r\n" + IDS + b"\r\n" + LAST, MANY) + SMUGGLED)
refused("many visits, a request for a trailer", chunked(chunk(IDS) + b"0\r\n" + SMUGGLED, MANY))
refused("many visits, a chunk too large", chunked(chunk(IDS) + b"100000000\r\n", MANY) + SMUGGLED, 413)
unfinished("many visits, and a length beyond all that comes", post(length(IDS + SMUGGLED + AFTER, 1), IDS, MANY) + SMUGGLED)
taken("PUT: a count", with_length(b'{"count":7}', b"PUT /visits/outer-NNNNN HTTP/1.1"), "403")
taken("counts of many", with_length(b'"outer-NNNNN"', b"POST /visits/query HTTP/1.1"), "200 counts")
taken("counts of many, with a body on GET", with_length(SMUGGLED, b"GET /visits?page=outer-NNNNN HTTP/1.1"), "200 counts")
