"""The tables and pictures of a chapter whose methods meet one domain after the other: averages over seen and
unseen domains, each domain at the end, and what was forgotten on the way.

T domains of an order
"""

import numpy as np
from matplotlib import pyplot as plt

from data_prep import catalogue
from reid_core import lifelong
from reid_core.analysis import bench
from reid_core.data import load_data
from reid_core.report import ablations, figures, overall, reported, tables
from reid_core.report.chapters import pad
from reid_core.report.notebook import Chapter, figure, folded, missing, on_paper, together
from reid_core.report.tables import Head
from reid_core.runs import averages
from reid_core.runs.averages import SEEN, UNSEEN

WHOLE = {  # what a page calls a whole method -> its label
    **pad.SIMPLE,
    "full fine-tuning (S0)": pad.PLAIN,
    "PAD": "full",
    pad.DESCRIBED: pad.DESCRIBED,
}
DRAWN = ("sequential fine-tuning", "joint training", "full fine-tuning (S0)", "PAD", pad.DESCRIBED)
LINES = dict(zip(DRAWN, ("-", ":", "--", "-", "-.")))  # never colour alone
SHADES = dict(zip(DRAWN, ("#777777", "#777777", figures.COLOURS["clip_reid"])))
SIDES = {"seen": (SEEN, "seen_avg"), "unseen": (UNSEEN, "unseen_avg")}  # -> (test, column of reported.csv)


class OrderChapter(Chapter):
    """A Chapter whose data are an order of domains; `away` is the paper's second order. A run is told by its
    mean over seen domains after the last one."""

    baseline = pad.SEQUENTIAL
    other = pad.ORDER_2

    def __init__(self, page, name):
        if page.profile == "smoke" and page.data == pad.DATA:
            page.data = pad.SHORT  # two domains and an unseen one: seconds
        super().__init__(page, name)
        if page.profile != "smoke" and page.data == pad.DATA:
            self.away = pad.ORDER_2

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
        return {name: self.row(label, on) for name, label in WHOLE.items()}

    def scores(self, on=None):
        """mAP and R1 of whole methods, seen and unseen: as printed, on real orders, and on the world."""
        data = on or self.page.data
        if on == "":
            return missing("The second order, in this profile")
        real = catalogue.stands_for(data)
        places = {f"{side}, {catalogue.title(real)}": side for side in SIDES}
        theirs = {place: self.printed_whole(side, real) for place, side in places.items()}
        rows = {}
        for name, label in WHOLE.items():
            rows[name] = {
                place: on_paper(self.row(label, real)._replace(task=SIDES[side][0]))
                for place, side in places.items()
            }
            rows[name] |= {
                f"{side}, {catalogue.title(data)}": self.row(label, data)._replace(task=SIDES[side][0])
                for side in SIDES
            }
        return overall.overall(rows, theirs, self.page.shelf)

    def printed_whole(self, side, real):
        """{(method, metric): value} that the paper prints of whole methods, on one side of an order."""
        found = {}
        for name, columns in pad.PRINTED.items():
            there = {**reported.place_of(real), "dataset": SIDES[side][1]}
            found |= reported.printed({name: {**columns, **there}})
        return found

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
        for name in DRAWN:
            runs, several = self.stages_of(WHOLE[name])
            if runs:
                found[name] = (np.mean(several, 0), runs)
        return found

    def forgetting(self):
        """The measures of lifelong learning, means over seeds, of whole methods."""
        lines = []
        for name, label in WHOLE.items():
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
        drawn = over_time(lines, self.titles)
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

    def slots(self):
        """Whose slots the images of each seen domain pick after the last one, folded: mean over seeds."""
        there = ablations.found(self.row("full").specs, self.page.shelf)
        runs = [run for run in there if all("traits" in one for one in averages.final(run.scores))]
        if not runs:
            return missing("Slots that images pick")
        lines = []
        for name, title in zip(self.order, self.titles):
            kept = [one["traits"]["slots"] for run in runs for one in own_records(run, name)]
            shares = [f"{share:.0f}" for share in np.mean(kept, 0)]
            lines.append([title, *(tables.Cell(one, tables.kind_of(runs), tuple(runs)) for one in shares)])
        chance = ", ".join(f"{share:.0f}" for share in shares_of_slots(runs[0].recipe, len(lines)))
        caption = (
            f"Per cent of picks over blocks and query images; picks at random would give {chance}. Keys are "
            "never trained"
        )
        heads = ["images of", *(f"slots opened by {title}" for title in self.titles)]
        return folded("Whose slots images pick", tables.table(heads, lines, caption))

    def storage(self):
        """What prompts take and what learns in each domain, at the paper's size."""
        told = bench.kept("growing_pool")
        if not told:
            return missing("Storage of prompts (python -m reid_core bench growing_pool)")
        lines = []
        for title, one in told["stored"].items():
            total = one["words"] + one["pool"]
            cells = [f"{total / 1e6:.2f}", f"{2 * total / 2**20:.1f}"]
            lines.append([title, *cells, f"{one['stage 1']:.1f}", f"{one['stage 2']:.1f}"])
        heads = [
            "domain",
            "prompts, M numbers",
            "MiB in half precision",
            "learns in stage 1, %",
            "in stage 2, %",
        ]
        caption = (
            f"{told['model']}: words of the domain's identities and the whole pool. The paper prints "
            "13.71 M, 26.1 MiB, and 1 to 1.6 % (stage 1)"
        )
        return tables.table(heads, lines, caption)

    def overhead(self):
        """How much longer an image takes at test with prompts."""
        told = bench.kept("growing_pool")
        if not told:
            return missing("Time of prompts at test (python -m reid_core bench growing_pool)")
        lines = [[way, f"{ratio:.2f}"] for way, ratio in told["ratios"].items()]
        caption = f"Time of an image at test, the tower alone = 1: {told['model']}, {told['device']}"
        return tables.table(["prompts", "time"], lines, caption)

    def competitors(self):
        """What the paper and others print, folded: context, not measured here."""
        parts = []
        for words, title in pad.CONTEXT.items():
            lines = reported.numbers(paper="pad", table=title)
            lines = lines[lines.dataset.isin(["seen_avg", "unseen_avg"])]
            told = f"{words[0].upper()}{words[1:]}, as printed: context, not re-implemented here"
            parts.append(folded(told, tables.context(lines, told)))
        return together(*parts)


def shares_of_slots(recipe, domains):
    """(domains,) the slots that each domain opens, in per cent of all that are open at the end."""
    opened = np.minimum(recipe["new_slots"] * np.arange(domains + 1), recipe["pool_size"])
    return 100 * np.diff(opened) / opened[-1]


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
    spread = f" (seeds {min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return tables.Cell(f"{np.mean(values):.1f}{spread}", tables.kind_of(runs), tuple(runs))


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


def over_time(lines, names):
    """Two panels, seen and unseen domains, of {label: (seen (T,), unseen (T,))} after each domain."""
    drawn, axes = plt.subplots(1, 2, figsize=(7, 3), sharex=True)
    for axis, title, side in zip(axes, ("seen so far", "unseen"), (0, 1)):
        for label, both in lines.items():
            colour = SHADES.get(label, figures.COLOURS["pad"])
            axis.plot(both[side], color=colour, ls=LINES[label], marker="o", ms=3, label=label)
        axis.set(title=title, xticks=range(len(names)), xlabel="after domain")
        axis.set_xticklabels([name.split()[-1] for name in names])
    axes[0].set_ylabel("mean mAP over domains, per cent")
    axes[1].legend(frameon=False, fontsize=7)
    drawn.tight_layout()
    return drawn
