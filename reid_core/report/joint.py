"""The tables of a chapter whose runs train on a joint set and are tested in a task on each of its parts: the
tasks stand side by side, each with its own protocol."""

import functools
from typing import NamedTuple

import numpy as np
from IPython.display import HTML

from data_prep import catalogue
from reid_core.loading import load_clip
from reid_core.report import ablations, chapters, figures, forest, overall, reported, tables
from reid_core.report.notebook import (
    NAMES,
    PACES,
    Chapter,
    ParameterError,
    figure,
    folded,
    missing,
    on_paper,
    pace_cell,
)
from reid_core.report.tables import Head
from reid_core.runs.run import OWN

SMOKE = f"{chapters.PAIR[0]}+{chapters.MARKETS[1]}"


def fitting(page):
    """The page; in the profile smoke with the joint set whose training identities fill a batch: without the
    shared people whom World-Text tests, World-Market has one too few."""
    if page.profile == "smoke" and page.data == chapters.JOINT_SET:
        page.data = SMOKE
    return page


class JointChapter(Chapter):
    """A Chapter with a `chapters.Task` for each part of the page's joint set. ParameterError for data that
    have another number of parts."""

    def __init__(self, page, name):
        self.tasks = chapters.TASKS[name]
        parts = catalogue.parts(page.data)
        if len(parts) != len(self.tasks):
            raise ParameterError(
                f"expected {len(self.tasks)} data sets joined by +, the first with captions, found "
                f"{page.data}; name them, such as {chapters.JOINT_SET}."
            )
        self.parts = dict(zip(self.tasks, parts))
        super().__init__(page, name)
        self.away = ""  # both parts are tested, and no third set

    def test(self, task, ending=""):
        """The name of a task's test."""
        return f"{task.name}{ending} on {catalogue.bare(self.parts[task])}"

    def place(self, task):
        """A task and its data set, as captions call them."""
        return f"{catalogue.title(self.parts[task])}, {task.name}"

    def side(self, label, task, ending="", printed=None):
        """The ablations.Row of a label in a task."""
        row, data = label, self.page.data
        if label == chapters.SEPARATE:
            row, data = task.alone, self.parts[task]
        if label == chapters.LEAKY:
            row, data = "full", catalogue.LEAKY + data.removeprefix(catalogue.LEAKY)
        if ending:
            row = "full"
        known = chapters.shown(label)
        shown = known if known != label else ""
        return ablations.Row(self.specs(row, data), self.test(task, ending), printed, shown)

    def sides(self, name):
        """{task: {label: Row}} of a question, with the printed numbers where a table has them."""
        question = chapters.QUESTIONS[self.name][name]
        made = {}
        for task in self.tasks:
            theirs = self.printed_in(task, question.table, question.labels) if question.table else {}
            made[task] = {
                label: self.side(
                    label, task, question.tests.get(label, ("", ""))[1], theirs.get((label, "mAP"))
                )
                for label in question.labels
            }
        return made

    def printed_in(self, task, title, labels):
        """{(label, metric): value} that the paper prints in a table for a task."""
        data = catalogue.stands_for(self.parts[task])
        columns = {"paper": NAMES[self.name][0], "table": title, "dataset": data}
        return reported.printed({label: {**columns, "row": label} for label in labels})

    def asked(self, claim):
        """(claim, Row of its better side, Row of the other, place) in the claim's task."""
        task = next(one for one in self.tasks if one.name == claim.task)
        data = catalogue.stands_for(self.parts[task])
        columns = {k: {**one, "dataset": data} for k, one in enumerate(claim.printed)}
        printed = reported.printed(columns)
        labels = (claim.better, claim.against)
        sides = [self.side(one, task, "", printed.get((k, claim.metric))) for k, one in enumerate(labels)]
        return claim, *sides, self.place(task)

    def groups(self, task=None):
        """The groups of the forest plot of a task, or of all tasks."""
        made = []
        for name, question in chapters.QUESTIONS[self.name].items():
            sides = self.sides(name)
            beside = ablations.compared_together(sides, question.reference, self.page.shelf)
            for one in [task] if task else self.tasks:
                base = sides[one][question.reference]
                told = question.title, beside[one], base, question.reference
                made.append(forest.group(*told, self.page.shelf))
        return made

    def forest(self, number=0):
        """The forest plot of a task."""
        task = self.tasks[number]
        return self.plotted(self.groups(task), self.place(task))

    def question(self, name):
        """The tables of one of the chapter's questions, folded: mAP and R1, then differences in mAP."""
        question = chapters.QUESTIONS[self.name][name]
        sides = self.sides(name)
        theirs = {}
        for task in self.tasks if question.table else ():
            place = f"{self.beside(self.parts[task])}, {task.name}"
            theirs[place] = self.printed_in(task, question.table, question.labels)
        shown = self.effects(sides, question.reference, question.caption)
        return folded(question.title, HTML(shown.data + self.numbers(sides, theirs).data))

    def numbers(self, sides, theirs=None):
        """mAP and R1 of {task: {label: Row}}, behind the printed ones {place: {(label, metric): value}}."""
        rows = {}
        known = {}  # what pages call a label
        for task, some in sides.items():
            for label, row in some.items():
                known[label] = row.shown or label
                rows.setdefault(known[label], {})[self.place(task)] = row
        told = {
            place: {(known[label], metric): value for (label, metric), value in values.items()}
            for place, values in (theirs or {}).items()
        }
        return overall.overall(rows, told, self.page.shelf)

    def effects(self, sides, reference, caption, shelf=None):
        """The differences in mAP of {task: {label: Row}} from the row `reference`, the tasks side by side."""
        shelf = shelf or self.page.shelf
        beside = ablations.compared_together(sides, reference, shelf)
        heads = [Head("row")]
        columns = []
        above = ""
        for task, some in beside.items():
            heads += self.heads(task, sides[task], some)
            columns.append(lines_of(some, sides[task], reference, shelf))
            above += ablations.resolution(some, sides[task][reference], shelf, place=f" in {task.name}")
        if not any(one.runs for some in beside.values() for one in some):
            above = ""  # nothing was run: the table says so itself
        told = f"{caption}{ablations.finding(self.named(beside))}"
        return HTML(above + tables.table(heads, side_by_side(columns), told).data)

    def heads(self, task, rows, beside):
        """The Heads of a task in `effects`; a phone has the differences alone."""
        with_paper = any(row.printed is not None for row in rows.values())
        origins = dict.fromkeys(ablations.PLACES[run.data["origin"]] for one in beside for run in one.runs)
        heads = ablations.headings("mAP", with_paper, self.beside(self.parts[task]), origins)[1:]
        ours = heads[-2].group  # that of the verdict, too
        named = [one._replace(group=f"{one.group or ours}, {task.name}") for one in heads]
        return [one._replace(minor=one.text != "difference [95 %]") for one in named]

    def named(self, beside):
        """All Compared of {task: [Compared]}, each with its task in its name."""
        return [
            one._replace(row=one.row._replace(shown=f"{one.row.shown or one.label}, {task.name}"))
            for task, some in beside.items()
            for one in some
        ]

    def whole(self):
        """Joint training, a model per task, and the method, each in its first task."""
        first, *_ = self.tasks
        joint = chapters.QUESTIONS[self.name]["separate"].reference
        rows = {"one class token": self.side(joint, first)}
        rows |= {task.alone: self.side(chapters.SEPARATE, task) for task in self.tasks}
        return {**rows, self.name: self.side("full", first)}

    def cost(self):
        """One model for all tasks against a model per task, which the last line adds up: what is stored to
        answer, and what training took."""
        made = {name: self.priced(row) for name, row in self.whole().items()}
        made["both separate models"] = added(made[task.alone] for task in self.tasks)
        share = made[self.name].stored / made["both separate models"].stored
        caption = (
            f"Answering both tasks takes {100 * share:.0f} % of the parameters of two models, and one "
            "encoding of an image instead of two; minutes are those of the profile "
            f"{self.page.profile} on the machine of the record"
        )
        heads = ["model", "parameters that answer, millions", "MB in float32", PACES[0]]
        return tables.table(heads, [[name, *one.cells()] for name, one in made.items()], caption)

    def priced(self, row):
        """The Price of the model of a Row."""
        runs, kept = self.pace(row)
        return Price(parameters_to_answer(row.specs[0]), tuple(runs), kept.get(PACES[0], np.nan))

    def scores(self):
        """mAP and R1 in both tasks of joint training, a model per task, and the method: as printed in the
        tables of whole methods, ours on the same data and ours on the page's."""
        question = chapters.QUESTIONS[self.name]["separate"]
        rows = {}
        for label in question.labels:
            name = self.name if label == "full" else chapters.shown(label)
            mine = {task: self.side(label, task) for task in self.tasks}
            real = {self.real(task): on_paper(self.on_real(row)) for task, row in mine.items()}
            rows[name] = real | {self.place(task): row for task, row in mine.items()}
        printed = {self.real(task): self.headline(task) for task in self.tasks}
        return overall.overall(rows, printed, self.page.shelf)

    def real(self, task):
        """The data set that a task's part stands for, and the task, as captions call them."""
        return f"{self.beside(self.parts[task])}, {task.name}"

    def on_real(self, row):
        """A Row on the real data sets that those of its runs stand for."""
        specs = [one._replace(data=catalogue.stands_for(one.data)) for one in row.specs]
        test, _, data = row.task.partition(" on ")
        return row._replace(specs=specs, task=f"{test} on {catalogue.stands_for(data)}")

    def headline(self, task):
        """{(method, metric): value} that the paper prints of its whole method in a task."""
        columns = {"paper": NAMES[self.name][0], "table": task.table, "method": self.name}
        data = catalogue.stands_for(self.parts[task])
        return reported.printed({self.name: {**columns, "dataset": data}})

    def competitors(self):
        """The printed tables of whole methods, one per task: context, not measured here."""
        parts = []
        for task in self.tasks:
            rows = reported.numbers(paper=NAMES[self.name][0], table=task.table)
            told = f"{task.table} as the paper prints it, {task.name}: context, not measured here"
            parts.append(folded(f"{task.table} with all competitors", tables.context(rows, told)).data)
        return HTML("".join(parts))

    def gain(self, caption):
        """The method and a model per task against joint training, in both tasks."""
        question = chapters.QUESTIONS[self.name]["separate"]
        return self.effects(self.sides("separate"), question.reference, caption)

    def curves(self):
        """Learning curves of all seeds in each task, those of joint training in grey."""
        question = chapters.QUESTIONS[self.name]["separate"]
        return HTML("".join(self.curve(task, question.reference).data for task in self.tasks))

    def curve(self, task, reference):
        """The learning curves of a task."""
        term = task.term
        found = {}
        for label in (reference, "full"):
            row = self.side(label, task)
            runs = ablations.found(row.specs, self.page.shelf, row.task)
            found[row.shown] = [run for run in runs if figures.course(run, term)]
        if not found[chapters.shown("full")]:
            return missing(f"Learning curves, {task.name}")
        test = self.test(task)
        words = figures.curves_words(found, self.place(task), test)
        return figure(figures.curves(found, term, test), *words)

    def reranked(self):
        """The method without and with k-reciprocal re-ranking, folded."""
        task = self.tasks[-1]
        rows = {"full": self.side("full", task), "re-ranked": self.side("full", task, ", re-ranked")}
        rows["re-ranked"] = rows["re-ranked"]._replace(shown="re-ranked")
        caption = f"With and without re-ranking: {self.place(task)}"
        return folded(caption, self.ablation(rows, "full", caption))

    def first_scores(self, run):
        """The record of each task that a run was tested in."""
        tests = [self.test(task) for task in self.tasks]
        return [run.record(test) for test in tests if run.has(test)]

    def beside_full(self, spec, shown, caption):
        """The table of a reader's run beside the full row, in both tasks."""
        sides = {}
        for task in self.tasks:
            own = ablations.Row([spec], self.test(task), shown=shown)
            sides[task] = {"full": self.side("full", task), spec.row: own}
        return self.effects(sides, "full", caption, OWN)


def lines_of(beside, rows, reference, shelf):
    """{name: cells} of a task's Compared, those of a reader's own runs below the book's."""
    with_paper = any(row.printed is not None for row in rows.values())
    seeds, _ = ablations.seeds_told([row.specs for row in rows.values()], [one.runs for one in beside])
    lines = {}
    for one in [*beside, *ablations.compared_yours(rows, reference, shelf)]:
        name, *cells = ablations.line_of(one, "mAP", with_paper, seeds)
        lines[name.text] = cells
    return lines


def side_by_side(columns):
    """The rows of a table of several {name: cells}, with dashes where one lacks a name."""
    lines = []
    for name in dict.fromkeys(name for column in columns for name in column):  # each once, in order
        line = [name]
        for column in columns:
            width = len(next(iter(column.values())))
            line += column.get(name, [tables.Cell("–", "empty")] * width)
        lines.append(line)
    return lines


@functools.cache
def parameters_to_answer(spec):
    """How many numbers the towers hold that answer the queries of a row: without heads, prompts and inversion
    networks, which training alone needs; a model for image queries needs no text tower."""
    recipe = spec.recipe()
    size = (recipe.image_height, recipe.image_width)
    image, text, _ = load_clip(recipe.backbone, None, size, extra_tokens=recipe.class_tokens - 1)
    towers = [image] if spec.variant == "images" else [image, text]
    return sum(p.numel() for tower in towers for p in tower.parameters())


class Price(NamedTuple):
    """What a model, or several, cost."""

    stored: int  # parameters that answer
    runs: tuple  # what the minutes are from; none where nothing was run
    minutes: float

    def cells(self):
        """Millions of parameters, their megabytes, and the minutes of a training where there is one."""
        time = pace_cell(self.minutes, self.runs) if self.runs else tables.NOT_RUN
        return [f"{self.stored / 1e6:.2f}", f"{4 * self.stored / 1e6:.1f}", time]


def added(prices):
    """The Price of several models together; without runs where one has none."""
    stored, runs, minutes = zip(*prices)
    return Price(sum(stored), sum(runs, ()) if all(runs) else (), sum(minutes))
