"""Which rows the book prints, the most important first: the order in which `make results` measures them; and
what each chapter asks of them: its claims, its questions and the boxes of its pages.

World domains A and D stand for Market-1501 and MSMT17: they differ in cameras, wardrobe and layout.
"""

from reid_core.methods import METHODS
from reid_core.report.chapters import clip_reid, dmpt, hpl, pad, promptsg, vladr
from reid_core.report.chapters.clip_reid import TABLE_2
from reid_core.report.chapters.hpl import GUIDED, JOINT_SET, LEAKY, MODULES, PAIR, SEPARATE
from reid_core.report.chapters.kinds import FEW, FULL, MARKETS, SEEDS, Box, Claim, Part, Question, Task
from reid_core.report.chapters.promptsg import TABLE_3, TABLE_4, TUNED

CHAPTERS = (clip_reid, promptsg, hpl, dmpt, pad, vladr)
ROUNDS = (
    (clip_reid, promptsg),
    (hpl,),
    (dmpt,),
    (pad,),
    (vladr,),
)  # chapters whose headline rows are measured together
DATA = {one.NAME: one.DATA for one in CHAPTERS}  # what a page shows unless told
PAPERS = {one.NAME: one.PAPER for one in CHAPTERS}
QUESTIONS = {one.NAME: one.QUESTIONS for one in CHAPTERS}
CLAIMS = {one.NAME: one.CLAIMS for one in CHAPTERS}
BOXES = {one.NAME: one.BOXES for one in CHAPTERS}
TASKS = {hpl.NAME: hpl.TASKS}  # of chapters with several
SHOWN = {  # how pages call a row; others are called by their own name
    row: words for one in CHAPTERS for row, words in one.SHOWN.items()
}


def shown(label):
    """How pages call a row, or a row of another method: "CLIP fine-tune, half of the epochs"."""
    if label in SHOWN:
        return SHOWN[label]
    name, comma, row = label.partition(", ")
    return f"{name}, {SHOWN[row]}" if comma and row in SHOWN else label


def wanted():
    """Every spec that the book prints, in order, each once: those of earlier chapters first. Rows that differ
    in the test alone are tests of one run, and left out."""
    specs = [spec for some in ROUNDS for spec in in_order(some)]
    return list(dict.fromkeys(filter(trains, specs)))


def in_order(some):
    """The specs of the headlines of some chapters, seed by seed, so that compared rows have the same seeds,
    and of their other Parts behind them."""
    first = [spec for one in some for part in one.HEADLINES for spec in part.specs()]
    first.sort(key=urgency)
    return first + [spec for one in some for part in one.PARTS for spec in part.specs()]


def urgency(spec):
    """What headlines are sorted by: by seed, in it whole methods first; the sort keeps the order of Parts."""
    return spec.seed, spec.row != "full"


def trains(spec):
    """Whether a row needs a training of its own: it is the full one, or changes more than the test."""
    paper = METHODS[spec.method]
    changes = paper.rows[spec.row]
    return not changes or not set(changes) <= set(paper.test_only)


__all__ = [
    "BOXES",
    "CHAPTERS",
    "CLAIMS",
    "DATA",
    "FEW",
    "FULL",
    "GUIDED",
    "JOINT_SET",
    "LEAKY",
    "MARKETS",
    "MODULES",
    "PAIR",
    "PAPERS",
    "QUESTIONS",
    "SEEDS",
    "SEPARATE",
    "SHOWN",
    "TABLE_2",
    "TABLE_3",
    "TABLE_4",
    "TASKS",
    "TUNED",
    "Box",
    "Claim",
    "Part",
    "Question",
    "Task",
    "dmpt",
    "pad",
    "shown",
    "trains",
    "vladr",
    "wanted",
]
