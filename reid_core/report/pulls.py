"""The table of what each loss of a joint training wants of the shared image tower, from Visuals
(`analysis.pulls`).

U terms, B batches
"""

import numpy as np

from reid_core.report import tables
from reid_core.report.chapters.hpl import ASKED_BY
from reid_core.report.notebook import missing


class Pulls:
    """The gradients on the image tower of one model at the end of its training."""

    def __init__(self, one):
        self.terms = [str(name) for name in one.pull_terms]
        self.products = one.pulls.astype(np.float64)  # (B, U, U)

    def among(self, some, others):
        """(B,) scalar products of the sums of two groups of terms."""
        first, second = ([name in group for name in self.terms] for group in (some, others))
        return self.products[:, first][:, :, second].sum((1, 2))

    def length(self, some):
        """Length of the sum of a group's gradients, mean over batches."""
        return np.sqrt(self.among(some, some).clip(0)).mean()

    def cosine(self, some, others):
        """Between the sums of two groups, mean over batches; NaN where one wants nothing."""
        lengths = np.sqrt(self.among(some, some) * self.among(others, others))
        with np.errstate(invalid="ignore", divide="ignore"):
            return (self.among(some, others) / lengths).mean()


def table(columns):
    """The table of {label: Visuals or a word}: a line per loss, the losses of each kind of query together,
    and the cosine between these; a placeholder where no Visuals keep it."""
    found = {
        label: Pulls(one)
        for label, one in columns.items()
        if not isinstance(one, str) and len(one.pull_terms)
    }
    if not found:
        return missing("What the losses want of the shared image tower")
    terms = dict.fromkeys(name for one in found.values() for name in one.terms)
    lines = [[name, *(lengths(one, [name]) for one in found.values())] for name in terms]
    for queries, some in ASKED_BY.items():
        lines.append([f"both for {queries}", *(lengths(one, some) for one in found.values())])
    cosines = (one.cosine(*ASKED_BY.values()) for one in found.values())
    lines.append(["cosine between the two", *(tables.number(value, 2) for value in cosines)])
    caption = f"{finding(found)}. Length of the gradient of each weighted loss, mean over batches"
    return tables.table(["loss", *found], lines, caption)


def lengths(one, some):
    """The cell of a group of terms; a dash where the model has none of them."""
    return f"{one.length(some):.1f}" if set(some) & set(one.terms) else tables.Cell("–", "empty")


def finding(found):
    """How strongly the losses for sentences pull against those for images."""
    told = []
    for label, one in found.items():
        sentences, images = (one.length(some) for some in ASKED_BY.values())
        told.append(f"{label} {sentences / images:.1f}")
    return (
        "After training, the losses for sentences pull so many times as strongly at the image tower as those "
        f"for images: {', '.join(told)}"
    )
