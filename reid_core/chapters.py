"""Which rows the book prints, the most important first: what `make results` measures when time is short.

World domains A and D stand for Market-1501 and MSMT17: they differ in cameras, wardrobe and layout.
"""

from typing import NamedTuple

from reid_core.methods import clip_reid, promptsg
from reid_core.results import Spec

SEEDS = (0, 1, 2)
MARKETS = ("world_market", "world_msmt")
FULL = ("full",)
TABLE_3 = [row for row in promptsg.PRINTED if row[1:3] == "):"]
TABLE_4 = [row for row in promptsg.PRINTED if row.startswith("Training")]
TABLE_5 = [row for row in promptsg.PRINTED if "inference" in row]
LAMBDAS = [row for row in promptsg.CHOICES if row.startswith("lambda")]
READINGS = [row for row in promptsg.CHOICES if "(D" in row]
TEMPERATURES = [row for row in promptsg.CHOICES if row.startswith("temperature")]


class Part(NamedTuple):
    """Rows of one variant on some data sets."""

    method: str
    variant: str
    rows: tuple
    data: tuple = MARKETS[:1]

    def specs(self, seeds):
        return [Spec(self.method, self.variant, row, data, seed=seed).same
                for row in self.rows for data in self.data for seed in seeds]  # fmt: skip


PARTS = (
    Part("clip_reid", "baseline", FULL),
    Part("clip_reid", "clip_reid", FULL),
    Part("promptsg", "promptsg", FULL),
    Part("promptsg", "promptsg", tuple(TABLE_3 + TABLE_4)),
    Part("clip_reid", "baseline", ("as it comes",)),
    Part("promptsg", "promptsg", tuple(TABLE_5)),
    Part("clip_reid", "baseline", tuple(clip_reid.LONGER)),
    Part("promptsg", "promptsg", tuple(promptsg.LONGER)),
    Part("clip_reid", "clip_reid", tuple(clip_reid.ROWS)),
    Part("promptsg", "promptsg", ("interaction re-weights tokens (D7)", *promptsg.CONTROLS)),
    Part("clip_reid", "clip_reid", tuple(clip_reid.CONTROLS)),
    Part("clip_reid", "baseline", FULL, MARKETS[1:]),
    Part("clip_reid", "clip_reid", FULL, MARKETS[1:]),
    Part("promptsg", "promptsg", ("full", *TABLE_3, *TABLE_4), MARKETS[1:]),
    Part("clip_reid", "baseline", tuple(clip_reid.LONGER), MARKETS[1:]),
    Part("promptsg", "promptsg", tuple(promptsg.LONGER), MARKETS[1:]),
    Part("clip_reid", "clip_reid", tuple(clip_reid.LONGER), MARKETS),
    Part("promptsg", "promptsg", (*LAMBDAS, "plain contrast")),
    Part("clip_reid", "clip_reid", ("SIE", "overlapping patches")),
    Part("promptsg", "promptsg", (*READINGS, *TEMPERATURES)),
)


def wanted(seeds=SEEDS):
    """Every spec that the book prints, in order, each once. Rows that differ in the test alone are ways of searching of one run."""
    specs = (
        spec for part in PARTS for spec in part.specs(seeds) if part.variant != "promptsg" or trains(spec)
    )
    return list(dict.fromkeys(specs))


def trains(spec):
    """Whether a row of PromptSG differs from the full one by more than the test."""
    changes = promptsg.ABLATIONS[spec.row]
    return not changes or not set(changes) <= {"test_prompt", "gallery_prompt", "retrieval_features"}
