"""What tests share: the smallest world on disk, and the record of parity that the book shows."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from reid_core import checkpoint
from reid_core.data import load_data

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book"))
sys.path.insert(0, str(ROOT / "tests" / "fidelity"))
MEMORY = Path("/dev/shm")  # where Linux has one: what writes checkpoints waits for a disk
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 8e9:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # pytest's own name for where tmp_path lies


@pytest.fixture(scope="session")
def world():
    """The smoke world as ReidData, rendered once per checkout."""
    return load_data("world_market", "smoke")


@pytest.fixture(scope="session", autouse=True)
def own_locks(tmp_path_factory):
    """Programs wait for each other in a folder of the session: tests leave nothing behind."""
    folder = tmp_path_factory.mktemp("locks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "locks", lambda: folder)
        yield


@pytest.fixture
def shelves(tmp_path, monkeypatch):
    """The book's shelf and a reader's own, empty, in a folder of the test."""
    from reid_core.runs import run

    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setenv("REID_BUILD", str(tmp_path / "build"))
    run.BOOK.folder().mkdir()
    return run.BOOK, run.OWN


@pytest.fixture
def market(world, tmp_path):
    """A private copy of the smoke world's folder, to be broken: like one of before worlds had digests."""
    copy = Path(shutil.copytree(world.manifest.root, tmp_path / "market"))
    card = json.loads((copy / "world.json").read_text())
    (copy / "world.json").write_text(json.dumps({**card, "files": {}}))
    return copy


def pytest_collection_modifyitems(items):
    """Files with slow tests first: at the end, one process would work on them and the others wait."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_sessionfinish(session, exitstatus):
    """`REID_WRITE_PARITY=1 pytest tests` writes results/parity.json, from which the book's parity page is
    made. It must see all tests: not with -n, which deals them out to several processes."""
    if not os.environ.get("REID_WRITE_PARITY") or exitstatus or os.environ.get("PYTEST_XDIST_WORKER"):
        return
    import golden

    covered = {
        name: [golden.WORST.get(name), ", ".join(tests)] for name, tests in sorted(golden.COVERED.items())
    }
    record = {"covered": covered, "not covered": golden.NOT_COVERED}
    (ROOT / "results" / "parity.json").write_text(json.dumps(record, indent=1) + "\n")
