#!/usr/bin/env python3
"""Many visits, and many counts, in one request. Every acknowledged visit is looked for in Redis afterwards.

Client and frontend share a core. Arguments: rounds (5), requests a run (4000).
"""

import json

from rig import argument, in_turn, judge, load, request, show, visitd

PAGES = 1000  # named once each by every request
CONNECTIONS = 8
LEAST_VISITS = 2_000_000
LEAST_COUNTS = 1_000_000


def main() -> None:
    rounds, requests = int(argument(1, 5)), int(argument(2, 4000))
    pages = [f"page-{number:04}" for number in range(PAGES)]
    body = json.dumps(pages, separators=(",", ":")).encode()
    acknowledged = 0
    with visitd() as (stack, server):

        def record() -> dict[str, float]:
            nonlocal acknowledged
            found = load(server.port, request("POST", "/visits", body), connections=CONNECTIONS, requests=requests)
            acknowledged += int(found["status_200"])
            return found

        def read() -> dict[str, float]:
            return load(server.port, request("POST", "/visits/query", body), connections=CONNECTIONS, requests=requests)

        read()
        medians = in_turn(rounds, {"record": record, "read": read})
        answer = stack.ask("POST", "/visits/query", body)
        assert answer.json()["counts"] == dict.fromkeys(pages, acknowledged), answer
        stack.flush()
        stack.wait_for_redis(dict.fromkeys(pages, acknowledged) | {"home": 1})
    for name, least in (("record", LEAST_VISITS), ("read", LEAST_COUNTS)):
        what = {"record": "POST /visits, 1,000 pages", "read": "POST /visits/query, 1,000 pages"}[name]
        show(f"{what}: median latency", medians[name]["p50_us"], "us")
        judge(f"{what}: {'visits' if name == 'record' else 'counts'} a second", medians[name]["rate"] * PAGES, least, unit="1/s")
    show("acknowledged visits, each in Redis", acknowledged * PAGES, "visits")


if __name__ == "__main__":
    main()
