"""Readers: one short function per public dataset, each ending in the same manifest."""

import json
import re
from pathlib import Path

import pandas as pd

from data_prep.manifest import from_table

IMAGES = {".jpg", ".jpeg", ".png", ".bmp"}
MARKET_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


def market1501(root, **options):
    """Market-1501 (and whatever is laid out like it): <pid>_c<cam>s<seq>_<frame>_<box>.jpg in three folders.

    pid -1 marks detections that the official protocol ignores: they are left out, and counted in the notes.
    pid 0 marks distractors: they stay in the gallery, where no query can match them.
    """
    root = find_root(
        root, "market1501", ("Market-1501-v15.09.15", "market1501", "Market-1501"), MARKET_FOLDERS
    )
    rows, junk = [], 0
    for split, folder in wanted(root, MARKET_FOLDERS).items():
        for path in images(root / folder):
            pid, camid = parse(r"^(-?\d+)_c(\d+)", path, "<pid>_c<camera>..., as in 0002_c1s1_000451_03.jpg")
            junk += pid < 0
            if pid >= 0:
                rows.append((f"{folder}/{path.name}", pid, camid, split))
    table = with_sentences(pd.DataFrame(rows, columns=["path", "pid", "camid", "split"]), root)
    return finish("market1501", root, table, notes=(f"{junk} junk images left out",), **options)


def msmt17(root, **options):
    """MSMT17 V1 or V2: four lists of `<path> <pid>`; training is list_train and list_val together, as in CLIP-ReID. The
    camera is the third field of a file's name."""
    folders = {
        "train": "list_train.txt",
        "val": "list_val.txt",
        "query": "list_query.txt",
        "gallery": "list_gallery.txt",
    }
    root = find_root(root, "msmt17", ("MSMT17", "MSMT17_V1", "MSMT17_V2", "msmt17"), folders)
    train = next((name for name in ("train", "mask_train_v2") if (root / name).is_dir()), "train")
    test = train.replace("train", "test")
    rows = []
    for split, name in folders.items():
        folder = train if split in ("train", "val") else test
        for line in (root / name).read_text().split("\n"):
            if line.strip():
                path, pid = line.rsplit(maxsplit=1)
                _, _, camid = parse(r"^(\d+)_(\d+)_(\d+)", Path(path), "<pid>_<index>_<camera>_...")
                offset = 100000 if folder == test else 0  # both sides count from 0: they are different people
                rows.append(
                    (f"{folder}/{path}", int(pid) + offset, camid, "train" if split == "val" else split)
                )
    table = pd.DataFrame(rows, columns=["path", "pid", "camid", "split"])
    return finish("msmt17", root, table, **options)


def cuhk_pedes(root, **options):
    """CUHK-PEDES: imgs/ and reid_raw.json, a list of {split, id (from 1), file_path, captions}. Queries are the sentences of
    the test images, and no camera is left out."""
    root = find_root(
        root, "cuhk_pedes", ("CUHK-PEDES", "cuhk_pedes"), {"images": "imgs", "annotation": "reid_raw.json"}
    )
    rows = []
    for record in records(root / "reid_raw.json", ("split", "id", "file_path", "captions")):
        split = {"train": "train", "val": "val", "test": "gallery"}[record["split"]]
        rows.append((f"imgs/{record['file_path']}", record["id"], 0, split, tuple(record["captions"])))
    table = pd.DataFrame(rows, columns=["path", "pid", "camid", "split", "captions"])
    return finish("cuhk_pedes", root, table, protocol="all", **options)


def rgbnt201(root, **options):
    """RGBNT201: train_171 and test, each with RGB, NI, TI; <pid 6>_cam<c>_... The test images are query and gallery: what
    removes a query from its own list is the camera filter."""
    root = find_root(root, "rgbnt201", ("RGBNT201", "rgbnt201"), {"train": "train_171", "test": "test"})
    rows = []
    for half, splits in (("train_171", ("train",)), ("test", ("query", "gallery"))):
        for name, files in triples(root, half, ("RGB", "NI", "TI")):
            pid, camid = parse(
                r"^(\d{6})_cam(\d)", name, "<pid 6>_cam<camera>_..., as in 000009_cam3_1_00.jpg"
            )
            rows += spectra_rows(files, splits, pid, camid)
    return finish("rgbnt201", root, spectra_table(rows), **options)


def market1501_mm(root, **options):
    """Market1501-MM: train, query and gallery, each with RGB, NI, TI; names as in Market-1501."""
    folders = {"train": "train", "query": "query", "gallery": "gallery"}
    root = find_root(root, "market1501_mm", ("Market1501-MM", "market1501_mm"), folders)
    rows = []
    for split in folders:
        for name, files in triples(root, split, ("RGB", "NI", "TI")):
            pid, camid = parse(r"^(-?\d+)_c(\d+)", name, "<pid>_c<camera>s...")
            rows += spectra_rows(files, (split,), pid, camid) if pid >= 0 else []
    return finish("market1501_mm", root, spectra_table(rows), **options)


def rgbnt100(root, **options):
    """RGBNT100: one strip per triple, visible, near-infrared and thermal side by side; <pid 4>_c<camera 4>_<index>.jpg."""
    folders = {split: f"rgbir/{folder}" for split, folder in MARKET_FOLDERS.items()}
    root = find_root(root, "rgbnt100", ("RGBNT100", "rgbnt100"), folders)
    rows = []
    for split, folder in folders.items():
        for path in images(root / folder):
            pid, camid = parse(
                r"^(\d{4})_c(\d{4})_", path, "<pid 4>_c<camera 4>_<index>, as in 0505_c0008_003.jpg"
            )
            rows += spectra_rows([f"{folder}/{path.name}"] * 3, (split,), pid, camid, tiles=(0, 1, 2))
    return finish("rgbnt100", root, spectra_table(rows), **options)


def msvr310(root, **options):
    """MSVR310: a folder per vehicle with vis, ni, th; <pid 4>_s<scene>_v<view>_<index>.jpg. Gallery images of the query's own
    scene are left out."""
    folders = {"train": "bounding_box_train", "query": "query3", "gallery": "bounding_box_test"}
    root = find_root(root, "msvr310", ("MSVR310", "msvr310"), folders)
    rows = []
    for split, folder in folders.items():
        for vehicle in sorted(path for path in (root / folder).iterdir() if path.is_dir()):
            for name, files in triples(root, f"{folder}/{vehicle.name}", ("vis", "ni", "th")):
                pid, scene, view = parse(r"^(\d{4})_s(\d{3})_v(\d)", name, "<pid 4>_s<scene>_v<view>_<index>")
                rows += spectra_rows(files, (split,), pid, view, scene)
    return finish("msvr310", root, spectra_table(rows), protocol="scene", **options)


def pairs(root, **options):
    """Images and sentences without identities: every image is its own. What a contrastive model is pretrained on."""
    root = find_root(root, "pairs", (), {"images": "images", "sentences": "captions.json"})
    sentences = json.loads((root / "captions.json").read_text())
    rows = [(path, k, 0, "train", tuple(said)) for k, (path, said) in enumerate(sorted(sentences.items()))]
    table = pd.DataFrame(rows, columns=["path", "pid", "camid", "split", "captions"])
    return finish("pairs", root, table, **options)


READERS = {reader.__name__: reader for reader in (market1501, msmt17, cuhk_pedes, rgbnt201, market1501_mm, rgbnt100,
                                                  msvr310, pairs)}  # fmt: skip


def read(name, root, **options):
    """The manifest of the dataset called `name`, laid out under `root`."""
    if name not in READERS:
        raise ValueError(f"expected a dataset among {', '.join(READERS)}, found {name!r}; correct the name.")
    return READERS[name](root, **options)


def find_root(root, name, aliases, folders):
    """`root` itself or the usual folder inside it; a sentence where neither holds the expected folders and files."""
    root = Path(root)
    if not root.is_dir():
        raise ValueError(
            f"{name}: expected a folder, found nothing at {root}; pass the dataset's own folder."
        )
    for candidate in (root, *(root / alias for alias in aliases)):
        needed = list(wanted(candidate, folders).values())
        if any((candidate / folder).exists() for folder in needed):
            missing = [folder for folder in needed if not (candidate / folder).exists()]
            if missing:
                raise ValueError(f"{name}: expected {', '.join(needed)} in {candidate}, found no {missing[0]}; unpack the "
                                 f"whole archive.")  # fmt: skip
            return candidate
    found = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "an empty folder"
    raise ValueError(f"{name}: expected {', '.join(folders.values())} in {root}, found {found}; pass the folder that holds "
                     f"them.")  # fmt: skip


def wanted(root, folders):
    """The folders that must be there: a world that is for testing alone has no training images."""
    card = world_card(root)
    return {
        split: folder
        for split, folder in folders.items()
        if not card or split != "train" or "train" in card["counts"]
    }


def world_card(root):
    """What the `world.json` of a synthetic root says, or {}."""
    path = Path(root) / "world.json"
    if not path.exists():
        return {}
    try:
        card = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(
            f"expected a readable world.json in {root}, found {error}; make the world again."
        ) from None
    missing = [key for key in ("name", "seed", "fingerprint", "counts", "reader") if key not in card]
    if missing:
        raise ValueError(f"expected {', '.join(missing)} in {path}, found a world of version {card.get('version', 'unknown')}; "
                         f"remove the folder and make the world again.")  # fmt: skip
    return card


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
        raise ValueError(
            f"expected a file name like {grammar}, found {path.name} in {path.parent}; rename or remove it."
        )
    return tuple(map(int, match.groups()))


def records(path, keys):
    """The records of an annotation file; a sentence where one lacks a key."""
    found = json.loads(path.read_text())
    if not isinstance(found, list) or any(key not in record for record in found for key in keys):
        raise ValueError(f"expected a list of records with {', '.join(keys)} in {path}, found another schema; use the "
                         f"annotation file of the release.")  # fmt: skip
    return found


def triples(root, half, folders):
    """(name, [visible, near-infrared, thermal] paths) of the images that three folders share."""
    for path in images(root / half / folders[0]):
        files = [f"{half}/{folder}/{path.name}" for folder in folders]
        lost = [file for file in files if not (root / file).exists()]
        if lost:
            raise ValueError(f"expected {path.name} in {', '.join(folders)}, found no {lost[0]} in {root}; add the file or "
                             f"remove the others.")  # fmt: skip
        yield Path(path.name), files


def spectra_rows(files, splits, pid, camid, scene=0, tiles=(-1, -1, -1)):
    return [(file, pid, camid, split, modality, scene, tile, (split, files[0]))
            for split in splits for file, modality, tile in zip(files, ("rgb", "nir", "tir"), tiles)]  # fmt: skip


def spectra_table(rows):
    """Rows of three spectra as a table; the images of a moment share the number of a shot."""
    table = pd.DataFrame(rows, columns=["path", "pid", "camid", "split", "modality", "scene", "tile", "shot"])
    table["shot"] = pd.factorize(table["shot"])[0]
    return table


def with_sentences(table, root):
    """Add sentences from captions.json {image path: [sentence, ...]} and part descriptions (one image a line, name and four
    sentences separated by three tabs) where there are such files."""
    if (root / "captions.json").exists():
        said = json.loads((root / "captions.json").read_text())
        table["captions"] = [tuple(said.get(image, ())) for image in table.path]
    if (root / "blip_descriptions.txt").exists():
        lines = (line.split("\t\t\t") for line in (root / "blip_descriptions.txt").read_text().splitlines())
        described = {name: tuple(parts) for name, *parts in lines}
        table["parts"] = [described.get(image.rpartition("/")[2], ()) for image in table.path]
    return table


def finish(name, root, table, **more):
    """Check, and take name, seed, label and counts from the `world.json` that every synthetic root carries."""
    card = world_card(root)
    if card:
        more |= {"label": "world", "seed": card["seed"], "scene_fingerprint": card["fingerprint"]}
        name = card["name"]
        check_counts(name, root, table, card["counts"])
    return from_table(name, root, table, **more)


def check_counts(name, root, table, expected):
    """Compare {split: number of shots} of a world with what was read."""
    shots = table.drop_duplicates(["split", "shot"]) if "shot" in table else table
    found = shots.split.value_counts().to_dict()
    for split, number in expected.items():
        if found.get(split, 0) != number:
            raise ValueError(f"{name}: expected {number} {split} images, found {found.get(split, 0)} in {root}; make the world "
                             f"again.")  # fmt: skip
