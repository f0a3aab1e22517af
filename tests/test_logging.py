"""A training writes to TensorBoard where somebody asks for it, and needs it nowhere else."""

import sys
import types

import pytest
from test_commands import one_sentence, typed

from reid_core import board

TRAIN = ["reid_core", "train", "clip_reid", "--profile", "smoke"]
STUB = "torch.utils.tensorboard"


class Writer:
    """What a SummaryWriter is asked to do, kept."""

    made = []

    def __init__(self, folder):
        self.folder = folder
        self.scalars = []
        self.closed = False
        Writer.made.append(self)

    def add_scalar(self, tag, value, step):
        self.scalars.append((tag, value, step))

    def flush(self):
        pass

    def close(self):
        self.closed = True


@pytest.fixture
def stub(monkeypatch):
    """The package as far as it is used, in the place of one that need not be installed."""
    monkeypatch.setattr(Writer, "made", [])
    monkeypatch.setitem(sys.modules, STUB, types.SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setenv(board.VARIABLE, "")  # as if unset; what a test sets is gone afterwards
    return Writer.made


@pytest.mark.slow
def test_a_training_shows_its_terms_its_rate_and_its_scores(stub, tmp_path):
    done = typed(*TRAIN, "--set", "stage2_epochs=2", "--log", "tensorboard", place=tmp_path / "build")
    assert not done.returncode, done.stderr
    training, tests = stub
    steps = [step for tag, _, step in training.scalars if tag == "image encoder/identity"]
    assert steps == [1, 2] and training.closed and tests.closed
    assert {tag for tag, *_ in training.scalars} == {
        f"image encoder/{one}" for one in ("identity", "triplet", "rate")
    }
    assert (
        training.folder == tests.folder and f"{tmp_path}/build/tensorboard/clip_reid/baseline" in tests.folder
    )
    score = {tag: value for tag, value, _ in tests.scalars}["image to image on world_market/mAP"]
    assert f"mAP {score:.1f}" in done.stdout


def test_nothing_is_written_unless_somebody_asks(stub, tmp_path):
    assert board.writer(tmp_path) is None and stub == []
    board.write_scores(tmp_path, [{"task": "image to image"}], 1)
    assert stub == []


def test_the_folder_may_be_named(stub, tmp_path, monkeypatch):
    monkeypatch.setenv(board.VARIABLE, str(tmp_path / "mine"))
    monkeypatch.setenv("REID_BUILD", str(tmp_path / "build"))
    assert board.writer(tmp_path / "build" / "runs" / "a" / "b").folder == str(tmp_path / "mine" / "a" / "b")


def test_an_absent_package_is_one_sentence_before_anything_is_trained(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, STUB, None)  # as Python says that there is none
    done = typed(*TRAIN, "--log", "tensorboard", place=tmp_path / "build")
    one_sentence(done, "expected the package tensorboard", "pip install tensorboard")
    assert not (tmp_path / "build").exists()
