"""Parameter groups, with their rates and weight decays, against published code."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import EXACT64, golden, lacks, named, said
from golden_towers import GivenTowers, our_name
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import TextTransformer, VisionTransformer
from torch import nn

from reid_core.methods.base import freeze_all_but
from reid_core.methods.clip_reid import RECIPE
from reid_core.optim import Group, split_biases
from reid_core.towers import CameraEmbedding, ClipResNet, ClipViT, TextEncoder

# Groups of our own method, and rules expressed by groups


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


def parts(file, key):
    """The parts of a file of facts that hold `key`."""
    found = [facts for facts in file.values() if isinstance(facts, dict) and key in facts]
    return found or lacks(file, f"part with {key!r}")


@golden("clipreid__optim_groups")
def test_stage1_moves_the_words_alone(file):
    for facts in parts(file(), "stage1"):
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
    for facts in parts(file(), "settings"):
        s, published = facts["settings"], facts.get("stage2") or facts["all"]
        base = s.get("stage2_base_lr", s.get("base_lr"))
        recipe = RECIPE.but(
            stage2_ids_per_batch=1,
            stage2_lr=base,
            stage2_head_lr=base,
            stage2_bias_lr_factor=s["bias_lr_factor"],
            stage2_weight_decay=s["weight_decay"],
        )
        method = tiny_clip_reid(published, recipe)
        groups = [replace(group, bias_decay=s["weight_decay_bias"]) for group in method.stages()[1].groups]
        assert groups_of(method, groups) == approximately(published_groups(published))


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
    for facts in parts(file(), "settings"):
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


# Rules by the names of parameters


def grouped(*groups):
    """{name: [rate, weight decay]} of groups, each given as (names, options of Group)."""
    names, found = {}, {}
    for members, options in groups:
        parameters = [nn.Parameter(torch.zeros(1)) for _ in members]
        names |= {id(p): name for p, name in zip(parameters, members)}
        for part in split_biases(Group(members=parameters, **options), names):
            found |= {names[id(p)]: [part["lr"], part["weight_decay"]] for p in part["params"]}
    return found


def rule_of_biases(wanted, base, outside=()):
    """Decay of everything, factor and decay of biases, each one number for all of them: files say the rule in
    words only."""
    free = {name: pair for name, pair in wanted.items() if name not in outside}
    plain = next(pair for name, pair in free.items() if "bias" not in name)
    rate, decay = next((pair for name, pair in free.items() if "bias" in name), plain)
    return {"weight_decay": plain[1], "bias_factor": rate / base if base else 1.0, "bias_decay": decay}


def check_groups(found, wanted):
    assert found.keys() == wanted.keys()
    for name, pair in wanted.items():
        np.testing.assert_allclose(found[name], pair, rtol=1e-12, err_msg=name)


@golden("topreid__optim_groups")
def test_topreid_doubles_the_rate_of_biases_or_of_the_classifier(file):
    file = file()
    wanted, base = file["groups"], file["base_lr"]
    large = [name for name in wanted if file["large_fc_lr"] and "classifier" in name]
    rest, rule = [name for name in wanted if name not in large], rule_of_biases(wanted, base, large)
    (factor,) = said(file, file["note"], "base x")
    found = grouped((rest, {"lr": base, **rule}), (large, {"lr": factor * base, **rule, "bias_factor": 1.0}))
    check_groups(found, wanted)


@golden("demo__optim_groups")
def test_demo_gives_the_backbone_one_rate_of_its_own(file):
    """By substring: "base", unless it is an adapter's. Biases of the backbone have no extra rate."""
    file = file()
    wanted, base = file["groups"], file["base_lr"]
    fixed, share = said(file, file["note"], "CLIP:", "ImageNet:")
    backbone = fixed if "CLIP" in file["backbone"] else share * base
    inside = [name for name in wanted if "base" in name and "adapter" not in name]
    rest, rule = [name for name in wanted if name not in inside], rule_of_biases(wanted, base, inside)
    found = grouped((inside, {"lr": backbone, **rule, "bias_factor": 1.0}), (rest, {"lr": base, **rule}))
    check_groups(found, wanted)


@golden("vladr__optim_groups")
def test_vladr_decays_all_but_the_attribute_decoder(file):
    file = file()
    groups = {name: json.loads(pair) for pair, group in file["groups"].items() for name in group["names"]}
    wanted = named(file.name, groups)
    base, _ = wanted["classifier.weight"]
    decoder = [name for name in wanted if "region_attn" in name]
    rest, rule = [name for name in wanted if name not in decoder], rule_of_biases(wanted, base, decoder)
    found = grouped((decoder, {"lr": file["query_lr"] * base}), (rest, {"lr": base, **rule}))
    check_groups(found, wanted)
