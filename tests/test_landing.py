"""The four links of a landing page, and the figures of a page of explanations, with and without runs."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import noisy
from matplotlib import pyplot as plt
from test_kept_visuals import noise

from reid_core.analysis import visuals
from reid_core.report import explanations, landing, scoreboard, tables
from reid_core.report.explanations import Explanations
from reid_core.report.notebook import NAMES, Chapter
from reid_core.runs.run import BOOK, Run, Spec

WORDS = {"idea": "losses", "reproduce": "recipe", "ablate": "controls", "look": "maps & lists"}
METHODS = {label: (*NAMES[label], "full") for label in ("CLIP fine-tune", "CLIP-ReID")}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def page(shelves):
    return SimpleNamespace(profile="smoke", data="world_market", seed=0, retrain=False, shelf=BOOK)


def written(label, outdated, monkeypatch, shift=0.0):
    """A run of a whole method in the book, of this version or stale."""
    monkeypatch.setattr(Run, "outdated", outdated)
    spec = Spec(*NAMES[label], "full", "world_market", "smoke", 0).same
    run = noisy(0, shift)
    data = {**run.data, "fingerprint": "f", "counts": {"query": {}}}
    return BOOK.write(Run(**{**vars(run), "spec": spec, "data": data}))


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts if text.get_text()]


def test_a_landing_page_has_four_links_with_pictures_and_words(page):
    shown = landing.links(Chapter(page, "CLIP-ReID"), "$L_{ID}$", WORDS).data
    assert re.findall(r'<a href="(\w+).html"><img [^>]*alt="[^"]+"', shown) == list(landing.PAGES)
    assert "<b>Explanations</b><span>maps &amp; lists</span>" in shown


def test_pictures_without_runs_say_so(page):
    chapter = Chapter(page, "CLIP-ReID")
    assert texts(landing.scores(chapter)) == ["CLIP fine-tune: not run", "CLIP-ReID: not run"]
    assert texts(landing.effects(chapter)) == texts(landing.heat(chapter)) == ["not run"]


def test_bars_are_the_scores_of_the_runs_and_pale_where_these_are_stale(page, monkeypatch):
    run = written("CLIP-ReID", "", monkeypatch)
    figure = landing.scores(Chapter(page, "CLIP-ReID"))
    bar = figure.axes[0].patches[0]
    assert bar.get_width() == pytest.approx(run.score(), abs=0.1) and bar.get_alpha() == 1
    monkeypatch.setattr(Run, "outdated", "its data changed")
    figure = landing.scores(Chapter(page, "CLIP-ReID"))
    assert figure.axes[0].patches[0].get_alpha() < 1 and "CLIP-ReID: stale" in texts(figure)
    assert texts(landing.heat(Chapter(page, "CLIP-ReID"))) == ["stale"]


@pytest.fixture
def looks(page, world, monkeypatch):
    """The explanations of a page whose baseline is fresh and whose method is stale or not run."""
    one = noise("key", explained=4, points=60)._replace(
        rows=np.arange(4), why=np.array(["passer-by", "clutter", "", ""])
    )
    monkeypatch.setattr(visuals, "for_page", lambda *_: (dict(zip(METHODS, (one, None))), world))
    return lambda: Explanations(page, METHODS)


def test_a_method_without_visuals_is_stale_or_not_run(looks, monkeypatch):
    assert looks().columns["CLIP-ReID"] == "not run"
    written("CLIP-ReID", "its data changed", monkeypatch)
    assert looks().columns["CLIP-ReID"] == "stale"


def test_a_page_of_explanations_is_drawn_with_one_method_alone(looks):
    shown = looks()
    assert "not kept" in shown.lists().data or "not run" in shown.lists().data
    for part in (shown.maps(), shown.bars(), shown.embeddings(), shown.embeddings("umap")):
        assert re.search('<img [^>]*alt="[^"]+".*<figcaption>[^<]+', part.data)
    assert shown.by_grad_cam().data.startswith("<details>")


def test_colours_are_those_of_the_book_and_paler_for_a_row(page, monkeypatch, world):
    monkeypatch.setattr(visuals, "for_page", lambda *_: ({"a": noise()}, world))
    wanted = {"a": ("promptsg", "promptsg", "full"), "b": ("promptsg", "promptsg", "Training w/o composed")}
    told = Explanations(page, wanted).colours
    assert told["a"] == explanations.matplotlib.colors.to_rgb(explanations.figures.COLOURS["promptsg"])
    assert np.all(np.array(told["b"]) >= told["a"]) and told["b"] != told["a"]


def test_maps_of_another_data_set_wait_for_fresh_runs(page):
    assert "not run" in explanations.elsewhere(page, METHODS).data


def test_a_number_on_the_board_tells_missing_seeds_and_its_data_and_the_guards_know_both():
    """Of a paper with data of its own; the first such run was refused by the guards of the book."""
    cell = scoreboard.remarked(tables.Cell("60.9", note="(1 of 5 seeds)"), "(World-RGBNT201)")
    assert cell.said == "60.9 (1 of 5 seeds) (World-RGBNT201)"
    assert cell.said == f"60.9 (1 of 5 seeds) {cell.asked['remark']}"
