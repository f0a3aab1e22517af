"""Pages that are made from facts: status and parity; and notebooks as readers see them. What files and
messages say stands in tables of HTML, where nothing of it is taken for Markdown."""

import json
import platform
import re
from pathlib import Path

import decisions
import front
import torch

from reid_core.methods import PAPERS
from reid_core.report.tables import folded, paragraph, table
from reid_core.runs.run import BOOK, Run

ROOT = Path(__file__).resolve().parents[1]
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError)

RENDERED = re.compile(r"(\S+: (\d+ of \d+ files|\d+ shots rendered)\s*)+")  # what making a world prints
PARAMETERS = {"parameters", "injected-parameters"}  # tags


def presentable(page):
    """An executed notebook without what is no reader's business: parameters, where this machine had the copy,
    and the progress of making a world."""
    page.metadata.get("papermill", {}).pop("output_path", None)
    for cell in page.cells:
        tags = cell.metadata.get("tags", [])
        if PARAMETERS & set(tags):
            cell.metadata["tags"] = [*tags, "remove-cell"]
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if not RENDERED.fullmatch(one.get("text", ""))]
    return page


def generated(records):
    """({file name: text} of the pages that no hand writes, sentences about what they could not read)."""
    runs, broken = committed()
    compared, unread = parity()
    made = {
        **{name: front.filled(name, records, runs) for name in ("index.md", "references.md")},
        "status.md": status(records, runs, broken),
        "parity.md": compared,
        "decisions.md": decisions.page(),
    }
    return made, broken + unread


def status(records, runs, broken):
    """What ran for this book, what exists, and what does not yet."""
    return page(
        "# Status",
        f"Built with torch {torch.__version__}, Python {platform.python_version()}.",
        "## Pages",
        executed(records),
        "## Methods",
        methods(runs),
        "## Committed runs",
        committed_runs(runs),
        *map(paragraph, broken),
    )


def executed(records):
    rows = []
    for source, record in records.items():
        rows.append([source, record["profile"], f"{record['seconds']:.0f}", record["failure"] or "ran"])
    headings = ["notebook", "profile", "seconds", "state"]
    return as_html(headings, rows, "What was executed for this book")


def methods(runs):
    rows = []
    for name, paper in PAPERS.items():
        state = "runs" if paper.complete else "stages planned and checked, losses to come"
        count = sum(run.spec.method == name for run in runs)
        rows.append([f"{name}: {', '.join(paper.variants)}", state, count or "none"])
    return as_html(["method", "state", "committed runs"], rows, "What is written, and measured")


def page(*blocks):
    """Blocks of Markdown or HTML as a page: an empty line ends HTML."""
    return "\n\n".join(blocks) + "\n"


def as_html(headings, rows, caption):
    return table(headings, rows, caption).data


def committed():
    """(the runs of the book, a sentence about each file that holds none)."""
    runs = []
    broken = []
    for path in sorted(BOOK.folder().glob("*/*/*/*.json")):
        try:
            run = Run.read(path)
            facts_of(run)  # which the page needs
        except UNREADABLE as error:
            broken.append(told(path, "a run", error))
        else:
            runs.append(run)
    return runs, broken


def told(path, what, error):
    """The sentence about a file that does not hold what it should; one of ours says it already."""
    if str(path) in str(error):
        return str(error)
    return f"expected {what} in {path}, found {type(error).__name__} ({error}); restore the file."


def committed_runs(runs):
    if not runs:
        return "None yet: no run is committed before the synthetic world has met its gates."
    headings = ["run", "data", "minutes", "commit", "clean tree", "torch", "machine"]
    told = as_html(headings, list(map(facts_of, runs)), "Where each number was measured")
    stale = sum(bool(run.outdated) for run in runs)
    return folded(f"{len(runs)} runs, {stale} of them stale", told)


def facts_of(run):
    """The line of a run."""
    where = run.provenance
    data = f"{run.data['name']} ({run.data['origin']})"
    clean = "yes" if where["clean"] else "no"
    return [
        run.spec.name,
        data,
        run.cost["minutes"],
        where["commit"][:10],
        clean,
        where["torch"],
        run.machine,
    ]


PARITY = """\
# Parity with published code

Golden inputs and outputs of published code, and float64 evaluations of printed equations where no code
exists, lie in `tests/parity`. Each line is the largest difference between what the file says and what this
library computes, relative to the largest magnitude in the array (at least 1).

Three agree less well than float rounding: `topreid__k_reciprocal_rerank`, since the published re-ranking
rounds to float16, and `vladr__affinity_kl` and `vladr__stage2_step`, whose relations at temperature 0.005
enlarge rounding. Two comparisons are looser and leave no number here: CLIP-ReID's re-ranking in float16,
which ours meets to 1e-2 (and the same formula in float64 to rounding), and PAD's text distillation from a
copy of the student, whose later steps are rounding noise that Adam enlarges (5e-3)."""


def parity():
    """(the page of the largest difference from published code per golden file, as the tests last measured
    it, sentences about what could not be read)."""
    path = ROOT / "results" / "parity.json"
    if not path.exists():
        return page(PARITY, "Not measured yet."), []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return page(PARITY, covered(found), "## Not covered", uncovered(found)), []
    except UNREADABLE as error:
        broken = told(path, "the record of parity", error)
        return page(PARITY, paragraph(broken)), [broken]


def covered(found):
    rows = []
    for name, (worst, tests) in sorted(found["covered"].items()):
        # facts files hold words, not numbers
        difference = "facts" if worst is None else "exact" if worst == 0 else f"{worst:.1e}"
        rows.append([name, difference, tests])
    told = as_html(["golden file", "largest difference", "tests"], rows, "Compared with published code")
    return folded(f"{len(rows)} golden files, each with its largest difference", told)


def uncovered(found):
    rows = sorted(found["not covered"].items())
    return as_html(["golden file", "why"], rows, "What no test compares")
