"""Lifelong methods of papers within their stages, for tests: begun, entered, and after some updates."""

from reid_core import train
from reid_core.contract import first_batch
from reid_core.methods import METHODS
from reid_core.methods.base import freeze_all_but, total
from reid_core.optim import make_optimisers
from reid_core.recipe import PROFILES


def begun(paper, variant, domains, row="full", **changes):
    """A method of a paper in the profile smoke that has begun all of `domains`."""
    train.seed_all(0)
    recipe = METHODS[paper].recipe_of(variant, row).at(PROFILES["smoke"]).but(**changes)
    method = METHODS[paper].variants[variant].kind(recipe, domains[0])
    for number, domain in enumerate(domains, 1):
        method.begin_domain(domain, number)
    return method


def entered(method, number=-1):
    """A stage of a method, as the loop enters it."""
    stage = method.stages()[number]
    freeze_all_but(method, stage.groups)
    stage.start()
    freeze_all_but(method, stage.groups)
    stage.prepare()
    return stage


def stepped(method, stage, steps=1):
    """The first batch of a stage, after some updates by it, with what follows each."""
    batch = first_batch(method, stage, method.data)
    optimisers = make_optimisers(method, stage.groups)
    for _ in range(steps):
        method.zero_grad()
        found = stage.losses(batch)
        total(found.terms, stage.weights).backward()
        for optimiser in optimisers:
            optimiser.step()
        stage.after_step(found.carry)
    return batch
