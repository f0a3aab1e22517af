"""Pictures of what is kept in Visuals."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from reid_core.analysis import explain
from reid_core.analysis.visuals import Visuals
from reid_core.report import images

CHANCE = np.random.default_rng(0)


def visuals_of(points=40):
    place = CHANCE.random((points, 2)).astype(np.float16)
    scores = {"judged": CHANCE.random((2, 9, 6)), "chance": np.full((9, 6), 0.25)}
    empty = {name: np.zeros(0) for name in Visuals._fields if name not in ("tsne", "umap", "pids", *scores)}
    return Visuals(tsne=place, umap=place[:0], pids=np.repeat(np.arange(20), points // 20), **empty, **scores)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_a_column_without_maps_says_so():
    pictures = [np.full((16, 8, 3), 90, np.uint8)] * 2
    figure = images.overlays(
        pictures, {"one": CHANCE.random((2, 4, 2)), "other": None}, ["30% clutter", "20% clutter"]
    )
    texts = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert texts == [[], [], ["not run"]] * 2
    assert [axis.get_title() for axis in figure.axes] == [
        "30% clutter",
        "one",
        "other",
        "20% clutter",
        "",
        "",
    ]


def test_a_map_is_drawn_in_viridis_at_the_size_of_the_image():
    figure = images.overlays([np.zeros((16, 8, 3), np.uint8)], {"one": np.eye(4)[None, :, :2]}, [""])
    drawn = figure.axes[1].get_images()[1]
    assert drawn.get_cmap().name == "viridis" and drawn.get_array().shape == (16, 8)


def test_people_differ_in_marker_and_colour():
    figure = images.embeddings(visuals_of())
    shown = [group for group in figure.axes[0].collections if group.get_label().startswith("person")]
    looks_like = {(tuple(one.get_facecolor()[0]), one.get_paths()[0].vertices.tobytes()) for one in shown}
    assert len(shown) == len(looks_like) == 8 and len({look[1] for look in looks_like}) == 8


def test_a_map_that_was_not_computed_says_so():
    assert [text.get_text() for text in images.embeddings(visuals_of()).axes[1].texts] == ["not run"]


def test_the_caption_of_the_maps_counts_nearest_neighbours():
    two = np.array([[0, 0], [1, 0], [9, 9], [8, 9]], np.float16)
    found = visuals_of()._replace(tsne=two, umap=two[[0, 2, 1, 3]], pids=np.array([1, 1, 2, 2]))
    assert images.told_apart(found) == (
        "the nearest image is one of the same person for 100 % of the images in t-SNE and 0 % of the images "
        "in UMAP, against 33 % by chance"
    )
    assert "UMAP" not in images.told_apart(found._replace(umap=two[:0]))


def test_every_score_has_a_bar_per_method_and_a_line_for_chance():
    axis = images.judged({"one": visuals_of(), "two": visuals_of()}).axes[0]
    assert len(axis.patches) == 2 * len(explain.SCORES) and set(images.SAYS) == set(explain.SCORES)
    lines = [line.get_xdata()[0] for line in axis.lines if len(set(line.get_xdata())) == 1]
    assert lines == [25.0] * len(explain.SCORES)
    assert len({patch.get_hatch() for patch in axis.patches}) == 2, "never colour alone"


def test_bars_stand_where_the_scores_say():
    one = visuals_of()
    widths = [patch.get_width() for patch in images.judged({"one": one}, "grad_cam").axes[0].patches]
    np.testing.assert_allclose(widths, 100 * one.judged[1].mean(0))


def test_names_of_scores_stand_in_the_order_of_the_columns():
    assert tuple(images.SAYS) == explain.SCORES
