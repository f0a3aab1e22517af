"""Samplers, schedules, parameter groups and the teacher's average against published code."""

import json
import random
import re

import numpy as np
import pytest
import torch
from golden import EXACT64, LOSS, close, golden, matching
from golden_towers import GivenTowers, our_name
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import nn

from reid_core.methods.base import ema_, freeze_all_but
from reid_core.methods.clip_reid import RECIPE
from reid_core.optim import Group, split_biases
from reid_core.samplers import IdentityBatches, SamplerRng
from reid_core.schedules import warmup_cosine, warmup_milestones, warmup_then_cosine
from reid_core.towers import CameraEmbedding, ClipResNet, ClipViT, TextEncoder

SAMPLERS = ("clipreid", "pad", "irra", "torchreid")
SURPRISE = 5  # standard errors that two means may lie apart

# Samplers


class PublishedDice:
    """Chance as the published samplers take it: Python's and numpy's legacy generators, seeded once."""

    def __init__(self, seed):
        self.python, self.numpy = random.Random(seed), np.random.RandomState(seed)

    def shuffle(self, items):
        items = list(items)
        self.python.shuffle(items)
        return items

    def repeat(self, items, number):
        return self.numpy.choice(items, size=number, replace=True).tolist()

    def sample(self, items, number):
        return self.python.sample(items, number)


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
        rng = PublishedDice(seed)
        epochs = matching(file, rf"out/python_and_numpy_seed{seed}/epoch(\d+)/indices")
        for key, _ in sorted(epochs, key=lambda found: int(found[1][1])):
            assert np.array_equal(shots_of(sampler, rng), file[key])


@golden(*(f"{source}__identity_sampler" for source in SAMPLERS))
def test_epochs_of_our_own_generator_are_as_long_as_the_published_ones(file):
    file = file()
    ((key, match),) = matching(file, r"out/epoch_length_over_(\d+)_seeds")
    sampler = identity_batches(file)
    ours = np.array([len(shots_of(sampler, SamplerRng(seed))) for seed in range(int(match[1]))])
    error = np.sqrt((ours.var() + file[key].var()) / len(ours))
    assert abs(ours.mean() - file[key].mean()) <= SURPRISE * error
    assert not (ours % file["in/batch_size"]).any()


# Schedules


def same_rates(name, found, wanted):
    """Equal in proportion: rates are far below one."""
    close(np.array(found) / np.array(wanted), np.ones_like(wanted), EXACT64, name)


def epochs_of(wanted, schedule, base):
    return [base * schedule.factor(epoch + 1) for epoch in range(len(wanted))]


@golden("clipreid__lr_schedules", "pad__lr_schedules")
def test_rates_of_stage1_are_the_published_ones(file):
    """Beyond the last epoch, too, where the file goes on."""
    name, file = file.name, file()
    for key, match in matching(file, r"out/(\w+)/stage1_lr\w*"):
        span, base, lowest, start, warmup = file[f"in/{match[1]}/stage1"].tolist()[:5]
        schedule = warmup_cosine(span, base, lowest, warmup, start)
        same_rates(name, epochs_of(file[key], schedule, base), file[key])


@golden("clipreid__lr_schedules")
def test_rates_of_stage2_and_of_its_biases_are_the_published_ones(file):
    name, file = file.name, file()
    for key, match in matching(file, r"out/(\w+)/stage2_lr_(weights|biases)"):
        span, base, bias, decay, start, warmup, *milestones = file[f"in/{match[1]}/stage2"].tolist()[:8]
        schedule = warmup_milestones(span, warmup, start, milestones, decay)
        same_rates(
            name, epochs_of(file[key], schedule, base * (bias if match[2] == "biases" else 1)), file[key]
        )


@golden("pad__lr_schedules")
def test_rates_of_prompts_follow_the_curve_of_the_tower(file):
    name, file = file.name, file()
    for key, match in matching(file, r"out/(\w+)/stage2_lr_(backbone_head|prompt)"):
        span, base, prompt, decay, start, warmup, *milestones = file[f"in/{match[1]}/stage2"].tolist()[:8]
        schedule = warmup_milestones(span, warmup, start, milestones, decay)
        same_rates(name, epochs_of(file[key], schedule, prompt if match[2] == "prompt" else base), file[key])


@golden("clipreid__lr_schedules")
def test_rates_after_a_constant_warmup_are_the_published_ones(file):
    """Ours rises linearly where this variant waits: no recipe waits."""
    name, file = file.name, file()
    for key, match in matching(file, r"out/(\w*constant_warmup\w*)/stage2_lr"):
        span, base, decay, start, warmup, *milestones = file[f"in/{match[1]}/stage2"].tolist()
        schedule = warmup_milestones(span, warmup, start, milestones, decay)
        past = np.arange(1, len(file[key]) + 1) >= warmup
        same_rates(name, np.array(epochs_of(file[key], schedule, base))[past], file[key][past])


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
            schedule, first = warmup_then_cosine(span, warmup, start, s["target_lr"] / base), 1
        wanted = file[key] if s["lrscheduler"] in ("cosine", "step") else file[key][:warmup]
        found = [base * schedule.factor(first + epoch) for epoch in range(len(wanted))]
        constant = warmup if s["warmup_method"] == "constant" else 0
        same_rates(name, found[constant:], wanted[constant:])


# Parameter groups


def published_groups(groups):
    return {our_name(name): (values["lr"], values["weight_decay"]) for name, values in groups.items()}


def groups_of(method, groups):
    """{name: (rate, weight decay)} of everything that a stage's optimiser moves."""
    freeze_all_but(method, groups)
    names = {id(p): name for name, p in method.named_parameters() if p.requires_grad}
    parts = [part for group in groups for part in split_biases(group, names)]
    return {names[id(p)]: (part["lr"], part["weight_decay"]) for part in parts for p in part["params"]}


def tiny_clip_reid(names, recipe):
    """CLIP-ReID with as many blocks, or bottlenecks, as the names tell."""
    depth = len({match[1] for name in names for match in [re.match(r".*resblocks\.(\d+)\.", name)] if match})
    if depth:
        camera = CameraEmbedding(2, 8, 1.0, 1) if "cv_embed" in names else None
        image = ClipViT(VisionTransformer(32, 16, 8, depth, 2, 4.0, output_dim=8), (32, 16), camera=camera)
    else:
        stages = [f"image_encoder.layer{k}." for k in range(1, 5)]
        layers = [len({name.split(".")[2] for name in names if name.startswith(stage)}) for stage in stages]
        image = ClipResNet(ModifiedResNet(layers, 8, 2, 32, 2), (32, 16))
    text = TextEncoder(TextTransformer(8, 8, 8, 2, 1, output_dim=8))
    return GivenTowers(recipe, [0], 1, image, text, words=torch.empty(1, 4, 8))


def approximately(groups):
    return {name: pytest.approx(values, rel=EXACT64, abs=0) for name, values in groups.items()}


@golden("clipreid__optim_groups")
def test_stage1_moves_the_words_alone(file):
    for facts in (facts for facts in file().values() if "stage1" in facts):
        s = facts["settings"]
        recipe = RECIPE.but(
            stage2_ids_per_batch=1,
            stage1_lr=s["stage1_base_lr"],
            stage1_weight_decay=s["stage1_weight_decay"],
        )
        method = tiny_clip_reid(facts["stage2"], recipe)
        assert groups_of(method, method.stages()[0].groups) == approximately(
            published_groups(facts["stage1"])
        )


@golden("clipreid__optim_groups")
def test_stage2_moves_what_the_published_one_moves_and_as_fast(file):
    """Of the baseline, too. Text tower, words and the necks' biases stay as they are."""
    for facts in (facts for facts in file().values() if "settings" in facts):
        s, published = facts["settings"], facts.get("stage2") or facts["all"]
        base = s.get("stage2_base_lr", s.get("base_lr"))
        recipe = RECIPE.but(
            stage2_ids_per_batch=1,
            stage2_lr=base,
            stage2_head_lr=base,
            stage2_bias_lr_factor=s["bias_lr_factor"],
            stage2_weight_decay=s["weight_decay"],
        )
        assert s["weight_decay_bias"] == s["weight_decay"]
        method = tiny_clip_reid(published, recipe)
        assert groups_of(method, method.stages()[1].groups) == approximately(published_groups(published))


class Named(nn.Module):
    """Parameters of the given names, one number each."""

    def __init__(self, names):
        super().__init__()
        for first in dict.fromkeys(name.split(".")[0] for name in names):
            rest = [name.removeprefix(first + ".") for name in names if name.startswith(first + ".")]
            part = Named(rest) if rest else nn.Parameter(torch.zeros(1))
            setattr(self, "part_" + first if first.isdigit() else first, part)

    def under(self, *starts):
        return [p for name, p in self.named_parameters() if name.startswith(starts)]


@golden("irra__optim_groups")
def test_groups_express_the_rules_of_irra(file):
    """Biases: twice the base rate in the cross module, too (D12), the full rate in heads, and no decay
    anywhere."""
    file = file()
    s, published = file["settings"], file["groups"]
    method = Named(published)
    new = ("cross_", "classifier", "mlm_head")
    names = [name for name, _ in method.named_parameters()]
    rule = {
        "weight_decay": s["weight_decay"],
        "bias_decay": s["weight_decay_bias"],
        "eps": file["adam"]["eps"],
        "betas": tuple(file["adam"]["betas"]),
    }
    factor, fast = s["bias_lr_factor"], s["lr"] * s["lr_factor"]
    kept = (n for n in names if not n.startswith(new))
    groups = [
        Group(members=method.under(*kept), lr=s["lr"], bias_factor=factor, **rule),
        Group(members=method.under(new[0]), lr=fast, bias_factor=factor / s["lr_factor"], **rule),
        Group(members=method.under(*new[1:]), lr=fast, **rule),
    ]
    found = {name.replace("part_", ""): values for name, values in groups_of(method, groups).items()}
    wanted = {name: (values["lr"], values["weight_decay"]) for name, values in published.items()}
    assert found == approximately(wanted)


@golden("pad__optim_groups")
def test_groups_express_the_rules_of_pad(file):
    """Tower, heads and prompts; biases are as fast as the rest. Later domains train the last blocks alone."""
    for facts in (facts for facts in file().values() if "settings" in facts):
        s, published = facts["settings"], facts["stage2"]
        method = Named(
            [*published, *facts["frozen_in_stage2"], *facts["requires_grad_but_not_optimised_in_stage2"]]
        )
        first = s["blocks"] - s["unfrozen_last_blocks"] if facts["later_domain"] else 0
        blocks = [f"image_encoder.transformer.resblocks.part_{k}." for k in range(first, s["blocks"])]
        others = (
            []
            if facts["later_domain"]
            else ["image_encoder." + rest for rest in ("class", "pos", "proj", "conv1", "ln_")]
        )
        tower = s["backbone_and_head_lr"], s["backbone_and_head_weight_decay"]
        prompted = s["prompt_lr"], s["prompt_weight_decay"]
        groups = [
            Group(members=method.under(*names), lr=rate, weight_decay=decay)
            for names, (rate, decay) in (
                ((*blocks, *others), tower),
                (("classifier", "bottleneck"), tower),
                (("image_encoder.va_prompt.",), prompted),
            )
        ]
        found = {name.replace("part_", ""): values for name, values in groups_of(method, groups).items()}
        wanted = {name: (values["lr"], values["weight_decay"]) for name, values in published.items()}
        assert found == approximately(wanted)


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
        wanted = file.tensors(f"out/{key}/teacher/")
        assert wanted.keys() == teacher.state_dict().keys()
        for part, found in teacher.state_dict().items():
            close(found, wanted[part], LOSS, name)
