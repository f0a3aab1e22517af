"""What a page may not say. Each check returns sentences; the build fails on any.

Guarded: an error or traceback in a page, a page older than its run, a number without a run, a synthetic
number in a real-data column, a picture without words, a missing index.
"""

import hashlib
import re
from html.parser import HTMLParser

import nbformat

from reid_core.runs.run import BOOK, OWN


def check(staged, built, records):
    """All complaints about the staged notebooks and the built pages."""
    complaints = [
        f"{source} failed: {record['failure']}" for source, record in records.items() if record["failure"]
    ]
    for source in records:
        complaints += errors_in(nbformat.read(staged / source, as_version=4), source)
    if not (built / "index.html").exists():
        complaints.append(f"expected index.html in {built}, found none")
    for page in sorted(built.glob("**/*.html")) if built.exists() else []:
        complaints += check_page(page.read_text(), page.relative_to(built))
    return complaints


def errors_in(notebook, source):
    """Error outputs of a notebook's cells."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [f"{source} holds an error: {o.ename}: {o.evalue}" for o in outputs if o.output_type == "error"]


def check_page(text, name):
    """Complaints about one built page."""
    parser = Page()
    parser.feed(text)
    found = [f"{name} holds a traceback"] if "Traceback (most recent call last)" in text else []
    for marks, content in parser.cells:
        found += [f"{name}: {complaint}" for complaint in check_cell(marks, content)]
    found += [
        f"{name} has a picture without alt text"
        for marks in parser.pictures
        if not marks.get("alt", "").strip()
    ]
    return found


def check_cell(marks, content):
    """Complaints about one cell of a table of numbers."""
    kinds = marks.get("class", "").split()
    if not {"real", "world"} & set(kinds) or not re.search(r"\d", content):
        return []
    if "data-run" not in marks:
        return [f"the number {content.strip()!r} has no run"]
    if "real" in kinds and marks["data-origin"] != "real":
        return [f"the {marks['data-origin']} number {content.strip()!r} stands in a column for real data"]
    runs = zip(marks["data-run"].split(), marks["data-sha"].split())
    return [
        f"the number {content.strip()!r} is older than its run {run}"
        for run, sha in runs
        if sha not in current(run)
    ]


def current(run):
    """What the run's file says now, in the digits that pages carry: the book's file, and that of a reader who
    trained again."""
    paths = [shelf.folder() / f"{run}.json" for shelf in (BOOK, OWN)]  # OWN follows $REID_BUILD
    return {hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in paths if path.exists()}


class Page(HTMLParser):
    """Collects the cells of tables and the pictures of figures."""

    def __init__(self):
        super().__init__()
        self.cells, self.pictures, self.open = [], [], None

    def handle_starttag(self, tag, attributes):
        marks = {name: value or "" for name, value in attributes}
        if tag == "td":
            self.open = (marks, [])
        if tag == "img" and marks.get("src", "").startswith("data:"):
            self.pictures.append(marks)

    def handle_data(self, data):
        if self.open:
            self.open[1].append(data)

    def handle_endtag(self, tag):
        if tag == "td" and self.open:
            self.cells.append((self.open[0], "".join(self.open[1])))
            self.open = None
