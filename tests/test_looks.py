"""The built book as a browser lays it out: nothing is cut at either width, and captions can be read.

Chromium opens each page in an iframe of the width of a phone or a laptop, and a script counts. The tests need
Chromium and a built book: that of `make book`, or the folder of pages that $REID_BOOK names.
"""

import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BOOK = Path(os.environ.get("REID_BOOK", ROOT / "build" / "book" / "_build" / "html"))
WIDTHS = (390, 1280)
MODES = ("light", "dark")
CONTRAST = 4.5  # of text, as the accessibility guidelines (WCAG 2, AA) have it
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.slow
COUNTS = """<!DOCTYPE html><html><body><iframe id="page" style="border:0;height:900px"></iframe>
<script>
const pages = %s, widths = %s, modes = %s, least = %s, found = [];
const frame = document.getElementById("page");
function linear(v) { return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }
function light(c) {
  const [r, g, b] = c.slice(0, 3).map(v => linear(v / 255));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function numbers(text) {
  const c = text.match(/[\\d.]+/g).map(Number);
  return c.length > 3 ? c : [...c, 1];
}
function behind(node, view) {  // the colour below a text, through those that let others shine through
  let found = [0, 0, 0], left = 1;
  for (; node && left > 0; node = node.parentElement) {
    const c = numbers(view.getComputedStyle(node).backgroundColor);
    found = found.map((v, k) => v + left * c[3] * c[k]);
    left *= 1 - c[3];
  }
  return found.map(v => v + left * 255);
}
function opacity(node, view) {
  let all = 1;
  for (; node; node = node.parentElement) all *= Number(view.getComputedStyle(node).opacity);
  return all;
}
function contrast(node, view) {
  const back = behind(node, view), front = numbers(view.getComputedStyle(node).color);
  const a = front[3] * opacity(node, view);
  const seen = [0, 1, 2].map(k => a * front[k] + (1 - a) * back[k]);
  const [high, low] = [light(seen), light(back)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}
function scrolls(node, view) {  // whether a box within the article lets a reader scroll sideways
  for (; node && node.tagName != "ARTICLE"; node = node.parentElement)
    if (["auto", "scroll"].includes(view.getComputedStyle(node).overflowX)) return true;
  return false;
}
function inspect(page, width, mode) {
  const view = frame.contentWindow, root = view.document.documentElement;
  const article = view.document.querySelector("article");
  if (!article) return;
  root.dataset.theme = mode;
  const say = node => node.textContent.trim().replace(/\\s+/g, " ").slice(0, 60);
  const tell = (what, node) => found.push([page, width, mode, what, say(node)]);
  const out = node => node.getBoundingClientRect().right > width + 1;
  const cut = node => node.scrollWidth > node.clientWidth + 1;
  const shown = words => [...article.querySelectorAll(words)].filter(node => node.offsetParent);
  for (const node of shown("pre")) if (cut(node)) tell("code is cut", node);
  for (const node of shown("table")) if (out(node) && !scrolls(node, view)) tell("a table is cut", node);
  for (const node of shown("figcaption, caption")) {
    if (out(node) || cut(node)) tell("a caption is cut", node);
    if (contrast(node, view) < least) tell("a caption is pale", node);
  }
  for (const node of shown("td, th, summary, .finding p, .badge, .three span, .wishes span"))
    if (node.textContent.trim() && contrast(node, view) < least) tell("words are pale", node);
  for (const row of shown("table.numbers thead tr:last-child"))
    if (width < 560 && [...row.cells].filter(node => node.offsetParent).length > 4)
      tell("a phone has no room for so many columns", row);
  for (const node of article.querySelectorAll("img"))
    if (!node.alt.trim()) tell("a picture has no words", node);
  if (width > 1000 && article.scrollHeight > 6000) tell("a page is longer than six thousand pixels", article);
  if (root.scrollWidth > width + 1) tell("the page is wider than the screen", article);
  const front = article.querySelector(".front"), board = article.querySelector("figure.numbers");
  if (front && width > 1000 && board.getBoundingClientRect().bottom > 800)
    tell("the front page is longer than its screens", board);
  if (front && width < 400 && root.scrollHeight > 2 * 844)
    tell("the front page is longer than its screens", article);
}
async function all() {
  for (const page of pages) for (const width of widths) {
    frame.style.width = width + "px";
    await new Promise(done => { frame.onload = done; frame.src = page; });
    for (const mode of modes) inspect(page, width, mode);
  }
  document.body.innerHTML = '<pre id="found"></pre>';
  document.getElementById("found").textContent = "FOUND" + JSON.stringify(found) + "END";
}
all();
</script></body></html>"""


def pages():
    """Every page that the project wrote, relative to the book."""
    return [
        str(path.relative_to(BOOK))
        for folder in ("book", "notebooks")
        for path in sorted((BOOK / folder).rglob("*.html"))
    ]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the book with the counting page in front, and prints nothing."""

    def do_GET(self):
        if self.path != "/counting.html":
            return super().do_GET()
        told = COUNTS % (json.dumps(pages()), json.dumps(WIDTHS), json.dumps(MODES), CONTRAST)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(told.encode())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """[(page, width, mode, fault, text)] of every fault of the built book."""
    if not BROWSER:
        pytest.skip("Chromium is not installed: how pages look is not measured")
    if not pages():
        pytest.skip(f"no book at {BOOK}: make book, and how pages look is measured")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(BOOK)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        return seen(
            f"http://127.0.0.1:{server.server_port}/counting.html", tmp_path_factory.mktemp("browser")
        )
    finally:
        server.shutdown()


def seen(address, profile):
    """What the counting page found."""
    words = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",  # as on a phone
        f"--user-data-dir={profile}",
        "--virtual-time-budget=600000",
    ]
    done = subprocess.run(
        [BROWSER, *words, "--dump-dom", address], capture_output=True, text=True, timeout=300
    )
    told = re.search(r"FOUND(.*)END</pre>", done.stdout, re.S)
    assert told, f"the browser did not come to an end: {done.stderr[-500:]}"
    return json.loads(told[1].replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))


@pytest.mark.parametrize(
    "fault",
    [
        "code is cut",
        "a table is cut",
        "a caption is cut",
        "a caption is pale",
        "words are pale",
        "a phone has no room for so many columns",
        "the front page is longer than its screens",
        "a picture has no words",
        "a page is longer than six thousand pixels",
        "the page is wider than the screen",
    ],
)
def test_nothing_is_cut_or_pale_at_either_width(counted, fault):
    assert [one for one in counted if one[3] == fault] == []


CELL = re.compile(r'data-sha="(\w+)[^>]*><a class="run" href="([^"]+)"')


def test_every_number_is_two_clicks_from_the_json_of_its_run():
    if not pages():
        pytest.skip(f"no book at {BOOK}: make book, and its links are followed")
    for page in pages():
        for digits, address in CELL.findall((BOOK / page).read_text(encoding="utf-8")):
            assert digits in kept((BOOK / page).parent / address), (page, address)


@functools.cache
def kept(page):
    """The first digits of the SHA-256 of the files that a run page offers."""
    names = re.findall(r'href="([^"]+\.json)" download', page.read_text(encoding="utf-8"))
    return [hashlib.sha256((page.parent / name).read_bytes()).hexdigest()[:12] for name in names]


def test_a_page_has_one_search_box():
    if not pages():
        pytest.skip(f"no book at {BOOK}: make book, and search boxes are counted")
    for page in pages():
        text = (BOOK / page).read_text(encoding="utf-8")
        header = re.search(r"<header.*?</header>", text, re.S)
        assert text.count("search-button-field") <= 1, page
        assert not header or "search-button-field" not in header[0], page
