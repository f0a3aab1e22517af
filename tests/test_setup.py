"""Set-up stops with one sentence where it cannot end well."""

import importlib.util
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def setup(monkeypatch):
    spec = importlib.util.spec_from_file_location("setup_file", ROOT / ".ci" / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
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
