"""The gates of the synthetic world: is it hard enough, and solvable? Numbers of baselines and oracles, each
with a band that it must lie in.

    python -m reid_core gates

No run is committed before all gates are met (`require`). The bands were fixed before anything was measured;
the world was tuned on the development seed, and what is shown comes from other seeds.
"""

import dataclasses
import datetime
import functools
import hashlib
import itertools
import json
import time
from typing import NamedTuple

import numpy as np
import torch

from data_prep.catalogue import build_folder
from data_prep.join import join
from data_prep.world import build, cast
from reid_core import checkpoint, evaluate, lifelong, loading, train
from reid_core.calibrate import oracles
from reid_core.data import ReidData, load_data
from reid_core.methods import clip_reid
from reid_core.methods.baseline import HeatBaseline, Sequential, SpectraBaseline, TextBaseline
from reid_core.recipe import PROFILES, profile_called
from reid_core.report import tables
from reid_core.runs import provenance, records
from reid_core.runs.run import BOOK

DEVELOPMENT = 1000  # the world seed on which the world was tuned: its numbers are not shown
SHOWN = (0, 1, 2)  # world seeds


class Gate(NamedTuple):
    """The band in which a number must lie, its unit, and what it is."""

    low: float
    high: float
    unit: str
    says: str


GATES = {
    "zero-shot": Gate(15, 40, "mAP", "tiny CLIP without training, searching images with images"),
    "fine-tuned": Gate(60, 85, "mAP", "the fine-tuned baseline"),
    "fine-tuned on D": Gate(60, 85, "mAP", "the same on domain D, which stands for MSMT17"),
    "colour histogram": Gate(0, 45, "mAP", "colours of horizontal stripes, white-balanced: no learning"),
    "attribute oracle": Gate(95, 100, "mAP", "the attribute table itself: the world can be solved"),
    "text to image": Gate(25, 75, "R1", "both towers fine-tuned on sentences"),
    "caption oracle": Gate(20, 60, "R1", "sentences held against the attribute table"),
    "identities per caption": Gate(
        3, np.inf, "median", "people whom a sentence fits best, one as well as another"
    ),
    "visible at night": Gate(0, 25, "mAP", "trained and tested on the visible spectrum"),
    "NIR + TIR at night": Gate(50, 100, "mAP", "trained and tested on the other two"),
    "forgetting": Gate(
        10, 40, "points of mAP", "joint training minus fine-tuning on one domain after the other"
    ),
    "direct transfer": Gate(30, 70, "% of in-domain mAP", "trained on one seen domain, tested on another"),
}
NO_BAND = {
    "known pairs": Gate(
        -np.inf,
        np.inf,
        "accuracy in %",
        "colour of a garment named from the image; pairs that pretraining saw",
    ),
    "held-out pairs": Gate(
        -np.inf, np.inf, "accuracy in %", "the same; pairs of colour and garment that it never saw"
    ),
}


# The baselines share CLIP-ReID's recipe and have no stage 1: its rates make no measurement stale.
NOT_READ = ("stage1_lr", "stage1_warmup_init_lr", "stage1_min_lr")


class World:
    """The data sets of one world seed, and the baselines trained on them. An interrupted training is
    resumed."""

    def __init__(self, seed, profile="laptop", log=print):
        self.seed = seed
        self.profile = profile
        self.log = log
        self.recipe = clip_reid.RECIPE.at(profile_called(profile))

    def data(self, name):
        return load_data(f"{name}#{self.seed}", self.profile)

    def method(self, Kind, data):
        train.seed_all(self.seed)
        return Kind(self.recipe, data)

    def trained(self, Kind, data, name, begin=None):
        """A method trained on `data`, from the image tower of the method `begin` if given."""
        method = self.method(Kind, data)
        if begin:
            method.image.load_state_dict(begin.image.state_dict())
        folder = build_folder() / "gates" / f"{name}-{self.profile}-{self.seed}"
        recipe = provenance.digest(self.recipe)
        weights = loading.fingerprint("tiny")
        key = f"{name} {data.manifest.fingerprint} {recipe} {weights} {provenance.code()}"
        checkpoint.set_aside_other_run(folder, key, self.log)
        pace = PROFILES[self.profile]
        began = time.time()
        train.fit(
            method,
            data,
            folder,
            seed=self.seed,
            precision=pace.precision,
            # the gates of sets of three spectra were fixed with epochs of as many shots
            epoch_images=pace.epoch_images * data.train.paths.shape[1],
            key=key,
            log=silent,
        )
        checkpoint.clear(folder)  # a measurement is kept as its number: nobody resumes this training
        self.log(f"seed {self.seed}, {name}: trained in {time.time() - began:.0f} s")
        return method

    def in_order(self, domains):
        """The baseline trained on these domains in order; orders with the same first domains share the
        training on these."""
        method = self.method(Sequential, domains[0])
        pace = PROFILES[self.profile]
        began = time.time()
        lifelong.learn(
            method,
            domains,
            build_folder() / "gates" / f"orders-{self.profile}-{self.seed}",
            tests=untested,
            seed=self.seed,
            # without the name of an order: what two orders have in common is found by both
            key=f"{provenance.digest(self.recipe)} {loading.fingerprint('tiny')} {provenance.code()}",
            precision=pace.precision,
            # the gates of orders were fixed with epochs of as many images of each domain, not of one pass
            epoch_images=pace.epoch_images,
            log=silent,
        )
        names = " ".join(domain.manifest.name for domain in domains)
        self.log(f"seed {self.seed}, {names}: trained in {time.time() - began:.0f} s")
        return method

    def see(self):
        """Image-to-image retrieval on the market set: zero-shot, fine-tuned, by colour histograms, and by the
        attribute table."""
        data = self.data("world_market")
        untrained = self.method(clip_reid.Baseline, data)
        yield "zero-shot", summary(untrained, data)["mAP"]
        tuned = self.trained(clip_reid.Baseline, data, "see")
        yield "fine-tuned", summary(tuned, data)["mAP"]
        yield "colour histogram", oracles.by_feature(data, lambda rows: oracles.colours(data, rows))
        yield "attribute oracle", oracles.by_feature(data, lambda rows: oracles.attributes(data, rows))

    def read(self):
        """Text-to-image retrieval on the text set: the fine-tuned text baseline, and the caption oracle."""
        data = self.data("world_text")
        yield "text to image", summary(self.trained(TextBaseline, data, "read"), data)["R1"]
        first, agreeing = oracles.caption_oracle(self.seed, self.profile)  # (sentences,) each
        yield "caption oracle", 100 * first.mean()
        yield "identities per caption", float(np.median(agreeing))

    def by_night(self):
        """Image-to-image retrieval at night: by the visible spectrum, and by near infrared and thermal."""
        data = self.data("world_rgbnt201")
        dark = oracles.only_at_night(data)  # tests at night; training stays at all hours
        visible = self.trained(SpectraBaseline, data, "visible")
        yield "visible at night", summary(visible, dark)["mAP"]
        heat = self.trained(HeatBaseline, data, "NIR")
        yield "NIR + TIR at night", summary(heat, dark)["mAP"]

    def one_after_another(self):
        """The five seen domains: trained on alone, in order, and jointly; direct transfer and forgetting."""
        domains = {name: self.data(f"world_{name}") for name in "abcde"}
        matrix = {}  # trained on -> tested on -> mAP
        for name, data in domains.items():
            matrix[name] = scores_on(self.in_order([data]), domains)
        yield "fine-tuned on D", matrix["d"]["d"]
        transfer = []
        for trained, shown in itertools.permutations(domains, 2):
            transfer.append(matrix[trained][shown] / matrix[shown][shown])
        yield "direct transfer", 100 * float(np.mean(transfer))
        last = self.in_order(list(domains.values()))  # begins with what "a" alone has left
        joint = ReidData(join([data.manifest for data in domains.values()]))
        together = mean_score(self.trained(clip_reid.Baseline, joint, "together"), domains)
        yield "forgetting", float(together - mean_score(last, domains))

    def words(self):
        """Accuracy of zero-shot tiny CLIP in naming colours of garments: pairs that pretraining saw, and
        held-out ones."""
        data = self.data("world_market")
        return zip(NO_BAND, oracles.named_colours(self.method(clip_reid.VisualPath, data), data))


MEASURES = {  # what is measured together -> the data sets it needs
    "see": ("world_market",),
    "read": ("world_text",),
    "by_night": ("world_rgbnt201",),
    "one_after_another": tuple(f"world_{name}" for name in "abcde"),
    "words": ("world_market",),
}


def silent(text):
    """A log for trainings of which one line tells enough."""


def untested(method, number):
    """No records after a domain: these trainings are tested at their end alone."""
    return []


def summary(method, data):
    """The scores of a method's only task, in per cent."""
    (scores,) = evaluate.run_tests(method, data, number=1).values()
    return scores.summary()


def scores_on(method, domains):
    """{domain: mAP in per cent} of a method on several domains."""
    return {name: summary(method, data)["mAP"] for name, data in domains.items()}


def mean_score(method, domains):
    """mAP in per cent of a method, averaged over domains."""
    return np.mean(list(scores_on(method, domains).values()))


def measure(seeds=SHOWN, profile="laptop", only=None, log=print):
    """Measure what is missing or stale on these world seeds, and return all that is kept. Each of MEASURES is
    written as soon as it is done; `only` names some of them."""
    for seed in seeds:
        world = World(seed, profile, log)
        for name in only or MEASURES:
            key = f"{name} of seed {seed}"
            mark = fingerprint(world, name)
            before = kept(profile)["measured"].get(key, {})
            if before.get("fingerprint") != mark:
                with checkpoint.alone(build_folder() / "gates" / f"at {name}-{profile}-{seed}", "measures"):
                    made = made_with()  # before the training: others may commit meanwhile
                    told = {"fingerprint": mark, "seed": seed, "values": dict(getattr(world, name)())}
                    add(key, {**told, **basis(profile, name), **made}, profile)
    log(as_text(values(kept(profile), profile)))
    return kept(profile)


def add(key, measure_, profile):
    """Add one measurement to the file; other processes may measure other seeds."""
    with records.changing(place(profile)) as done:
        done.setdefault("measured", {})[key] = measure_


def fingerprint(world, name):
    """A hash of the data, weights and recipe that a measurement depends on."""
    parts = [world.data(one).manifest.fingerprint for one in MEASURES[name]]
    parts += basis(world.profile, name).values()  # watch out: hashed in the order of its keys
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:16]


def made_with():
    """Commit, date and version of torch of a measurement that begins now."""
    return {
        **provenance.of_code(),
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
    }


def place(profile):
    """The file of the measurements: the laptop's is committed."""
    if profile == "laptop":
        return BOOK.folder() / "gates.json"
    return build_folder() / f"gates-{profile}.json"


def kept(profile="laptop"):
    """{"measured": {key: measurement}} of a profile, as far as measured."""
    done = {"measured": {}, **records.read_object(place(profile))}
    if not all(isinstance(one, dict) and "values" in one for one in done["measured"].values()):
        raise ValueError(
            f"expected measurements in {place(profile)}, found other things; put back what git keeps of it, "
            "or move it away and measure again."
        )
    return done


def values(done, profile="laptop"):
    """{gate: {seed: value}} of the measurements in `done` that are not stale, without the development seed,
    on which the world was tuned."""
    found = {}
    for key, one in done["measured"].items():
        measured = key.partition(" of seed ")[0]
        stale = not basis(profile, measured).items() <= one.items()
        if stale or one["seed"] == DEVELOPMENT:
            continue
        for name, value in one["values"].items():
            found.setdefault(name, {})[one["seed"]] = value
    return found


def basis(profile, name):
    """What a measurement depends on besides its seed: it is stale once any of this changes."""
    recipe = clip_reid.RECIPE.at(PROFILES[profile])
    recipe = dataclasses.replace(recipe, **dict.fromkeys(NOT_READ))  # None: no value that a recipe takes
    return {
        "weights": loading.fingerprint("tiny"),
        "recipe": provenance.digest(recipe),
        "profile": provenance.pace_of(profile),
        "scenes": scenes(profile, MEASURES.get(name, ())),
    }


@functools.cache
def scenes(profile, names):
    """A hash of the renderer's VERSION, of what the data sets `names` show and of their sizes, but not of the
    seed. Computed on the smallest worlds: plans of large ones take too long for a page."""
    marks = []
    for name in names:
        card = build.planned(name, "smoke", 0, build.SIZE)[2]
        marks.append([card["fingerprint"], cast.sizes(name, profile)])
    text = json.dumps(marks)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def verdict(gate, told):
    """The verdict on `told` {seed: value}: "met" if every value lies in the band, else "MISSED"; "not
    measured" without values, "no band" without a band."""
    if not told:
        return "not measured"
    if gate.low == -np.inf:
        return "no band"
    inside = all(gate.low <= value <= gate.high for value in told.values())
    return "met" if inside else "MISSED"


def rows(found, limits):
    """[name, what it is, unit, band, values of the seeds, verdict] of every gate."""
    lines = []
    for name, gate in limits.items():
        told = dict(sorted(found.get(name, {}).items()))  # in the order of seeds
        numbers = " · ".join(f"{value:.1f}" for value in told.values())
        lines.append([name, gate.says, gate.unit, band_of(gate), numbers, verdict(gate, told)])
    return lines


def band_of(gate):
    """The band in words; "" for none."""
    if gate.low == -np.inf:
        return ""
    return f"{gate.low:g} to {gate.high:g}".replace("to inf", "or more")


def as_text(found):
    """One line per gate."""
    lines = []
    for name, _, unit, band, numbers, end in rows(found, {**GATES, **NO_BAND}):
        lines.append(f"{name:24}{band:>10}  {numbers:24} {unit}: {end}")
    return "\n".join(lines)


def as_table(found, limits=GATES):
    """The same as a table for a page."""
    headings = ["gate", "what it is", "unit", "band", "one value per world seed", "verdict"]
    return tables.table(headings, rows(found, limits), finding(found, limits))


def finding(found, limits=GATES):
    """A sentence for a caption: how many gates are met, and which are missed or not measured."""
    seeds = set().union(*found.values())
    by_verdict = {"met": [], "MISSED": [], "not measured": [], "no band": []}  # verdict -> gates
    for name, gate in limits.items():
        told = found.get(name, {})
        end = verdict(gate, told)
        if seeds - set(told):  # met on some seeds is not met
            end = "not measured"
        by_verdict[end].append(name)
    met = len(by_verdict["met"])
    said = f"Measured on {len(seeds)} world seeds"
    if met:
        said = f"{met} of {len(limits)} gates are met on all of {len(seeds)} world seeds"
    for word in ("MISSED", "not measured"):
        if by_verdict[word]:
            said += f"; {word.lower()}: {', '.join(by_verdict[word])}"
    return said


def require(profile="laptop"):
    """ValueError unless every gate is met on every seed that is shown: no run enters the book before."""
    found = values(kept(profile), profile)
    open_ = []
    for name, gate in GATES.items():
        told = found.get(name, {})
        if set(SHOWN) - set(told) or verdict(gate, told) != "met":
            open_.append(name)
    if open_:
        raise ValueError(
            f"expected all gates of the world met on the seeds {', '.join(map(str, SHOWN))} before a run is "
            f"kept, found open: {', '.join(open_)}; run python -m reid_core gates, or leave --into-book out."
        )
