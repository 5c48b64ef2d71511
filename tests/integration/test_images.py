#!/usr/bin/env python3
"""Images instead of a script: the pixel that counts, and badges, as clients and a real browser see them."""

import html
import json
import re
import subprocess
import tempfile
import unittest
import xml.dom.minidom
from pathlib import Path
from urllib.parse import quote

import chromium
from harness import SOURCE_ROOT, Stack, wait_for

PIXEL = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")
FONT = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")  # Debian: fonts-dejavu-core
LANGUAGES = re.findall(r'^    \{"([a-z-]+)", ', (SOURCE_ROOT / "frontend/images/count_format.cpp").read_text(), re.M)
COUNTS = (7, 999, 1000, 1234, 12345, 1234567, 123456789)


def way(page: str) -> str:
    return quote(page, safe="")


class Images(unittest.TestCase):
    maxDiff = None
    @classmethod
    def setUpClass(cls):
        cls.stack = cls.enterClassContext(Stack(frontends=2, settings={"http": {"badge_max_age_s": 90}}))

    def badge(self, page: str, query: str = "", headers: dict | None = None, form: str = "svg"):
        return self.stack.ask("GET", f"/badge/{way(page)}.{form}{'?' if query else ''}{query}", headers=headers)

    def message(self, page: str, query: str = "") -> str:
        return self.badge(page, query, form="json").json()["message"]

    def test_a_pixel_counts_each_time_it_is_asked_for(self):
        for number in range(1, 6):
            answer = self.stack.ask("GET", f"/pixel/{way('/blog/pixel')}.gif")
            self.assertEqual((answer.status, answer.body), (200, PIXEL))
            self.assertEqual(self.stack.get("/blog/pixel"), number)
        self.assertEqual(answer.headers["Content-Type"], "image/gif")
        self.assertEqual(answer.headers["Cache-Control"], "no-store")
        self.assertEqual(answer.headers["Cross-Origin-Resource-Policy"], "cross-origin")

    def test_a_page_may_have_slashes_and_dots_and_end_like_an_image(self):
        for page in ("a/b/c", "/a.gif", "x.gif.gif", "/2024/从零开始/", "q?x=1"):
            for written in (way(page), quote(page, safe="/")):
                self.assertEqual(self.stack.ask("GET", f"/pixel/{written}.gif").status, 200)
            self.assertEqual(self.stack.get(page), 2, page)

    def test_who_asks_for_fields_alone_does_not_count(self):
        self.assertEqual(self.stack.ask("HEAD", "/pixel/head.gif").status, 200)
        self.assertEqual(self.stack.ask("HEAD", "/badge/head.svg?count").status, 200)
        self.assertEqual(self.stack.get("head"), 0)

    def test_a_badge_shows_the_count_and_does_not_add_to_it(self):
        for _ in range(3):
            self.stack.post("shown")
        for _ in range(5):
            answer = self.badge("shown")
        self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, "image/svg+xml; charset=utf-8"))
        self.assertIn("visits: 3", answer.body.decode())
        self.assertEqual(answer.headers["Cache-Control"], "public, max-age=90")
        self.assertEqual(self.stack.get("shown"), 3)

    def test_a_badge_counts_when_it_is_told_to_and_is_then_not_kept(self):
        for number in range(1, 4):
            answer = self.badge("counted", "count")
            self.assertIn(f"visits: {number}<", answer.body.decode())
        self.assertEqual((answer.headers["Cache-Control"], answer.headers.get("ETag")), ("no-store", None))
        self.assertEqual(self.stack.get("counted"), 3)

    def test_a_badge_that_has_not_changed_is_not_sent_again(self):
        self.stack.post("tagged")
        first = self.badge("tagged")
        for known in (first.headers["ETag"], f'W/{first.headers["ETag"]}, "x"', "*"):
            again = self.badge("tagged", headers={"If-None-Match": known})
            self.assertEqual((again.status, again.body, again.headers["ETag"]), (304, b"", first.headers["ETag"]), known)
        self.stack.post("tagged")
        wait_for("the new count", lambda: self.stack.shows("tagged", 2))
        changed = self.badge("tagged", headers={"If-None-Match": first.headers["ETag"]})
        self.assertEqual(changed.status, 200)
        self.assertIn("visits: 2<", changed.body.decode())

    def test_shields_gets_what_its_endpoint_wants(self):
        self.stack.ask("POST", "/visits", json.dumps({"endpoint": 99}).encode())
        self.stack.ask("POST", "/visits", json.dumps({"endpoint": 99}).encode())
        answer = self.badge("endpoint", "label=hits&color=4c1&labelColor=black&style=flat-square&abbreviate", form="json")
        wanted = {"schemaVersion": 1, "label": "hits", "message": "198", "color": "#44cc11", "labelColor": "#000000", "style": "flat-square"}
        self.assertEqual((answer.status, answer.json()), (200, wanted))
        self.assertEqual(self.badge("endpoint", form="json").json(), {"schemaVersion": 1, "label": "visits", "message": "198"})
        refused = self.badge("endpoint", "count", form="json")
        self.assertEqual((refused.status, refused.json()["parameter"]), (400, "count"))
        self.assertEqual(self.stack.get("endpoint"), 198)

    def test_what_is_refused_can_be_seen(self):
        for target in ("/badge/a.svg?color=nocolour", "/badge/a.svg?label=%0A", "/badge/a.svg?style=x", "/badge/a.svg?locale=x", "/badge/a.svg?x",
                       f"/badge/{'a' * 2000}.svg", "/badge/.svg", "/pixel/%FF.gif", "/pixel/%4.gif", "/pixel/.gif"):  # fmt: skip
            told = self.stack.ask("GET", target)
            self.assertEqual((told.status, told.headers["Content-Type"], told.json()["status"]), (400, "application/problem+json", 400), target)
            answer = self.stack.ask("GET", target, headers={"Accept": "image/avif,image/webp,*/*;q=0.8"})
            self.assertEqual((answer.status, answer.headers["Content-Type"]), (400, "image/svg+xml; charset=utf-8"), target)
            self.assertIn(told.json()["detail"][:30], answer.body.decode().replace("&quot;", '"').replace("&#39;", "'"))
            self.assertEqual(answer.headers["Cache-Control"], "no-store")
            xml.dom.minidom.parseString(answer.body)
        for label in ("<script>alert(1)</script>", '"><svg onload=alert(1)>', "&lt;", "\uffff", "]]>"):
            answer = self.badge("a", f"label={way(label)}")
            self.assertEqual(answer.status, 200)
            drawn = xml.dom.minidom.parseString(answer.body)
            self.assertEqual(drawn.getElementsByTagName("script").length, 0)
            self.assertEqual(drawn.getElementsByTagName("text")[0].firstChild.data, label.replace("\uffff", "\ufffd"))

    def test_other_methods_and_endings_are_refused(self):
        self.assertEqual(self.stack.ask("POST", "/pixel/a.gif").status, 405)
        self.assertEqual(self.stack.ask("GET", "/pixel/a.png").status, 404)
        self.assertEqual(self.stack.ask("GET", "/badge/a").status, 404)
        self.assertEqual(self.stack.ask("GET", "/api/v1/counter/badge/a.svg").status, 200)

    def show(self, script: str, style: str = "", *options: str) -> dict:
        """What a page of ours finds out in a browser."""
        base = f"http://127.0.0.1:{self.stack.port}"
        page = (
            f"<!doctype html><meta charset=utf-8><style>{style}</style><body><script>const base={json.dumps(base)};"
            f"const load = (source) => new Promise((done, fail) => {{ const image = new Image(); image.onload = () => done(image);"
            f"image.onerror = () => fail(source); image.src = base + source; document.body.append(image); }});"
            f"(async () => {{ try {{ document.title = JSON.stringify(await (async () => {{ {script} }})()); }}"
            f"catch (error) {{ document.title = JSON.stringify({{error: String(error)}}); }} }})();</script>"
        )
        with tempfile.TemporaryDirectory(prefix="visitd-images-") as folder:
            file = Path(folder) / "page.html"
            file.write_text(page)
            shown = chromium.show(f"file://{file}", f"{folder}/profile", *options)
        title = re.search(r"<title>(.*?)</title>", shown.stdout)
        self.assertTrue(title, shown.stdout + shown.stderr)
        return json.loads(html.unescape(title[1]))

    def test_a_browser_shows_pixel_badges_and_refusals(self):
        self.stack.post("browsed")
        found = self.show("""
          const sizes = {};
          for (const source of ["/pixel/browsed.gif", "/badge/browsed.svg", "/badge/browsed.svg?style=for-the-badge", "/badge/browsed.svg?color=x"]) {
            const image = await load(source);
            sizes[source] = [image.naturalWidth, image.naturalHeight];
          }
          return sizes;""")
        self.assertEqual(found["/pixel/browsed.gif"], [1, 1])
        self.assertEqual([size[1] for size in found.values()], [1, 20, 28, 20])
        self.assertGreater(found["/badge/browsed.svg?color=x"][0], 200)

    def test_texts_are_as_wide_in_a_browser_as_the_badge_leaves_room(self):
        labels = ("visits", "WWWW iiii", "Besuche für Groß", "посещения", "επισκέψεις")  # the scripts of the table
        found = self.show(f"""
          const widths = {{}};
          for (const label of {json.dumps(labels)}) {{
            const text = await (await fetch(base + "/badge/a.svg?label=" + encodeURIComponent(label))).text();
            const at = document.createElement("div"); at.innerHTML = text; document.body.append(at);
            const drawn = at.querySelector("text");
            const told = parseFloat(drawn.getAttribute("textLength"));
            drawn.removeAttribute("textLength"); drawn.removeAttribute("lengthAdjust");
            at.querySelector("g[font-family]").setAttribute("font-family", "DejaVu Sans");
            widths[label] = [told, drawn.getComputedTextLength()];
          }}
          return widths;""", "", "--disable-web-security")  # fmt: skip
        for label, (told, measured) in found.items():
            self.assertAlmostEqual(told, measured, delta=measured * 0.02, msg=label)

    def test_counts_are_written_as_the_browser_writes_them(self):
        for count in COUNTS:
            self.stack.ask("POST", "/visits", json.dumps({f"/formats/{count}": count}).encode())
        written = self.show(f"""
          return Object.fromEntries({json.dumps(LANGUAGES)}.map((language) => [language,
            {json.dumps(COUNTS)}.map((count) => new Intl.NumberFormat(language).format(count))]));""")
        self.assertGreater(len(LANGUAGES), 40)
        ours = {language: [self.message(f"/formats/{count}", f"locale={language}") for count in COUNTS] for language in LANGUAGES}
        self.assertEqual({language: ours[language] for language in LANGUAGES if ours[language] != written[language]},
                         {language: written[language] for language in LANGUAGES if ours[language] != written[language]})  # fmt: skip


class Widths(unittest.TestCase):
    def test_the_table_is_that_of_the_font(self):
        folder = SOURCE_ROOT / "frontend/images"
        with tempfile.TemporaryDirectory(prefix="visitd-widths-") as made:
            table = Path(made) / "text_widths.hpp"
            subprocess.run([folder / "text_widths.py", FONT, table], check=True, timeout=60)
            self.assertEqual(table.read_text(), (folder / table.name).read_text(), "write it again with frontend/images/text_widths.py")


class Unknown(unittest.TestCase):
    def test_a_count_that_nobody_knows_is_no_zero(self):
        settings = {"http": {"lookup_timeout_ms": 200}}
        with Stack(frontends=1, settings=settings) as stack:
            for shard in stack.shards:
                stack.pause(shard.name)
            try:
                drawn = stack.ask("GET", "/badge/never-read.svg")
                told = stack.ask("GET", "/badge/never-read.json")
            finally:
                for shard in stack.shards:
                    stack.resume(shard.name)
        self.assertEqual((drawn.status, drawn.headers["Cache-Control"], drawn.headers.get("ETag")), (200, "no-store", None))
        self.assertIn("visits: unknown", drawn.body.decode())
        self.assertEqual(told.json(), {"schemaVersion": 1, "label": "visits", "message": "unknown", "isError": True})


if __name__ == "__main__":
    unittest.main(verbosity=2)
