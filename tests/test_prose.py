"""Pages speak in the terms of the field: what a reader would search for, and no private words."""

import ast
import json
import re
from pathlib import Path

import pytest

from reid_core.report import chapters

ROOT = Path(__file__).resolve().parents[1]
RIDDLES = {  # what a page may not say -> the term of the field
    r"images? asked|asked images?": "image-to-image retrieval",
    r"\bas it comes\b": "zero-shot",
    r"\bread nothing\b": "randomly initialised text encoder",
    r"\banother's sentence\b": "shuffled identity prompts",
    r"\bwords without (a )?meaning\b": "random token embeddings",
    r"\blearn the sentences\b": "stage 1, prompt learning",
    r"\blearn to see\b": "stage 2, image-encoder fine-tuning",
    r"\bfour times in five\b": "differences of N mAP (80 % power)",
    r"\bmap without (a )?preference\b": "uniform map",
    r"\bis it the time\b": "training length",
    r"\bwhat the papers? leaves? open\b": "unspecified details",
    r"\bcards?\b": "the file and line of the official code, or the paper's section",
}
PAGES = sorted((ROOT / "book").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*/*.ipynb"))
MODULES = sorted((ROOT / "reid_core" / "report").glob("*.py"))


def prose_of_notebook(path):
    """What a reader of a notebook reads: text, and captions in the code."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells)


def strings_of_module(path):
    """The texts in a module, without docstrings and without names of rows, for which pages show others."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [
        node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return "\n".join(node.value for node in texts if id(node) not in alone and node.value not in hidden())


def hidden():
    """Names of rows that no page shows."""
    return chapters.SHOWN


def found(text):
    """The riddles in a text."""
    plain = re.sub(r"\s+", " ", text)
    return [match[0] for riddle in RIDDLES for match in re.finditer(riddle, plain, re.I)]


@pytest.mark.parametrize("path", [*PAGES, ROOT / "README.md"], ids=lambda path: path.name)
def test_a_page_speaks_in_the_terms_of_the_field(path):
    assert found(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_notebook_speaks_in_the_terms_of_the_field(path):
    assert found(prose_of_notebook(path)) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_captions_speak_in_the_terms_of_the_field(path):
    assert found(strings_of_module(path)) == []


@pytest.mark.parametrize(
    "riddle, text", [("card", "see the card,\nline 3"), ("as it comes", "CLIP as it\ncomes")]
)
def test_a_riddle_is_found_also_across_lines(riddle, text):
    assert [" ".join(one.split()) for one in found(text)] == [riddle]


def test_no_page_names_a_place_on_a_machine():
    told = "\n".join(path.read_text(encoding="utf-8") for path in [*PAGES, ROOT / "README.md"])
    assert re.findall(r"(?<![\w$])/(?:home|root|tmp|work)/\w+", told) == []
