"""How each data set lies on disk: file names, folders and annotation files, in the manner of the public sets.

A layout gives every shot its files, {path: spectrum or spectra side by side}, and writes what goes beside the
images. In the functions below `one` is a shot of a plan (see cast.py) and `number` its place in it.
"""

import json
from typing import NamedTuple

from data_prep.world import cast, words

MARKET = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
ALL = ("rgb", "nir", "tir")
FOLDERS = ("RGB", "NI", "TI")  # of the three spectra, where each has a folder


class Layout(NamedTuple):
    """How one data set lies on disk."""

    reader: str  # its name in data_prep.public
    files: object  # (shot, number in the plan) -> {path: tuple of spectra side by side}
    annotate: object = None  # (folder, seed, plan, paths) -> None: what goes beside the images
    landscape: bool = False  # width twice the height, instead of the other way round
    read_as: dict = {}  # split of the plan -> splits in which its reader finds the image, where they differ


def market_files(one, number):
    """Market-1501: <pid 4>_c<camera>s<sequence>_<frame 6>_<box 2>.jpg; the frame is the number in the
    plan."""
    pid = "-1" if one["pid"] == -1 else f"{one['pid']:04d}"
    return {f"{MARKET[one['split']]}/{pid}_c{one['camid']}s1_{number:06d}_00.jpg": ("rgb",)}


def msmt_files(one, number):
    """MSMT17 V1: <train|test>/<pid>/<pid>_<index>_<camera>_<time>_....jpg; the lists say which image is
    what."""
    half = "train" if one["split"] == "train" else "test"
    pid = (one["pid"] - 1) // 2  # odd numbers to test, even ones to train on: both count from 0 here
    name = f"{pid:04d}_{one['index']:03d}_{one['camid']:02d}_0113morning_{number:04d}_0.jpg"
    return {f"{half}/{pid:04d}/{name}": ("rgb",)}


def msmt_lists(folder, seed, plan, paths):
    """list_train, list_val, list_query, list_gallery: path within train or test, and pid from 0."""
    lists = {"train": [], "val": [], "query": [], "gallery": []}
    for one, files in zip(plan, paths):
        path = next(iter(files)).partition("/")[2]
        pid = (one["pid"] - 1) // 2
        split = one["split"]
        if split == "train" and one["index"] == 0 and pid % 4 == 0:  # the first image of one person in four
            split = "val"
        lists[split].append(f"{path} {pid}\n")
    for split, lines in lists.items():
        (folder / f"list_{split}.txt").write_text("".join(lines), encoding="utf-8")


def pedes_files(one, number):
    """CUHK-PEDES: people of Market-1501 under Market/ with their pid there, the others under CUHK01 and
    CUHK03."""
    if one["market"]:
        return {f"imgs/Market/{one['market']:04d}_c{one['camid']}s1_{number:06d}_01.jpg": ("rgb",)}
    folder = ("CUHK01", "CUHK03")[one["pid"] % 2]
    return {f"imgs/{folder}/{one['pid']:07d}_{number:05d}.jpg": ("rgb",)}


def pedes_annotation(folder, seed, plan, paths):
    """reid_raw.json: a list of records with id from 1, split, path below imgs/ and two captions."""
    records = []
    for one, files in zip(plan, paths):
        sentences = cast.captions(seed, one)
        tokens = [sentence.lower().replace(",", "").rstrip(".").split() for sentence in sentences]
        records.append(
            {
                "split": one["split"],
                "captions": sentences,
                "file_path": next(iter(files)).removeprefix("imgs/"),
                "processed_tokens": tokens,
                "id": one["pid"],
            }
        )
    (folder / "reid_raw.json").write_text(json.dumps(records), encoding="utf-8")


def three_files(folder, name, folders=FOLDERS):
    """One name in three folders, one for each spectrum."""
    return {f"{folder}/{inner}/{name}": (spectrum,) for inner, spectrum in zip(folders, ALL)}


def rgbnt201_files(one, number):
    """RGBNT201: test images are query and gallery at once."""
    half = "train_171" if one["split"] == "train" else "test"
    return three_files(half, f"{one['pid']:06d}_cam{one['camid']}_0_{one['index']:02d}.jpg")


def market_mm_files(one, number):
    """Market1501-MM: names as in Market-1501."""
    return three_files(one["split"], f"{one['pid']:04d}_c{one['camid']}s1_{number:06d}_00.jpg")


def rgbnt100_files(one, number):
    """RGBNT100: a strip of three images side by side."""
    name = f"{one['pid']:04d}_c{one['camid']:04d}_{number:05d}.jpg"
    return {f"rgbir/{MARKET[one['split']]}/{name}": ALL}


def msvr310_files(one, number):
    """MSVR310: a folder per vehicle with vis, ni and th; a scene is one moment, and there are eight views."""
    half = {"train": "bounding_box_train", "query": "query3", "gallery": "bounding_box_test"}[one["split"]]
    name = f"{one['pid']:04d}_s{1 + one['index']:03d}_v{(one['camid'] - 1) % 8}_{number:05d}.jpg"
    return three_files(f"{half}/{one['pid']:04d}", name, ("vis", "ni", "th"))


def pair_files(one, number):
    """Images without identities, a thousand in a folder, each in one spectrum."""
    return {f"images/{number // 1000:03d}/{number:06d}.jpg": (one["spectrum"],)}


def sentences_beside(folder, seed, plan, paths):
    """captions.json {path: [sentence, sentence]} and the description file of BLIP-2 (four sentences about
    each training image of a person), for sets that have neither."""
    said = {}
    described = []
    for one, files in zip(plan, paths):
        path = next(iter(files))
        said[path] = cast.captions(seed, one, one.get("spectrum", "rgb"))
        if one["kind"] == "person" and one["split"] == "train" and one["pid"] > 0:
            fields = (path.rpartition("/")[2], *words.parts(one["person"], one["image"]))
            described.append("\t\t\t".join(fields) + "\n")
    (folder / "captions.json").write_text(json.dumps(said, indent=0), encoding="utf-8")
    (folder / "blip_descriptions.txt").write_text("".join(described), encoding="utf-8")


def msmt_annotation(folder, seed, plan, paths):
    """The four lists, and the sentences beside them."""
    msmt_lists(folder, seed, plan, paths)
    sentences_beside(folder, seed, plan, paths)


BOTH = ("query", "gallery")
LAYOUTS = {
    "world_market": Layout("market1501", market_files, sentences_beside),
    "world_msmt": Layout("msmt17", msmt_files, msmt_annotation),
    "world_text": Layout("cuhk_pedes", pedes_files, pedes_annotation, read_as={"test": ("gallery",)}),
    "world_rgbnt201": Layout(
        "rgbnt201", rgbnt201_files, sentences_beside, read_as={"query": BOTH, "gallery": BOTH}
    ),
    "world_market_mm": Layout("market1501_mm", market_mm_files, sentences_beside),
    "world_rgbnt100": Layout("rgbnt100", rgbnt100_files, sentences_beside, landscape=True),
    "world_msvr310": Layout("msvr310", msvr310_files, sentences_beside, landscape=True),
    "world_pairs": Layout("pairs", pair_files, sentences_beside),
}


def layout_of(name):
    """The layout of a data set; lifelong domains lie on disk as Market-1501 does."""
    return LAYOUTS.get(name, Layout("market1501", market_files, sentences_beside))
