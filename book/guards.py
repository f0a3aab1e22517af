"""What a page may not say. Each check returns sentences; the build fails on any.

Guarded: a copy that is not what its record says was executed, an error or traceback in a page, a page older
than its run, a number without a run or other than its run says, a synthetic number in a real-data column, a
picture without words, a script or a picture from the network, a place on the machine that built the page, a
missing index.

Out of reach: a number in running text, in a caption or in a plain cell (counts, settings, what papers print)
that has no ±; a number that a notebook computes from runs in its own way, whose cell names its runs but no
measure; a record that was forged together with its copy.
"""

import functools
import hashlib
import re
from html.parser import HTMLParser

import nbformat

from data_prep.catalogue import ROOT, build_folder
from reid_core.report import ablations, tables
from reid_core.runs.run import BOOK, OWN, Run

SETTLED = {"profile", "seconds", "failure", "source", "executed", "cells"}  # what a record tells


def digest(path):
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_copies(folder, root, records):
    """Complaints about executed notebooks that are not what their records tell."""
    complaints = []
    for source, record in records.items():
        if record["source"] != digest(root / source):
            complaints.append(f"{source} was edited after it was executed")
        if record["executed"] != digest(folder / source):
            complaints.append(
                f"the executed copy of {source} is not the one that its record tells of; remove both"
            )
        wanted = len(cells(nbformat.read(root / source, as_version=4))) + 1  # and the injected parameters
        if not record["failure"] and record["cells"] != wanted:
            complaints.append(f"{source}: {record['cells']} of {wanted} code cells ran")
    profiles = sorted({record["profile"] for record in records.values()})
    if len(profiles) > 1:
        complaints.append(f"expected pages of one profile, found {' and '.join(profiles)}")
    return complaints


def cells(notebook):
    """The code cells that hold code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def ran(notebook):
    """How many of them were executed."""
    return sum(cell.execution_count is not None for cell in cells(notebook))


def check(staged, built, records):
    """All complaints about the staged notebooks and the built pages."""
    complaints = [
        f"{source} failed: {record['failure']}" for source, record in records.items() if record["failure"]
    ]
    for source in records:
        complaints += errors_in(nbformat.read(staged / source, as_version=4), source)
    if not (built / "index.html").exists():
        complaints.append(f"expected index.html in {built}, found none")
    for page in sorted(built.glob("**/*.html")):
        name = page.relative_to(built)
        if name.parts[0] != "_static":  # Sphinx's own
            complaints += check_page(page.read_text(encoding="utf-8"), name)
    return complaints


def errors_in(notebook, source):
    """Error outputs of a notebook's cells, and the mark that papermill leaves of one."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    found = [f"{source} holds an error: {o.ename}: {o.evalue}" for o in outputs if o.output_type == "error"]
    if not found and notebook.metadata.get("papermill", {}).get("exception"):
        found.append(f"{source} is marked as failed by papermill")
    return found


COLOUR = re.compile(r"\x1b\[[\d;]*m")  # of a terminal


SPHINXS = ("index.html", "search.html")  # pages with nothing of ours but titles


def check_page(text, name):
    """Complaints about one built page."""
    parser = Page(whole="<article" not in text and str(name) not in SPHINXS)
    parser.feed(text)
    parser.close()
    words = re.sub(r"\s+", " ", COLOUR.sub("", "".join(parser.words)))
    found = ["holds a traceback"] if "Traceback (most recent call last)" in words else []
    places = {str(place) for place in (ROOT, build_folder().resolve())}
    found += ["names a place on the machine that built it"] if any(one in words for one in places) else []
    found += parser.faults()
    for tag, marks, content in parser.cells:
        found += check_cell(tag, marks, content.strip())
    return [f"{name}: {complaint}" for complaint in found]


DATA = {"real", "world"}  # classes of what shows a number, by its data


def check_cell(tag, marks, content):
    """Complaints about one cell of a table, one caption, or one number in a sentence."""
    kinds = marks.get("class", "").split()
    counts = tag in ("td", "span") and DATA & set(kinds) and re.search(r"\d", content)
    if not counts and "±" not in content:
        return []
    names = marks.get("data-run", "").split()
    digits = marks.get("data-sha", "").split()
    if not names:
        return [f"the number {content!r} has no run"]
    if len(names) != len(digits) or "data-origin" not in marks:
        return [f"the number {content!r} does not say which files and which data it comes from"]
    if "real" in kinds and marks["data-origin"] != "real":
        return [f"the {marks['data-origin']} number {content!r} stands in a column for real data"]
    runs = list(zip(names, digits, strict=True))
    aged = [run for run, sha in runs if sha not in current(run)]
    if aged:
        return [f"the number {content!r} is older than its run {run}" for run in aged]
    return other_than_runs(marks, content, runs)


def other_than_runs(marks, content, runs):
    """A complaint where a cell does not say what its runs say."""
    if "data-metric" not in marks:
        return [f"the number {content!r} does not say what it measures"] if "±" in content else []
    paths = [files(name)[sha] for name, sha in runs]
    if any(len(shelves) > 1 for shelves in map(shelves_of, sides(paths, marks))):
        return [f"the number {content!r} mixes the book's runs with a reader's"]
    try:
        told = said([run_in(path, sha) for path, (_, sha) in zip(paths, runs)], marks)
        told = f"{told} {marks.get('data-remark', '')}".strip()
    except (ValueError, KeyError) as error:
        return [f"the number {content!r} cannot be checked: {error}"]
    shown = " ".join(content.split()).removesuffix(f"({tables.STALE})").strip()  # split: it is padded
    return [] if shown == told else [f"the number {content!r} is not that of its runs, {told!r}"]


def said(runs, marks):
    """The text of a cell with these marks, computed again."""
    test = marks.get("data-test")
    metric = marks["data-metric"]
    wanted = int(marks["data-wanted"]) if "data-wanted" in marks else None
    if "data-against" not in marks:
        return tables.ours(runs, metric, test, wanted).said
    own, others = sides(runs, marks)
    base = marks.get("data-base")
    change = ablations.paired(own, others, test, base, metric)
    return tables.change_cell(change, own, others, test, base, metric, wanted).said


def sides(runs, marks):
    """What a cell shows: the runs of its number, or those of both sides of its difference."""
    if "data-against" not in marks:
        return [runs]
    own = len(runs) - int(marks["data-against"])
    return [runs[:own], runs[own:]]


def shelves_of(paths):
    """Which shelves the files of runs lie on."""
    return {path.is_relative_to(OWN.folder()) for path in paths}


@functools.lru_cache(maxsize=512)
def run_in(path, sha):
    """The run in a file, read once for all its cells; `sha` tells two contents of the file apart."""
    return Run.read(path)


def current(run):
    """What the run's file says now, in the digits that pages carry."""
    return set(files(run))


def files(run):
    """{digits: path} of the run's files: the book's, and that of a reader who trained again."""
    paths = [shelf.folder() / f"{run}.json" for shelf in (BOOK, OWN)]  # OWN follows $REID_BUILD
    return {digest(path)[:12]: path for path in paths if path.exists()}


RUNS_CODE = {"script", "iframe", "object", "embed", "base", "meta", "link", "form"}
LOADS = {"src", "srcset", "poster", "data", "background", "style"}  # attributes that a browser fetches from
LEADS = ("href", "src", "action", "data")  # how the names of attributes end that a browser may follow
THEBE = re.compile(r"\s*kernelName = '\w+'\s*")  # the script that Sphinx puts into every article


class Page(HTMLParser):
    """Collects the words, the cells and captions of tables and figures, and the faults of what the project
    put into a page: of its article, around which Sphinx has scripts of its own; `whole`: of all of it."""

    def __init__(self, whole):
        super().__init__()
        self.inside = whole
        self.articles = []  # whether each of its tags opens
        self.words, self.cells, self.open, self.found = [], [], [], []
        self.spans = []  # the open ones, of which some hold a number in a sentence
        self.script = None  # the marks and words of an open one

    def faults(self):
        unbalanced = ["holds a table cell that is not closed"] if self.open else []
        whole = self.articles in ([], [True, False])
        split = [] if whole else ["opens or closes an article of its own"]  # outside, scripts are Sphinx's
        hanging = ["holds a script that is not closed"] if self.script else []
        return [*self.found, *unbalanced, *split, *hanging]

    def handle_starttag(self, tag, attributes):
        marks = {name: value or "" for name, value in attributes}
        if tag == "article":
            self.articles.append(True)
            self.inside = True
        if tag in ("td", "th", "caption", "figcaption"):
            self.open.append((tag, marks, []))
            if [one for one, _, _ in self.open].count(tag) > 1:
                self.found.append("holds a table cell inside another, or one that is not closed")
        if tag == "span":
            self.spans.append((marks, []))
        if tag == "img" and not marks.get("alt", "").strip():
            self.found.append("has a picture without alt text")
        if tag == "script":
            self.script = (marks, [])
        elif self.inside:
            self.found += active(tag, marks)

    def handle_data(self, data):
        if self.script:
            self.script[1].append(data)
            return
        self.words.append(data)
        for *_, content in (*self.open, *self.spans):
            content.append(data)

    def handle_endtag(self, tag):
        if tag == "article":
            self.articles.append(False)
            self.inside = False
        if tag == "script" and self.script:
            self.found += self.strange(*self.script)
            self.script = None
        if tag == "span" and self.spans:
            marks, content = self.spans.pop()
            if DATA & set(marks.get("class", "").split()):
                self.cells.append((tag, marks, "".join(content)))
        if self.open and tag == self.open[-1][0]:
            one, marks, content = self.open.pop()
            self.cells.append((one, marks, "".join(content)))

    def strange(self, marks, words):
        """A complaint about a script in the article that is not one of Sphinx's."""
        if marks:
            own = marks == {"type": "text/x-thebe-config"}  # data, not code
        else:
            own = THEBE.fullmatch("".join(words))
        return ["holds a script"] if self.inside and not own else []


def active(tag, marks):
    """Complaints about an element that runs code, or fetches something from the network."""
    found = [f"holds an element {tag!r}"] if tag in RUNS_CODE else []
    for name, value in marks.items():
        plain = re.sub(r"[\x00-\x20]", "", value).lower()  # as browsers read an address
        runs = name.endswith(LEADS) and plain.startswith(("javascript:", "vbscript:", "data:text/html"))
        if name.startswith("on") or runs:
            found.append(f"holds a script in the attribute {name!r} of {tag!r}")
        fetches = name in LOADS or (tag in ("image", "use") and name.endswith("href"))
        if fetches and not plain.startswith("data:") and re.search(r"(^|[,(\"'])(https?:)?//", plain):
            found.append(f"fetches {value[:80]!r} from the network")
    return found
