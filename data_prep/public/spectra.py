"""Three spectra of one moment: RGBNT201 and Market1501-MM (people), RGBNT100 and MSVR310 (vehicles)."""

import pandas as pd

from data_prep.public.files import find_root, finish, images, parse, triples, wanted
from data_prep.public.folders import PLACES
from data_prep.public.people import junk_note

FOLDERS = ("RGB", "NI", "TI")
COLUMNS = ["path", "pid", "camid", "split", "modality", "scene", "tile", "shot"]


def rgbnt201(root, **options):
    """RGBNT201: train_171 and test, each with RGB, NI, TI; <pid 6>_cam<c>_... The test images are query and
    gallery: what removes a query from its own list is the camera filter."""
    root, _ = find_root(root, "rgbnt201")
    rows = []
    for half, splits in (("train_171", ("train",)), ("test", ("query", "gallery"))):
        for name, files in triples(root, half, FOLDERS):
            grammar = "<pid 6>_cam<camera>_..., as in 000009_cam3_1_00.jpg"
            pid, camid = parse(r"^(\d{6})_cam(\d+)", name, grammar)
            rows += spectra_rows(files, splits, pid, camid)
    return finish("rgbnt201", root, spectra_table(rows), **options)


def market1501_mm(root, **options):
    """Market1501-MM: train, query and gallery, each with RGB, NI, TI; names as in Market-1501."""
    root, _ = find_root(root, "market1501_mm")
    rows = []
    junk = 0
    for split in PLACES["market1501_mm"][0].folders:
        for name, files in triples(root, split, FOLDERS):
            pid, camid = parse(r"^(-?\d+)_c(\d+)", name, "<pid>_c<camera>s...")
            if pid < 0:
                junk += len(files)
            else:
                rows += spectra_rows(files, (split,), pid, camid)
    return finish("market1501_mm", root, spectra_table(rows), notes=junk_note(junk), **options)


def rgbnt100(root, **options):
    """RGBNT100: one strip per triple, visible, near-infrared and thermal side by side; <pid 4>_c<camera
    4>_<index>.jpg."""
    root, _ = find_root(root, "rgbnt100")
    rows = []
    for split, folder in wanted(root, PLACES["rgbnt100"][0].folders).items():
        for path in images(root / folder):
            grammar = "<pid 4>_c<camera 4>_<index>, as in 0505_c0008_003.jpg"
            pid, camid = parse(r"^(\d{4})_c(\d{4})_", path, grammar)
            strip = f"{folder}/{path.name}"  # one file holds the three spectra
            rows += spectra_rows([strip] * 3, (split,), pid, camid, tiles=(0, 1, 2))
    return finish("rgbnt100", root, spectra_table(rows), **options)


def msvr310(root, **options):
    """MSVR310: a folder per vehicle with vis, ni, th; <pid 4>_s<scene>_v<view>_<index>.jpg. Gallery images of
    the query's own scene are left out."""
    root, _ = find_root(root, "msvr310")
    rows = []
    for split, folder in PLACES["msvr310"][0].folders.items():
        for vehicle in folders_in(root / folder):
            for name, files in triples(root, f"{folder}/{vehicle.name}", ("vis", "ni", "th")):
                grammar = "<pid 4>_s<scene>_v<view>_<index>"
                pid, scene, view = parse(r"^(\d{4})_s(\d{3})_v(\d+)", name, grammar)
                # the view stands where others have a camera; the protocol goes by scenes
                rows += spectra_rows(files, (split,), pid, view, scene)
    return finish("msvr310", root, spectra_table(rows), protocol="scene", **options)


def folders_in(folder):
    """The folders below a folder; ValueError where there are none."""
    found = sorted(path for path in folder.iterdir() if path.is_dir())
    if not found:
        raise ValueError(
            f"{folder.name}: expected a folder per vehicle, found none in {folder}; unpack the archive again."
        )
    return found


def spectra_rows(files, splits, pid, camid, scene=0, tiles=(-1, -1, -1)):
    """The rows of one moment: a row for each of its three `files` in each of `splits`. `tiles` tells which
    third of a file's width each spectrum is, -1 the whole file."""
    rows = []
    for split in splits:
        shot = (split, files[0])  # the same for the three; `spectra_table` makes it a number
        for file, modality, tile in zip(files, ("rgb", "nir", "tir"), tiles):
            rows.append((file, pid, camid, split, modality, scene, tile, shot))
    return rows


def spectra_table(rows):
    """Rows of three spectra as a table; the images of a moment share the number of a shot, counted from 0."""
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["shot"] = pd.factorize(table["shot"])[0]  # in the order of appearance
    return table
