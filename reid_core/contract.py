"""What every method promises, checked on a small data set: `check_method`, in the manner of scikit-learn's
check_estimator. A paper that is added passes it before anything is measured.
"""

from pathlib import Path

import torch

from reid_core import checkpoint, evaluate, lifelong, train
from reid_core.data import Columns, Loader, still_batches
from reid_core.methods.base import LifelongMethod, freeze_all_but, total

CLOSE = 1e-4  # by how much a feature may differ between two batches that hold the same image


def check_method(kind, recipe, data, folder, second=None):
    """Raise ValueError with one sentence for the first promise that a method breaks.

    `kind` is its class, `recipe` one that trains for a moment, `data` a small ReidData with query and
    gallery, `folder` an empty place for checkpoints. A lifelong method is also led through `data` and
    `second`.
    """
    checks = (check_stages, check_losses, check_features, check_files, check_resumption)
    for number, check in enumerate(checks):
        check(lambda: begun(kind, recipe, data), data, Path(folder) / f"check {number}")
    if issubclass(kind, LifelongMethod):
        check_domains(kind, recipe, [data, second], Path(folder) / "domains")


def begun(kind, recipe, data):
    """A method before training; of a lifelong one, the first domain has begun."""
    train.seed_all(0)
    method = kind(recipe, data)
    if isinstance(method, LifelongMethod):
        method.begin_domain(data, 1)
    return method


def promise(kept, method, promised, found):
    if not kept:
        raise ValueError(f"expected {type(method).__name__} {promised}, found {found}; see methods/base.py.")


def check_stages(build, data, folder):
    """Stages are data: names, images or cached features, and groups that share no parameter."""
    method = build()
    names = [stage.name for stage in method.stages()]
    promise(names and len(set(names)) == len(names), method, "to have stages with different names", names)
    for stage in method.stages():
        promise(stage.views or stage.cache, method, f"to see something in {stage.name}", "no view, no cache")
        members = [id(p) for group in stage.groups for p in group.parameters()]
        doubled = len(members) - len(set(members))
        promise(members and not doubled, method, f"to train each parameter once in {stage.name}", doubled)


def check_losses(build, data, folder):
    """Every term has a weight and is finite; every group gets a gradient."""
    method = build()
    for stage in method.stages():
        freeze_all_but(method, stage.groups)
        stage.start()
        freeze_all_but(method, stage.groups)
        stage.prepare()
        terms = stage.losses(first_batch(method, stage, data)).terms
        for name, term in terms.items():
            promise(term.isfinite(), method, f"to have a finite {name} in {stage.name}", term.item())
        method.zero_grad()
        total(terms, stage.weights).backward()
        for number, group in enumerate(stage.groups):
            grown = train.length_of(group)
            promise(grown > 0, method, f"to train group {number} of {stage.name}", "no gradient there")


def first_batch(method, stage, data):
    """The first batch of a stage, with what it caches."""
    cached = {}
    for name, one in stage.cache.items():
        with torch.no_grad():
            rows = still_batches(data, "train", method.size, one.view)
            cached[name] = torch.cat([one.compute(batch) for batch in rows])
    loader = Loader.of_stage(method.data, method.size, stage, cached=cached)
    return next(iter(loader.batches(0, loader.plan(0))))


def check_features(build, data, folder):
    """Every feature that a test names is there, of one width on both sides, and independent of its batch."""
    method = build().eval()
    for name, task in evaluate.available_tasks(method, data).items():
        with torch.no_grad():
            sides = [side_features(method, data, task, side) for side in ("query", "gallery")]
        widths = [whole.shape[1] for whole, _ in sides]
        promise(len(set(widths)) == 1, method, f"to have one width of features in {name!r}", widths)
        for whole, part in sides:
            # the same two rows, in a batch of eight and of two
            worst = (whole[: len(part)] - part).abs().max().item()
            promise(worst < CLOSE, method, f"to embed an image alike in any batch ({name!r})", worst)


def side_features(method, data, task, side):
    """The features of one side of a test, of a whole batch and of its first two rows."""
    texts = side == "query" and task.query_type == "text"
    batch = sentence_batch(method, data) if texts else image_batch(method, data, side)
    feature = getattr(task, side)
    return method.embed(batch, feature), method.embed(batch.rows(slice(0, 2)), feature)


def image_batch(method, data, split):
    return next(still_batches(data, split, method.size, method.test_view(), batch=8)).rows(slice(0, 8))


def sentence_batch(method, data):
    table = evaluate.CaptionTable(data.gallery.captions, method.tokenizer)
    return next(evaluate.sentence_batches(table, torch.device("cpu"), 8))


def check_files(build, data, folder):
    """Weights that are written and read back say the same; nothing undeclared is missing."""
    method = build()
    again = build()
    still = constant(method)
    with torch.no_grad():
        for parameter in method.parameters():
            # away from the initial values, which the second method has as well
            parameter.add_(0.01 if id(parameter) not in still else 0.0)
    folder.mkdir(parents=True)
    train.save_weights(method, folder)
    train.load_state(again, checkpoint.read_tensors(folder / train.WEIGHTS)[0], folder)
    same = all(torch.equal(a, b) for a, b in zip(method.state_dict().values(), again.state_dict().values()))
    promise(same, method, "to be the same after its weights were written and read", "another")


def constant(method):
    """{id: parameter} of what a method declares constant."""
    named = dict(method.named_parameters())
    return {id(named[name]): named[name] for name in method.constants() if name in named}


def check_resumption(build, data, folder):
    """A training that is interrupted after its first step and taken up ends with the same bits."""
    whole = build()
    again = build()
    fit_quietly(whole, folder / "whole")
    interrupted(lambda: fit_quietly(build(), folder / "broken", every=1), steps=1)
    fit_quietly(again, folder / "broken")
    promise(same_state(whole, again), whole, "to end alike after an interruption", "other weights")


def fit_quietly(method, folder, every=None):
    how = {"precision": "fp32", "checkpoint_every": every, "key": "check", "log": lambda text: None}
    return train.fit(method, method.data, folder, **how)


def interrupted(work, steps):
    """Do some work whose training is interrupted before step number `steps`, from 0. ValueError if it ends
    before that: then nothing was interrupted."""
    real = train.Trainer.step
    taken = []

    def step(trainer, *more):
        if len(taken) == steps:
            raise KeyboardInterrupt
        taken.append(0)
        return real(trainer, *more)

    train.Trainer.step = step
    try:
        work()
    except KeyboardInterrupt:
        return
    finally:
        train.Trainer.step = real
    raise ValueError(f"expected a training of more than {steps} steps, found {len(taken)}; train for longer.")


def same_state(one, two):
    first = one.state_dict()
    second = two.state_dict()
    if first.keys() != second.keys():
        return False
    return all(torch.equal(value, second[name]) for name, value in first.items())


def check_domains(kind, recipe, domains, folder):
    """Two domains, interrupted within the first and between them, end like two that were not."""

    def learn(place, number=2, every=None):
        train.seed_all(0)
        method = kind(recipe, domains[0])
        how = {"precision": "fp32", "key": "check", "log": lambda text: None, "checkpoint_every": every}
        lifelong.learn(method, domains[:number], place, tests=lambda *_: [], **how)
        return method

    whole = learn(folder / "whole")
    interrupted(lambda: learn(folder / "broken", every=1), steps=1)
    learn(folder / "broken", number=1)
    again = learn(folder / "broken")
    promise(
        same_state(whole, again),
        whole,
        "to go through two domains alike after interruptions",
        "other weights",
    )
    labels = Columns(whole.data, "train", "cpu").labels
    promise(int(labels.min()) >= 0, whole, "to know everybody of its last domain", "a label below 0")
