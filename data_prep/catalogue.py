"""A data set by its name: the one door through which the library above comes to data.

- ``world_market``: a set of the synthetic world, rendered where it is missing; ``world_market#7`` is of
seed 7.
- ``market1501``: a data set below $REID_DATA; ``viper#pad_jul`` is a variant of one.
- ``mine.csv``: anybody's own table; ``mine.csv#scene`` tests by another protocol.
- ``cuhk_pedes+icfg_pedes``: several joined as one training set, without what leaks between them.
- ``market1501@500``: its training part cut to the first 500 identities.
- ``lifelong:order 1``: an order of data sets, one after the other; ``lifelong:world#7`` is one of the world.

Every name has a title, a fingerprint and a folder; none of this opens an image.
"""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

from data_prep import public
from data_prep.join import joint_training
from data_prep.public import lifelong
from data_prep.public.lifelong import UNSEEN, first_identities
from data_prep.world import build as world_build
from data_prep.world.cast import SETS
from data_prep.world.layouts import layout_of

ROOT = Path(__file__).resolve().parents[1]
TITLES = {
    "world_market": "world domain A",
    "world_msmt": "world domain D",
    "market1501": "Market-1501",
    "msmt17": "MSMT17",
    "dukemtmc": "DukeMTMC",
    "cuhk03np": "CUHK03-NP, labelled",
}
PARTNERS = {  # data -> what a model trained on it is also tested on, without having seen it
    "world_market": "world_msmt",
    "world_msmt": "world_market",
    "market1501": "msmt17",
    "msmt17": "market1501",
}
LIFELONG = "lifelong:"
WORLD_UNSEEN = tuple(f"world_{one}" for one in "fghijkl")
ORDERS = {"world": tuple(f"world_{one}" for one in "abcde"), **lifelong.ORDERS}
STANDS_FOR = {  # data of the world -> whose printed rows stand beside it
    "world_market": "market1501",
    "world_msmt": "msmt17",
}


def build_folder():
    """Where everything goes that can be made again: $REID_BUILD, or build/ in the project."""
    return folder_in("REID_BUILD", ROOT / "build")


def cache_folder():
    """Where decoded images are kept: $REID_CACHE, or cache/ in the build folder."""
    return folder_in("REID_CACHE", build_folder() / "cache")


def folder_in(variable, default):
    """The folder that a variable of the environment names; `default` where it is unset or empty."""
    named = os.environ.get(variable, "").strip()
    return Path(named).expanduser() if named else default


def read(name, size="laptop"):
    """The manifest of the data set called `name`; a world is rendered in this size first, if need be.

    REID_ALLOW_COUNT_MISMATCH=1 takes a part of a public data set for the whole.
    """
    if name.startswith(LIFELONG):
        raise ValueError(
            f"expected one data set, found the order {name}; train on it with a lifelong method, or "
            f"name one of {', '.join(order(name))}."
        )
    if "+" in name:  # first, so that each part may have its own @ and #
        parts = [read(part, size) for part in name.split("+")]
        return joint_training(*parts)
    if "@" in name:
        whole, _, number = name.partition("@")
        return cut(read(whole, size), name, number)
    first, _, second = name.partition("#")
    if name.startswith("world_"):
        return world(first, second, size)
    if first.endswith(".csv"):
        return public.read(f"csv#{second or 'market'}", first)
    allowed = os.environ.get("REID_ALLOW_COUNT_MISMATCH") == "1"
    return public.read(name, folder_of(name), allow_count_mismatch=allowed)


def whole_name(name):
    """The name of a data set, with the whole path of a table: "mine.csv" is another one in each folder."""
    parts = []
    for part in name.split("+"):
        first, sign, second = part.partition("#")
        if first.endswith(".csv"):
            first = str(Path(first).resolve())
        parts.append(f"{first}{sign}{second}")
    return "+".join(parts)


def cut(manifest, name, number):
    """A manifest whose training part is cut to the first `number` identities: other data, and it says so."""
    if not number.isdecimal() or not int(number):
        raise ValueError(f"expected a number of identities after @ in {name}, found {number!r}; correct it.")
    few = first_identities(manifest, int(number))
    # watch out: a world's own fingerprint would stay that of the whole
    marked = hashlib.sha256(f"{manifest.fingerprint}@{number}".encode()).hexdigest()[:16]
    return replace(few, scene_fingerprint=marked)


def order(name):
    """The names of the data sets of an order, in it: "lifelong:order 1", "lifelong:world#7"."""
    first, _, seed = name.removeprefix(LIFELONG).partition("#")
    if first not in ORDERS:
        raise ValueError(f"expected an order among {', '.join(ORDERS)}, found {first!r}; correct the name.")
    return seeded(ORDERS[first], seed)


def unseen(name):
    """The names of the data sets that an order is tested on without having trained on them."""
    first, _, seed = name.removeprefix(LIFELONG).partition("#")
    return seeded(WORLD_UNSEEN if first == "world" else UNSEEN, seed)


def seeded(names, seed):
    """The names of data sets, of this seed of the world where there is one."""
    return tuple(f"{name}#{seed}" for name in names) if seed else names


def folder_of(name):
    """Where a public data set lies: in its own folder of $REID_DATA, or there among others."""
    root = os.environ.get("REID_DATA")
    if not root:
        raise ValueError(
            f"expected the folder of your data sets in $REID_DATA for {name}, found it unset; set it, or "
            "use the data set world_market."
        )
    own = Path(root) / name.partition("#")[0]
    return own if own.is_dir() else Path(root)  # readers look for the usual folders below it


def world(name, seed, size):
    """The manifest of a synthetic data set, rendered first if need be."""
    if name not in SETS:
        raise ValueError(f"expected a world among {', '.join(SETS)}, found {name!r}; correct the name.")
    folder = world_build.cached(build_folder() / "world", size, seed or 0, name)
    return public.read(layout_of(name).reader, folder)


def fingerprint(name, size="laptop"):
    """The fingerprint of a data set; for that of a world nothing is rendered."""
    first, _, seed = name.partition("#")
    if first in SETS and "@" not in name:  # a cut world is marked by `cut`, which needs the manifest
        return world_build.fingerprint(first, size, seed or 0)
    if name.startswith(LIFELONG):
        prints = " ".join(fingerprint(one, size) for one in order(name))
        return hashlib.sha256(prints.encode()).hexdigest()[:16]
    return read(name, size).fingerprint


def pixels():
    """The hash of what the renderer of this project draws, on any machine."""
    return world_build.canonical()


def title(name):
    """A data set as captions call it."""
    first, _, seed = name.partition("#")
    called = TITLES.get(first, first)
    return f"{called}, world seed {seed}" if seed else called


def stands_for(name):
    """The data set whose printed numbers stand beside those of this one."""
    return STANDS_FOR.get(name.partition("#")[0], name)


def partner(name):
    """The data set that a model trained on this one is also tested on, of the same world; None where there is
    none."""
    first, _, seed = name.partition("#")
    other = PARTNERS.get(first)
    return f"{other}#{seed}" if other and seed else other
