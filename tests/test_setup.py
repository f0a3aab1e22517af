"""Set-up stops with one sentence where it cannot end well."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import namedtuple
from pathlib import Path

import pytest

from reid_core import __main__
from reid_core.report import chapters
from reid_core.runs import fill

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def module():
    spec = importlib.util.spec_from_file_location("setup_file", ROOT / ".ci" / "setup.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture
def setup(module, monkeypatch):
    """The same, where no program may be started."""
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: pytest.fail("set-up went on"))
    return module


def test_too_little_disk_is_one_sentence(setup, monkeypatch, tmp_path):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1e11, 9.1e10, 9e9))
    with pytest.raises(
        SystemExit, match=r"expected 10 GB of free disk, found 9.0 GB in .*; free some and run again"
    ):
        setup.main(tmp_path / ".venv")


def test_an_old_python_is_one_sentence(setup, monkeypatch, tmp_path):
    monkeypatch.setattr(setup.sys, "version_info", (3, 9))
    with pytest.raises(
        SystemExit, match=r"expected Python 3.11 or newer, found .*; run make with PYTHON=python3.11"
    ):
        setup.main(tmp_path / ".venv")


def test_a_set_up_that_was_interrupted_before_pip_came_begins_again(module, tmp_path):
    assert not module.has_pip(tmp_path / "nothing")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "half")], check=True)
    assert not module.has_pip(tmp_path / "half")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "half")], check=True)
    assert module.has_pip(tmp_path / "half")
    assert module.has_pip(Path(sys.prefix))


def test_an_interpreter_with_a_blank_in_its_path_is_quoted(tmp_path):
    link = tmp_path / "my python" / "python"
    link.parent.mkdir()
    link.symlink_to(sys.executable)
    words = ["--dry-run", "--forceall", "--printshellcmds", "--nolock", "--cores", "1"]
    done = subprocess.run(
        [str(link), "-m", "snakemake", *words, "--config", "profile=smoke", "--", "book"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")},
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert f"'{link}' book/build.py execute notebooks/0_start/welcome.ipynb" in told
    assert told.count(str(link)) == told.count(f"'{link}'")


def planned(target, profile="laptop"):
    """{rule: jobs} of everything that a target is made of, as Snakemake plans it."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--dry-run",
        "--forceall",
        "--nolock",
        "--cores",
        "2",
        "--config",
        f"profile={profile}",
        "--",
        target,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    table = (done.stdout + done.stderr).split("Job stats:")[-1].split("Reasons:")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}


@pytest.mark.parametrize("profile", ["laptop", "smoke"])
def test_the_book_is_made_of_pages_and_a_world_and_of_no_training(profile):
    pages = len(list((ROOT / "notebooks").glob("*/*.ipynb")))
    assert planned("book", profile) == {"book": 1, "notebook": pages, "world": 1, "total": pages + 2}


def test_the_results_are_made_of_every_run_that_the_book_prints():
    wanted = len(chapters.wanted())
    assert planned("results") == {"results": 1, "run": wanted, "world": 1, "total": wanted + 2}


def test_a_run_that_the_book_does_not_print_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(fill, "require", lambda: None)
    with pytest.raises(
        SystemExit, match="expected the name of a run that the book shows, found 'full'; --list prints them"
    ):
        __main__.main(["measure", "--only", "full"])


def test_make_publish_builds_the_book_with_its_address_and_packs_it():
    words = ["make", "--dry-run", "--always-make", "publish", "REPOSITORY=https://example.org/book"]
    told = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told.index("book/build.py make") < told.index("book/bundle.py")
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "publish: export REID_REPOSITORY := $(REPOSITORY)" in rules
