"""Description files, and the command that makes them."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from trees import table, tree

from data_prep import public
from data_prep.describe import QUESTIONS, continuation, describe, sentences
from data_prep.public.descriptions import read_descriptions, write_descriptions
from reid_core.data import load_data

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    "A man with black, short hair, wearing a hat.",
    "Wearing red shirt, walking",
    "Wearing blue jeans",
    "Wearing white shoes",
)


def test_a_file_is_one_image_a_line_with_five_fields_between_three_tabs(tmp_path):
    write_descriptions(
        tmp_path / "said.txt", {"a.jpg": PARTS, "b.png": ("one\ttab", "two\nlines", "", "ünïcode")}
    )
    assert (tmp_path / "said.txt").read_bytes().split(b"\n")[0] == "\t\t\t".join(("a.jpg", *PARTS)).encode()
    assert read_descriptions(tmp_path / "said.txt") == {
        "a.jpg": PARTS,
        "b.png": ("one tab", "two lines", "", "ünïcode"),
    }


def test_the_last_line_about_an_image_counts(tmp_path):
    lines = ["\t\t\t".join(("a.jpg", *PARTS)), "\t\t\t".join(("a.jpg", *PARTS[:3], "Wearing brown boots"))]
    (tmp_path / "said.txt").write_text("\n".join(lines) + "\n\n")
    assert read_descriptions(tmp_path / "said.txt")["a.jpg"][3] == "Wearing brown boots"


def test_a_line_with_other_fields_is_shown(tmp_path):
    (tmp_path / "said.txt").write_text("\t\t\t".join(("a.jpg", *PARTS)) + "\n" + "b.jpg\tA man\n")
    with pytest.raises(
        ValueError, match="four? ?|4 sentences separated by three tabs in .*, found 1 fields in line 2"
    ):
        read_descriptions(tmp_path / "said.txt")


def test_the_readers_take_descriptions_from_beside_the_images(tmp_path):
    root = tree("market1501", tmp_path / "set")
    write_descriptions(root / "blip_descriptions.txt", {"0001_c1s1_000451_03.jpg": PARTS})
    told = public.read("market1501", root, allow_count_mismatch=True).table.parts
    assert told[0] == PARTS and set(told[1:]) == {()}


def test_msmt17_with_lists_of_its_own_takes_them_too(tmp_path):
    root = tree("msmt17", tmp_path / "set")
    table = public.read("msmt17", root, allow_count_mismatch=True).table
    first = table.path[table.split == "train"].iloc[0]
    write_descriptions(root / "blip_descriptions.txt", {first.rpartition("/")[2]: PARTS, "x.jpg": PARTS})
    found = public.read("msmt17", root, allow_count_mismatch=True)
    assert found.table.parts[found.table.path == first].tolist() == [PARTS]
    assert "1 of 2 descriptions are of no image here" in found.notes


@pytest.mark.parametrize("name", ["world_market", "world_msmt", "world_a", "world_d"])
def test_the_worlds_own_descriptions_serve_without_a_model(name):
    assert all(len(parts) == 4 for parts in load_data(name, "smoke").train.parts)


def test_eleven_answers_become_four_sentences():
    said = dict(
        zip(
            QUESTIONS,
            ("man", "black", "short", "a hat", "red", "shirt", "walking", "blue", "jeans", "white", "shoes"),
        )
    )
    assert len(QUESTIONS) == 11 and sentences(said) == PARTS


def test_a_question_that_is_repeated_is_no_part_of_the_answer():
    assert continuation([5, 6, 7, 8], [5, 6]) == [7, 8] == continuation([7, 8], [5, 6])


def brightness(image, question):
    """Answers from the pixels: a model of sorts."""
    return f" {'Light' if np.asarray(image).mean() > 127 else 'Dark'} "


def test_training_images_are_described_and_an_interrupted_run_goes_on(tmp_path):
    manifest = public.read("rgbnt201", tree("rgbnt201", tmp_path / "set"), allow_count_mismatch=True)
    asked, lines = [], []

    def answer(image, question):
        asked.append(question)
        return brightness(image, question)

    first = describe(manifest, None, tmp_path / "said.txt", answer=answer, log=lines.append)
    assert len(first) == 2 and len(asked) == 22, "two moments of training, one spectrum each"
    assert read_descriptions(tmp_path / "said.txt") == first and "2 of 2 images described" in lines[-1]
    assert {parts[2].split()[1] for parts in first.values()} <= {"light", "dark"}
    describe(manifest, None, tmp_path / "said.txt", answer=pytest.fail)


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is not None, reason="transformers is installed here"
)
def test_without_transformers_the_command_says_what_to_do(tmp_path):
    root = tree("market1501", tmp_path / "set")
    command = [
        sys.executable,
        "-m",
        "data_prep",
        "describe",
        "market1501",
        root,
        "--weights",
        tmp_path,
        "--allow-count-mismatch",
    ]
    done = subprocess.run([*map(str, command)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert (
        "expected the package transformers, found none; install it with pip install transformers"
        in done.stderr
    )


def test_a_model_sees_the_levels_of_16_bits(tmp_path):
    path = table(tmp_path, ("1.png", 1, 1, "train"), ("2.png", 2, 1, "query"), ("3.png", 2, 2, "gallery"))
    Image.fromarray(np.full((16, 8), 20000, np.uint16)).save(tmp_path / "1.png")
    told = describe(public.read("csv", path), None, tmp_path / "said.txt", answer=brightness, log=str)
    assert "dark" in told["1.png"][2]
