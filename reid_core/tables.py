"""Tables as HTML whose cells remember which run they come from: the guards of the book read it back.

A cell with one of our numbers carries data-run (the run's path), data-sha (what the file said when the page was made)
and data-label ("world" or "real"). Columns for real data are of class "real", those for the world of class "world".
"""

import hashlib
import html
from collections import Counter
from typing import NamedTuple

import numpy as np
from IPython.display import HTML

from reid_core import intervals, results

NOT_RUN, STALE = "not run", "stale"


class Cell(NamedTuple):
    text: str
    kind: str = ""  # the class of its column
    runs: tuple = ()


def table(headings, rows, caption):
    """A table for a page. `headings` are texts, `rows` lists of texts, numbers or Cells; the caption states the finding."""
    head = "".join(f"<th>{html.escape(str(text))}</th>" for text in headings)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return HTML(f'<div class="scroll"><table class="numbers"><caption>{html.escape(caption)}</caption>'
                f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>")  # fmt: skip


def cell(value):
    value = value if isinstance(value, Cell) else Cell(str(value))
    value = aged(value) if any(map(results.outdated, value.runs)) else value
    marks = "".join(f' data-{name}="{html.escape(text)}"' for name, text in marks_of(value.runs).items())
    return f'<td class="{value.kind}"{marks}>{html.escape(value.text)}</td>'


def aged(value):
    """A number of a run whose recipe, data or weights changed since: greyed, and said so."""
    return value._replace(text=f"{value.text} ({STALE})", kind=f"{value.kind} {STALE}")


def marks_of(runs):
    if not runs:
        return {}
    return {"run": " ".join(run.spec.name for run in runs), "sha": " ".join(map(sha, runs)),
            "label": " ".join(sorted({run.data["label"] for run in runs}))}  # fmt: skip


def sha(run):
    """What a run's file says, in twelve digits. A reader who trains again has two files of one name: the one that says what
    this run says counts."""
    paths = [path for path in (run.path(), run.path(committed=False)) if path.exists()]
    path = next((path for path in paths if results.Run.read(path).scores == run.scores), paths[0])
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def ours(runs, metric="mAP", task=None):
    """Our number in its own column: with an interval for mAP, with the spread over seeds for other metrics."""
    runs = [run for run in runs if run]
    if not runs:
        return Cell(NOT_RUN, "empty")
    values = [run.score(metric, task) for run in runs]
    spread = intervals.interval(runs, task).half if metric == "mAP" else np.std(values)
    return Cell(f"{np.mean(values):.1f} ± {spread:.1f}", kind_of(runs), tuple(runs))


def kind_of(runs):
    """The class of a cell with numbers of these runs: one of the world is enough to make it one of the world."""
    return "world" if any(run.data["label"] == "world" for run in runs) else "real"


def printed(value):
    """The paper's number, or a dash where it prints none."""
    return Cell("–" if value is None else f"{value:.1f}", "paper")


def recipe_table(recipe, caption):
    """Published or assumed value, origin, place, rule and the value used, a row per field."""
    rows = [[line.name, short(line.printed), line.status, line.where, line.rule,
             Cell(short(line.used), "changed" if line.used != line.printed else "")] for line in recipe.table()]  # fmt: skip
    return table(
        ["setting", "published or assumed", "status", "where or why", "rule of the profile", "used"],
        rows,
        caption,
    )


def stage_table(method, caption):
    """What trains when: a row per stage and group of parameters."""
    rows = [
        [stage.name, stage.epochs, f"{sum(p.numel() for p in group.parameters()):,}", f"{group.lr:.2g}",
         f"{group.weight_decay:.0e}", f"x {group.bias_factor:g}"]
        for stage in method.stages() for group in stage.groups
    ]  # fmt: skip
    headings = ["stage", "epochs", "parameters", "learning rate", "weight decay", "rate of biases"]
    return table(headings, rows, caption)


def short(value):
    if isinstance(value, float):
        return f"{value:.4g}"
    return "(" + ", ".join(map(short, value)) + ")" if isinstance(value, tuple) else str(value)


def comparison(specs, metrics, wanted, caption, committed=True):
    """The paper's numbers beside ours. `specs` is {row label: list of Spec}, one per seed; `wanted` {(row, metric): the
    printed value}. World numbers stand in a column of their own and are never subtracted from the paper's; the protocols of
    ours stand in the caption."""
    headings, rows, protocols = ["row"], [], {}
    for metric in metrics:
        headings += [f"{metric}, paper", f"{metric}, ours on real data", f"{metric}, ours on the world"]
    for label, row in specs.items():
        runs = found(row, committed)
        cells, protocols = [label], protocols | dict.fromkeys(run.protocol() for run in runs)
        for metric in metrics:
            real, world = ([r for r in runs if r.data["label"] == kind] for kind in ("real", "world"))
            cells += [printed(wanted.get((label, metric))), ours(real, metric), ours(world, metric)]
        rows.append(cells)
    return table(headings, rows, caption + ranked_how(protocols))


def context(rows, caption):
    """Printed rows of others, as `reported.numbers` gives them: one line per method and backbone, mAP / R1 per data
    set. A star, as printed, stands for images larger than 256 x 128."""
    names = list(dict.fromkeys(rows.dataset))
    values = {(row.method, row.backbone, row.dataset, row.metric): row.value for row in rows.itertuples()}
    lines = []
    for key in dict.fromkeys((row.method, row.backbone) for row in rows.itertuples()):
        pairs = [
            [printed(values.get((*key, name, metric))).text for metric in ("mAP", "R1")] for name in names
        ]
        larger = "*" * any("* =" in row.note for row in rows.itertuples() if row.method == key[0])
        lines.append([key[0] + larger, *key[1:], *(Cell(" / ".join(pair), "paper") for pair in pairs)])
    return table(
        ["method", "backbone", *(f"{results.called(name)}, mAP / R1" for name in names)], lines, caption
    )


def sizes(counted, rows, caption):
    """Learnable parameters in millions, {(method, data): counted}, beside what a paper prints of them and of its time."""
    columns = {"params_M": "millions, printed", "params_frac_clip": "of CLIP, printed", "train_seconds": "seconds, printed",
               "train_time_ratio": "of CLIP-ReID's time, printed"}  # fmt: skip
    values = {(row.method, row.dataset, row.metric): row.value for row in rows.itertuples()}
    lines = [[*key[:1], results.called(key[1]), f"{count:.2f}", *(Cell(f"{values[*key, metric]:g}", "paper") for metric in columns)]
             for key, count in counted.items()]  # fmt: skip
    off = [f"{name} on {results.called(data)} ({count:.2f}, printed {values[name, data, 'params_M']:g})"
           for (name, data), count in counted.items() if round(count) != values[name, data, "params_M"]]  # fmt: skip
    told = f"all but {', '.join(off)} round to what is printed" if off else "all round to what is printed"
    return table(["method", "data set", "millions, counted", *columns.values()], lines, f"{caption}; {told}")


def ranked_how(protocols):
    """The end of a caption: by which protocols our numbers came about."""
    told = [words for words in protocols if words]
    return f". Ours: {'; or '.join(told)}" if told else ""


class Row(NamedTuple):
    """A row of an ablation: its specs, one per seed, the way of searching, and the printed number or None."""

    specs: list
    task: str | None = None
    printed: float | None = None


def ablation(rows, reference, caption, metric="mAP", committed=True, printed_on=""):
    """A printed ablation beside ours: {label: Row}, each compared with the row `reference`, pair by pair of seeds. Above it stands
    how small a difference it can show.

    An effect is a row minus the reference, in points; ours carries its 95 % interval. A verdict compares its sign with
    that of the printed effect, which was found on the data set `printed_on`. The paper has columns where it prints something.
    """
    lines, protocols, labels = [], {}, {}
    paper = any(row.printed is not None for row in rows.values())
    beside_it = compared(rows, reference, committed)
    for one in beside_it:
        protocols |= dict.fromkeys(run.protocol(one.row.task) for run in one.runs)
        labels |= dict.fromkeys(run.data["label"] for run in one.runs)
        theirs = [printed(one.row.printed), signed(one.effect, "paper")] * paper
        lines.append(
            [
                one.label,
                *theirs,
                ours(one.runs, metric, one.row.task),
                change_cell(one.change, [*one.runs, *one.others]),
                spoken(one),
            ]
        )
    headings = two_columns(metric, f", paper{f' on {printed_on}' if printed_on else ''}") * paper
    headings += two_columns(metric, ", ours" + "".join(f" on {PLACES[one]}" for one in labels))
    told = table(["row", *headings, "verdict"], lines, caption + finding(beside_it) + ranked_how(protocols))
    return HTML(detectable(rows[reference], committed) + told.data)


def finding(rows):
    """What a list of Compared comes to: how many have which verdict, and the largest effect that can be told from none."""
    verdicts = Counter(one.verdict for one in rows if one.change and one.verdict != ONE_SEED)
    if not verdicts:
        return ""
    told = f". {sum(verdicts.values())} compared: {', '.join(f'{many} {said}' for said, many in verdicts.items())}"
    sure = [one for one in rows if one.change and one.verdict not in (ONE_SEED, STALE, intervals.UNCERTAIN)]
    largest = max(sure, key=lambda one: abs(one.change.mean), default=None)
    return told + (f"; the largest is {largest.change.mean:+.1f}, {largest.label}" if largest else "")


PLACES = {"world": "the world", "real": "real data"}


def two_columns(metric, whose):
    return [metric + whose, "effect" + whose]


def spoken(one):
    """A verdict as a table says it: where nothing can be told, with the number of seeds that would tell."""
    if one.verdict != intervals.UNCERTAIN:
        return one.verdict
    seeds = intervals.seeds_needed(one.spread)
    more = f"{seeds} seeds would" if seeds else f"no {intervals.MOST_SEEDS} seeds would"
    return f"{one.verdict} ({more})"


class Compared(NamedTuple):
    """A Row beside the reference of its table."""

    label: str
    row: Row
    runs: list
    others: list  # of the reference
    effect: float | None  # printed
    change: object  # intervals.Interval or None
    spread: object  # intervals.Spread or None
    verdict: str


def compared(rows, reference, committed=True):
    """A Compared for each of {label: Row}."""
    return [beside(label, row, rows[reference], label == reference, committed) for label, row in rows.items()]


def beside(label, row, base, itself, committed):
    effect = None if None in (row.printed, base.printed) or itself else row.printed - base.printed
    runs, others = (found(one.specs, committed, one.task) for one in (row, base))
    ours, theirs = alike(runs, others), alike(others, runs)
    sides = (ours, theirs, row.task, base.task)
    change, spread = (
        work(*sides) if ours and not itself else None for work in (intervals.paired, intervals.spread)
    )
    said = ONE_SEED if change and len(ours) == 1 else judged(change, effect)
    said = STALE if change and any(map(results.outdated, [*ours, *theirs])) else said
    return Compared(label, row, runs, others, effect, change, spread, said)


def alike(runs, others):
    """The runs with a partner among the others: of the same seed, on the same images and not on others of their name."""
    there = {(run.spec.seed, run.data.get("fingerprint")) for run in others}
    return [run for run in runs if (run.spec.seed, run.data.get("fingerprint")) in there]


def of_one_world(runs):
    """The runs on the same images as those that still hold, or as the last of them: runs of an older world beside them are no
    matter of chance."""
    holding = [run for run in runs if not results.outdated(run)] or runs[-1:]
    return [run for run in runs if run.data.get("fingerprint") == holding[0].data.get("fingerprint")]


ONE_SEED = "one seed: no verdict"


def overview(parts, caption, committed=True):
    """What became of every row of several tables, {name: (rows, reference)}: verdicts, and the rows that have them."""
    lines = []
    for name, (rows, reference) in parts.items():
        verdicts = {}
        for one in compared(rows, reference, committed):
            said = NOT_RUN if not one.runs else one.verdict
            verdicts.setdefault(said, []).append(one.label)
        lines += [[name, said, "; ".join(labels)] for said, labels in verdicts.items() if said != "–"]
    return table(["table", "verdict", "rows"], lines, caption)


def found(specs, committed=True, task=None):
    """The runs there are, of those that were tested in this way of searching."""
    runs = [run for spec in specs if (run := results.find(spec, committed))]
    return of_one_world([run for run in runs if task in (None, *run.scores)])


def signed(value, kind=""):
    return Cell("–" if value is None else f"{value:+.1f}", kind)


def change_cell(change, runs):
    if change is None:
        return Cell("–", "empty")
    return Cell(f"{change.mean:+.1f} [{change.low:+.1f}, {change.high:+.1f}]", kind_of(runs), tuple(runs))


def judged(change, effect):
    """The verdict on a printed effect; without one, whether ours can be told from none."""
    if change is None:
        return "–"
    said = intervals.verdict(change, 1.0 if effect is None else effect)
    return said if effect is not None else {"holds": "better", "fails": "worse"}.get(said, said)


def detectable(row, committed=True):
    """How small a difference a table can show whose reference is this Row, to be said above it."""
    runs = found(row.specs, committed, row.task)
    if len(runs) < 2:
        return paragraph(
            "How small a difference this table can show is not known: fewer than two seeds of its reference were run."
        )
    people = len(np.unique(runs[0].scores[row.task or next(iter(runs[0].scores))]["pids"]))
    return paragraph(f"This table can resolve differences of about {intervals.detectable(runs, row.task):.1f} points of mAP (80 % power, "
                     f"{len(runs)} seeds, {people} identities).")  # fmt: skip


def speed(told, printed, caption, names=None):
    """Ratios of one measurement, with the smallest and the largest of its rounds, beside the printed ones, {label: ratio}; `names`
    says what a page calls the labels."""
    spread = {label: f" ({low:.2f} to {high:.2f})" for label, (low, high) in told.get("spread", {}).items()}
    rows = [
        [(names or {}).get(label, label), signless(printed.get(label)), f"{ratio:.2f}{spread.get(label, '')}"]
        for label, ratio in told["ratios"].items()
    ]
    return table(
        ["configuration", "paper", "here"],
        rows,
        f"{caption} ({told['model']}, batch {told['batch']}, {told['device']})",
    )


def paragraph(text):
    return f"<p>{html.escape(text)}</p>"


def signless(value):
    return Cell("–" if value is None else f"{value:.2f}", "paper")
