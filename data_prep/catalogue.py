"""A data set by its name: the one door through which the library above comes to data.

- ``world_market``: a set of the synthetic world, rendered where it is missing; ``world_market#7`` is of
seed 7.
- ``market1501``: a data set below $REID_DATA; ``viper#pad_jul`` is a variant of one.
- ``mine.csv``: anybody's own table; ``mine.csv#scene`` tests by another protocol.
- ``cuhk_pedes+market1501``: several joined as one training set, without what leaks between them;
``leaky:icfg_pedes+msmt17`` leaves that in, as a comparison.
- ``market1501@500``: its training part cut to the first 500 identities.
- ``lifelong:order 1``: an order of data sets, one after the other; ``lifelong:world#7`` is one of the world.

Every name has a title, a fingerprint and a folder; none of this opens an image.
"""

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path

from data_prep import join, public
from data_prep.join import LEAKY
from data_prep.public import lifelong
from data_prep.public.lifelong import UNSEEN, first_identities
from data_prep.world import build as world_build
from data_prep.world.cast import SETS
from data_prep.world.layouts import layout_of

ROOT = Path(__file__).resolve().parents[1]
TITLES = {
    "world_market": "World-Market",
    "world_msmt": "World-MSMT",
    "world_text": "World-Text",
    "market1501": "Market-1501",
    "msmt17": "MSMT17",
    "dukemtmc": "DukeMTMC",
    "cuhk03np": "CUHK03-NP, labelled",
    "cuhk_pedes": "CUHK-PEDES",
    "icfg_pedes": "ICFG-PEDES",
    "rstpreid": "RSTPReid",
    "world_rgbnt201": "World-RGBNT201",
    "world_market_mm": "World-MarketMM",
    "world_rgbnt100": "World-RGBNT100",
    "world_msvr310": "World-MSVR310",
    "rgbnt201": "RGBNT201",
    "market1501_mm": "Market1501-MM",
    "rgbnt100": "RGBNT100",
    "msvr310": "MSVR310",
    "lifelong:world": "World order 1",
    "lifelong:world order 2": "World order 2",
    "lifelong:world in short": "two domains of World order 1",
    "lifelong:order 1": "order 1",
    "lifelong:order 2": "order 2",
    "lifelong:order 1 with LPW": "order 1 with LPW",
    "lifelong:order 2 with LPW": "order 2 with LPW",
    **{f"world_{one}": f"World {one.upper()}" for one in "abcdefghijkl"},
}
PARTNERS = {  # data -> what a model trained on it is also tested on, without having seen it
    "world_market": "world_msmt",
    "world_msmt": "world_market",
    "market1501": "msmt17",
    "msmt17": "market1501",
}
LIFELONG = "lifelong:"
SPELT = {"cuhkpedes": "cuhk_pedes", "icfgpedes": "icfg_pedes"}  # as papers spell a data set -> as we do
WORLD_UNSEEN = tuple(f"world_{one}" for one in "fghijkl")
ORDERS = {  # world_a to world_e stand for the domains of order 1, one after the other
    "world": tuple(f"world_{one}" for one in "abcde"),
    "world order 2": tuple(f"world_{one}" for one in "cdabe"),
    "world in short": ("world_a", "world_b"),  # for a look that takes seconds
    **lifelong.ORDERS,
}
# a table, its variant and its cut; any sign may stand in the path before them
TABLE = re.compile(r"(?P<path>.*\.csv)(#(?P<variant>[^#@/]*))?(?P<cut>@[^@/]*)?", re.IGNORECASE | re.DOTALL)
STANDS_FOR = {  # data of the world -> whose printed rows stand beside it
    "world_market": "market1501",
    "world_msmt": "msmt17",
    "world_text": "cuhk_pedes",
    "world_rgbnt201": "rgbnt201",
    "world_market_mm": "market1501_mm",
    "world_rgbnt100": "rgbnt100",
    "world_msvr310": "msvr310",
    "lifelong:world": "lifelong:order 1",
    "lifelong:world order 2": "lifelong:order 2",
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

    REID_ALLOW_COUNT_MISMATCH=1 takes a part of a public data set for the whole, and
    REID_DROP_UNMATCHED_QUERIES=1 leaves out queries without a match.
    """
    if name.startswith(LIFELONG):
        raise ValueError(
            f"expected one data set, found the order {name}; train on it with a lifelong method, or "
            f"name one of {', '.join(order(name))}."
        )
    together = parts(name)  # first, so that each part may have its own @ and #
    if len(together) > 1:
        return join.joint_training(*(read(part, size) for part in together), leaky=is_leaky(name))
    if is_leaky(name):
        raise ValueError(
            f"expected several data sets joined by + after {LEAKY}, found {together[0]!r} alone; add one."
        )
    table = TABLE.fullmatch(name)
    if table and not table["cut"]:
        return public.read(f"csv#{table['variant'] or 'market'}", table["path"], **allowances())
    if "@" in name:
        whole, _, number = name.rpartition("@")
        return cut(read(whole, size), name, number)
    if name.startswith("world_"):
        first, _, seed = name.partition("#")
        return world(first, seed, size)
    name = SPELT.get(name, name)
    return public.read(name, folder_of(name), **allowances())


def is_leaky(name):
    """Whether a joint set keeps, among its training images, people whom one of its sets tests."""
    return name.startswith(LEAKY)


def allowances():
    """What the environment lets a reader go on with: the options of python -m data_prep check."""
    return {
        "allow_count_mismatch": os.environ.get("REID_ALLOW_COUNT_MISMATCH") == "1",
        "drop_unmatched_queries": os.environ.get("REID_DROP_UNMATCHED_QUERIES") == "1",
    }


def parts(name):
    """The names of data sets that a + joins. A + in the path of a table joins nothing: there is such a file,
    or the path goes on behind it."""
    name = name.removeprefix(LEAKY)
    table = TABLE.fullmatch(name)
    if table and Path(table["path"]).is_file():
        return [name]
    found = []
    for piece in name.split("+"):
        if found and "/" in found[-1] and not TABLE.fullmatch(found[-1]):
            found[-1] += f"+{piece}"
        else:
            found.append(piece)
    return found


def whole_name(name):
    """The name of a data set, with the whole path of a table: "mine.csv" is another one in each folder."""
    whole = []
    for part in parts(name):
        table = TABLE.fullmatch(part)
        if table:  # what follows its path stays
            part = str(Path(table["path"]).resolve()) + part[table.end("path") :]
        whole.append(SPELT.get(part, part))
    return joined(name, whole)


def joined(name, pieces):
    """The pieces that stand for the parts of a joint set, as one name."""
    return LEAKY * is_leaky(name) + "+".join(pieces)


def bare(name):
    """A data set's name without its seed or variant."""
    together = parts(name)
    if len(together) > 1:
        return joined(name, map(bare, together))
    table = TABLE.fullmatch(name)
    return table["path"] + (table["cut"] or "") if table else name.partition("#")[0]


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
    first, seed = order_parts(name)
    return seeded(ORDERS[first], seed if is_world(first) else "")


def unseen(name):
    """The names of the data sets that an order is tested on without having trained on them; "lifelong:order
    1#pad_jun" names the protocol of all of them. A short order of the world has one."""
    first, mark = order_parts(name)
    short = len(ORDERS[first]) < len(ORDERS["world"])
    return seeded(WORLD_UNSEEN[: 1 if short else None] if is_world(first) else UNSEEN, mark)


def order_parts(name):
    """(order, mark): of a world's order the mark is its seed, of another the protocol of the unseen sets.
    ValueError for an order or a protocol that there is not, and for a domain that comes twice or is also
    unseen."""
    first, _, mark = name.removeprefix(LIFELONG).partition("#")
    if first not in ORDERS:
        raise ValueError(f"expected an order among {', '.join(ORDERS)}, found {first!r}; correct the name.")
    if mark and not is_world(first) and mark not in lifelong.PROTOCOLS:
        raise ValueError(
            f"expected a protocol of unseen sets among {', '.join(lifelong.PROTOCOLS)} after #, found "
            f"{mark!r}; correct the name."
        )
    domains = [bare(one) for one in ORDERS[first]]
    odd = [one for one in domains if domains.count(one) > 1 or one in (*WORLD_UNSEEN, *UNSEEN)]
    if odd:
        raise ValueError(
            f"expected every domain of the order {first} once, and none of the unseen sets, found {odd[0]}; "
            "correct ORDERS."
        )
    return first, mark


def is_world(first):
    """Whether an order is one of the synthetic world."""
    return ORDERS[first][0].startswith("world_")


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
    own = Path(root) / bare(name)
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
    together = parts(name)
    if len(together) > 1:
        return join.fingerprint([fingerprint(part, size) for part in together], is_leaky(name))
    # a cut world is marked by `cut`, which needs the manifest
    if first in SETS and not set("@+/") & set(name):
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
    together = parts(name)
    if len(together) > 1:
        return " + ".join(map(title, together)) + " (leaky)" * is_leaky(name)
    first, _, seed = name.partition("#")
    if seed and first in SETS:
        return f"{TITLES.get(first, first)}, world seed {seed}"
    return TITLES.get(name, name)


def stands_for(name):
    """The data set whose printed numbers stand beside those of this one."""
    together = parts(name)
    if len(together) > 1:
        return "+".join(map(stands_for, together))
    return STANDS_FOR.get(bare(name), name)


def partner(name):
    """The data set that a model trained on this one is also tested on, of the same world; None where there is
    none."""
    if len(parts(name)) > 1:
        return None  # a joint set has seen both
    first, _, seed = name.partition("#")
    other = PARTNERS.get(first)
    return f"{other}#{seed}" if other and seed else other
