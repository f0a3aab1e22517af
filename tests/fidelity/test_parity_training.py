"""Samplers, schedules and the teacher's average against published code."""

import json
import random

import numpy as np
import torch
from golden import LOSS, agree, close, golden, in_proportion, matching, named
from torch import nn

from reid_core.methods.base import ema_
from reid_core.samplers import CameraBatches, IdentityBatches, SamplerRng
from reid_core.schedules import exponential, warmup_cosine, warmup_milestones, warmup_then_cosine

SAMPLERS = ("clipreid", "pad", "irra", "torchreid")
SURPRISE = 5  # standard errors that two means may lie apart
RATE = 1e-12


# Samplers


class PublishedDice:
    """Chance as the published samplers take it: Python's and NumPy's legacy generators, seeded once."""

    def __init__(self, python, numpy):
        self.python, self.numpy = random.Random(python), np.random.RandomState(numpy)

    def shuffle(self, items):
        items = list(items)
        self.python.shuffle(items)
        return items

    def repeat(self, items, number):
        return self.numpy.choice(items, size=number, replace=True).tolist()

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


def identity_batches(file):
    K = file["in/num_instances"].item()
    return IdentityBatches(file["in/label"], file["in/batch_size"].item() // K, K)


def shots_of(sampler, rng):
    return np.concatenate([draw.index for draw in sampler.epoch(rng)])


@golden(*(f"{source}__identity_sampler" for source in SAMPLERS))
def test_identity_batches_are_the_published_ones_epoch_after_epoch(file):
    file = file()
    sampler = identity_batches(file)
    for seed in {int(match[1]) for _, match in matching(file, r"out/python_and_numpy_seed(\d+)/.*")}:
        rng = PublishedDice(seed, seed)
        keys = matching(file, rf"out/python_and_numpy_seed{seed}/epoch(\d+)/indices")
        published = {int(match[1]): file[key] for key, match in keys}
        for epoch in range(max(published) + 1):
            found = shots_of(sampler, rng)
            assert np.array_equal(found, published.get(epoch, found))


@golden(*(f"{source}__identity_sampler" for source in SAMPLERS))
def test_epochs_of_our_own_generator_are_as_long_as_the_published_ones(file):
    file = file()
    ((key, match),) = matching(file, r"out/epoch_length_over_(\d+)_seeds")
    sampler = identity_batches(file)
    ours = np.array([len(shots_of(sampler, SamplerRng(seed))) for seed in range(int(match[1]))])
    error = np.sqrt((ours.var() + file[key].var()) / len(ours))
    assert abs(ours.mean() - file[key].mean()) <= SURPRISE * error
    assert not (ours % file["in/batch_size"]).any()


@golden("topreid__pk_sampler")
def test_identity_batches_repeat_the_published_stream(file):
    file = file()
    s, each = file.settings, file.settings["num_instances"]
    batches = IdentityBatches(file["in/pid"], s["batch_size"] // each, each)
    rng = PublishedDice(s["python_seed"], s["numpy_seed"])
    assert shots_of(batches, rng).tolist() == file["out/indices"].tolist()


@golden("topreid__pk_sampler")
def test_identity_batches_hold_whole_groups_of_different_identities(file):
    file = file()
    each, pids = file.settings["num_instances"], file["in/pid"]
    batches = IdentityBatches(pids, file.settings["batch_size"] // each, each)
    for draw in batches.epoch(SamplerRng("pk")):
        groups = pids[draw.index].reshape(-1, each)
        assert (groups == groups[:, :1]).all() and len(set(groups[:, 0])) == len(groups)


@golden("vladr__sampler")
def test_camera_batches_repeat_the_published_stream(file):
    """But for identities with a single image: theirs emits it once, which shifts all later groups; ours
    repeats it."""
    file = file()
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
    file = file()
    pids, cameras = file["in/pid"], file["in/cam"]
    batches = CameraBatches(pids, cameras, 1, file.settings["num_instances"], len(set(pids.tolist())))
    for draw in batches.epoch(SamplerRng("cameras")):
        first, others = draw.index[0], draw.index[1:]
        assert set(pids[others]) == {pids[first]}
        everywhere = set(cameras[pids == pids[first]])
        assert len(everywhere) == 1 or cameras[first] not in cameras[others]
        assert first not in others or sum(pids == pids[first]) == 1


# Schedules


def epochs_of(wanted, schedule, base):
    """Rates of as many epochs as wanted; without a base rate nothing moves, and a curve, a factor on it, has
    no meaning."""
    return [base and base * schedule.factor(epoch + 1) for epoch in range(len(wanted))]


@golden("clipreid__lr_schedules", "pad__lr_schedules")
def test_rates_of_stage1_are_the_published_ones(file):
    """Beyond the last epoch, too, where the file goes on."""
    name, file = file.name, file()
    for key, match in matching(file, r"out/(\w+)/stage1_lr\w*"):
        span, base, lowest, start, warmup = file[f"in/{match[1]}/stage1"].tolist()[:5]
        schedule = warmup_cosine(span, base, lowest, warmup, start)
        in_proportion(name, epochs_of(file[key], schedule, base), file[key])


@golden("clipreid__lr_schedules")
def test_rates_of_stage2_and_of_its_biases_are_the_published_ones(file):
    name, file = file.name, file()
    for key, match in matching(file, r"out/(\w+)/stage2_lr_(weights|biases)"):
        span, base, bias, decay, start, warmup, *milestones = file[f"in/{match[1]}/stage2"].tolist()[:8]
        schedule = warmup_milestones(span, warmup, start, milestones, decay)
        in_proportion(
            name, epochs_of(file[key], schedule, base * (bias if match[2] == "biases" else 1)), file[key]
        )


@golden("pad__lr_schedules")
def test_rates_of_prompts_follow_the_curve_of_the_tower(file):
    name, file = file.name, file()
    for key, match in matching(file, r"out/(\w+)/stage2_lr_(backbone_head|prompt)"):
        span, base, prompt, decay, start, warmup, *milestones = file[f"in/{match[1]}/stage2"].tolist()[:8]
        schedule = warmup_milestones(span, warmup, start, milestones, decay)
        in_proportion(
            name, epochs_of(file[key], schedule, prompt if match[2] == "prompt" else base), file[key]
        )


@golden("clipreid__lr_schedules")
def test_rates_after_a_constant_warmup_are_the_published_ones(file):
    """Ours rises linearly where this variant waits: no recipe waits."""
    name, file = file.name, file()
    for key, match in matching(file, r"out/(\w+)/stage2_lr"):
        span, base, decay, start, warmup, *milestones = file[f"in/{match[1]}/stage2"].tolist()
        schedule = warmup_milestones(span, warmup, start, milestones, decay)
        past = np.arange(1, len(file[key]) + 1) >= (warmup if "constant" in match[1] else 0)
        in_proportion(name, np.array(epochs_of(file[key], schedule, base))[past], file[key][past])


@golden("irra__lr_schedules")
def test_rates_of_irra_are_the_published_ones(file):
    """Cosine and steps; of the other curves, which no method here uses, the warm-up that all share."""
    name, file = file.name, file()
    for key, match in matching(file, r"out/(\w+)/lr"):
        s = json.loads(str(file[f"in/{match[1]}/settings"]))
        span, base, warmup, start = s["num_epoch"], s["lr"], s["warmup_epochs"], s["warmup_factor"]
        if s["lrscheduler"] == "step":
            schedule, first = warmup_milestones(span, warmup, start, s["milestones"], s["gamma"]), 0
        else:
            schedule, first = warmup_then_cosine(span, warmup, start, share(s["target_lr"], base)), 1
        wanted = file[key] if s["lrscheduler"] in ("cosine", "step") else file[key][:warmup]
        found = [base * schedule.factor(first + epoch) for epoch in range(len(wanted))]
        constant = warmup if s["warmup_method"] == "constant" else 0
        in_proportion(name, found[constant:], wanted[constant:])


def share(rate, base):
    """Of a base rate; none where there is none."""
    return rate / base if base else 0.0


def timm_rates(file):
    """Rates of all groups (epochs 0..E+1, groups): start and end are the same for every base rate."""
    s = file.settings
    curves = [
        warmup_cosine(s["epochs"], b, s["lr_min"], s["warmup_epochs"], s["warmup_init"]) for b in s["base"]
    ]
    epochs = range(len(file["out/lr_by_epoch_0_to_E_plus_1"]))
    return np.array([[b and b * curve.factor(e) for b, curve in zip(s["base"], curves)] for e in epochs])


@golden("topreid__schedule", "htt__schedule")
def test_the_cosine_counts_absolute_epochs(file):
    file = file()
    agree(file, "out/lr_by_epoch_0_to_E_plus_1", timm_rates(file), RATE)


@golden("demo__schedule")
def test_demo_multiplies_our_rates_by_noise(file):
    """We have no such noise."""
    file = file()
    noise = file["in/noise_by_epoch_0_to_E_minus_1"]
    rates = timm_rates(file)
    rates[: len(noise)] *= 1 + noise[:, None]
    agree(file, "out/lr_by_epoch_0_to_E_plus_1", rates, RATE)
    assert np.abs(noise).max() > 0.1


@golden("vladr__schedule")
def test_vladr_counts_steps(file):
    file = file()
    s, steps = file.settings, len(file["out/lr_used_at_step"])
    curve = warmup_milestones(
        steps, s["warmup_iters"], s["warmup_factor"], s["milestones"], s["gamma"], "step"
    )
    factors = [curve.factor(curve.position(0, 1, step, steps, fine=False)) for step in range(steps)]
    agree(file, "out/lr_used_at_step", np.outer(factors, s["base_lr"]), RATE)


def by_epoch(curve):
    """Factors of a run as long as the curve."""
    epochs = int(curve.span)
    return np.array([curve.factor(curve.position(e, epochs, 0, 1, fine=False)) for e in range(epochs)])


@golden("hpl__schedule")
def test_hpl_decays_by_the_epoch_and_then_warms_up(file):
    file = file()
    one, two = file.settings["stage1"], file.settings["stage2"]
    fall = by_epoch(exponential(one["epochs"], one["gamma"]))
    agree(file, "out/stage1_inversion_lr", one["lr_inversion"] * fall, RATE)
    agree(file, "out/stage1_identity_lr", one["lr_identity"] * fall, RATE)
    start, end = share(two["warmup_start"], two["base"]), share(two["target"], two["base"])
    rise = by_epoch(warmup_then_cosine(two["epochs"], two["warmup_epochs"], start, end))
    agree(file, "out/stage2_lr", two["base"] * rise, RATE)


# The teacher


def small_network(state):
    network = nn.Module()
    network.fc, network.bn = (
        nn.Linear(*state["fc.weight"].shape[::-1]),
        nn.BatchNorm1d(len(state["bn.weight"])),
    )
    for name in state.keys() - network.state_dict().keys():
        network.register_buffer(name, state[name])
    network.load_state_dict(state)
    return network


@golden("pad__ema_teacher")
def test_teacher_is_the_published_average(file):
    """Floating parameters and running statistics follow, whole numbers and flags stay."""
    name, file = file.name, file()
    teacher = small_network(file.tensors("in/initial/"))
    steps = [(f"step{k}", f"step{k}", file.number("in/momentum")) for k in range(file["in/steps"].item())]
    extra = {match[1]: match[2] for _, match in matching(file, r"out/(extra_step_momentum([\d.]+))/.*")}
    steps += [(key, steps[-1][1], float(momentum)) for key, momentum in extra.items()]
    for key, student, momentum in steps:
        ema_(teacher, small_network(file.tensors(f"in/{student}/student/")), momentum)
        wanted = named(file.name, file.tensors(f"out/{key}/teacher/"))
        for part, found in teacher.state_dict().items():
            close(found, wanted[part], LOSS, name)
