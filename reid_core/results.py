"""One JSON per run with its provenance.

A run is identified by its Spec and lies at results/<method>/<variant>/<row>/<data>-<profile>-s<seed>.json.
"""

import ast
import dataclasses
import datetime
import functools
import hashlib
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from reid_core import checkpoint, evaluate, train, weights
from reid_core.data import ROOT, build_folder, fingerprint_of, load_data
from reid_core.methods import METHODS, base
from reid_core.recipe import profile_called

FORMAT = 1
ROUNDING = 1e-4  # by how much two processors may differ in a number of a probe: a hundred times what was seen
FLOOR = 1e-3  # below this a number of a probe is compared as if it were this large
ALSO_ON = {  # data -> what a model trained on it is also tested on, without having seen it
    "world_market": "world_msmt", "world_msmt": "world_market", "market1501": "msmt17", "msmt17": "market1501",
}  # fmt: skip
STANDS_FOR = {
    "world_market": "market1501",
    "world_msmt": "msmt17",
}  # data of the world -> whose printed rows stand beside it
CALLED = {"world_market": "world domain A", "world_msmt": "world domain D", "market1501": "Market-1501", "msmt17": "MSMT17",
          "dukemtmc": "DukeMTMC", "cuhk03np": "CUHK03-NP, labelled"}  # fmt: skip


def called(data):
    """A data set as captions name it."""
    name, _, seed = data.partition("#")
    return CALLED.get(name, name) + (f", world seed {seed}" if seed else "")


def stands_for(data):
    """The data set whose printed numbers stand beside those of this one."""
    return STANDS_FOR.get(data.partition("#")[0], data)


def partner(data):
    """The data set that a model trained on this one is also tested on, of the same world; None where there is none."""
    name, _, seed = data.partition("#")
    other = ALSO_ON.get(name)
    return f"{other}#{seed}" if other and seed else other


def folder(committed=True):
    """Where runs lie: those of the book in results/, those of a reader's own in the build folder."""
    return ROOT / "results" if committed else build_folder() / "results"


class Spec(NamedTuple):
    """What is measured. A row is a key of the paper's ABLATIONS, possibly with changes: "full + stage2_epochs=2"."""

    method: str
    variant: str
    row: str = "full"
    data: str = "world_market"
    profile: str = "laptop"
    seed: int = 0

    @property
    def same(self):
        """The spec under which this one is measured: rows with the same settings are one run, named by the first."""
        row, *changes = self.row.split(" + ")
        rows = METHODS[self.method].ABLATIONS
        recipes = {name: METHODS[self.method].RECIPE.but(**rows[name]) for name in rows}
        first = next(name for name in rows if recipes[name] == recipes[row])
        return self._replace(row=" + ".join([first, *changes]))

    @property
    def name(self):
        place = "/".join(map(slug, (self.method, self.variant, self.row)))
        return f"{place}/{slug(self.data)}-{self.profile}-s{self.seed}"

    def check(self):
        """Raise for a name that nobody knows."""
        profile_called(self.profile)
        known(METHODS, self.method, "method")
        module = METHODS[self.method]
        known(module.VARIANTS, self.variant, f"variant of {self.method}")
        known(module.ABLATIONS, self.row.split(" + ")[0], f"row of {self.method}")
        own = profile_called(self.profile).backbone
        if own and "backbone" in module.ABLATIONS[self.row.split(" + ")[0]]:
            raise ValueError(f"expected the profile paper for the row {self.row!r}, which is about another tower, found "
                             f"{self.profile}, which has its own ({own}); choose paper or another row.")  # fmt: skip
        return self

    def recipe(self):
        """The recipe of this row in this profile; changes after " + " have the last word."""
        module, (row, *changes) = METHODS[self.method], self.row.split(" + ")
        recipe = module.RECIPE.but(**module.ABLATIONS[row]).at(profile_called(self.profile))
        return recipe.but(**dict(literal(change) for change in changes))


def known(names, name, what):
    if name not in names:
        raise ValueError(f"expected a {what} among {', '.join(names)}, found {name!r}; correct the name.")


def literal(change):
    """ "name=value" -> (name, value), the value as Python would read it, or a string."""
    name, _, text = change.partition("=")
    try:
        return name, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return name, text


def slug(text):
    return re.sub(r"[^a-z0-9_]+", "-", str(text).lower()).strip("-")


@dataclass(frozen=True)
class Run:
    """Everything that is kept of a run. `scores` is {task: {"summary", "ap", "first", "pids", "skipped", "protocol"}}, AP in
    0..1."""

    spec: Spec
    data: dict  # name, label, fingerprint, seed, counts
    recipe: dict  # every field as used
    changes: dict  # the fields that differ from what is printed
    scores: dict
    history: list
    cost: dict  # minutes, images per second, peak memory, parameters
    provenance: dict  # commit, clean, versions, machine, weights, precision
    fingerprint: dict = field(default_factory=dict)  # hashes, and what `train.probe` found

    def write(self, committed=True):
        """Save under the spec's name, whole or not at all, as the very last act of a run."""
        path = self.path(committed)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {"format": FORMAT, **dataclasses.asdict(self), "spec": self.spec._asdict()}, indent=1
        )
        checkpoint.write(path, text.encode())
        return self

    def path(self, committed=True):
        return folder(committed) / f"{self.spec.name}.json"

    @classmethod
    def read(cls, path):
        return cls.parse(Path(path).read_bytes(), path)

    @classmethod
    def parse(cls, data, where):
        """The run that bytes of JSON tell of; one sentence with the place where they stand, if they tell of none."""
        try:
            kept = json.loads(data)
            kept.pop("format")
            return cls(**{**kept, "spec": Spec(**kept["spec"])})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"expected a run at {where}, found a file that tells of none ({type(error).__name__}: {error}); remove it "
                             f"and measure again.") from error  # fmt: skip

    def protocol(self, task=None):
        """What was ranked against what in one way of searching, in words; "" in runs that did not say it yet."""
        return self.scores[task or next(iter(self.scores))].get("protocol", "")

    def score(self, metric="mAP", task=None):
        """A summary number in per cent."""
        return self.scores[task or next(iter(self.scores))]["summary"][metric]


def build(spec, data=None):
    """(method, data) of a spec, on the CPU, before training."""
    recipe = spec.check().recipe()
    data = data or load_data(spec.data, spec.profile)
    train.seed_all(spec.seed)
    return METHODS[spec.method].VARIANTS[spec.variant](recipe, data), data


def measure(spec, *, committed=False, device=None, checkpoint_every=None, deterministic=False, log=print):
    """Train, test and write: the one way a number comes into the book. An interrupted run is taken up. The full row is tested
    in every way of searching, other rows in the method's first."""
    spec = spec.check().same
    profile, place = profile_called(spec.profile), build_folder() / "runs" / spec.name
    began = time.time()
    method, data = build(spec)
    evaluate.able(method, data)  # rather now than after hours of training
    checkpoint.put_aside(place, key := run_key(spec, method, data), log)
    with checkpoint.alone(place, "trains"):
        history = train.fit(
            method, data, place, seed=spec.seed, precision=profile.precision, device=device, fine=profile.fine,
            epoch_images=profile.epoch_images, checkpoint_every=checkpoint_every, deterministic=deterministic, key=key, log=log,
        )  # fmt: skip
        scores = tested(method, data, ways=ways_of(spec)) | elsewhere(method, spec, log)
        cost = what_it_cost(method, history, time.time() - began)
        run = Run(
            spec, describe(data), plain(dataclasses.asdict(method.recipe)), plain(method.recipe.changes()), scores, history,
            cost, provenance(method, profile.precision), fingerprint(spec) if committed else {},
        ).write(committed)  # fmt: skip
        checkpoint.clear(place)
    return run


def ways_of(spec):
    """How many ways of searching a row is tested in (None: all)."""
    return None if spec.row.split(" + ")[0] == "full" else 1


def tested(method, data, suffix="", ways=None):
    """{task: what is kept of its Scores} of the first `ways` ways of searching."""
    found = evaluate.test(method, data, ways=ways)
    return {task + suffix: keep(one) for task, one in found.items()}


def elsewhere(method, spec, log=print):
    """The first way on data that training did not see, where there is any: " on world_msmt" follows the task's name."""
    other = partner(spec.data)
    if not other or spec.profile == "smoke":
        return {}
    try:
        data = load_data(other, spec.profile)
    except ValueError as missing:
        log(f"not tested on {other}: {missing}")
        return {}
    return tested(method, data.abroad(), f" on {other.partition('#')[0]}", ways=1)


def keep(scores):
    """What of Scores goes into a run: enough to compute any interval again."""
    return {"summary": scores.summary(), "ap": np.round(scores.ap, 5).tolist(), "first": scores.first.tolist(),
            "pids": scores.pids.tolist(), "skipped": scores.skipped, "protocol": scores.protocol}  # fmt: skip


def run_key(spec, method, data):
    parts = (
        digest(method.recipe),
        data.manifest.fingerprint,
        weights.fingerprint(method.recipe.pretrained),
        pace_of(spec.profile),
    )
    return " ".join((spec.name, *parts))


def digest(recipe, names=None):
    """A hash of the values of a recipe's fields, or of those among `names`."""
    values = dataclasses.asdict(recipe)
    return digest_of({name: values[name] for name in values if names is None or name in names})


def digest_of(values):
    text = json.dumps(plain(values), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(value):
    """Tuples as lists: what JSON will give back."""
    return json.loads(json.dumps(value))


def fingerprint(spec):
    """What makes a committed run stale when it changes: recipe, data, weights, and what the code of this row computes on the
    smallest world at its initial weights."""
    recipe = spec.recipe()
    hashes = {"recipe": digest(recipe), "data": fingerprint_of(spec.data, spec.profile), "profile": pace_of(spec.profile),
              "weights": weights.fingerprint(recipe.pretrained)}  # fmt: skip
    return {**hashes, "probe": probe(spec._replace(data="world_market", seed=0))}


def pace_of(profile):
    """What of a profile a training sees and no recipe tells: a hash."""
    told = profile_called(profile)
    return digest_of({"fine": told.fine, "precision": told.precision, "epoch_images": told.epoch_images})


@functools.cache
def probe(spec):
    """`train.probe` of a row, which no data set and no seed changes: once for all runs of the row."""
    return train.probe(build(spec, load_data("world_market", "smoke"))[0])


def outdated(run):
    """What of `stale` can be told at a glance, for a page: a sentence, or "". Files of weights and of pictures that are not the
    project's own need not be at hand."""
    recipe, known = run.spec.recipe(), {}
    if run.recipe.get("pretrained") in weights.OWN:
        known["weights"] = weights.fingerprint(recipe.pretrained) == run.provenance.get("weights")
    if run.data["label"] == "world" and "fingerprint" in run.data:
        known["data"] = fingerprint_of(run.spec.data, run.spec.profile) == run.data["fingerprint"]
    known["recipe"] = digest(recipe, run.recipe) == digest_of(run.recipe)
    known["profile"] = run.fingerprint.get("profile", pace_of(run.spec.profile)) == pace_of(run.spec.profile)
    return next((f"its {name} changed" for name, same in known.items() if not same), "")


def stale(run):
    """Why a run no longer says what the code says: a sentence, or "" if it still does. Of a field of training
    that the recipe has got since then, the losses tell whether its default is what was done before."""
    now = fingerprint(run.spec) | {"recipe": digest(run.spec.recipe(), run.recipe)}
    for name in ("recipe", "data", "weights", "profile"):
        if now[name] != run.fingerprint.get(name):
            return f"its {name} changed"
    return changed(run.fingerprint.get("probe", {}), now["probe"])


def changed(before, now):
    """What of a probe is not what it was: the worst as a sentence, or ""."""
    if set(before) != set(now):
        name = sorted(set(before) ^ set(now))[0]
        return f"its code now computes other quantities ({name})"
    off = {name: abs(now[name] - old) / max(abs(old), FLOOR) for name, old in before.items()}
    worst = max(off, key=off.get)
    return f"its {worst} differs by {off[worst]:.1e}" if off[worst] > ROUNDING else ""


def describe(data):
    m = data.manifest
    return {
        "name": m.name,
        "label": m.label,
        "fingerprint": m.fingerprint,
        "seed": m.seed,
        "counts": m.counts(),
        "notes": list(m.notes),
    }


def what_it_cost(method, history, seconds):
    """`seconds` are those of everything that a run waits for; an image counts where a tower that is trained looks at it."""
    looking = [h for h in history if h["images"]]
    images, busy = (sum(h[key] for h in looking) for key in ("images", "seconds"))
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))  # fmt: skip
    training = sum(h["seconds"] for h in history)
    return {"minutes": round(seconds / 60, 2), "training minutes": round(training / 60, 2),
            "images per second": round(images / max(busy, 1e-9), 1), "peak memory MB": round(peak / 1e6),
            "trained parameters": base.learnable(method)}  # fmt: skip


def pace(history):
    """What a training takes when nothing else runs: {"training minutes", "images per second"}. Of each stage the first epoch
    counts, which also computes what the stage keeps, and the median of the others in the place of each. An image counts
    where a tower that is trained looks at it."""
    stages = {
        stage: [h for h in history if h["stage"] == stage]
        for stage in dict.fromkeys(h["stage"] for h in history)
    }
    seconds = [epochs[0]["seconds"] + (len(epochs) - 1) * typical(epochs[1:]) for epochs in stages.values()]
    looking = [h for h in history if h["images"]]
    images, busy = sum(h["images"] for h in looking), len(looking) * typical(looking)
    return {"training minutes": sum(seconds) / 60, "images per second": images / max(busy, 1e-9)}


def typical(epochs):
    return float(np.median([h["seconds"] for h in epochs])) if epochs else 0.0


def provenance(method, precision):
    """Where, when and from what this run was made."""
    device = next(method.parameters()).device
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()}, {os.cpu_count()} cores"
    )
    return {
        "commit": git("rev-parse", "HEAD"), "clean": clean_tree(), "torch": torch.__version__,
        "python": platform.python_version(), "device": name, "date": datetime.date.today().isoformat(),
        "weights": weights.fingerprint(method.recipe.pretrained), "precision": train.usable(precision, device),
    }  # fmt: skip


def clean_tree():
    """Whether nothing but results differs from the commit."""
    return git("status", "--porcelain", "--", ".", ":!results") == ""


def git(*command):
    try:
        return subprocess.run(
            ["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def code_between(one, other):
    """Names of the files of code and weights in which two commits differ, or "unknown"."""
    return git("diff", "--name-only", one, other, "--", "reid_core", "data_prep")


def is_ancestor(commit):
    """Whether this commit is that one, or came after it."""
    return git("merge-base", "--is-ancestor", commit, "HEAD") == ""


def load(committed=True, **wanted):
    """Every run whose spec has the values that are named, in order of path."""
    runs = (Run.read(path) for path in sorted(folder(committed).glob("*/*/*/*.json")))
    return [run for run in runs if all(getattr(run.spec, name) == value for name, value in wanted.items())]


def find(spec, committed=True):
    """The run of a spec, or None: "not run". committed=False: a reader's own, or else the book's."""
    return next((run for place in places(committed) if (run := at(spec, place))), None)


def places(committed):
    """Where `find` looks, in order: values of `committed`."""
    return [True] if committed else [False, True]


def at(spec, committed):
    """The run of a spec in one of the two folders, or None."""
    path = folder(committed) / f"{spec.same.name}.json"
    return Run.read(path) if path.exists() else None


ON_GPU = ", on a GPU"


def bench(name, gpu=False):
    """What `python -m reid_core bench --keep` measured under this name, or None."""
    path = folder() / "bench.json"
    return json.loads(path.read_text()).get(name + ON_GPU * gpu) if path.exists() else None


def keep_bench(name, told):
    """Add one measurement to results/bench.json, with its machine, commit and date; that of a GPU stands beside that of a CPU."""
    name += ON_GPU if torch.cuda.is_available() else ""
    path = folder() / "bench.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    here = {"device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()}, {os.cpu_count()} cores",
            "commit": git("rev-parse", "HEAD"), "date": datetime.date.today().isoformat(), "torch": torch.__version__}  # fmt: skip
    checkpoint.write(path, (json.dumps({**before, name: {**told, **here}}, indent=1) + "\n").encode())
