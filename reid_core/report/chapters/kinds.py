"""What the chapter of a paper is made of: rows to measure, questions, claims and boxes."""

from typing import NamedTuple

from reid_core.runs.run import Spec

SEEDS = (0, 1, 2, 3, 4)  # of headline rows; sweeps and readings take the first three
FEW = SEEDS[:3]
MARKETS = ("world_market", "world_msmt")
FULL = ("full",)


class Part(NamedTuple):
    """Rows of one variant on some data sets, with some seeds."""

    method: str
    variant: str
    rows: tuple
    data: tuple = MARKETS[:1]
    seeds: tuple = FEW

    def specs(self):
        """A Spec of each row, seed by seed: an interrupted measurement leaves whole tables with fewer
        seeds."""
        return [
            Spec(self.method, self.variant, row, data, seed=seed).same
            for seed in self.seeds
            for row in self.rows
            for data in self.data
        ]


def headline(method, variant, *rows):
    """A Part of the rows that a reader looks for first: on both domains, with every seed."""
    return Part(method, variant, rows, MARKETS, SEEDS)


class Paper(NamedTuple):
    """The head of a chapter: the paper, where it stands, and who wrote it."""

    title: str
    authors: str
    venue: str
    link: str
    code: str = ""  # of the authors; "" where none was released
    remark: str = ""  # on the code, or why there is none


class Task(NamedTuple):
    """A task that a joint training is tested in, on its own part of the joint set."""

    name: str  # of the test
    alone: str  # the model that is trained for it alone, as `notebook.NAMES` calls it
    table: str  # that prints whole methods
    term: str  # the loss whose course its learning curves show


class Question(NamedTuple):
    """Rows of a chapter's ablations that answer one question, each against the `reference`."""

    title: str
    caption: str
    labels: tuple
    reference: str = "full"
    table: str = ""  # of the paper, where it prints these rows
    tests: dict = {}  # {label: (row, test)} of what differs in the test alone
    plotted: bool = True  # in the forest plot


def training_length(*labels):
    """The Question how much a method needs its epochs."""
    return Question(
        title="Training length",
        caption="All published epochs and half of them, against the baseline with all",
        labels=labels,
        reference="CLIP fine-tune",
    )


class Claim(NamedTuple):
    """What a paper says of one comparison: that the row `better` ranks above the row `against`."""

    id: str
    text: str  # in the terms of the field
    where: str  # in the paper
    better: str  # labels, as `notebook.Chapter` reads them
    against: str
    printed: tuple = ()  # of both rows, the columns that pick them in results/reported.csv
    tests: tuple = (None, None)  # of both rows, where not a run's first
    away: bool = False  # on the chapter's other data set
    page: str = "ablate"  # that shows the comparison
    metric: str = "mAP"
    task: str = ""  # the name of a chapter's Task, where it has several


class Box(NamedTuple):
    """What opens a page: what the paper claims, the claims whose measured effects the second sentence tells,
    and what the verdict on the first of them means."""

    says: str
    claims: tuple
    holds: str
    fails: str
