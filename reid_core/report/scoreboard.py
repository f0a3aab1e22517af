"""The scoreboard of the front page, a row per paper with its printed mAP and ours; the counts above it."""

import json
from collections import Counter
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from data_prep import catalogue
from data_prep.catalogue import ROOT
from reid_core.methods import METHODS
from reid_core.report import ablations, chapters, reported, tables
from reid_core.report import claims as judging
from reid_core.report.notebook import NAMES
from reid_core.report.page import chapter
from reid_core.runs.run import BOOK, Spec

WORLD = chapters.MARKETS[0]
REAL = catalogue.stands_for(WORLD)
BASELINE = ("clip_reid", "baseline")
TUNED = "CLIP fine-tuned"  # the row that the others are compared with


class Entry(NamedTuple):
    """A paper on the scoreboard; `printed` picks its headline mAP among the lines of reported.csv."""

    method: str  # key of METHODS once its chapter is complete
    title: str
    venue: str
    idea: str  # at most eight words
    place: str  # the data set of the printed number, as a reader says it
    printed: dict
    chapter: str = ""  # its landing page, once there is one
    joined: tuple = ()  # what the data sets of the columns are joined with: of our world, and real
    own: tuple = ()  # data sets in the place of the columns', of our world and real
    against: str = ""  # the label of the row that it is compared with, where that is not TUNED


TABLE_2 = {"paper": "promptsg", "table": "Table 2", "backbone": "ViT-B/16", "dataset": "market1501"}
FIVE = (
    Entry(
        "promptsg",
        "PromptSG",
        "CVPR 2024",
        "each image becomes a pseudo-word in a prompt",
        "Market-1501",
        {**TABLE_2, "method": "PromptSG"},
        "notebooks/2_promptsg/chapter",
    ),
    Entry(
        "hpl",
        "HPL",
        "AAAI 2026",
        "one model answers image and text queries",
        "Market-1501, image queries",
        {"paper": "hpl", "table": "Table 2", "method": "HPL", "dataset": "market1501"},
        "notebooks/3_hpl/chapter",
        ("world_text", "cuhk_pedes"),
    ),
    Entry(
        "dmpt",
        "DMPT",
        "WACV 2025",
        "prompts per spectrum, CLIP image encoder frozen",
        "RGBNT201",
        {"paper": "dmpt", "table": "Table 1", "method": "DMPT", "backbone": "CLIP", "dataset": "rgbnt201"},
        "notebooks/4_dmpt/chapter",
        own=("world_rgbnt201", "rgbnt201"),
        against=chapters.dmpt.VISUAL,
    ),
    Entry(
        "pad",
        "PAD",
        "CVPR 2026",
        "prompts anchor distillation in lifelong training",
        "five seen domains, order 1",
        {"paper": "pad", "table": "seed: Main Results", "method": "PAD", "dataset": "seen_avg"},
        "notebooks/5_pad/chapter",
        own=(chapters.pad.DATA, "lifelong:order 1"),
        against=chapters.pad.PLAIN,
    ),
    Entry(
        "vladr",
        "VLADR",
        "CVPR 2026",
        "attributes in words, aligned across lifelong domains",
        "five seen domains, order 1",
        {**chapters.vladr.PRINTED["VLADR"], "dataset": "seen_avg"},
        "notebooks/6_vladr/chapter",
        own=(chapters.vladr.DATA, chapters.vladr.REAL[chapters.vladr.DATA]),
        against=chapters.vladr.SEQUENTIAL,
    ),
)
BEFORE = (  # what the five build on
    Entry(
        "clip_reid",
        TUNED,
        "baseline",
        "CLIP's image encoder, identity and triplet losses",
        "Market-1501",
        {**TABLE_2, "method": "Baseline"},
        "notebooks/1_clip_reid/chapter",
    ),
    Entry(
        "clip_reid",
        "CLIP-ReID",
        "AAAI 2023",
        "prompts learned per identity supervise the encoder",
        "Market-1501",
        {**TABLE_2, "method": "CLIP-ReID"},
        "notebooks/1_clip_reid/chapter",
    ),
)
HEADINGS = {  # -> whether a phone has no room for it
    "paper": False,
    "venue": True,
    "idea": True,
    "mAP, paper": False,
    "mAP, ours on real data": True,
    "mAP, ours on {world}": False,
    "against " + TUNED + " [95 %]": True,
    "verdict": False,
}


def done():
    """How many of the five papers are complete."""
    return sum(entry.method in METHODS for entry in FIVE)


def board(shelf=BOOK):
    """The scoreboard as HTML: the baseline and CLIP-ReID first, then the five; what nobody ran says so."""
    entries = (*BEFORE, *FIVE)
    measured = compared(entries, shelf)
    lines = [line(entry, measured[entry.title], shelf) for entry in entries]
    world = catalogue.title(WORLD)
    caption = (
        f"mAP as printed, and ours on {world}; a verdict compares the sign of our effect with the printed one"
    )
    headings = [tables.Head(text.format(world=world), minor=minor) for text, minor in HEADINGS.items()]
    return linked(tables.table(headings, lines, caption).data)


def compared(entries, shelf):
    """{title: its `ablations.Compared`} of some Entries, each with its own reference."""
    sides = {"": {}}
    for entry in entries:
        row = ablations.Row(specs(entry, WORLD), test(entry, WORLD), paper_map(entry))
        side = {TUNED: reference(entry)} if entry.against else sides[""]
        side[entry.title] = row
        sides[entry.title if entry.against else ""] = side
    made = ablations.compared_together(sides, TUNED, shelf)
    return {one.label: one for some in reversed(made.values()) for one in some}  # last, TUNED itself


def reference(entry):
    """The Row that an Entry of its own is compared with, as the paper prints it."""
    name, _, row = entry.against.partition(", ")
    if name in NAMES:  # a row of another method, of which the paper prints nothing
        runs = [Spec(*NAMES[name], row, one.data, seed=one.seed).same for one in specs(entry, WORLD)]
        return ablations.Row(runs, test(entry, WORLD))
    runs = [one._replace(row=entry.against).same for one in specs(entry, WORLD)]
    line = {"paper": entry.method, "row": entry.against, "dataset": entry.printed["dataset"]}
    printed = reported.printed({TUNED: line}, ("mAP",))
    return ablations.Row(runs, test(entry, WORLD), printed[TUNED, "mAP"])


def linked(html):
    """The board with the title of each paper that has a chapter as a link to it, from a page in book/."""
    for entry in filter(lambda entry: entry.chapter, (*BEFORE, *FIVE)):
        link = f'<a href="../{entry.chapter}.html">{entry.title}</a>'
        html = html.replace(f">{entry.title}</td>", f">{link}</td>", 1)
    return html


def line(entry, one, shelf):
    """The cells of an Entry with its `ablations.Compared`."""
    real = ablations.found(specs(entry, REAL, "paper"), shelf, test(entry, REAL))
    theirs = tables.printed(one.row.printed)._replace(note=f"({entry.place})")
    cells = [entry.title, entry.venue, entry.idea, theirs]
    wanted = ablations.seeds_wanted(one.row.specs)
    cells += [tables.ours(real, task=test(entry, REAL)), tables.ours(one.runs, "mAP", one.row.task, wanted)]
    if entry.own:
        cells[-1] = remarked(cells[-1], f"({catalogue.title(entry.own[0])})")
    if one.label == TUNED:
        return [*cells, tables.change_cell(None, (), ()), "reference"]
    pairs = ablations.alike(one.runs, one.others), ablations.alike(one.others, one.runs)
    said = one.verdict if one.change else tables.NOT_RUN
    change = tables.change_cell(one.change, *pairs, one.row.task, one.other_task, wanted=wanted)
    if entry.against:
        # a row may be called "S0) full fine-tuning"
        change = remarked(change, f"(against {chapters.shown(entry.against).rpartition(') ')[2]})")
    return [*cells, change, tables.verdict_cell(said)]


def remarked(cell, words):
    """A cell with words behind what it says; the guards take them as they are."""
    return cell._replace(note=f"{cell.note} {words}".strip(), asked={**cell.asked, "remark": words})


def specs(entry, data, profile="laptop"):
    """A Spec per seed of the full row; none before the chapter is complete."""
    if entry.method not in METHODS:
        return []
    _, variant = NAMES.get(entry.title, BASELINE)  # TUNED is no name of a method
    if entry.joined:
        data = f"{entry.joined[data == REAL]}+{data}"
    if entry.own:
        data = entry.own[data == REAL]
    return [Spec(entry.method, variant, "full", data, profile, seed) for seed in chapters.SEEDS]


def test(entry, data):
    """The name of an Entry's test on a column's data set; None for a run's first."""
    return f"image to image on {data}" if entry.joined else None


def paper_map(entry):
    """The printed headline mAP of an Entry."""
    return reported.printed({entry.title: entry.printed}, ("mAP",))[entry.title, "mAP"]


def claims(shelf=BOOK):
    """({verdict: how many}, number of claims of all chapters): what is stale, or was not run, has no
    verdict."""
    said = Counter()
    for name in chapters.CLAIMS:
        page = SimpleNamespace(profile="laptop", data=chapters.DATA[name], seed=0, shelf=shelf)
        said.update(found.verdict for found in chapter(page, name).judged)
    told = {word: said[word] for word in (judging.HOLDS, judging.FAILS, judging.UNDECIDED)}
    return told, sum(said.values())


def parity():
    """(number of published arrays that the tests compare, the largest relative error of one); None before
    they were compared."""
    path = ROOT / "results" / "parity.json"
    if not path.exists():
        return None
    covered = json.loads(path.read_text(encoding="utf-8"))["covered"]
    errors = [worst for worst, _ in covered.values() if worst is not None]
    return sum(arrays(name) for name in covered), max(errors, default=0.0)


def arrays(name):
    """How many arrays a golden file holds."""
    path = ROOT / "tests" / "parity" / f"{name}.npz"
    if not path.exists():  # a file of facts
        return 0
    with np.load(path, allow_pickle=False) as kept:
        return len(kept.files)
