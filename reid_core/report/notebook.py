"""What a notebook calls: checked parameters (`start`), runs that are loaded or trained (`reproduce`), the
tables of a chapter (`Chapter`), and source code and figures (`show`, `figure`)."""

import ast
import inspect
import json
from types import SimpleNamespace

from IPython import get_ipython
from IPython.display import HTML
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from data_prep import catalogue
from data_prep.catalogue import ROOT
from reid_core.methods import METHODS
from reid_core.recipe import profile_called
from reid_core.report import ablations, chapters, figures, images, reported, tables
from reid_core.runs import measure, records
from reid_core.runs.run import BOOK, OWN, SEEDS, Spec

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


KINDS = {
    "bool": as_bool,
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
    """The run of an ablation row in the page's profile: trained with `retrain` (in the profile smoke whenever
    it is missing or stale), else loaded from the page's shelf. None if there is none, which tables print as
    "not run"."""
    if seed is None:
        seed = page.seed
    spec = Spec(method, variant, row, page.data, page.profile, seed)
    try:
        if page.profile == "smoke":
            return trained_once(spec)
        if page.retrain:
            return measure.measure(spec)
        return page.shelf.find(spec)
    except ValueError as error:
        raise ParameterError(str(error)) from None


def trained_once(spec):
    """The reader's run of a spec, trained where it is missing or stale: of several pages that lack it, one
    trains and the others wait, or they would print numbers of a run that another replaces."""
    with records.turn_at(OWN.path(spec)):
        run = OWN.find(spec)
        if run is None or run.outdated:
            run = measure.measure(spec, log=quiet)
    return run


NAMES = {  # what tables call a variant
    "CLIP fine-tune": ("clip_reid", "baseline"),
    "CLIP-ReID": ("clip_reid", "clip_reid"),
    "PromptSG": ("promptsg", "promptsg"),
}


class Chapter:
    """The tables of a page about one paper, a call per cell, in the profile and on the data of the page.

    A label is an ablation row of the chapter's method, the name of a method (its full row), or both: "CLIP
    fine-tune, twice the epochs". `on` names another data set than the page's, such as `away`; where that
    is "", because the profile has none, the table is a placeholder. Tables on the page's data are gathered
    for `overview`.
    """

    def __init__(self, page, name):
        self.page = page
        self.name = name
        self.made = {}  # {title: (rows, reference)} of the tables so far, for `overview`
        self.paper = METHODS[NAMES[name][0]]
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

    def table(self, title, against, *, on=None, reference=None, tests=None, rows=None):
        """A printed ablation table beside ours, each row against the `reference`, the first unless told.
        `tests` {label: (row, test)} names what differs in the test alone."""
        data = on or self.page.data
        labels = list(rows or self.paper.tables[title])
        if on == "":
            return missing(f"{title} on the other data set, in this profile")
        caption = f"{title} on {catalogue.title(data)}, against {against}"
        printed = self.printed(title, labels, data)
        tests = tests or {}
        made = {}
        for label in labels:
            made[label] = self.row(label, data, tests.get(label), printed.get((label, "mAP")))
        noted = None if on else title
        return self.ablation(made, reference or labels[0], caption, noted, printed_on=self.beside(data))

    def sweep(self, name, labels, caption, *, reference="full", on=None, tests=None):
        """An ablation without printed numbers, each row against the `reference`; `tests` as in `table`."""
        if on == "":
            return missing(f"{caption} on the other data set, in this profile")
        tests = tests or {}
        made = {label: self.row(label, on, tests.get(label)) for label in labels}
        noted = None if on else name
        return self.ablation(made, reference, f"{caption}: {catalogue.title(on or self.page.data)}", noted)

    def elsewhere(self, labels, *, reference):
        """The same models on the data set that their training did not see."""
        if not self.away:
            return missing("The test on another data set, in this profile")
        test = f"image to image on {self.away.partition('#')[0]}"  # tests are named without a world's seed
        made = {label: self.row(label, test=(label, test)) for label in labels}
        trained = catalogue.title(self.page.data)
        tested = catalogue.title(self.away)
        caption = f"Trained on {trained}, tested on {tested}, which no training saw"
        return self.ablation(made, reference, caption)

    def first_ranks(self, title):
        """R1 of a printed table, on the page's data set and on the other one."""
        specs = {}
        printed = {}
        for data in filter(None, (self.page.data, self.away)):
            theirs = self.printed(title, self.paper.tables[title], data)
            for label in self.paper.tables[title]:
                shown = f"{label}, {catalogue.title(data)}"
                specs[shown] = self.specs(label, data)
                if (label, "R1") in theirs:
                    printed[shown, "R1"] = theirs[label, "R1"]
        return ablations.comparison(specs, ["R1"], printed, f"{title}: first ranks", shelf=self.page.shelf)

    def compared_with_print(self, wanted, *, on=None):
        """mAP and R1 of whole methods beside the printed ones; `wanted` is {name: columns that pick its line
        of reported.csv}."""
        data = on or self.page.data
        if on == "":
            return missing("The other data set, in this profile")
        printed = printed_of(wanted, data)
        caption = (
            f"{self.beside(data)} as printed; ours: {catalogue.title(data)}; intervals count the luck "
            "of so few seeds and who is searched for"
        )
        specs = {name: self.specs(name, data) for name in wanted}
        return ablations.comparison(specs, ["mAP", "R1"], printed, caption, shelf=self.page.shelf)

    def gain(self, wanted, reference, caption, *, on=None):
        """Whole methods against the `reference`, beside the printed differences."""
        data = on or self.page.data
        if on == "":
            return missing("The difference on the other data set, in this profile")
        printed = printed_of(wanted, data)
        made = {name: self.row(name, data, printed=printed.get((name, "mAP"))) for name in wanted}
        caption = f"{caption} on {catalogue.title(data)}"
        return self.ablation(made, reference, caption, printed_on=self.beside(data))

    def overview(self):
        """All rows of the page's tables by verdict."""
        caption = f"Every row of this page on {catalogue.title(self.page.data)}, by verdict"
        return ablations.overview(self.made, caption, self.page.shelf)

    def row(self, label, on=None, test=None, printed=None):
        """An `ablations.Row`; `test` is (row, test) where the label differs in the test alone."""
        row, task = test or (label, None)
        return ablations.Row(self.specs(row, on), task, printed)

    def printed(self, title, labels, data):
        """{(label, metric): value} that the paper prints in a table."""
        paper, _ = NAMES[self.name]
        return printed_of({label: {"paper": paper, "table": title, "row": label} for label in labels}, data)

    def beside(self, data):
        """The title of the data set whose printed numbers stand beside ours."""
        return catalogue.title(catalogue.stands_for(data))

    def ablation(self, rows, reference, caption, name=None, printed_on=""):
        """`ablations.ablation` on the page's shelf; with a `name`, noted for `overview`."""
        if name:
            self.made[name] = (rows, reference)
        return ablations.ablation(rows, reference, caption, shelf=self.page.shelf, printed_on=printed_on)


def printed_of(wanted, data):
    """{(label, metric): value} that papers print for {label: columns that pick its line of reported.csv}, on
    the data set that `data` stands for: a world stands for the real one that it imitates."""
    there = catalogue.stands_for(data)
    return reported.printed({label: {**columns, "dataset": there} for label, columns in wanted.items()})


def quiet(*_):
    """A log that prints nothing: a page shows no progress."""


def show(*things):
    """The source of functions and classes, with file and line."""
    style = HtmlFormatter(noclasses=True, style="tango", nobackground=True)  # colours stand in the spans
    parts = []
    for thing in things:
        source, line = inspect.getsourcelines(thing)
        path = inspect.getsourcefile(inspect.unwrap(thing))  # of a decorated one, not of its decorator
        place = f"{path.removeprefix(str(ROOT) + '/')}, line {line}"
        code = highlight("".join(source), PythonLexer(), style)
        parts.append(f'<div class="source"><div class="place">{tables.escaped(place)}</div>{code}</div>')
    return HTML("".join(parts))


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
    "figure",
    "figures",
    "images",
    "missing",
    "reported",
    "reproduce",
    "show",
    "start",
    "tables",
]
