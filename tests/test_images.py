"""Pictures of what is kept in Visuals: heat maps, their scores, ranked lists and embeddings."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import pyplot as plt

from reid_core.analysis import explain, visuals
from reid_core.analysis.visuals import Visuals
from reid_core.report import heatmaps, images, neighbours
from reid_core.report.heatmaps import Column

CHANCE = np.random.default_rng(0)
PICTURES = [np.full((16, 8, 3), 90, np.uint8)] * 2


def visuals_of(points=40):
    place = CHANCE.random((points, 2)).astype(np.float16)
    scores = {"judged": CHANCE.random((2, 9, 6)), "chance": np.full((9, 6), 0.25)}
    empty = {name: np.zeros(0) for name in Visuals._fields if name not in ("tsne", "umap", "pids", *scores)}
    return Visuals(tsne=place, umap=place[:0], pids=np.repeat(np.arange(20), points // 20), **empty, **scores)


def lists_of(precision, missed=7):
    """Visuals with ranked lists of explained queries."""
    count, places = len(precision), visuals.BESIDE
    order = np.tile(np.arange(places), (count, 1))
    return visuals_of()._replace(
        rows=np.arange(count),
        precision=np.array(precision),
        nearest=order,
        right=order % 2 == 0,
        missed=np.full(count, missed),
        missed_at=np.full(count, 9),
    )


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def drawn(monkeypatch):
    """(split, position) of every picture that is drawn."""
    taken = []
    monkeypatch.setattr(
        images, "picture", lambda data, split, shot: taken.append((split, shot)) or PICTURES[0]
    )
    return taken


def words(axis):
    return [text.get_text() for text in axis.texts]


def test_a_column_without_maps_says_why():
    maps = Column(CHANCE.random((2, 4, 2)), ["46 %", "12 %"])
    figure = heatmaps.overlays(PICTURES, {"one": maps, "other": "stale"}, ["30 % clutter", "20 % clutter"])
    assert [words(axis) for axis in figure.axes] == [[], ["46 %"], ["stale"], [], ["12 %"], ["stale"]]
    titles = ["30 % clutter", "one", "other", "20 % clutter", "", ""]
    assert [axis.get_title() for axis in figure.axes] == titles


def test_an_empty_map_says_so_and_has_no_share():
    figure = heatmaps.overlays(PICTURES[:1], {"one": Column(np.zeros((1, 4, 2)), ["27 %"])}, [""])
    assert words(figure.axes[1]) == [heatmaps.EMPTY]


def test_the_person_is_outlined_where_masks_are_known_and_only_over_maps():
    person = np.zeros((16, 8), bool)
    person[4:12, 2:6] = True
    columns = {"one": Column(np.eye(4)[None, :, :2], ["46 %"]), "other": "not run"}
    figure = heatmaps.overlays(PICTURES[:1], columns, [""], [person])
    assert [len(axis.collections) for axis in figure.axes] == [1, 1, 0]
    assert words(figure.axes[0]) == ["person: 25 %"]
    without = heatmaps.overlays(PICTURES[:1], columns, [""])
    assert not any(axis.collections for axis in without.axes) and not words(without.axes[0])


def test_a_map_is_drawn_in_viridis_at_the_size_of_the_image():
    figure = heatmaps.overlays(PICTURES[:1], {"one": Column(np.eye(4)[None, :, :2], [""])}, [""])
    drawn = figure.axes[1].get_images()[1]
    assert drawn.get_cmap().name == "viridis" and drawn.get_array().shape == (16, 8)


def test_the_share_under_a_map_is_that_of_its_own_image():
    one = visuals_of()._replace(relevance=np.ones((9, 4, 2)))
    under = heatmaps.shares(one, [2, 5]).under
    column = explain.SCORES.index("person")
    assert under == [f"{100 * one.judged[0, k, column]:.0f} %" for k in (2, 5)]
    unjudged = one._replace(judged=np.full((2, 9, 6), np.nan))
    assert heatmaps.shares(unjudged, [2, 5]).under == ["", ""]
    assert heatmaps.shares(one._replace(relevance=np.zeros((0, 4, 2))), [2]) == "no attention"


def test_people_differ_in_marker_and_colour():
    figure = neighbours.embeddings({"one": visuals_of()})
    shown = [group for group in figure.axes[0].collections if group.get_label().startswith("person")]
    looks_like = {(tuple(one.get_facecolor()[0]), one.get_paths()[0].vertices.tobytes()) for one in shown}
    assert len(shown) == len(looks_like) == 8 and len({look[1] for look in looks_like}) == 8


def test_an_embedding_that_was_not_computed_says_so():
    figure = neighbours.embeddings({"one": visuals_of(), "two": "stale"}, "umap")
    assert [words(axis) for axis in figure.axes] == [["not run"], ["stale"]]


def test_the_caption_of_the_embeddings_counts_nearest_neighbours():
    two = np.array([[0, 0], [1, 0], [9, 9], [8, 9]], np.float16)
    one = visuals_of()._replace(tsne=two, umap=two[:0], pids=np.array([1, 1, 2, 2]))
    other = one._replace(tsne=two[[0, 2, 1, 3]])
    assert neighbours.told_apart({"one": one, "other": other, "third": "stale"}) == (
        "The nearest point in t-SNE is an image of the same person for 100 % for one, 0 % for other; by "
        "chance 33 %"
    )
    assert neighbours.told_apart({"one": one}, "umap") == "UMAP: not run"


def test_every_score_has_a_bar_per_method_and_a_line_for_chance():
    axis = heatmaps.bars({"one": visuals_of(), "two": visuals_of()}).axes[0]
    assert len(axis.patches) == 2 * len(explain.SCORES) and set(heatmaps.SAYS) == set(explain.SCORES)
    lines = [line.get_xdata()[0] for line in axis.lines if len(set(line.get_xdata())) == 1]
    assert lines == [25.0] * len(explain.SCORES)
    assert len({patch.get_hatch() for patch in axis.patches}) == 2, "never colour alone"


def test_bars_stand_where_the_scores_say():
    one = visuals_of()
    widths = [patch.get_width() for patch in heatmaps.bars({"one": one}, "grad_cam").axes[0].patches]
    np.testing.assert_allclose(widths, 100 * one.judged[1].mean(0))


def test_names_of_scores_stand_in_the_order_of_the_columns():
    assert tuple(heatmaps.SAYS) == explain.SCORES


def test_the_caption_of_the_maps_says_on_which_side_of_chance_they_lie():
    chance = np.full((9, 6), 0.25)
    levels = {"more": 0.4, "less": 0.1, "same": 0.25}
    found = {name: visuals_of()._replace(judged=np.full((2, 9, 6), level)) for name, level in levels.items()}
    assert heatmaps.finding({name: one._replace(chance=chance) for name, one in found.items()}) == (
        "Share of the map on the person: more 40 % (above chance), less 10 % (below chance), same 25 % "
        "(undecided); of a uniform map 25 %"
    )


def test_two_methods_are_shown_on_the_same_queries_with_the_first_missed_match(drawn):
    one, other = lists_of([0.5, 0.2]), lists_of([0.3, 0.9], missed=0)
    figure = neighbours.lists_beside(None, {1: "largest gain"}, {"baseline": one, "CLIP-ReID": other})
    assert drawn.count(("query", 1)) == 1 and drawn.count(("gallery", 9)) == 1
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    places = [f"{k + 1} {'✗' if k % 2 else '✓'}" for k in range(visuals.BESIDE)]
    assert titles == ["query", *places, "rank 7", *places], "where nothing is missed, nothing is shown"
    assert [text for axis in figure.axes for text in words(axis)] == [
        "largest gain",
        "baseline: AP 20 %",
        "CLIP-ReID: AP 90 %",
    ]


def test_lists_that_an_older_run_did_not_keep_say_so(drawn):
    older = visuals_of()._replace(rows=np.arange(1))
    found = {"baseline": older, "CLIP-ReID": lists_of([0.3]), "PromptSG": "stale"}
    figure = neighbours.lists_beside(None, {0: "hardest"}, found)
    told = [text for axis in figure.axes for text in words(axis)]
    assert {"not kept", "stale", "CLIP-ReID: AP 30 %"} <= set(told)


def test_the_caption_of_the_lists_counts_queries_that_rise_and_fall():
    found = {"baseline": lists_of([0.5, 0.2, 0.4]), "PromptSG": lists_of([0.6, 0.1, 0.5])}
    assert neighbours.ranked_higher(found) == (
        "Of 3 queries, one per person, PromptSG has a higher average precision than baseline for 2 and a "
        "lower one for 1"
    )
    assert "one method alone" in neighbours.ranked_higher({**found, "baseline": "stale"})


def test_the_frames_of_a_ranked_list_say_what_is_right(drawn):
    figure = images.ranked_lists(SimpleNamespace(), [0], [[1, 2]], [[True, False]], 2)
    assert [axis.get_title() for axis in figure.axes] == ["query", "1 ✓", "2 ✗"]
    colours = [axis.spines["left"].get_edgecolor()[:3] for axis in figure.axes[1:]]
    assert colours[0] != colours[1]
