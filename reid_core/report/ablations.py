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
    headings = ["row"]
    for metric in metrics:
        headings += [f"{metric}, paper", f"{metric}, ours on real data", f"{metric}, ours on the world"]
    rows = []
    protocols = {}  # a dictionary for its order: each once, as they come
    for label, row in specs.items():
        runs = found(row, shelf)
        real = [run for run in runs if run.data["origin"] == "real"]
        world = [run for run in runs if run.data["origin"] == "world"]
        protocols |= dict.fromkeys(run.protocol() for run in runs)
        cells = [label]
        for metric in metrics:
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
    beside_it = compared(rows, reference, shelf)
    with_paper = any(row.printed is not None for row in rows.values())
    lines = []
    protocols = {}  # dictionaries for their order: each once, as they come
    origins = {}
    for one in beside_it:
        for run in one.runs:
            protocols[run.protocol(one.row.task)] = None
            origins[run.data["origin"]] = None
        lines.append(line_of(one, metric, with_paper))
    headings = ["row"]
    if with_paper:
        headings += two_columns(metric, f", paper on {printed_on}" if printed_on else ", paper")
    places = [f" on {PLACES[origin]}" for origin in origins]
    headings += two_columns(metric, f", ours{''.join(places)}")
    headings.append("verdict")
    told = table(headings, lines, caption + finding(beside_it) + ranked_how(protocols))
    return HTML(detectable(rows[reference], shelf) + told.data)


def line_of(one, metric, with_paper):
    """The cells of a Compared in the table of `ablation`."""
    line = [one.label]
    if with_paper:
        line += [printed(one.row.printed), signed(one.effect, "paper")]
    line.append(ours(one.runs, metric, one.row.task))
    line.append(change_cell(one.change, one.runs, one.others, one.row.task, one.other_task))
    line.append(spoken(one))
    return line


def finding(rows):
    """The end of a caption: how many of a list of Compared have which verdict, and the largest effect whose
    interval leaves out zero."""
    # without the reference and what shares no seed with it: they have no change
    judged_ones = [one for one in rows if one.change and one.verdict != ONE_SEED]
    if not judged_ones:
        return ""
    verdicts = Counter(one.verdict for one in judged_ones)
    counts = [f"{many} {said}" for said, many in verdicts.items()]
    told = f". {len(judged_ones)} compared: {', '.join(counts)}"
    sure = [one for one in judged_ones if one.verdict not in (STALE, intervals.UNCERTAIN)]
    if sure:
        largest = max(sure, key=lambda one: abs(one.change.mean))
        told += f"; the largest is {largest.change.mean:+.1f}, {largest.label}"
    return told


PLACES = {"world": "the world", "real": "real data"}


def two_columns(metric, whose):
    """Headings of a number and of its effect."""
    return [metric + whose, "effect" + whose]


def spoken(one):
    """A verdict as a table says it; "cannot tell" with the number of seeds that would be needed."""
    if one.verdict != intervals.UNCERTAIN:
        return one.verdict
    seeds = intervals.seeds_needed(one.spread)  # None: more than MOST_SEEDS
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
    other_task: str | None = None  # the test of the reference


def compared(rows, reference, shelf=BOOK):
    """A Compared for each of {label: Row}."""
    return [beside(label, row, rows[reference], label == reference, shelf) for label, row in rows.items()]


def beside(label, row, base, itself, shelf):
    """A Compared of `row` with the reference `base`; `itself` says that it is the reference."""
    runs = found(row.specs, shelf, row.task)
    others = found(base.specs, shelf, base.task)
    effect = None  # a paper prints numbers, not effects: theirs is the difference of two of them
    if not itself and row.printed is not None and base.printed is not None:
        effect = row.printed - base.printed
    ours = alike(runs, others)  # the table shows all runs; an effect counts those that form pairs
    theirs = alike(others, runs)
    if itself or not ours:
        return Compared(label, row, runs, others, effect, None, None, judged(None, effect))
    change = paired(runs, others, row.task, base.task)
    spread = intervals.spread(ours, theirs, row.task, base.task)
    if any(run.outdated for run in (*ours, *theirs)):  # a stale run gives a difference, never a verdict
        said = STALE
    elif len(ours) == 1:
        said = ONE_SEED  # its interval counts the people alone, not the luck of training
    else:
        said = judged(change, effect)
    return Compared(label, row, runs, others, effect, change, spread, said, base.task)


def paired(runs, others, task=None, other_task=None):
    """The Interval of the pairs among `runs` and `others`, each with its own test."""
    return intervals.paired(alike(runs, others), alike(others, runs), task, other_task)


def alike(runs, others):
    """The runs with a partner among the others: the same seed and the same data fingerprint."""
    there = set(map(seed_and_data, others))
    return [run for run in runs if seed_and_data(run) in there]


def seed_and_data(run):
    """What two runs of a pair share."""
    return run.spec.seed, run.data.get("fingerprint")


def of_one_world(runs):
    """The runs with the data fingerprint of the first that is not stale (else of the last): an older world
    beside it would not differ by chance alone."""
    if not runs:
        return []
    leading = runs[-1]
    for run in runs:
        if not run.outdated:
            leading = run
            break
    world = leading.data.get("fingerprint")
    return [run for run in runs if run.data.get("fingerprint") == world]


ONE_SEED = "one seed: no verdict"


def overview(parts, caption, shelf=BOOK):
    """A table of several tables, {name: (rows, reference)}: each verdict, and the rows that have it."""
    lines = []
    for name, (rows, reference) in parts.items():
        verdicts = {}
        for one in compared(rows, reference, shelf):
            said = NOT_RUN if not one.runs else one.verdict
            verdicts.setdefault(said, []).append(one.label)
        verdicts.pop("–", None)  # the reference itself, and what shares no seed with it
        for said, labels in verdicts.items():
            lines.append([name, said, "; ".join(labels)])
    return table(["table", "verdict", "rows"], lines, caption)


def found(specs, shelf=BOOK, task=None):
    """The runs that exist, of one world (`of_one_world`) and with this test; None: a run's first."""
    runs = []
    for spec in specs:
        run = shelf.find(spec)
        if run and (task is None or run.has(task)):
            runs.append(run)
    return of_one_world(runs)


def judged(change, effect):
    """The verdict on a printed effect: "holds", "fails", "cannot tell". Without one, of the sign of ours:
    "better", "worse", "cannot tell"."""
    if change is None:
        return "–"
    if effect is not None:
        return intervals.verdict(change, effect)
    said = intervals.verdict(change, 1.0)  # as if a gain had been printed
    return {"holds": "better", "fails": "worse"}.get(said, said)


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
