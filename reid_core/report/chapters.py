"""Which rows the book prints, the most important first: the order in which `make results` measures them.

World domains A and D stand for Market-1501 and MSMT17: they differ in cameras, wardrobe and layout.
"""

from operator import attrgetter
from typing import NamedTuple

from reid_core.methods import METHODS, clip_reid, promptsg
from reid_core.runs.run import Spec

SEEDS = (0, 1, 2, 3, 4)  # of headline rows; sweeps and readings take the first three
FEW = SEEDS[:3]
MARKETS = ("world_market", "world_msmt")
FULL = ("full",)
TABLE_3 = promptsg.PAPER.tables["Table 3"]
TABLE_4 = promptsg.PAPER.tables["Table 4"]
TABLE_5 = promptsg.PAPER.tables["Table 5"]


def choices(mark):
    """The rows of PromptSG's choices with this mark in their name."""
    return [row for row in promptsg.CHOICES if mark in row]


LAMBDAS = choices("lambda")
READINGS = choices("(D")  # the number of a reading of what the paper leaves open: "(D7)"
TEMPERATURES = choices("temperature")


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


HEADLINES = (  # all of them seed by seed, so that compared rows have the same seeds
    headline("clip_reid", "baseline", "full"),
    headline("clip_reid", "clip_reid", "full"),
    headline("promptsg", "promptsg", "full", *TABLE_3, *TABLE_4),
    headline("promptsg", "promptsg", *promptsg.CONTROLS),
    headline("clip_reid", "clip_reid", *clip_reid.CONTROLS),
)
PARTS = (
    Part("clip_reid", "baseline", ("zero-shot",), MARKETS),
    Part("promptsg", "promptsg", tuple(TABLE_5)),
    Part("clip_reid", "clip_reid", tuple(clip_reid.ROWS)),
    Part("clip_reid", "baseline", tuple(clip_reid.LONGER), MARKETS),
    Part("promptsg", "promptsg", tuple(promptsg.LONGER), MARKETS),
    Part("clip_reid", "clip_reid", tuple(clip_reid.LONGER), MARKETS),
    Part("promptsg", "promptsg", (*LAMBDAS, "plain contrast", "interaction re-weights tokens (D7)")),
    Part("clip_reid", "clip_reid", ("SIE", "overlapping patches")),
    Part("promptsg", "promptsg", (*READINGS, *TEMPERATURES)),
)


def wanted():
    """Every spec that the book prints, in order, each once. Rows that differ in the test alone are tests of
    one run, and left out."""
    specs = []
    for part in HEADLINES:
        specs += part.specs()
    specs.sort(key=attrgetter("seed"))  # stable: by importance within a seed
    for part in PARTS:
        specs += part.specs()
    return list(dict.fromkeys(filter(trains, specs)))


def trains(spec):
    """Whether a row needs a training of its own: it is the full one, or changes more than the test."""
    paper = METHODS[spec.method]
    changes = paper.rows[spec.row]
    return not changes or not set(changes) <= set(paper.test_only)
