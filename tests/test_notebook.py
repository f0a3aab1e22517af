"""Strict parameters, and tables whose cells remember their runs."""

import base64
import dataclasses
import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from made_runs import noisy, run
from matplotlib import pyplot as plt

from reid_core import losses
from reid_core.report import ablations, notebook, tables
from reid_core.report.notebook import ParameterError, coerced, start
from reid_core.runs.run import BOOK, OWN, Spec

KINDS = {"profile": str, "data": str, "seed": int, "retrain": bool, "rates": list[float]}
DEFAULTS = {"profile": "laptop", "data": "world_market", "seed": 0, "retrain": False, "rates": [1.0]}


def page(**values):
    """The globals of a notebook after its parameters, what papermill injected, and its imports."""
    return started("# Parameters\n" + "".join(f"{name} = {value!r}\n" for name, value in values.items()))


def started(injected, **around):
    """The page of a notebook with this injected cell, among globals that the notebook made itself."""
    namespace = {"__annotations__": {**KINDS}, "__name__": "__main__", "_": "", "tables": tables, **DEFAULTS}
    exec(injected, namespace)
    return start(
        {**namespace, "In": ["", "profile: str = 'laptop'", injected, "mine = 1"], "mine": 1, **around}
    )


def test_defaults_pass_and_become_a_page():
    assert page().profile == "laptop" and page().retrain is False


@pytest.mark.parametrize(
    "name, given, wanted",
    [
        ("retrain", "true", True),
        ("retrain", "False", False),
        ("seed", "3", 3),
        ("seed", 3.0, 3),
        ("rates", "[1e-4, 2]", [1e-4, 2.0]),
        ("rates", [1], [1.0]),
    ],
)
def test_what_papermill_passes_is_brought_to_its_kind(name, given, wanted):
    assert getattr(page(**{name: given}), name) == wanted


@pytest.mark.parametrize(
    "name, given, message",
    [
        ("retrain", "yes", "retrain to be bool, found 'yes'"),
        ("retrain", 1, "found 1"),
        ("seed", "1e-4", "seed to be int"),
        ("seed", True, "found True"),
        ("seed", -1, "0 or more, found -1"),
        ("seed", 2**63, "below 9223372036854775808, and 0 or more, found 9223372036854775808"),
        ("rates", "[0,", "rates to be list"),
        ("profile", "labtop", "a profile among smoke, laptop, paper, found 'labtop'"),
        ("data", 5, "data to be str, found 5"),
    ],
)
def test_what_would_be_a_guess_is_refused(name, given, message):
    with pytest.raises(ParameterError, match=message):
        page(**{name: given})


@pytest.mark.parametrize("name", ["sede", "start", "tables", "_foo", "mine", "__name__", "KINDS"])
@pytest.mark.parametrize("value", [1, "x", None])
def test_a_name_that_no_cell_declares_is_refused(name, value):
    with pytest.raises(
        ParameterError, match=f"profile, data, seed, retrain, rates, found '{name}'; correct the name"
    ):
        page(**{name: value})


def test_no_parameter_switches_the_check_off():
    with pytest.raises(ParameterError, match="found '_started'; correct the name"):
        page(_started=True, sede=1)


@pytest.mark.parametrize(
    "code", ["seed = 1;import os;seed = 3", "import os", "sede: int = 1", "seed = sede = 1"]
)
def test_code_in_the_name_of_a_parameter_is_told_of(code):
    with pytest.raises(ParameterError, match="found '(import os|sede: int = 1|sede)'; correct the name"):
        started(f"# Parameters\n{code}\n")


def test_a_notebook_that_reopens_an_executed_copy_may_name_what_it_likes():
    assert started("# Parameters\nseed = 2\n", kept=True, start=3).seed == 2


def test_the_error_shows_no_frames():
    assert ParameterError("one sentence.")._render_traceback_() == ["ParameterError: one sentence."]
    with pytest.raises(ParameterError):
        coerced("x", "int", None)


def test_show_prints_the_source_that_runs_and_where_it_stands():
    text = notebook.show(losses.batch_hard_triplet).data
    assert "reid_core/losses.py, line" in text and "hardest_distances" in text


def test_a_plot_is_an_svg_and_photographs_are_a_png_of_twice_the_size():
    plot, axis = plt.subplots(figsize=(2, 1))
    axis.plot([0, 1], [1, 0])
    assert "data:image/svg+xml;base64," in notebook.figure(plot, "It falls", "A line").data
    photographs, axis = plt.subplots(figsize=(2, 1))
    axis.imshow(np.zeros((8, 4, 3), np.uint8))
    shown = notebook.figure(photographs, "Black", "A black box").data
    png = base64.b64decode(re.search(r"image/png;base64,([^\"]*)", shown)[1])
    drawn = int.from_bytes(png[16:20])  # pixels across, from the header of a PNG
    assert drawn > 2 * float(re.search(r"width:(\d+)px", shown)[1]), "two pixels for each of the page"
    assert plt.get_fignums() == [], "closed, or the notebook would show them again"


def test_equal_plots_are_equal_bytes():
    def drawn():
        plot, axis = plt.subplots()
        axis.plot([0, 1])
        return notebook.figure(plot, "", "").data

    assert drawn() == drawn()


def test_what_is_folded_keeps_its_table_and_says_what_it_is():
    told = notebook.folded("All <settings>", tables.table(["x"], [["1"]], "found")).data
    assert told.startswith("<details><summary>All &lt;settings&gt;</summary>") and "found" in told


@pytest.fixture
def kept(shelves):
    return [OWN.write(noisy(seed)) for seed in range(2)]


def test_a_cell_with_our_number_names_its_runs(kept):
    text = tables.table(["x"], [[tables.ours(kept)]], "found").data
    assert 'class="world decimal"' in text and 'data-origin="world"' in text
    assert 'data-run="clip_reid/baseline/full/world_market-laptop-s0 ' in text and "±" in text


def test_a_world_number_never_stands_in_the_real_column(kept):
    specs = {"row": [one.spec for one in kept]}
    text = ablations.comparison(specs, ["mAP"], {("row", "mAP"): 86.4}, "caption", shelf=OWN).data
    paper, world = text.split("<td")[2:4]
    assert "86.4" in paper and 'data-origin="world"' in world
    assert "Ours, real data: mAP (not run)" in text and "real" not in paper + world.partition(">")[0]


def test_a_row_without_a_run_says_so():
    assert tables.ours([]).text == "not run" and tables.printed(None).text == "–"


def test_text_in_a_table_is_escaped():
    assert "<b>" not in tables.table(["<b>"], [["<b>"]], "<b>").data


def test_a_real_run_stands_in_its_own_column(shelves):
    real = OWN.write(run(0, [0.5, 0.7], origin="real"))
    assert tables.ours([real]).kind == "real"


def test_a_cell_that_runs_again_does_not_mistake_the_notebooks_own_names_for_parameters():
    cells = {
        "__annotations__": {"profile": str},
        "profile": "laptop",
        "In": ["", "# Parameters\nprofile = 'laptop'"],
    }
    start(cells)
    cells |= {"kept": True, "profile": "smoke"}
    assert start(cells).profile == "smoke"


def test_only_the_profile_of_the_book_shows_the_books_runs_alone():
    assert page().shelf is BOOK and page(retrain="true").shelf is OWN
    assert page(profile="paper").shelf is OWN and page(profile="smoke").shelf is OWN


def test_of_two_pages_that_lack_a_run_one_trains_and_both_print_it(shelves, monkeypatch):
    """Snakemake executes pages side by side: a run that was trained twice would be older on one of them."""
    trained = []

    def slowly(spec, **how):
        trained.append(spec)
        time.sleep(0.3)
        return shelves[1].write(dataclasses.replace(run(0, [0.5]), spec=spec))

    monkeypatch.setattr(notebook.measure, "measure", slowly)
    monkeypatch.setattr("reid_core.runs.provenance.outdated", lambda run: "")
    specs = [Spec("clip_reid", "baseline", profile="smoke")] * 2
    with ThreadPoolExecutor(2) as pages:
        one, two = pages.map(notebook.trained_once, specs)
    assert len(trained) == 1 and one.spec == two.spec and one.scores == two.scores
