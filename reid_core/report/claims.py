"""The claims of a chapter beside what the runs say: the table of its landing page, and the box that opens
each page. Nothing here is typed from a run: each sentence is made from a verdict."""

from collections import Counter
from typing import NamedTuple

from IPython.display import HTML

from reid_core.report import ablations, tables
from reid_core.report.tables import NOT_RUN, STALE, Head, escaped
from reid_core.runs import intervals
from reid_core.runs.run import BOOK

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
METRIC = "mAP"  # of claims that name no other
WORDS = {"better": HOLDS, "worse": FAILS, intervals.UNCERTAIN: UNDECIDED}  # a claim says "better"


class Judged(NamedTuple):
    """A chapters.Claim beside its runs."""

    claim: object
    one: ablations.Compared  # its better row against the other
    place: str  # the title of the data set

    @property
    def verdict(self):
        """HOLDS, FAILS, UNDECIDED, STALE, NOT_RUN, or ablations.ONE_SEED."""
        return WORDS.get(self.one.verdict, self.one.verdict) if self.one.change else NOT_RUN

    @property
    def ours(self):
        """The Cell of our difference."""
        one = self.one
        pairs = ablations.alike(one.runs, one.others), ablations.alike(one.others, one.runs)
        wanted = ablations.seeds_wanted(one.row.specs) if one.row.specs else None
        return tables.change_cell(one.change, *pairs, one.row.task, one.other_task, self.claim.metric, wanted)


def judge(asked, shelf=BOOK):
    """A Judged for each (claim, Row of its better side, Row of the other, place): the comparison of ablation
    tables, with verdicts corrected for the number of claims."""
    made = []
    for claim, better, against, _ in asked:
        runs = ablations.found(better.specs, shelf, better.task)
        others = ablations.found(against.specs, shelf, against.task)
        made.append(ablations.beside(claim.id, better, runs, against, others, claim.metric))
    decided = ablations.decided(made)
    return [Judged(claim, one, place) for (claim, _, _, place), one in zip(asked, decided)]


def table(judged, caption):
    """The table of a list of Judged: a line per claim, with a link to its page and a bar on one scale."""
    reach = max([3.0, *map(reach_of, judged)])  # points; never so small that chance looks large
    rows = []
    drawn = {}  # tables.table escapes all that it prints: links and bars are put in afterwards
    for k, found in enumerate(judged):
        effect = tables.signed(found.one.effect, "paper")
        verdict = tables.verdict_cell(found.verdict)
        drawn[f"[claim {k}]"] = f'<a href="{found.claim.page}.html">{escaped(text_of(found))}</a>'
        drawn[f"[bar {k}]"] = bar(found, reach)
        rows.append([f"[claim {k}]", found.claim.where, effect, found.ours, f"[bar {k}]", verdict])
    less = [Head(name, minor=True) for name in ("in the paper", "its effect")]
    headings = [
        "claim",
        *less,
        "ours [95 %]",
        Head(f"from −{reach:.0f} to {reach:.0f} points", minor=True),
        "verdict",
    ]
    told = tables.table(headings, rows, f"{caption}. {counts(judged)}").data
    for mark, markup in drawn.items():
        told = told.replace(mark, markup)
    return HTML(told)


def text_of(found):
    """A claim; on the other data set with its name, and of another metric than mAP with that."""
    notes = [found.place] * found.claim.away + [found.claim.metric] * (found.claim.metric != METRIC)
    return f"{found.claim.text} ({', '.join(notes)})" if notes else found.claim.text


def reach_of(found):
    """The largest distance from zero, in points, that a claim's bar shows."""
    interval = found.one.change
    return max(abs(interval.low), abs(interval.high)) if interval else 0.0


COLOURS = {HOLDS: "#009e73", FAILS: "#e69f00"}  # matplotlib's okabe_ito, as in the forest plot; else grey


def bar(found, reach, width=110):
    """An SVG of a 95 % interval with its mean as a dot; the line in the middle is no effect."""
    interval = found.one.change
    if not interval:
        return "–"
    low, mean, high = (
        width * (0.5 + 0.48 * value / reach) for value in (interval.low, interval.mean, interval.high)
    )
    colour = COLOURS.get(found.verdict, "#777777")
    return (
        f'<svg width="{width}" height="14" role="img" aria-label="{escaped(found.verdict)}">'
        f'<path d="M{width / 2} 0V14" stroke="currentColor" opacity=".4"/>'
        f'<path d="M{low:.1f} 7H{high:.1f}" stroke="{colour}" stroke-width="3"/>'
        f'<circle cx="{mean:.1f}" cy="7" r="4" fill="{colour}"/></svg>'
    )


def counts(judged):
    """How many of a list of Judged have which verdict: "8 claims: holds 3, fails 2, undecided 3"."""
    said = Counter(found.verdict for found in judged)
    return f"{len(judged)} claims: " + ", ".join(f"{word} {many}" for word, many in said.items())


def box(page, judged):
    """The box that opens a page: a chapters.Box, and the Judged of its claims, the most important first."""
    sentences = [escaped(page.says), findings(judged), escaped(meaning(page, judged[0]))]
    return HTML(f'<div class="finding">{STYLE}<p>{" ".join(sentences)}</p></div>')


STYLE = (
    "<style>.finding{padding:.1rem 1rem;margin:1rem 0;border:1px solid rgba(128,128,128,.4);"
    "border-left:5px solid #0072b2}</style>"
)


def findings(judged):
    """The second sentence of a box: what was measured, claim by claim."""
    parts = [finding(found) for found in judged]
    return f"Measured here, in points of {METRIC}: {'; '.join(parts)}."


def finding(found):
    """A clause: claim, data, effect, seeds, verdict. Its number names its runs as a cell does."""
    what = escaped(found.claim.text)
    metric = f" {found.claim.metric}" if found.claim.metric != METRIC else ""
    if found.verdict == NOT_RUN:
        return f"“{what}” {NOT_RUN} on {escaped(found.place)}"
    cell = found.ours
    marks = ""
    for name, text in (tables.marks_of(cell.runs) | cell.asked).items():
        marks += f' data-{name}="{escaped(text)}"'
    seeds = found.one.spread.seeds
    many = metric + ("" if cell.note else f" ({seeds} seed{'s' * (seeds > 1)})")
    return (
        f'“{what}” on {escaped(found.place)}: <span class="world"{marks}>{escaped(cell.said)}</span>{many}, '
        f"<b>{escaped(found.verdict)}</b>"
    )


def meaning(page, found):
    """The third sentence of a box, by the verdict on its first claim."""
    ends = {HOLDS: page.holds, FAILS: page.fails}
    if any(run.data["origin"] == "real" for run in found.one.runs):  # of a reader: the book's are synthetic
        ends = {word: f"So the first claim {word} on {found.place}." for word in ends}
    return {**ends, **OPEN}.get(found.verdict, OPEN[UNDECIDED])


OPEN = {
    UNDECIDED: "So the effect, if there is one, is smaller than what so many seeds and people can show.",
    NOT_RUN: "So nothing can be said until these runs exist.",
    STALE: "These runs are of an older version of the synthetic world, so no verdict is given until they are "
    "measured again.",
    ablations.ONE_SEED: "One seed says nothing about the luck of training, so no verdict is given.",
}
