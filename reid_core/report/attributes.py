"""The tables and pictures of VLADR alone: what its attribute queries look at, whether they stay apart, and
what each attribute forgets.

K attributes, R regions of a person, T domains of an order
"""

import numpy as np
import open_clip
from matplotlib import pyplot as plt

from data_prep import catalogue
from reid_core import lifelong
from reid_core.analysis.regions import PARTS, SHOWN
from reid_core.methods import METHODS
from reid_core.methods.vladr import storage
from reid_core.report import ablations, chapters, figures, tables
from reid_core.report.chapters import vladr
from reid_core.report.notebook import figure, missing
from reid_core.report.orders import OrderChapter, mean_cell, own_records
from reid_core.report.tables import Head

LOOKED_AT = ("full", vladr.PER_EPOCH, vladr.ORTHOGONAL)
STYLES = dict(zip(LOOKED_AT, (("-", "o"), ("--", "s"), (":", "^"))))  # of one colour: rows of one method
WHOLE = "image to image"  # the test with the whole feature; those of attributes are called "by PART"


class VLADRChapter(OrderChapter):
    """An OrderChapter whose method reads attributes with queries."""

    facts = vladr

    def called(self, label):
        """What a page calls a label, the full row by the name of the method."""
        return self.name if label == "full" else chapters.shown(label)

    def kept(self, label, trait):
        """The runs of a label whose records after the last domain keep a trait."""
        runs = ablations.found(self.row(label).specs, self.page.shelf)
        return [run for run in runs if traits_of(run, self.order, trait)]

    def attribute_shares(self):
        """What each query looks at, as shares of its attention on the parts of persons: means over seeds and
        seen domains, after the last one."""
        found = {}
        every = []
        for label in (*LOOKED_AT, vladr.DESCRIBED):
            runs = self.kept(label, "attribute shares")
            if runs:
                several = [traits_of(run, self.order, "attribute shares") for run in runs]
                found[self.called(label)] = np.mean(np.concatenate(several), 0)  # (K, R)
                every += runs
        if not found:
            return missing("What attribute queries look at")
        learned = found.keys() & {vladr.DESCRIBED}
        own = {name: shares for name, shares in found.items() if name not in learned}
        told = "; ".join(
            [*told_of_parts(own), *(f"{name} learns attributes of no given part" for name in learned)]
        )
        caption = (
            f"A query looks at its own part by so many points more than the other queries do: {told}. Cells: "
            f"per cent of a query's attention{self.old(every)}"
        )
        alt = "A square per method: rows are queries, columns parts of the person, cells shares"
        return figure(maps_of_shares(found), caption, alt)

    def query_collapse(self):
        """The mean cosine between different attributes of one image after each domain."""
        found = {}
        every = []
        for label in LOOKED_AT:
            runs = self.kept(label, "query cosine")
            if runs:
                found[label] = np.mean([self.cosines(run) for run in runs], 0)  # (T,)
                every += runs
        if not found:
            return missing("Cosines between attributes over time")
        told = [f"{self.called(label)} {values[-1]:.3f}" for label, values in found.items()]
        caption = (
            f"Mean cosine between different attributes of one image at the end: {', '.join(told)}. At 1 the "
            f"four queries read the same{self.old(every)}"
        )
        drawn = cosines_over_time({label: (self.called(label), found[label]) for label in found}, self.titles)
        return figure(drawn, caption, "A line per row: the mean cosine after each domain")

    def cosines(self, run):
        """(T,) of a run: the mean over its seen sets after each domain."""
        there = [one for one in run.scores if "query cosine" in one.get("traits", {})]
        values = []
        for after in self.order:
            kept = [one for one in there if one["after"] == after and one["data"] in self.order]
            values.append(np.mean([one["traits"]["query cosine"] for one in kept]))
        return np.array(values)

    def attribute_forgetting(self):
        """mAP at the end and forgetting of the whole feature and of each attribute alone."""
        runs = ablations.found(self.row("full").specs, self.page.shelf)
        tests = [WHOLE, *(f"by {part}" for part in PARTS)]
        there = [run for run in runs if {one["task"] for one in run.scores} >= set(tests)]
        if not there:
            return missing("What each attribute forgets")
        lines = []
        for test in tests:
            several = [lifelong.score_matrix(run.scores, self.order, task=test) for run in there]
            cells = [mean_cell(measure, several, there) for measure in KEPT.values()]
            lines.append(["the whole feature" if test == WHOLE else test.removeprefix("by "), *cells])
        caption = (
            "mAP of the test feature and of one attribute alone, means over seen domains and seeds. "
            "Forgetting: best score since a domain was learned, minus that at the end"
        )
        heads = [Head("searched with"), *map(Head, KEPT)]
        return tables.table(heads, lines, caption)

    def memory(self):
        """What a domain leaves behind, beside one image of the size that the model reads."""
        method, data = self.specs(vladr.DESCRIBED)[0].build()
        method.begin_domain(data, 1)
        height, width = method.size
        parts = {name: 4 * numbers for name, numbers in storage(method).items()}  # bytes in float32
        parts |= {"one image, three bytes a pixel": 3 * height * width}
        lines = [[name, f"{size:,}"] for name, size in parts.items()]
        full = METHODS["vladr"].recipe_of("described", "full")  # as published
        prototypes = full.attributes_K * open_clip.get_model_config(full.backbone)["embed_dim"]  # numbers
        caption = (
            f"Bytes that {catalogue.title(self.order[0])} leaves behind, of the model of this page; with "
            f"{full.backbone}, prototypes take {4 * prototypes:,} bytes a domain and an image of "
            f"{full.image_height} x {full.image_width} takes {3 * full.image_height * full.image_width:,}"
        )
        return tables.table(["kept", "bytes"], lines, caption)

    def old(self, runs):
        """What a caption says of runs that are older than the code."""
        return " (of an older version of the code)" if any(run.outdated for run in runs) else ""


KEPT = {  # heading -> (T, T) scores -> a number
    "mAP at the end": lambda scores: scores[-1].mean(),
    "right after learning": lambda scores: scores.diagonal().mean(),
    "forgetting": lambda scores: lifelong.forgetting(scores).mean(),
}


def traits_of(run, names, trait):
    """What the records of some sets keep of a trait after the last domain, one after the other."""
    records = [one for name in names for one in own_records(run, name)]
    return [one["traits"][trait] for one in records if trait in one.get("traits", {})]


def own_part(shares):
    """(K,) by how many points each query looks more at its own part than the others do, of shares (K, R)."""
    count = len(shares)
    own = shares[:, :count].diagonal()  # (K,)
    return own - (shares[:, :count].sum(0) - own) / max(count - 1, 1)


def told_of_parts(found):
    """A text for each of {name: shares}: what `own_part` says of every query."""
    for name, shares in found.items():
        told = [f"{part} {tables.points(more)}" for part, more in zip(PARTS, own_part(shares))]
        yield f"{name}, {', '.join(told)}"


def maps_of_shares(found):
    """A square of shares (K, R) in per cent for each of {name: shares}."""
    drawn, axes = plt.subplots(1, len(found), figsize=(2.3 * len(found) + 0.4, 2.4), squeeze=False)
    for axis, (name, shares) in zip(axes[0], found.items()):
        axis.imshow(shares, vmin=0, vmax=100, cmap="viridis", aspect="auto")
        for (row, column), value in np.ndenumerate(shares):
            style = {"color": "black" if value > 60 else "white", "size": 7}
            style["weight"] = "bold" if row == column else "normal"  # a query's own part
            axis.text(column, row, f"{value:.0f}", ha="center", va="center", **style)
        axis.set(xticks=range(len(SHOWN)), yticks=range(len(shares)), yticklabels=[])
        axis.set_xticklabels(SHOWN, rotation=60, fontsize=7)
        axis.set_title(name, fontsize=8)
    axes[0, 0].set_yticklabels(PARTS[: len(next(iter(found.values())))], fontsize=7)
    axes[0, 0].set_ylabel("query", fontsize=8)
    drawn.tight_layout()
    return drawn


def cosines_over_time(lines, names):
    """A panel of {label: (name, (T,) cosines)} after each domain, in the STYLES of labels."""
    drawn, axis = plt.subplots(figsize=(5.5, 2.8))
    for label, (name, values) in lines.items():
        line, marker = STYLES[label]
        axis.plot(values, color=figures.COLOURS["vladr"], ls=line, marker=marker, ms=4, label=name)
    axis.set(xticks=range(len(names)), xlabel="after domain", ylabel="mean cosine between attributes")
    axis.set_xticklabels([name.split()[-1] for name in names])
    axis.legend(frameon=False, fontsize=7)
    drawn.tight_layout()
    return drawn
