"""Provenance: from what a run was made, and whether the code would still give the same numbers."""

import dataclasses
import datetime
import functools
import hashlib
import json
import math
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

from data_prep import catalogue
from data_prep.catalogue import ROOT
from reid_core import loading, precision, train
from reid_core.data import load_data, size_of
from reid_core.methods import METHODS
from reid_core.recipe import profile_called

PROBED = ("world_market", "world_msmt")  # what a probe sees; the second in lifelong methods alone
ROUNDING = 1e-4  # relative difference allowed between processors in a probe: a hundred times the largest seen
ELSEWHERE = (  # what makes git look into another repository; hooks of git set it
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_COMMON_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_NAMESPACE",
)
BESIDE = "REID_BESIDE"  # how many other trainings share the machine; `runs.fill` tells its jobs
FLOOR = 1e-2  # numbers of a probe below this are compared as if they were this large: a distillation that
# begins at zero is what is left of rounding logits of a hundred, up to 4e-7


def digest(recipe, names=None):
    """A hash of the values of a recipe's fields, or of those among `names`."""
    values = dataclasses.asdict(recipe)
    if names is not None:
        values = {name: value for name, value in values.items() if name in names}
    return digest_of(values)


def digest_of(values):
    text = json.dumps(plain(values), sort_keys=True)  # so the order of fields in the class does not matter
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(value):
    """The value as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(value))


def fingerprint(spec):
    """What makes a committed run stale when it changes: hashes of recipe, data, profile and weights, and a
    probe: losses and gradients of this row on the smallest world at its initial weights."""
    recipe = spec.recipe()
    hashes = {
        "recipe": digest(recipe),
        "data": catalogue.fingerprint(spec.data, size_of(spec.profile)),
        "profile": pace_of(spec.profile, spec.epoch_images),
        "weights": loading.fingerprint(recipe.pretrained),
    }
    smallest = METHODS[spec.method].takes(PROBED[0])
    return {**hashes, "probe": probe_losses(spec._replace(data=smallest, seed=0))}


def pace_of(profile, images=None):
    """A hash of what a training takes from a profile beyond the recipe: `images` of an epoch at least, those
    of a data set alone unless told."""
    told = profile_called(profile)
    images = told.epoch_images if images is None else images
    return digest_of({"fine": told.fine, "precision": told.precision, "epoch_images": images})


@functools.cache
def probe_losses(spec):
    """`train.probe_losses` of a row on a smoke world: the same for all data sets and seeds, so cached."""
    domains = [load_data(name, "smoke") for name in (spec.data, *PROBED[1:])]
    method, _ = spec.build(domains[0])
    return train.probe_losses(method, domains)


def outdated(run):
    """Why a run is stale, as far as hashes tell: a sentence, or "". Pages use it, as it computes no loss;
    weights and images that are not the project's own need not be there."""
    spec = run.spec
    recipe = spec.recipe()
    pace = pace_of(spec.profile, spec.epoch_images)
    same = {}  # what is compared -> whether it is as it was
    if run.recipe.get("pretrained") in loading.OWN:
        same["weights"] = loading.fingerprint(recipe.pretrained) == run.provenance.get("weights")
    data = mark_of(spec.data, run) if "fingerprint" in run.data else None
    same["data"] = data in (None, run.data.get("fingerprint"))
    for name, mark in run.data.get("tested", {}).items():  # older runs do not say
        same[f"test on {name}"] = mark_of(name, run) in (None, mark)
    same["recipe"] = digest(recipe, run.recipe) == digest_of(run.recipe)
    same["profile"] = run.fingerprint.get("profile", pace) == pace  # a reader's own runs have none
    for name, unchanged in same.items():
        if not unchanged:
            return f"its {name} changed"
    return ""


def mark_of(name, run):
    """The fingerprint of a data set as it is now for a run; None where it is not at hand, or no longer fit
    for a training."""
    try:
        return catalogue.fingerprint(name, size_of(run.spec.profile))
    except (ValueError, OSError):
        return None


def stale(run):
    """Why a run is stale: a sentence, or "". Only fields that the run's recipe has are compared: whether the
    default of a newer field changes anything is told by the probe."""
    now = fingerprint(run.spec) | {"recipe": digest(run.spec.recipe(), run.recipe)}
    for name in ("recipe", "data", "weights", "profile"):
        if now[name] != run.fingerprint.get(name):
            return f"its {name} changed"
    return changed(run.fingerprint.get("probe", {}), now["probe"])


def changed(before, now):
    """The largest change between two probes as a sentence, or "" if all are within ROUNDING."""
    if set(before) != set(now):
        name = sorted(set(before) ^ set(now))[0]
        return f"its code now computes other quantities ({name})"
    off = {}  # quantity -> relative difference
    for name, old in before.items():
        apart = abs(now[name] - old) / max(abs(old), FLOOR)
        off[name] = math.inf if math.isnan(apart) else apart  # what is no number is a change
    worst = max(off, key=off.get)
    if off[worst] > ROUNDING:
        return f"its {worst} differs by {off[worst]:.1e}"
    return ""


def of_code():
    """{"commit", "clean"} as they are now: ask before a training, since others may commit meanwhile."""
    return {"commit": git("rev-parse", "HEAD"), "clean": clean_tree()}


def of_method(method, asked):
    """Where, when and from what but its code (`of_code`) a run was made; `asked` is the precision of its
    profile, which the device may not support."""
    device = next(method.parameters()).device
    name = f"{platform.machine()}, {os.cpu_count()} cores"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": name,
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "beside": int(os.environ.get(BESIDE, 0)),
        "date": datetime.date.today().isoformat(),
        "weights": loading.fingerprint(method.recipe.pretrained),
        "activation": loading.activation(method.recipe.backbone, method.recipe.pretrained),
        "precision": precision.usable(asked, device),
    }


@functools.cache
def processor():
    """The model of the processor as the system names it: "AMD EPYC 9B14"."""
    told = Path("/proc/cpuinfo")  # of Linux alone
    names = re.findall(r"model name\s*: (.+)", told.read_text()) if told.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


def clean_tree():
    """Whether nothing but results differs from the commit."""
    # results are made from a commit, and measuring one must not keep the next from being clean
    return git("status", "--porcelain", "--untracked-files=normal", "--", ".", ":!results") == ""


def git(*command):
    """The output of a git command on the project, or "unknown": without git, where git refuses, and where the
    repository is another's, which only lies around this folder."""
    return of_git(*command) if has_repository(ROOT) else "unknown"


@functools.cache
def has_repository(root):
    """Whether a folder is the root of a repository that tracks the code in it."""
    top = of_git("rev-parse", "--show-toplevel")
    tracked = of_git("ls-files", "--error-unmatch", "reid_core/__init__.py")
    return "unknown" not in (top, tracked) and Path(top).resolve() == root


def of_git(*command):
    """The output of a git command at the project's root, or "unknown"."""
    words = ["git", "-C", str(ROOT), *command]
    own = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=own, encoding="utf-8")
    except (OSError, UnicodeError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def code_between(one, other):
    """Names of the files of code and weights in which two commits differ ("" for none), or "unknown"."""
    return git("diff", "--name-only", one, other, "--", "reid_core", "data_prep")


@functools.cache
def code():
    """Sixteen digits of the code that decides what a training computes: data sets, the files of the core, and
    methods. A training that was interrupted is resumed by the same code alone."""
    core = ROOT / "reid_core"
    files = [*(ROOT / "data_prep").rglob("*.py"), *core.glob("*.py"), *(core / "methods").glob("*.py")]
    digest_ = hashlib.sha256()
    for path in sorted(files):  # folders are listed in no particular order
        digest_.update(path.read_bytes())
    return digest_.hexdigest()[:16]


def is_ancestor(commit):
    """Whether `commit` is HEAD or an ancestor of HEAD."""
    # the answer is the exit status: `git` gives "" for 0, and "unknown" for any other
    return git("merge-base", "--is-ancestor", commit, "HEAD") == ""
