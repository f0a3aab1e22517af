"""People in colour, image to image: Market-1501 and what is laid out like it, MSMT17, CUHK03-NP."""

import functools
from pathlib import Path

from data_prep.public.files import (
    find_root,
    finish,
    images,
    lines,
    parse,
    table_of,
    wanted,
    with_descriptions,
    with_sentences,
)
from data_prep.public.folders import LISTS, MARKET

V1_NOTE = (
    "images as in V1; faces blurred would make it V2, whatever the folders are called, and printed numbers "
    "mean V1"
)
V2_NOTE = "this is V2: faces are blurred, and printed numbers of CLIP-ReID and PromptSG mean V1"


def market_like(name, grammar, root, place=None, **options):
    """<pid>_c<cam>... in bounding_box_train, query and bounding_box_test.

    pid -1 marks detections that the official protocol ignores: they are left out, and counted in the notes.
    pid 0 marks distractors: they stay in the gallery, where no query can match them.
    """
    root, _ = find_root(root, place or name)
    rows = []
    junk = 0
    for split, folder in wanted(root, MARKET).items():  # a world for testing alone has no training
        for path in images(root / folder):
            pid, camid = parse(r"^(-?\d+)_c(\d+)", path, grammar)
            if pid < 0:
                junk += 1
            else:
                rows.append((f"{folder}/{path.name}", pid, camid, split))
    table, notes = with_sentences(table_of(rows), root)
    return finish(name, root, table, notes=(*junk_note(junk), *notes), **options)


def junk_note(number):
    """The note on images that were left out as junk; none where there are none."""
    return (f"{number} junk images left out",) if number else ()


def named(reader, name):
    """A reader as a function with its own name."""
    reader.__name__ = name  # a partial has none, and READERS goes by it
    return reader


def market_family(name, grammar):
    """The reader of a data set that is laid out as Market-1501 is; `grammar` describes its file names."""
    return named(functools.partial(market_like, name, grammar), name)


market1501 = market_family("market1501", "<pid>_c<camera>..., as in 0002_c1s1_000451_03.jpg")
dukemtmc = market_family("dukemtmc", "<pid>_c<camera>_f<frame>, as in 0001_c2_f0046182.jpg")
occluded_duke = market_family("occluded_duke", "<pid>_c<camera>_f<frame>, as in 0001_c2_f0046182.jpg")
lpw = market_family("lpw", "<pid>_c<camera>s<scene>_..., as in 0002_c1s2_00012.jpg")


def cuhk03(root, variant="labeled", **options):
    """CUHK03 under its new protocol: 767 people to train on, 700 to test. Boxes are drawn by hand (labeled)
    or by a detector (detected). A folder as released for the protocol, or as `python -m data_prep convert
    cuhk03` makes it."""
    grammar = "<pid>_c<camera>_<index>, as in 0003_c1_21.png"
    return market_like("cuhk03", grammar, root, f"cuhk03#{variant}", variant=variant, **options)


def msmt17(root, variant="", **options):
    """MSMT17 V1 or V2: four lists of `<path> <pid>`. Training is list_train and list_val together, as in
    CLIP-ReID, or list_train alone (variant without_val), as in VLADR. The camera is the third field of a
    file's name."""
    root, version = find_root(root, "msmt17")
    # of the training images; the others lie in the folder with "test" in place of "train"
    folder = ("train", "mask_train_v2")[version]  # faces are blurred in V2
    rows = []
    for split, name in LISTS.items():
        half = folder if split in ("train", "val") else folder.replace("train", "test")
        offset = 0 if half == folder else 100000  # both sides count from 0: they are different people
        for path, pid in lines(root / name, 2, "<path> <pid>"):
            _, _, camid = parse(r"^(\d+)_(\d+)_(\d+)", Path(path), "<pid>_<index>_<camera>_...")
            rows.append((f"{half}/{path}", int(pid) + offset, camid, split))
    table = table_of(rows)
    if not variant:
        table["split"] = table.split.replace("val", "train")
    table, notes = with_descriptions(table, root)
    notes = ((V1_NOTE, V2_NOTE)[version], *notes)
    return finish("msmt17", root, table, variant, notes=notes, **options)
