"""People with sentences: CUHK-PEDES, ICFG-PEDES, RSTPReid, and pairs without identities.

Queries are the sentences of the test images, all of them, and no gallery image is left out for any.
"""

import re
from pathlib import PurePosixPath

from data_prep.public.files import RELEASED, find_root, finish, parse, read_captions, records, table_of
from data_prep.public.folders import PLACES
from data_prep.texts import sentences_in

COLUMNS = ["path", "pid", "camid", "split", "captions"]
# split of the release -> split of the manifest; the sentences of the gallery's images are the queries
SPLITS = {"train": "train", "val": "val", "test": "gallery"}


def cuhk_pedes(root, **options):
    """CUHK-PEDES: imgs/ and reid_raw.json, a list of {split, id (from 1), file_path, captions}; most images
    have two."""
    return annotated("cuhk_pedes", "file_path", no_camera, root, **options)


def icfg_pedes(root, **options):
    """ICFG-PEDES: imgs/ and ICFG-PEDES.json, with one sentence an image. Images are MSMT17's, in its folders,
    which say nothing about the split here; the camera is the third field of a file's name."""
    return annotated("icfg_pedes", "file_path", msmt_camera, root, **options)


def rstpreid(root, **options):
    """RSTPReid: imgs/<pid 4>_c<camera>_<index>.jpg and data_captions.json, with two sentences an image."""
    return annotated("rstpreid", "img_path", rstp_camera, root, **options)


def annotated(name, key, camera, root, **options):
    """Read a list of records whose images lie below imgs/. `key` is the field of the path, and `camera` tells
    a path's camera."""
    root, number = find_root(root, name)
    file = root / PLACES[name][number].folders["annotation"]
    rows = []
    for record in records(file, ("split", "id", key, "captions")):
        path = text_of(record, key, file)
        pid = whole(record["id"], file)
        rows.append((f"imgs/{path}", pid, camera(path), split_of(record, file), said(record, file)))
    # sentences are the queries, and a sentence has no camera that could be left out
    return finish(name, root, table_of(rows, COLUMNS), protocol="all", **options)


def no_camera(path):
    """CUHK-PEDES gathers images of five data sets, and tells no camera."""
    return 0


def msmt_camera(path):
    """The camera in a name of MSMT17."""
    return parse(r"^(\d+)_(\d+)_(\d+)", PurePosixPath(path), "<pid>_<index>_<camera>_...")[2]


def rstp_camera(path):
    """The camera in a name of RSTPReid."""
    grammar = "<pid 4>_c<camera>_<index>, as in 0000_c14_0031.jpg"
    return parse(r"^(\d+)_c(\d+)_", PurePosixPath(path), grammar)[1]


def whole(number, file):
    """The number; ValueError where it is not whole."""
    if type(number) is not int:  # a bool is an int, too
        raise ValueError(f"expected whole numbers as id in {file}, found {number!r}; {RELEASED}.")
    return number


def text_of(record, key, file):
    """A field of a record that is text; ValueError for another type."""
    if not isinstance(record[key], str):
        raise ValueError(f"expected text as {key} in {file}, found {record[key]!r}; {RELEASED}.")
    return record[key]


def split_of(record, file):
    """The split of a record, in the manifest's words; ValueError for another."""
    split = text_of(record, "split", file)
    if split not in SPLITS:
        raise ValueError(
            f"expected a split among {', '.join(SPLITS)} in {file}, found {split!r}; {RELEASED}."
        )
    return SPLITS[split]


def said(record, file):
    """The sentences of a record, with blanks where some releases have line ends or several blanks. ValueError
    where it has no list of sentences."""
    captions = sentences_in(record["captions"], f"a list of sentences as captions in {file}", RELEASED)
    return tuple(re.sub(r"\s+", " ", text).strip() for text in captions)


def pairs(root, **options):
    """Images and sentences without identities: every image is its own. What a contrastive model is pretrained
    on."""
    root, _ = find_root(root, "pairs")
    said = read_captions(root / "captions.json")
    rows = []
    for k, (path, told) in enumerate(sorted(said.items())):  # k: a pid of its own for every image
        rows.append((path, k, 0, "train", told))
    return finish("pairs", root, table_of(rows, COLUMNS), **options)
