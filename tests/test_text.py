"""What no text of the repository may hold."""

import re
import subprocess

import pytest

from data_prep.catalogue import ROOT


def texts():
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    ends = (".py", ".md", ".ipynb", ".yml", ".toml", ".txt", ".bib", ".css")
    return [ROOT / name for name in listed.stdout.splitlines() if name.endswith(ends)]


def conflict(text):
    return re.search(r"^(<{7} |={7}$|>{7} )", text, re.M)


def test_a_mark_of_an_unfinished_merge_is_found():
    assert conflict("one\n<<<" + "<<<< HEAD\ntwo") and not conflict("| a |\n|---|")


def test_no_file_holds_marks_of_an_unfinished_merge():
    found = texts()
    assert found and not [path.name for path in found if path.exists() and conflict(path.read_text())]
