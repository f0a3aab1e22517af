"""Releases that hold no crops as files: CUHK03 (one file of MATLAB's) and CUHK-SYSU (scenes with boxes).

python -m data_prep convert cuhk03 SOURCE OUT
    SOURCE holds cuhk-03.mat and cuhk03_new_protocol_config_*.mat
python -m data_prep convert cuhk_sysu SOURCE OUT
    SOURCE holds Image/SSM and annotation/test/train_test
"""

import os
import re
from pathlib import Path

import numpy as np
from PIL import Image

from data_prep import unfinished
from data_prep.pictures import opened
from data_prep.public.files import read_mat
from data_prep.public.folders import MARKET
from data_prep.texts import AGAIN

BOXES = ("labeled", "detected")
INDEX = {"train": "train_idx", "query": "query_idx", "gallery": "gallery_idx"}


def convert(name, source, out):
    """Write the folder `out`, whole or not at all. ValueError where it is there, or where `source` lacks a
    file."""
    source = Path(source)
    out = Path(out)
    if name not in CONVERSIONS:
        raise ValueError(
            f"expected a conversion among {', '.join(CONVERSIONS)}, found {name!r}; correct the name."
        )
    if out.exists():
        raise ValueError(
            f"expected a folder that is not there yet, found {out}; remove it or choose another."
        )
    part = unfinished.beside(out)  # a rename works within one disk alone
    part.mkdir(parents=True)
    try:
        write_crops(name, source, part)
        os.replace(part, out)
    finally:
        unfinished.remove(part)


def write_crops(name, source, out):
    """Write what is in `source`; ValueError where its files hold something else than the release's."""
    try:
        CONVERSIONS[name](source, out)
    except (KeyError, IndexError, TypeError, AttributeError, StopIteration) as error:
        raise ValueError(
            f"expected the release of {name} in {source}, found another content ({error!r}); {AGAIN}."
        ) from error


def needed(path):
    """The path; ValueError where nothing is there."""
    if not path.exists():
        raise ValueError(f"expected {path.name} in {path.parent}, found none; unpack the whole release.")
    return path


def cuhk03(source, out):
    """Both kinds of boxes, each as Market-1501 lies on disk. The indices of the new protocol count the images
    of the release from 1, in the order pair, person, cell, and an empty cell is no image."""
    with open_hdf5(needed(source / "cuhk-03.mat")) as release:
        for boxes in BOXES:
            config = needed(source / f"cuhk03_new_protocol_config_{boxes}.mat")
            index = {key: np.ravel(value) for key, value in read_mat(config).items()}
            save_cuhk03(release, boxes, index, out / boxes)


def open_hdf5(path):
    """MATLAB's format 7.3 is HDF5."""
    import h5py  # here: no other command needs it, and it is slow to load

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"expected MATLAB's format 7.3 (HDF5) in {path}, found {error}; {AGAIN}.") from None


def save_cuhk03(release, boxes, index, out):
    """Write the images of one kind of boxes. ValueError where the release has another number of them than the
    protocol counts."""
    split_of = {}  # number of an image -> its split; the protocol uses some of the images alone
    for split, key in INDEX.items():
        for k in index[key]:
            split_of[int(k)] = split
    number = 0
    for split in MARKET:
        (out / MARKET[split]).mkdir(parents=True)
    for pid, view, cell in cuhk03_cells(release, boxes):
        number += 1
        if number in split_of:
            folder = out / MARKET[split_of[number]]
            # h5py gives MATLAB's (height, width, 3) as (3, width, height)
            picture = cell[()].transpose(2, 1, 0)  # (height, width, 3)
            Image.fromarray(picture).save(folder / f"{pid:04d}_c{view}_{number:05d}.png")
    counted = len(index["labels"])
    if number != counted:
        raise ValueError(
            f"expected the {counted} {boxes} images that the new protocol "
            f"counts, found {number} in the release; the two files belong to different versions: download "
            "both again."
        )


def cuhk03_cells(release, boxes):
    """(pid from 1, view 1 or 2, image) of every cell with an image; people are counted through all pairs of
    cameras."""
    people = 0
    for pair in release[boxes][()].ravel():  # references to one array per pair of cameras
        cells = release[pair]  # (10, people): five images of the first view, five of the second
        for person in range(cells.shape[1]):
            people += 1
            for k in range(cells.shape[0]):
                cell = release[cells[k, person]]
                if cell.ndim == 3:  # an empty cell is an array of two numbers
                    yield people, 1 if k < 5 else 2, cell


def cuhk_sysu(source, out):
    """Crops of the boxes of all identities: training people, the queries, and every gallery box that shows a
    query's person. Names follow the conversion in circulation, <pid 5>_<scene>_<running 7>.jpg; the reader
    gives cameras."""
    notes = source / "annotation" / "test" / "train_test"
    for folder in ("train", "query", "gallery"):
        (out / folder).mkdir()
    training = []
    for person in flat(read_mat(needed(notes / "Train.mat"))["Train"]):
        training += scenes(person)
    save_crops(source, out / "train", training)
    asked = []
    answers = []
    for test in flat(read_mat(needed(notes / "TestG50.mat"))["TestG50"]):
        query = next(flat(test["Query"]))  # there is one
        pid = pid_of(text(query["idname"]))
        asked.append((pid, query))
        answers += shown(pid, test)
    save_crops(source, out / "query", asked)
    save_crops(source, out / "gallery", answers)


def flat(cells):
    """The structures in an array of cells, however deeply MATLAB nested them."""
    for cell in np.ravel(cells):
        if not isinstance(cell, np.void):  # an array of further cells
            yield from flat(cell)
        elif cell.dtype.names is None:  # a void without fields wraps what it holds
            yield from flat(cell[0])
        else:
            yield cell


def text(cell):
    """The string in a cell."""
    return str(np.ravel(cell)[0])


def pid_of(name):
    """The number in a name such as p5; ValueError for another name."""
    match = re.fullmatch(r"p(\d{1,9})", name)
    if not match:
        raise ValueError(f"expected people called p1, p2 ... in the release, found {name!r}; {AGAIN}.")
    return int(match[1])


def scenes(person):
    """(pid, scene with a box) of everywhere that a training person appears."""
    pid = pid_of(text(person["idname"]))
    return [(pid, scene) for scene in flat(person["scene"])]


def shown(pid, test):
    """The same of the gallery's scenes with the person; those without have an empty box."""
    return [(pid, scene) for scene in flat(test["Gallery"]) if np.size(scene["idlocate"])]


def save_crops(source, folder, boxes):
    """Write the crops of (pid, scene with a box): x, y, width, height in pixels."""
    for number, (pid, scene) in enumerate(boxes):
        name = text(scene["imname"])
        if Path(name).name != name:  # a release may not read from elsewhere
            raise ValueError(f"expected names of files in Image/SSM of {source}, found {name!r}; {AGAIN}.")
        image = opened(needed(source / "Image" / "SSM" / name))
        crop = image.crop(edges(image, scene["idlocate"], name))
        crop.save(folder / f"{pid:05d}_{Path(name).stem}_{number:07d}.jpg", quality=95)


def edges(image, box, name):
    """(left, top, right, bottom) of a box. It may reach over the edge of its scene, and what lies outside is
    black; ValueError for one that is no part of the scene."""
    numbers = np.ravel(box)
    if numbers.size == 4 and np.isfinite(numbers).all():
        x, y, width, height = map(int, numbers)
        inside = x + width > 0 and y + height > 0 and x < image.width and y < image.height
        if inside and 0 < width <= image.width and 0 < height <= image.height:
            return x, y, x + width, y + height
    raise ValueError(
        f"expected a box (x, y, width, height) in the scene {name} of {image.width} x {image.height} pixels, "
        f"found {numbers[:5].tolist()}; {AGAIN}."
    )


CONVERSIONS = {"cuhk03": cuhk03, "cuhk_sysu": cuhk_sysu}
