"""A training that starts from the weights of another run takes what fits, says so, and is never taken for one
of the book."""

import dataclasses

import pytest
import torch
from test_commands import one_sentence, typed

from reid_core import checkpoint, train
from reid_core.data import ReidData
from reid_core.runs import initial, measure
from reid_core.runs.run import BOOK, Run, Spec, training_folder

SOURCE = Spec("clip_reid", "baseline", profile="smoke", seed=3)
TRAIN = ["reid_core", "train", "clip_reid", "--profile", "smoke"]


@pytest.fixture
def built(world, shelves, monkeypatch):
    """A builder of methods on the smoke world, and the weights of SOURCE where its training leaves them."""
    monkeypatch.setattr("reid_core.runs.run.load_data", lambda *_: world)
    method, _ = SOURCE.build()
    training_folder(SOURCE.name).mkdir(parents=True)
    train.save_weights(method, training_folder(SOURCE.name), measure.run_key(SOURCE, method, world))
    return method


def started(spec, data, name=SOURCE.name, said=print):
    """(method, facts) of a spec whose row names the weights of a run."""
    spec = spec._replace(row=f"{spec.row} + {initial.change_for(name)}")
    method, _ = spec.build(data)
    return method, initial.fill(method, spec, data, said)


def test_a_training_of_the_same_method_takes_every_tensor(built, world):
    said = []
    method, facts = started(SOURCE._replace(seed=0), world, said=said.append)
    wanted, found = train.stored(built), train.stored(method)
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    assert facts["initial weights"]["tensors"] == len(wanted) and "at their initial values nothing" in said[0]
    assert f"starts from {SOURCE.name}: taken heads (" in said[0] and "image (" in said[0]


def test_a_paper_starts_from_the_baseline_and_says_what_the_baseline_has_not(built, world):
    said = []
    method, _ = started(Spec("promptsg", "promptsg", profile="smoke"), world, said=said.append)
    tower = {name: value for name, value in train.stored(built).items() if name.startswith("image.")}
    assert all(torch.equal(method.state_dict()[name], value) for name, value in tower.items())
    left = said[0].partition("at their initial values ")[2]
    assert "inversion (" in left and "image" not in left


def test_on_other_data_what_means_its_identities_begins_as_ever(built, world):
    """Also where the other data set has as many identities."""
    other = ReidData(dataclasses.replace(world.manifest, scene_fingerprint="other"))
    fresh = SOURCE._replace(seed=0).build(other)[0].state_dict()
    method, _ = started(SOURCE._replace(seed=0), other)
    for name, value in method.state_dict().items():
        origin = fresh if name.endswith("classifier.weight") else built.state_dict()
        assert torch.equal(value, origin[name]), name


def test_such_a_run_has_a_name_and_settings_of_its_own(built):
    spec = SOURCE._replace(row=f"full + {initial.change_for(SOURCE.name)}")
    assert spec.check().name != SOURCE.name and spec.recipe() == SOURCE.recipe()
    assert measure.changes_of(spec.recipe(), spec)["init_from"].startswith(f"{SOURCE.name}@")
    assert "init_from" not in measure.changes_of(SOURCE.recipe(), SOURCE)
    with pytest.raises(
        ValueError, match="a run that begins as its recipe says, for the book, found one that"
    ):
        measure.measure(spec, shelf=BOOK)


@pytest.mark.parametrize("change", ["image_height=64", "stride=8"])
def test_another_tower_is_refused_in_one_sentence(built, world, change):
    words = (
        r"expected this recipe's image tower, with image.positional_embedding of shape .*, found \(33, 192\)"
    )
    with pytest.raises(ValueError, match=words):
        started(SOURCE._replace(row=f"full + {change}"), world)


def test_weights_of_another_paper_are_refused(built, world):
    name = "promptsg/promptsg/full/world_market-smoke-s0"
    path = training_folder(name) / train.WEIGHTS
    path.parent.mkdir(parents=True)
    path.write_bytes((training_folder(SOURCE.name) / train.WEIGHTS).read_bytes())
    with pytest.raises(
        ValueError, match="weights of clip_reid or of the baseline .* found those of promptsg"
    ):
        started(SOURCE, world, name)


def test_weights_that_changed_since_are_refused(built, world):
    spec = SOURCE._replace(row=f"full + {initial.change_for(SOURCE.name)}")
    path = training_folder(SOURCE.name) / train.WEIGHTS
    tensors, key = checkpoint.read_tensors(path)
    checkpoint.save_tensors(path, {name: value + 1 for name, value in tensors.items()}, key)
    with pytest.raises(ValueError, match="expected the weights [0-9a-f]{16} of .* found others"):
        initial.fill(spec.build(world)[0], spec, world)


@pytest.mark.slow
def test_the_walk_of_the_how_to_page(tmp_path):
    """Train, look where the weights lie, and start from them: such a run can be searched with, and no row of
    a table is taken for it."""
    place = tmp_path / "build"
    typed(*TRAIN, "--seed", 3, place=place)
    assert f"{SOURCE.name}  " in typed("reid_core", "weights", place=place).stdout
    done = typed(*TRAIN, "--init-from", SOURCE.name, place=place)
    assert f"starts from {SOURCE.name}: taken heads (" in done.stdout and not done.returncode, done.stderr
    runs = map(Run.read, (place / "results").rglob("*-s0.json"))
    (run,) = [run for run in runs if "init_from" in run.changes]
    assert run.provenance["initial weights"]["run"] == SOURCE.name
    assert len(run.provenance["initial weights"]["sha256"]) == 64
    assert "1.000  " in typed("reid_core", "search", run.spec.name, *two_images(place), place=place).stdout


def two_images(place):
    """A query, and a folder that holds it."""
    query = min((place / "world").rglob("query/*.*"))
    return query, query.parent


@pytest.mark.slow
@pytest.mark.parametrize(
    "words, told",
    [
        (["--init-from", "clip_reid/none"], "expected the name of a run or its JSON file"),
        (["--set", "init_from=x"], "expected a run and digits of its weights behind init_from, found 'x'"),
    ],
)
def test_initial_weights_that_are_not_there_are_one_sentence(tmp_path, words, told):
    one_sentence(typed(*TRAIN, *words, place=tmp_path / "build"), told)
