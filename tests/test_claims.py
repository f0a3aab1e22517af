"""Claims, boxes and forest plots say what the runs say."""

import dataclasses
import re
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import guards
import nbformat
import pytest
from made_runs import noisy
from matplotlib import pyplot as plt

from reid_core.methods import METHODS
from reid_core.report import chapters, claims, forest, tables
from reid_core.report import page as page_of
from reid_core.report.notebook import NAMES
from reid_core.runs import provenance
from reid_core.runs.run import BOOK, Spec

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "CLIP-ReID": "1_clip_reid",
    "PromptSG": "2_promptsg",
    "HPL": "3_hpl",
    "DMPT": "4_dmpt",
    "PAD": "5_pad",
    "VLADR": "6_vladr",
}
CLAIMED = [(name, claim) for name, found in chapters.CLAIMS.items() for claim in found]
WORLD = {"origin": "world", "name": "toy"}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def chapter(name="CLIP-ReID", data=None):
    page = SimpleNamespace(
        profile="laptop", data=data or chapters.DATA[name], seed=0, retrain=False, shelf=BOOK
    )
    return page_of.chapter(page, name)


def measured(method, row="full", shift=0.0, data="world_market", seeds=3):
    """Made-up runs in the book: a row so many hundredths better than another."""
    for seed in range(seeds):
        spec = Spec(*NAMES[method], row, data, seed=seed).same
        BOOK.write(dataclasses.replace(noisy(seed, shift), spec=spec, data=WORLD))


def judged(page, id):
    return next(found for found in page.judged if found.claim.id == id)


@pytest.mark.parametrize("name, claim", CLAIMED, ids=lambda one: getattr(one, "id", one))
def test_a_claim_compares_rows_that_exist_and_whose_printed_order_it_tells(name, claim):
    _, better, against, _ = chapter(name).asked(claim)
    for row in (better, against):
        assert len(row.specs) == len(chapters.SEEDS) and all(spec.check() for spec in row.specs)
    assert better != against
    if claim.printed:
        assert better.printed > against.printed, "the paper does not claim it"
    assert (ROOT / "notebooks" / FOLDERS[name] / f"{claim.page}.ipynb").exists()


@pytest.mark.parametrize("name", chapters.CLAIMS)
def test_a_chapter_has_five_to_eight_claims_and_a_box_for_each_page(name):
    ids = [claim.id for claim in chapters.CLAIMS[name]]
    assert 5 <= len(ids) <= 8 and len(set(ids)) == len(ids)
    assert set(chapters.BOXES[name]) == {"chapter", "reproduce", "ablate", "look"}
    for box in chapters.BOXES[name].values():
        assert set(box.claims) <= set(ids)
        assert all(len(re.findall(r"[.](?: |$)", told)) == 1 for told in (box.says, box.holds, box.fails))


@pytest.mark.parametrize("shift, word", [(0.1, "holds"), (-0.1, "fails"), (0.0, "undecided")])
def test_the_runs_decide_a_claim_with_a_printed_effect_and_one_without(shelves, shift, word):
    measured("CLIP-ReID", shift=shift)
    measured("CLIP fine-tune")
    measured("CLIP-ReID", "no stage 1")
    page = chapter()
    assert judged(page, "gain").one.effect == pytest.approx(3.2), "Table 2 prints 89.6 and 86.4"
    assert judged(page, "stage-1").one.effect is None
    assert judged(page, "gain").verdict == judged(page, "stage-1").verdict == word
    assert judged(page, "gain-away").verdict == tables.NOT_RUN


def test_a_box_has_another_end_for_each_verdict(shelves):
    box = chapters.BOXES["CLIP-ReID"]["chapter"]
    assert claims.OPEN[tables.NOT_RUN] in chapter().box("chapter").data
    measured("CLIP fine-tune")
    for shift, end in ((0.1, box.holds), (-0.1, box.fails), (0.0, claims.OPEN["undecided"])):
        measured("CLIP-ReID", shift=shift)
        told = unescape(chapter().box("chapter").data)
        assert box.says in told and end in told
        others = {box.holds, box.fails, *claims.OPEN.values()} - {end}
        assert not any(other in told for other in others)


def test_stale_runs_give_a_number_and_no_verdict(shelves, monkeypatch):
    monkeypatch.setattr(provenance, "outdated", lambda run: "an older world")
    measured("CLIP-ReID", shift=0.1)
    measured("CLIP fine-tune")
    page = chapter()
    assert judged(page, "gain").verdict == tables.STALE
    assert "+10.0" in page.box("chapter").data and claims.OPEN[tables.STALE] in page.box("chapter").data
    assert "holds" not in page.claims().data


def test_one_seed_gives_no_verdict(shelves):
    measured("CLIP-ReID", shift=0.1, seeds=1)
    measured("CLIP fine-tune", seeds=1)
    assert "No verdict" in chapter().box("chapter").data.replace("so no verdict", "No verdict")
    assert judged(chapter(), "gain").verdict not in (claims.HOLDS, claims.FAILS, claims.UNDECIDED)


def test_the_numbers_of_a_box_name_their_runs_as_cells_do(shelves):
    measured("CLIP-ReID", shift=0.05)
    measured("CLIP fine-tune")
    told = chapter().box("chapter").data
    (number,) = re.findall(r'<span class="world".*?>(.*?)</span>', told)
    assert guards.check_page(told, "box") == []
    (complaint,) = guards.check_page(told.replace(number, number.replace("5", "6")), "box")
    assert "is not that of its runs" in complaint


def test_the_claims_table_counts_verdicts_draws_bars_and_links_to_the_pages(shelves):
    measured("CLIP-ReID", shift=0.1)
    measured("CLIP fine-tune")
    told = chapter().claims().data
    assert "8 claims: holds 1, not run 7" in told
    assert told.count("<svg") == 1 and claims.COLOURS["holds"] in told
    assert '<a href="reproduce.html">' in told and "[claim" not in told and "[bar" not in told
    assert '<span class="badge better">holds</span>' in told


def test_a_claim_on_the_papers_own_data_is_not_called_synthetic(shelves):
    real = {**WORLD, "origin": "real"}
    for method, shift in (("CLIP-ReID", 0.1), ("CLIP fine-tune", 0.0)):
        for seed in range(3):
            spec = Spec(*NAMES[method], data="market1501", seed=seed)
            BOOK.write(dataclasses.replace(noisy(seed, shift), spec=spec, data=real))
    told = chapter(data="market1501").box("reproduce").data
    assert "So the first claim holds on Market-1501." in told and "synthetic" not in told


@pytest.mark.parametrize("name", chapters.QUESTIONS)
def test_the_questions_of_a_chapter_ask_rows_that_exist_and_all_printed_tables(name):
    page = chapter(name)
    for key, question in chapters.QUESTIONS[name].items():
        several = name in chapters.TASKS
        for rows in page.sides(key).values() if several else [page.rows(key, chapters.DATA[name])]:
            assert question.reference in rows
            assert all(spec.check() for row in rows.values() for spec in row.specs)
            assert all((row.printed is not None) == bool(question.table) for row in rows.values())
    asked = {question.table for question in chapters.QUESTIONS[name].values()} - {""}
    assert asked == set(METHODS[NAMES[name][0]].tables)


def forest_of(page):
    """The figure and caption of the components' forest plot."""
    rows = page.rows("components", "world_market")
    groups = forest.grouped(
        {"Components": (rows, "full"), "Other": (page.rows("tower", "world_market"), "SIE")}
    )
    return forest.forest(groups), forest.caption(groups, "World-Market")


def test_a_forest_plot_shows_better_worse_undecided_and_not_run(shelves):
    for row, shift in (("full", 0.0), ("no stage 1", -0.1), ("1 token", 0.1), ("8 tokens", 0.0)):
        measured("CLIP-ReID", row, shift)
    figure, caption = forest_of(chapter())
    assert "1 better, 1 worse, 1 undecided, 3 not run" in caption and "one learned word" in caption
    dots = {
        line.get_marker(): line.get_color() for line in figure.axes[0].lines if line.get_marker() in "^vo"
    }
    assert dots == {forest.MARKERS[how]: forest.COLOURS[how] for how in forest.COLOURS}
    words = [text.get_text() for text in figure.axes[0].texts]
    assert "Other: not run" in words and "not run" not in words, "of a group without runs, its heading"
    assert "better" in words and "worse" in words and "one learned word" in words


def test_a_forest_plot_marks_the_papers_effect_below_ours(shelves):
    page = chapter("PromptSG")
    measured("PromptSG")
    for row in chapters.TABLE_3[1:]:
        measured("PromptSG", row, shift=0.1)
    question = chapters.QUESTIONS["PromptSG"]["components"]
    groups = forest.grouped({"Components": (page.rows("components", "world_market"), question.reference)})
    lines = forest.forest(groups).axes[0].lines
    ticks = [line.get_xdata()[0] for line in lines if line.get_color() == "black"]
    assert ticks == pytest.approx([-1.8, -1.6, -5.2]), "Table 3, rows b, c, d minus a"
    assert "fails" in [one.verdict for one in groups[0].rows], "better where the paper prints worse"


def test_a_plot_without_runs_is_a_sentence(shelves):
    assert "not run" in chapter().forest().data and "<img" not in chapter().forest().data


def test_the_head_names_our_file_and_its_lines():
    told = chapter().head().data
    first, last = map(int, re.search(r"clip_reid.py, lines (\d+) to (\d+)", told).groups())
    lines = (ROOT / "reid_core/methods/clip_reid.py").read_text().splitlines()
    assert lines[first - 1].startswith("class ClipReID") and lines[last].strip() == ""
    assert "none" in chapter("PromptSG").head().data, "it has no official code"


@pytest.mark.parametrize("name, folder", FOLDERS.items())
def test_every_page_of_a_chapter_opens_with_its_box(name, folder):
    for path in sorted((ROOT / "notebooks" / folder).glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        sources = [cell.source for cell in cells]
        box = next(k for k, source in enumerate(sources) if ".box(" in source)
        before = [cell.source for cell in cells[1:box] if cell.cell_type == "markdown"]
        # a landing page shows the architecture first, under a heading
        assert all(source.startswith("## ") and "\n" not in source for source in before), path.name
        assert not before or path.stem == "chapter"
