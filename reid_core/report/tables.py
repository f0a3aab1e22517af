"""Tables as HTML whose cells name the runs that they come from; the guards of the book check them.

A cell with one of our numbers has data-run (paths of its runs), data-sha (hashes of their files when the page
was made) and data-origin ("world" or "real"). Columns for real data have the class "real", those for the
world the class "world". What the guards compute again also has data-metric, data-test, and of an effect
data-against (how many of the runs, the last ones, are the reference) and data-base (the test of those).
"""

import hashlib
import html
from typing import NamedTuple

import numpy as np
from IPython.display import HTML

from data_prep import catalogue
from reid_core.runs import intervals
from reid_core.runs.run import BOOK, OWN, Run

NOT_RUN = "not run"
STALE = "stale"


class Cell(NamedTuple):
    """The text of a cell, and the runs that its number comes from."""

    text: str
    kind: str = ""  # the class of its column
    runs: tuple = ()
    asked: dict = {}  # {mark: value} of what the guards compute again


def escaped(value):
    """Any value as one line of HTML that shows it as it is, and that cannot end a cell of a Markdown table.
    Whatever comes from data, settings or messages goes through here before it stands on a page."""
    return html.escape(" ".join(str(value).split())).replace("|", "&#124;")


def table(headings, rows, caption):
    """A table for a page: `headings` are texts, `rows` lists of texts, numbers or Cells; the caption states
    the finding."""
    head = ""
    for text in headings:
        head += f"<th>{escaped(text)}</th>"
    body = ""
    for row in rows:
        body += f"<tr>{''.join(map(cell, row))}</tr>"
    return HTML(
        f'<div class="scroll"><table class="numbers"><caption>{escaped(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def cell(value):
    """The HTML of a Cell, or of any other value as text."""
    if not isinstance(value, Cell):
        value = Cell(str(value))
    if any(run.outdated for run in value.runs):
        value = aged(value)
    marks = ""
    for name, text in (marks_of(value.runs) | value.asked).items():
        marks += f' data-{name}="{escaped(text)}"'
    return f'<td class="{escaped(value.kind)}"{marks}>{escaped(value.text)}</td>'


def aged(value):
    """The cell of a stale run: marked as such, and greyed."""
    return value._replace(text=f"{value.text} ({STALE})", kind=f"{value.kind} {STALE}")


def marks_of(runs):
    """{data attribute: value} of a cell with numbers of these runs."""
    if not runs:
        return {}
    names = []
    origins = set()
    for run in runs:
        names.append(run.spec.name)
        origins.add(run.data["origin"])
    return {
        "run": " ".join(names),
        "sha": " ".join(map(sha, runs)),  # in the order of the names: the guards read them in pairs
        "origin": " ".join(sorted(origins)),
    }


def sha(run):
    """Twelve digits of the hash of a run's file. Where both shelves have one of that name, it is the one with
    this run's scores. ValueError where none has."""
    for path in (BOOK.path(run.spec), OWN.path(run.spec)):
        if path.exists() and Run.read(path).scores == run.scores:
            return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    raise ValueError(f"expected a file with the scores of {run.spec.name}, found none; measure it again.")


def ours(runs, metric="mAP", task=None):
    """The cell of our number: mean over runs, with the half width of its 95 % interval for mAP, with the
    standard deviation over seeds for other metrics."""
    runs = [run for run in runs if run]  # None: not run
    if not runs:
        return Cell(NOT_RUN, "empty")
    values = [run.score(metric, task) for run in runs]
    if metric == "mAP":
        spread = intervals.interval(runs, task).half
    else:
        spread = np.std(values)
    asked = asked_for({"metric": metric, "test": task})
    return Cell(f"{np.mean(values):.1f} ± {spread:.1f}", kind_of(runs), tuple(runs), asked)


def asked_for(marks):
    """The marks that say something: None stands for a run's first test."""
    return {name: value for name, value in marks.items() if value is not None}


def kind_of(runs):
    """The class of a cell with numbers of these runs: "world" if any of them is of the world, else "real"."""
    for run in runs:
        if run.data["origin"] == "world":
            return "world"
    return "real"


def printed(value):
    """The paper's number, or a dash where it prints none."""
    return Cell("–" if value is None else f"{value:.1f}", "paper")


def recipe_table(recipe, caption):
    """A line per field of a recipe: published or assumed value, status, place, rule of the profile, value
    used."""
    rows = []
    for line in recipe.table():
        kind = "changed" if line.used != line.printed else ""
        used = Cell(short(line.used), kind)
        rows.append([line.name, short(line.printed), line.status, line.where, line.rule, used])
    headings = ["setting", "published or assumed", "status", "where or why", "rule of the profile", "used"]
    return table(headings, rows, caption)


def stage_table(method, caption):
    """What trains when: a line per stage and group of parameters."""
    rows = []
    for stage in method.stages():
        for group in stage.groups:
            count = sum(p.numel() for p in group.parameters())
            rates = [f"{group.lr:.2g}", f"{group.weight_decay:.0e}", f"x {group.bias_factor:g}"]
            rows.append([stage.name, stage.epochs, f"{count:,}", *rates])
    headings = ["stage", "epochs", "parameters", "learning rate", "weight decay", "rate of biases"]
    return table(headings, rows, caption)


def short(value):
    """A value of a recipe as text, floats with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return f"({', '.join(map(short, value))})"
    return str(value)


def context(rows, caption):
    """Printed numbers of other methods, as `reported.numbers` gives them: a line per method and backbone, mAP
    / R1 per data set. A star, as printed, stands for images larger than 256 x 128."""
    names = list(dict.fromkeys(rows.dataset))  # a dictionary for its order: each once, as they come
    values = {}  # {(method, backbone): {(data set, metric): value}}, in the order of the rows
    larger = set()  # methods with larger images
    for row in rows.itertuples():
        values.setdefault((row.method, row.backbone), {})[row.dataset, row.metric] = row.value
        if "* =" in row.note:
            larger.add(row.method)
    lines = []
    for (method, backbone), told in values.items():
        line = [f"{method}*" if method in larger else method, backbone]
        for name in names:
            mean_ap = printed(told.get((name, "mAP"))).text
            rank_1 = printed(told.get((name, "R1"))).text
            line.append(Cell(f"{mean_ap} / {rank_1}", "paper"))
        lines.append(line)
    headings = ["method", "backbone"]
    headings += [f"{catalogue.title(name)}, mAP / R1" for name in names]
    return table(headings, lines, caption)


def sizes(counted, rows, caption):
    """Learnable parameters in millions, {(method, data): counted}, beside the printed ones and the printed
    training times."""
    columns = {
        "params_M": "millions, printed",
        "params_frac_clip": "of CLIP, printed",
        "train_seconds": "seconds, printed",
        "train_time_ratio": "of CLIP-ReID's time, printed",
    }
    values = {}
    for row in rows.itertuples():
        values[row.method, row.dataset, row.metric] = row.value
    lines = []
    off = []  # what the count does not round to
    for (name, data), count in counted.items():
        title = catalogue.title(data)
        theirs = [Cell(f"{values[name, data, metric]:g}", "paper") for metric in columns]
        lines.append([name, title, f"{count:.2f}", *theirs])
        millions = values[name, data, "params_M"]
        if round(count) != millions:  # the papers print whole millions
            off.append(f"{name} on {title} ({count:.2f}, printed {millions:g})")
    told = "all round to what is printed"
    if off:
        told = f"all but {', '.join(off)} round to what is printed"
    return table(["method", "data set", "millions, counted", *columns.values()], lines, f"{caption}; {told}")


def ranked_how(protocols):
    """The end of a caption: the protocols of our numbers."""
    told = [words for words in protocols if words]  # runs older than the field have none
    return f". Ours: {'; or '.join(told)}" if told else ""


def signed(value, kind=""):
    """A cell with a difference in points, or a dash for None."""
    return Cell("–" if value is None else f"{value:+.1f}", kind)


def change_cell(change, runs, others, task=None, other_task=None):
    """The cell of an Interval of mAP in points, of `runs` against `others`, each with its own test; or a
    dash."""
    if change is None:
        return Cell("–", "empty")
    text = f"{change.mean:+.1f} [{change.low:+.1f}, {change.high:+.1f}]"
    both = (*runs, *others)
    asked = asked_for({"metric": "mAP", "test": task, "against": len(others), "base": other_task})
    return Cell(text, kind_of(both), both, asked)


def speed(told, printed, caption, names=None):
    """Ratios of one measurement of `bench`, with the smallest and largest of its rounds, beside the printed
    ones {label: ratio}; `names` {label: how the page calls it}."""
    names = names or {}
    spread = told.get("spread", {})  # older measurements have none
    rows = []
    for label, ratio in told["ratios"].items():
        here = f"{ratio:.2f}"
        if label in spread:
            low, high = spread[label]
            here += f" ({low:.2f} to {high:.2f})"
        rows.append([names.get(label, label), signless(printed.get(label)), here])
    machine = f"{told['model']}, batch {told['batch']}, {told['device']}"
    return table(["configuration", "paper", "here"], rows, f"{caption} ({machine})")


def paragraph(text):
    """The HTML of a paragraph of plain text."""
    return f"<p>{escaped(text)}</p>"


def signless(value):
    """A cell with a printed ratio, or a dash for None."""
    return Cell("–" if value is None else f"{value:.2f}", "paper")
