"""The how-to page about a method of one's own: its code is run as it stands there."""

import re
from pathlib import Path

import pytest

from reid_core import contract
from reid_core.methods import METHODS
from reid_core.recipe import PROFILES
from reid_core.runs import run as runs

PAGE = Path(__file__).resolve().parents[1] / "book" / "own_method.md"


@pytest.fixture
def blocks():
    """The blocks of Python on the page; methods that they add are gone afterwards."""
    before = dict(METHODS)
    yield re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    METHODS.clear()
    METHODS.update(before)


def test_a_method_of_ones_own_keeps_the_contract_and_is_measured(
    blocks, shelves, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(blocks) == 3 and names["PatchMean"].__mro__[1].__name__ == "Baseline"
    said = capsys.readouterr().out
    found = {run.spec.row: run for run in runs.OWN.load(method="patch_mean")}
    assert found.keys() == names["ROWS"].keys()
    assert all(f"{row} {run.score('mAP')}" in said for row, run in found.items())
    full, without = (found[row].history[-1]["losses"] for row in names["ROWS"])
    assert full.keys() == without.keys() and full["patch triplet"] < without["patch triplet"], (
        "it was learned"
    )


def test_the_contract_says_what_a_method_of_ones_own_breaks(blocks, world, tmp_path):
    """The page's class without the weight of its term."""
    names = {}
    broken = blocks[0].replace('stage.weights["patch triplet"]', "weight")
    exec(compile(broken, str(PAGE), "exec"), names)
    recipe = names["PatchRecipe"]().at(PROFILES["smoke"])
    with pytest.raises(ValueError, match="expected a weight for each of the terms"):
        contract.check_method(names["PatchMean"], recipe, world, tmp_path)
