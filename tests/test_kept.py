"""Files beside runs: whole, small, and of the right run."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from test_results import run

from reid_core import evaluate, kept, looks, results
from reid_core.looks import EXPLAINED, PEOPLE, Looks
from reid_core.results import Spec

SPEC = Spec("clip_reid", "baseline", profile="smoke")


def noise(key="", explained=12, points=40, grid=(8, 4)):
    """Looks that compress as badly as can be."""
    chance = np.random.default_rng(0)
    maps = {
        name: chance.integers(0, 256, (explained, *grid)).astype(np.uint8)
        for name in ("relevance", "grad_cam")
    }
    place = {name: chance.random((points, 2)).astype(np.float16) for name in ("tsne", "umap")}
    small = {name: chance.random((6, 8)).astype(np.float32) for name in ("queries", "ap", "order", "correct")}
    count = {"points": np.arange(points), "pids": np.arange(points), "rows": np.arange(explained)}
    scores = {"judged": chance.random((2, explained, 6)), "chance": chance.random((explained, 6))}
    return Looks(
        key,
        why=np.full(explained, "", "U12"),
        share=np.ones(explained),
        **maps,
        **place,
        **small,
        **count,
        **scores,
    )


def same(one, two):
    return all(np.array_equal(a, b) for a, b in zip(one, two))


@pytest.fixture
def one(tmp_path, monkeypatch):
    """A run in a folder of its own, with what it shows beside it."""
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(kept, "look", lambda method, data, key: noise(key))
    measured = dataclasses.replace(
        run(0, [0.5, 0.7]), spec=SPEC, data={"label": "world", "fingerprint": "f", "counts": {"query": {}}}
    )
    kept.keep(None, None, measured.write())
    return measured


def test_a_file_reads_back_the_same_and_names_its_run(one):
    assert same(kept.find(SPEC), noise(kept.key_of(one)))
    assert kept.path_of(SPEC).with_suffix(".json").exists()


def test_the_largest_file_stays_under_the_limit(one, monkeypatch):
    monkeypatch.setattr(kept, "look", lambda *_: noise("", EXPLAINED, 25 * PEOPLE, (16, 8)))
    kept.keep(None, None, one)
    assert 50_000 < kept.path_of(SPEC).stat().st_size < kept.LIMIT
    monkeypatch.setattr(kept, "LIMIT", 1000)
    with pytest.raises(ValueError, match=r"under 1 kB to keep of .*, found \d+ kB; explain fewer"):
        kept.keep(None, None, one)


def test_what_another_run_showed_is_refused(one):
    dataclasses.replace(one, scores=run(0, [0.5, 0.8]).scores).write()
    with pytest.raises(ValueError, match="found what another one showed .* python -m reid_core looks"):
        kept.find(SPEC)


def test_a_truncated_file_is_one_sentence(one):
    path = kept.path_of(SPEC)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="expected a whole file at .*npz, found one that cannot be read"):
        kept.find(SPEC)


def test_a_run_that_nobody_looked_at_is_none(one):
    kept.path_of(SPEC).unlink()
    assert kept.find(SPEC) is None and kept.find(SPEC._replace(seed=9)) is None


def test_what_is_kept_is_what_training_left(world, tmp_path, monkeypatch):
    spec = SPEC._replace(row="full + stage2_epochs=1")
    with pytest.raises(
        ValueError, match="the weights of clip_reid/baseline/full-.* found none; train it again"
    ):
        monkeypatch.setattr(kept, "build_folder", lambda: tmp_path)
        kept.trained(spec)
    monkeypatch.setattr(results, "build_folder", lambda: tmp_path)
    one = results.measure(spec, log=lambda *_: None)
    method, data = kept.trained(spec)
    scores = evaluate.score(*looks.embed(method, data, looks.task_of(method)), data.query, data.gallery)
    assert scores.mAP * 100 == pytest.approx(one.score("mAP"), abs=1e-4)
    monkeypatch.setattr(results, "run_key", lambda *_: "another")
    with pytest.raises(ValueError, match="expected weights of another, found those of clip_reid"):
        kept.trained(spec)


def test_runs_of_the_first_seed_and_of_rows_with_pictures_are_looked_at(monkeypatch):
    looked, searched = [], {"counts": {"query": {}}}
    monkeypatch.setattr(
        results, "measure", lambda spec, committed, **options: SimpleNamespace(spec=spec, data=searched)
    )
    monkeypatch.setattr(kept, "trained", lambda spec: (spec, None))
    monkeypatch.setattr(
        kept, "keep", lambda method, data, run, committed: looked.append((run.spec, committed))
    )
    others = (SPEC, False), (SPEC._replace(seed=1), True), (SPEC._replace(row="SIE"), True)
    readers = SPEC._replace(profile="paper")
    for spec, committed in (*others, (SPEC, True), (readers, False)):
        assert kept.measure(spec, committed=committed).spec == spec
    assert looked == [(SPEC, True), (readers, False)]
    searched["counts"] = {"gallery": {}}
    kept.measure(SPEC, committed=True)
    assert len(looked) == 2, "where no image asks there are no pictures of queries"


def test_runs_whose_weights_are_here_are_looked_at_once(one, tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "build_folder", lambda: tmp_path)
    monkeypatch.setattr(kept, "trained", lambda spec: (None, None))
    said = []
    kept.path_of(SPEC).unlink()
    kept.fill(said.append)
    assert not said, "without weights there is nothing to look at"
    weights = tmp_path / "runs" / SPEC.name / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    kept.fill(said.append)
    kept.fill(said.append)
    assert said == [f"{SPEC.name}: looked at"] and kept.find(SPEC) is not None


def test_a_page_without_any_run_shows_an_untrained_tower_and_says_so(world, monkeypatch):
    page = SimpleNamespace(data="world_market", profile="smoke", seed=0, retrain=False, committed=True)
    monkeypatch.setattr(kept, "look", lambda method, data, maps: noise("live"))
    found, data = kept.for_page(page, {"CLIP-ReID": ("clip_reid", "clip_reid", "full")})
    assert found == {kept.UNTRAINED: found[kept.UNTRAINED], "CLIP-ReID": None} and len(data.query) == len(
        world.query
    )
    assert "No run is kept for this page" in kept.caveat(page, found)


def test_a_page_with_a_run_shows_that_and_adds_nothing(one, world, monkeypatch):
    monkeypatch.setattr(results, "build", lambda spec: (None, world))
    page = SimpleNamespace(data="world_market", profile="smoke", seed=0, retrain=False, committed=True)
    found, _ = kept.for_page(page, {"base": SPEC[:3], "other": ("clip_reid", "clip_reid", "full")})
    assert (
        list(found) == ["base", "other"] and found["other"] is None and same(found["base"], kept.find(SPEC))
    )
    assert kept.caveat(page, found) == ""
