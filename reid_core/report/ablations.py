"""Tables that compare: ours beside the paper's numbers, and ablation rows against a reference row, with
paired intervals, verdicts, and the smallest difference that each can resolve.

The book's runs and a reader's never share a number: a row shows the book's, and where the reader trained it
too a second row, "your run", shows theirs.
"""

from collections import Counter
from typing import NamedTuple

import numpy as np
from IPython.display import HTML

from data_prep import catalogue
from reid_core.report import chapters
from reid_core.report.tables import (
    NOT_RUN,
    STALE,
    Cell,
    Head,
    change_cell,
    ours,
    paragraph,
    points,
    printed,
    ranked_how,
    signed,
    table,
    verdict_cell,
)
from reid_core.runs import intervals
from reid_core.runs.run import BOOK

ONE_SEED = "one seed: no verdict"
NO_VERDICT = "–"  # of the reference, and of what shares no seed with it
LEVEL = 0.05  # of all verdicts of a table together
SMALL = 0.5  # points: so much may come from another processor
MACHINE = ("device", "processor", "instructions", "threads", "precision")  # of a run's provenance
PLACES = {"world": "synthetic", "real": "real data"}


def comparison(specs, metrics, wanted, caption, shelf=BOOK):
    """A table of the paper's numbers beside ours: `specs` {row: [Spec per seed]}, `wanted` {(row, metric):
    printed value}. Numbers on the world stand in a column of their own and are not subtracted from the
    paper's; the protocols of ours stand in the caption. A reader's runs (`yours`) have a row of their own."""
    heads = [Head("row")]
    for group in ("Paper", "Ours, real data", "Ours, synthetic"):
        heads += [Head(metric, group, best=True, minor=metric != metrics[0]) for metric in metrics]
    rows = []
    protocols = {}  # a dictionary for its order: each once, as they come
    measured = {label: found(row, shelf) for label, row in specs.items()}
    seeds, told = seeds_told(list(specs.values()), list(measured.values()))
    for label, row in specs.items():
        runs = measured[label]
        protocols |= dict.fromkeys(run.protocol() for run in runs)
        theirs = [printed(wanted.get((label, metric))) for metric in metrics]
        rows.append([label, *theirs, *both_origins(runs, metrics, seeds)])
        own = yours(row, shelf)
        if own:
            nothing = [printed(None)] * len(metrics)
            rows.append([f"{label}, {YOURS}", *nothing, *map(as_own, both_origins(own, metrics))])
    return table(heads, rows, caption + told + ranked_how(protocols))


def seeds_told(specs, measured):
    """(how many seeds the cells of a table are held to, the end of its caption): a number of seeds that all
    rows lack alike is said once, in the caption, and not in each cell."""
    wanted = max(map(seeds_wanted, specs), default=0)
    there = {len(runs) for runs in measured if runs}
    if len(there) == 1 and max(there) < wanted:
        return None, f"; {max(there)} of {wanted} seeds"
    return wanted, ""


def both_origins(runs, metrics, wanted=None):
    """The cells of each metric on real data, then on the world."""
    cells = []
    for origin in ("real", "world"):
        there = [run for run in runs if run.data["origin"] == origin]
        cells += [ours(there, metric, wanted=wanted) for metric in metrics]
    return cells


YOURS = "your run"


def as_own(cell):
    """The cell marked as one of a reader's runs."""
    return cell._replace(kind=f"{cell.kind} own") if cell.runs else cell


class Row(NamedTuple):
    """An ablation row: its specs, one per seed; its test, None for a run's first; the printed number or None;
    and what a page calls it, where that is not its label."""

    specs: list
    task: str | None = None
    printed: float | None = None
    shown: str = ""


def ablation(rows, reference, caption, metric="mAP", shelf=BOOK, printed_on=""):
    """A table of {label: Row}, each compared with the row `reference`, pair by pair of seeds. The smallest
    difference that it can resolve stands above it.

    A difference is a row minus the reference, in points; ours has its 95 % interval. The verdict compares its
    sign with that of the printed difference, which was measured on the data set `printed_on`. Columns of the
    paper are left out where it prints nothing. On a reader's shelf each row that they trained, too, is
    followed by their own run (`compared_yours`).
    """
    beside_it = compared(rows, reference, shelf, metric)
    own = {one.label: one for one in compared_yours(rows, reference, shelf, metric)}
    with_paper = any(row.printed is not None for row in rows.values())
    seeds, few = seeds_told([row.specs for row in rows.values()], [one.runs for one in beside_it])
    # dictionaries for their order: each once, as they come
    protocols = dict.fromkeys(run.protocol(one.row.task) for one in beside_it for run in one.runs)
    origins = dict.fromkeys(PLACES[run.data["origin"]] for one in beside_it for run in one.runs)
    lines = []
    for one in beside_it:
        lines.append(line_of(one, metric, with_paper, seeds))
        if one.label in own:
            lines.append(line_of(own[one.label], metric, with_paper, None))
    heads = headings(metric, with_paper, printed_on, origins)
    told = caption + few + finding(beside_it) + (OF_YOURS if own else "") + ranked_how(protocols)
    return HTML(resolution(beside_it, rows[reference], shelf, metric) + table(heads, lines, told).data)


OF_YOURS = (
    f"; {YOURS} is compared with your own reference, or with the book's where you trained none with its seed"
)


def headings(metric, with_paper, printed_on, origins):
    """The Heads of an ablation."""
    heads = [Head("row")]
    if with_paper:
        whose = f"Paper, {printed_on}" if printed_on else "Paper"
        heads += [Head(metric, whose, best=True, minor=True), Head("difference", whose)]
    whose = ", ".join(["Ours", *origins])
    heads += [Head(metric, whose, best=True, minor=True), Head("difference [95 %]", whose)]
    return [*heads, Head("verdict")]


def line_of(one, metric, with_paper, seeds):
    """The cells of a Compared in the table of `ablation`, whose rows should have so many `seeds` (None: do
    not say); below the book's row, what the paper prints is not repeated in a reader's."""
    name = one.row.shown or one.label
    line = [Cell(f"{name}, {YOURS}" if one.own else name, hover=one.label if one.row.shown else "")]
    if with_paper:
        theirs = (None, None) if one.own else (one.row.printed, one.effect)
        line += [printed(theirs[0]), signed(theirs[1], "paper")]
    number = ours(one.runs, metric, one.row.task, seeds)
    pairs = pairs_of(one)
    # said where it is not the number of the cell before
    fewer = len(one.runs) if len(pairs[0]) < len(one.runs) else None
    change = change_cell(one.change, *pairs, one.row.task, one.other_task, metric, fewer)
    line += map(as_own, [number, change]) if one.own else [number, change]
    return [*line, verdict_cell(one.verdict, one.note)]


def pairs_of(one):
    """The runs of both sides of a Compared that form pairs."""
    return alike(one.runs, one.others), alike(one.others, one.runs)


def finding(rows):
    """The end of a caption: how many of a list of Compared have which verdict, and the largest difference of
    those that have one."""
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
        told += f"; the largest is {points(largest.change.mean)}, {largest.row.shown or largest.label}"
    several = sum(one.verdict != STALE for one in judged_ones)
    return told + (f"; verdicts are corrected for {several} comparisons (Holm)" if several > 1 else "")


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
    note: str = ""  # why there is no verdict, and what would give one
    smallest: float = float("nan")  # points that this comparison resolves with 80 % power
    own: bool = False  # whether it is of a reader's runs, beside the book's


def compared(rows, reference, shelf=BOOK, metric="mAP"):
    """A Compared for each of {label: Row}; their verdicts are corrected for their number (Holm)."""
    return decided(undecided(rows, reference, shelf, metric))


def compared_together(sides, reference, shelf=BOOK, metric="mAP"):
    """{side: a Compared for each of its Rows} of {side: {label: Row}}; verdicts are corrected together."""
    made = {side: undecided(rows, reference, shelf, metric) for side, rows in sides.items()}
    left = iter(decided([one for some in made.values() for one in some]))
    return {side: [next(left) for _ in some] for side, some in made.items()}


def undecided(rows, reference, shelf=BOOK, metric="mAP"):
    """A Compared for each of {label: Row}, whose verdict is still open where there can be one."""
    base = rows[reference]
    others = found(base.specs, shelf, base.task)
    made = []
    for label, row in rows.items():
        runs = found(row.specs, shelf, row.task)
        made.append(beside(label, row, runs, base, [] if label == reference else others, metric))
    return made


def compared_yours(rows, reference, shelf, metric="mAP"):
    """A Compared for each of {label: Row} that a reader trained beside the book's: with their own reference,
    or with the book's where they trained none with the same seed, as that of the reference itself."""
    base = rows[reference]
    books = found(base.specs, shelf, base.task)
    theirs = yours(base.specs, shelf, base.task)
    made = []
    for label, row in rows.items():
        runs = yours(row.specs, shelf, row.task)
        with_theirs = label != reference and alike(runs, theirs)
        if runs:
            one = beside(label, row, runs, base, theirs if with_theirs else books, metric)
            made.append(one._replace(own=True))
    return decided(made)


def beside(label, row, runs, base, others, metric="mAP"):
    """A Compared of a row's runs with those of the reference `base`, none for itself. Its verdict is "" where
    it is still to be decided."""
    effect = None  # a paper prints numbers, not differences: theirs is that of two of them
    if row is not base and row.printed is not None and base.printed is not None:
        effect = row.printed - base.printed
    one = Compared(label, row, runs, others, effect, None, None, NO_VERDICT, base.task)
    mine, theirs = pairs_of(one)
    kept = intervals.kept(mine, row.task, metric) and intervals.kept(theirs, base.task, metric)
    if not mine or not kept:
        return one
    spread = intervals.spread(mine, theirs, row.task, base.task, metric)
    said = ""
    if any(run.outdated for run in (*mine, *theirs)):  # a stale run gives a difference, never a verdict
        said = STALE
    elif len(mine) == 1:
        said = ONE_SEED  # its interval counts the people alone, not the luck of training
    return one._replace(change=intervals.around(spread), spread=spread, verdict=said)


def decided(made):
    """The list of Compared with the verdicts that were open, all decided together."""
    still = [one for one in made if one.verdict == ""]
    if not still:
        return made
    level = LEVEL / len(still)  # at which the first of so many is tested: what a table resolves for sure
    chances = intervals.holm([intervals.chance(one.spread) for one in still])
    told = {id(one): decision(one, p, level) for one, p in zip(still, chances)}
    return [told.get(id(one), one) for one in made]


def decision(one, p, level):
    """The Compared with its verdict, from its corrected p value; a small difference is only called between
    runs of one kind of machine."""
    smallest = intervals.smallest(one.spread, level)
    one = one._replace(verdict=intervals.UNCERTAIN, smallest=smallest)
    if p > LEVEL:
        return one._replace(note=f"resolves {smallest:.1f}; {more_seeds(one.spread, level)}")
    mine, theirs = pairs_of(one)
    small = abs(one.change.mean) < max(SMALL, smallest)
    if small and len(set(map(machine, mine + theirs))) > 1:
        return one._replace(note="a small difference, measured on several kinds of machine")
    return one._replace(verdict=judged(one.change, one.effect))


def more_seeds(spread, level=LEVEL):
    """How many seeds would decide a comparison with this Spread."""
    seeds = intervals.seeds_needed(spread, level)  # None: more than MOST_SEEDS
    return f"{seeds} seeds would tell" if seeds else f"{intervals.MOST_SEEDS} seeds would not tell"


def machine(run):
    """What a run tells of its machine; what it does not tell is None."""
    return tuple(run.provenance.get(name) for name in MACHINE)


def paired(runs, others, task=None, other_task=None, metric="mAP"):
    """The Interval of the pairs among `runs` and `others`, each with its own test."""
    return intervals.paired(alike(runs, others), alike(others, runs), task, other_task, metric)


def alike(runs, others):
    """The runs with a partner among the others."""
    return [run for run in runs if any(pair(run, other) for other in others)]


def pair(run, other):
    """Whether two runs share their seed and what they are tested on: their data, or a part of it where one of
    them trained on a joint set (that they have the same queries is checked where they are compared)."""
    one, two = (found.spec.data for found in (run, other))
    same = run.data.get("fingerprint") == other.data.get("fingerprint")
    part = one != two and set(catalogue.parts(one)) & set(catalogue.parts(two))
    return run.spec.seed == other.spec.seed and bool(same or part)


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


def overview(parts, caption, shelf=BOOK):
    """A table of several tables, {name: (rows, reference)}: each verdict, and the rows that have it."""
    lines = []
    for name, (rows, reference) in parts.items():
        verdicts = {}
        for one in compared(rows, reference, shelf):
            said = NOT_RUN if not one.runs else one.verdict
            verdicts.setdefault(said, []).append(one.row.shown or one.label)
        verdicts.pop(NO_VERDICT, None)  # the reference itself, and what shares no seed with it
        for said, labels in verdicts.items():
            lines.append([name, verdict_cell(said), "; ".join(labels)])
    return table(["table", "verdict", "rows"], lines, caption)


def found(specs, shelf=BOOK, task=None):
    """The runs that exist, of one world (`of_one_world`) and with this test (None: a run's first): the
    book's, or where it has none those of a reader's `shelf`. Never both: `yours`."""
    return on_shelf(specs, BOOK, task) or on_shelf(specs, shelf, task)


def yours(specs, shelf, task=None):
    """A reader's runs of specs that the book has, too; without the book's they are `found` themselves."""
    theirs = [] if shelf is BOOK else on_shelf(specs, shelf, task)
    return theirs if on_shelf(specs, BOOK, task) else []


def on_shelf(specs, shelf, task=None):
    """The runs of one shelf alone, of one world and with this test."""
    runs = [shelf.at(spec) for spec in specs]
    return of_one_world([run for run in runs if run and (task is None or run.has(task))])


def seeds_wanted(specs):
    """How many seeds a row should have: those of the book, without another one of a reader's."""
    return sum(spec.seed in chapters.SEEDS for spec in specs) or len(specs)


def judged(change, effect):
    """The verdict on a printed effect: "holds", "fails", "undecided". Without one, of the sign of ours:
    "better", "worse", "undecided"."""
    if change is None:
        return NO_VERDICT
    if effect is not None:
        return intervals.verdict(change, effect)
    said = intervals.verdict(change, 1.0)  # as if a gain had been printed
    return {"holds": "better", "fails": "worse"}.get(said, said)


def resolution(rows, base, shelf=BOOK, metric="mAP", place=""):
    """The paragraph above a table: the smallest difference that it can resolve in the task `place`. That of
    its typical comparison; where none is decided, what two trainings of the reference `base` differ by."""
    still = [one for one in rows if one.smallest == one.smallest]  # NaN: not decided
    runs = still[0].runs if still else found(base.specs, shelf, base.task)
    task = still[0].row.task if still else base.task
    if len(runs) < 2 or not intervals.kept(runs, task, metric):
        return paragraph(
            f"How small a difference this table can show{place} is not known: fewer than two seeds of its "
            "reference were run."
        )
    points_ = [one.smallest for one in still] or [intervals.detectable(runs, task, metric)]
    seeds = sorted({one.spread.seeds for one in still} or {len(runs)})
    people = len(np.unique(runs[0].record(task)["pids"]))
    many = f", {len(still)} comparisons" if len(still) > 1 else ""
    return paragraph(
        f"This table can resolve differences of about {np.median(points_):.1f} {metric}{place} (80 % power, "
        f"{' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))} seeds, {people} identities{many})."
    )
