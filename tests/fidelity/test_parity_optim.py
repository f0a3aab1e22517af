"""Samplers, schedules and optimiser groups against published code, set B."""

import json
import random

import numpy as np
import torch
from golden import golden
from golden_b import agree, load
from torch import nn

from reid_core.optim import Group, split_biases
from reid_core.samplers import CameraBatches, IdentityBatches, SamplerRng
from reid_core.schedules import exponential, warmup_cosine, warmup_milestones, warmup_then_cosine

RATE = 1e-12


# --- samplers


class TopReidDice:
    """Python's and NumPy's generators where TOP-ReID uses them."""

    def __init__(self, settings):
        self.python = random.Random(settings["python_seed"])
        self.numpy = np.random.RandomState(settings["numpy_seed"])

    def shuffle(self, items):
        items = list(items)
        self.python.shuffle(items)
        return items

    def repeat(self, items, number):
        return self.numpy.choice(items, number).tolist()

    def sample(self, items, number):
        return self.python.sample(items, number)


class VladrDice:
    """PyTorch orders the identities, Python chooses the first image of a group, NumPy the others."""

    def __init__(self, seeds):
        self.torch = torch.Generator().manual_seed(seeds["torch"])
        self.python, self.numpy = random.Random(seeds["python"]), np.random.RandomState(seeds["numpy"])
        self.first = True

    def shuffle(self, items):
        return [items[k] for k in torch.randperm(len(items), generator=self.torch)]

    def sample(self, items, number):
        first, self.first = self.first, not self.first
        return [self.python.choice(items)] if first else self.numpy.choice(items, number, replace=False)

    def repeat(self, items, number):
        self.first = True
        return self.numpy.choice(items, number)


@golden("topreid__pk_sampler")
def test_identity_batches_repeat_the_published_stream(file):
    file = load(file)
    each = file.settings["num_instances"]
    batches = IdentityBatches(file["in/pid"], file.settings["batch_size"] // each, each)
    rows = np.concatenate([draw.index for draw in batches.epoch(TopReidDice(file.settings))])
    assert rows.tolist() == file["out/indices"].tolist()


@golden("topreid__pk_sampler")
def test_identity_batches_hold_whole_groups_of_different_identities(file):
    file = load(file)
    each, pids = file.settings["num_instances"], file["in/pid"]
    batches = IdentityBatches(pids, file.settings["batch_size"] // each, each)
    for draw in batches.epoch(SamplerRng("pk")):
        groups = pids[draw.index].reshape(-1, each)
        assert (groups == groups[:, :1]).all() and len(set(groups[:, 0])) == len(groups)


@golden("vladr__sampler")
def test_camera_batches_repeat_the_published_stream(file):
    """But for identities with a single image: theirs emits it once, which shifts all later groups; ours
    repeats it."""
    file = load(file)
    pids, counts = file["in/pid"], np.bincount(file["in/pid"])
    batches = CameraBatches(pids, file["in/cam"], 1, file.settings["num_instances"], len(set(pids.tolist())))
    stream = []
    for draw in batches.epoch(VladrDice(file.settings["seeds"])):
        single = counts[pids[draw.index[0]]] == 1
        assert len(draw.index) == file.settings["num_instances"] and (not single or len(set(draw.index)) == 1)
        stream += draw.index[: 1 if single else None].tolist()
    assert stream == file["out/indices"].tolist()


@golden("vladr__sampler")
def test_camera_batches_leave_the_first_camera_where_they_can(file):
    file = load(file)
    pids, cameras = file["in/pid"], file["in/cam"]
    batches = CameraBatches(pids, cameras, 1, file.settings["num_instances"], len(set(pids.tolist())))
    for draw in batches.epoch(SamplerRng("cameras")):
        first, others = draw.index[0], draw.index[1:]
        assert set(pids[others]) == {pids[first]}
        everywhere = set(cameras[pids == pids[first]])
        assert len(everywhere) == 1 or cameras[first] not in cameras[others]
        assert first not in others or sum(pids == pids[first]) == 1


# --- schedules


@golden("topreid__schedule", "htt__schedule")
def test_the_cosine_counts_absolute_epochs(file):
    file = load(file)
    agree(file, "out/lr_by_epoch_0_to_E_plus_1", timm_rates(file), RATE)


@golden("demo__schedule")
def test_demo_multiplies_our_rates_by_noise(file):
    """We have no such noise."""
    file = load(file)
    noise = file["in/noise_by_epoch_0_to_E_minus_1"]
    rates = timm_rates(file)
    rates[: len(noise)] *= 1 + noise[:, None]
    agree(file, "out/lr_by_epoch_0_to_E_plus_1", rates, RATE)
    assert np.abs(noise).max() > 0.1


def timm_rates(file):
    """Rates of all groups (epochs 0..E+1, groups): start and end are the same for every base rate."""
    s = file.settings
    curves = [
        warmup_cosine(s["epochs"], b, s["lr_min"], s["warmup_epochs"], s["warmup_init"]) for b in s["base"]
    ]
    epochs = range(len(file["out/lr_by_epoch_0_to_E_plus_1"]))
    return np.array([[b * curve.factor(e) for b, curve in zip(s["base"], curves)] for e in epochs])


@golden("vladr__schedule")
def test_vladr_counts_steps(file):
    file = load(file)
    s, steps = file.settings, len(file["out/lr_used_at_step"])
    curve = warmup_milestones(
        steps, s["warmup_iters"], s["warmup_factor"], s["milestones"], s["gamma"], "step"
    )
    factors = [curve.factor(curve.position(0, 1, step, steps, fine=False)) for step in range(steps)]
    agree(file, "out/lr_used_at_step", np.outer(factors, s["base_lr"]), RATE)


@golden("hpl__schedule")
def test_hpl_decays_by_the_epoch_and_then_warms_up(file):
    file = load(file)
    one, two = file.settings["stage1"], file.settings["stage2"]
    fall = by_epoch(exponential(one["epochs"], one["gamma"]))
    agree(file, "out/stage1_inversion_lr", one["lr_inversion"] * fall, RATE)
    agree(file, "out/stage1_identity_lr", one["lr_identity"] * fall, RATE)
    start, end = two["warmup_start"] / two["base"], two["target"] / two["base"]
    rise = by_epoch(warmup_then_cosine(two["epochs"], two["warmup_epochs"], start, end))
    agree(file, "out/stage2_lr", two["base"] * rise, RATE)


def by_epoch(curve):
    """Factors of a run as long as the curve."""
    epochs = int(curve.span)
    return np.array([curve.factor(curve.position(e, epochs, 0, 1, fine=False)) for e in range(epochs)])


# --- optimiser groups


def grouped(*groups):
    """{name: [rate, weight decay]} of groups, each given as (names, options of Group)."""
    names, found = {}, {}
    for members, options in groups:
        parameters = [nn.Parameter(torch.zeros(1)) for _ in members]
        names |= {id(p): name for p, name in zip(parameters, members)}
        for part in split_biases(Group(members=parameters, **options), names):
            found |= {names[id(p)]: [part["lr"], part["weight_decay"]] for p in part["params"]}
    return found


def check_groups(found, wanted):
    assert found.keys() == wanted.keys()
    for name, pair in wanted.items():
        np.testing.assert_allclose(found[name], pair, rtol=1e-12, err_msg=name)


@golden("topreid__optim_groups")
def test_topreid_doubles_the_rate_of_biases_or_of_the_classifier(file):
    file = file()
    wanted, base = file["groups"], file["base_lr"]
    decay = next(decay for name, (_, decay) in wanted.items() if "bias" not in name)
    large = [name for name in wanted if file["large_fc_lr"] and "classifier" in name]
    rest = [name for name in wanted if name not in large]
    found = grouped(
        (rest, {"lr": base, "weight_decay": decay, "bias_factor": 2.0}),
        (large, {"lr": 2 * base, "weight_decay": decay}),
    )
    check_groups(found, wanted)


@golden("demo__optim_groups")
def test_demo_gives_the_backbone_one_rate_of_its_own(file):
    """By substring: "base", unless it is an adapter's. Biases of the backbone have no extra rate."""
    file = file()
    wanted, base = file["groups"], file["base_lr"]
    decay, backbone = wanted["classifier.weight"][1], 5e-6 if file["backbone"] == "CLIP" else 0.8 * base
    inside = [name for name in wanted if "base" in name and "adapter" not in name]
    rest = [name for name in wanted if name not in inside]
    found = grouped(
        (inside, {"lr": backbone, "weight_decay": decay}),
        (rest, {"lr": base, "weight_decay": decay, "bias_factor": 2.0}),
    )
    check_groups(found, wanted)


@golden("vladr__optim_groups")
def test_vladr_decays_all_but_the_attribute_decoder(file):
    file = file()
    wanted = {name: json.loads(pair) for pair, group in file["groups"].items() for name in group["names"]}
    base, decay = wanted["classifier.weight"]
    decoder = [name for name in wanted if "region_attn" in name]
    rest = [name for name in wanted if name not in decoder]
    found = grouped(
        (decoder, {"lr": file["query_lr"] * base}),
        (rest, {"lr": base, "weight_decay": decay, "bias_factor": 2.0}),
    )
    check_groups(found, wanted)
