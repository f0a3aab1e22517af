"""Anybody's own table of images, and what is wrong with it."""

import pytest
from trees import picture, tree

from data_prep import doctor, public
from data_prep.manifest import Manifest
from reid_core.data import load_data

ROWS = [
    "path,pid,camid,split",
    "a/1.jpg,1,1,train",
    "a/2.jpg,1,2,train",
    "a/3.jpg,2,1,query",
    "a/4.jpg,2,2,gallery",
]


def table(folder, rows=ROWS, name="mine.csv"):
    for k in range(1, 5):
        picture(folder / "a" / f"{k}.jpg")
    (folder / name).write_text("\n".join(rows) + "\n")
    return folder


def test_a_table_is_read_from_its_file_or_its_folder(tmp_path):
    table(tmp_path)
    for place in (tmp_path, tmp_path / "mine.csv"):
        read = public.read("csv", place)
        assert read.name == "mine" and read.origin == "real" and read.counts()["train"]["images"] == 2
    assert doctor.check("csv", tmp_path, decode=True, hashes=True).healthy


def test_the_variant_of_a_table_is_its_protocol(tmp_path):
    rows = ["path,pid,camid,split,scene", *(f"{row},{k}" for k, row in enumerate(ROWS[1:]))]
    assert public.read("csv#scene", table(tmp_path, rows)).protocol == "scene"
    assert load_data(f"{tmp_path / 'mine.csv'}#scene").manifest.protocol == "scene"


@pytest.mark.parametrize(
    "row, words",
    [
        ("../secret.jpg,1,1,train", "expected paths below .*, found ../secret.jpg, which leaves it"),
        ("/etc/secret.jpg,1,1,train", "found /etc/secret.jpg, which leaves it"),
        ("a/9.jpg,1,1,train", "expected the image a/9.jpg in .*, found nothing"),
        ("a/1.jpg,one,1,train", "whole numbers in the column pid, found 'one'"),
        ("a/1.jpg,1,1,training", "the column split to hold .*, found 'training'"),
    ],
)
def test_a_row_that_cannot_be_used_is_shown(tmp_path, row, words):
    with pytest.raises(ValueError, match=words):
        public.read("csv", table(tmp_path, [*ROWS, row]))


def test_captions_that_are_no_list_are_shown(tmp_path):
    rows = [f"{row},{'captions' if not k else 'a man'}" for k, row in enumerate(ROWS)]
    with pytest.raises(
        ValueError, match="a JSON list of sentences in the column captions of .*, found 'a man'"
    ):
        public.read("csv", table(tmp_path, rows))


def test_no_table_or_two_are_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="a CSV file or a folder with one, found none in"):
        public.read("csv", tmp_path)
    table(tmp_path), table(tmp_path, name="other.csv")
    with pytest.raises(ValueError, match=r"found mine.csv, other.csv in"):
        public.read("csv", tmp_path)


@pytest.mark.parametrize("place", [".", ".."])
def test_a_table_of_world_images_stays_of_the_world(market, place):
    path = market / place / "mine.csv"
    public.market1501(market).write(path)
    read = public.read("csv", path)
    assert read.origin == "world" and read.seed == 0


def test_a_table_of_the_world_and_of_photographs_is_refused(market):
    picture(market.parent / "photo.jpg")
    public.market1501(market).write(market.parent / "mine.csv")
    with open(market.parent / "mine.csv", "a") as file:
        file.write("photo.jpg,9999,1,train,,rgb,0,999999,[],[],-1\n")
    with pytest.raises(ValueError, match="images of the world or photographs, found both"):
        public.read("csv", market.parent / "mine.csv")


def test_draws_are_not_lost_in_a_table(tmp_path):
    drawn = public.read("viper", tree("viper", tmp_path / "set"), allow_count_mismatch=True)
    with pytest.raises(ValueError, match="expected one query set and one gallery, found trials .10 draws"):
        drawn.write(tmp_path / "mine.csv")


def test_a_written_table_and_its_reader_agree_with_the_manifest(tmp_path):
    first = public.read("csv", table(tmp_path))
    first.write(tmp_path / "again.csv")
    assert Manifest.read(tmp_path / "again.csv", name="mine").fingerprint == first.fingerprint
