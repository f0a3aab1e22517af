"""What a notebook calls: checked parameters (`start`), runs that are loaded or trained (`reproduce`), the
tables of a chapter (`Chapter`), and source code and figures (`show`, `figure`)."""

import ast
import functools
import html
import inspect
import json
from types import SimpleNamespace

import numpy as np
from IPython import get_ipython
from IPython.display import HTML, display
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from data_prep import catalogue
from data_prep.catalogue import ROOT
from reid_core import checkpoint
from reid_core.analysis import dataflow, visuals
from reid_core.methods import METHODS
from reid_core.recipe import profile_called
from reid_core.report import ablations, chapters, claims, figures, forest, images, overall, reported, tables
from reid_core.runs import measure
from reid_core.runs.run import BOOK, OWN, SEEDS, Spec, changed

BOOKS = "laptop"  # the profile of the runs on the shelf BOOK


class ParameterError(ValueError):
    """A wrong parameter, in one sentence; Jupyter shows it without a traceback."""

    def _render_traceback_(self):
        return [f"ParameterError: {self}"]


def start(namespace):
    """Check the parameters of the notebook whose globals are `namespace`, and return them as a page. Its
    `shelf` is BOOK in the profile laptop, else (or with `retrain`) OWN, which falls back on BOOK.

    papermill passes `true`, `[0,1]`, `1e-4` and undeclared names without a complaint. Every value is
    converted to the type that the cell tagged `parameters` annotates, or refused with a ParameterError; so is
    whatever else the cell that papermill injects assigns.
    """
    declared = annotations(namespace)
    for name in injected(history(namespace)):
        known(declared, name)
    values = {name: coerced(name, kind, namespace[name]) for name, kind in declared.items()}
    check_words(values)
    namespace.update(values)
    books = values.get("profile") == BOOKS and not values.get("retrain")
    return SimpleNamespace(**values, shelf=BOOK if books else OWN)


def history(namespace):
    """The sources of the cells that ran so far."""
    shell = get_ipython()  # None outside of a notebook
    # not the global In, which a parameter of that name would hide
    return shell.history_manager.input_hist_parsed if shell else namespace.get("In", [])


INJECTED = "# Parameters\n"  # how the cell that papermill injects begins


def injected(sources):
    """What the cells that papermill injected assign to. A parameter whose name is no name stands there as
    code, and has run by now: it is returned as such."""
    found = []
    for source in sources:
        statements = ast.parse(source).body if source.startswith(INJECTED) else []
        for one in statements:
            targets = one.targets if isinstance(one, ast.Assign) else [one]
            found += map(ast.unparse, targets)  # a name as it is
    return found


def known(declared, name):
    """ParameterError for a parameter that the notebook does not declare."""
    if name not in declared:
        raise ParameterError(
            f"expected parameters among {', '.join(declared)}, found {name!r}; correct the name."
        )


def annotations(namespace):
    """{name: type as a string} of the annotated globals."""
    found = namespace.get("__annotations__") or namespace["__annotate__"](1)  # a function since Python 3.14
    kinds = {}
    for name, kind in found.items():
        generic = getattr(kind, "__args__", None)  # list[int] calls itself "list"
        kinds[name] = str(kind) if generic else kind.__name__
    return kinds


def coerced(name, kind, value):
    """`value` as the annotated type; ParameterError where that would be a guess."""
    try:
        return KINDS[kind](value)
    except (TypeError, ValueError, json.JSONDecodeError):  # of `int("one")`, of `as_bool(2)`, of "[0,"
        raise ParameterError(f"expected {name} to be {kind}, found {value!r}; correct the value.") from None


def as_bool(value):
    """True or False, also as a word; not a number. ValueError for all else."""
    words = {"true": True, "false": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError


def as_int(value):
    """A whole number, also as text or as 3.0. ValueError for all else."""
    if isinstance(value, bool) or (isinstance(value, float) and value % 1):
        raise ValueError  # int() would take True for 1, and cut 2.5 to 2
    return int(value)


def as_float(value):
    """A number, also as text such as "1e-4". ValueError for all else."""
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def as_str(value):
    """A text. ValueError for all else."""
    if not isinstance(value, str):
        raise ValueError
    return value


def as_list(item):
    """The function that reads a list, also from JSON, and converts its items with `item`."""

    def read(value):
        if isinstance(value, str):  # "[0,1]": papermill passes lists on its command line as texts
            value = json.loads(value)
        if not isinstance(value, list | tuple):
            raise ValueError
        return [item(one) for one in value]

    return read


def as_dict(value):
    """A dict, also from JSON. ValueError for all else."""
    if isinstance(value, str):  # as papermill passes it on its command line
        value = json.loads(value)
    if not isinstance(value, dict):
        raise ValueError
    return value


KINDS = {
    "bool": as_bool,
    "dict": as_dict,
    "int": as_int,
    "float": as_float,
    "str": as_str,
    "list[int]": as_list(as_int),
    "list[float]": as_list(as_float),
    "list[str]": as_list(as_str),
}


def check_words(values):
    """ParameterError for an unknown profile or a seed that no generator takes."""
    if "profile" in values:
        try:
            profile_called(values["profile"])
        except ValueError as error:
            raise ParameterError(str(error)) from None
    if not 0 <= values.get("seed", 0) < SEEDS:
        raise ParameterError(
            f"expected seed to be below {SEEDS}, and 0 or more, found {values['seed']}; correct the value."
        )


def reproduce(page, method, variant, row="full", seed=None):
    """The run of an ablation row in the page's profile: trained with `retrain` (in the profile smoke also
    where it is missing or stale), else loaded from the page's shelf. None if there is none, which tables
    print as "not run"."""
    if seed is None:
        seed = page.seed
    spec = Spec(method, variant, row, page.data, page.profile, seed)
    try:
        if page.retrain:
            return visuals.measured(spec, log=PageLine())
        if page.profile == "smoke":
            return trained_once(spec)
        return page.shelf.find(spec)
    except ValueError as error:
        raise ParameterError(str(error)) from None


class PageLine:
    """A log for a page: `update` replaces the last line below the cell, a call prints one that stays."""

    def __init__(self):
        self.shown = None

    def __call__(self, line):
        print(line)

    def update(self, line):
        told = HTML(tables.paragraph(line) if line else "")
        if self.shown:
            self.shown.update(told)
        else:
            self.shown = display(told, display_id=True)


def trained_once(spec, log=None):
    """The reader's run of a spec, trained where it is missing or stale: of several pages that lack it, one
    trains and the others wait, or they would print numbers of a run that another replaces."""
    with checkpoint.turn_at(OWN.path(spec)):
        run = OWN.find(spec)
        if run is None or run.outdated:
            run = visuals.measured(spec, log=log or quiet)
    return run


NAMES = {  # what tables call a variant
    "CLIP fine-tune": ("clip_reid", "baseline"),
    "CLIP-ReID": ("clip_reid", "clip_reid"),
    "PromptSG": ("promptsg", "promptsg"),
    "HPL": ("hpl", "hpl"),
    "DMPT": ("dmpt", "dmpt"),
    "text model alone": ("hpl", "sentences"),
    "image model alone": ("hpl", "images"),
    "PAD": ("pad", "released"),
    "PAD as described": ("pad", "described"),
    "VLADR": ("vladr", "released"),
    "VLADR as described": ("vladr", "described"),
    **{name: ("lifelong", name) for name in METHODS["lifelong"].variants},
}


PACES = ("training minutes", "images per second")  # of a run, as `measure.pace` gives them


class Chapter:
    """The tables of a page about one paper, a call per cell, in the profile and on the data of the page.

    A label is an ablation row of the chapter's method, the name of a method (its full row), or both: "CLIP
    fine-tune, half the epochs". `on` names another data set than the page's, such as `away`; where that
    is "", because the profile has none, the table is a placeholder.
    """

    baseline = "CLIP fine-tune"  # the label of what whole methods are compared with
    other = chapters.MARKETS[1]  # what a claim on another data set names where the profile has none

    def __init__(self, page, name):
        self.page = page
        self.name = name
        self.paper = METHODS[NAMES[name][0]]
        self.own = self.changed()  # first: what is wrong there should not cost a training
        if page.profile == "smoke":  # made in seconds: one seed, and no test on another data set
            self.seeds = [page.seed]
            self.away = ""
        else:
            self.seeds = sorted({*chapters.SEEDS, page.seed})
            self.away = catalogue.partner(page.data) or ""

    def meaning(self, label):
        """(name of a method, ablation row) of a label."""
        name, _, row = label.partition(", ")
        if name in NAMES:
            return name, row or "full"
        return self.name, label  # a row of this chapter's method, whose name may hold a comma

    def specs(self, label="full", on=None):
        """The specs of a label, one per seed."""
        name, row = self.meaning(label)
        data = on or self.page.data
        # `same`: rows with equal settings share a run
        return [Spec(*NAMES[name], row, data, self.page.profile, seed).same for seed in self.seeds]

    def changed(self):
        """The Spec of the full row with the page's `changes`, which the command `train` takes as --set."""
        told = [f"{name}={as_tuple(value)}" for name, value in getattr(self.page, "changes", {}).items()]
        try:
            row = changed("full", told)
            return Spec(*NAMES[self.name], row, self.page.data, self.page.profile, self.page.seed).check()
        except ValueError as error:
            raise ParameterError(str(error)) from None

    def head(self):
        """The paper, its authors, its code, and the lines of our file."""
        paper = chapters.PAPERS[self.name]
        kind = self.paper.variants[NAMES[self.name][1]].kind
        lines, first = inspect.getsourcelines(kind)
        place = f"{place_of(kind)}, lines {first} to {first + len(lines) - 1}"
        code = link(paper.code) if paper.code else "none"
        rows = {
            "paper": link(paper.link, paper.title),
            "authors": tables.escaped(paper.authors),
            "venue": tables.escaped(paper.venue),
            "official code": f"{code} ({tables.escaped(paper.remark)})",
            "here": f"<code>{tables.escaped(place)}</code>",
        }
        told = "".join(f"<dt>{name}</dt><dd>{what}</dd>" for name, what in rows.items())
        return HTML(f'<dl class="simple head">{told}</dl>')

    def architecture(self, caption, alt, stage=-1):
        """The data flow of a stage, the last one unless told, as one forward pass recorded it."""
        method = self.begun()
        return figure(dataflow.draw(dataflow.record(method, method.stages()[stage])), caption, alt)

    def begun(self):
        """The chapter's method before training."""
        return Spec(*NAMES[self.name], "full", self.page.data, self.page.profile).build()[0]

    def box(self, name):
        """The three sentences that open a page."""
        page = chapters.BOXES[self.name][name]
        found = {one.claim.id: one for one in self.judged}
        return claims.box(page, [found[one] for one in page.claims])

    def claims(self):
        """The table of the chapter's claims, with their verdicts."""
        told = f"What {self.name} claims, and what the runs say on {catalogue.title(self.page.data)}"
        return claims.table(self.judged, told)

    @functools.cached_property
    def judged(self):
        """The chapter's claims beside the runs of the page's shelf."""
        return claims.judge(list(map(self.asked, chapters.CLAIMS[self.name])), self.page.shelf)

    def asked(self, claim):
        """(claim, Row of its better side, Row of the other, title of the data)."""
        data = (self.away or self.other) if claim.away else self.page.data
        printed = self.printed_at(dict(enumerate(claim.printed)), data, claim.tests[0])
        sides = []
        for k, label in enumerate((claim.better, claim.against)):
            specs = [] if claim.away and not self.away else self.specs(label, data)
            sides.append(ablations.Row(specs, claim.tests[k], printed.get((k, claim.metric))))
        return claim, *sides, catalogue.title(data)

    def forest(self, on=None):
        """The forest plot of the chapter's questions, but for those whose effects are on another scale."""
        if on == "":
            return missing("The forest plot of the other data set, in this profile")
        data = on or self.page.data
        return self.plotted(self.groups(data), catalogue.title(data))

    def groups(self, on=None):
        """The groups of the forest plot."""
        asked = {
            question.title: (self.rows(name, on or self.page.data), question.reference)
            for name, question in chapters.QUESTIONS[self.name].items()
            if question.plotted
        }
        return forest.grouped(asked, self.page.shelf)

    def plotted(self, groups, place):
        """The forest plot of some groups."""
        if not any(one.change for group in groups for one in group.rows):
            return missing(f"The forest plot of {place}")
        return figure(forest.forest(groups), forest.caption(groups, place), forest.alt(groups))

    def rows(self, name, data):
        """{label: Row} of a question, with the printed numbers where a table has them."""
        question = chapters.QUESTIONS[self.name][name]
        made = {}
        for label in question.labels:
            test = question.tests.get(label)
            printed = {}
            if question.table:
                printed = self.printed(question.table, (label,), data, test and test[1])
            made[label] = self.row(label, data, test, printed.get((label, "mAP")))
        return made

    def question(self, name, on=None):
        """The table of one of the chapter's questions, folded."""
        question = chapters.QUESTIONS[self.name][name]
        if on == "":
            return missing(f"{question.title} on the other data set, in this profile")
        data = on or self.page.data
        caption = f"{question.caption}: {catalogue.title(data)}"
        beside = self.beside(data) if question.table else ""
        made = self.ablation(self.rows(name, data), question.reference, caption, printed_on=beside)
        return folded(f"{question.title}: {catalogue.title(data)}", made)

    def elsewhere(self, labels, *, reference):
        """The same models on the data set that their training did not see."""
        if not self.away:
            return missing("The test on another data set, in this profile")
        test = f"image to image on {self.away.partition('#')[0]}"  # tests are named without a world's seed
        made = {label: self.row(label, test=(label, test)) for label in labels}
        trained = catalogue.title(self.page.data)
        tested = catalogue.title(self.away)
        caption = f"Trained on {trained}, tested on {tested}, which no training saw"
        return folded(caption, self.ablation(made, reference, caption))

    def first_ranks(self, title):
        """R1 of a printed table, on the page's data set and on the other one."""
        specs = {}
        printed = {}
        for data in filter(None, (self.page.data, self.away)):
            theirs = self.printed(title, self.paper.tables[title], data)
            for label in self.paper.tables[title]:
                shown = f"{chapters.shown(label)}, {catalogue.title(data)}"
                specs[shown] = self.specs(label, data)
                if (label, "R1") in theirs:
                    printed[shown, "R1"] = theirs[label, "R1"]
        told = f"{title}: first ranks"
        return folded(told, ablations.comparison(specs, ["R1"], printed, told, shelf=self.page.shelf))

    @property
    def printed_methods(self):
        """{name: columns that pick its line of reported.csv}: the chapter's method and those before it, which
        one table prints side by side."""
        names = list(chapters.TABLE_2)
        return {name: chapters.TABLE_2[name] for name in names[: names.index(self.name) + 1]}

    def scores(self):
        """mAP and R1 of whole methods: as printed, ours on the same data, and ours on the page's data."""
        sets = [data for data in (self.page.data, self.away) if data]
        real = [catalogue.stands_for(data) for data in sets]
        title = catalogue.title
        theirs = {title(data): printed_of(self.printed_methods, data) for data in real}
        rows = {}
        for name in self.printed_methods:
            rows[name] = {title(data): on_paper(self.row(name, data)) for data in real}
            rows[name] |= {title(data): self.row(name, data) for data in sets}
        return overall.overall(rows, theirs, self.page.shelf)

    def whole(self):
        """{what a page calls it: ablations.Row} of the whole methods that it sets side by side."""
        return {name: self.row(name) for name in self.printed_methods}

    def gain(self, caption, *, on=None):
        """Whole methods against the baseline, beside the printed differences."""
        data = on or self.page.data
        if on == "":
            return missing("The difference on the other data set, in this profile")
        printed = printed_of(self.printed_methods, data)
        made = {
            name: self.row(name, data, printed=printed.get((name, "mAP"))) for name in self.printed_methods
        }
        caption = f"{caption} on {catalogue.title(data)}"
        return self.ablation(made, "CLIP fine-tune", caption, printed_on=self.beside(data))

    def reranked(self):
        """Whole methods without and with k-reciprocal re-ranking, against the baseline without, folded."""
        names = self.printed_methods
        made = {name: self.row(name) for name in names}
        for name in names:
            made[f"{name}, re-ranked"] = self.row(name, test=(name, "image to image, re-ranked"))
        caption = f"With and without re-ranking: {catalogue.title(self.page.data)}"
        return folded(caption, self.ablation(made, "CLIP fine-tune", caption))

    def curves(self):
        """Learning curves of all seeds of the chapter's method, those of the baseline in grey."""
        labels = {chapters.shown(label): label for label in (self.baseline, self.name)}
        found = {name: ablations.found(self.specs(one), self.page.shelf) for name, one in labels.items()}
        found = {name: [run for run in runs if figures.course(run)] for name, runs in found.items()}
        if not found[self.name]:
            return missing("Learning curves")
        words = figures.curves_words(found, catalogue.title(self.page.data))
        return figure(figures.curves(found), *words)

    def recipe(self):
        """The full recipe in the page's profile, folded."""
        told = f"The full recipe in the profile {self.page.profile}"
        return folded(told, tables.recipe_table(self.specs()[0].recipe(), told))

    def assumed(self):
        """What of the recipe the paper does not say, or the page's profile changes."""
        caption = (
            f"Settings that {self.name} does not specify, or that the profile {self.page.profile} changes"
        )
        return tables.assumed_table(self.specs()[0].recipe(), caption)

    def rerun(self, run):
        """What the run of the page took, and the line of output that it ended with."""
        if not run:
            return missing("Time and output of this run")
        told = f"This run took {run.cost['minutes']:g} min on {run.machine}, and printed"
        if run.outdated:
            told = f"An older version of this run ({run.outdated}) took {told.removeprefix('This run took ')}"
        line = html.escape("\n".join(map(measure.score_line, self.first_scores(run))))
        around = f"Another processor may change mAP by about {ablations.SMALL:g}."
        return HTML(f"{tables.paragraph(f'{told}:')}<pre>{line}</pre>{tables.paragraph(around)}")

    def first_scores(self, run):
        """The records that stand for a run."""
        return run.tests[:1]

    def try_it(self):
        """The full row with the page's `changes`, trained where it is missing or stale, as "your run" beside
        the row without them."""
        if not self.page.changes:
            return HTML(tables.paragraph(TRY))
        spec = self.own
        if self.page.retrain:
            visuals.measured(spec, log=PageLine())
        else:
            trained_once(spec, PageLine())
        words = ", ".join(spec.row.split(" + ")[1:])
        caption = f"{self.name} with your changes: {catalogue.title(spec.data)}, profile {spec.profile}"
        return self.beside_full(spec, f"{words}, {ablations.YOURS}", caption)

    def beside_full(self, spec, shown, caption):
        """The table of a reader's run beside the full row."""
        rows = {"full": self.row("full"), spec.row: ablations.Row([spec], shown=shown)}
        return ablations.ablation(rows, "full", caption, shelf=OWN)

    def provenance(self, run):
        """What is kept with a run, folded."""
        facts = {**run.data, **run.cost, **run.provenance} if run else {"this row": tables.NOT_RUN}
        lines = [[key, str(value)] for key, value in facts.items()]
        told = "Provenance of the run shown above"
        return folded(told, tables.table(["fact", "value"], lines, told))

    def cost(self):
        """What a run of whole methods cost: medians over seeds and over the epochs of a stage."""
        lines = []
        minutes = {}
        for name, row in self.whole().items():
            runs, kept = self.pace(row)
            if not runs:
                lines.append([name, *[tables.NOT_RUN] * 3])
                continue
            minutes[name] = kept[PACES[0]]
            cells = [pace_cell(value, runs) for value in kept.values()]
            lines.append([name, f"{runs[0].cost['trained parameters']:,}", *cells])
        caption = f"What a run of the profile {self.page.profile} cost on the machine of its record"
        if {"CLIP-ReID", self.name} <= set(minutes):
            ratio = minutes[self.name] / minutes["CLIP-ReID"]
            caption += f"; training {self.name} takes {ratio:.2f} of the time of CLIP-ReID"
        return tables.table(["method", "learnable parameters", *PACES], lines, caption)

    def pace(self, row):
        """(the runs of a Row, {key of PACES: median over them}); no run, nothing."""
        runs = ablations.found(row.specs, self.page.shelf)
        paces = [measure.pace(run.history) for run in runs]
        return runs, {key: np.median([pace[key] for pace in paces]) for key in PACES} if runs else {}

    def row(self, label, on=None, test=None, printed=None):
        """An `ablations.Row`; `test` is (row, test) where the label differs in the test alone."""
        row, task = test or (label, None)
        known = chapters.shown(label)
        return ablations.Row(self.specs(row, on), task, printed, known if known != label else "")

    def printed(self, title, labels, data, test=None):
        """{(label, metric): value} that the paper prints in a table, of rows of any variant."""
        paper, _ = NAMES[self.name]
        wanted = {}
        for label in labels:
            variant, _ = self.meaning(label)
            wanted[label] = {"paper": paper, "table": title, "row": label.removeprefix(f"{variant}, ")}
        return self.printed_at(wanted, data, test)

    def printed_at(self, wanted, data, test=None):
        """{(label, metric): value} of {label: columns} where the paper prints numbers of `data`; an order has
        a place for each `test`."""
        return printed_of(wanted, data)

    def stands_for(self, data):
        """The data set whose printed numbers stand beside ours."""
        return catalogue.stands_for(data)

    def beside(self, data):
        """The title of that data set."""
        return catalogue.title(self.stands_for(data))

    def ablation(self, rows, reference, caption, printed_on=""):
        """`ablations.ablation` on the page's shelf."""
        return ablations.ablation(rows, reference, caption, shelf=self.page.shelf, printed_on=printed_on)


def printed_of(wanted, data):
    """{(label, metric): value} that papers print for {label: columns that pick its line of reported.csv}, on
    the data set that `data` stands for: a world stands for the real one that it imitates."""
    there = reported.place_of(catalogue.stands_for(data))
    return reported.printed({label: {**columns, **there} for label, columns in wanted.items()})


def on_paper(row):
    """A Row as it is in the profile paper."""
    return row._replace(specs=[one._replace(profile="paper") for one in row.specs])


TRY = (
    "Nothing is changed. Set the parameter changes to a dict of settings, such as "
    '{"label_smoothing": 0.0}, and run the page again: their names are those of the full recipe.'
)


def as_tuple(value):
    """A value of JSON or YAML as recipes hold it: lists become tuples."""
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value


def pace_cell(value, runs):
    """The cell of a number that some runs took."""
    return tables.Cell(f"{value:,.4g}", tables.kind_of(runs), tuple(runs))


def quiet(*_):
    """A log that prints nothing: a page shows no progress."""


def show(*things):
    """The source of functions and classes, with file and line; all but the first are folded."""
    parts = []
    for thing in things:
        place, code = listing(thing)
        name = tables.escaped(inspect.unwrap(thing).__qualname__)
        folded_one = f"<details><summary><code>{name}</code>, {place}</summary>{code}</details>"
        parts.append(folded_one if parts else f'<div class="place">{place}</div>{code}')
    return HTML("".join(f'<div class="source">{part}</div>' for part in parts))


def listing(thing):
    """(file and line, highlighted source) of a function or class, as HTML."""
    style = HtmlFormatter(noclasses=True, style="tango", nobackground=True)  # colours stand in the spans
    source, line = inspect.getsourcelines(thing)
    return f"{tables.escaped(place_of(thing))}, line {line}", highlight("".join(source), PythonLexer(), style)


def place_of(thing):
    """The file of a function or class, below the project."""
    path = inspect.getsourcefile(inspect.unwrap(thing))  # of a decorated one, not of its decorator
    return path.removeprefix(f"{ROOT}/")


def link(address, words=""):
    """The HTML of a link."""
    return f'<a href="{tables.escaped(address)}">{tables.escaped(words or address)}</a>'


def folded(title, shown):
    """What is shown, behind a line that opens it."""
    return HTML(tables.folded(title, shown.data))


def together(*shown):
    """Several things that one cell shows, below each other."""
    return HTML("".join(one.data for one in shown))


def figure(plot, caption, alt):
    """A plot with its caption (the finding) and alt text (what it looks like)."""
    return HTML(figures.as_html(plot, caption, alt))


def missing(what):
    """A placeholder for a figure or table whose runs do not exist: "WHAT: not run"."""
    return HTML(f'<p class="empty">{tables.escaped(what)}: {tables.NOT_RUN}.</p>')


__all__ = [
    "Chapter",
    "Spec",
    "ablations",
    "catalogue",
    "chapters",
    "figure",
    "figures",
    "folded",
    "images",
    "missing",
    "reported",
    "reproduce",
    "show",
    "start",
    "tables",
    "together",
]
