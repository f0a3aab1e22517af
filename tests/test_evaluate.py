"""Ranking, checked by eye and against brute force. Published evaluators are in fidelity."""

import importlib
import os
import shutil
import sys
from types import SimpleNamespace

import numba
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from reid_core import evaluate, metrics, train
from reid_core.data import load_data
from reid_core.metrics import count_not_below, from_ranks, rank
from reid_core.rerank import rerank
from reid_core.runs import measure
from reid_core.runs.run import Spec


def slowly(near, q_pids, g_pids, q_marks, g_marks):
    """AP of each query the long way: sort, filter, look."""
    precisions = []
    for q in range(len(q_pids)):
        kept = [
            g
            for g in np.argsort(-near[q], kind="stable")
            if not (g_pids[g] == q_pids[q] and g_marks[g] == q_marks[q]) and g_pids[g] != -1
        ]
        hits = [k + 1 for k, g in enumerate(kept) if g_pids[g] == q_pids[q]]
        if hits:
            precisions.append(np.mean([(k + 1) / hit for k, hit in enumerate(hits)]))
    return np.array(precisions)


def random_case(seed, queries=37, gallery=211):
    rng = np.random.default_rng(seed)
    q, g = (
        F.normalize(torch.from_numpy(rng.normal(size=(n, 12))).float(), dim=1) for n in (queries, gallery)
    )
    return (
        q,
        g,
        rng.integers(0, 9, queries),
        rng.integers(-1, 8, gallery),
        rng.integers(0, 3, queries),
        rng.integers(0, 3, gallery),
    )


@pytest.mark.parametrize("name", ["world_msmt", "world_text", "world_a", "world_f"])
def test_every_kind_of_data_set_is_searched_with_what_it_has(name):
    data = load_data(name, "smoke")
    method, _ = Spec("promptsg", "promptsg", "full", name, "smoke").build(data)
    asks = {task.query_type for task in evaluate.available_tasks(method, data).values()}
    assert ("image" in asks) == (len(data.query) > 0) and ("text" in asks) == any(data.gallery.captions)
    assert all(np.isfinite(scores.mAP) for scores in evaluate.run_tests(method, data).values())


def test_spectra_are_no_images_to_a_method_that_sees_one(monkeypatch):
    """Each would be ranked as a shot of its own, under the identity of another."""
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("it was trained"))
    words = "expected shots of one image for Baseline, found 3 spectra each in world_rgbnt201"
    with pytest.raises(ValueError, match=words):
        measure.measure(Spec("clip_reid", "baseline", "full", "world_rgbnt201", "smoke"))


def test_a_method_without_a_question_for_the_data_says_so_before_it_trains(monkeypatch):
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(
        ValueError, match="expected queries that Baseline can ask with, found 0 images in the query split"
    ):
        measure.measure(Spec("clip_reid", "baseline", "full", "world_text", "smoke"))


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_is_that_of_a_full_sort(seed, monkeypatch):
    monkeypatch.setattr(metrics, "BLOCK", 10)
    q, g, *labels = random_case(seed)
    found = rank(q, g, *labels)
    wanted = slowly((q @ g.T).numpy(), *labels)
    assert np.allclose(found.ap, wanted) and found.skipped == len(q) - len(wanted) > 0


def test_an_example_to_check_by_eye():
    near = torch.tensor([[0.9, 0.8, 0.7, 0.6, 0.5]])
    found = rank(None, None, [1], np.array([2, 1, 1, 3, 1]), [0], np.array([1, 1, 0, 1, 1]), distance=-near)
    # the third item is the query's own camera: left out. Ranks of the matches: 2 and 4.
    assert found.ap[0] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert found.ap_trapezoid[0] == pytest.approx(((0 / 1 + 1 / 2) / 2 + (1 / 3 + 2 / 4) / 2) / 2)
    assert found.inp[0] == pytest.approx(2 / 4) and found.first[0] == 2
    assert found.cmc().tolist() == [0, 1, 1, 1, 1]


def test_ties_count_against_the_query():
    q, g = torch.ones(3, 4) / 2, torch.ones(20, 4) / 2
    found = rank(q, g, np.arange(3), np.arange(20) % 10, np.zeros(3), np.ones(20))
    assert found.first.tolist() == [19] * 3  # two matches share the last two of twenty places
    assert found.inp.tolist() == [2 / 20] * 3


def test_distractors_can_only_be_wrong_and_junk_is_neither():
    near = torch.tensor([[0.9, 0.8, 0.7]])
    distractor = rank(None, None, [1], np.array([0, 1, 5]), [0], np.ones(3), distance=-near)
    junk = rank(None, None, [1], np.array([-1, 1, 5]), [0], np.ones(3), distance=-near)
    marked = rank(
        None, None, [1], np.array([7, 1, 5]), [0], np.ones(3), junk=[True, False, False], distance=-near
    )
    assert (distractor.first[0], junk.first[0], marked.first[0]) == (2, 1, 1)


def test_without_a_filter_the_own_camera_counts(world):
    features = F.normalize(torch.randn(42, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    rows = world.gallery
    alone = evaluate.score(features, features, rows, rows, "all")
    assert (alone.first == 1).all() and alone.skipped == 0


def test_a_gallery_shorter_than_fifty_shortens_the_curve():
    assert len(from_ranks([np.array([1, 3])], 8).cmc()) == 8


def test_counting_is_the_same_on_both_paths():
    near = torch.randn(5, 400).round(decimals=1)
    thresholds = torch.cat([near[:, :7].sort(1).values, torch.full((5, 2), torch.inf)], 1)
    slow = (near[:, None] >= thresholds[:, :, None]).sum(2)
    place = torch.searchsorted(thresholds, near, right=True)
    hits = torch.zeros(5, 10, dtype=torch.int64).scatter_add_(1, place, torch.ones_like(place))
    assert torch.equal(count_not_below(near, thresholds), slow)
    assert torch.equal(hits.flip(1).cumsum(1).flip(1)[:, 1:], slow)


def test_a_re_ranked_score_is_the_ranking_of_re_ranked_distances():
    q, g, q_pids, g_pids, q_marks, g_marks = random_case(1, 40, 160)
    rows = (SimpleNamespace(pids=q_pids, camids=q_marks), SimpleNamespace(pids=g_pids, camids=g_marks))
    found = evaluate.score(q, g, *rows, reranked=True)
    wanted = rank(None, None, q_pids, g_pids, q_marks, g_marks, distance=rerank(q, g))
    assert np.array_equal(found.ap, wanted.ap) and not np.allclose(found.ap, evaluate.score(q, g, *rows).ap)


def test_a_block_of_queries_is_re_ranked_like_all_of_them(monkeypatch):
    from reid_core import rerank as module

    q, g, *_ = random_case(2, 60, 200)
    whole = rerank(q, g)
    monkeypatch.setattr(module, "BLOCK", 7)
    assert torch.allclose(module.rerank(q, g), whole, atol=1e-6)


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf"), 1e30])
def test_features_that_are_no_numbers_are_refused_and_not_ranked_first(spoilt):
    one = np.array([1])
    gallery = torch.tensor([[spoilt, spoilt], [0.6, 0.8]])
    query = torch.tensor([[spoilt if spoilt == 1e30 else 1.0, 0.0]])  # 1e30 x 1e30 overflows
    with pytest.raises(ValueError, match="expected finite similarities .*; the training diverged"):
        rank(query, gallery, one, np.array([1, 2]), one, np.array([2, 2]))
    with pytest.raises(ValueError, match="expected finite similarities"):
        near = torch.tensor([[spoilt * spoilt, 1.0]])
        rank(None, None, one, np.array([1, 2]), one, np.array([2, 2]), distance=near.float())


def test_a_model_that_overflows_without_a_loss_that_tells_gets_no_scores(world):
    method = Spec("clip_reid", "baseline", profile="smoke").build(world)[0]
    with torch.no_grad():
        method.image.ln_post.weight.fill_(3e38)
    with pytest.raises(ValueError, match="expected finite features .*; the training diverged"):
        evaluate.run_tests(method, world, number=1)


def test_re_ranking_of_a_few_images_averages_over_as_many_as_there_are():
    found = rerank(torch.eye(2), torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.0, -1.0]]))
    wanted = torch.tensor([[0.06, 0.12, 0.30], [0.06, 0.03, 0.30]])
    torch.testing.assert_close(found, wanted, atol=0.006, rtol=0)


@pytest.fixture
def doubled(tmp_path, monkeypatch):
    """A function to compile, in a file of its own, so that what numba keeps of it lies beside it."""
    (tmp_path / "doubled.py").write_text("def doubled(values):\n    return values * 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("doubled").doubled
    sys.modules.pop("doubled")


def test_a_function_is_compiled_where_there_is_no_place_to_keep_it(doubled, tmp_path, monkeypatch):
    """A read-only checkout and no home."""
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
    (tmp_path / "__pycache__").touch()
    monkeypatch.setenv("HOME", os.devnull)
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    with pytest.raises(RuntimeError, match="cannot cache function"):
        numba.njit(cache=True)(doubled)
    assert metrics.compiled(doubled)(np.ones(1)).tolist() == [2]


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("part", [0, 0.5])
def test_a_compiled_function_that_was_cut_is_compiled_again(doubled, tmp_path, ending, part):
    metrics.compiled(doubled)(np.ones(1))
    (file,) = tmp_path.rglob(f"*.{ending}")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(part * len(whole))])
    assert metrics.compiled(doubled)(np.ones(1)).tolist() == [2]
    assert len(next(tmp_path.rglob(f"*.{ending}")).read_bytes()) > 0.9 * len(whole), "mended for the next"
