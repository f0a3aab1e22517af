"""Anybody's own table of images, and what is wrong with it."""

import pytest
from trees import picture, tree
from trees import table as written

from data_prep import catalogue, doctor, public
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


TESTED = [("q.png", 90, 1, "query"), ("g.png", 90, 2, "gallery")]
TRAINED = [("1.png", 1, 1, "train"), ("2.png", 1, 2, "train")]


@pytest.mark.parametrize(
    "number",
    [-1, "-1", 10**20, 2**53 + 1, "1e3", "5.5", True, "0x1", "inf", "1_000"],
)
@pytest.mark.parametrize("column", range(1, 3))
def test_numbers_that_are_no_exact_count_from_zero_are_refused(tmp_path, number, column):
    """Floats would make two long numbers one person, and -1 is nobody."""
    row = ["3.png", 1, 1, "train"]
    row[column] = number
    with pytest.raises(
        ValueError, match="expected whole numbers in the column (pid|camid), found .*; correct"
    ):
        public.read("csv", written(tmp_path, row, *TRAINED, *TESTED))


def test_long_numbers_stay_two_people_and_a_fraction_of_nothing_is_whole(tmp_path):
    rows = [("1.png", 2**53, 1, "train"), ("2.png", 2**53 - 1, 1, "train"), ("3.png", "7.0", 1, "train")]
    assert list(public.read("csv", written(tmp_path, *rows)).table.pid) == [2**53, 2**53 - 1, 7]


def test_text_stays_text_even_where_it_looks_like_numbers(tmp_path):
    path = written(tmp_path, *TRAINED)
    path.write_text(path.read_text().replace(".png", ""))
    for number in "12":
        (tmp_path / f"{number}.png").rename(tmp_path / number)
    assert list(public.read("csv", path).table.path) == ["1", "2"]


def test_a_byte_order_mark_and_lines_of_windows_change_nothing(tmp_path):
    path = written(tmp_path, *TRAINED, *TESTED)
    plain = public.read("csv", path).table
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert public.read("csv", path).table.equals(plain)


@pytest.mark.parametrize(
    "content, found",
    [
        (
            "\nж.png,9,1,train".encode("koi8-r"),
            "expected UTF-8 in .*own.csv, found the byte 0xd6 at position 1",
        ),
        (
            "path,pid".encode("utf-16"),
            "expected UTF-8 in .*own.csv, found the byte 0xff at position 0; save it",
        ),
        ("path,pid".encode("utf-16-le"), "found a zero byte, as in UTF-16; save it as UTF-8"),
        (b"PK\3\4 workbook", "found an archive .or .xlsx.; save it as UTF-8"),
        (b"", "expected a CSV in .*own.csv, found an empty file; write a line of column names"),
        (b"path,pid\n'a,1\n\"b,2", "found unexpected end of data in line 3; correct the line"),
        (b"path,pid\n\na,1,train\n", "found 3 fields where the first line has 2 in line 3; correct"),
        (b"path,pid,pid\n", "expected every column once in .*own.csv, found 'pid' again; rename one"),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence_with_its_name(tmp_path, content, found):
    (tmp_path / "own.csv").write_bytes(content)
    with pytest.raises(ValueError, match=found):
        public.read("csv", tmp_path)


@pytest.mark.parametrize("cell", ["5", "null", '"a man"', '{"a": 1}', "[1]", "[" * 50000])
@pytest.mark.parametrize("column", ["captions", "parts"])
def test_a_cell_that_is_no_list_of_sentences_is_refused(tmp_path, cell, column):
    """A string would be a list of letters."""
    path = written(tmp_path, *TESTED, head="path,pid,camid,split")
    cell = cell.replace('"', '""')
    path.write_text(f'path,pid,camid,split,{column}\nq.png,90,1,query,"{cell}"\ng.png,90,2,gallery,\n')
    with pytest.raises(
        ValueError, match=f"a JSON list of sentences in the column {column} of .*own.csv, found"
    ):
        public.read("csv", path)


@pytest.mark.parametrize("folder", ["c#", "a+b", "me@here", "world_1", "b c", "ж"])
@pytest.mark.parametrize("name", ["own.csv", "OWN.CSV", "world_mine.csv", "a+b.csv", "x#y@z.csv"])
def test_a_table_is_read_whatever_signs_its_path_has(tmp_path, folder, name, monkeypatch):
    path = written(tmp_path / folder, *TRAINED, *TESTED, name=name)
    monkeypatch.chdir(path.parent)
    for called in (name, str(path)):
        assert len(catalogue.read(called).table) == 4 and catalogue.whole_name(called) == str(path)
        assert catalogue.read(f"{called}#all").protocol == "all" and catalogue.title(called) == called
        assert catalogue.read(f"{called}@1").notes == ("training is cut to 1 identities",)


def test_tables_with_signs_in_their_paths_are_joined(tmp_path):
    one, other = (written(tmp_path / folder, *TRAINED, *TESTED, name="my.csv") for folder in ("a+b", "c+d#"))
    assert catalogue.parts(f"{one}#all+{other}@1+market1501") == [f"{one}#all", f"{other}@1", "market1501"]
    assert catalogue.read(f"{one}+{other}").split("train").pid.nunique() == 2
    assert catalogue.parts("a+b.csv") == ["a", "b.csv"], "where there is no such file, it is a join"


def test_a_hidden_file_beside_a_table_is_none(tmp_path):
    written(tmp_path, *TRAINED, name="Own.CSV")
    (tmp_path / "._Own.CSV").write_bytes(b"\0")
    assert len(public.read("csv", tmp_path).table) == 2
