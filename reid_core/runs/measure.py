"""From a Spec to a Run: build, train, test, write."""

import dataclasses
import functools
import itertools
import resource
import sys
import time
from typing import NamedTuple

import numpy as np
import torch

from data_prep import catalogue
from reid_core import board, checkpoint, evaluate, lifelong, loading, train
from reid_core.data import load_data, size_of
from reid_core.methods import base
from reid_core.methods.base import LifelongMethod
from reid_core.precision import pick_device, usable
from reid_core.recipe import profile_called
from reid_core.runs import initial, provenance
from reid_core.runs.provenance import digest, pace_of, plain
from reid_core.runs.run import BOOK, CHANGE, INITIAL, OWN, Run, training_folder


def own_traits(method, data):
    """What a lifelong method tells of itself on a test set (`LifelongMethod.traits`)."""
    return method.traits(data)


def measure(
    spec,
    *,
    shelf=OWN,
    device=None,
    checkpoint_every=None,
    deterministic=False,
    log=print,
    traits_of=own_traits,
):
    """Train, test (`test_sets`) and write the run of a spec: the only way a number enters the book. An
    interrupted training is resumed. `checkpoint_every` steps; `deterministic` repeats bits on a GPU, too.
    `traits_of` (method, data) is what a lifelong run keeps beside the scores of each test set."""
    spec = spec.check().same
    if shelf is BOOK and spec.initial:
        raise ValueError(
            f"expected a run that begins as its recipe says, for the book, found one that starts from "
            f"{spec.initial}; leave out --into-book or --init-from."
        )
    train.check_device(device)
    shelf.check_place()
    profile = profile_called(spec.profile)
    place = training_folder(spec.name)
    began = time.time()
    made_by = provenance.of_code()
    method, data = spec.build()
    made_by |= initial.fill(method, spec, data, log)
    evaluate.available_tasks(method, data)  # fails before the training, not after it
    # with the code: a checkpoint that other code wrote would give its numbers the name of this one
    key = f"{run_key(spec, method, data)} {provenance.code()}"
    with checkpoint.alone(place, "trains"):  # nobody is training what is set aside
        checkpoint.set_aside_other_run(place, key, log)
    how = {
        "seed": spec.seed,
        "precision": profile.precision,
        "device": device,
        "fine": profile.fine,
        "epoch_images": spec.epoch_images,
        "checkpoint_every": checkpoint_every,
        "deterministic": deterministic,
        "key": key,
        "log": log,
        "spent": [],
        "expected": None,  # of a lifelong run nobody tells the time of domains that are still to come
    }
    in_turn = functools.partial(in_order, traits_of=traits_of)
    work = in_turn if isinstance(method, LifelongMethod) else at_once
    with checkpoint.alone(place, "trains"):
        scores, history = work(method, data, spec, place, how)
        before = total(history, "seconds") - sum(how["spent"])  # in earlier starts, if resumed
        cost = what_it_cost(method, history, time.time() - began + before)
        run = Run(
            spec=spec,
            data={**describe(data, spec, method), "tested": only_tested(spec, scores)},
            recipe=plain(dataclasses.asdict(method.recipe)),
            changes=changes_of(method.recipe, spec),
            scores=scores,
            history=history,
            cost=cost,
            provenance={**made_by, **provenance.of_method(method, profile.precision)},
            # holds a probe, which takes time: only runs of the book are compared with one
            fingerprint=provenance.fingerprint(spec) if shelf is BOOK else {},
        )
        shelf.write(run)
        board.write_scores(place, scores, len(history))
        checkpoint.clear(place)  # last: an interruption before this repeats the tests alone
    return run


def changes_of(recipe, spec):
    """{field: value} where a run differs from what is printed, with the weights that it starts from."""
    started = {INITIAL.removesuffix("="): spec.initial} if spec.initial else {}
    return plain(recipe.changes()) | started


def at_once(method, data, spec, place, how):
    """(records, history) of a training on one data set."""
    history = train.fit(method, data, place, **{**how, "expected": epochs_before(spec)})
    train.save_weights(method, place, run_key(spec, method, data))
    return tested(method, data, spec, test_sets(spec), how["log"]), history


def epochs_before(spec):
    """{stage: seconds of a typical epoch} of the kept run of a spec's row, without changes, of its seed or
    else of seed 0; {} if there is none."""
    row = CHANGE.split(spec.row)[0]
    for seed in (spec.seed, 0):
        try:
            run = OWN.find(spec._replace(row=row, seed=seed))
        except ValueError:  # no run can be read there: progress tells less
            continue
        if run:
            return {name: typical(lines) for name, lines in by_stage(run.history).items()}
    return {}


def in_order(method, data, spec, place, how, traits_of=own_traits):
    """(records, history) of a lifelong training, tested after each domain on all test sets of the order; of
    one data set alone, on its own. Orders of a row with the same first domains share the training on these,
    rows of a variant that differ in what comes later share the first. The weights after the last domain lie
    where those of any run do."""
    names = order_of(spec)  # with the world's seed; records hold them without
    load = functools.cache(functools.partial(load_data, profile=spec.profile))  # each is tested T times
    domains = [load(name) for name in names]
    sets = test_sets(spec)

    prints = {one.data: catalogue.fingerprint(one.data, size_of(spec.profile)) for one in sets}
    tested_on = " ".join(
        f"{one.data} {prints[one.data]} {one.number} {one.after}{' brief' * one.brief}" for one in sets
    )

    def tests(learned, number):
        after = catalogue.bare(names[number - 1])
        own = [one for one in sets if one.after in ("", after)]  # "": the data are no order
        return tested(learned, None, spec, own, how["log"], traits_of, load)

    orders = f"orders-{spec.profile}-s{spec.seed}"
    key, first = prefix_keys(spec, method, how)
    if how["device"]:
        method.to(how["device"])
    told = lifelong.learn(
        method,
        domains,
        place.parent / orders,
        first=(place.parents[1] / "first" / orders, first),
        tests=tests,
        tested=tested_on,
        **{**how, "key": key},
    )
    train.save_weights(method, place, run_key(spec, method, data))
    return told


def prefix_keys(spec, method, how):
    """(key of what orders of a row share, key of the first domain, which its variant's rows share): without
    the name of an order, and the second without what changes only later domains (`LifelongMethod.waiting`);
    with the code, and what computes."""
    device = pick_device(how["device"])
    computed = [provenance.code(), torch.__version__, device.type, usable(how["precision"], device)]
    computed += ["deterministic"] * how["deterministic"]
    from_the_start = {field.name for field in dataclasses.fields(method.recipe)} - set(method.waiting)
    marks = (digest(method.recipe), digest(method.recipe, from_the_start))
    return [" ".join((spec.initial, *what_trains(spec, method, mark), *computed)) for mark in marks]


def order_of(spec):
    """The names of the data sets that a spec trains on, in order."""
    return catalogue.order(spec.data) if spec.data.startswith(catalogue.LIFELONG) else (spec.data,)


class TestSet(NamedTuple):
    """One data set that a run is tested on: in the method's first `number` tests (None: all) and in those
    that are `brief`, after the domain `after` of a lifelong order."""

    data: str
    number: int | None = None
    after: str = ""
    brief: bool = False
    __test__ = False  # pytest takes it for a test otherwise


def test_sets(spec):
    """The TestSets of a run. An order is tested after each domain, in the first test, on all its domains and
    on the sets that it never trains on; its domains for the full row in brief tests, too. Otherwise: each
    part of a joint set, with its own gallery and protocol, in all of the method's tests for the full row and
    in the first for other rows; and, in the first test, a set that training did not see
    (`catalogue.partner`), where there is one."""
    row = CHANGE.split(spec.row)[0]
    number = None if row == "full" else 1
    if spec.data.startswith(catalogue.LIFELONG):
        names = catalogue.order(spec.data)
        pairs = itertools.product(names, (*names, *catalogue.unseen(spec.data)))  # the last changes fastest
        brief = {name for name in names if row == "full"}
        return [TestSet(name, 1, catalogue.bare(after), name in brief) for after, name in pairs]
    sets = [TestSet(part, number) for part in catalogue.parts(spec.data)]
    other = catalogue.partner(spec.data)
    if other and spec.profile != "smoke":  # smoke runs show that everything works, and nothing else
        sets.append(TestSet(other, 1))
    return sets


def tested(method, data, spec, sets, log=print, traits_of=own_traits, load=None):
    """Records of some test sets of a spec; `data` is what the method was trained on, where that is one. On
    any other data set no camera is known; one without queries for the method is logged and left out.
    `traits_of` (method, data) of a lifelong method are kept beside the scores; `load` (name) gives data that
    are tested several times."""
    load = load or functools.partial(load_data, profile=spec.profile)
    told = []
    for one in sets:
        try:
            own = data is not None and one.data == spec.data
            # numbers of cameras mean something on the set of the training alone
            shown = data if own else load(one.data).without_cameras()
            evaluate.available_tasks(method, shown)
        except ValueError as missing:
            log(f"not tested on {one.data}: {missing}")
            continue
        found = evaluate.run_tests(method, shown, number=one.number, brief=one.brief)
        brief = {name for name, task in method.retrieval_tasks().items() if task.brief}
        made = [record(one, task, scores, task in brief) for task, scores in found.items()]
        traits = traits_of(method, shown) if isinstance(method, LifelongMethod) else {}
        if traits:
            made[0]["traits"] = traits
        told += made
    return told


def record(one, task, scores, brief=False):
    """The part of Scores that a run keeps: enough to compute any interval again, or the `brief` summary."""
    told = {
        "data": catalogue.bare(one.data),
        "task": task,
        "after": one.after,
        "summary": scores.summary(),
        "skipped": scores.skipped,
        "protocol": scores.protocol,
    }
    return told if brief else told | by_query(scores)


def by_query(scores):
    """The columns of a record that have an entry per query."""
    return {
        "ap": np.round(scores.ap, 5).tolist(),  # (queries,) 0..1
        "inp": np.round(scores.inp, 5).tolist(),  # (queries,) 0..1
        "first": scores.first.tolist(),  # (queries,) rank of the first match
        "pids": scores.pids.tolist(),  # (queries,)
    }


def score_line(record):
    """A test and its scores in per cent, on one line."""
    numbers = (f"{name} {value:.1f}" for name, value in record["summary"].items())
    return "  ".join([f"{record['task']} on {record['data']}", *numbers])


def run_key(spec, method, data):
    """The name of a run, and hashes of recipe, data, weights and pace: trained weights of another key are not
    shown as this run's."""
    # of an order, the domains name what is left behind
    seen = "lifelong" if isinstance(method, LifelongMethod) else data.manifest.fingerprint
    return " ".join((spec.name, *what_trains(spec, method, digest(method.recipe), seen)))


def what_trains(spec, method, mark, seen="lifelong"):
    """The parts of a key that stand for a recipe (its digest, `mark`), data, weights and pace."""
    pace = pace_of(spec.profile, spec.epoch_images)
    return mark, seen, loading.fingerprint(method.recipe.pretrained), pace


def describe(data, spec=None, method=None):
    """What a run keeps of its data, and of what its method had to cut from it; of an order, the counts are
    those of its first domain."""
    m = data.manifest
    name = m.name
    mark = m.fingerprint
    if spec is not None and spec.data.startswith(catalogue.LIFELONG):
        name = spec.data
        mark = catalogue.fingerprint(name, size_of(spec.profile))  # of the whole order
    return {
        "name": name,
        "origin": m.origin,
        "fingerprint": mark,
        "seed": m.seed,
        "counts": m.counts(),
        "notes": [*m.notes, *shortened(method)],
    }


def only_tested(spec, scores):
    """{data set: fingerprint} of those that a run's scores come from besides what it was trained on."""
    met = {spec.data, *catalogue.parts(spec.data), *order_of(spec)}
    tested = {record["data"] for record in scores}  # names without the world's seed
    names = {one.data for one in test_sets(spec) if catalogue.bare(one.data) in tested} - met
    return {name: catalogue.fingerprint(name, size_of(spec.profile)) for name in sorted(names)}


def shortened(method):
    """A note of training sentences that a method's text tower has no room for; none where all fit."""
    table = getattr(method, "captions", None)
    if not getattr(table, "shortened", 0):
        return []
    room = method.tokenizer.context_length
    return [f"{table.shortened} of {table.counts.sum()} training sentences cut to {room} tokens"]


def what_it_cost(method, history, seconds):
    """The cost of a run; `seconds` is its whole duration, over all its starts. Images per second are those of
    stages that read images: steps on cached features do not count."""
    looking = [h for h in history if h["images"]]
    images = total(looking, "images")
    busy = total(looking, "seconds")
    return {
        "minutes": round(seconds / 60, 2),
        "training minutes": round(total(history, "seconds") / 60, 2),
        "images per second": round(images / max(busy, 1e-9), 1),  # 0 where every step was cached
        "peak memory MB": round(peak_memory(next(method.parameters()).device) / 1e6),
        "trained parameters": base.learnable(method),
    }


def peak_memory(device):
    """Bytes: of the GPU where the run was on one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, Linux kB


def total(epochs, key):
    """The sum of one entry over lines of a history."""
    return sum(h[key] for h in epochs)


def pace(history):
    """What a training takes undisturbed: {"training minutes", "images per second"}. A stage counts as its
    first epoch, which also computes its cache, plus the median of its other epochs times their number. Images
    count as in `what_it_cost`."""
    seconds = 0
    # a median, since other programs may slow some epochs down
    for first, *others in by_stage(history).values():
        seconds += first["seconds"] + len(others) * typical(others)
    looking = [h for h in history if h["images"]]
    busy = len(looking) * typical(looking)
    images = total(looking, "images")
    return {"training minutes": seconds / 60, "images per second": images / max(busy, 1e-9)}


def by_stage(history):
    """{stage: its lines of a history}, in order."""
    stages = {}
    for h in history:
        stages.setdefault(h["stage"], []).append(h)
    return stages


def typical(epochs):
    """Median seconds of some epochs; 0 if there are none."""
    if not epochs:
        return 0.0
    return float(np.median([h["seconds"] for h in epochs]))
