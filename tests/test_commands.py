"""What a user types, and the sentence that comes back; what survives SIGKILL."""

import contextlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from reid_core.loading import open_model

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow
TRAIN = ["-m", "reid_core", "train", "clip_reid", "--profile", "smoke"]
FEW = ["--data", "world_market@8", "--set", "stage2_ids_per_batch=8", "--set", "image_height=64"]


@pytest.fixture(scope="module")
def place(tmp_path_factory, world):
    """A build folder of its own that already holds the smoke world."""
    folder = tmp_path_factory.mktemp("build")
    copy_world(world, folder)
    return folder


def copy_world(world, folder):
    root = Path(world.manifest.root)
    shutil.copytree(root, folder / "world" / root.name)


def python(*arguments, place=None, code=2, **more):
    environment = {**os.environ, "REID_BUILD": str(place or "unused"), **more}
    environment.pop("REID_DATA", None) if "REID_DATA" not in more else None
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def typed(module, *arguments, place=None, **more):
    """The same in this process, without the seconds that a new one takes to import torch: what `python -m
    module` prints and returns."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(ROOT)
        patch.setenv("REID_BUILD", str(place or "unused"))
        patch.delenv("REID_DATA", raising=False)
        for name, value in more.items():
            patch.setenv(name, value)
        try:
            importlib.import_module(f"{module}.__main__").main([str(one) for one in arguments])
        except SystemExit as end:
            code = end.code
            print(code if isinstance(code, str) else "", file=err)
    return subprocess.CompletedProcess(arguments, bool(code), out.getvalue(), err.getvalue())


def one_sentence(done, *words):
    """The command failed with one line that holds the words, and without a traceback."""
    assert done.returncode, done.stdout
    lines = [line for line in done.stderr.splitlines() if line.startswith(("reid_core:", "data_prep:"))]
    assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr[-2000:]
    assert "expected" in lines[0] and "found" in lines[0] and ";" in lines[0], lines[0]
    for word in words:
        assert word in lines[0], lines[0]


@pytest.mark.parametrize(
    "words, new",
    [
        (("reid_core", "looks"), "expected the command visuals, found looks"),
        (("reid_core", "results"), "expected the command measure, found results"),
        (("reid_core", "bench", "tower", "--keep"), "expected --into-book, found --keep"),
        (("reid_core", "train", "clip_reid", "--keep"), "expected --into-book, found --keep"),
        (("data_prep", "gates", "--seeds", "0"), "expected python -m reid_core gates"),
    ],
)
def test_an_old_name_of_a_command_tells_the_new_one(words, new):
    one_sentence(typed(*words), new)


def test_a_wrong_root(tmp_path):
    one_sentence(
        python("-m", "data_prep", "check", "market1501", tmp_path), "bounding_box_train", "an empty folder"
    )
    one_sentence(python("-m", "data_prep", "check", "market1501", tmp_path / "no"), "found nothing at")
    one_sentence(python("-m", "data_prep", "check", "market", tmp_path), "a dataset among market1501")


def test_a_missing_split_folder(market):
    shutil.rmtree(market / "query")
    one_sentence(typed("data_prep", "check", "market1501", market), "found no query")


@pytest.mark.parametrize(
    "content, found", [(b"", "an empty file"), (b"x" * 99, "cannot identify image file")]
)
def test_an_unreadable_image(market, content, found):
    next((market / "query").iterdir()).write_bytes(content)
    one_sentence(typed("data_prep", "check", "market1501", market), found)


def csv_of(folder, change):
    """A small data set of one's own, described by a CSV that `change` has spoiled."""
    rows = []
    for pid in range(4):
        for k, split in enumerate(("train",) * 4 if pid < 2 else ("query", "gallery")):
            Image.new("RGB", (32, 64), (60 * pid, 40 * k, 90)).save(folder / f"{pid}_{k}.png")
            rows.append({"path": f"{pid}_{k}.png", "pid": pid + 1, "camid": k + 1, "split": split})
    table = change(pd.DataFrame(rows))
    table.to_csv(folder / "mine.csv", index=False)
    return folder / "mine.csv"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: t.drop(columns="camid"), ("path, pid, camid, split", "add camid")),
        (lambda t: t.replace({"pid": {3: 1}}), ("no identity in both train and test", "the first is 1")),
        (lambda t: t[t.path != "2_1.png"], ("every query to have a true match", "2_0.png")),
    ],
)
def test_a_csv_that_cannot_be_trained_on(tmp_path, change, words):
    path = csv_of(tmp_path, change)
    one_sentence(typed(*TRAIN[1:], "--data", path, place=tmp_path / "build"), *words)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["train", "clip_read"], ("a method among clip_reid", "'clip_read'")),
        (
            ["train", "clip_reid", "--row", "without text"],
            ("a row of clip_reid's variant baseline among full", "'without text'"),
        ),
        (["train", "clip_reid", "--set", "epoch=3"], ("fields of ClipReidRecipe", "'epoch'")),
        (["train", "clip_reid", "--profile", "paper"], ("$REID_DATA for market1501",)),
        (["bench", "towers"], ("parts among tower, ranking", "'towers'")),
    ],
)
def test_an_unknown_name(arguments, words):
    one_sentence(typed("reid_core", *arguments), *words)


def test_weights_of_another_architecture(place, tmp_path):
    torch.save(open_model("tiny").state_dict(), tmp_path / "tiny.pt")
    change = ["--set", "backbone=ViT-B-32-quickgelu", "--set", f"pretrained={tmp_path / 'tiny.pt'}"]
    one_sentence(typed(*TRAIN[1:], *change, place=place), "for ViT-B-32-quickgelu", "name the architecture")


def test_a_loss_that_is_not_finite(place):
    done = typed(*TRAIN[1:], *FEW, "--set", "stage2_head_lr=1e30", "--set", "stage2_epochs=4", place=place)
    one_sentence(done, "finite losses", "in image encoder", "the last good checkpoint is")


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_training_that_diverges_is_one_sentence_and_leaves_no_result(epochs, place):
    """Also where every loss was finite: the last step alone was too long."""
    change = ["--set", "stage2_lr=1e30", "--set", f"stage2_epochs={epochs}"]
    done = typed(*TRAIN[1:], *FEW, *change, place=place)
    one_sentence(done, "finite", "the learning rate" if epochs == 2 else "the training diverged")
    assert not list((place / "results").rglob("*1e30*/*.json"))


STARTS = """
import json, os, signal, sys
from reid_core import checkpoint, train
from reid_core.__main__ import main
starts, words = json.loads(sys.argv[1]), sys.argv[2:]

def begin(place, kill_step, kill_write):
    steps, writes = [0], [0]
    real_step, real_write = train.Trainer.step, checkpoint.write
    def step(self, *args):
        steps[0] += 1
        if steps[0] == kill_step: os.kill(os.getpid(), signal.SIGKILL)
        return real_step(self, *args)
    def write(path, data):
        writes[0] += 1
        if writes[0] == kill_write:
            with open(str(path) + ".part", "wb") as file: file.write(bytes(data)[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real_write(path, data)
    train.Trainer.step, checkpoint.write = step, write
    os.environ["REID_BUILD"] = place
    main(words)

for start in starts:
    process = os.fork()
    if not process:
        code = 1
        try:
            begin(*start)
            code = 0
        finally:
            os._exit(code)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""
KILLED = [*TRAIN[2:], *FEW, "--variant", "clip_reid", "--set", "stage2_epochs=6", "--checkpoint-every", "1"]


def weights(folder):
    path = next((folder / "runs").rglob("weights.safetensors"))
    return path.read_bytes()


def test_a_run_killed_at_three_steps_and_within_a_write_ends_with_the_same_bits(tmp_path, world):
    """The last kill leaves a truncated checkpoint as well: it is reported, and the one before is used."""
    for name in ("whole", "killed"):
        copy_world(world, tmp_path / name)
    steps = random.Random(20261121).choices(range(2, 5), k=3)
    kills = [(steps[0], 0), (steps[1], 0), (0, 2), (steps[2], 0)]
    starts = [(str(tmp_path / "whole"), 0, 0), *((str(tmp_path / "killed"), *kill) for kill in kills)]
    done = python("-c", STARTS, json.dumps(starts), *KILLED)
    ended = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("ended")]
    assert ended == [0, *[-signal.SIGKILL] * len(kills)], done.stderr[-800:]
    last = max((tmp_path / "killed" / "runs").rglob("state-*.pt"))
    last.write_bytes(last.read_bytes()[:-1000])
    done = python("-m", "reid_core", *KILLED, place=tmp_path / "killed")
    assert done.returncode == 0, done.stderr[-800:]
    assert f"found {last.name} truncated or altered" in done.stdout
    assert weights(tmp_path / "whole") == weights(tmp_path / "killed")


@pytest.mark.parametrize(
    "parameter, words",
    [
        (("sede", "1"), "found 'sede'; correct the name"),
        (("retrain", "yes"), "retrain to be bool, found 'yes'"),
    ],
)
def test_a_wrong_papermill_parameter(tmp_path, parameter, words):
    command = [
        Path(sys.executable).with_name("papermill"),
        "notebooks/1_clip_reid/reproduce.ipynb",
        tmp_path / "out.ipynb",
    ]
    done = subprocess.run([*map(str, command), "-p", *parameter], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and words in done.stderr, done.stderr[-500:]
