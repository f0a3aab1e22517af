"""Vehicles in colour: VeRi-776 and VehicleID."""

import hashlib

from data_prep.manifest import Trials
from data_prep.public.files import find_root, finish, images, lines, parse, table_of
from data_prep.public.folders import PLACES

REPEATS = 10  # as the evaluators in circulation average them


def veri776(root, **options):
    """VeRi-776: image_train, image_query, image_test; <pid 4>_c<camera 3>_<frame>_<index>.jpg."""
    root, _ = find_root(root, "veri776")
    rows = []
    for split, folder in PLACES["veri776"][0].folders.items():
        for path in images(root / folder):
            grammar = "<pid 4>_c<camera 3>_..., as in 0002_c002_00030600_0.jpg"
            pid, camid = parse(r"^(\d+)_c(\d{3})_", path, grammar)
            rows.append((f"{folder}/{path.name}", pid, camid, split))
    return finish("veri776", root, table_of(rows), **options)


def vehicleid(root, variant="800", **options):
    """VehicleID: lists of `<image> <pid>` for training and for a test of 800, 1600 or 2400 vehicles. There
    are no cameras: in each of ten draws one image of every vehicle is the gallery, and the others ask. The
    draws are ours, see `galleries`."""
    root, _ = find_root(root, f"vehicleid#{variant}")
    files = {path.stem: path.name for path in images(root / "image")}  # lists may leave the ending out
    folders = PLACES[f"vehicleid#{variant}"][0].folders
    rows = [(*shot, "train") for shot in listed(root / folders["train"], files)]
    tested = list(listed(root / folders["test"], files))
    # both splits hold every tested image in the same order, so an image has one position in either
    rows += [(*shot, "query") for shot in tested]
    rows += [(*shot, "gallery") for shot in tested]
    trials = galleries(tested)
    return finish("vehicleid", root, table_of(rows), variant, protocol="all", trials=trials, **options)


def listed(path, files):
    """(path, pid, camera 0) of every line of a list; its names are written with or without an ending. `files`
    is {name without ending: file name}."""
    for name, pid in lines(path, 2, "<image> <vehicle>"):
        stem = name.partition(".")[0]
        if stem not in files:
            raise ValueError(
                f"expected the image {name} of {path} among the {len(files)} images, found none; unpack the "
                "whole archive."
            )
        yield f"image/{files[stem]}", int(pid), 0


def galleries(tested):
    """Ten draws of one gallery image per vehicle; positions count the tested images. The evaluators in
    circulation draw with a seed of their own or none: these are ours, the first image in the order of a hash,
    the same everywhere."""
    draws = []
    for repeat in range(REPEATS):
        order = sorted(range(len(tested)), key=lambda k: digest(repeat, tested[k][0]))
        first = {}  # pid -> position of its first image in this order
        for k in order:
            first.setdefault(tested[k][1], k)
        gallery = sorted(first.values())
        query = sorted(set(order) - set(gallery))
        draws.append((tuple(query), tuple(gallery)))
    words = f"mean over {REPEATS} random galleries of one image per vehicle (our draws)"
    return Trials(words, tuple(draws))


def digest(repeat, path):
    """What the images of a draw are ordered by."""
    return hashlib.sha256(f"vehicleid {repeat} {path}".encode()).digest()
