"""Every row of CLIP-ReID's ablations learns, and changes what its name says."""

import functools

import pytest
import torch

from reid_core import train
from reid_core.data import Loader, load_data
from reid_core.methods.base import freeze_all_but, total
from reid_core.methods.clip_reid import ABLATIONS, RECIPE, RN50, SETTINGS, Baseline, ClipReID
from reid_core.recipe import PROFILES, values_of
from reid_core.samplers import SamplerRng

OURS = [row for row in ABLATIONS if "RN50" not in row]
SMALL = {"stage1_batch": 16, "stage2_ids_per_batch": 4, "image_height": 64, "image_width": 32}
RANDOM = {
    "backbone": "RN50-quickgelu",
    "pretrained": None,
    "image_height": 64,
    "image_width": 32,
    "stage2_ids_per_batch": 2,
}


@pytest.fixture(scope="module")
def few():
    """Eight identities: a first batch needs no more."""
    return load_data("world_market@8", "smoke")


def build(world, Kind=ClipReID, **changes):
    torch.manual_seed(0)
    return Kind(RECIPE.at(PROFILES["smoke"]).but(**changes), world)


def begun(method, stage, world):
    """The loader of a stage with what its cache needs."""
    freeze_all_but(method, stage.groups)
    cached = {name: torch.randn(len(world.train), method.text.joint_width) for name in stage.cache}
    loader = Loader(world, size=method.size, sampler=stage.sampler, views=stage.views, cached=cached)
    return next(iter(loader.batches(0, loader.plan(0))))


def tried(method, world):
    """{stage: (loss, gradient)} of the first batch of every stage, and how the rates go."""
    found = {}
    for stage in method.stages():
        torch.manual_seed(0)
        batch = begun(method, stage, world)
        method.zero_grad()
        stage.prepare()
        loss = total(stage.losses(batch).terms, stage.weights)
        loss.backward()
        grown = sum(p.grad.double().abs().sum() for p in method.parameters() if p.grad is not None)
        rates = [stage.schedule.factor(epoch) for epoch in (0.5, 25, 45)]
        found[stage.name] = (round(loss.item(), 4), round(float(grown), 3), stage.epochs, rates)
    return found


@functools.cache
def tried_in_full(world):
    return tried(build(world, **SMALL), world)


@pytest.mark.parametrize("row", OURS)
def test_every_row_learns_and_is_another_training_than_the_full_one(row, few):
    changes = dict(ABLATIONS[row])
    changes = {name: value for name, value in changes.items() if name not in ("image_width", "pretrained")}
    found, full = tried(build(few, **(SMALL | changes)), few), tried_in_full(few)
    assert all(torch.tensor(one[:2]).isfinite().all() and one[1] > 0 for one in found.values())
    assert RECIPE.but(**changes) == RECIPE or found != full


def test_a_resnet_learns_with_both_methods(few):
    for Kind in (ClipReID, Baseline):
        method = build(few, Kind, **{**values_of(RN50), **RANDOM})
        stage = method.stages()[-1]
        freeze_all_but(method, stage.groups)
        loader = Loader(few, size=method.size, sampler=stage.sampler, views=stage.views)
        terms = stage.losses(next(iter(loader.batches(0, loader.plan(0))))).terms
        total(terms, stage.weights).backward()
        assert (
            all(term.isfinite() for term in terms.values()) and method.image.conv1.weight.grad.abs().sum() > 0
        )


def test_vehicleid_is_smoothed_only_where_the_official_code_does():
    smoothed = {
        row: RECIPE.but(**values_of(SETTINGS[row])).label_smoothing for row in SETTINGS if "VehicleID" in row
    }
    assert smoothed == {"VehicleID": 0.1, "VehicleID, baseline": 0.0, "VehicleID, RN50": 0.0}


def test_stage_2_reads_every_sentence_once(few, tmp_path, monkeypatch):
    """One call of the text tower per step of stage 1, then one per batch of identities."""
    method = build(few, stage2_epochs=2, **{**SMALL, "stage1_batch": 5})  # two batches of identities
    read, real = [], method.text.forward
    monkeypatch.setattr(
        method.text, "forward", lambda *parts, **how: read.append(len(parts[0])) or real(*parts, **how)
    )
    history = train.fit(method, few, tmp_path, precision="fp32", log=lambda *_: None)
    first, second = method.stages()
    steps = sum(len(first.sampler.epoch(SamplerRng(0))) for _ in range(first.epochs))
    assert len(read) == steps + -(-few.classes // method.recipe.stage1_batch)
    assert (
        len([one for one in history if one["stage"] == second.name]) == 2 and sum(read[steps:]) == few.classes
    )
