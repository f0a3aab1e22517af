"""What a trained method shows: coordinates, ranked lists and explanations."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reid_core import evaluate
from reid_core.analysis import explain, visuals
from reid_core.data import Shots
from reid_core.runs.run import Spec

SPEC = Spec("clip_reid", "baseline", profile="smoke")


def rows(pids, camids):
    pids, camids = np.array(pids), np.array(camids)
    blank = np.empty((len(pids), 1), object)
    there = np.ones((len(pids), 1), bool)
    return Shots(blank, np.full((len(pids), 1), -1), pids, camids, camids, camids, there)


DATA = SimpleNamespace(
    query=rows([1, 1, 2], [0, 1, 0]), gallery=rows([1, 1, 2, -1, 3], [0, 2, 1, 0, 0]), origin="real"
)
QUERY = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [1, 0], [0, 1]]))
GALLERY = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [0, 1], [1, 1], [1, 0], [2, 1]]))


@pytest.fixture(scope="module")
def method(world):
    torch.manual_seed(0)
    return SPEC.build(world)[0]


@pytest.fixture(scope="module")
def seen(method, world):
    return visuals.visualise(method, world, "key", maps=("tsne",))


def same(one, two):
    return all(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f") for a, b in zip(one, two))


def test_the_same_method_shows_the_same_twice(method, world, seen):
    assert same(seen, visuals.visualise(method, world, "key", maps=("tsne",)))


def test_looking_changes_no_weight_and_no_gradient(method, world):
    before = {name: value.clone() for name, value in method.state_dict().items()}
    visuals.explanations(method, world, visuals.task_of(method), *sides(method, world), np.arange(4))
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    assert all(p.grad is None for p in method.parameters())


def sides(method, world):
    return visuals.embed(method, world, visuals.task_of(method))


@pytest.mark.parametrize("draw", [visuals.tsne, visuals.umap])
def test_the_same_seed_gives_the_same_coordinates(draw):
    features = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    one = draw(features)
    assert one.shape == (40, 2) and one.dtype == np.float16 and np.abs(one).max() == 1
    assert np.array_equal(one, draw(features)) and not np.array_equal(one, draw(features[::-1]))


def test_neighbours_stay_neighbours_in_a_map():
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(4, 16)), 10, 0)
    found = visuals.tsne((centres + 0.05 * rng.normal(size=centres.shape)).astype(np.float32)).astype(float)
    distance = np.linalg.norm(found[:, None] - found, axis=2) + 9 * np.eye(40)
    assert (distance.argmin(1) // 10 == np.arange(40) // 10).all()


def test_a_ranked_list_leaves_out_what_the_protocol_leaves_out():
    scores = SimpleNamespace(ap=np.array([0.9, 0.2, 1.0]), valid=np.arange(3))
    found = visuals.ranked_lists(QUERY, GALLERY, DATA, "market", scores)
    assert found["queries"].tolist() == [1, 2, 0, 2], "the lowest of each person, then median and best"
    hers = found["order"][2].tolist()
    assert hers[:3] == [4, 2, 1] and set(hers[3:]) == {0, 3}, (
        "person 1 on camera 0 and the distractor come last"
    )
    assert found["correct"][2][:3].tolist() == [False, False, True]


def test_a_missed_match_is_the_first_behind_the_shown_places_and_has_its_rank(monkeypatch):
    scores = SimpleNamespace(ap=np.array([0.9, 0.2, 1.0]), valid=np.arange(3))
    monkeypatch.setattr(visuals, "BESIDE", 1)
    found = visuals.lists_beside(QUERY, GALLERY, DATA, "market", scores)
    assert found["nearest"].tolist() == [[4], [1]] and not found["right"].any()
    assert found["precision"].tolist() == pytest.approx([0.9, 1.0])
    assert found["missed"].tolist() == [3, 2] and found["missed_at"].tolist() == [1, 2]
    monkeypatch.setattr(visuals, "BESIDE", 2)
    found = visuals.lists_beside(QUERY, GALLERY, DATA, "market", scores)
    assert found["missed"].tolist() == [3, 0] and found["right"].tolist() == [[False] * 2, [False, True]]
    monkeypatch.setattr(visuals, "BESIDE", 9)
    assert visuals.lists_beside(QUERY, GALLERY, DATA, "market", scores)["missed"].tolist() == [0, 0]


def test_lists_beside_are_of_the_explained_queries(method, world, seen):
    scores = evaluate.score(*sides(method, world), world.query, world.gallery)
    assert seen.nearest.shape == seen.right.shape == (len(seen.rows), visuals.BESIDE)
    for k, row in enumerate(seen.rows):
        at = scores.valid == row
        assert seen.precision[k] == pytest.approx(scores.ap[at][0])
        first = np.append(np.flatnonzero(seen.right[k]) + 1, seen.missed[k])[0]
        assert first == scores.first[at][0], "the first true match is shown, or is the one that is missed"


def test_lists_are_shown_of_gain_loss_hardest_and_median_each_query_once():
    one = SimpleNamespace(precision=np.array([0.9, 0.1, 0.5, 0.6, 0.7]))
    other = SimpleNamespace(precision=np.array([0.1, 0.1, 0.9, 0.6, 0.7]))
    told = {0: "largest gain", 2: "largest loss", 1: "hardest", 3: "median"}
    assert visuals.telling(one, other) == told
    assert visuals.telling(one) == {1: "hardest", 3: "median", 0: "best"}
    assert visuals.telling(SimpleNamespace(precision=np.array([0.5]))) == {0: "hardest"}


def test_without_marks_only_distractors_are_left_out():
    assert (
        visuals.left_out(DATA, "all", np.array([0, 2])).tolist() == [[False, False, False, True, False]] * 2
    )


def test_failures_are_the_lowest_average_precisions_one_per_person():
    ap, pids = np.array([0.5, 0.1, 0.2, 0.9, 0.3, 0.4, 0.8]), np.array([1, 2, 2, 3, 4, 5, 6])
    assert visuals.hardest_median_best(ap, pids).tolist() == [1, 4, 5, 0, 5, 3]


def test_lists_agree_with_the_scores_of_the_test(method, world, seen):
    scores = evaluate.score(*sides(method, world), world.query, world.gallery)
    for row, ap, correct in zip(seen.queries, seen.ap, seen.correct):
        first = scores.first[scores.valid == row][0]
        assert ap == pytest.approx(scores.ap[scores.valid == row][0])
        assert (first - 1 == correct.argmax()) if first <= visuals.PLACES else not correct.any()


def test_explained_queries_are_the_first_of_each_person(world, seen):
    assert len(set(world.query.pids[seen.rows])) == len(seen.rows) == len(set(world.query.pids))
    assert seen.relevance.shape == seen.grad_cam.shape == (len(seen.rows), *(8, 4))
    assert seen.relevance.dtype == np.uint8 and seen.relevance.max() == 255


def test_explanations_are_judged_beside_chance(seen):
    assert seen.judged.shape == (2, len(seen.rows), len(explain.SCORES)) and not np.isnan(seen.judged).any()
    shares = seen.chance[:, [explain.SCORES.index(name) for name in explain.GROUPS]]
    np.testing.assert_allclose(shares.sum(1), 1, atol=2e-3)
    assert np.array_equal(seen.chance[:, 0], seen.chance[:, 2]), (
        "pointing by chance hits as often as there is person"
    )


def test_an_image_is_shown_for_one_reason_that_fills_it():
    empty, some, more = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    some[0], more[:2] = explain.REGIONS.index("passer-by"), explain.REGIONS.index("clutter")
    both = np.where(np.arange(16).reshape(4, 4) < 8, some, explain.REGIONS.index("clutter")).astype(np.uint8)
    why, share = visuals.reasons([empty, some, more, both], np.arange(4))
    assert why.tolist() == ["", "passer-by", "clutter", "passer-by"] and share.tolist() == [
        0,
        0.25,
        0.5,
        0.25,
    ]


def test_real_data_has_no_masks_and_no_chosen_images():
    why, share = visuals.reasons(visuals.masks_of(DATA, [0]), np.array([1, 2]))
    assert why.tolist() == ["", ""] and not share.any()
    assert np.isnan(visuals.judge(np.ones((2, 4, 2)), [])).all()


def test_an_interval_of_scores_covers_its_mean():
    found = visuals.mean(np.random.default_rng(0).random(100))
    assert found.low < found.mean < found.high and found.half == pytest.approx(5.6, abs=1)
    assert visuals.mean([0.25] * 5) == (25, 25, 25)


def test_what_is_shown_goes_group_by_group_the_fullest_first():
    found = SimpleNamespace(
        why=np.array(["clutter", "", "passer-by", "clutter", "clutter"]),
        share=np.array([0.1, 0, 0.05, 0.3, 0.2]),
        rows=np.arange(5),
    )
    assert visuals.shown(found) == [2, 3, 4], "of a file that kept more, as many as the page shows"
    found.why = np.full(5, "")
    assert visuals.shown(found) == [0, 1, 2, 3], "without masks the first ones"


def test_beside_chance_compares_image_by_image():
    chance = np.tile(np.linspace(0.1, 0.9, 20)[:, None], (1, 6))
    found = SimpleNamespace(judged=np.stack([chance + 0.05, chance]), chance=chance)
    assert visuals.beside_chance(found) == pytest.approx((5, 5, 5)) and visuals.beside_chance(
        found, "grad_cam"
    ) == (0, 0, 0)


@pytest.mark.parametrize("number", [2, 9])
def test_a_map_of_equal_or_of_too_few_vectors_is_none(number):
    """t-SNE would end the process, UMAP would give NaN."""
    split = SimpleNamespace(pids=np.arange(number))
    few = SimpleNamespace(query=split, gallery=SimpleNamespace(pids=np.arange(0)))
    features = torch.eye(1, 8).repeat(number, 1) if number > 3 else torch.eye(number, 8)
    found = visuals.coordinates(features, features[:0], few, ("tsne", "umap"))
    assert found["tsne"].shape == found["umap"].shape == (0, 2) and len(found["points"]) == number
