"""Where fuzzing begins: inputs for each target, and words of the language that it reads."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))

import smuggling_cases  # noqa: E402

# --- the connection's reader: how (limits, keep, byte by byte), two places to split at, the bytes of a connection

HONEST = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"HEAD /visits/a%20b?page=c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: [::1]:8000\r\nOrigin: http://b\r\nAccess-Control-Request-Method: POST\r\n\r\n",
    b"POST http://a.example:80/visits HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n[\"a\"]",
    b"POST /visits HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\";c=d;e=\"\\\"f\"\r\n[\"a\"]\r\n0\r\nX-Sum: 1\r\n\r\n",
    b"POST /visit/a HTTP/1.1\r\nHost: a\r\n\r\nGET /visits/a HTTP/1.1\r\nHost: a\r\nConnection: x, close\r\n\r\n",
    b"\r\nPOST /visit/a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\nHost:b\r\n\r\n",
]
MANY_CHUNKS = b"POST /visits HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + 3 * (b"e\r\n" + 14 * b"a" + b"\r\n") + b"0\r\n\r\n"
READER = [case.sent[:600] for case in smuggling_cases.CASES] + HONEST + [MANY_CHUNKS]
READER_WORDS = [
    b"GET ", b"POST ", b"HEAD ", b"OPTIONS * ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"http://", b"Host: a\r\n", b"\r\n\r\n", b"\r\n", b"\n", b"\r",
    b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"chunked", b"Expect: 100-continue\r\n", b"Connection: ", b"close", b"keep-alive",
    b"Content-Encoding: ", b"Origin: ", b"Access-Control-Request-Method: ", b"0\r\n\r\n", b"1\r\na\r\n", b"ffffffffffffffff", b";a=\"b\"", b"\"\\\\\"", b": ",
]  # fmt: skip

# --- page ids and targets: a limit in fours, how to encode, the text

PAGE_IDS = [
    b"a", b"home", b"a/b c", b"%2Fa%20b", b"a+b%2B", b"%", b"%4", b"%4g", b"%00", "größe €😀".encode(), b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\xef\xbf\xbf", b"\xc2\x85", b"*", b"/", b"/visit/a?b=c?d", b"http://a", b"HTTPS://a.example:443/b?c", b"http://[::1]:80/", b"http://a?b", b"a:80",
    b"[::1]", b"[::1]:8000", b"http://u@a/", b"http:///", b"a" * 120,
]  # fmt: skip
PAGE_ID_WORDS = [b"http://", b"https://", b"%C3%A4", b"%E2%82%AC", b"%F0%9F%98%80", b"%00", b"%7f", b"%C2%9f", b"[::1]", b":8000", b"\xed\xa0\x80", b"\xf4\x8f\xbf\xbf"]

# --- names of pages: rules up to a 0, the id

NAMED_IDS = [
    b"/A/index.html", b"/a/Index.PHP?u=1&b=2&x#c/", b"x/a/", b"/a/aXx//", b"a?&&b&u1=2", b"?b", b"#", b"/", b"///", b"index.htm", b"a/index.html/index.html/",
    "/Größe/?u€=1#É".encode(), b"/a", b"xx",
]  # fmt: skip
NAMED_ID_WORDS = [b"index.html", b"/index.php", b"INDEX.HTM", b"?u=1", b"&b=2", b"&u21", b"#", b"/a", b"\x09\x01\x02\x03\x00", b"\x04\x06\x07\x00"]

# --- lists of pages: what it is and how to write it anew, two limits, the text

BODIES = [
    b'"a"', b'["a","b"]', b'{"a":1,"b":4294967295}', b'"a"\n"b"\n{"c":2}\r\n["d"]', b"[]", b"", b"{}", b"[[]]", b'{"a":0}', b'{"a":-1}', b'{"a":1.0}', b'{"a":1e3}',
    b'{"a":4294967296}', b'["\\u00e4\\ud83d\\ude00"]', b'["\\ud800"]', b'["\\u0000"]', b'["a", "a"]', b'["a",]', b"[null]", b"true", b'"a', b'{"a":"b"}',
    b"\xef\xbb\xbf[\"a\"]", b'["\xff"]', b"/* */", b"[" * 60, b'{"a":{"b":1}}', '["größe"]'.encode(), b'""',
]  # fmt: skip
QUERIES = [b"page=a", b"page=a&page=b", b"page=a+b%20c&&page=%C3%A4", b"", b"page", b"page=", b"p%61ge=a", b"q=a", b"page=%", b"page=a=b", b"page=a&page=a", b"&"]
LIST_WORDS = [b"page=", b"&page=", b"\\u", b"\\ud83d\\ude00", b'["', b'","', b'"]', b'{"', b'":1', b"4294967295", b"null", b"true", b"1e5", b"%C3%A4"]

# --- settings: what it is, then a file, or the value of a variable, or user, line break and the rest of a shard's address


def settings() -> list[bytes]:
    example = (ROOT / "deploy/visitd.toml").read_text()
    lines = [line.removeprefix("# ") for line in example.splitlines()]
    sections: list[list[str]] = []
    for line in lines:
        if line.startswith("["):
            sections.append([])
        if sections and (line.startswith("[") or " = " in line):
            sections[-1].append(line)
    files = ["\n".join(section) + "\n" for section in sections]
    files += [
        "",
        '[redis]\nshards = ["redis://a:1", "b=redis://u:p%40@[::1]/3", "c=unix:///s?db=2"]\npassword = "x"\n',
        '[redis]\nshards = ["d=sentinel://a,b:2,[::1]:3/p", "rediss://c", "e=sentinels://u:p@a/p/1"]\ntls_server_name = "d"\nsentinel_username = "f"\n',
        '[[redis.shard]]\nname = "a"\nurl = "redis://b"\npassword = "c"\n[[redis.shard]]\nurl = "unix://d@/e"\nname = "f"\n',
        '[http]\nlisten = ["[::]:8000", "unix:/s"]\ntrusted_proxies = ["10.0.0.0/8", "::1"]\n',
        "[ring]\nlane_bytes = \"1 MiB\"\n[pages]\npage_id_limit_bytes = 0x10\n",
        "lanes = 3\n",
        "[paths]\nstate_directory = '/a\\\"\tb'\n[http]\nlisten = ['unix:/\\n']\n",
        "[ring]\nlanes = 1\nlanes = 2\n",
        '[http]\napi_prefix = "/a\\u00e4"\nbody_limit_bytes = 1.5\n',
        "ring.lanes = 2\nlog = {debug = true}\n",
        "[log]\ndebug = 1\n",
        '[ring]\nlane_bytes = "64KiB"\n[pages]\npage_id_limit_bytes = 1024\n',
        "[http]\nhead_limit_bytes = 1024\n",
        "[http]\ntarget_limit_bytes = 128\n",
        '[paths]\nstate_directory = "/run/./visitd/"\n',
        '[http]\ncors_origins = ["*", "https://a.example:8443"]\n',
        '[redis]\nshards = ["a:1"]\n[[redis.shard]]\nurl = "b:1"\n',
        "[redis]\nshard = 1\n",
        '[[redis.shard]]\nurl = ""\n',
        '[[redis.shard]]\nurl = "a:1"\npassword_file = "b"\n',
        '[redis]\nbuckets = 1\nshards = ["a:1", "rediss://b:2"]\n',
    ]
    values = ["1", "0", "true", "/a", "", "16MiB", "a, b", "redis://a:1,b=redis://c", "b=sentinel://a,c/p,rediss://d", "unix:/a", "0.5", "*", "direct", "10.0.0.0/8"]
    found = [b"\0" + text.encode() for text in files]
    found += [bytes([128 + key]) + value.encode() for key in range(80) for value in values]
    found += [b"\xff" + text for text in (b"u\nh:1/2", b"\nh", b"u\n[::1]:7070", b"u\nh:x", b"%41\n@h", b"u\n/p?db=1", b"u\nh/99999", b"u\n")]
    return found


SETTING_WORDS = [
    b"[redis]\n", b"[[redis.shard]]\n", b"[http]\n", b"[ring]\n", b"[pages]\n", b"[paths]\n", b"[flusher]\n", b"[log]\n", b"url = ", b"name = ", b"password = ",
    b"shards = [", b"listen = [", b'"redis://', b'"rediss://', b'"a=sentinel://', b'"unix:///', b'"unix:/', b"KiB", b"MiB", b"true", b"false", b"lane_bytes = ", b"lanes = ", b"buckets = ",
    b"virtual_nodes = ", b"api_prefix = ", b"cors_origins = ", b"head_limit_bytes = ", b"page_id_limit_bytes = ", b"?db=", b'"""', b"'''", b"0x", b"1979-05-27",
]  # fmt: skip

# --- client addresses: the connection's, networks; two networks, an address, field lines

FIELDS = [
    b"X-Forwarded-For: 192.0.2.7\n", b"X-Forwarded-For: 203.0.113.9, 10.1.2.3\nHost: a\n", b"Forwarded: for=192.0.2.7;proto=https, for=\"[2001:db8:1::9]:80\"\n",
    b"forwarded: by=a; For=unknown, for=_x\nX-Forwarded-For: 192.0.2.1\n", b"Forwarded: for=\"\n", b"X-Forwarded-For: [\n", b"X-Forwarded-For:\n", b":\n", b"",
    b"X-FORWARDED-FOR:\t192.0.2.7:4711 ,\t10.1.0.1,127.0.0.1\n", b"Forwarded: ;;for=::1\nForwarded: for=1.2.3.4",
]  # fmt: skip
NETWORKS = [b"10.0.0.0/8 ::/0\n10.9.9.9\n", b"192.0.2.0/24 2001:db8::/32\n2001:db8::1\n", b"1.2.3.4 ::ffff:0.0.0.0/0\n::ffff:1.2.3.4\n", b"/ a/8\n1\n", b" \n\n", b"1.2.3.4/33 ::/129\n[::1]\n"]
ADDRESS_WORDS = [b"Forwarded: ", b"X-Forwarded-For: ", b"for=", b"For=\"[", b"]:80\"", b", ", b";", b"127.0.0.1", b"10.1.0.1", b"192.0.2.66", b"2001:db8:1::5", b"::ffff:", b"/128", b"/32"]

# --- what a Redis server says: the command, its size, the size of the pieces, the bytes

REPLIES = [
    b"+OK\r\n", b"-ERR unknown command\r\n", b"-NOSCRIPT No matching script\r\n", b"-WRONGTYPE x\r\n", b":7\r\n", b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"$2\r\na\n\r\n",
    b"*2\r\n$4\r\nname\r\n$3\r\nyes\r\n*0\r\n$34\r\nrole:master\r\nrun_id:1\r\naof_enabled:1\r\n$-1\r\n", b"*3\r\n$2\r\n=m\r\n$3\r\ni\nm\r\n$1\r\n!\r\n",
    b"$8\r\nOK 1 2 3\r\n$9\r\nDUP 1 2 3\r\n", b"$9\r\nDUP 1 - 3\r\n", b"$6\r\nHAVE x\r\n", b"$6\r\nNOID x\r\n", b"$7\r\nBAD 0 2\r\n", b"$9\r\nWRONGTYPE\r\n", b"$4\r\nGONE\r\n", b"$2\r\n12\r\n", b"$7\r\nMOVED x\r\n", b"$8\r\nMOVING x\r\n",
    b"*5\r\n$1\r\ni\r\n$-1\r\n$-1\r\n$1\r\nm\r\n$19\r\n9223372036854775807\r\n", b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*0\r\n", b"HTTP/1.1 400\r\n",
    b"+OK\r\n*2\r\n:1\r\n:2\r\n", b"+OK\r\n:2\r\n", b"*2\r\n:1\r\n$1\r\n2\r\n", b":-1\r\n", b"*16384\r\n", b"$536870913\r\n", b"+OK\r\n+OK\r\n-ERR max number of clients reached\r\n$1\r\nm\r\n$1\r\nt\r\n$1\r\nb\r\n", b"EVALSHA b 1 visits:{1} \x01id",
    b"+OK\r\n+OK\r\n*2\r\n$1\r\nh\r\n$1\r\n7\r\n*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n"
    b"*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$9\r\np h 7 i 8\r\n", b"+OK\r\n+OK\r\n+OK\r\n*3\r\n$6\r\nmaster\r\n:1\r\n*0\r\n$1\r\nm\r\n$1\r\nt\r\n$1\r\nb\r\n",
]  # fmt: skip
REPLY_WORDS = [b"\r\n", b"$", b"*", b"$-1\r\n", b"*-1\r\n", b"*5\r\n", b"*2\r\n", b"-ERR ", b"-WRONGTYPE ", b"-NOSCRIPT ", b"OK ", b"DUP ", b"HAVE ", b"NOID ", b"BAD ", b"9223372036854775808", b"role:"]

# --- imports: the format, the text

IMPORTS = [
    b'\0page,count\n"/a",1\r\n# x\n\n"b,""c""",2\n', b"\0a,9223372036854775807\na,1\n", '\0"größe"x,1'.encode(), b'\x01{"page":"/a","count":1}\n{"a":1}\n[1]\n',
    b'\x02Path,Event,Bot\n/a,false,0\n"/b ""c""",true,\n', b"\x022Path\n/a\n", b"\x03website_id,url_path,event_type,hostname\nw,/a,1,w\nw,/%C3%A4,1,h\nv,/a,2,h\n",
    b"\x0burl_path,website_id\n/a,v\n/b,w\n", b'\x04- [x] "GET /a%20b?c HTTP/1.1" 200 1\n- "GET http://h/a#b" 304\n- "POST /" 200 1\n', b"\x06a,\"b\n\"\"c\",\"\"d\"e\n",
    b"\x07https://h:80/a%20b?c#d", b"\x07pv:page:h:80:/a:b", b"\x07pv:page:index:h", b"\x07http://h",
]  # fmt: skip
IMPORT_WORDS = [b'""', b'"', b",", b"\r\n", b"\n#", b"page,count\n", b'{"page":"', b'","count":', b"url_path", b"event_type", b"website_id", b"Path", b'"GET /', b' HTTP/1.1" 200 ', b"%C3%A4", b"://", b"pv:page:"]

# --- other counters' clients: the part, the text

SHAPE_TEXTS = [
    b"BusuanziCallback_1", b"app.show", b"a..b", b"example.org/visits", b":HOST:/:PATH:", b"a/b/c", b"/blog/post/?utm_source=x&a=1+2&from=groupmessage", b"/a/?", b"//",
    b"https://Example.org:443/index.html", b"http://[::1]:80/gr%C3%BC%C3%9Fe/", b"https://example.org/" + 99 * b"%C3%BC", b"url=https%3A%2F%2Fa%2F&p=%zz", b"-9223372036854775808",
    b'{"url":"https://a/","isNewUv":true}', b"[1", b"",
]  # fmt: skip
SHAPE_WORDS = [b"http://", b"https://", b":443", b":HOST:", b":PATHNAME:", b"/index", b".html", b"utm_", b"ref=", b"from=", b"%C3%BC", b"?", b"&", b'{"url":"', b'"isNewUv":true', b"url="]

SEEDS = {
    "request_reader": [bytes([how, 90, 170]) + sent for sent in READER for how in (0, 9)] + [b"\x06\x03\xc0" + sent for sent in HONEST],
    "page_ids": [bytes([30, style]) + text for style, text in enumerate(PAGE_IDS)],
    "page_rules": [bytes([9, *range(1, 9), 0]) + text for text in NAMED_IDS] + [bytes([rule, 10, 0]) + text for rule, text in enumerate(NAMED_IDS, 1)],
    "page_lists": [bytes([how, 60, 3]) + body for body in BODIES for how in (0, 1)] + [b"\x02\x60\x03" + query for query in QUERIES],
    "settings": settings(),
    "imports": IMPORTS,
    "client_addresses": [bytes([number % 5, 9 * number % 64]) + NETWORKS[number % len(NETWORKS)] + FIELDS[number % len(FIELDS)] for number in range(30)],
    "shapes": [bytes([part]) + text for text in SHAPE_TEXTS for part in (*range(7), 129)],
    "redis_replies": [bytes([which, 3, 2 * number]) + said for number, said in enumerate(REPLIES) for which in range(20)],
}
WORDS = {
    "request_reader": READER_WORDS,
    "page_ids": PAGE_ID_WORDS,
    "page_rules": NAMED_ID_WORDS,
    "page_lists": LIST_WORDS,
    "settings": SETTING_WORDS,
    "imports": IMPORT_WORDS,
    "client_addresses": ADDRESS_WORDS,
    "redis_replies": REPLY_WORDS,
    "shapes": SHAPE_WORDS,
}
