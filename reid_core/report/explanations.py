"""The page "Explanations" of a chapter, from Visuals (`analysis.visuals`) beside the runs."""

from types import SimpleNamespace

import matplotlib
import numpy as np
from IPython.display import HTML

from data_prep import catalogue
from reid_core.analysis import visuals
from reid_core.report import figures, heatmaps, images, neighbours, tables
from reid_core.report.notebook import figure, folded, missing

NAMES = {"relevance": "relevance", "grad_cam": "Grad-CAM"}


class Explanations:
    """The figures of a page, a call per cell, for {label: (method, variant, row)}: the baseline first, the
    chapter's method last."""

    def __init__(self, page, wanted):
        self.page = page
        self.specs = visuals.specs_of(page, wanted)
        found, self.data = visuals.for_page(page, wanted)
        self.caveat = visuals.caveat(page, found)
        self.there = {label: one for label, one in found.items() if one}
        self.columns = {label: one or self.why(label) for label, one in found.items()}  # Visuals, or a word
        self.one = next(iter(self.there.values()))  # all explain the same queries
        self.chosen = visuals.shown(self.one)

    def why(self, label):
        """The word for a method without Visuals: its run is stale, or there is none."""
        run = self.page.shelf.find(self.specs[label])
        return tables.STALE if run and run.outdated else tables.NOT_RUN

    @property
    def pair(self):
        """The baseline, or what stands in its place, and the chapter's method."""
        labels = list(self.columns)
        return {label: self.columns[label] for label in (labels[0], labels[-1])}

    def maps(self, how="relevance"):
        """Heat maps of one kind over four images."""
        rows = self.one.rows[self.chosen]
        columns = {
            label: one if isinstance(one, str) else heatmaps.shares(one, self.chosen, how)
            for label, one in self.columns.items()
        }
        drawn = heatmaps.overlays(
            images.images(self.data, rows),
            columns,
            heatmaps.titles(self.one, self.chosen),
            visuals.persons(self.data, rows),
        )
        below = "below each map its share on the outlined person, below an image the person's share of it"
        caption = f"{heatmaps.finding(self.there, how)}. Heat maps by {NAMES[how]}; {below}."
        return self.figure(drawn, caption, "Four rows: an image, then it in grey under a heat map per method")

    def bars(self, how="relevance"):
        """Scores of all explained queries against the masks."""
        judged = {label: one for label, one in self.there.items() if not np.isnan(one.judged).any()}
        if not judged:
            return missing("Scores against masks, which real data lack")
        over = f"Scores of {NAMES[how]} over {len(self.one.rows)} people, with 95 % intervals over people"
        caption = f"{heatmaps.finding(judged, how)}. {over}."
        alt = "Horizontal bars, a group per score and a bar per method, with a black line at chance"
        return self.figure(heatmaps.bars(judged, how, self.colours), caption, alt)

    @property
    def colours(self):
        """{label: colour}: a method's own in the whole book, paler for an ablation row, grey if untrained."""
        told = {visuals.UNTRAINED: "0.8"}
        for label, spec in self.specs.items():
            red, green, blue = matplotlib.colors.to_rgb(figures.colour_of(spec))
            paler = [(1 + value) / 2 for value in (red, green, blue)]
            told[label] = (red, green, blue) if spec.row == "full" else paler
        return told

    def table(self, how="relevance"):
        """The shares of the maps in points above a uniform one."""
        lines = []
        for score in ("person", "passer-by", "clutter"):
            cells = [self.cell(label, score, how) for label in self.columns]
            lines.append([heatmaps.SAYS[score], *cells])
        caption = (
            f"By {NAMES[how]}, in points above a uniform map, with 95 % intervals over people.{self.caveat}"
        )
        return tables.table(["share of the map", *self.columns], lines, caption)

    def cell(self, label, score, how):
        """The cell of one method in `table`."""
        one = self.columns[label]
        if isinstance(one, str):
            return one
        run = self.page.shelf.find(self.specs[label]) if label in self.specs else None
        return heatmaps.points(one, score, run, how)

    def by_grad_cam(self):
        """Maps and scores by Grad-CAM, and the shares of both kinds of map in numbers, folded."""
        parts = [self.maps("grad_cam"), self.bars("grad_cam"), self.table(), self.table("grad_cam")]
        shown = HTML("".join(part.data for part in parts))
        return folded("The same by Grad-CAM, and the shares of both in numbers", shown)

    def lists(self):
        """Ranked lists of two methods for the same queries."""
        there = [one for one in self.pair.values() if not isinstance(one, str) and len(one.precision)]
        if not there:
            return missing("Ranked lists of the same queries, which older runs did not keep")
        chosen = visuals.telling(there[-1], *there[:-1])
        caption = (
            f"{neighbours.ranked_higher(self.pair)}. Green: the same person; orange: another one; blue: the "
            f"first true match that is not among the first {visuals.BESIDE}, with its rank."
        )
        alt = "Rows of a query and the gallery images that two methods rank first, in coloured frames"
        return self.figure(neighbours.lists_beside(self.data, chosen, self.pair), caption, alt)

    def embeddings(self, plane="tsne", every=False):
        """Embeddings in the plane of two methods side by side, or of `every` one."""
        found = self.columns if every else self.pair
        told = f"All images of {len(np.unique(self.one.pids))} people, eight of them marked"
        caption = f"{neighbours.told_apart(found, plane)}. {told}."
        alt = "Scatter plots, one per method; eight people in eight colours and shapes, all others grey"
        return self.figure(neighbours.embeddings(found, plane), caption, alt)

    def figure(self, drawn, caption, alt):
        """A figure whose caption says what comes from no run."""
        return figure(drawn, caption + self.caveat, alt)


def elsewhere(page, wanted):
    """Heat maps on the other data set, of runs trained there; a placeholder where no fresh one keeps any."""
    away = catalogue.partner(page.data)
    there = SimpleNamespace(**{**vars(page), "data": away, "retrain": False})
    specs = visuals.specs_of(there, wanted) if away else {}
    if not any(visuals.fresh(spec, page.shelf) for spec in specs.values()):
        return missing("Heat maps on the other data set")
    return Explanations(there, wanted).maps()
