"""Pages speak in the terms of the field: what a reader would search for, and no private words."""

import ast
import io
import json
import re
import tokenize
from pathlib import Path

import pytest

from reid_core.methods import PAPERS, clip_reid, promptsg
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
    r"\bcannot tell\b": "undecided",
    r"\bcards?\b": "the file and line of the official code, or the paper's section",
}
PAGES = sorted((ROOT / "book").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*/*.ipynb"))
METHODS = sorted((ROOT / "reid_core" / "methods").glob("*.py"))
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


def docstrings_and_comments(path):
    """What pages show of a method besides its code: `show` prints whole classes."""
    text = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    told = [token.string for token in tokens if token.type == tokenize.COMMENT]
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return "\n".join([*told, *(ast.get_docstring(node) or "" for node in nodes)])


def recipe_texts(paper):
    """The places and reasons of a recipe's fields and of its named variants."""
    variants = {"clip_reid": clip_reid.SETTINGS, "promptsg": promptsg.SETTINGS}.get(paper, {})
    told = [line.where for line in PAPERS[paper].recipe.table()]
    for variant in variants.values():
        told += [field.metadata["where"] for field in variant.values()]
    return told


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


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.name)
def test_what_pages_show_of_a_method_speaks_in_the_terms_of_the_field(path):
    assert found(docstrings_and_comments(path)) == []


@pytest.mark.parametrize("paper", PAPERS)
def test_the_place_of_a_setting_is_in_the_paper_or_in_the_official_code(paper):
    assert [where for where in recipe_texts(paper) if found(where)] == []


def test_comments_docstrings_and_places_are_read(tmp_path):
    (tmp_path / "one.py").write_text('def f():\n    """See the card."""\n    # zero-shot, as it comes\n')
    assert found(docstrings_and_comments(tmp_path / "one.py")) == ["as it comes", "card"]
    assert "configs/person/vit_clipreid.yml:46" in recipe_texts("clip_reid")
    assert "configs/person/cnn_clipreid.yml:43" in recipe_texts("clip_reid")


@pytest.mark.parametrize(
    "riddle, text", [("card", "see the card,\nline 3"), ("as it comes", "CLIP as it\ncomes")]
)
def test_a_riddle_is_found_also_across_lines(riddle, text):
    assert [" ".join(one.split()) for one in found(text)] == [riddle]


def test_no_page_names_a_place_on_a_machine():
    told = "\n".join(path.read_text(encoding="utf-8") for path in [*PAGES, ROOT / "README.md"])
    assert re.findall(r"(?<![\w$])/(?:home|root|tmp|work)/\w+", told) == []
