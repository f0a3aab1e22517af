"""Learning curves: every seed, its score at its end, and no label on another."""

import dataclasses
import itertools

import numpy as np
import pytest
from made_runs import noisy
from matplotlib import colors
from matplotlib import pyplot as plt

from reid_core.calibrate.lengths import Point
from reid_core.report import figures
from reid_core.runs import provenance
from reid_core.runs.run import Spec

SEEDS = 5


@pytest.fixture(autouse=True)
def closed(monkeypatch):
    monkeypatch.setattr(provenance, "outdated", lambda run: "")
    yield
    plt.close("all")


def runs(variant, shift=0.0, seeds=SEEDS, recipe=None):
    """Made-up runs whose curves end at almost one place, after a first stage of other losses."""
    made = []
    for seed in range(seeds):
        first = [{"stage": "stage 1", "epoch": 1, "losses": {"image to text": 9.0}}]
        course = [9 / epoch + 0.001 * seed for epoch in range(1, 6)]
        last = [
            {"stage": "stage 2", "epoch": k, "losses": {"identity": value}}
            for k, value in enumerate(course, 1)
        ]
        spec = Spec("clip_reid", variant, seed=seed)
        run = dataclasses.replace(noisy(seed, shift), spec=spec, history=first + last, recipe=recipe or {})
        made.append(run)
    return made


@pytest.fixture
def found():
    return {"CLIP fine-tune": runs("baseline"), "CLIP-ReID": runs("clip_reid", 0.2)}


def test_a_curve_is_the_identity_loss_per_classifier_of_the_last_stage():
    epochs, values = figures.course(runs("baseline", seeds=1)[0])
    assert epochs == [1, 2, 3, 4, 5] and values == pytest.approx([4.5, 2.25, 1.5, 1.125, 0.9])
    alone = runs("promptsg", seeds=1, recipe={"id_features": ["z"]})[0]
    assert figures.course(alone)[1][0] == pytest.approx(9.0), "one classifier"
    assert figures.course(noisy(0)) is None


def test_every_seed_ends_with_its_score_and_no_label_touches_another(found):
    figure = figures.curves(found)
    figure.canvas.draw()
    labels = [text for text in figure.axes[0].texts if text.get_text() != "mAP"]
    scores = [f"{run.score():.1f}" for some in found.values() for run in some]
    assert sorted(label.get_text() for label in labels) == sorted(scores)
    boxes = sorted((text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 for low, high in itertools.pairwise(boxes))


def test_the_baseline_is_grey_and_a_method_has_its_colour(found):
    drawn = {line.get_label(): line.get_color() for line in figures.curves(found).axes[0].lines}
    assert drawn["CLIP-ReID"] == figures.COLOURS["clip_reid"]
    assert len(set(colors.to_rgb(drawn["CLIP fine-tune"]))) == 1


def test_labels_are_moved_apart_and_keep_their_order():
    places = figures.apart([1.0, 1.0, 1.01, 5.0], 0.5)
    assert (np.diff(places) >= 0.5 - 1e-9).all() and np.mean(places) == pytest.approx(
        np.mean([1, 1, 1.01, 5])
    )


def test_the_caption_says_whether_the_ranges_overlap(found, monkeypatch):
    caption, alt = figures.curves_words(found, "World-Market")
    low, high = (f"{pick(run.score() for run in found['CLIP-ReID']):.1f}" for pick in (min, max))
    assert f"CLIP-ReID ends at {low} to {high} mAP (5 seeds): the ranges do not overlap" in caption
    assert f"{low} to {high} mAP" in alt
    found["CLIP-ReID"] = runs("clip_reid")
    assert "the ranges overlap" in figures.curves_words(found, "World-Market")[0]
    found["CLIP-ReID"] = runs("clip_reid", seeds=1)
    caption, _ = figures.curves_words(found, "World-Market")
    assert "overlap" not in caption and "(one seed)" in caption and "stale" not in caption
    monkeypatch.setattr(provenance, "outdated", lambda run: "its data changed")
    found["CLIP-ReID"] = runs("clip_reid")
    assert "(stale)" in figures.curves_words(found, "World-Market")[0]


@pytest.mark.filterwarnings("error")
def test_lengths_have_their_legend_where_something_was_measured():
    found = {("baseline", "world_msmt"): {"0.5": Point(500, 70, 1, 3), "1": Point(1000, 75, 0.5, 3)}}
    drawn = figures.lengths(found, {"world_market": "A", "world_msmt": "D"})
    assert [axis.get_legend() is not None for axis in drawn.axes] == [False, True]
