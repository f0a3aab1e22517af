"""The tables and pictures of a chapter whose shots are images in three spectra: four data sets, spectra that
are missing at test, what spectra put into each other, and which one a model looks at.

Q explained shots, M spectra, h x w patches
"""

import dataclasses

import numpy as np
from matplotlib import pyplot as plt

from data_prep import catalogue
from data_prep.manifest import MODALITIES
from reid_core.analysis import bench, explain, visuals
from reid_core.data import load_data
from reid_core.report import ablations, chapters, heatmaps, images, overall, reported, tables
from reid_core.report.chapters import dmpt
from reid_core.report.notebook import Chapter, folded, missing, on_paper, printed_of, together
from reid_core.report.tables import Head
from reid_core.runs import intervals

HOURS = ("day", "night")
STATES = 12  # bytes a learnable parameter: a gradient and Adam's two means in float32
BY_QUERY = ("pids", "ap", "first", "inp")  # columns of a run's record
WHOLE = {  # what a page calls a whole method -> (label, what picks its lines of Tables 1 to 3)
    "Baseline 1, ImageNet": (dmpt.IMAGENET[1], [dmpt.whole("Baseline1", "ViT", "Table 1")]),
    "Baseline 2, ImageNet": (dmpt.IMAGENET[2], [dmpt.whole("Baseline2", "ViT", "Table 1")]),
    "DMPT, ImageNet": (dmpt.IMAGENET[0], [dmpt.whole("DMPT", "ViT", f"Table {k}") for k in (1, 2)]),
    "Baseline 1, CLIP": (dmpt.VISUAL, [{"paper": "dmpt", "table": "Table 3", "row": dmpt.VISUAL}]),
    "Baseline 2, CLIP": (dmpt.FROZEN[0], []),
    "full fine-tuning, CLIP": (dmpt.FROZEN[1], []),
    "DMPT, CLIP": ("full", [dmpt.whole("DMPT", "CLIP", f"Table {k}") for k in (1, 2)]),
}
KINDS = {"persons": dmpt.PERSONS, "vehicles": dmpt.VEHICLES}


class SpectraChapter(Chapter):
    """A Chapter with a model per data set; its pages show the first of them in full."""

    baseline = dmpt.VISUAL
    other = dmpt.PERSONS[1]

    def __init__(self, page, name):
        super().__init__(page, name)
        if page.profile != "smoke" and page.data == dmpt.DATA:
            self.away = self.other

    def whole(self, on=None):
        """The whole methods with CLIP's weights, on the page's data set or another."""
        return {name: self.row(label, on) for name, (label, _) in WHOLE.items() if name.endswith("CLIP")}

    def scores(self, kind="persons"):
        """mAP and R1 of whole methods on both sets of persons, or of vehicles: as printed, ours on the same
        data, and ours on the world."""
        sets = KINDS[kind] if self.page.profile != "smoke" else (self.page.data,)
        real = [catalogue.stands_for(data) for data in sets]
        title = catalogue.title
        theirs = {title(data): self.printed_whole(data) for data in real}
        rows = {}
        for name, (label, _) in WHOLE.items():
            rows[name] = {title(data): on_paper(self.row(label, data)) for data in real}
            rows[name] |= {title(data): self.row(label, data) for data in sets}
        return overall.overall(rows, theirs, self.page.shelf)

    def printed_whole(self, data):
        """{(method, metric): value} of Tables 1, 2 and 3 on a data set."""
        found = {}
        for name, (_, lines) in WHOLE.items():
            for columns in lines:
                found |= printed_of({name: columns}, data)
        return found

    def gain(self, caption, on=None):
        """Whole methods against Baseline 1 with the same weights."""
        told = f"{caption} on {catalogue.title(on or self.page.data)}"
        return self.ablation(self.whole(on), "Baseline 1, CLIP", told)

    def by_hour(self):
        """What it costs to lose spectra, for shots by day and at night: differences in mAP from all three."""
        full = self.row("full")
        runs = ablations.found(full.specs, self.page.shelf)
        hours = hours_of(self.page, runs)
        if hours is None:
            return missing("Missing spectra by day and at night")
        lines = []
        for label, (_, test) in dmpt.lacking("zeros").items():
            there = [run for run in runs if run.has(test)]
            cells = [hour_cell(there, test, hours == hour) for hour in HOURS]
            lines.append([label, *cells])
        nights = 100 * np.mean(hours == HOURS[1])
        caption = (
            "mAP minus that with all three spectra, by the hour of the query, in points with 95 % intervals; "
            f"{nights:.0f} % of the queries were taken at night, when the visible image shows next to nothing"
        )
        return tables.table(["spectra at test", "by day", "at night"], lines, caption)

    def contamination(self):
        """How well each spectrum is searched by its own class token alone, before and after it heard of the
        others, for each way to exchange."""
        lines = []
        for label in ("full", *dmpt.FIGURE_1[:2]):
            row = self.row(label)
            for spectrum in MODALITIES:
                tests = [
                    f"image to image by {spectrum}, {when} the interaction" for when in ("before", "after")
                ]
                found = [ablations.found(row.specs, self.page.shelf, test) for test in tests]
                cells = [tables.ours(runs, task=test) for runs, test in zip(found, tests)]
                name = f"{row.shown or label}, {dmpt.WORDS[spectrum]}"
                lines.append([name, *cells, change(found[1], found[0], tests[1], tests[0])])
        caption = (
            f"Each spectrum searched by its own class token on {catalogue.title(self.page.data)}: what a "
            "token gains from the others it tells of them, too"
        )
        heads = [Head("exchange, spectrum"), *map(Head, ("mAP before", "after", "difference [95 %]"))]
        return tables.table(heads, lines, caption)

    def competitors(self):
        """Tables 1 and 2 as printed, with all competitors: context, not measured here."""
        parts = []
        for title in ("Table 1", "Table 2"):
            told = f"{title} as the paper prints it: context, not measured here"
            lines = reported.numbers(paper="dmpt", table=title)
            parts.append(folded(f"{title} with all competitors", tables.context(lines, told)))
        return together(*parts)

    def efficiency(self):
        """What is trained, what training keeps in memory and how long a step takes, at the paper's size."""
        told = bench.kept("prompt_tuning")
        if not told:
            return missing("Memory and time of training (python -m reid_core bench prompt_tuning)")
        lines = [
            [
                chapters.shown(label),
                f"{one['trained']:,}",
                f"{one['per cent']:.1f}",
                f"{one['kept']:.0f}",
                f"{STATES * one['trained'] / 2**20:.0f}",
                f"{one['seconds']:.2f}",
            ]
            for label, one in told["rows"].items()
        ]
        heads = [
            "row",
            "learnable parameters",
            "per cent of three towers",
            "kept for the backward pass, MB a shot",
            "gradients and optimiser, MB",
            "time of a step, fine-tuning = 1",
        ]
        caption = f"{told['model']}, {told['batch']} shots of three images, {told['device']}"
        return tables.table(heads, lines, caption)


def hours_of(page, runs):
    """When the queries of some runs were taken (A,); None where nobody knows, or without runs."""
    if not runs:
        return None
    data = load_data(page.data, page.profile)
    hours = np.array(explain.hours_of(data, data.query.paths[:, 0]))
    same = np.array_equal(runs[0].record()["pids"], data.query.pids)
    return hours if same and set(HOURS) <= set(hours) else None


def hour_cell(runs, test, chosen):
    """The cell of a test minus the first test of the same runs, over the `chosen` queries (A,) alone."""
    if not runs:
        return tables.Cell(tables.NOT_RUN, "empty")
    few = [of_queries(run, chosen) for run in runs]
    found = intervals.paired(few, few, test, None)
    text = f"{tables.points(found.mean)} [{tables.points(found.low)}, {tables.points(found.high)}]"
    return tables.Cell(text, tables.kind_of(runs), tuple(runs))


def of_queries(run, chosen):
    """A run as if it had been tested with the `chosen` (A,) of its queries."""
    scores = []
    for record in run.scores:
        columns = [name for name in BY_QUERY if name in record]
        scores.append({**record, **{name: np.asarray(record[name])[chosen] for name in columns}})
    return dataclasses.replace(run, scores=scores)


def change(runs, others, test, other_test):
    """The cell of the mAP of a test minus that of another, pair by pair of seeds."""
    mine, theirs = ablations.alike(runs, others), ablations.alike(others, runs)
    if not mine:
        return tables.Cell(tables.NOT_RUN, "empty")
    found = intervals.paired(mine, theirs, test, other_test)
    return tables.change_cell(found, mine, theirs, test, other_test)


class Spectra:
    """The pictures of `Explanations`, a call per cell, of the last method that has Visuals."""

    def __init__(self, looks):
        self.looks = looks
        self.one = list(looks.there.values())[-1]
        self.data = looks.data

    def chosen(self):
        """Positions of four explained shots: the first two of each hour, or the first four where nobody
        knows."""
        found = [k for hour in HOURS for k in np.flatnonzero(self.one.hours == hour)[:2]]
        return found or list(range(min(4, len(self.one.rows))))

    def maps(self, how="relevance"):
        """A line per shot: the image of each spectrum, and under its map in grey."""
        chosen = self.chosen()
        kind = list(visuals.HOW).index(how)
        shots = [pictures_of(self.data, self.one.rows[k]) for k in chosen]
        under = [[f"{100 * float(share):.0f} %" for share in self.one.shares[kind, k]] for k in chosen]
        persons = visuals.persons(self.data, self.one.rows[chosen])
        titles = [str(self.one.hours[k]) for k in chosen]
        drawn = side_by_side(shots, self.one.spectra[kind, chosen], under, persons, titles)
        caption = f"{self.finding(how)}. The maps of a shot share one scale; under each its share"
        alt = "A line per shot: three images of it, each beside itself in grey under its heat map"
        return self.looks.figure(drawn, f"{caption}.", alt)

    def finding(self, how="relevance"):
        """Which part of the maps lies in the visible image, by day and at night."""
        told = []
        for hour in HOURS:
            share = self.share(MODALITIES.index("rgb"), hour, how)
            if share.mean == share.mean:  # not NaN: there are such shots
                told.append(f"{share.mean:.0f} % [{share.low:.0f}, {share.high:.0f}] {SAID[hour]}")
        return f"Share of the maps in the visible image: {', '.join(told) or 'no hour is known'}"

    def share(self, spectrum, hour, how="relevance"):
        """The Interval of the share of a map in one spectrum, over the shots of an hour, in per cent."""
        kind = list(visuals.HOW).index(how)
        return visuals.mean(self.one.shares[kind, self.one.hours == hour, spectrum].astype(float))

    def seen(self, spectrum, hour, how="relevance"):
        """The Interval of the share of a spectrum's map on the person minus that of a uniform map, in
        points."""
        kind = list(visuals.HOW).index(how)
        there = self.one.hours == hour
        chance = self.one.chance[there, explain.SCORES.index("person")].astype(float)
        return visuals.mean(self.one.seen[kind, there, spectrum].astype(float) - chance)

    def table(self, how="relevance"):
        """The share of each spectrum of the maps, and how much of its map lies on the person, by hour."""
        if not set(HOURS) <= set(self.one.hours):
            return missing("Shares of the spectra by day and at night")
        lines = []
        for m, spectrum in enumerate(MODALITIES):
            cells = [around(self.share(m, hour, how)) for hour in HOURS]
            cells += [around(self.seen(m, hour, how), tables.points) for hour in HOURS]
            lines.append([dmpt.WORDS[spectrum], *cells])
        heads = [Head("spectrum")]
        heads += [Head(SAID[hour], "share of the map, %") for hour in HOURS]
        heads += [Head(SAID[hour], "on the person, points above uniform", minor=True) for hour in HOURS]
        caption = f"{self.finding(how)}. Means with 95 % intervals over people{self.looks.caveat}"
        return tables.table(heads, lines, caption)


SAID = {"day": "by day", "night": "at night"}


def around(found, spelt="{:.0f}".format):
    """The text of an Interval."""
    return f"{spelt(found.mean)} [{spelt(found.low)}, {spelt(found.high)}]"


def pictures_of(data, row, split="query"):
    """The M images (H, W, 3) of a shot, in one size."""
    count = getattr(data, split).paths.shape[1]
    return images.same_size([images.picture(data, split, row, m) for m in range(count)])


def side_by_side(shots, maps, under, persons, titles, width=0.72):
    """A line per shot: each of its M pictures (H, W, 3), and beside it its map (h, w) over it in grey, with
    words under it."""
    count = len(shots[0])
    height = width * shots[0][0].shape[0] / shots[0][0].shape[1]
    size = (2 * count * width, len(shots) * (height + 0.34))
    drawn, axes = plt.subplots(len(shots), 2 * count, figsize=size, squeeze=False)
    for k, row in enumerate(axes):
        person = persons[k] if len(persons) else None
        for m in range(count):
            row[2 * m].imshow(shots[k][m])
            heatmaps.overlay(row[2 * m + 1], shots[k][m], maps[k, m], under[k][m], person, brightest=255)
            if not k:
                row[2 * m].set_title(list(dmpt.WORDS.values())[m], fontsize=8, pad=3)
        heatmaps.below(row[0], titles[k])
    for axis in axes.flat:
        axis.axis("off")
    drawn.subplots_adjust(wspace=0.05, hspace=0.24 / height, left=0, right=1, bottom=0, top=1)
    return drawn


def lit_and_dark(data):
    """The three images of a shot by day, and below those of one at night of the same person; of real data, of
    the first two shots of a person."""
    shots = data.query
    hours = np.array(explain.hours_of(data, shots.paths[:, 0]))
    rows = two_of_one(shots.pids, hours)
    found = [one for row in rows for one in pictures_of(data, row)]
    return images.image_grid(
        images.same_size(found), len(dmpt.WORDS), [*dmpt.WORDS.values(), *" " * 3], width=1.1
    )


def two_of_one(pids, hours):
    """Positions of two shots of one person, the first by day and the second at night where there are such."""
    for pid in np.unique(pids):
        own = np.flatnonzero(pids == pid)
        firsts = [own[hours[own] == hour][:1] for hour in HOURS]
        if all(map(len, firsts)):
            return [int(one[0]) for one in firsts]
    return [int(row) for row in np.flatnonzero(pids == pids[0])[:2]]
