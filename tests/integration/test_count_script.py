#!/usr/bin/env python3
"""The counter's script in real pages, in a real browser: what it counts and shows, and what not. Prints what was sent of each page."""

import base64
import collections
import contextlib
import gzip
import hashlib
import json
import signal
import unittest
from urllib.parse import quote

from harness import SOURCE_ROOT, Stack, free_port, listening_at, wait_for
from script_site import AS_PEOPLE_HAVE_IT, Gateway, Page, browsed

LIMIT_S = 120
SCRIPT_LIMIT_BYTES = 600
VISITS = 200
BROWSERS = 2
# Sites have it in their pages.
COUNT_1 = "sha384-yUR2Qp8wyTh8rDzietBPb/x6WMDe1DZ3KBMGNzs3TbL0SVXqm92gXe3URt/eJm36"
SHOW_1 = "sha384-Y3IWi8+hSZQwT5N5fzYd90ynzE2q9HA8V5RL6YXqmQIttrWx60CJazJtn4dQSSyr"

WITHOUT_BEACON = "delete Navigator.prototype.sendBeacon;"
WITHOUT_NAVIGATION = 'Object.defineProperty(window, "navigation", {value: undefined});'
HIDDEN = """let hidden = true; Object.defineProperty(document, "hidden", {get: () => hidden});
const sent = [], beacon = navigator.sendBeacon;
Navigator.prototype.sendBeacon = function (...all) { sent.push(hidden); return beacon.apply(this, all); };
const unhide = () => { hidden = false; document.dispatchEvent(new Event("visibilitychange", {bubbles: true})); };"""
GPC = 'Object.defineProperty(Navigator.prototype, "globalPrivacyControl", {get: () => true});'
DNT = 'Object.defineProperty(Navigator.prototype, "doNotTrack", {get: () => "1"});'
CLIENT_SIDE = """
  history.pushState({}, "", "/%(name)s/two/"); await sleep(60);
  history.replaceState({}, "", "/%(name)s/two/?page=2"); await sleep(60);
  history.replaceState({}, "", "/%(name)s/two/#part"); await sleep(60);
  history.pushState({}, "", "/%(name)s/three/"); history.replaceState({}, "", "/%(name)s/four/"); await sleep(60);
  history.go(-1); await sleep(300);
"""

# Path → what its page has; and how often each page is counted.
WAYS = [
    Page("/plain/"),
    Page("/no-beacon/", before=WITHOUT_BEACON),
    Page("/refused-beacon/", before="Navigator.prototype.sendBeacon = () => false;"),
    Page("/no-fetch/", before=WITHOUT_BEACON + "window.keptFetch = fetch; window.fetch = undefined;",
         work="window.fetch = keptFetch;"),
    Page("/leaves-at-once/", rest_ms=0),
]  # fmt: skip
NAMES = [
    Page("/data-page/", 'data-page="guide/50% off"'),
    Page("/shop/shoes?colour=red", head='<link rel="canonical" href="https://elsewhere.example/shoes/gr%C3%B6%C3%9Fe/?size=4">'),
    Page("/broken-canonical/", head='<link rel="canonical" href="http://[">'),
    Page("/no-canonical/", head='<link rel="canonical">'),
    Page(quote("/2024/从零开始/")),
    Page("/100%/"),
    Page("/a+b&c;d/"),
    Page("/other-path/", 'data-path="v"'),
]
WHEN = [
    Page("/asks-not-to-be-tracked/", before=DNT),
    Page("/respects-dnt/", "data-respect", before=DNT, body="<span data-visits></span>"),
    Page("/respects-gpc/", "data-respect", before=GPC),
    Page("/respects-nobody-who-asks/", "data-respect"),
    Page("/frames/", "", body='<iframe src="/framed/"></iframe><iframe src="/framed-told/"></iframe>',
         work="await until(() => frames.length == 2); await sleep(500);"),
    Page("/opened-hidden/", before=HIDDEN, work="unhide(); await sleep(100); return sent;"),
    Page("/spa/", work=CLIENT_SIDE % {"name": "spa"}, head='<link rel="canonical" href="/spa/one/">'),
    Page("/old-spa/", work=CLIENT_SIDE % {"name": "old-spa"}, before=WITHOUT_NAVIGATION),
    Page("/navigated-spa/",
         before='navigation.addEventListener("navigate", (event) => event.destination.url.endsWith("/two/") && event.intercept());',
         work='await navigation.navigate("/navigated-spa/two/").finished; await sleep(60);'),
    Page("/named-spa/", 'data-page="all of it"', work='history.pushState({}, "", "/named-spa/two/"); await sleep(60);'),
]  # fmt: skip

# The page comes back from the browser's memory, as it was left.
RETURNS = """addEventListener("pageshow", async (event) => {
  if (!event.persisted) return;
  const shown = () => document.querySelector("[data-visits]")?.textContent ?? "";
  await sleep(200);
  await until(() => shown() !== "1");
  await report({[location.pathname + "again"]: shown()});
  location = "%s";
});"""
BACK = [
    Page("/returns/", before=RETURNS % "/counts-again/", leave='location = "/back-1/"'),
    Page("/back-1/", leave="history.back()"),
    Page("/counts-again/", "data-bfcache", body="<span data-visits></span>", before=RETURNS % "/end/",
         work='await until(() => document.querySelector("span").textContent);', leave='location = "/back-2/"'),
    Page("/back-2/", leave="history.back()"),
    Page("/end/"),
]
# The browser makes two pages ready and shows one of them.
SPECULATING = """
  const rules = document.createElement("script");
  rules.type = "speculationrules";
  rules.textContent = JSON.stringify({prerender: [{urls: ["/prerendered/shown/", "/prerendered/never/"], eagerness: "immediate"}]});
  document.head.append(rules);
  for (let i = 0; i < 300 && !(await (await fetch("/may-go-on")).json()); ++i) await sleep(100);
"""
MADE_READY = 'if (document.prerendering) document.addEventListener("prerenderingchange", () => report({[location.pathname + "opened"]: true}));'
MADE_READY_TOLD = "return document.prerendering;"

SHOWN = """<span id="own" data-visits></span> <b id="other" data-visits="/other/"></b> <i id="quiet" data-visits="/other/" aria-live="off"></i>
<em id="total" data-visits-total></em> <u id="hidden" data-visits="/other/" hidden></u>"""
# What the elements have become, and how often each was changed.
TELL_SHOWN = """
  await until(() => [...document.querySelectorAll("[data-visits], [data-visits-total]")].every((one) => one.textContent || one.hidden));
  await sleep(100);
  return Object.fromEntries([...document.querySelectorAll("[id]")].map(
    (one) => [one.id, [one.textContent, one.hidden, one.ariaLive, changes[one.id] ?? 0]]));
"""
WATCH_SHOWN = """
  const changes = {};
  addEventListener("DOMContentLoaded", () => {
    for (const one of document.querySelectorAll("[id]"))
      new MutationObserver((all) => { if (one.ariaLive) changes[one.id] = (changes[one.id] ?? 0) + all.length; }).observe(one, {childList: true});
  });
"""
LATE = """
  await sleep(200); history.pushState({}, "", "/late/two/"); await sleep(200);
  document.body.insertAdjacentHTML("beforeend", "<p id=late data-visits></p>");
""" + TELL_SHOWN

STRICT = {"Content-Security-Policy": "default-src 'none'; script-src COUNTER 'nonce-test'; connect-src COUNTER 'self'; style-src 'nonce-test'"}
VIOLATIONS = 'const violations = []; addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));'
WORD = "word " * 400
# A count in the middle of a text, in a room that is kept for it, and the same in an unkept one, which shows that a shift would be seen.
KEPT = f"""<style nonce="test">.kept {{ display: inline-block; min-width: 7ch; text-align: end }}</style>
<p>{WORD}<span class="kept" data-visits="/much/"></span> {WORD}</p>"""
UNKEPT = f'<div data-visits="/much/"></div><p>{WORD}</p>'
MEASURE = """
  const shifts = [], tasks = [];
  new PerformanceObserver((all) => shifts.push(...all.getEntries().map((entry) => entry.value))).observe({type: "layout-shift", buffered: true});
  const ofScripts = (frame) => frame.scripts.map((one) => [one.sourceURL, one.duration]);
  new PerformanceObserver((all) => tasks.push(...all.getEntries().flatMap(ofScripts))).observe({type: "long-animation-frame", buffered: true});
"""
TELL_MEASURED = """
  await until(() => document.querySelector("[data-visits]").textContent);
  await sleep(500);
  return {shift: shifts.reduce((sum, one) => sum + one, 0), tasks: tasks.filter(([source]) => source.startsWith(counter)),
          text: document.querySelector("[data-visits]").textContent};
"""


def pinned_line(count: str, show: str) -> str:
    """The lines of a site that takes nothing but what it knows."""
    return (f'<script type="importmap" nonce="test">{{"integrity": {{"COUNTER/show.1.js": "{show}"}}}}</script>'
            f'<script defer src="COUNTER/count.1.js" integrity="{count}" crossorigin="anonymous"></script>')  # fmt: skip


def script(name: str) -> bytes:
    return (SOURCE_ROOT / "common/page" / name).read_bytes()


def integrity(content: bytes) -> str:
    return "sha384-" + base64.b64encode(hashlib.sha384(content).digest()).decode()


class CountScript(unittest.TestCase):
    def walk(self, stack: Stack, pages: list[Page], *options: str) -> tuple[dict, Gateway]:
        """Goes through all pages. What they told, and what was sent."""
        with browsed(pages, stack.port, *(options or (AS_PEOPLE_HAVE_IT,))) as (site, gateway):
            shown = [page.path for page in pages if not page.path.startswith("/framed")]
            wait_for("all pages were shown", lambda: set(shown) <= set(site.told()), LIMIT_S)
            return site.told(), gateway

    def check(self, gateway: Gateway, expected: dict[str, int]) -> None:
        wait_for("all is sent", lambda: set(expected) <= set(gateway.counted()), 10)
        self.assertEqual(gateway.counted(), expected)

    def check_held(self, stack: Stack, pages: list[str]) -> None:
        """Each of these pages was counted once."""
        for page in pages:
            wait_for(f"{page} is counted", lambda page=page: stack.get(page) > 0)
            self.assertEqual(stack.get(page), 1, page)

    def test_every_way_of_sending_counts_once(self):
        with Stack(frontends=1) as stack:
            _, gateway = self.walk(stack, [*WAYS, Page("/end/")])
            self.check(gateway, {"/plain/": 1, "/no-beacon/": 1, "/refused-beacon/": 1, "/leaves-at-once/": 1, "/end/": 1})
            modes = {page: gateway.of(page)[0].mode for page in gateway.counted()}
            self.assertEqual({page for page, mode in modes.items() if mode == "cors"}, {"/no-beacon/", "/refused-beacon/"})  # fetch
            image = "/pixel/%2Fno-fetch%2F.gif"
            wait_for("the image is asked for", lambda: gateway.asked(image), 10)
            self.assertEqual([request.method for request in gateway.asked(image)], ["GET"])
            # One request a view, and the script itself.
            self.assertEqual([request.path for request in gateway.requests if "plain" in request.path], ["/visit/%2Fplain%2F"])
            self.check_held(stack, ["/plain/", "/no-beacon/", "/no-fetch/", "/leaves-at-once/"])

    def test_browser_and_server_mean_one_page(self):
        names = ["guide/50% off", "/shoes/größe/", "/broken-canonical/", "/no-canonical/", "/2024/从零开始/", "/100%/", "/a+b&c;d/",
                 "/other-path/"]  # fmt: skip
        pages = [*NAMES, Page("/end/")]
        pages[1].path = pages[1].path.partition("?")[0]
        with Stack(frontends=1, settings={"http": {"visit_path": "/v/"}}) as stack:
            _, gateway = self.walk(stack, pages)
            self.check(gateway, dict.fromkeys([*names, "/end/"], 1))
            self.assertEqual(gateway.of("/other-path/")[0].path, "/v/%2Fother-path%2F")
            self.check_held(stack, names)

    def test_it_counts_when_people_see_the_page(self):
        framed = [Page("/framed/", leave=""), Page("/framed-told/", "data-frames", leave="")]
        with Stack(frontends=1) as stack:
            told, gateway = self.walk(stack, [*WHEN, Page("/end/", leave=""), *framed])
            self.check(gateway, {
                "/asks-not-to-be-tracked/": 1, "/respects-nobody-who-asks/": 1,
                "/frames/": 1, "/framed-told/": 1,
                "/opened-hidden/": 1,
                "/spa/one/": 1, "/spa/two/": 2, "/spa/four/": 1,
                "/old-spa/": 1, "/old-spa/two/": 2, "/old-spa/four/": 1,
                "/navigated-spa/": 1, "/navigated-spa/two/": 1, "all of it": 1, "/end/": 1,
            })  # fmt: skip
            self.assertEqual(told["/opened-hidden/"], [False])
            self.assertEqual(gateway.asked("/visits/query"), [])  # of the page that sends nothing either

    def test_a_page_from_memory_counts_again_if_told(self):
        with Stack(frontends=1) as stack:
            told, gateway = self.walk(stack, BACK)
            self.check(gateway, {"/returns/": 1, "/counts-again/": 2, "/back-1/": 1, "/back-2/": 1, "/end/": 1})
            self.assertEqual((told["/returns/again"], told["/counts-again/again"]), ("", "2"))

    def test_a_page_made_ready_counts_when_it_is_shown(self):
        ready = [Page(f"/prerendered/{name}/", before=MADE_READY, work=MADE_READY_TOLD, leave="") for name in ("shown", "never")]
        pages = [Page("/speculating/", work=SPECULATING, leave='location = "/prerendered/shown/"'), *ready]
        with Stack(frontends=1) as stack, browsed(pages, stack.port, AS_PEOPLE_HAVE_IT) as (site, gateway):
            site.answers["/may-go-on"] = False
            wait_for("two pages are made ready", lambda: all(site.told().get(page.path) is True for page in ready), LIMIT_S)
            self.assertEqual(gateway.counted(), {"/speculating/": 1})
            site.answers["/may-go-on"] = True
            wait_for("one is opened", lambda: "/prerendered/shown/opened" in site.told(), LIMIT_S)
            self.check(gateway, {"/speculating/": 1, "/prerendered/shown/": 1})

    def test_counts_are_shown_and_announced_once(self):
        port = free_port()
        settings = {"http": {"lookup_timeout_ms": 500, "cors_origins": [f"http://127.0.0.1:{port}"]},
                    "owner": {"public_lists": True, "timeout_ms": 3000}}  # fmt: skip
        shown = [Page("/shown/", body=SHOWN, work=TELL_SHOWN, before=WATCH_SHOWN, lang="de"),
                 Page("/no-language/", body=SHOWN, work=TELL_SHOWN, before=WATCH_SHOWN, lang="en_US")]  # fmt: skip
        hundred = "".join(f'<p data-visits="/article-{number % 60}/"></p>' for number in range(100))
        many = Page("/list/", body=hundred, work=TELL_SHOWN, before=WATCH_SHOWN)
        late = Page("/late/", "data-visits", work=LATE, before=WATCH_SHOWN)
        unknown = Page("/unknown/", body=SHOWN.replace("/other/", "/constructor/"), work=TELL_SHOWN, before=WATCH_SHOWN)
        with Stack(frontends=1, settings=settings) as stack:
            stack.ask("POST", "/visits", json.dumps({"/other/": 12345}).encode())
            with browsed([*shown, many, late], stack.port, AS_PEOPLE_HAVE_IT, site_port=port) as (site, gateway):
                wait_for("all pages were shown", lambda: "/late/" in site.told(), LIMIT_S)
            told = site.told()
            total = told["/shown/"].pop("total")
            self.assertEqual(told["/shown/"], {"own": ["1", False, "polite", 1], "other": ["12.345", False, "polite", 1],
                                               "quiet": ["12.345", False, "off", 1], "hidden": ["12.345", False, "polite", 1]})  # fmt: skip
            self.assertRegex(total[0], r"^12\.34\d$")
            self.assertEqual(told["/no-language/"]["other"], ["12345", False, "polite", 1])
            self.assertEqual(told["/late/"]["late"][:3], ["1", False, "polite"])
            self.check_requests(gateway)
            stack.pause("flusher")
            with browsed([unknown], stack.port, AS_PEOPLE_HAVE_IT, site_port=port) as (site, _):
                told = wait_for("the page was shown", site.told, LIMIT_S)
            stack.resume("flusher")
            self.assertEqual({tuple(state[:2]) for state in told["/unknown/"].values()}, {("", True)})

    def check_requests(self, gateway: Gateway) -> None:
        """Two for a page that shows counts, however many; one more for the total."""
        of_shown = [(request.method, request.path) for request in gateway.requests if not request.path.endswith(".js")][:3]
        self.assertEqual(of_shown[0], ("POST", "/visit/%2Fshown%2F"))
        self.assertEqual(set(of_shown[1:]), {("POST", "/visits/query"), ("GET", "/total")})
        lists = [json.loads(request.body) for request in gateway.asked("/visits/query")]
        self.assertEqual(lists[0], ["/shown/", "/other/"])
        self.assertEqual(lists[2], [f"/article-{number}/" for number in range(60)])
        self.assertEqual([list(names) for names in lists[3:]], [["/late/two/"]])
        self.assertEqual([request for request in gateway.requests if request.method == "OPTIONS"], [])

    def test_it_works_under_a_strict_policy_and_is_what_the_site_has_the_hash_of(self):
        other = integrity(b"another script")
        seen = "const shown = () => document.querySelector('span').textContent; %s; return [shown(), violations];"
        waits = {True: "await until(shown)", False: "await sleep(1500)"}
        lines = {"/unpinned/": None, "/strict/": pinned_line(COUNT_1, SHOW_1), "/changed/": pinned_line(other, SHOW_1),
                 "/changed-part/": pinned_line(COUNT_1, other)}  # fmt: skip
        pages = [Page(path, script=line, body="<span data-visits></span>", before=VIOLATIONS, work=seen % waits["changed" not in path],
                      fields=STRICT)
                 for path, line in lines.items()]  # fmt: skip
        with Stack(frontends=1) as stack:
            told, gateway = self.walk(stack, [*pages, Page("/end/")])
            self.check(gateway, {"/strict/": 1, "/changed-part/": 1, "/unpinned/": 1, "/end/": 1})
            self.assertEqual({path: told[path] for path in lines},
                             {"/strict/": ["1", []], "/changed/": ["", []], "/changed-part/": ["", []], "/unpinned/": ["1", []]})  # fmt: skip

    def test_nothing_moves_and_nothing_waits(self):
        kept = [f"/kept-{number}/" for number in range(3)]
        pages = [Page(path, body=UNKEPT if path == "/unkept/" else KEPT, before=MEASURE, work=TELL_MEASURED) for path in (*kept, "/unkept/")]
        with Stack(frontends=1) as stack:
            stack.ask("POST", "/visits", b'{"/much/": 987654}')
            stack.get("/much/")
            told, _ = self.walk(stack, pages)
            print(f"\nlayout shift, and scripts of the counter that took long: {told}", flush=True)
            self.assertEqual([(told[path]["shift"], told[path]["text"]) for path in kept], [(0, "987,654")] * 3)
            self.assertGreater(told["/unkept/"]["shift"], 0)
            # A machine with other work may stand still in the middle of a script, but hardly each time.
            self.assertIn([], [told[path]["tasks"] for path in kept])

    def test_visits_of_a_site_are_counted_once_while_frontends_are_killed(self):
        """Nobody but the gateway learns what became of a beacon: what it was told was counted must have been, once. A frontend that
        is killed with a request that it has not answered yet leaves that one open."""
        pages = [f"/article-{number}/" for number in range(20)]
        leave = """const step = +(new URLSearchParams(location.search).get("step") ?? 0) + 1;
          location = step < %d ? %s[step %% 20] + "?step=" + step : "/end/";""" % (VISITS // BROWSERS, json.dumps(pages))  # noqa: UP031
        site = [*(Page(path, leave=leave, body=f"<h1>{path}</h1>") for path in pages), Page("/end/")]
        stack = Stack(frontends=3, supervised=True)
        with listening_at(stack.port) as listening, contextlib.ExitStack() as browsers:
            # It outlives the frontends, as systemd's does: who connects meanwhile waits.
            for name in stack.frontends:
                stack.processes[name].pass_sockets({"visitd.socket": listening})
            browsers.enter_context(stack)
            both = [browsers.enter_context(browsed(site, stack.port, AS_PEOPLE_HAVE_IT)) for _ in range(BROWSERS)]
            for number, share in ((1, 0.25), (2, 0.6)):
                wait_for("visits were sent", lambda share=share: sum(len(gateway.requests) for _, gateway in both) > share * VISITS, LIMIT_S)
                stack.kill9(f"frontend_{number}")
            wait_for("all pages were shown", lambda: all("/end/" in site.told() for site, _ in both), LIMIT_S)
            wait_for("all is sent", lambda: sum(gateway.answered.total() + len(gateway.unanswered) for _, gateway in both) >= VISITS + BROWSERS, 30)
            self.check_visits(stack, pages, [gateway for _, gateway in both])

    def check_visits(self, stack: Stack, pages: list[str], gateways: list[Gateway]) -> None:
        open_ones = [request.page for gateway in gateways for request in gateway.unanswered]
        sent = sum((collections.Counter(gateway.counted()) for gateway in gateways), collections.Counter())
        answered = sum((gateway.answered for gateway in gateways), collections.Counter())
        starts = sum(stack.processes[name].starts for name in stack.frontends)
        print(f"\n{sum(sent[page] for page in pages)} visits sent, {len(open_ones)} of them without an answer; {starts} starts of 3 frontends", flush=True)
        self.assertEqual({page: sent[page] for page in pages}, dict.fromkeys(pages, VISITS // len(pages)))
        for page in pages:
            least = answered[f"/visit/{quote(page, safe='')}"]
            self.assertEqual(least + open_ones.count(page), VISITS // len(pages), page)
            self.assertIn(stack.get(page), range(least, least + open_ones.count(page) + 1), page)

    def test_a_program_that_drives_a_browser_is_not_counted(self):
        with Stack(frontends=1) as stack:
            told, gateway = self.walk(stack, [Page("/driven/", work="return navigator.webdriver;")], "--enable-automation")
            self.assertEqual(told, {"/driven/": True})
            self.assertEqual(gateway.counted(), {})

    def test_each_version_is_served_for_good_and_the_current_one_for_a_day(self):
        with Stack(frontends=1) as stack:
            for prefix in ("", "/api/v1/counter"):
                for path, name, caching in (("/count.js", "count.1.js", "public, max-age=86400"),
                                            ("/count.1.js", "count.1.js", "public, max-age=31536000, immutable"),
                                            ("/show.1.js", "show.1.js", "public, max-age=31536000, immutable")):  # fmt: skip
                    answer = stack.ask("GET", prefix + path, headers={"Origin": "https://site.example"})
                    self.assertEqual((answer.status, answer.body), (200, script(name)), path)
                    self.assertEqual(answer.headers["Content-Type"], "text/javascript; charset=utf-8")
                    self.assertEqual(answer.headers["Cache-Control"], caching, path)
                    self.assertEqual(answer.headers["Access-Control-Allow-Origin"], "https://site.example")
                    again = stack.ask("GET", prefix + path, headers={"If-None-Match": answer.headers["ETag"]})
                    self.assertEqual((again.status, again.body, again.headers["Cache-Control"]), (304, b"", caching))

    def test_names_that_no_blocker_knows_are_served_beside_the_others_from_a_reload_on(self):
        with Stack(frontends=1) as stack:
            own = ("/s.js", "/s.1.js", "/api/v1/counter/s.js")
            self.assertEqual([stack.ask("GET", path).status for path in own], [404] * 3)
            self.assertEqual(stack.ask("POST", "/v/home").status, 404)
            stack.settings["http"] |= {"script_path": "/s.js", "visit_path": "/v/"}
            stack.write_settings()
            stack.processes["frontend_1"].running.send_signal(signal.SIGHUP)
            wait_for("the settings are taken", lambda: stack.ask("GET", "/s.js").status == 200)
            for path in (*own, "/count.js", "/count.1.js"):
                self.assertEqual(stack.ask("GET", path).body, script("count.1.js"), path)
            for path in ("/v/home", "/api/v1/counter/v/home", "/visit/home"):
                self.assertEqual(stack.ask("POST", path).status, 200, path)
            self.assertEqual([stack.ask(method, "/v/home").status for method in ("GET", "OPTIONS")], [405, 204])
            self.assertEqual(stack.ask("POST", "/v/home?count").json()["count"], 4)
            with browsed([Page("/own-names/", 'data-path="v"', body="<i data-visits></i>", work="await sleep(300);")], stack.port,
                         AS_PEOPLE_HAVE_IT, script="/s.js") as (site, gateway):  # fmt: skip
                wait_for("the page was shown", site.told, LIMIT_S)
            self.check(gateway, {"/own-names/": 1})
            self.check_held(stack, ["/own-names/"])

    def test_the_script_is_small_and_stays_what_sites_have_the_hash_of(self):
        size = len(gzip.compress(script("count.1.js"), 9, mtime=0))
        print(f"\ncount.1.js: {size} bytes compressed", flush=True)
        self.assertLessEqual(size, SCRIPT_LIMIT_BYTES)
        for name, pinned in (("count.1.js", COUNT_1), ("show.1.js", SHOW_1)):
            self.assertEqual(integrity(script(name)), pinned,
                             f"sites have this hash of {name} in their pages: leave the file, and add a version 2 beside it")  # fmt: skip


if __name__ == "__main__":
    unittest.main()
