"""From what a run was made, and whether it still says what the code says."""

import dataclasses
import datetime
import functools
import hashlib
import json
import os
import platform
import subprocess

import torch

from data_prep import catalogue
from data_prep.catalogue import ROOT
from reid_core import loading, precision, train
from reid_core.data import load_data, size_of
from reid_core.recipe import profile_called

ROUNDING = 1e-4  # by how much two processors may differ in a number of a probe: a hundred times what was seen
FLOOR = 1e-3  # below this a number of a probe is compared as if it were this large


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
    """What makes a committed run stale when it changes: recipe, data, weights, and what the code of this row
    computes on the smallest world at its initial weights."""
    recipe = spec.recipe()
    hashes = {
        "recipe": digest(recipe),
        "data": catalogue.fingerprint(spec.data, size_of(spec.profile)),
        "profile": pace_of(spec.profile),
        "weights": loading.fingerprint(recipe.pretrained),
    }
    return {**hashes, "probe": probe_losses(spec._replace(data="world_market", seed=0))}


def pace_of(profile):
    """What of a profile a training sees and no recipe tells: a hash."""
    told = profile_called(profile)
    return digest_of({"fine": told.fine, "precision": told.precision, "epoch_images": told.epoch_images})


@functools.cache
def probe_losses(spec):
    """`train.probe_losses` of a row, which no data set and no seed changes: once for all runs of the row."""
    return train.probe_losses(spec.build(load_data("world_market", "smoke"))[0])


def outdated(run):
    """What of `stale` can be told at a glance, for a page: a sentence, or "". Files of weights and of
    pictures that are not the project's own need not be at hand."""
    recipe, known = run.spec.recipe(), {}
    if run.recipe.get("pretrained") in loading.OWN:
        known["weights"] = loading.fingerprint(recipe.pretrained) == run.provenance.get("weights")
    if run.data["origin"] == "world" and "fingerprint" in run.data:
        known["data"] = (
            catalogue.fingerprint(run.spec.data, size_of(run.spec.profile)) == run.data["fingerprint"]
        )
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


def of_method(method, asked):
    """Where, when and from what a run of a trained method was made; `asked` is the precision that its profile
    names."""
    device = next(method.parameters()).device
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{platform.machine()}, {os.cpu_count()} cores"
    )
    return {
        "commit": git("rev-parse", "HEAD"),
        "clean": clean_tree(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": name,
        "date": datetime.date.today().isoformat(),
        "weights": loading.fingerprint(method.recipe.pretrained),
        "precision": precision.usable(asked, device),
    }


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
