"""Forest plots: rows of ablation tables, grouped by question, each a dot with its 95 % interval."""

from collections import Counter
from typing import NamedTuple

import matplotlib
from matplotlib import pyplot as plt

from reid_core.report import ablations
from reid_core.report.tables import NOT_RUN, STALE, points
from reid_core.runs import intervals
from reid_core.runs.run import BOOK

BETTER, WORSE, OPEN = "better", "worse", "undecided"
OKABE_ITO = matplotlib.color_sequences["okabe_ito"]
COLOURS = {BETTER: OKABE_ITO[3], WORSE: OKABE_ITO[1], OPEN: "0.45"}
MARKERS = {BETTER: "^", WORSE: "v", OPEN: "o"}  # never colour alone
LINE = 0.26  # inches of a row
WIDTH = 4.8  # inches of the figure, without the words at both sides


class Group(NamedTuple):
    """The rows of one question beside its reference."""

    title: str
    rows: list  # of ablations.Compared, without the reference
    smallest: float  # points between trainings of the reference alone, for rows that have none of their own
    reference: str


def grouped(questions, shelf=BOOK):
    """A Group for each of {question: (rows, reference)}, as `ablations.ablation` takes them."""
    return [
        group(title, ablations.compared(rows, reference, shelf), rows[reference], reference, shelf)
        for title, (rows, reference) in questions.items()
    ]


def group(title, compared, base, reference, shelf=BOOK):
    """The Group of a list of Compared with the Row `base`, whose label is `reference`."""
    found = ablations.found(base.specs, shelf, base.task)
    beside = [one for one in compared if one.label != reference]
    smallest = intervals.detectable(found, base.task) if len(found) > 1 else float("nan")
    return Group(title, beside, smallest, base.shown or reference)


def side(one):
    """BETTER or WORSE where a verdict says that there is an effect, else OPEN."""
    if not one.change or one.verdict in (intervals.UNCERTAIN, STALE, ablations.ONE_SEED):
        return OPEN
    return BETTER if one.change.mean > 0 else WORSE


def forest(groups):
    """A figure of Groups: effects in mAP points against each group's reference, its smallest detectable
    difference as a band, the paper's effect as a tick below ours, the verdict at the right. Rows that were
    not run are left out; a group without others has its heading alone."""
    shown = [[one for one in group.rows if one.change] for group in groups]
    lines = sum(map(len, shown)) + len(groups)
    figure, axis = plt.subplots(figsize=(WIDTH, LINE * (lines + 2)))
    y = 0
    for group, rows in zip(groups, shown):
        heading(axis, group, rows, y)
        for one in rows:
            y += 1
            band(axis, one.smallest if one.smallest == one.smallest else group.smallest, y)
            row(axis, one, y)
        y += 1
    reach = 1.3 * max([1.0, *(far for rows in shown for one in rows for far in distances(one))])
    axis.axvline(0, color="0.2", lw=0.8, zorder=0.5)
    axis.set(xlim=(-reach, reach), ylim=(y - 0.4, -0.6), yticks=[], xlabel="mAP points, row − reference")
    axis.spines[["left", "right", "top"]].set_visible(False)
    return figure


def distances(one):
    """Distances from zero, in points, that the plot must hold; a wide bar may go on beyond its edge."""
    found = [one.effect, one.change.mean]
    return [abs(value) for value in found if value is not None]


def heading(axis, group, rows, y):
    """The question, with its reference, or that none of its rows was run."""
    told = f"against “{group.reference}”" if rows else NOT_RUN
    text(axis, y, f"{group.title}: {told}", ha="left", x=-0.75, **HEADING)


HEADING = {"weight": "bold", "backgroundcolor": "white", "zorder": 0.6}  # over bands, under ticks


def band(axis, smallest, y):
    """The differences, in points, that a row cannot resolve; none for NaN."""
    if smallest == smallest:
        axis.barh(y, 2 * smallest, 1, left=-smallest, color="0.92", zorder=0)


def row(axis, one, y):
    """One row: its name, dot and bar, the paper's effect in a lane of its own, the verdict."""
    how = side(one)
    text(axis, y, name_of(one), ha="right", x=-0.02)
    text(axis, y, one.verdict, ha="left", x=1.02)
    if one.effect is not None:
        axis.plot([one.effect] * 2, [y + 0.22, y + 0.44], color="black", lw=2, zorder=3)
    axis.plot([one.change.low, one.change.high], [y, y], color=COLOURS[how], lw=2)
    face = "white" if how == OPEN else COLOURS[how]
    axis.plot(one.change.mean, y, MARKERS[how], color=COLOURS[how], mfc=face, ms=6, zorder=4)


def text(axis, y, words, *, ha, x, **looks):
    """Words beside the plot: `x` in axis widths, `y` in rows."""
    axis.text(x, y, words, ha=ha, va="center", fontsize=8, transform=axis.get_yaxis_transform(), **looks)


def caption(groups, place):
    """The finding: how many rows differ from their reference, and the largest difference."""
    rows = [one for group in groups for one in group.rows]
    said = Counter(map(outcome, rows))
    told = [f"{said[word]} {word}" for word in (BETTER, WORSE, OPEN)]
    told += [f"{said[word]} {word}" for word in (STALE, NOT_RUN) if said[word]]
    sure = [one for one in rows if side(one) != OPEN]
    largest = max(sure, key=lambda one: abs(one.change.mean), default=None)
    most = f" The largest is {points(largest.change.mean)}, {name_of(largest)}." if largest else ""
    return f"{len(rows)} differences on {place}: {', '.join(told)}.{most} {KEY}"


def outcome(one):
    """What the caption counts a row as."""
    if not one.change:
        return NOT_RUN
    return STALE if one.verdict == STALE else side(one)


def name_of(one):
    """What pages call a row."""
    return one.row.shown or one.label


KEY = (
    "Dot and bar: ours with its 95 % interval; black tick below: the paper's effect; grey band: smaller than "
    "what these seeds and identities can show."
)


def alt(groups):
    """What the plot looks like."""
    counted = "; ".join(f"{group.title}, {len(group.rows)} rows" for group in groups)
    return f"Forest plot around a line of no difference: {counted}"
