"""Readers: one short function per public dataset, each ending in the same manifest.

people.py, vehicles.py, spectra.py, sentences.py and lifelong.py hold them by family, table.py reads anybody's
own table; folders.py says where a data set is looked for, counts.py what it should hold.
"""

from data_prep.public import lifelong, table
from data_prep.public.lifelong import cuhk01, cuhk02, cuhk_sysu, grid, ilids, prid, sensereid, viper
from data_prep.public.people import cuhk03, dukemtmc, lpw, market1501, msmt17, occluded_duke
from data_prep.public.sentences import cuhk_pedes, icfg_pedes, pairs, rstpreid
from data_prep.public.spectra import market1501_mm, msvr310, rgbnt100, rgbnt201
from data_prep.public.table import csv
from data_prep.public.vehicles import vehicleid, veri776

READERS = {  # by the name under which a reader is asked for, and its data set lies on disk
    reader.__name__: reader
    for reader in (
        market1501,
        dukemtmc,
        occluded_duke,
        msmt17,
        cuhk03,
        veri776,
        vehicleid,
        cuhk_pedes,
        icfg_pedes,
        rstpreid,
        rgbnt201,
        market1501_mm,
        rgbnt100,
        msvr310,
        cuhk_sysu,
        lpw,
        cuhk01,
        cuhk02,
        viper,
        prid,
        grid,
        ilids,
        sensereid,
        pairs,
        csv,
    )
}
VARIANTS = {  # the first is taken where none is asked for
    "msmt17": ("", "without_val"),
    "cuhk03": ("labeled", "detected"),
    "vehicleid": ("800", "1600", "2400"),
    **dict.fromkeys(lifelong.UNSEEN, lifelong.PROTOCOLS),
    "csv": table.VARIANTS,
}


def read(name, root, **options):
    """The manifest of the dataset called `name`, or `name#variant`, laid out under `root`. ValueError for a
    name that is not known, and for what a reader finds wrong on disk."""
    name, _, variant = name.partition("#")
    if name not in READERS:
        raise ValueError(f"expected a dataset among {', '.join(READERS)}, found {name!r}; correct the name.")
    if variant:  # else the reader takes its own first
        options["variant"] = known_variant(name, variant)
    return READERS[name](root, **options)


def known_variant(name, variant):
    """The variant; ValueError where the data set has none of that name."""
    if variant not in VARIANTS.get(name, ()):
        there = ", ".join(filter(None, VARIANTS.get(name, ()))) or "none"
        raise ValueError(f"expected a variant of {name} among {there}, found {variant!r}; correct the name.")
    return variant
