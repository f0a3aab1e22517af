"""Several runs at a time: order, progress, what stops them, and archives of finished runs."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from made_runs import noisy

from reid_core import __main__, checkpoint
from reid_core.calibrate import gates
from reid_core.report import chapters
from reid_core.runs import bundle, fill, provenance, run
from reid_core.runs.run import BOOK, Run, Spec

SPECS = [Spec("clip_reid", "baseline", seed=seed) for seed in range(4)]


class Process:
    """A run that ends after so many looks, with a code."""

    def __init__(self, looks=1, code=0):
        self.looks, self.code, self.returncode, self.killed = looks, code, None, False

    def poll(self):
        self.looks -= 1
        self.returncode = self.code if self.looks < 0 else None
        return self.returncode

    def kill(self):
        self.killed = True


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(fill, "LOOK_EVERY", 0.001)


def all_of(start, jobs=2, minutes=1.0, specs=SPECS):
    said = []
    waiting = [(spec, "missing") for spec in specs]
    return fill.run_all(waiting, time.time() + 60 * minutes, jobs, start, said.append), said


def test_runs_begin_in_order_and_never_more_at_once_than_asked_for(quick):
    began, alive = [], []

    def start(spec):
        alive[:] = [process for process in alive if process.returncode is None]
        assert len(alive) < 2
        began.append(spec)
        alive.append(Process(looks=3))
        return alive[-1]

    done, said = all_of(start)
    assert began == SPECS and sorted(done) == SPECS
    assert said[-1].startswith("measure: 4 of 4 runs done, 0 under way, about 0 min left")


def test_a_run_that_fails_does_not_stop_the_others_and_is_named_at_the_end(quick):
    with pytest.raises(
        ValueError, match=f"expected 4 runs to end well, found 1 that did not \\({SPECS[1].name} is the first"
    ):
        all_of(lambda spec: Process(code=spec == SPECS[1]))


def test_when_the_time_is_up_what_is_under_way_stops_and_nothing_begins(quick):
    begun = []

    def start(spec):
        begun.append(Process(looks=10**9))
        return begun[-1]

    done, said = all_of(start, minutes=0.001)
    assert done == [] and len(begun) == 2 and all(process.killed for process in begun)
    assert "the time is up; 2 runs go on the next time" in said[-1]


def test_the_rest_is_estimated_from_runs_of_the_same_kind():
    pace = {("baseline", "world_market"): [100.0, 140.0], ("promptsg", "world_market"): [300.0]}
    left = [
        (Spec("clip_reid", "baseline"), ""),
        (Spec("promptsg", "promptsg"), ""),
        (Spec("clip_reid", "clip_reid"), ""),
    ]
    assert fill.remaining([], left, pace) == pytest.approx(120 + 300 + 180)
    assert fill.remaining([], left, {}) is None
    under_way = [fill.Job(SPECS[0], None, time.time() - 90), fill.Job(SPECS[1], None, time.time() - 999)]
    assert fill.remaining(under_way, [], pace) == pytest.approx(30, abs=2)


def test_the_sets_of_an_order_are_made_ready_domain_by_domain(monkeypatch):
    """An order is no data set that could be rendered or decoded."""
    asked = []

    class Nothing:
        parts, train, query, gallery = (), (), (), ()

    monkeypatch.setattr(fill, "load_data", lambda name, profile: asked.append(name) or Nothing())
    fill.prepare([Spec("pad", "released", data="lifelong:world"), Spec("clip_reid", "baseline")], print)
    assert asked == [*(f"world_{one}" for one in "abcdefghijkl"), "world_market", "world_msmt"]


def test_a_run_is_told_how_many_others_share_the_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("REID_BUILD", str(tmp_path))
    began = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, env, **more: began.append(env))
    fill.process_for("cuda", jobs=12)(SPECS[0])
    assert began[0]["REID_BESIDE"] == "11" and began[0]["OMP_NUM_THREADS"] == "1"


def test_the_machine_of_a_run_is_its_processor_or_its_gpu():
    gpu = {"device": "NVIDIA H100", "processor": "Xeon", "threads": 1, "beside": 11}
    cpu = {"device": "x86_64, 2 cores", "processor": "Xeon", "threads": 1}
    run = dataclasses.replace(BOOK.load()[0], provenance=gpu)
    assert run.machine == "NVIDIA H100, beside 11 other trainings"
    assert dataclasses.replace(run, provenance=cpu).machine == "Xeon, 1 thread"


@pytest.mark.parametrize("jobs", [0, -1, 4096])
def test_a_number_of_jobs_that_no_machine_runs_is_one_sentence(jobs):
    with pytest.raises(
        ValueError,
        match=rf"expected from 1 to {os.cpu_count()} jobs \(one per core\), found {jobs}; correct --jobs",
    ):
        fill.check(jobs, None)


def test_a_gpu_that_is_not_there_or_too_small_is_one_sentence(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="expected a GPU for --device cuda, found none"):
        fill.check(12, "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10e9, 80e9))
    with pytest.raises(
        ValueError, match=r"expected from 1 to 3 jobs \(each needs 3 GB of the GPU\), found 12"
    ):
        fill.check(12, "cuda")
    fill.check(3, "cuda")


def test_two_fills_of_one_folder_are_refused(shelves, monkeypatch):
    monkeypatch.setattr(fill, "require", lambda: None)
    with (
        checkpoint.alone(BOOK.folder(), "fills"),
        pytest.raises(ValueError, match="expected nobody else here who fills .*, found another"),
    ):
        fill.fill([], 1)
    assert fill.fill([], 1, log=lambda text: None) == []


@pytest.mark.parametrize("words", [["measure"], ["train", "clip_reid", "--into-book"]])
def test_nothing_enters_the_book_before_the_gates_or_from_a_dirty_tree(words, monkeypatch, shelves):
    with pytest.raises(SystemExit, match="all gates of the world met"):
        __main__.main(words)
    monkeypatch.setattr(gates, "require", lambda: None)
    monkeypatch.setattr(provenance, "git", lambda *_: " M reid_core/losses.py")
    with pytest.raises(SystemExit, match="a clean tree, found uncommitted changes"):
        __main__.main(words)


def test_a_run_ends_with_the_program_that_began_it(tmp_path):
    """Also where that is killed and can tell nobody."""
    child = (
        "from reid_core.runs import fill; import time; fill.end_with_parent(); print('up', flush=True); "
        "time.sleep(60)"
    )
    parent = (
        f"import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', {child!r}], "
        "stdin=subprocess.PIPE, stdout=subprocess.PIPE, "
        "text=True)\nchild.stdout.readline()\nprint(child.pid, flush=True)\nchild.wait()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    pid = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the run went on alone")


@pytest.fixture
def checkouts(tmp_path, monkeypatch):
    """Two checkouts, one after the other: function to enter one; its results are empty at first."""
    monkeypatch.setattr(gates, "require", lambda: None)
    monkeypatch.setattr(provenance, "clean_tree", lambda: True)
    monkeypatch.setattr(Run, "outdated", "")
    monkeypatch.setattr(provenance, "stale", lambda run: "")
    monkeypatch.setattr(chapters, "wanted", lambda: SPECS)

    def enter(name):
        monkeypatch.setattr(run, "ROOT", tmp_path / name)
        BOOK.folder().mkdir(parents=True, exist_ok=True)

    return enter


def finished(seed):
    data = {"origin": "world", "name": "toy", "fingerprint": "f", "counts": {}}
    return BOOK.write(dataclasses.replace(noisy(seed), data=data))


@pytest.fixture
def packed(checkouts, tmp_path):
    """An archive of two runs, and a checkout that has neither."""
    checkouts("gpu")
    finished(0), finished(1)
    bundle.pack(tmp_path / "runs.zip", SPECS, log=lambda text: None)
    checkouts("book")
    return tmp_path / "runs.zip"


def test_a_bundle_brings_finished_runs_and_counts_none_twice(packed):
    said = []
    assert [run.spec.seed for run in bundle.merge(packed, SPECS, said.append)] == [0, 1]
    assert BOOK.find(SPECS[1]) == finished(1) and BOOK.find(SPECS[2]) is None
    assert bundle.merge(packed, SPECS, said.append) == []
    assert said == [
        "merge: 2 runs taken in, 0 were there already",
        "merge: 0 runs taken in, 2 were there already",
    ]


def test_a_bundle_replaces_what_only_a_probe_finds_stale(packed, monkeypatch):
    finished(1)
    BOOK.write(dataclasses.replace(finished(0), cost={"minutes": 1.0}))
    monkeypatch.setattr(provenance, "stale", lambda run: "its losses changed" * bool(run.cost))
    monkeypatch.setattr(fill, "same_code", lambda run: False)
    assert [run.spec.seed for run in bundle.merge(packed, SPECS, lambda text: None)] == [0]


def changed(path, change):
    """The archive with its card changed, or a file of it."""
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    card = json.loads(files[bundle.CARD])
    change(card, files)
    files[bundle.CARD] = json.dumps(card).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda card, files: card.update(commit="0" * 40),
            "a bundle of this commit or one before it, found one of 000000000000",
        ),
        (
            lambda card, files: card.update(pixels="others"),
            "whose renderer draws the pixels of this one .*, found others",
        ),
        (
            lambda card, files: card.update(profile="smoke"),
            "a bundle of the profile laptop, .*, found 'smoke'",
        ),
        (lambda card, files: card.update(clean=False), "a bundle of a clean tree"),
        (
            lambda card, files: files.update({next(iter(card["files"])): b"{}"}),
            "a whole bundle .*, found .* altered",
        ),
        (
            lambda card, files: card.update(files=list(card["files"])),
            "a whole bundle .*, found one that cannot be read",
        ),
        (
            lambda card, files: files.pop(next(iter(card["files"]))),
            "a whole bundle .*, found one that cannot be read",
        ),
    ],
)
def test_another_or_spoiled_bundle_is_one_sentence_and_nothing_is_taken(packed, change, message):
    changed(packed, change)
    with pytest.raises(ValueError, match=message):
        bundle.merge(packed, SPECS)
    assert not any(BOOK.find(spec) for spec in SPECS)


@pytest.mark.parametrize("length", [0, 10, 300, -30])
def test_a_truncated_bundle_is_one_sentence(packed, length):
    packed.write_bytes(packed.read_bytes()[:length])
    with pytest.raises(ValueError, match="expected a whole bundle .*, found one that cannot be read"):
        bundle.merge(packed, SPECS)
    assert not any(BOOK.find(spec) for spec in SPECS)


def test_a_bundle_of_stale_runs_or_of_runs_that_no_page_prints_is_one_sentence(packed, monkeypatch):
    with pytest.raises(ValueError, match="expected runs that the book prints"):
        bundle.merge(packed, SPECS[:1])
    monkeypatch.setattr(Run, "outdated", "its data changed")
    with pytest.raises(
        ValueError, match="expected runs of this world, weights and code in .*: its data changed"
    ):
        bundle.merge(packed, SPECS)
    with pytest.raises(ValueError, match="expected a bundle at .*, found nothing"):
        bundle.merge(packed.with_name("no.zip"), SPECS)


def test_pictures_of_another_run_are_refused(checkouts, tmp_path):
    import io

    from test_kept_visuals import noise

    checkouts("gpu")
    one, buffer = finished(0), io.BytesIO()
    np.savez_compressed(buffer, **noise("another")._asdict())
    BOOK.pictures(one.spec).write_bytes(buffer.getvalue())
    bundle.pack(tmp_path / "runs.zip", SPECS, log=lambda text: None)
    checkouts("book")
    with pytest.raises(ValueError, match="expected the pictures of .*, found those of another run"):
        bundle.merge(tmp_path / "runs.zip", SPECS)


def test_what_was_finished_is_packed_whatever_became_of_the_rest(monkeypatch, tmp_path):
    packed = []
    monkeypatch.setattr(__main__, "before_the_book", lambda: None)
    monkeypatch.setattr(bundle, "pack", lambda path, specs: packed.append(path))

    def fails(*_):
        raise ValueError("expected 4 runs to end well, found 1 that did not; see its log.")

    monkeypatch.setattr(fill, "fill", fails)
    with pytest.raises(SystemExit, match="found 1 that did not"):
        __main__.main(["measure", "--bundle", str(tmp_path / "runs.zip")])
    with pytest.raises(SystemExit, match="found 0; correct --jobs"):
        __main__.main(["measure", "--jobs", "0", "--bundle", str(tmp_path / "none.zip")])
    assert packed == [tmp_path / "runs.zip"]


def pictured(**more):
    data = {"origin": "world", "name": "toy", "fingerprint": "f", "counts": {"query": {}}}
    spec = Spec("clip_reid", "baseline", **more)
    return dataclasses.replace(noisy(0), spec=spec, data=data)


def test_a_run_whose_pictures_are_missing_or_anothers_is_measured_again(shelves, checkouts, tmp_path):
    run_ = pictured()
    keys = {"none": None, "an older run's": "another", "no file of pictures": b"", "its own": run_.key}
    said = {}
    for name, key in keys.items():
        BOOK.write(run_)
        if key is not None:
            path = BOOK.pictures(run_.spec)
            path.write_bytes(key) if isinstance(key, bytes) else np.savez(path, key=key)
        said[name] = fill.why_due(run_.spec)
    assert said == {**dict.fromkeys(keys, fill.NO_PICTURES), "its own": ""}
    others = (
        pictured(seed=1),
        pictured(row="SIE"),
        dataclasses.replace(run_, data={**run_.data, "counts": {}}),
    )
    for one in others:
        BOOK.write(one)
        assert fill.why_due(one.spec) == "", "the book shows no pictures of it"


def test_a_run_that_takes_the_place_of_another_takes_away_its_pictures_and_not_its_own(shelves):
    older, newer = pictured(), dataclasses.replace(pictured(), scores=noisy(5).scores)
    BOOK.write(older)
    np.savez(BOOK.pictures(older.spec), key=older.key)
    BOOK.write(older)
    assert BOOK.pictures(older.spec).exists()
    BOOK.write(newer)
    assert not BOOK.pictures(older.spec).exists()


def test_measure_first_draws_what_lacks_pictures_alone(monkeypatch):
    order = []
    monkeypatch.setattr(__main__, "before_the_book", lambda: order.append("gates"))
    monkeypatch.setattr(__main__.visuals, "fill", lambda: order.append("pictures"))
    monkeypatch.setattr(fill, "fill", lambda *_: order.append("runs"))
    __main__.main(["measure"])
    assert order == ["gates", "pictures", "runs"]


def test_scores_are_told_before_anything_is_drawn_and_a_drawing_that_fails_ends_no_run(monkeypatch, capsys):
    run_ = dataclasses.replace(
        pictured(), cost={"minutes": 1.0, "images per second": 2.0, "peak memory MB": 3}, fingerprint={}
    )
    run_.scores[0]["protocol"] = "in words"

    def draw(*_):
        assert "mAP" in capsys.readouterr().out
        raise ValueError("n_neighbors must be greater than 1")

    monkeypatch.setattr(__main__.visuals.measure, "measure", lambda spec, **_: run_)
    monkeypatch.setattr(__main__.visuals, "trained", lambda spec: (None, None))
    monkeypatch.setattr(__main__.visuals, "keep", draw)
    __main__.main(["train", "clip_reid"])
    said = capsys.readouterr().out
    assert "no pictures of clip_reid/baseline/full" in said and "n_neighbors must be" in said


def test_a_tree_whose_commit_cannot_be_told_is_not_called_changed(monkeypatch):
    monkeypatch.setattr(provenance, "git", lambda *_: "unknown")
    with pytest.raises(ValueError, match="a commit that names the code, found none that can be told"):
        fill.require()
