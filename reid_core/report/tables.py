"""Tables as HTML whose cells name the runs that they come from; the guards of the book check them.

A cell with one of our numbers has data-run (paths of its runs), data-sha (hashes of their files when the page
was made) and data-origin ("world" or "real"). Columns for real data have the class "real", those for the
world the class "world". What the guards compute again also has data-metric, data-test, data-wanted (how many
seeds there should be), and of an effect data-against (how many of the runs, the last ones, are the reference)
and data-base (the test of those).
"""

import hashlib
import html
import itertools
import re
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
    note: str = ""  # small print behind the text: "(3 of 5 seeds)"
    badge: str = ""  # of a verdict: "better", "worse" or "undecided"
    hover: str = ""  # what a reader sees on pointing at it

    @property
    def said(self):
        """All that a reader sees of it."""
        return " ".join(f"{self.text} {self.note}".split())


class Head(NamedTuple):
    """The heading of a column, below one that several columns share."""

    text: str
    group: str = ""
    best: bool = False  # whether the largest number is bold
    minor: bool = False  # left out on a phone


PHONE = 560  # pixels: narrower, a table has no upper heading and no minor columns
STYLE = (  # stands in each table, so that it looks the same in JupyterLab
    "<style>"
    "figure.numbers{margin:.8rem 0}"
    "figure.numbers>figcaption{font-weight:600;font-style:normal;font-size:.9rem;color:inherit;"
    "text-align:left;margin:0 0 .3rem}"
    "figure.numbers>.scroll{overflow-x:auto}"
    "table.numbers{border-collapse:collapse;font-size:.85rem;margin:0}"
    "table.numbers th,table.numbers td{padding:.2rem .55rem;text-align:left;vertical-align:top;"
    "border-bottom:1px solid rgba(128,128,128,.3)}"
    "table.numbers .group{border-bottom:0;font-style:italic}"
    "table.numbers .whose{display:none}"
    "table.numbers td.decimal{font-variant-numeric:tabular-nums;white-space:nowrap}"
    "table.numbers td.real,table.numbers td.world{font-weight:400;font-style:normal}"
    "table.numbers td.best{font-weight:700}"
    "table.numbers td.own{border-left:3px dotted currentColor}"
    "table.numbers td.stale,table.numbers td.empty{opacity:.65}"
    "table.numbers small{font-size:.9em;white-space:normal}"
    ".badge{display:inline-block;padding:0 .5em;border-radius:.7em;color:#fff;font-weight:600}"
    ".badge.better{background:#1b6e3c}.badge.worse{background:#a84300}.badge.undecided{background:#5f6368}"
    f"@media(max-width:{PHONE}px){{table.numbers .storey,table.numbers .minor{{display:none}}"
    "table.numbers .whose{display:inline}}"
    "</style>"
)


def escaped(value):
    """Any value as one line of HTML that shows it as it is, and that cannot end a cell of a Markdown table.
    Whatever comes from data, settings or messages goes through here before it stands on a page."""
    return html.escape(" ".join(str(value).split())).replace("|", "&#124;")


def table(headings, rows, caption):
    """A table for a page: `headings` are texts or Heads, `rows` lists of texts, numbers or Cells; the caption
    states the finding. Columns in which nothing stands are left out, and named below."""
    heads = [one if isinstance(one, Head) else Head(str(one)) for one in headings]
    columns = [list(map(as_cell, column)) for column in zip(*rows)]
    full = [place for place, column in enumerate(columns) if not all(map(empty, column))]
    left_out = [(heads[k], columns[k]) for k in range(len(columns)) if k not in full]
    if rows:
        heads = [heads[place] for place in full]
    shown = [finished(head, columns[place]) for head, place in zip(heads, full)]
    body = ""
    for row in zip(*shown):
        body += f"<tr>{''.join(map(cell, row))}</tr>"
    return HTML(
        f'{STYLE}<figure class="numbers"><figcaption>{escaped(caption)}</figcaption><div class="scroll">'
        f'<table class="numbers"><thead>{storeys(heads)}</thead><tbody>{body}</tbody></table></div>'
        f"{remark(left_out)}</figure>"
    )


def storeys(heads):
    """The rows of headings; the lower one repeats the shared heading, for where the upper is not shown."""
    upper = ""
    for group, some in itertools.groupby(heads, lambda head: head.group):
        upper += f'<th class="group" colspan="{len(list(some))}">{escaped(group)}</th>'
    lower = ""
    for head in heads:
        whose = f'<span class="whose">{escaped(head.group)}: </span>' if head.group else ""
        lower += f'<th class="{"minor" if head.minor else ""}">{whose}{escaped(head.text)}</th>'
    several = any(head.group for head in heads)
    return (f'<tr class="storey">{upper}</tr>' if several else "") + f"<tr>{lower}</tr>"


def remark(left_out):
    """A paragraph about the columns, pairs of Head and Cells, in which nothing stands."""
    if not left_out:
        return ""
    told = {}  # {group and reason: headings}, in the order of the columns
    for head, column in left_out:
        reason = f" ({NOT_RUN})" if column[0].text == NOT_RUN else ""
        told.setdefault((head.group, reason), []).append(head.text)
    parts = []
    for (group, reason), texts in told.items():
        parts.append((f"{group}: " if group else "") + ", ".join(texts) + reason)
    return f"<p><small>Columns without an entry are left out: {escaped('; '.join(parts))}.</small></p>"


def as_cell(value):
    return value if isinstance(value, Cell) else Cell(str(value))


def empty(one):
    """Whether a Cell says that there is nothing to say."""
    return one.text in (NOT_RUN, "–") and not one.runs


def finished(head, column):
    """The Cells of a column as they are shown: digits below digits, the best in bold, minor ones marked."""
    numbers = [NUMBER.match(one.text) if ALIGNED & set(one.kind.split()) else None for one in column]
    longest = max((len(found[2]) for found in numbers if found), default=0)
    values = [] if not head.best else [value_of(one) for one in column if counts(one)]
    shown = []
    for one, found in zip(column, numbers):
        kind = one.kind + (" minor" if head.minor else "")
        if found:
            # spaces as wide as a digit: the points stand below each other
            pad = FIGURE_SPACE * (longest - len(found[2]))
            kind += " decimal" + (" best" if len(values) > 1 and best(one, values) else "")
            one = one._replace(text=pad + one.text)
        shown.append(one._replace(kind=kind.strip()))
    return shown


ALIGNED = {"paper", "real", "world"}  # classes of columns whose points stand below each other
NUMBER = re.compile(r"([+−]?)(\d+)\.\d")  # at the beginning of a cell: sign, digits before the point
FIGURE_SPACE = "\u2007"


def counts(one):
    """Whether a Cell's number may be the best of its column: a stale one, or one of a reader's, may not."""
    fresh = not any(run.outdated for run in one.runs)
    return bool(one.kind and NUMBER.match(one.text)) and fresh and "own" not in one.kind.split()


def best(one, values):
    return counts(one) and value_of(one) == max(values)


def value_of(one):
    """The number at the beginning of a Cell."""
    return float(re.match(r"[+−]?[\d.]+", one.text)[0].replace("−", "-"))


def cell(value):
    """The HTML of a Cell, or of any other value as text."""
    value = as_cell(value)
    if any(run.outdated for run in value.runs):
        value = aged(value)
    marks = ""
    for name, text in (marks_of(value.runs) | value.asked).items():
        marks += f' data-{name}="{escaped(text)}"'
    if value.hover:
        marks += f' title="{escaped(value.hover)}"'
    return f'<td class="{escaped(value.kind)}"{marks}>{inside(value)}</td>'


def inside(value):
    """What stands in a cell: spaces in front of a number are kept, as they align it."""
    pad = FIGURE_SPACE * (len(value.text) - len(value.text.lstrip(FIGURE_SPACE)))
    text = pad + escaped(value.text)
    if value.badge:
        text = f'<span class="badge {escaped(value.badge)}">{text}</span>'
    return f"{text} <small>{escaped(value.note)}</small>" if value.note else text


def aged(value):
    """The cell of a stale run: marked as such, and greyed."""
    return value._replace(note=f"{value.note} ({STALE})".strip(), kind=f"{value.kind} {STALE}".strip())


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


def ours(runs, metric="mAP", task=None, wanted=None):
    """The cell of our number: the mean over runs with the half width of its 95 % interval, both from what the
    runs keep of their queries; without interval where they keep none. `wanted`: how many seeds there should
    be, said where some are missing."""
    runs = [run for run in runs if run]  # None: not run
    if not runs:
        return Cell(NOT_RUN, "empty")
    if intervals.kept(runs, task, metric):
        found = intervals.interval(runs, task, metric)
        text = f"{found.mean:.1f} ± {found.half:.1f}"
    else:
        text = f"{np.mean([run.score(metric, task) for run in runs]):.1f}"
    asked = asked_for({"metric": metric, "test": task, "wanted": wanted})
    return Cell(text, kind_of(runs), tuple(runs), asked, missing_seeds(len(runs), wanted))


def missing_seeds(there, wanted):
    """ "(3 of 5 seeds)", or "" where none is missing."""
    return f"({there} of {wanted} seeds)" if wanted and there < wanted else ""


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
        used = Cell(used_value(line, recipe), kind)
        rows.append([line.name, short(line.printed), line.status, line.where, line.rule, used])
    headings = ["setting", "published or assumed", "status", "where or why", "rule of the profile", "used"]
    return table(with_minor(headings, headings[3:5]), rows, caption)


def with_minor(headings, minor):
    """The headings as Heads, those that a phone leaves out marked."""
    return [Head(one, minor=one in minor) for one in headings]


BY_RULE = {  # why a profile changes a setting
    "backbone": "a small tower stands for CLIP",
    "weights": "a small tower stands for CLIP",
    "pixels": "smaller images",
    "tokens": "smaller images",
    "epochs": "a shorter training",
    "decay": "a shorter training",
    "pairs": "a shorter training",
    "pretrained lr": "other weights and a shorter training need a higher rate",
    "new lr": "other weights and a shorter training need a higher rate",
    "temperature": "its small tower was pretrained with another temperature",
    "scale": "its small tower was pretrained with another temperature",
    "": "the schedule in epochs of this run",
}
PROFILE = "profile"


def assumed_table(recipe, caption):
    """What a profile changes, a line per reason, and what a paper does not specify, a line per decision."""
    groups = {}  # (decision or PROFILE, reason of a rule) -> {reason: settings}
    for line in recipe.table():
        value = used_value(line, recipe)
        changed = value != short(line.printed)
        told = f"{line.name} {short(line.printed)}" + (f" → {value}" if changed else "")
        if line.status == "assumed":
            number, why = decision(line.where)
            groups.setdefault((number, ""), {}).setdefault(why, []).append(told)
        elif changed:
            why = BY_RULE.get(line.rule, f"keeps its ratio to {line.rule.removeprefix('as ')}")
            groups.setdefault((PROFILE, why), {}).setdefault(why, []).append(told)
    rows = []
    for (number, _), reasons in sorted(groups.items(), key=in_order):
        parts = ["; ".join(some) + (f" ({why})" if why else "") for why, some in reasons.items()]
        rows.append([number, "; ".join(parts)])
    return table(["decision", "setting, as published or assumed → as used (why)"], rows, caption)


DECISION = re.compile(r"(D\d+)\b[a-z:; ]{0,2}(.*)")


def decision(where):
    """("D17", the words behind it) of the place of a setting; ("–", all of it) where it names no decision."""
    found = DECISION.fullmatch(where)
    return found.groups() if found else ("–", where)


def in_order(group):
    """What a profile changes first, then decisions by their number, then what has none."""
    number = group[0][0]
    return (number != PROFILE, not number.startswith("D"), int(number[1:]) if number.startswith("D") else 0)


COUNTED = re.compile(r"(stage\d_|)(lr_|)(milestones|warmup_epochs)")  # in epochs of the published schedule


def used_value(line, recipe):
    """The value of a recipe's Line as text, what a schedule counts in epochs of this run: "(15, 25)"."""
    found = COUNTED.fullmatch(line.name)
    if not found or not hasattr(recipe, f"{found[1]}span"):
        return short(line.used)
    epochs = getattr(recipe, f"{found[1]}epochs")
    span = getattr(recipe, f"{found[1]}span")
    if isinstance(span, tuple):  # by the place in an order: first domain; later domains
        several = zip(by_place(line.used, span), by_place(epochs, span), span)
        return "; ".join(in_epochs(*one) for one in several)
    return in_epochs(line.used, epochs, span)


def by_place(value, span):
    """The values of a setting that has one for each place of an order, like `span`, or one for all."""
    return value if isinstance(value, tuple) else (value,) * len(span)


def in_epochs(value, epochs, span):
    """What a schedule of `span` epochs counts in, as text, in a run of so many epochs."""
    part = epochs / span
    if part == 1:
        return short(value)
    many = value if isinstance(value, tuple) else (value,)
    return f"{', '.join(f'{part * one:.3g}' for one in many)} of {epochs}"


def stage_table(method, caption):
    """What trains when: a line per stage and group of parameters."""
    rows = []
    for stage in method.stages():
        for group in stage.groups:
            count = sum(p.numel() for p in group.parameters())
            rates = [f"{group.lr:.2g}", f"{group.weight_decay:.0e}", f"x {group.bias_factor:g}"]
            rows.append([stage.name, stage.epochs, f"{count:,}", *rates])
    headings = ["stage", "epochs", "parameters", "learning rate", "weight decay", "rate of biases"]
    return table(with_minor(headings, headings[4:]), rows, caption)


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
    return table(with_minor(headings, headings[4:]), lines, caption)


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
    headings = ["method", "data set", "millions, counted", *columns.values()]
    return table(with_minor(headings, headings[4:]), lines, f"{caption}; {told}")


def ranked_how(protocols):
    """The end of a caption: the protocols of our numbers."""
    told = [words for words in protocols if words]  # runs older than the field have none
    return f". Ours: {'; or '.join(told)}" if told else ""


def points(value):
    """A difference in points, with a sign as wide as the other."""
    return f"{value:+.1f}".replace("-", "−")


def number(value, digits=1):
    """A number that may be negative, with a sign as wide as that of `points`."""
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value, kind=""):
    """A cell with a difference in points, or a dash for None."""
    return Cell("–" if value is None else points(value), kind)


def change_cell(change, runs, others, task=None, other_task=None, metric="mAP", wanted=None):
    """The cell of an Interval of a metric in points, of `runs` against as many `others` of the same seeds,
    each with its own test; or a dash. `wanted` as in `ours`."""
    if change is None:
        return Cell("–", "empty")
    text = f"{points(change.mean)} [{points(change.low)}, {points(change.high)}]"
    both = (*runs, *others)
    marks = {"metric": metric, "test": task, "against": len(others), "base": other_task, "wanted": wanted}
    return Cell(text, kind_of(both), both, asked_for(marks), missing_seeds(len(runs), wanted))


BADGES = {"holds": "better", "better": "better", "fails": "worse", "worse": "worse"}


def verdict_cell(said, note=""):
    """The cell of a verdict: a badge in its colour, with its word; `note` stands behind it."""
    badge = BADGES.get(said, "" if said in ("–", NOT_RUN) else "undecided")
    return Cell(said, "verdict" if badge else "empty", note=f"({note})" if note else "", badge=badge)


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


def folded(summary, html):
    """HTML behind a line that opens it; `summary` is text."""
    return f"<details><summary>{escaped(summary)}</summary>{html}</details>"


def paragraph(text):
    """The HTML of a paragraph of plain text."""
    return f"<p>{escaped(text)}</p>"


def signless(value):
    """A cell with a printed ratio, or a dash for None."""
    return Cell("–" if value is None else f"{value:.2f}", "paper")
