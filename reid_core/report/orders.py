"""The tables and pictures of a chapter whose methods meet one domain after the other: averages over seen and
unseen domains, each domain at the end, and what was forgotten on the way.

T domains of an order
"""

import numpy as np
from matplotlib import pyplot as plt

from data_prep import catalogue
from reid_core import lifelong
from reid_core.data import load_data
from reid_core.report import ablations, figures, overall, reported, tables
from reid_core.report.notebook import NAMES, Chapter, figure, folded, missing, on_paper, together
from reid_core.report.tables import Head
from reid_core.runs import averages
from reid_core.runs.averages import SEEN, UNSEEN

SIDES = {"seen": (SEEN, "seen_avg"), "unseen": (UNSEEN, "unseen_avg")}  # -> (test, data of reported.csv)
GREY = "#777777"


class OrderChapter(Chapter):
    """A Chapter whose data are an order of domains; `away` is the paper's second order. A run is told by its
    mean over seen domains after the last one.

    `facts` is the module in `chapters` with DATA, ORDER_2 and SHORT; SEQUENTIAL, the label that others are
    compared with; COMPARED, {what a page calls a whole method: its label}; DRAWN, {those that pictures show:
    (key of COLOURS or "", line style)}; PRINTED, {name: columns of reported.csv}; CONTEXT, {words: table};
    and REAL, {order of the world: the one whose printed numbers stand beside it}.
    """

    facts = None  # each chapter has its own

    def __init__(self, page, name):
        facts = self.facts
        self.baseline = facts.SEQUENTIAL
        self.other = facts.ORDER_2
        if page.profile == "smoke" and page.data == facts.DATA:
            page.data = facts.SHORT  # two domains and an unseen one: seconds
        super().__init__(page, name)
        if page.profile != "smoke" and page.data == facts.DATA:
            self.away = facts.ORDER_2

    def begun(self):
        """The chapter's method in its second domain, before that is learned."""
        method, first = self.specs()[0].build()
        second = load_data(catalogue.order(self.page.data)[1], self.page.profile)
        for number, domain in enumerate((first, second), 1):
            method.begin_domain(domain, number)
        return method

    @property
    def order(self):
        """The names of the page's domains, in their order, as records have them."""
        return [catalogue.bare(one) for one in catalogue.order(self.page.data)]

    @property
    def titles(self):
        """The domains as captions call them."""
        return [catalogue.title(one) for one in self.order]

    def stages_of(self, label):
        """(runs of a label, the (T, T) scores of each)."""
        runs = ablations.found(self.row(label).specs, self.page.shelf)
        return runs, [lifelong.score_matrix(run.scores, self.order) for run in runs]

    def whole(self, on=None):
        """{what a page calls it: ablations.Row} of whole methods."""
        return {name: self.row(label, on) for name, label in self.facts.COMPARED.items()}

    def scores(self, on=None):
        """mAP and R1 of whole methods, seen and unseen: as printed, on real orders, and on the world."""
        data = on or self.page.data
        if on == "":
            return missing("The second order, in this profile")
        real = self.stands_for(data)
        places = {f"{side}, {catalogue.title(real)}": side for side in SIDES}
        theirs = {place: self.printed_whole(side, real) for place, side in places.items()}
        rows = {}
        for name, label in self.facts.COMPARED.items():
            rows[name] = {
                place: on_paper(self.row(label, real)._replace(task=SIDES[side][0]))
                for place, side in places.items()
            }
            rows[name] |= {
                f"{side}, {catalogue.title(data)}": self.row(label, data)._replace(task=SIDES[side][0])
                for side in SIDES
            }
        return overall.overall(rows, theirs, self.page.shelf)

    def stands_for(self, data):
        return self.facts.REAL.get(catalogue.bare(data), data)

    def printed_at(self, wanted, data, test=None):
        """Means over seen domains; over unseen ones where that is the test."""
        column = dict(SIDES.values()).get(test, "seen_avg")
        there = {**reported.place_of(self.stands_for(data)), "dataset": column}
        return reported.printed({label: {**columns, **there} for label, columns in wanted.items()})

    def printed_whole(self, side, real):
        """{(method, metric): value} that the paper prints of whole methods, on one side of an order."""
        return self.printed_at(self.facts.PRINTED, real, SIDES[side][0])

    def gain(self, caption, *, on=None):
        """Whole methods against sequential fine-tuning, on the mean over seen domains."""
        data = on or self.page.data
        return self.ablation(
            self.whole(data), "sequential fine-tuning", f"{caption}: {catalogue.title(data)}"
        )

    def domains(self):
        """mAP of whole methods on each seen domain after the last one, folded."""
        asked = [f"image to image on {one}" for one in self.order]
        lines = []
        for name, row in self.whole().items():
            runs = ablations.found(row.specs, self.page.shelf)
            lines.append([name, *(tables.ours(runs, task=test) for test in asked)])
        heads = [Head("method"), *(Head(title, "mAP after the last domain") for title in self.titles)]
        told = "Each seen domain after the last one"
        return folded(told, tables.table(heads, lines, told))

    def matrices(self):
        """{what a page calls it: (T, T) scores, mean over seeds} of the methods that pages draw, and how many
        runs of each there are."""
        found = {}
        for name in self.facts.DRAWN:
            runs, several = self.stages_of(self.facts.COMPARED[name])
            if runs:
                found[name] = (np.mean(several, 0), runs)
        return found

    def forgetting(self):
        """The measures of lifelong learning, means over seeds, of whole methods."""
        lines = []
        for name, label in self.facts.COMPARED.items():
            runs, several = self.stages_of(label)
            lines.append([name, *(mean_cell(measure, several, runs) for measure in MEASURES.values())])
        caption = (
            "mAP, means over seeds. Forgetting: best score since a domain was learned, minus that at the "
            "end; backward transfer: score at the end minus that right after the domain was learned"
        )
        return tables.table(["method", *MEASURES], lines, caption)

    def heat_maps(self):
        """What each method has kept of each domain, as maps of scores."""
        found = self.matrices()
        if not found:
            return missing("Maps of what was kept")
        worst = {name: lifelong.forgetting(matrix) for name, (matrix, _) in found.items()}
        told = [f"{name} {values.mean():.1f}" for name, values in worst.items() if len(values)]
        caption = f"Mean forgetting in points of mAP: {', '.join(told)}{self.aged(found)}"
        drawn = maps_of_scores({name: matrix for name, (matrix, _) in found.items()}, self.titles)
        return figure(drawn, caption, "A square per method: rows are stages, columns domains, cells mAP")

    def courses(self):
        """The mean over the domains seen so far, and over unseen ones, after each domain."""
        found = self.matrices()
        if not found:
            return missing("Scores over time")
        unseen = [catalogue.bare(one) for one in catalogue.unseen(self.page.data)]
        lines = {}
        for name, (matrix, runs) in found.items():
            apart = [lifelong.score_matrix(run.scores, self.order, unseen).mean(1) for run in runs]
            lines[name] = (lifelong.seen_averages(matrix), np.mean(apart, 0))
        ends = [f"{name} {seen[-1]:.1f} and {away[-1]:.1f}" for name, (seen, away) in lines.items()]
        caption = f"At the end, seen and unseen domains: {', '.join(ends)}{self.aged(found)}"
        drawn = over_time(lines, self.titles, self.facts.DRAWN)
        return figure(drawn, caption, "Two panels of mAP after each domain, a line per method")

    def aged(self, found):
        """What a caption says of runs that are older than the code, and of how few there are."""
        runs = [run for _, some in found.values() for run in some]
        old = " (of an older version of the code)" if any(run.outdated for run in runs) else ""
        fewest = min(len(some) for _, some in found.values())
        return f"; {fewest} seed{'s' * (fewest > 1)} at least{old}"

    def curves(self):
        """The learning curves of an order are its scores over time."""
        return self.courses()

    def competitors(self):
        """What the paper and others print, folded: context, not measured here."""
        paper, _ = NAMES[self.name]
        parts = []
        for words, title in self.facts.CONTEXT.items():
            lines = reported.numbers(paper=paper, table=title)
            lines = lines[lines.dataset.isin([column for _, column in SIDES.values()])]
            told = f"{words[0].upper()}{words[1:]}, as printed: context, not re-implemented here"
            parts.append(folded(told, tables.context(lines, told)))
        return together(*parts)


def own_records(run, name):
    """The records of a set after the last domain of a run."""
    return [one for one in averages.final(run.scores) if one["data"] == name]


MEASURES = {  # heading -> (T, T) scores -> a number
    "seen average": lambda scores: lifelong.seen_averages(scores)[-1],
    "average over stages": lifelong.average_incremental_score,
    "forgetting": lambda scores: lifelong.forgetting(scores).mean(),
    "backward transfer": lambda scores: lifelong.backward_transfer(scores).mean(),
}


def mean_cell(measure, several, runs):
    """The cell of a measure of matrices, one per run: their mean, and the spread over seeds."""
    if not runs:
        return tables.Cell(tables.NOT_RUN, "empty")
    values = [measure(scores) for scores in several]
    mean, low, high = map(tables.number, (np.mean(values), min(values), max(values)))
    spread = f" (seeds {low} to {high})" if len(values) > 1 else ""
    return tables.Cell(f"{mean}{spread}", tables.kind_of(runs), tuple(runs))


def maps_of_scores(matrices, names):
    """A square of scores (T, T) for each of {label: scores}: row s after domain s, a column per domain."""
    drawn, axes = plt.subplots(1, len(matrices), figsize=(2.1 * len(matrices) + 0.4, 2.5), squeeze=False)
    letters = [name.split()[-1] for name in names]
    for axis, (label, scores) in zip(axes[0], matrices.items()):
        axis.imshow(scores, vmin=0, vmax=100, cmap="viridis")
        for (row, column), value in np.ndenumerate(scores):
            bright = "black" if value > 60 else "white"
            weight = "bold" if column <= row else "normal"  # of a domain that was learned
            axis.text(
                column, row, f"{value:.0f}", ha="center", va="center", color=bright, weight=weight, size=7
            )
        axis.set(xticks=range(len(letters)), yticks=range(len(letters)), xticklabels=letters)
        axis.set_yticklabels(letters)
        axis.set_title(label, fontsize=8)
        axis.set_xlabel("tested on", fontsize=8)
    axes[0, 0].set_ylabel("after domain", fontsize=8)
    drawn.tight_layout()
    return drawn


def over_time(lines, names, styles):
    """Two panels, seen and unseen domains, of {label: (seen (T,), unseen (T,))} after each domain; `styles`
    {label: (key of COLOURS or "", line style)}."""
    drawn, axes = plt.subplots(1, 2, figsize=(7, 3), sharex=True)
    for axis, title, side in zip(axes, ("seen so far", "unseen"), (0, 1)):
        for label, both in lines.items():
            method, line = styles[label]
            colour = figures.COLOURS.get(method, GREY)
            axis.plot(both[side], color=colour, ls=line, marker="o", ms=3, label=label)
        axis.set(title=title, xticks=range(len(names)), xlabel="after domain")
        axis.set_xticklabels([name.split()[-1] for name in names])
    axes[0].set_ylabel("mean mAP over domains, per cent")
    axes[1].legend(frameon=False, fontsize=7)
    drawn.tight_layout()
    return drawn
