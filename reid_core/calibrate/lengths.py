"""Training length of the profile `laptop`: mAP by the share of the published epochs, with its standard
deviation over training seeds, on the development world.

    python -m reid_core gates --lengths --jobs 2
"""

import dataclasses
import itertools
import json
import time
from typing import NamedTuple

import numpy as np

from data_prep import catalogue
from data_prep.catalogue import build_folder
from reid_core import checkpoint, loading, train
from reid_core.calibrate import gates
from reid_core.data import load_data
from reid_core.methods import METHODS
from reid_core.recipe import PROFILES
from reid_core.report import chapters, tables
from reid_core.runs import provenance, records
from reid_core.runs.fill import begin, check, run_all
from reid_core.runs.run import BOOK

SHARES = (1.0, 0.5, 0.25)  # of the published epochs, in the order in which they are measured
KINDS = (("clip_reid", "baseline"), ("promptsg", "promptsg"), ("clip_reid", "clip_reid"))
SEEDS = chapters.SEEDS
BATCH = 64  # images of a step, in all three
STEADY = {  # data set -> points of mAP that the standard deviation over seeds may have
    "world_market": 0.6,
    "world_msmt": 1.0,
}


class Length(NamedTuple):
    """One training: of a method on a data set of the development world, for a share of the published
    epochs."""

    method: str
    variant: str
    data: str
    share: float
    seed: int

    @property
    def name(self):
        return f"{self.variant}/{self.data}/{self.share:g}/s{self.seed}"


def wanted():
    """Every training, seed by seed, so that an interruption leaves all lengths with fewer seeds."""
    trainings = []
    order = itertools.product(SHARES, SEEDS, STEADY, KINDS)  # the last changes fastest
    for share, seed, data, kind in order:
        method, variant = kind
        trainings.append(Length(method, variant, data, share, seed))
    return trainings


def place():
    """The file of the measurements."""
    return BOOK.folder() / "lengths.json"


def kept():
    """{name: measurement} of those that are not stale."""
    now = {data: basis(data).items() for data in STEADY}
    found = records.read_object(place())
    return {name: one for name, one in found.items() if now[name.split("/")[1]] <= one.items()}


def basis(data):
    """What a measurement on a data set depends on besides its length."""
    told = PROFILES["laptop"]
    return {
        "weights": loading.fingerprint("tiny"),
        "scenes": gates.scenes("laptop", (data,)),
        # the profile's `time` is left out: it is what a Length varies
        "rates": [told.pretrained_lr, told.new_lr, told.highest_lr, told.epoch_images],
    }


def due():
    """The trainings of `wanted` that are missing or stale."""
    done = kept()
    return [one for one in wanted() if one.name not in done]


def fill(minutes, jobs, log=print):
    """Measure what is due, `jobs` at a time, for so many minutes: as `runs.fill` does for runs."""
    check(jobs, None)
    with checkpoint.alone(build_folder() / "lengths", "fills"):
        waiting = [(one, "missing") for one in due()]
        log(f"lengths: {len(waiting)} of {len(wanted())} trainings are due")
        for name in STEADY:  # rendered once, before the jobs that share them start
            load_data(f"{name}#{gates.DEVELOPMENT}")
        run_all(waiting, time.time() + 60 * minutes, jobs, start, log)


def start(one):
    """A process that measures one Length."""
    return begin(one, "lengths", ["gates", "--length", one.name])


def measure(one, device=None, log=print):
    """Train, test and write one Length; an interrupted training is resumed."""
    profile = dataclasses.replace(PROFILES["laptop"], time=one.share)
    data = load_data(f"{one.data}#{gates.DEVELOPMENT}", profile.name)
    paper = METHODS[one.method]
    recipe = paper.recipe_of(one.variant, "full").at(profile)
    train.seed_all(one.seed)
    method = paper.variants[one.variant].kind(recipe, data)
    folder = build_folder() / "lengths" / one.name
    # watch out: a Length's name does not tell rates and weights, so `basis` is part of the key
    marks = (
        provenance.digest(method.recipe),
        data.manifest.fingerprint,
        json.dumps(basis(one.data)),
        provenance.code(),
    )
    key = " ".join((one.name, *marks))
    checkpoint.set_aside_other_run(folder, key, log)
    made = gates.made_with()
    history = train.fit(
        method,
        data,
        folder,
        seed=one.seed,
        precision=profile.precision,
        device=device,
        epoch_images=profile.epoch_images,
        key=key,
        log=log,
    )
    scores = gates.summary(method, data)
    seen = sum(epoch["images"] for epoch in history)  # by the image tower: cached features do not count
    told = {"mAP": round(scores["mAP"], 3), "images": seen, "seed": one.seed}
    write(one.name, {**told, **basis(one.data), **made})
    checkpoint.clear(folder)


def write(name, told):
    """Add one measurement to results/lengths.json."""
    with records.changing(place()) as done:
        done[name] = told


class Point(NamedTuple):
    """One length of one method on one data set: steps of the image tower, mean mAP and its standard deviation
    over seeds."""

    steps: float
    mean: float
    spread: float
    seeds: int


def points():
    """{(variant, data): {share: Point}} of the measurements that are not stale."""
    done = kept()
    found = {}
    for (method, variant), data, share in itertools.product(KINDS, STEADY, sorted(SHARES)):
        trainings = [Length(method, variant, data, share, seed) for seed in SEEDS]
        some = [done[one.name] for one in trainings if one.name in done]
        if some:
            found.setdefault((variant, data), {})[share] = point_of(some)
    return found


def point_of(measurements):
    """The Point of measurements that differ in their seed."""
    scores = [one["mAP"] for one in measurements]
    spread = float("nan")  # one seed has none
    if len(scores) > 1:
        spread = float(np.std(scores, ddof=1))
    steps = np.mean([one["images"] for one in measurements]) / BATCH
    return Point(steps, float(np.mean(scores)), spread, len(scores))


def as_table(found):
    """A table of steps, mAP and its standard deviation, which is marked where it is above STEADY."""
    lines = []
    for (variant, data), lengths in found.items():
        for share, point in lengths.items():
            told = "–" if np.isnan(point.spread) else f"{point.spread:.1f}"
            spread = tables.Cell(told, "changed" if point.spread > STEADY[data] else "")
            numbers = [f"{share:g}", f"{point.steps:.0f}", f"{point.mean:.1f}"]
            lines.append([variant, catalogue.title(data), *numbers, spread, point.seeds])
    limits = ", ".join(f"{limit:g} on {catalogue.title(data)}" for data, limit in STEADY.items())
    caption = f"World seed {gates.DEVELOPMENT}: mAP by length of training; seeds may spread by {limits}; "
    headings = ["method", "data", "part of the epochs", "steps", "mAP", "spread", "seeds"]
    return tables.table(headings, lines, caption + finding(found))


def finding(found):
    """A clause for a caption: which shares are steady on all data sets, and what half as many epochs cost."""
    used = PROFILES["laptop"].time
    told = f"the profile takes {used:g}"
    steady = [f"{share:g}" for share in sorted(SHARES) if is_steady(found, share)]
    if steady:
        told += f", steady enough: {', '.join(steady)}"
    gains = []
    for lengths in found.values():
        if {used, used / 2} <= lengths.keys():
            gains.append(lengths[used].mean - lengths[used / 2].mean)
    if gains:
        told += f"; half as many would cost {min(gains):.1f} to {max(gains):.1f} points"
    return told


def is_steady(found, share):
    """Whether a share was measured on all data sets with as many seeds as tell a spread, and the standard
    deviation over these is within STEADY."""
    for (_, data), lengths in found.items():
        if share not in lengths:
            return False
        point = lengths[share]
        if point.seeds < len(chapters.FEW) or point.spread > STEADY[data]:
            return False
    return True
