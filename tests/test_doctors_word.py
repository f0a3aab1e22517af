"""What `python -m data_prep check` says is what happens: after "ready for training" a training starts and a
test scores, on every reader; where they would refuse, so does the doctor."""

import numpy as np
import pytest
from trees import TREES, picture, table, tree

from data_prep import __main__, doctor
from reid_core import evaluate, train
from reid_core.data import load_data
from reid_core.methods import PAPERS
from reid_core.methods.baseline import Baseline, SpectraBaseline, TextBaseline
from reid_core.recipe import PROFILES

RECIPE = PAPERS["clip_reid"].recipe_of("baseline", "full")
# smaller still than smoke: one epoch, small pictures, and batches of as few people as the trees have
TINY = RECIPE.at(PROFILES["smoke"]).but(
    image_height=32, image_width=16, stage2_epochs=1, stage2_ids_per_batch=1, stage1_batch=2
)


class AllSpectra(SpectraBaseline):
    spectra = (0, 1, 2)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A $REID_DATA of the test, from which parts of data sets may be read."""
    monkeypatch.setenv("REID_DATA", str(tmp_path))
    monkeypatch.setenv("REID_BUILD", str(tmp_path / "build"))
    monkeypatch.setenv("REID_ALLOW_COUNT_MISMATCH", "1")
    return tmp_path


def check(capsys, *words):
    """(exit status, lines) of the command."""
    status = 0
    try:
        __main__.main(["check", *map(str, words), "--allow-count-mismatch"])
    except SystemExit as end:
        status = end.code
    return status, capsys.readouterr().out.splitlines()


def trained(data, folder):
    """A model after a training on a data set, of the kind that it asks for."""
    kind = Baseline if len(data.query) else TextBaseline
    method = (AllSpectra if data.train.paths.shape[1] > 1 else kind)(TINY, data)
    history = train.fit(method, data, folder / "run", precision="fp32", key="word", log=lambda *_: None)
    assert history
    return method


def scored(method, data):
    """Mean average precision in every test of the method."""
    return [scores.mAP for scores in evaluate.run_tests(method, data).values()]


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A model for the sets that have no training images."""
    folder = tmp_path_factory.mktemp("learned")
    tree("market1501", folder / "market1501")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REID_DATA", str(folder))
        patch.setenv("REID_BUILD", str(folder / "build"))
        patch.setenv("REID_ALLOW_COUNT_MISMATCH", "1")
        return trained(load_data("market1501", "smoke"), folder)


@pytest.mark.parametrize("name", TREES)
def test_what_the_doctor_calls_ready_is_trained_and_scored(name, place, capsys, learned):
    status, lines = check(capsys, name, tree(name, place / name))
    assert not status
    data = load_data(name, "smoke")
    if lines[-1] == doctor.READY:
        method = trained(data, place)
    else:
        assert lines[-1] == doctor.TESTING and not len(data.train)
        method, data = learned, data.without_cameras()
    found = scored(method, data)
    assert found and np.isfinite(found).all() and min(found) > 0


HEAD = "path,pid,camid,split,modality,shot"
TABLE = [  # path, pid, camid, split, modality, shot
    ("1.png", 1, 1, "train", "rgb", 1),
    ("2.png", 1, 2, "train", "rgb", 2),
    ("3.png", 2, 1, "train", "rgb", 3),
    ("4.png", 3, 1, "query", "rgb", 4),
    ("5.png", 3, 2, "gallery", "rgb", 5),
]
FAULTS = {  # what is wrong -> the rows that are so
    "no training image": TABLE[3:],
    "no query": [*TABLE[:3], TABLE[4]],
    "no gallery": TABLE[:4],
    "one spectrum of a shot is missing": [*TABLE, ("6.png", 2, 2, "train", "nir", 3)],
    "a shot has two people": [*TABLE, ("6.png", 1, 2, "train", "rgb", 3)],
    "somebody is trained on and tested": [*TABLE, ("6.png", 3, 3, "train", "rgb", 6)],
    "a negative number": [*TABLE, ("6.png", -1, 3, "train", "rgb", 6)],
}


def own(folder, rows):
    return table(folder, *rows, head=HEAD)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("rows", FAULTS.values(), ids=FAULTS)
def test_what_cannot_be_trained_or_scored_is_not_called_ready(rows, place, capsys):
    path = own(place, rows)
    status, lines = check(capsys, "csv", path)
    assert "expected" in status and doctor.READY not in lines
    with pytest.raises(ValueError, match="expected"):
        data = load_data(str(path), "smoke")
        evaluate.available_tasks(Baseline(TINY, data), data)
        scored(trained(data, place), data)


def test_a_table_of_ones_own_is_ready_and_trained(place, capsys):
    path = own(place, TABLE)
    assert check(capsys, "csv", path)[1][-1] == doctor.READY
    data = load_data(str(path), "smoke")
    assert scored(trained(data, place), data)[0] == 1.0


def test_what_is_left_out_for_the_doctor_is_left_out_of_the_training(place, capsys, monkeypatch):
    path = own(place, [*TABLE, ("6.png", 4, 1, "query", "rgb", 6)])
    status, lines = check(capsys, "csv", path, "--drop-unmatched-queries")
    assert not status and "1 of 2 queries left: the others have no match in the gallery" in lines
    assert "for training, set REID_ALLOW_COUNT_MISMATCH=1 REID_DROP_UNMATCHED_QUERIES=1" in lines
    with pytest.raises(ValueError, match="expected every query to have a true match"):
        load_data(str(path), "smoke")
    monkeypatch.setenv("REID_DROP_UNMATCHED_QUERIES", "1")
    assert len(load_data(str(path), "smoke").query) == 1


def test_where_no_query_is_left_nothing_is_ready(place, capsys):
    path = own(place, [*TABLE[:4], ("5.png", 3, 1, "gallery", "rgb", 5)])
    assert "test own.csv#all, since there is one camid alone, or pass --drop" in check(capsys, "csv", path)[0]
    status, lines = check(capsys, "csv", path, "--drop-unmatched-queries")
    assert "expected queries" in status and any("0 of 1 queries left" in line for line in lines)
    assert check(capsys, "csv#all", path)[1][-1] == doctor.READY


def test_batches_that_a_data_set_cannot_fill_are_told_as_the_recipes_have_them(place, capsys):
    recipes = [paper.recipe for paper in PAPERS.values()]
    fields = ("stage2_ids_per_batch", "ids_per_batch")
    people = {getattr(recipe, field) for recipe in recipes for field in fields if hasattr(recipe, field)}
    assert people == {doctor.IDENTITIES} and RECIPE.stage1_batch == doctor.SENTENCES
    _, lines = check(capsys, "cuhk_pedes", tree("cuhk_pedes", place / "cuhk_pedes"))
    assert "2 training identities, where a batch of the recipes has 16: lower it with --set" in lines
    assert "4 training sentences, where a batch of the recipes has 64: lower it with --set" in lines
    assert "searched with sentences alone: for methods that read them" in lines


def test_pairs_are_ready_for_pretraining(place):
    picture(place / "pairs" / "images" / "1.png")
    (place / "pairs" / "captions.json").write_text('{"images/1.png": ["a man"]}')
    report = doctor.check("pairs", place / "pairs")
    assert report.healthy and report.lines[-1] == doctor.PRETRAINING
