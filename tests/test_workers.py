"""Processes that measure one run after another."""

import sys
import time

import pytest

from reid_core.runs import fill
from reid_core.runs.run import Spec
from reid_core.runs.workers import LOG, Workers

SPECS = [Spec("clip_reid", "baseline", seed=seed) for seed in range(4)]
WORK = """
import os, sys, time
from reid_core.runs import workers

def measure(name):
    print(name, "in", os.getpid())
    if "s2" in name:
        raise ValueError("a loss that is not finite")
    time.sleep(60 if "s3" in name else 0)

workers.work({name: name for name in sys.argv[1:]}, measure)
"""


@pytest.fixture
def crew(tmp_path, monkeypatch):
    monkeypatch.setenv("REID_BUILD", str(tmp_path))
    workers = Workers([sys.executable, "-c", WORK, *(spec.name for spec in SPECS)])
    yield workers
    for one in workers.all:
        one.process.kill()


def ended(task, seconds=60):
    for _ in range(100 * seconds):
        if task.poll() is not None:
            return task.returncode
        time.sleep(0.01)
    pytest.fail("it never ended")


def logged(folder, spec):
    return (folder / "runs" / spec.name / LOG).read_text(encoding="utf-8")


def test_a_worker_measures_one_run_after_another_and_each_has_its_own_log(crew, tmp_path):
    for spec in SPECS[:2]:
        assert ended(crew.start(spec)) == 0
    first, second = (logged(tmp_path, spec) for spec in SPECS[:2])
    assert len(crew.all) == 1
    assert first == f"{SPECS[0].name} in {crew.all[0].process.pid}\n"
    assert second == f"{SPECS[1].name} in {crew.all[0].process.pid}\n"


def test_a_worker_whose_run_failed_measures_no_other(crew, tmp_path):
    failed = crew.start(SPECS[2])
    assert ended(failed) != 0 and "a loss that is not finite" in logged(tmp_path, SPECS[2])
    assert ended(crew.start(SPECS[0])) == 0
    assert failed.returncode != 0, "a later run says nothing of it"
    assert len(crew.all) == 2


def test_a_worker_that_something_else_ended_is_given_no_run(crew):
    assert ended(crew.start(SPECS[0])) == 0
    crew.all[0].process.kill()
    crew.all[0].process.wait()
    assert ended(crew.start(SPECS[1])) == 0 and len(crew.all) == 2


def test_a_run_is_killed_with_its_worker(crew):
    task = crew.start(SPECS[3])
    assert task.poll() is None
    task.kill()
    assert ended(task) != 0


def test_workers_end_with_the_program_that_began_them(crew):
    task = crew.start(SPECS[3])
    crew.close()
    assert ended(task) != 0, "amid a run, too"


def test_a_gpu_is_filled_by_workers_and_a_processor_by_a_process_for_each_run(monkeypatch, shelves):
    begun = []
    monkeypatch.setattr(fill, "require", lambda: None)
    monkeypatch.setattr(fill, "check", lambda jobs, device: None)
    monkeypatch.setattr(fill, "run_all", lambda waiting, until, jobs, start, log: begun.append(start))
    fill.fill([], 0, device="cuda", log=lambda text: None)
    fill.fill([], 0, log=lambda text: None)
    on_gpu, on_processor = begun
    assert isinstance(on_gpu.__self__, Workers) and "--work" in on_gpu.__self__.command
    assert on_gpu.__self__.environment["OMP_NUM_THREADS"] == "1" and not hasattr(on_processor, "__self__")
