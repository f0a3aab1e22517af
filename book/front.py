"""What the front page and the references say from facts; a page names each part in a comment, <!-- X -->."""

import datetime
import os
import re

import torch
import yaml

from reid_core import evaluate
from reid_core.analysis import visuals
from reid_core.data import load_data
from reid_core.report import figures, images, scoreboard
from reid_core.report.tables import escaped, paragraph
from reid_core.runs.run import BOOK, ROOT, Spec

PLACES = 8  # of the ranked list
WISHES = (  # what a reader wants, the page for it, and what is there
    ("read about a paper", "../notebooks/2_promptsg/chapter", "claims, verdicts, equations beside source"),
    ("run a notebook", "../notebooks/0_start/welcome", "minutes on two cores, no GPU, no data, no account"),
    ("train on my data", "own_data", "one table beside the images"),
    ("search with a trained model", "search", "rank a folder of images for an image or a sentence"),
    ("add a method", "own_method", "stages as data, features by name"),
    ("check a number", "check_number", "from a printed number to its run and back"),
)


def citation():
    """{name: value} of CITATION.cff."""
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def repository():
    """The address of the published repository: $REID_REPOSITORY, else that of CITATION.cff, else ""."""
    return os.environ.get("REID_REPOSITORY") or citation().get("repository-code", "")


def filled(name, records, runs):
    """The text of a page in book/ with its parts in place."""
    text = (ROOT / "book" / name).read_text(encoding="utf-8")
    parts = {
        "buttons": buttons,
        "version": version,
        "picture": lambda: picture(records),
        "numbers": lambda: numbers(runs),
        "scoreboard": scoreboard.board,
        "wishes": wishes,
        "citation": bibtex,
    }
    return re.sub(r"<!-- (\w+) -->", lambda found: made(parts[found[1]]), text)


def made(part):
    """A part of a page; where a run or a table is broken, the sentence about it."""
    try:
        return part()
    except ValueError as error:
        return paragraph(error)


def bibtex():
    """The entry of CITATION.cff for a bibliography in LaTeX."""
    told = citation()
    authors = " and ".join(f"{{{one['name']}}}" for one in told["authors"])
    fields = {
        "title": f"{{{told['title']}}}",
        "author": authors,
        "version": told["version"],
        "year": str(told["date-released"])[:4],
    }
    if repository():
        fields["url"] = repository()
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"```bibtex\n@software{{reid_book,\n{lines}}}\n```"


def buttons():
    """Four links: reading, running, code, citing."""
    links = {
        "Start reading": "../notebooks/0_start/welcome.html",
        "Run it (minutes, no GPU)": "run.html",
        "Code": repository() or "architecture.html",
        "Cite": "references.html#how-to-cite",
    }
    made = [f'<a class="button" href="{escaped(place)}">{name}</a>' for name, place in links.items()]
    return f'<p class="buttons">{"".join(made)}</p>'


def version():
    """Version, date of this build, and how many papers are complete."""
    done, papers = scoreboard.done(), len(scoreboard.FIVE)
    so_far = "" if done == papers else f" · {done} of {papers} papers so far"
    today = datetime.date.today().strftime("%d %B %Y").lstrip("0")
    return f'<p class="version">Version {escaped(citation()["version"])} · {today}{so_far}</p>'


def picture(records):
    """A query, its caption and the images ranked for it; a sentence where there is no world to draw from."""
    profile = next((record["profile"] for record in records.values()), "")
    if profile not in ("smoke", "laptop"):
        return paragraph("Ranked images of the synthetic world: not run.")
    data = load_data(scoreboard.WORLD, profile)
    which, row, order, correct = ranking(data, profile)
    drawn = images.ranked_lists(data, [row], [order], [correct], PLACES)
    said = data.query.captions[row][0]
    alt = f"A query and the {PLACES} gallery images ranked highest, {sum(correct)} of them of the same person"
    caption = (
        f"“{said.rstrip('.')}.” {which}, and the {PLACES} gallery images it ranks highest: green frames the "
        "same person, orange another one."
    )
    return figures.as_html(drawn, caption, alt)


def ranking(data, profile):
    """(which query, its position, (PLACES,) positions in the gallery, (PLACES,) whether they are right), of
    the lists that a fresh run has kept, else of those of CLIP without training."""
    spec = Spec("promptsg", "promptsg", "full", scoreboard.WORLD, profile)
    run = BOOK.at(spec)
    kept = run and not run.outdated and visuals.find(spec)
    if kept:
        return chosen("PromptSG", kept.queries, kept.order, kept.correct)
    lists = zero_shot(data, profile)
    return chosen("zero-shot tiny CLIP", lists["queries"], lists["order"], lists["correct"])


def chosen(whose, queries, order, correct):
    """The median query; the easiest where the places of that one show nothing but others."""
    place = len(queries) - 2  # the hardest first, then a median one and the easiest
    name = "A median query"
    if not any(correct[place][:PLACES]):
        place, name = place + 1, "The easiest query"
    return f"{name} of {whose}", queries[place], order[place], correct[place]


@torch.no_grad()
def zero_shot(data, profile):
    """Ranked lists of tiny CLIP, not fine-tuned: `visuals.ranked_lists`."""
    method, _ = Spec("clip_reid", "baseline", "zero-shot", scoreboard.WORLD, profile).build(data)
    query, gallery = visuals.embed(method.eval(), data, visuals.task_of(method))
    scores = evaluate.score(query, gallery, data.query, data.gallery, data.manifest.protocol)
    return visuals.ranked_lists(query, gallery, data, data.manifest.protocol, scores)


def numbers(runs):
    """Three numbers: published arrays reproduced, runs with provenance, claims judged."""
    told = scoreboard.parity()
    count, worst = told or (None, 0.0)
    stale = sum(bool(run.outdated) for run in runs)
    judged, all_claims = scoreboard.claims()
    told = ", ".join(f"{said} {many}" for said, many in judged.items())
    outcome = told if any(judged.values()) else "the runs of the others are stale or missing"
    three = (
        (count, "parity.html", f"published arrays reproduced; largest relative error {worst:.1g}"),
        (len(runs), "status.html", f"runs with recipe, seed and machine{f' ({stale} stale)' * bool(stale)}"),
        (sum(judged.values()), "#scoreboard", f"of {all_claims} claims judged: {outcome}"),
    )
    made = [big(value, place, words) for value, place, words in three]
    return f'<div class="three">{"".join(made)}</div>'


def big(value, place, words):
    """A number in large type, with what it counts, as a link."""
    shown = f"{value:,}" if value is not None else "not run"
    return f'<a href="{place}"><b>{shown}</b> <span>{escaped(words)}</span></a>'


def wishes():
    """Six links for six wishes."""
    made = [f'<a href="{page}.html"><b>{wish}</b> <span>{words}</span></a>' for wish, page, words in WISHES]
    return f'<div class="wishes">{"".join(made)}</div>'
