"""The how-to pages: what they tell a reader to type exists, and what can run here does."""

import argparse
import inspect
import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from PIL import Image
from test_commands import typed

import data_prep.__main__
import reid_core.__main__
from reid_core.methods import PAPERS
from reid_core.runs.run import BOOK, CHANGE, Run, Spec, changed

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted((ROOT / "book").glob("*.md")), ROOT / "README.md"]
PARSERS = {"reid_core": reid_core.__main__.parser, "data_prep": data_prep.__main__.parser}


def blocks(page, language):
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.S | re.M)


def typed_on(page):
    """The words of every command on a page that is one of ours, without its environment and comment."""
    for block in blocks(page, "bash"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            while words and (re.fullmatch(r"\w+=.*", words[0]) or words[0] == "nice"):
                words = words[1:]
            if words:
                yield [words[0].removeprefix(".venv/bin/"), *words[1:]]


def commands(program):
    """(page, words) of the commands that begin with a program."""
    found = [(page, words) for page in PAGES for words in typed_on(page)]
    return [(page.name, words) for page, words in found if words[0] == program]


def options_of(words):
    """What our parser makes of `python -m module ...`; AssertionError where it refuses."""
    try:
        return PARSERS[words[2]]().parse_args(words[3:])
    except (SystemExit, argparse.ArgumentError) as error:
        raise AssertionError(f"{shlex.join(words)}: {error}") from None


OURS = [(page, words) for page, words in commands("python") if words[2] in PARSERS]


@pytest.mark.parametrize(
    "page, words", OURS, ids=lambda one: one if isinstance(one, str) else " ".join(one)[:60]
)
def test_a_command_on_a_page_is_one_that_exists(page, words):
    if "[" not in " ".join(words):  # what stands for the options of a command
        options_of([word.replace("...", "") for word in words])


def test_many_pages_tell_commands():
    assert len(OURS) > 25 and {"run.md", "search.md", "own_data.md", "README.md"} <= {
        page for page, _ in OURS
    }


TRAININGS = [words for _, words in OURS if words[3] == "train"]


@pytest.mark.parametrize("words", TRAININGS, ids=" ".join)
def test_a_training_on_a_page_names_a_method_a_row_and_settings_that_exist(words):
    options = options_of(words)
    variant = options.variant or next(iter(PAPERS[options.method].variants))
    spec = Spec(options.method, variant, changed(options.row, options.set), profile=options.profile)
    assert spec.check().recipe()


@pytest.mark.parametrize("words", [words for _, words in commands("papermill")], ids=" ".join)
def test_a_notebook_on_a_page_takes_the_parameters_it_is_given(words):
    cells = json.loads((ROOT / words[1]).read_text(encoding="utf-8"))["cells"]
    (cell,) = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    known = re.findall(r"^(\w+):", "".join(cell["source"]), re.M)
    given = [words[k + 1] for k, word in enumerate(words) if word == "-p"]
    for text in [words[k + 1] for k, word in enumerate(words) if word == "-y"]:
        given += yaml.safe_load(text)
    assert given and set(given) <= set(known)


def test_changes_on_a_page_are_settings(monkeypatch):
    """Those that the notebook and the command of the page name are the same."""
    told = [words for _, words in commands("papermill") if "-y" in words]
    (changes,) = [yaml.safe_load(words[words.index("-y") + 1])["changes"] for words in told]
    row = changed("full", [f"{name}={value}" for name, value in changes.items()])
    assert Spec("promptsg", "promptsg", row).check()
    assert any(CHANGE.split(row)[1:] == options_of(words).set for words in TRAININGS)


def test_the_table_on_the_page_is_ready_for_training(tmp_path):
    """Of images that lie where its lines say."""
    (table,) = [block for block in blocks(ROOT / "book" / "own_data.md", "") if block.startswith("path,")]
    (tmp_path / "my.csv").write_text(table)
    for k, line in enumerate(table.splitlines()[1:]):
        path = tmp_path / line.split(",")[0]
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (32, 64), (40 * k, 90, 90)).save(path)
    done = typed(
        "data_prep", "check", "csv", tmp_path / "my.csv", "--decode", "--hash", place=tmp_path / "build"
    )
    assert "ready for training" in done.stdout and not done.returncode, done.stderr


def test_a_number_is_checked_by_hand_as_the_page_says(monkeypatch, capsys, tmp_path):
    """The block of Python, beside the file of a run of the book."""
    (block,) = blocks(ROOT / "book" / "check_number.md", "python")
    path = BOOK.path(Spec("clip_reid", "baseline"))
    (tmp_path / "world_market-laptop-s0.json").write_bytes(path.read_bytes())
    monkeypatch.chdir(tmp_path)
    exec(compile(inspect.cleandoc(block), "check_number.md", "exec"), {})
    by_hand, kept = map(float, capsys.readouterr().out.split())
    assert by_hand == pytest.approx(kept, abs=1e-3) and kept == Run.read(path).score("mAP")
