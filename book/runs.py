"""Run pages: every number of the built book becomes a link to a page about its runs, which has their JSON.

A page stands for a row on a data set, and holds all seeds of it that the book shows: two clicks from a
number to the file that it comes from, and a link back.
"""

import functools
import json
import re
import shlex
import shutil

import decisions
from guards import files

from data_prep import catalogue
from reid_core.report.tables import escaped, short, table
from reid_core.runs.run import Run

CELL = re.compile(r'(<(td|span)\b[^>]* data-run="([^"]+)" data-sha="([^"]+)"[^>]*>)(.*?)(</\2>)', re.S)
TITLE = re.compile(r"<h1>(.*?)(?:<a class=|</h1>)", re.S)
SEED = re.compile(r"-s\d+$")
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><link rel="stylesheet" href="{up}_static/book.css"></head>
<body class="run-page"><article>
<p><a href="{up}book/index.html">The book</a> · shown on: {shown}</p>
<h1>{title}</h1>
{body}
</article></body></html>
"""


def link(built):
    """Turn the number cells of the built pages into links, and write the pages that they lead to."""
    shown = {}  # page of a row -> {(run, sha): {page of the book: title}}
    beside = {}  # page of a row -> the rows that a difference sets it beside
    for path in sorted(built.glob("**/*.html")):
        place = path.relative_to(built)
        if place.parts[0] in ("_static", "runs"):
            continue
        text = path.read_text(encoding="utf-8")
        up = "../" * (len(place.parts) - 1)
        linked = CELL.sub(functools.partial(as_link, up=up), text)
        linked = decisions.linked(linked, place.as_posix(), up)
        if linked == text:
            continue
        path.write_text(linked, encoding="utf-8")
        for found in CELL.finditer(text):
            rows = set(map(row_of, found[3].split()))
            for row in rows:
                beside.setdefault(row, set()).update(rows - {row})
            for run in zip(found[3].split(), found[4].split(), strict=True):
                shown.setdefault(row_of(run[0]), {}).setdefault(run, {})[place] = title_of(text, place)
    for row, runs in shown.items():
        write(built, row, runs, sorted(beside[row]))


def row_of(name):
    """The path of a run without its seed."""
    return SEED.sub("", name)


def as_link(found, up):
    """A cell whose text leads to the page of its first run; what is a link already stays."""
    begin, _, names, _, inner, end = found.groups()
    if "<a " in inner:
        return found[0]
    place = row_of(names.split()[0])
    return f'{begin}<a class="run" href="{up}runs/{place}.html">{inner}</a>{end}'


def title_of(text, place):
    """The heading of a built page as text."""
    found = TITLE.search(text)
    return re.sub(r"<[^>]+>", "", found[1]).strip() if found else str(place)


def write(built, row, runs, beside=()):
    """The page of a row, and the JSON of each of its runs; `beside`: rows that it is compared with."""
    page = built / "runs" / f"{row}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    up = "../" * (len(page.relative_to(built).parts) - 1)
    told = []
    shown = {}
    for (name, sha), places in sorted(runs.items()):
        shown |= places
        path = files(name).get(sha)  # no file: the guards complain of the cell
        if path:
            shutil.copyfile(path, built / "runs" / f"{name}.json")
            told.append((Run.read(path), sha, name))
    links = [f'<a href="{up}{place.as_posix()}">{title}</a>' for place, title in sorted(shown.items())]
    body = "\n".join(blocks(told)) if told else "<p>not run</p>"
    if beside:
        others = ", ".join(f'<a href="{up}runs/{other}.html">{escaped(other)}</a>' for other in beside)
        body += f"\n<h2>Compared with</h2><p>{others}</p>"
    text = PAGE.format(title=escaped(row), up=up, shown=", ".join(links), body=body)
    page.write_text(text, encoding="utf-8")


def blocks(told):
    """What a page says of the seeds [(run, digits, name)] of a row."""
    first = told[0][0]
    yield f"<p>Row “{escaped(first.spec.row)}” of {escaped(first.spec.variant)}.</p>"
    lines = [facts(run, sha) for run, sha, _ in told]
    html = table(FACTS, lines, "Runs: a seed each, with the file it is kept in").data
    for _, sha, name in told:
        link = f'<a href="{name.rsplit("/", 1)[-1]}.json" download>{sha}</a>'
        html = html.replace(f">{sha}</td>", f">{link}</td>", 1)
    yield html
    yield f"<h2>The same again</h2><pre>{escaped(command(first))}</pre>"
    yield scores(told)
    yield recipe(first)


FACTS = (
    "seed",
    "JSON (first digits of its SHA-256)",
    "data",
    "minutes",
    "machine",
    "torch",
    "commit",
    "date",
)


def facts(run, sha):
    """The line of a run."""
    where = run.provenance
    data = f"{catalogue.title(run.data['name'])} {run.data.get('fingerprint', '')}".strip()
    minutes = run.cost.get("minutes", "–")
    rest = [run.machine, where.get("torch", "–"), where.get("commit", "–")[:10], where.get("date", "–")]
    stale = f"{run.spec.seed} ({run.outdated})" if run.outdated else run.spec.seed
    return [stale, sha, data, minutes, *rest]


def command(run):
    """What measures a run again."""
    spec = run.spec
    row, *changes = spec.row.split(" + ")
    words = [f"python -m reid_core train {spec.method}", f"--variant {spec.variant}"]
    words += [f'--row "{row}"'] * (row != "full") + [f"--set {change}" for change in changes]
    data = shlex.quote(spec.data) if " " in spec.data else spec.data
    return " ".join([*words, f"--data {data} --profile {spec.profile} --seed {spec.seed}"])


def scores(told):
    """The summaries of every test, as the files have them."""
    lines = []
    for run, _, _ in told:
        for record in run.tests:
            numbers = ", ".join(f"{name} {value:.2f}" for name, value in record["summary"].items())
            test = f"{record['task']} on {catalogue.title(record['data'])}"
            lines.append([run.spec.seed, test, len(record["ap"]), numbers])
    return table(["seed", "test", "queries", "scores in per cent"], lines, "Scores of each seed").data


def recipe(run):
    """The settings as used; what differs from the published value says so."""
    lines = []
    for name, value in run.recipe.items():
        changed = "changed by profile or row" if name in run.changes else ""
        lines.append([name, short(tuple(value) if isinstance(value, list) else value), changed])
    told = table(["setting", "used", "beside the published value"], lines, "The recipe").data
    digest = escaped(json.dumps(run.fingerprint.get("recipe", "")).strip('"'))
    return f"<h2>Recipe</h2><p>Its hash: {digest or 'none kept'}.</p>{told}"
