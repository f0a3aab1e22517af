"""From a Spec to a Run: build, train, test, write."""

import dataclasses
import resource
import sys
import time
from typing import NamedTuple

import numpy as np
import torch

from data_prep import catalogue
from data_prep.catalogue import build_folder
from reid_core import checkpoint, evaluate, loading, train
from reid_core.data import load_data
from reid_core.methods import base
from reid_core.recipe import profile_called
from reid_core.runs import provenance
from reid_core.runs.provenance import digest, pace_of, plain
from reid_core.runs.run import BOOK, OWN, Run


def measure(spec, *, shelf=OWN, device=None, checkpoint_every=None, deterministic=False, log=print):
    """Train, test and write: the one way a number comes into the book. An interrupted run is taken up. The
    full row is tested in every test, other rows in the method's first."""
    spec = spec.check().same
    profile, place = profile_called(spec.profile), build_folder() / "runs" / spec.name
    began = time.time()
    method, data = spec.build()
    evaluate.available_tasks(method, data)  # rather now than after hours of training
    checkpoint.set_aside_other_run(place, key := run_key(spec, method, data), log)
    with checkpoint.alone(place, "trains"):
        history = train.fit(
            method,
            data,
            place,
            seed=spec.seed,
            precision=profile.precision,
            device=device,
            fine=profile.fine,
            epoch_images=profile.epoch_images,
            checkpoint_every=checkpoint_every,
            deterministic=deterministic,
            key=key,
            log=log,
        )
        train.save_weights(method, place, key)
        scores = tested(method, data, spec, log)
        cost = what_it_cost(method, history, time.time() - began)
        run = Run(
            spec=spec,
            data=describe(data),
            recipe=plain(dataclasses.asdict(method.recipe)),
            changes=plain(method.recipe.changes()),
            scores=scores,
            history=history,
            cost=cost,
            provenance=provenance.of_method(method, profile.precision),
            fingerprint=provenance.fingerprint(spec) if shelf is BOOK else {},
        )
        shelf.write(run)
        checkpoint.clear(place)
    return run


class TestSet(NamedTuple):
    """One data set that a run is tested on: the method's first `number` tests (None: all), after the domain
    `after` of an order."""

    data: str
    number: int | None = None
    after: str = ""
    __test__ = False  # pytest takes it for a test otherwise


def test_sets(spec):
    """Where a run is tested. Each part of a joint set has its own gallery and protocol; the full row is
    tested in all of the method's tests, other rows in the first; and once on a set that training did not see,
    where there is any."""
    number = None if spec.row.split(" + ")[0] == "full" else 1
    sets = [TestSet(part, number) for part in spec.data.split("+")]
    other = None if spec.profile == "smoke" else catalogue.partner(spec.data)
    return [*sets, TestSet(other, 1)] if other else sets


def tested(method, data, spec, log=print):
    """Records of all test sets of a spec; `data` is what the method was trained on."""
    records = []
    for one in test_sets(spec):
        try:
            shown = data if one.data == spec.data else load_data(one.data, spec.profile).without_cameras()
            evaluate.available_tasks(method, shown)
        except ValueError as missing:
            log(f"not tested on {one.data}: {missing}")
            continue
        found = evaluate.run_tests(method, shown, number=one.number)
        records += [record(one, task, scores) for task, scores in found.items()]
    return records


def record(one, task, scores):
    """What of Scores goes into a run: enough to compute any interval again."""
    return {
        "data": one.data.partition("#")[0],
        "task": task,
        "after": one.after,
        "summary": scores.summary(),
        "ap": np.round(scores.ap, 5).tolist(),
        "first": scores.first.tolist(),
        "pids": scores.pids.tolist(),
        "skipped": scores.skipped,
        "protocol": scores.protocol,
    }


def run_key(spec, method, data):
    parts = (
        digest(method.recipe),
        data.manifest.fingerprint,
        loading.fingerprint(method.recipe.pretrained),
        pace_of(spec.profile),
    )
    return " ".join((spec.name, *parts))


def describe(data):
    m = data.manifest
    return {
        "name": m.name,
        "origin": m.origin,
        "fingerprint": m.fingerprint,
        "seed": m.seed,
        "counts": m.counts(),
        "notes": list(m.notes),
    }


def what_it_cost(method, history, seconds):
    """`seconds` are those of everything that a run waits for; an image counts where a tower that is trained
    looks at it."""
    looking = [h for h in history if h["images"]]
    images, busy = (sum(h[key] for h in looking) for key in ("images", "seconds"))
    peak = (
        torch.cuda.max_memory_allocated()
        if torch.cuda.is_available()
        else (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    )
    training = sum(h["seconds"] for h in history)
    return {
        "minutes": round(seconds / 60, 2),
        "training minutes": round(training / 60, 2),
        "images per second": round(images / max(busy, 1e-9), 1),
        "peak memory MB": round(peak / 1e6),
        "trained parameters": base.learnable(method),
    }


def pace(history):
    """What a training takes when nothing else runs: {"training minutes", "images per second"}. Of each stage
    the first epoch counts, which also computes what the stage keeps, and the median of the others in the
    place of each. An image counts where a tower that is trained looks at it."""
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
