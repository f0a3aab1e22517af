"""The gates of the synthetic world: is it hard enough, and solvable? Numbers of baselines and oracles, each
with a band that it must lie in.

    python -m reid_core gates

No run is committed before all gates are met (`require`). The bands were fixed before anything was measured;
the world was tuned on the development seed, and what is shown comes from other seeds.
"""

import datetime
import functools
import hashlib
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
from reid_core.runs import provenance
from reid_core.runs.run import BOOK

DEVELOPMENT, SHOWN = 1000, (0, 1, 2)


class Gate(NamedTuple):
    """The band in which a number must lie, its unit, and what it is."""

    low: float
    high: float
    unit: str
    says: str


GATES = {
    "zero-shot": Gate(15, 40, "mAP", "tiny CLIP, as it comes, searching images with images"),
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
        self.seed, self.profile, self.log = seed, profile, log
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
        began, key = (
            time.time(),
            (name, data.manifest.fingerprint, provenance.digest(self.recipe), loading.fingerprint("tiny")),
        )
        pace = PROFILES[self.profile]
        train.fit(
            method,
            data,
            folder,
            seed=self.seed,
            precision=pace.precision,
            epoch_images=pace.epoch_images,
            key=" ".join(key),
            log=lambda text: None,
        )
        checkpoint.clear(folder)
        self.log(f"seed {self.seed}, {name}: trained in {time.time() - began:.0f} s")
        return method

    def in_order(self, domains):
        """The baseline trained on these domains in order; orders with the same first domains share the
        training on these."""
        method, pace = self.method(Sequential, domains[0]), PROFILES[self.profile]
        began = time.time()
        lifelong.learn(
            method,
            domains,
            build_folder() / "gates" / f"orders-{self.profile}-{self.seed}",
            tests=lambda method, number: [],
            seed=self.seed,
            key=f"{provenance.digest(self.recipe)} {loading.fingerprint('tiny')} {provenance.code()}",
            precision=pace.precision,
            epoch_images=pace.epoch_images,
            log=lambda text: None,
        )
        names = " ".join(domain.manifest.name for domain in domains)
        self.log(f"seed {self.seed}, {names}: trained in {time.time() - began:.0f} s")
        return method

    def see(self):
        """Image-to-image retrieval on the market set: zero-shot, fine-tuned, by colour histograms, and by the
        attribute table."""
        data = self.data("world_market")
        yield "zero-shot", summary(self.method(clip_reid.Baseline, data), data)["mAP"]
        yield "fine-tuned", summary(self.trained(clip_reid.Baseline, data, "see"), data)["mAP"]
        yield "colour histogram", oracles.by_feature(data, lambda rows: oracles.colours(data, rows))
        yield "attribute oracle", oracles.by_feature(data, lambda rows: oracles.attributes(data, rows))

    def read(self):
        """Text-to-image retrieval on the text set: the fine-tuned text baseline, and the caption oracle."""
        data = self.data("world_text")
        yield "text to image", summary(self.trained(TextBaseline, data, "read"), data)["R1"]
        first, agreeing = oracles.caption_oracle(self.seed, self.profile)
        yield "caption oracle", 100 * first.mean()
        yield "identities per caption", float(np.median(agreeing))

    def by_night(self):
        """Image-to-image retrieval at night: by the visible spectrum, and by near infrared and thermal."""
        data = self.data("world_rgbnt201")
        dark = oracles.only_at_night(data)
        for name, Kind in (("visible at night", SpectraBaseline), ("NIR + TIR at night", HeatBaseline)):
            yield name, summary(self.trained(Kind, data, name.split()[0]), dark)["mAP"]

    def one_after_another(self):
        """The five seen domains: trained on alone, in order, and jointly; direct transfer and forgetting."""
        domains = {name: self.data(f"world_{name}") for name in "abcde"}
        alone = {name: self.in_order([data]) for name, data in domains.items()}
        matrix = {name: scores_on(method, domains) for name, method in alone.items()}
        yield "fine-tuned on D", matrix["d"]["d"]
        transfer = [matrix[a][b] / matrix[b][b] for a in domains for b in domains if a != b]
        yield "direct transfer", 100 * float(np.mean(transfer))
        last = self.in_order(list(domains.values()))  # begins with what "a" alone has left
        joint = ReidData(join([data.manifest for data in domains.values()]))
        together = scores_on(self.trained(clip_reid.Baseline, joint, "together"), domains)
        yield (
            "forgetting",
            float(np.mean(list(together.values())) - np.mean(list(scores_on(last, domains).values()))),
        )

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


def summary(method, data):
    """The scores of a method's only task, in per cent."""
    return next(iter(evaluate.run_tests(method, data, number=1).values())).summary()


def scores_on(method, domains):
    """{domain: mAP in per cent} of a method on several domains."""
    return {name: summary(method, data)["mAP"] for name, data in domains.items()}


def measure(seeds=SHOWN, profile="laptop", only=None, log=print):
    """Measure what is missing or stale on these world seeds, and return all that is kept. Each of MEASURES is
    written as soon as it is done; `only` names some of them."""
    for seed in seeds:
        world = World(seed, profile, log)
        for name in only or MEASURES:
            key, mark = f"{name} of seed {seed}", fingerprint(world, name)
            if kept(profile)["measured"].get(key, {}).get("fingerprint") != mark:
                told = {"fingerprint": mark, "seed": seed, "values": dict(getattr(world, name)())}
                add(key, {**told, **basis(profile, name), **made_with()}, profile)
    log(as_text(values(kept(profile), profile)))
    return kept(profile)


def add(key, measure_, profile):
    """Add one measurement to the file, which is read again first: other processes may measure other seeds."""
    done = kept(profile)
    done["measured"][key] = measure_
    write(done, profile)


def fingerprint(world, name):
    """A hash of the data, weights and recipe that a measurement depends on."""
    parts = [world.data(one).manifest.fingerprint for one in MEASURES[name]]
    parts += basis(world.profile, name).values()
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:16]


def made_with():
    """Commit, date and version of torch of a measurement made now."""
    return {
        "commit": provenance.git("rev-parse", "HEAD"),
        "clean": provenance.clean_tree(),
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
    }


def place(profile):
    """The file of the measurements: the laptop's is committed."""
    return BOOK.folder() / "gates.json" if profile == "laptop" else build_folder() / f"gates-{profile}.json"


def kept(profile="laptop"):
    """{"measured": {key: measurement}} of a profile, as far as measured."""
    path = place(profile)
    return json.loads(path.read_text()) if path.exists() else {"measured": {}}


def write(done, profile):
    place(profile).parent.mkdir(parents=True, exist_ok=True)
    checkpoint.write(place(profile), (json.dumps(done, indent=1) + "\n").encode())


def values(done, profile="laptop"):
    """{gate: {seed: value}} of the measurements in `done` that are not stale, without the development seed,
    on which the world was tuned."""
    found = {}
    for key, one in done["measured"].items():
        if (
            one["seed"] != DEVELOPMENT
            and basis(profile, key.partition(" of seed ")[0]).items() <= one.items()
        ):
            for name, value in one["values"].items():
                found.setdefault(name, {})[one["seed"]] = value
    return found


def basis(profile, name):
    """What a measurement depends on besides its seed: it is stale once any of this changes."""
    recipe = clip_reid.RECIPE.at(PROFILES[profile]).but(**dict.fromkeys(NOT_READ))
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
    marks = [build.planned(name, "smoke", 0, build.SIZE)[2]["fingerprint"] for name in names]
    return hashlib.sha256(json.dumps([marks, cast.SIZES[profile]]).encode()).hexdigest()[:16]


def verdict(gate, told):
    """The verdict on `told` {seed: value}: "met" if every value lies in the band, else "MISSED"; "not
    measured" without values, "no band" without a band."""
    if not told:
        return "not measured"
    if gate.low == -np.inf:
        return "no band"
    return "met" if all(gate.low <= value <= gate.high for value in told.values()) else "MISSED"


def rows(found, limits):
    """[name, what it is, unit, band, values of the seeds, verdict] of every gate."""
    lines = []
    for name, gate in limits.items():
        told = dict(sorted(found.get(name, {}).items()))
        band = "" if gate.low == -np.inf else f"{gate.low:g} to {gate.high:g}".replace("to inf", "or more")
        numbers = " · ".join(f"{value:.1f}" for value in told.values())
        lines.append([name, gate.says, gate.unit, band, numbers, verdict(gate, told)])
    return lines


def as_text(found):
    """One line per gate."""
    lines = [
        f"{name:24}{band:>10}  {numbers:24} {unit}: {end}"
        for name, _, unit, band, numbers, end in rows(found, {**GATES, **NO_BAND})
    ]
    return "\n".join(lines)


def as_table(found, limits=GATES):
    """The same as a table for a page."""
    headings = ["gate", "what it is", "unit", "band", "one value per world seed", "verdict"]
    return tables.table(headings, rows(found, limits), finding(found, limits))


def finding(found, limits=GATES):
    """A sentence for a caption: how many gates are met, and which are missed or not measured."""
    seeds = {seed for told in found.values() for seed in told}
    ends = {name: verdict(gate, found.get(name, {})) for name, gate in limits.items()}
    ends |= {name: "not measured" for name in limits if seeds - set(found.get(name, {}))}
    open_ = {word: [name for name, end in ends.items() if end == word] for word in ("MISSED", "not measured")}
    kept_ = sum(end == "met" for end in ends.values())
    told = (
        f"{kept_} of {len(ends)} gates are met on all of {len(seeds)} world seeds"
        if kept_
        else f"Measured on {len(seeds)} world seeds"
    )
    return told + "".join(f"; {word.lower()}: {', '.join(names)}" for word, names in open_.items() if names)


def require(profile="laptop"):
    """ValueError unless every gate is met on every seed that is shown: no run enters the book before."""
    found = values(kept(profile), profile)
    open_ = [
        name
        for name in GATES
        if set(SHOWN) - set(found.get(name, {})) or verdict(GATES[name], found[name]) != "met"
    ]
    if open_:
        raise ValueError(
            f"expected all gates of the world met on the seeds {', '.join(map(str, SHOWN))} before a run is "
            f"kept, found open: {', '.join(open_)}; run python -m reid_core gates, or leave --into-book out."
        )
