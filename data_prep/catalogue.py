"""A data set by its name: the one door through which the library above comes to data.

    world_market          a set of the synthetic world, rendered where it is missing; world_market#7 is that
    of seed 7 market1501            a data set below $REID_DATA; viper#pad_jul is a variant of one mine.csv
    anybody's own table; mine.csv#scene tests by another protocol cuhk_pedes+market1501 several joined as one
    training set, without what leaks between them

Every name has a title, a fingerprint and a folder; none of this opens an image.
"""

import os
from pathlib import Path

from data_prep import public
from data_prep.join import joint_training
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
STANDS_FOR = {  # data of the world -> whose printed rows stand beside it
    "world_market": "market1501",
    "world_msmt": "msmt17",
}


def build_folder():
    """Where everything goes that can be made again: $REID_BUILD, or build/ in the project."""
    return Path(os.environ.get("REID_BUILD", ROOT / "build"))


def cache_folder():
    """Where decoded images are kept: $REID_CACHE, or cache/ in the build folder."""
    return Path(os.environ.get("REID_CACHE", build_folder() / "cache"))


def read(name, size="laptop"):
    """The manifest of the data set called `name`; a world is rendered in this size first, if need be.

    REID_ALLOW_COUNT_MISMATCH=1 takes a part of a public data set for the whole.
    """
    if "+" in name:
        return joint_training(*(read(part, size) for part in name.split("+")))
    first, _, second = name.partition("#")
    if name.startswith("world_"):
        return world(first, second, size)
    if first.endswith(".csv"):
        return public.read(f"csv#{second or 'market'}", first)
    allowed = os.environ.get("REID_ALLOW_COUNT_MISMATCH") == "1"
    return public.read(name, folder_of(name), allow_count_mismatch=allowed)


def folder_of(name):
    """Where a public data set lies: in its own folder of $REID_DATA, or there among others."""
    root = os.environ.get("REID_DATA")
    if not root:
        raise ValueError(
            f"expected the folder of your data sets in $REID_DATA for {name}, found it unset; set it, or "
            "use the data set world_market."
        )
    own = Path(root) / name.partition("#")[0]
    return own if own.is_dir() else Path(root)


def world(name, seed, size):
    """The manifest of a synthetic data set, rendered first if need be."""
    if name not in SETS:
        raise ValueError(f"expected a world among {', '.join(SETS)}, found {name!r}; correct the name.")
    folder = world_build.cached(build_folder() / "world", size, seed or 0, name)
    return public.read(layout_of(name).reader, folder)


def fingerprint(name, size="laptop"):
    """The fingerprint of a data set; for that of a world nothing is rendered."""
    first, _, seed = name.partition("#")
    if first in SETS:
        return world_build.fingerprint(first, size, seed or 0)
    return read(name, size).fingerprint


def pixels():
    """The hash of what the renderer of this project draws, on any machine."""
    return world_build.canonical()


def title(name):
    """A data set as captions call it."""
    first, _, seed = name.partition("#")
    return TITLES.get(first, first) + (f", world seed {seed}" if seed else "")


def stands_for(name):
    """The data set whose printed numbers stand beside those of this one."""
    return STANDS_FOR.get(name.partition("#")[0], name)


def partner(name):
    """The data set that a model trained on this one is also tested on, of the same world; None where there is
    none."""
    first, _, seed = name.partition("#")
    other = PARTNERS.get(first)
    return f"{other}#{seed}" if other and seed else other
