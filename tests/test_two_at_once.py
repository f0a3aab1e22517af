"""Several processes in one folder: none corrupts what another writes, and none waits for ever."""

import json
import os
import subprocess
import sys

import pytest
from made_runs import noisy

from reid_core.runs.run import Run

pytestmark = pytest.mark.slow
MADE = 10  # of everything that each process writes
WORK = """
import os, subprocess, sys, time
from pathlib import Path
from made_runs import noisy
from reid_core import __main__
from reid_core.runs import fill, records, run
place = Path(os.environ["REID_BUILD"]).parent
run.ROOT = place
fill.require = lambda: None

def train(seed):
    words = ["train", "clip_reid", "--profile", "smoke", "--set", "stage2_epochs=1", "--seed", str(seed)]
    __main__.main(words)

def write(number):
    for k in range(MADE):
        with records.changing(place / "results" / "gates.json") as found:
            found[f"{number} {k}"] = k
        run.BOOK.write(noisy(k % 2, shift=number / 10))
        run.BOOK.load()

def fill_book(number):
    pause = [sys.executable, "-S", "-c", "import time; time.sleep(2)"]
    spec = noisy(7).spec._replace(profile="smoke")
    done = fill.fill([spec], 1, start=lambda spec: subprocess.Popen(pause, stdin=subprocess.PIPE))
    print(f"{len(done)} run ended well")

def at_once(work, arguments):
    begun = {}
    for number, argument in enumerate(arguments):
        process = os.fork()
        if process:
            begun[process] = number
            continue
        log = os.open(place / f"{work.__name__}-{number}.log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1), os.dup2(log, 2)
        code = 1
        try:
            work(argument)
            code = 0
        except (SystemExit, ValueError) as end:
            print(end)
        finally:
            sys.stdout.flush()
            os._exit(code)
    for _ in arguments:
        process, status = os.wait()
        print(work.__name__, begun[process], os.waitstatus_to_exitcode(status))

at_once(train, (0, 0))
at_once(write, (0, 1))
at_once(fill_book, (0, 1))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which processes worked at the same time, each job in two of them or more, and how they
    ended: {(job, number): (exit status, last line)}."""
    folder = tmp_path_factory.mktemp("shared")
    own = {
        "REID_BUILD": str(folder / "build"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.path.dirname(__file__),
    }
    (folder / "results").mkdir()
    command = [sys.executable, "-c", WORK.replace("MADE", str(MADE))]
    told = subprocess.run(command, env={**os.environ, **own}, capture_output=True, text=True, timeout=300)
    ended = {}
    for line in told.stdout.splitlines():
        job, number, code = line.split()
        said = (folder / f"{job}-{number}.log").read_text(encoding="utf-8").strip().splitlines()
        ended[job, int(number)] = int(code), said[-1] if said else ""
    assert len(ended) == 6, told.stderr[-2000:]
    return folder, ended


def test_two_trainings_of_one_run_end_well_or_in_one_sentence(place):
    folder, ended = place
    codes = [ended["train", number][0] for number in (0, 1)]
    assert 0 in codes, ended
    for code, said in (ended["train", 0], ended["train", 1]):
        assert code == 0 or "expected nobody else here who trains" in said
    files = sorted((folder / "build" / "results").rglob("*.json"))
    assert [Run.read(path).spec.seed for path in files] == [0]


def test_two_programs_that_write_one_file_lose_and_tear_nothing(place):
    folder, ended = place
    assert [ended["write", number][0] for number in (0, 1)] == [0, 0], ended
    kept = json.loads((folder / "results" / "gates.json").read_text(encoding="utf-8"))
    assert len(kept) == 2 * MADE
    for seed in (0, 1):
        (file,) = (folder / "results").rglob(f"*-s{seed}.json")
        assert Run.read(file).scores[0]["ap"] in [noisy(seed, shift).scores[0]["ap"] for shift in (0, 0.1)]


def test_two_fills_of_one_book_are_one_and_a_sentence(place):
    _, ended = place
    told = sorted(ended["fill_book", number] for number in (0, 1))
    assert [code for code, _ in told] == [0, 1], ended
    assert told[0][1] == "1 run ended well" and "expected nobody else here who fills" in told[1][1]


def test_nothing_half_written_is_left(place):
    folder, _ = place
    assert not [path for path in folder.rglob("*.part*")]
