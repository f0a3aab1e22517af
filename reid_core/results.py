"""One JSON per run with its provenance; intervals over identities and seeds; the papers' numbers beside ours.

A run is identified by its Spec and lies at results/<method>/<variant>/<row>/<data>-<profile>-s<seed>.json.
"""

import dataclasses
import datetime
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
import pandas as pd
import torch

from reid_core import checkpoint, evaluate, train, weights
from reid_core.data import ROOT, load_data
from reid_core.methods import METHODS
from reid_core.recipe import profile_called

FORMAT = 1


def folder():
    """Where runs are committed: $REID_RESULTS, or results/ in the project."""
    return Path(os.environ.get("REID_RESULTS", ROOT / "results"))


class Spec(NamedTuple):
    """What is measured."""

    method: str
    variant: str
    row: str = "full"
    data: str = "world_market"
    profile: str = "laptop"
    seed: int = 0

    @property
    def name(self):
        place = "/".join(map(slug, (self.method, self.variant, self.row)))
        return f"{place}/{slug(self.data)}-{self.profile}-s{self.seed}"

    @property
    def path(self):
        return folder() / f"{self.name}.json"

    def check(self):
        """Raise for a name that nobody knows."""
        profile_called(self.profile)
        known(METHODS, self.method, "method")
        module = METHODS[self.method]
        known(module.VARIANTS, self.variant, f"variant of {self.method}")
        known(module.ABLATIONS, self.row, f"row of {self.method}")
        return self


def known(names, name, what):
    if name not in names:
        raise ValueError(f"expected a {what} among {', '.join(names)}, found {name!r}; correct the name.")


def slug(text):
    return re.sub(r"[^a-z0-9_]+", "-", str(text).lower()).strip("-")


@dataclass(frozen=True)
class Run:
    """Everything that is kept of a run. `scores` is {task: {"summary", "ap", "pids", "skipped"}}, AP in 0..1."""

    spec: Spec
    data: dict  # name, label, fingerprint, seed, counts
    recipe: dict  # every field as used
    changes: dict  # the fields that differ from what is printed
    scores: dict
    history: list
    cost: dict  # minutes, images per second, peak memory, parameters
    provenance: dict  # commit, clean, versions, machine, weights
    fingerprint: dict = field(default_factory=dict)  # hashes, and the losses of ten fixed steps

    def write(self):
        """Save under the spec's path, whole or not at all, as the very last act of a run."""
        self.spec.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(self), "spec": self.spec._asdict()}, indent=1)
        checkpoint.write(self.spec.path, text.encode())
        return self

    @classmethod
    def read(cls, path):
        kept = json.loads(Path(path).read_text())
        kept.pop("format")
        return cls(**{**kept, "spec": Spec(**kept["spec"])})

    def score(self, metric="mAP", task=None):
        """A summary number in per cent."""
        return self.scores[task or next(iter(self.scores))]["summary"][metric]


def build(spec):
    """(method, data) of a spec, on the CPU, before training."""
    profile, module = profile_called(spec.profile), METHODS[spec.method]
    recipe = module.RECIPE.but(**module.ABLATIONS[spec.row]).at(profile)
    data = load_data(spec.data, spec.profile)
    train.seed_all(spec.seed)
    return module.VARIANTS[spec.variant](recipe, data), data


def measure(spec, *, device=None, checkpoint_every=None, deterministic=False, log=print):
    """Train, test and write: the one way a number comes into the book. An interrupted run is taken up."""
    profile = profile_called(spec.check().profile)
    began = time.time()
    method, data = build(spec)
    history = train.fit(
        method, data, ROOT / "build" / "runs" / spec.name, seed=spec.seed, precision=profile.precision, device=device,
        fine=profile.fine, checkpoint_every=checkpoint_every, deterministic=deterministic,
        key=run_key(spec, method, data), log=log,
    )  # fmt: skip
    found = evaluate.test(method, data)
    scores = {task: keep(one, data.query.pids) for task, one in found.items()}
    cost = what_it_cost(method, history, time.time() - began)
    return Run(
        spec, describe(data), plain(dataclasses.asdict(method.recipe)), plain(method.recipe.changes()), scores, history,
        cost, provenance(method), {"data": data.manifest.fingerprint, "recipe": digest(method.recipe)},
    ).write()  # fmt: skip


def keep(scores, pids):
    """What of Scores goes into a run: enough to compute any interval again."""
    return {"summary": scores.summary(), "ap": np.round(scores.ap, 5).tolist(), "first": scores.first.tolist(),
            "pids": np.asarray(pids)[scores.valid].tolist(), "skipped": scores.skipped}  # fmt: skip


def run_key(spec, method, data):
    return f"{spec.name} {digest(method.recipe)} {data.manifest.fingerprint}"


def digest(value):
    text = json.dumps(plain(dataclasses.asdict(value)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(value):
    """Tuples as lists: what JSON will give back."""
    return json.loads(json.dumps(value))


def describe(data):
    m = data.manifest
    return {"name": m.name, "label": m.label, "fingerprint": m.fingerprint, "seed": m.seed, "counts": m.counts()}


def what_it_cost(method, history, seconds):
    images, busy = sum(h["images"] for h in history), sum(h["seconds"] for h in history)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))  # fmt: skip
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    return {"minutes": round(seconds / 60, 2), "images per second": round(images / max(busy, 1e-9), 1),
            "peak memory MB": round(peak / 1e6), "trained parameters": trained}  # fmt: skip


def provenance(method):
    """Where, when and from what this run was made."""
    device = next(method.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    return {
        "commit": git("rev-parse", "HEAD"), "clean": git("status", "--porcelain") == "", "torch": torch.__version__,
        "python": platform.python_version(), "device": name, "date": datetime.date.today().isoformat(),
        "weights": weights.fingerprint(method.recipe.pretrained),
    }  # fmt: skip


def git(*command):
    try:
        return subprocess.run(["git", "-C", str(ROOT), *command], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def load(method=None, variant=None, row=None, data=None, profile=None):
    """Every committed run that matches what is named, in order of path."""
    wanted = {"method": method, "variant": variant, "row": row, "data": data, "profile": profile}
    runs = (Run.read(path) for path in sorted(folder().glob("*/*/*/*.json")))
    return [run for run in runs if all(value in (None, getattr(run.spec, name)) for name, value in wanted.items())]


class Interval(NamedTuple):
    """In per cent (of average precision) or points (of a difference); 95 % of the bootstrap lies between."""

    mean: float
    low: float
    high: float

    @property
    def half(self):
        return (self.high - self.low) / 2


def interval(runs, task=None, draws=2000):
    """Mean AP of runs that differ in their seed; identities and seeds are resampled together."""
    table = by_identity(runs, task)
    means = resampled(table, np.random.default_rng(0), draws)
    return Interval(100 * overall(table), *100 * np.quantile(means, (0.025, 0.975)))


def paired(runs, others, task=None, draws=2000):
    """Mean AP of `runs` minus that of `others`, pair by pair of seeds, on the same resampled identities."""
    seeds = {run.spec.seed: run for run in others}
    both = [(run, seeds[run.spec.seed]) for run in runs if run.spec.seed in seeds]
    if not both:
        raise ValueError("expected runs that share seeds, found none; measure both with the same seeds.")
    one, two = (by_identity(side, task) for side in zip(*both))
    rng = np.random.default_rng(0)
    picks = [choose(one, rng) for _ in range(draws)]
    differences = [overall(one, *pick) - overall(two, *pick) for pick in picks]
    return Interval(100 * (overall(one) - overall(two)), *100 * np.quantile(differences, (0.025, 0.975)))


class ByIdentity(NamedTuple):
    sums: np.ndarray  # (seeds, identities), AP summed over the identity's queries
    counts: np.ndarray  # (identities,)


def by_identity(runs, task=None):
    """AP of each seed's queries, gathered by identity: images of one person are not independent."""
    tables = []
    for run in runs:
        scores = run.scores[task or next(iter(run.scores))]
        pids, place = np.unique(scores["pids"], return_inverse=True)
        tables.append((pids, np.bincount(place, scores["ap"]), np.bincount(place)))
    if any(not np.array_equal(tables[0][0], t[0]) or not np.array_equal(tables[0][2], t[2]) for t in tables):
        raise ValueError("expected runs on the same queries, found different ones; compare runs of one data set.")
    return ByIdentity(np.stack([t[1] for t in tables]), tables[0][2])


def overall(table, seeds=slice(None), identities=slice(None)):
    return table.sums[seeds][:, identities].sum(1).mean() / table.counts[identities].sum()


def choose(table, rng):
    seeds, identities = table.sums.shape
    return rng.integers(seeds, size=seeds), rng.integers(identities, size=identities)


def resampled(table, rng, draws):
    return np.array([overall(table, *choose(table, rng)) for _ in range(draws)])


def detectable(runs, task=None, draws=2000):
    """The smallest difference of mean AP, in points, that a paired comparison of so many seeds would show.

    Two runs of the *same* method differ by chance alone: the spread of their paired difference over seeds and
    identities, times 2.8 (two-sided 5 %, power 80 %), scaled from one seed each to the number of seeds there are.
    """
    if len(runs) < 2:
        return float("nan")
    spreads = [np.ptp(paired([one], [renamed(two, one)], task, draws)[1:]) / (2 * 1.96) for one, two in pairs(runs)]
    return 2.8 * float(np.mean(spreads)) / len(runs) ** 0.5


def renamed(run, like):
    """The run as if it had the seed of another, so that the two can be paired."""
    return dataclasses.replace(run, spec=run.spec._replace(seed=like.spec.seed))


def pairs(items):
    return [(a, b) for k, a in enumerate(items) for b in items[k + 1 :]]


def verdict(difference, printed):
    """Whether a printed effect (its sign counts) holds in ours: "holds", "fails" or "cannot tell"."""
    if difference.low <= 0 <= difference.high:
        return "cannot tell"
    return "holds" if np.sign(difference.mean) == np.sign(printed) else "fails"


def reported(**wanted):
    """Rows of results/reported.csv: every number that the papers print. Filter by column."""
    return matching(pd.read_csv(ROOT / "results" / "reported.csv", keep_default_na=False), wanted)


def hyperparameters(**wanted):
    """Rows of results/hyperparameters.csv: every setting that is stated, released or assumed."""
    return matching(pd.read_csv(ROOT / "results" / "hyperparameters.csv", keep_default_na=False), wanted)


def matching(table, wanted):
    for column, value in wanted.items():
        table = table[table[column] == value]
    return table.reset_index(drop=True)
