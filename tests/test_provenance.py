"""Stale or not: what a run keeps of its code, data and weights, and what a probe of the code sees."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from made_runs import noisy
from PIL import Image

from data_prep import catalogue
from reid_core import optim
from reid_core.methods import METHODS
from reid_core.runs import fill, measure, provenance
from reid_core.runs.run import BOOK, Run, Spec


def test_a_run_goes_stale_with_what_its_code_computes_and_not_with_its_files(world):
    spec = Spec("clip_reid", "baseline", profile="smoke")
    recipe = provenance.plain(dataclasses.asdict(spec.recipe()))
    kept = dataclasses.replace(noisy(0), spec=spec, recipe=recipe, fingerprint=provenance.fingerprint(spec))
    assert provenance.stale(kept) == ""
    for name in ("recipe", "data", "weights", "profile"):
        moved = dataclasses.replace(kept, fingerprint={**kept.fingerprint, name: "another"})
        assert provenance.stale(moved) == f"its {name} changed"


@pytest.mark.parametrize(
    "value, said",
    [
        (10.0, ""),
        (10.0005, ""),
        (9.9995, ""),
        (10.002, "its loss differs by 2.0e-04"),
        (0.0, "its loss differs by 1.0e+00"),
        (float("nan"), "its loss differs by inf"),
    ],
)
def test_a_probe_may_differ_as_processors_round_and_no_more(value, said):
    assert provenance.changed({"loss": 10.0, "gradient": 1e-9}, {"loss": value, "gradient": 2e-9}) == said


def test_a_probe_of_other_quantities_is_another_code():
    assert (
        provenance.changed({"loss": 1.0}, {"loss": 1.0, "more": 1.0})
        == "its code now computes other quantities (more)"
    )
    assert provenance.changed({}, {"loss": 1.0}).startswith("its code now computes other quantities")


MACHINES = {
    "no vector units": {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Prescott"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}


PROBE = """
import json, sys
from reid_core.runs.provenance import probe_losses
from reid_core.runs.run import Spec
print(json.dumps({name: probe_losses(Spec(*name.split())) for name in sys.argv[1:]}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_the_code_computes_the_same_on(machine):
    """Within half of what counts as a change."""
    names = ("clip_reid baseline", "clip_reid clip_reid", "promptsg promptsg")
    command = [sys.executable, "-c", PROBE, *names]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **MACHINES[machine]})
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    for name in names:
        assert_near(told[name], provenance.probe_losses(Spec(*name.split())))


def assert_near(there, here):
    assert here.keys() == there.keys()
    off = {key: abs(there[key] - here[key]) / max(abs(here[key]), provenance.FLOOR) for key in here}
    assert max(off.values()) < provenance.ROUNDING / 2, max(off, key=off.get)


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_the_code_computes_the_same_with_threads(threads):
    """Within half of what counts as a change."""
    spec, before = Spec("promptsg", "promptsg"), torch.get_num_threads()
    here = provenance.probe_losses(spec)
    torch.set_num_threads(threads)
    try:
        there = provenance.probe_losses.__wrapped__(spec)  # computed anew, not the one that is kept
    finally:
        torch.set_num_threads(before)
    assert_near(there, here)


def test_a_field_that_the_recipe_has_got_since_makes_no_run_stale_and_one_that_it_lost_does():
    recipe = Spec("clip_reid", "baseline", profile="smoke").recipe()
    values = dataclasses.asdict(recipe)
    younger = dataclasses.make_dataclass("Younger", [("new", int, 0)], bases=(type(recipe),), frozen=True)(
        **values
    )
    assert provenance.digest(younger) != provenance.digest(recipe) == provenance.digest(younger, values)
    assert provenance.digest(recipe.but(triplet_margin=0.5), values) != provenance.digest(recipe)
    lost = {**values, "gone": 1}
    assert provenance.digest(recipe, values) == provenance.digest_of(values)
    assert provenance.digest(recipe, lost) != provenance.digest_of(lost), (
        "what it was measured with is no field any more"
    )


def test_a_run_of_another_world_or_other_weights_is_outdated_at_a_glance():
    run = BOOK.load(variant="baseline", row="full")[0]
    other = dataclasses.replace(run, data={**run.data, "fingerprint": "another"})
    assert provenance.outdated(other) == "its data changed"
    other = dataclasses.replace(run, provenance={**run.provenance, "weights": "another"})
    assert provenance.outdated(other) == "its weights changed"


def test_a_run_is_outdated_once_a_set_changed_that_it_was_only_tested_on(monkeypatch):
    monkeypatch.setattr(provenance, "digest_of", lambda values: "as it was")
    run = Run(
        spec=Spec("clip_reid", "baseline", data="world_market", profile="smoke"),
        data={"tested": {"world_msmt": catalogue.fingerprint("world_msmt", "smoke")}},
        recipe={},
        changes={},
        scores=[],
        history=[],
        cost={},
        provenance={},
        fingerprint={"profile": "as it was"},
    )
    assert provenance.outdated(run) == ""
    other = dataclasses.replace(run, data={"tested": {"world_msmt": "another"}})
    assert provenance.outdated(other) == "its test on world_msmt changed"
    scores = [{"data": "world_market"}, {"data": "world_msmt"}]
    told = measure.only_tested(run.spec._replace(profile="laptop"), scores)
    assert told == {"world_msmt": catalogue.fingerprint("world_msmt", "laptop")}
    gone = dataclasses.replace(run, data={"tested": {"a set that is not at hand": "another"}})
    assert provenance.outdated(gone) == ""


def test_the_fingerprint_of_a_world_needs_no_picture_of_it(world):
    assert catalogue.fingerprint("world_market", "smoke") == world.manifest.fingerprint


TRAINED = [  # whole methods: a variant alone would not tell PAD's from VLADR's
    (name, variant) for name, paper in METHODS.items() if name != "lifelong" for variant in paper.variants
]


@pytest.mark.parametrize("method, variant", TRAINED)
def test_a_committed_run_of_each_method_still_says_what_the_code_says(method, variant):
    """A run of another world, weights or recipe is greyed on every page, and measured anew in time: that is
    no fault of the code."""
    runs = BOOK.load(method=method, variant=variant, row="full")
    run = next((run for run in runs if not run.outdated), None)
    if run is None:
        pytest.skip("no run of this method is committed, or every one is stale at a glance")
    assert provenance.stale(run) == "", run.spec.name


@pytest.mark.parametrize("variant", ["released", "described"])
def test_a_run_of_vladr_can_be_probed_on_both_sets(variant):
    spec = Spec("vladr", variant, "full", provenance.PROBED[0], "smoke")
    found = provenance.probe_losses(spec)
    assert any("domain 2" in name and "attribute alignment" in name for name in found)


@pytest.mark.parametrize(
    "row, stages, updates",
    [("full", 2, 2), ("no stage 1", 1, 1), ("zero-shot", 2, 0)],
)
def test_a_stage_that_does_not_run_is_not_probed_and_a_method_that_trains_none_is_before_any(
    row, stages, updates
):
    found = provenance.probe_losses(Spec("clip_reid", "clip_reid", row, profile="smoke"))
    assert len({name.partition(" | ")[0] for name in found}) == stages
    assert sum("after an update" in name for name in found) == updates
    assert provenance.changed(found, dict(found)) == "" and all(map(np.isfinite, found.values()))


def test_the_probe_sees_a_loss_that_changed_by_a_thousandth(world, monkeypatch):
    spec = Spec("clip_reid", "baseline", profile="smoke")
    before = provenance.probe_losses(spec)
    from reid_core.methods import baseline

    real = baseline.batch_hard_triplet
    monkeypatch.setattr(baseline, "batch_hard_triplet", lambda *args: real(*args) * 1.001)
    provenance.probe_losses.cache_clear()
    after = provenance.probe_losses(spec)
    provenance.probe_losses.cache_clear()
    assert (
        "differs by 1.0e-03" in provenance.changed(before, after)
        and provenance.changed(before, dict(before)) == ""
    )


def test_the_probe_sees_an_optimiser_and_a_rate(world, monkeypatch):
    """What happens after the gradient shows in the loss after an update."""
    spec = Spec("clip_reid", "baseline", "full + stage2_lr=0.01", profile="smoke")
    before = provenance.probe_losses(spec)
    monkeypatch.setattr(optim, "adam", lambda parts: torch.optim.SGD(parts))
    provenance.probe_losses.cache_clear()
    after = provenance.probe_losses(spec)
    provenance.probe_losses.cache_clear()
    assert "total after an update" in provenance.changed(before, after)


@pytest.fixture
def inner(tmp_path, monkeypatch):
    """A checkout without a repository of its own, in a folder of another one that takes no notice of it."""
    root = (tmp_path / "outer" / "reid").resolve()
    (root / "reid_core").mkdir(parents=True)
    (root / "reid_core" / "__init__.py").write_bytes(b"")
    (root.parent / ".gitignore").write_text("reid\n", encoding="utf-8")
    commit(root.parent)
    monkeypatch.setattr(provenance, "ROOT", root)
    provenance.has_repository.cache_clear()
    yield root
    provenance.has_repository.cache_clear()


def commit(folder):
    own = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "-A"], [*own, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)


def test_the_commit_of_a_repository_that_only_lies_around_the_project_is_not_recorded(inner):
    assert provenance.of_code() == {"commit": "unknown", "clean": False}
    with pytest.raises(ValueError, match="a commit that names the code, found none that can be told"):
        fill.require()


def test_the_commit_of_a_repository_that_tracks_none_of_the_code_is_not_recorded(inner):
    (inner / ".gitignore").write_text("reid_core\n", encoding="utf-8")
    commit(inner)
    assert provenance.of_code() == {"commit": "unknown", "clean": False}


def test_the_commit_of_the_projects_own_repository_is_recorded_until_something_is_there_that_it_lacks(inner):
    commit(inner)
    told = provenance.of_code()
    assert len(told["commit"]) == 40 and told["clean"]
    (inner / "results").mkdir()
    (inner / "results" / "a.json").write_bytes(b"{}")
    assert provenance.clean_tree(), "results are made from a commit"
    (inner / "reid_core" / "more.py").write_bytes(b"")
    assert not provenance.clean_tree()


def test_a_repository_that_the_environment_names_is_not_asked(inner, tmp_path, monkeypatch):
    """As it does in hooks of git."""
    commit(inner)
    before = provenance.git("rev-parse", "HEAD")
    for name, value in {"GIT_DIR": ".git", "GIT_WORK_TREE": "", "GIT_INDEX_FILE": "none"}.items():
        monkeypatch.setenv(name, str(inner.parent / value))
    provenance.has_repository.cache_clear()
    assert provenance.git("rev-parse", "HEAD") == before and provenance.clean_tree()


def test_without_git_no_commit_can_be_told(inner, tmp_path, monkeypatch):
    commit(inner)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.of_code() == {"commit": "unknown", "clean": False}
    with pytest.raises(ValueError, match="install git, let it read this folder"):
        fill.require()


def test_a_run_of_a_readers_own_data_is_outdated_once_these_change(tmp_path):
    for name in "abcdef":
        Image.new("RGB", (8, 16), (ord(name), 9, 9)).save(tmp_path / f"{name}.png")
    table = tmp_path / "own.csv"
    rows = ["a.png,1,1,train", "b.png,1,2,train", "c.png,2,1,query", "d.png,2,2,gallery"]
    table.write_text("\n".join(["path,pid,camid,split", *rows]) + "\n", encoding="utf-8")
    spec = Spec("clip_reid", "baseline", data=str(table), profile="smoke")
    data = {"origin": "real", "name": "own", "fingerprint": catalogue.fingerprint(str(table), "smoke")}
    run = dataclasses.replace(noisy(0), spec=spec, data=data)
    assert provenance.outdated(run) == ""
    table.write_text("\n".join(["path,pid,camid,split", *rows, "e.png,3,1,train"]) + "\n", encoding="utf-8")
    assert provenance.outdated(run) == "its data changed"
    table.unlink()
    assert provenance.outdated(run) == "", "data that are not at hand tell nothing"
