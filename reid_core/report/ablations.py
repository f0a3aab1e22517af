"""Tables that compare: ours beside the paper's numbers, and ablation rows against a reference row, with
paired intervals, verdicts, and the smallest difference that a table can resolve."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from IPython.display import HTML

from reid_core.report.tables import (
    NOT_RUN,
    STALE,
    change_cell,
    ours,
    paragraph,
    printed,
    ranked_how,
    signed,
    table,
)
from reid_core.runs import intervals
from reid_core.runs.run import BOOK


def comparison(specs, metrics, wanted, caption, shelf=BOOK):
    """A table of the paper's numbers beside ours: `specs` {row: [Spec per seed]}, `wanted` {(row, metric):
    printed value}. Numbers on the world stand in a column of their own and are not subtracted from the
    paper's; the protocols of ours stand in the caption."""
    headings, rows, protocols = ["row"], [], {}
    for metric in metrics:
        headings += [f"{metric}, paper", f"{metric}, ours on real data", f"{metric}, ours on the world"]
    for label, row in specs.items():
        runs = found(row, shelf)
        cells, protocols = [label], protocols | dict.fromkeys(run.protocol() for run in runs)
        for metric in metrics:
            real, world = ([r for r in runs if r.data["origin"] == kind] for kind in ("real", "world"))
            cells += [printed(wanted.get((label, metric))), ours(real, metric), ours(world, metric)]
        rows.append(cells)
    return table(headings, rows, caption + ranked_how(protocols))


class Row(NamedTuple):
    """An ablation row: its specs, one per seed; its test, None for a run's first; the printed number or
    None."""

    specs: list
    task: str | None = None
    printed: float | None = None


def ablation(rows, reference, caption, metric="mAP", shelf=BOOK, printed_on=""):
    """A table of {label: Row}, each compared with the row `reference`, pair by pair of seeds. The smallest
    difference that it can resolve stands above it.

    An effect is a row minus the reference, in points; ours has its 95 % interval. The verdict compares its
    sign with that of the printed effect, which was measured on the data set `printed_on`. Columns of the
    paper are left out where it prints nothing.
    """
    lines, protocols, labels = [], {}, {}
    paper = any(row.printed is not None for row in rows.values())
    beside_it = compared(rows, reference, shelf)
    for one in beside_it:
        protocols |= dict.fromkeys(run.protocol(one.row.task) for run in one.runs)
        labels |= dict.fromkeys(run.data["origin"] for run in one.runs)
        theirs = [printed(one.row.printed), signed(one.effect, "paper")] * paper
        lines.append(
            [
                one.label,
                *theirs,
                ours(one.runs, metric, one.row.task),
                change_cell(one.change, [*one.runs, *one.others]),
                spoken(one),
            ]
        )
    headings = two_columns(metric, f", paper{f' on {printed_on}' if printed_on else ''}") * paper
    headings += two_columns(metric, ", ours" + "".join(f" on {PLACES[one]}" for one in labels))
    told = table(["row", *headings, "verdict"], lines, caption + finding(beside_it) + ranked_how(protocols))
    return HTML(detectable(rows[reference], shelf) + told.data)


def finding(rows):
    """The end of a caption: how many of a list of Compared have which verdict, and the largest effect whose
    interval leaves out zero."""
    verdicts = Counter(one.verdict for one in rows if one.change and one.verdict != ONE_SEED)
    if not verdicts:
        return ""
    told = (
        f". {sum(verdicts.values())} compared: "
        f"{', '.join(f'{many} {said}' for said, many in verdicts.items())}"
    )
    sure = [one for one in rows if one.change and one.verdict not in (ONE_SEED, STALE, intervals.UNCERTAIN)]
    largest = max(sure, key=lambda one: abs(one.change.mean), default=None)
    return told + (f"; the largest is {largest.change.mean:+.1f}, {largest.label}" if largest else "")


PLACES = {"world": "the world", "real": "real data"}


def two_columns(metric, whose):
    """Headings of a number and of its effect."""
    return [metric + whose, "effect" + whose]


def spoken(one):
    """A verdict as a table says it; "cannot tell" with the number of seeds that would be needed."""
    if one.verdict != intervals.UNCERTAIN:
        return one.verdict
    seeds = intervals.seeds_needed(one.spread)
    more = f"{seeds} seeds would" if seeds else f"no {intervals.MOST_SEEDS} seeds would"
    return f"{one.verdict} ({more})"


class Compared(NamedTuple):
    """A Row beside the reference of its table."""

    label: str
    row: Row
    runs: list
    others: list  # of the reference
    effect: float | None  # the printed one, in points
    change: object  # intervals.Interval or None
    spread: object  # intervals.Spread or None
    verdict: str


def compared(rows, reference, shelf=BOOK):
    """A Compared for each of {label: Row}."""
    return [beside(label, row, rows[reference], label == reference, shelf) for label, row in rows.items()]


def beside(label, row, base, itself, shelf):
    """A Compared of `row` with the reference `base`; `itself` says that it is the reference."""
    effect = None if None in (row.printed, base.printed) or itself else row.printed - base.printed
    runs, others = (found(one.specs, shelf, one.task) for one in (row, base))
    ours, theirs = alike(runs, others), alike(others, runs)
    sides = (ours, theirs, row.task, base.task)
    change, spread = (
        work(*sides) if ours and not itself else None for work in (intervals.paired, intervals.spread)
    )
    said = ONE_SEED if change and len(ours) == 1 else judged(change, effect)
    said = STALE if change and any(run.outdated for run in (*ours, *theirs)) else said
    return Compared(label, row, runs, others, effect, change, spread, said)


def alike(runs, others):
    """The runs with a partner among the others: the same seed and the same data fingerprint."""
    there = {(run.spec.seed, run.data.get("fingerprint")) for run in others}
    return [run for run in runs if (run.spec.seed, run.data.get("fingerprint")) in there]


def of_one_world(runs):
    """The runs with the data fingerprint of the first that is not stale (else of the last): an older world
    beside it would not differ by chance alone."""
    holding = [run for run in runs if not run.outdated] or runs[-1:]
    return [run for run in runs if run.data.get("fingerprint") == holding[0].data.get("fingerprint")]


ONE_SEED = "one seed: no verdict"


def overview(parts, caption, shelf=BOOK):
    """A table of several tables, {name: (rows, reference)}: each verdict, and the rows that have it."""
    lines = []
    for name, (rows, reference) in parts.items():
        verdicts = {}
        for one in compared(rows, reference, shelf):
            said = NOT_RUN if not one.runs else one.verdict
            verdicts.setdefault(said, []).append(one.label)
        lines += [[name, said, "; ".join(labels)] for said, labels in verdicts.items() if said != "–"]
    return table(["table", "verdict", "rows"], lines, caption)


def found(specs, shelf=BOOK, task=None):
    """The runs that exist, of one world (`of_one_world`) and with this test; None: a run's first."""
    runs = [run for spec in specs if (run := shelf.find(spec))]
    return of_one_world([run for run in runs if task is None or run.has(task)])


def judged(change, effect):
    """The verdict on a printed effect: "holds", "fails", "cannot tell". Without one, of the sign of ours:
    "better", "worse", "cannot tell"."""
    if change is None:
        return "–"
    said = intervals.verdict(change, 1.0 if effect is None else effect)
    return said if effect is not None else {"holds": "better", "fails": "worse"}.get(said, said)


def detectable(row, shelf=BOOK):
    """The paragraph above a table: the smallest difference that it can resolve, with this Row as
    reference."""
    runs = found(row.specs, shelf, row.task)
    if len(runs) < 2:
        return paragraph(
            "How small a difference this table can show is not known: fewer than two seeds of its reference "
            "were run."
        )
    people = len(np.unique(runs[0].record(row.task)["pids"]))
    return paragraph(
        f"This table can resolve differences of about {intervals.detectable(runs, row.task):.1f} points of "
        f"mAP (80 % power, {len(runs)} seeds, {people} identities)."
    )
