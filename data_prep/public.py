"""Readers: one short function per public dataset, each ending in the same manifest."""

import json
import re
from pathlib import Path

import pandas as pd

from data_prep.manifest import from_table

IMAGES = {".jpg", ".jpeg", ".png", ".bmp"}


def market1501(root, **options):
    """Market-1501 (and whatever is laid out like it): <pid>_c<cam>s<seq>_<frame>_<box>.jpg in three folders.

    pid -1 marks detections that the official protocol ignores: they are left out, and counted in the notes.
    pid 0 marks distractors: they stay in the gallery, where no query can match them.
    """
    root = find_root(
        root, "market1501", ("Market-1501-v15.09.15", "market1501", "Market-1501"), MARKET_FOLDERS
    )
    rows, junk = [], 0
    for split, folder in MARKET_FOLDERS.items():
        for path in images(root / folder):
            pid, camid = parse(r"^(-?\d+)_c(\d+)", path, "<pid>_c<camera>..., as in 0002_c1s1_000451_03.jpg")
            junk += pid < 0
            if pid >= 0:
                rows.append((f"{folder}/{path.name}", pid, camid, split))
    table = pd.DataFrame(rows, columns=["path", "pid", "camid", "split"])
    table = with_captions(table, root / "captions.json")
    return finish("market1501", root, table, notes=(f"{junk} junk images left out",), **options)


MARKET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
READERS = {"market1501": market1501}


def read(name, root, **options):
    """The manifest of the dataset called `name`, laid out under `root`."""
    if name not in READERS:
        raise ValueError(f"expected a dataset among {', '.join(READERS)}, found {name!r}; correct the name.")
    return READERS[name](root, **options)


def find_root(root, name, aliases, folders):
    """`root` itself or the usual folder inside it; a sentence where neither holds the expected folders."""
    root = Path(root)
    if not root.is_dir():
        raise ValueError(
            f"{name}: expected a folder, found nothing at {root}; pass the dataset's own folder."
        )
    wanted = list(folders.values())
    for candidate in (root, *(root / alias for alias in aliases)):
        if any((candidate / folder).is_dir() for folder in wanted):
            missing = [folder for folder in wanted if not (candidate / folder).is_dir()]
            if missing:
                raise ValueError(
                    f"{name}: expected the folders {', '.join(wanted)} in {candidate}, found no {missing[0]}; "
                    f"unpack the whole archive."
                )
            return candidate
    found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "an empty folder"
    raise ValueError(f"{name}: expected the folders {', '.join(wanted)} in {root}, found {found}; "
                     f"pass the folder that holds them.")  # fmt: skip


def images(folder):
    """Image files in name order; anything else (Thumbs.db, hidden files) is passed over."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES and path.name[0] != ".")
    if not paths:
        raise ValueError(f"{folder.name}: expected images, found none in {folder}; unpack the archive again.")
    return paths


def parse(pattern, path, grammar):
    """The integers that `pattern` finds in the file's name."""
    match = re.match(pattern, path.name)
    if not match:
        raise ValueError(f"expected a file name like {grammar}, found {path.name} in {path.parent}; "
                         f"rename or remove it.")  # fmt: skip
    return tuple(map(int, match.groups()))


def with_captions(table, path):
    """Add sentences from a JSON file {image path: [sentence, ...]} where there is one."""
    if path.exists():
        sentences = json.loads(path.read_text())
        table["captions"] = [tuple(sentences.get(image, ())) for image in table.path]
    return table


def finish(name, root, table, **more):
    """Check, and take name, seed, label and counts from the `world.json` that every synthetic root carries."""
    world = root / "world.json"
    if world.exists():
        card = json.loads(world.read_text())
        more |= {"label": "world", "seed": card["seed"], "scene_fingerprint": card["fingerprint"]}
        name = card["name"]
        check_counts(name, root, table, card["counts"])
    return from_table(name, root, table, **more)


def check_counts(name, root, table, expected):
    """Compare {split: number of images} with what was read."""
    found = table.split.value_counts().to_dict()
    for split, number in expected.items():
        if found.get(split, 0) != number:
            raise ValueError(f"{name}: expected {number} {split} images, found {found.get(split, 0)} in {root}; "
                             f"make or unpack the data again.")  # fmt: skip
