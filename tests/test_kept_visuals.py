"""Files beside runs: whole, small, and of the right run."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import run as toy

from reid_core import evaluate
from reid_core.analysis import visuals
from reid_core.analysis.visuals import EXPLAINED, PEOPLE, Visuals
from reid_core.runs import measure, run
from reid_core.runs.run import BOOK, OWN, Run, Spec

SPEC = Spec("clip_reid", "baseline", profile="smoke")


def noise(key="", explained=12, points=40, grid=(8, 4)):
    """Visuals that compress as badly as can be."""
    chance = np.random.default_rng(0)
    maps = {
        name: chance.integers(0, 256, (explained, *grid)).astype(np.uint8)
        for name in ("relevance", "grad_cam")
    }
    place = {name: chance.random((points, 2)).astype(np.float16) for name in ("tsne", "umap")}
    small = {name: chance.random((6, 8)).astype(np.float32) for name in ("queries", "ap", "order", "correct")}
    count = {"points": np.arange(points), "pids": np.arange(points), "rows": np.arange(explained)}
    scores = {"judged": chance.random((2, explained, 6)), "chance": chance.random((explained, 6))}
    return Visuals(
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
def one(shelves, monkeypatch):
    """A run on a shelf of its own, with what it shows beside it."""
    monkeypatch.setattr(visuals, "visualise", lambda method, data, key: noise(key))
    data = {"origin": "world", "name": "toy", "fingerprint": "f", "counts": {"query": {}}}
    measured = BOOK.write(dataclasses.replace(toy(0, [0.5, 0.7]), spec=SPEC, data=data))
    visuals.keep(None, None, measured)
    return measured


def test_a_file_reads_back_the_same_and_names_its_run(one):
    assert same(visuals.find(SPEC), noise(one.key))
    assert BOOK.pictures(SPEC).with_suffix(".json").exists()


def test_the_largest_file_stays_under_the_limit(one, monkeypatch):
    monkeypatch.setattr(visuals, "visualise", lambda *_: noise("", EXPLAINED, 25 * PEOPLE, (16, 8)))
    visuals.keep(None, None, one)
    assert 50_000 < BOOK.pictures(SPEC).stat().st_size < visuals.LIMIT
    monkeypatch.setattr(visuals, "LIMIT", 1000)
    with pytest.raises(ValueError, match=r"under 1 kB to keep of .*, found \d+ kB; explain fewer"):
        visuals.keep(None, None, one)


def test_what_another_run_showed_is_refused(one):
    older = BOOK.pictures(SPEC).read_bytes()
    BOOK.write(dataclasses.replace(one, scores=toy(0, [0.5, 0.8]).scores))
    assert not BOOK.pictures(SPEC).exists(), "they go with the run that they showed"
    BOOK.pictures(SPEC).write_bytes(older)
    with pytest.raises(ValueError, match="found what another one showed .* python -m reid_core visuals"):
        visuals.find(SPEC)


def test_a_truncated_file_is_one_sentence(one):
    path = BOOK.pictures(SPEC)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="expected a whole file at .*npz, found one that cannot be read"):
        visuals.find(SPEC)


def test_a_run_that_nobody_looked_at_is_none(one):
    BOOK.pictures(SPEC).unlink()
    assert visuals.find(SPEC) is None and visuals.find(SPEC._replace(seed=9)) is None


def test_a_file_of_before_lists_stood_beside_each_other_reads_without_them(one):
    older = noisy_file(BOOK.pictures(SPEC), leave=visuals.LATER)
    assert len(older.precision) == len(older.nearest) == 0 and same(
        older[: -len(visuals.LATER)], noise(one.key)
    )
    with pytest.raises(ValueError, match="expected a whole file"):
        noisy_file(BOOK.pictures(SPEC), leave=("rows",))


def noisy_file(path, leave):
    """What a file says without some of its fields."""
    with np.load(path) as file:
        kept = {name: file[name] for name in file if name not in leave}
    np.savez_compressed(path, **kept)
    return visuals.read(path)


def test_what_is_kept_is_what_training_left(world, tmp_path, monkeypatch):
    spec = SPEC._replace(row="full + stage2_epochs=1")
    with pytest.raises(
        ValueError, match="the weights of clip_reid/baseline/full-.* found none; train it again"
    ):
        monkeypatch.setattr(run, "build_folder", lambda: tmp_path)
        visuals.trained(spec)
    one = measure.measure(spec, log=lambda *_: None)
    method, data = visuals.trained(spec)
    scores = evaluate.score(*visuals.embed(method, data, visuals.task_of(method)), data.query, data.gallery)
    assert scores.mAP * 100 == pytest.approx(one.score("mAP"), abs=1e-4)
    monkeypatch.setattr(measure, "run_key", lambda *_: "another")
    with pytest.raises(ValueError, match="expected weights of another, found those of clip_reid"):
        visuals.trained(spec)


def test_runs_of_the_first_seed_and_of_rows_with_pictures_are_looked_at(monkeypatch):
    looked, searched = [], {"counts": {"query": {}}}
    monkeypatch.setattr(
        measure, "measure", lambda spec, shelf, **options: SimpleNamespace(spec=spec, data=searched)
    )
    monkeypatch.setattr(visuals, "trained", lambda spec: (spec, None))
    monkeypatch.setattr(visuals, "keep", lambda method, data, run, shelf: looked.append((run.spec, shelf)))
    others = (SPEC, OWN), (SPEC._replace(seed=1), BOOK), (SPEC._replace(row="SIE"), BOOK)
    readers = SPEC._replace(profile="paper")
    for spec, shelf in (*others, (SPEC, BOOK), (readers, OWN)):
        assert visuals.measure_and_keep(spec, shelf=shelf).spec == spec
    assert looked == [(SPEC, BOOK), (readers, OWN)]
    searched["counts"] = {"gallery": {}}
    visuals.measure_and_keep(SPEC, shelf=BOOK)
    assert len(looked) == 2, "where no image asks there are no pictures of queries"


def test_runs_whose_weights_are_here_are_looked_at_once(one, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "build_folder", lambda: tmp_path)
    monkeypatch.setattr(visuals, "trained", lambda spec: (None, None))
    said = []
    BOOK.pictures(SPEC).unlink()
    visuals.fill(said.append)
    assert not said, "without weights there is nothing to look at"
    weights = tmp_path / "runs" / SPEC.name / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    weights.touch()
    visuals.fill(said.append)
    visuals.fill(said.append)
    assert said == [f"{SPEC.name}: looked at"] and visuals.find(SPEC) is not None


def test_a_page_without_any_run_shows_an_untrained_tower_and_says_so(world, monkeypatch):
    page = SimpleNamespace(data="world_market", profile="smoke", seed=0, retrain=False, shelf=BOOK)
    monkeypatch.setattr(visuals, "visualise", lambda method, data, maps: noise("live"))
    found, data = visuals.for_page(page, {"CLIP-ReID": ("clip_reid", "clip_reid", "full")})
    assert found == {visuals.UNTRAINED: found[visuals.UNTRAINED], "CLIP-ReID": None} and len(
        data.query
    ) == len(world.query)
    assert "No run of this version is kept for this page" in visuals.caveat(page, found)


def test_a_stale_run_is_not_laid_over_the_images_of_today(one, monkeypatch):
    monkeypatch.setattr(Run, "outdated", "")
    assert same(visuals.fresh(SPEC, BOOK), noise(one.key)) and same(visuals.fresh(SPEC, OWN), noise(one.key))
    monkeypatch.setattr(Run, "outdated", "its data changed")
    assert visuals.fresh(SPEC, BOOK) is None is visuals.fresh(SPEC._replace(seed=9), BOOK)


def test_a_page_with_a_run_shows_that_and_adds_nothing(one, world, monkeypatch):
    monkeypatch.setattr(Spec, "build", lambda spec: (None, world))
    monkeypatch.setattr(Run, "outdated", "")
    page = SimpleNamespace(data="world_market", profile="smoke", seed=0, retrain=False, shelf=BOOK)
    found, _ = visuals.for_page(page, {"base": SPEC[:3], "other": ("clip_reid", "clip_reid", "full")})
    assert (
        list(found) == ["base", "other"]
        and found["other"] is None
        and same(found["base"], visuals.find(SPEC))
    )
    assert visuals.caveat(page, found) == ""
