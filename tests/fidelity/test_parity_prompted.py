"""Towers with prompts in their blocks or a second class token, against published code (PAD, VPT, MaPLe) and
against the equations of DMPT and HPL."""

import numpy as np
import torch
import torch.nn.functional as F
from golden import FLOAT64, GRADIENT, OUTPUT, TOWER, agree, close, golden, gradients_agree, leaves
from golden_towers import (
    AccumulatingPool,
    WatchedPool,
    clip_vit,
    fill,
    image_tower,
    pool_of,
    published_masks,
    published_pool,
    text_tower,
    timm_tower,
    weights,
)
from torch import nn

from reid_core.losses import identity, similarity
from reid_core.prompts import DeepPrompts, ShallowPrompts
from reid_core.towers import among, no_prompts

# PAD: a pool


def prompted(file, prompter, blocks=None):
    """Tower, tokens and the three maps of class tokens and patches."""
    state = weights(file, "w/visual.")
    kept = {
        key: value
        for key, value in state.items()
        if blocks is None or "resblocks" not in key or int(key.split(".")[2]) < blocks
    }
    tower = image_tower(kept, file["in/pixels"].shape[2:], file["in/heads"])
    out = tower(file.tensor("in/pixels"), prompter=prompter)
    return (
        tower,
        out,
        {"penultimate": out.hidden[-2], "last": out.tokens, "projected": tower.joint_tokens(out)},
    )


def pool(file, kind=WatchedPool):
    return pool_of(file.tensors("w/visual.va_prompt."), file["in/k"].item(), kind)


class FromClass(WatchedPool):
    """The published options of the routing that its configuration does not take."""

    def query(self, x):
        return x[:, 0]


@golden("pad__va_pool")
def test_a_pool_opens_and_picks_the_published_slots(file):
    """Domain after domain, until the pool is full. Before the first the published code picks among as many as
    it needs; ours has none to pick from, and is asked about as many."""
    name, file = file.name, file()
    state, k, slots = file.tensors("w/va_prompt."), file["in/k"].item(), file["in/pool"].item()
    learned = pool_of(state, k)
    learned.open(min(k, slots))
    same_choice(name, file, learned, "out/domain0_before_any_allocation/")
    learned = pool_of(state, k)
    for number, count in enumerate(file["in/slots_per_domain"].tolist(), 1):
        learned.open(count)
        for key, mask in published_masks(learned).items():
            assert np.array_equal(mask, file[f"out/domain{number}/{key}"])
        same_choice(name, file, learned, f"out/domain{number}/")
    assert learned.waiting.shape[1] == 0  # the test script's count, which takes every slot
    assert (file["out/active_sizes_after_published_test_reload"] == slots).all()


def same_choice(name, file, pool, prefix):
    for layer in range(len(pool.keys)):
        x = file.tensor(f"in/x_layer{layer}")
        found = pool(layer, x, x[:, :0])
        assert np.array_equal(pool.chosen[-1], file[f"{prefix}layer{layer}/topk_idx"])
        assert found.shape[1] == file[f"{prefix}layer{layer}/strip_len"]
        if f"{prefix}layer{layer}/batched" in file:
            close(found, file[f"{prefix}layer{layer}/batched"], OUTPUT, name)


def after_two_domains(file, kind):
    learned = pool_of(file.tensors("w/va_prompt."), file["in/k"].item(), kind)
    for count in file["in/slots_per_domain"][:2].tolist():
        learned.open(count)
    return learned


@golden("pad__va_pool")
def test_a_pool_may_ask_otherwise(file):
    """By the class token, by a given feature, and with the mean of a slot's vectors as its key."""
    name, file = file.name, file()
    same_choice(name, file, after_two_domains(file, FromClass), "out/domain2_key_from_cls_token/")
    given = after_two_domains(file, WatchedPool)
    given.query = lambda x: file.tensor("in/cls_feat")
    same_choice(name, file, given, "out/domain2_key_from_given_cls_feat/")
    means = after_two_domains(file, WatchedPool)
    means.keys = torch.cat([means.frozen, means.trained.detach(), means.waiting], 1).mean(2)
    same_choice(name, file, means, "out/domain2_keys_not_learnable_mean_of_prompts/")


@golden("pad__va_pool")
def test_slots_of_earlier_domains_and_keys_get_no_gradient(file):
    name, file = file.name, file()
    learned = after_two_domains(file, WatchedPool)
    cotangents = [file.tensor(f"in/cotangent_layer{layer}") for layer in range(len(learned.keys))]
    made = [learned(k, file.tensor(f"in/x_layer{k}"), None) for k in range(len(cotangents))]
    sum((one * by).sum() for one, by in zip(made, cotangents)).backward()
    found = published_pool(learned, lambda tensor: tensor.grad)
    for key, wanted in file.tensors("grad/frozen_slots_masked/").items():
        close(found[key], wanted, GRADIENT, name)
    assert not learned.keys.requires_grad and file["out/e_key_gradient_is_none"]


@golden("pad__visual_va")
def test_tokens_with_fresh_prompts_in_every_block_are_the_published_ones(file):
    name, file = file.name, file()
    for kind, prompter in (("strip", pool(file)), ("no_prompt", no_prompts)):
        _, _, maps = prompted(file, prompter)
        for key, found in maps.items():
            close(found, file[f"out/{kind}/{key}"], OUTPUT, name)
        if kind == "strip":
            assert np.array_equal(torch.stack(prompter.chosen), file["out/strip/topk_idx"])


@golden("pad__visual_va")
def test_prompts_that_are_only_keys_and_values_do_the_same(file):
    """What leaves the tower is equal whether prompts pass a block as tokens or are read beside them."""
    file = file()
    _, _, tokens = prompted(file, pool(file, AmongTokens))
    _, _, read = prompted(file, pool(file))
    for key, found in tokens.items():
        torch.testing.assert_close(read[key], found, rtol=0, atol=1e-6 * found.abs().max().item())


class AmongTokens(WatchedPool):
    through = staticmethod(among)


@golden("pad__visual_va")
def test_tokens_with_accumulating_prompts_are_the_published_ones(file):
    name, file = file.name, file()
    prompter = pool(file, AccumulatingPool)
    _, out, maps = prompted(file, prompter)
    assert np.array_equal(torch.stack(prompter.chosen), file["out/no_strip/topk_idx"])
    for key, found in maps.items():
        close(found[:, 0], file[f"out/no_strip/{key}_cls"], OUTPUT, name)
    close(out.tokens[:, 1:], file["out/no_strip/last_patches"], OUTPUT, name)
    assert out.tokens.shape[1] + out.prompts.shape[1] == file["out/no_strip/token_counts_pen_last"][-1]


@golden("pad__visual_va")
def test_prompts_get_the_published_gradients(file):
    name, file = file.name, file()
    prompter = pool(file)
    tower, _, maps = prompted(file, prompter)
    sum(
        (found[:, 0] * file.tensor(f"in/cotangent_cls_{key}")).sum() for key, found in maps.items()
    ).backward()
    found = {f"visual.{key}": p.grad for key, p in tower.named_parameters()}
    pooled = published_pool(prompter, lambda tensor: tensor.grad)
    found |= {f"va_prompt.{key}": gradient for key, gradient in pooled.items()}
    for key, wanted in file.tensors("grad/").items():
        close(found[key], wanted, GRADIENT, name)


@golden("pad__visual_va")
def test_a_shallow_towers_published_penultimate_is_its_last_block(file):
    """Published code takes block min(10, depth - 1); ours takes the last but one of any depth and keeps them
    all."""
    name, file = file.name, file()
    tower, out, _ = prompted(file, no_prompts, blocks=3)
    close(out.hidden[-1][:, 0], file["out/three_layer_no_prompt/penultimate_cls"], OUTPUT, name)
    close(out.tokens[:, 0], file["out/three_layer_no_prompt/last_cls"], OUTPUT, name)
    assert torch.equal(tower.reid_features(out)[0], out.hidden[1][:, 0])


# VPT


def vpt_tokens(out):
    """Class token, prompts, patches: the order of VPT and DMPT."""
    return torch.cat([out.tokens[:, :1], out.prompts, out.tokens[:, 1:]], 1)


def check_vpt(file, image, prompter, **named):
    out = image(file.tensor("in/image"), prompter=prompter)
    agree(file, "out/tokens", vpt_tokens(out), TOWER)
    agree(file, "out/class_token", out.tokens[:, 0], TOWER)
    if named:
        gradients_agree(file, "grad/", (vpt_tokens(out) * file.tensor("in/cotangent")).sum(), named, TOWER)
    return out


@golden("vpt__shallow_prompt")
def test_shallow_prompts_are_ordinary_tokens(file):
    file = file()
    image, (rows, width) = timm_tower(file), file["w/prompt_embeddings"].shape[1:]
    prompts = ShallowPrompts(rows, width)
    prompts.table.data = file.tensor("w/prompt_embeddings")[0]
    check_vpt(file, image, prompts, prompt_embeddings=prompts.table)


@golden("vpt__deep_prompt")
def test_deep_prompts_overwrite_their_slots(file):
    file = file()
    tables = torch.cat([file.tensor("w/prompt_embeddings"), file.tensor("w/deep_prompt_embeddings")])
    prompts = DeepPrompts(*tables.shape)
    prompts.tables.data = tables
    out = check_vpt(file, timm_tower(file), prompts)
    scalar = (vpt_tokens(out) * file.tensor("in/cotangent")).sum()
    (gradient,) = torch.autograd.grad(scalar, prompts.tables)
    agree(file, "grad/prompt_embeddings", gradient[:1], TOWER)
    agree(file, "grad/deep_prompt_embeddings", gradient[1:], TOWER)


@golden("vpt__deep_prompt_projected")
def test_a_prompter_may_project_its_prompts(file):
    """The library has no projected prompts of its own; the protocol takes any function."""
    file = file()
    x = leaves(file, "prompt_embeddings", "deep_prompt_embeddings", "prompt_proj.weight")
    tables = torch.cat([x["prompt_embeddings"], x["deep_prompt_embeddings"]])
    tables = F.linear(tables, x["prompt_proj.weight"], file.tensor("w/prompt_proj.bias"))
    check_vpt(file, timm_tower(file), lambda index, tokens, _: tables[index].expand(len(tokens), -1, -1), **x)


# MaPLe


def maple_prompter(image, first, deep):
    """MaPLe's way: the first prompts pass CLIP's first norm, the last ones live on."""

    def prompter(index, x, prompts):
        if index > len(deep):
            return prompts
        return (deep[index - 1] if index else image.ln_pre(first)).expand(len(x), -1, -1)

    return prompter


@golden("maple__visual_deep_prompt")
def test_maple_norms_its_first_prompts(file):
    file = file()
    image, x = clip_vit(file), leaves(file, "shared_ctx", "deep_prompts")
    out = image(file.tensor("in/image"), prompter=maple_prompter(image, x["shared_ctx"], x["deep_prompts"]))
    agree(file, "out/features", image.joint_cls(out), TOWER)
    gradients_agree(file, "grad/", (image.joint_cls(out) * file.tensor("in/cotangent")).sum(), x, TOWER)


@golden("maple__visual_deep_prompt")
def test_prompts_past_the_first_norm_are_another_model(file):
    file = file()
    image, first, deep = clip_vit(file), file.tensor("in/shared_ctx"), file.tensor("in/deep_prompts")
    prompts = DeepPrompts(1 + len(deep), *first.shape)
    prompts.tables.data = torch.cat([first[None], deep])
    found = image.joint_cls(image(file.tensor("in/image"), prompter=prompts)).detach()
    assert (found - file.tensor("out/features")).abs().max() > 10 * TOWER * found.abs().max()


@golden("maple__ivlp_visual")
def test_independent_prompts_per_block_flow_alike(file):
    file = file()
    image = clip_vit(file)
    names = [name for name in file.tensors("w/") if name.endswith("VPT_shallow")]
    x = leaves(file, "visual.VPT", *sorted(names, key=lambda name: int(name.split(".")[3])))
    first, *deep = x.values()
    out = image(file.tensor("in/image"), prompter=maple_prompter(image, first, deep))
    agree(file, "out/features", image.joint_cls(out), TOWER)
    gradients_agree(file, "grad/", (image.joint_cls(out) * file.tensor("in/cotangent")).sum(), x, TOWER)


@golden("maple__clip_logits")
def test_maple_couples_both_towers(file):
    """Deep prompts of the text side are written by hooks: our text tower knows none."""
    file = file()
    learner = fill(MapleLearner(file.tensors("w/prompt_learner.")), file.tensors("w/prompt_learner."))
    first, deep = learner.visual_prompts()
    agree(file, "out/visual_shared_ctx", first, TOWER)
    agree(file, "out/visual_deep_prompts", deep, TOWER)
    image, text = clip_vit(file, heads="vision_heads"), text_tower(file, file.settings["text_heads"])
    seen = image.joint_cls(image(file.tensor("in/image"), prompter=maple_prompter(image, first, deep)))
    read = learner.read(text, file.tensor("in/token_ids"))
    agree(file, "out/text_features_unnormalised", read, TOWER)
    logits = file.tensor("w/logit_scale").exp() * similarity(seen, read)
    agree(file, "out/logits", logits, TOWER)
    loss = identity(logits, file.tensor("in/labels"))
    agree(file, "out/loss", loss, TOWER)
    gradients_agree(file, "grad/prompt_learner.", loss, dict(learner.named_parameters()), TOWER)


class MapleLearner(nn.Module):
    """Prompts of the text side, and an affine map of each to the image side, under the published names."""

    def __init__(self, weights):
        super().__init__()
        self.ctx = nn.Parameter(weights["ctx"])
        deep = [name for name in weights if name.startswith("compound_prompts_text.")]
        deep.sort(key=lambda name: int(name.split(".")[1]))
        self.compound_prompts_text = nn.ParameterList(weights[name] for name in deep)
        self.proj, *rest = (nn.Linear(*reversed(weights["proj.weight"].shape)) for _ in range(1 + len(deep)))
        self.compound_prompt_projections = nn.ModuleList(rest)

    def visual_prompts(self):
        pairs = zip(self.compound_prompt_projections, self.compound_prompts_text)
        return self.proj(self.ctx), torch.stack([project(prompt) for project, prompt in pairs])

    def read(self, text, ids):
        def overwrite(prompts):
            return lambda block, args: (with_prompts(args[0], prompts), *args[1:])

        for block, prompts in zip(text.transformer.resblocks[1:], self.compound_prompts_text):
            block.register_forward_pre_hook(overwrite(prompts))
        return text.joint_end(text(with_prompts(text.embed(ids), self.ctx), ids.argmax(1)))


def with_prompts(words, prompts):
    """Words (B, L, D) with the slots after the first one overwritten."""
    return torch.cat([words[:, :1], prompts.expand(len(words), -1, -1), words[:, 1 + len(prompts) :]], 1)


# DMPT: one pass for three spectra


@golden("dmpt__deep_prompt_vit")
def test_three_spectra_share_one_pass(file):
    """Modality prompts are an affine map of the word of each spectrum, one map per block; semantic prompts
    are free."""
    file = file()
    image, images = clip_vit(file).double(), file.tensor("in/images").double()
    maps = [key.removeprefix("w/") for key in file if key.startswith("w/modality_proj")]
    x = leaves(file, "semantic_prompts", *maps, dtype=torch.float64)
    words, each, width = file.tensor("in/modality_words").double(), images.shape[1], image.width

    def prompter(index, tokens, prompts):
        modality = F.linear(words, x[f"modality_proj.{index}.weight"], x[f"modality_proj.{index}.bias"])
        both = torch.cat([modality.view(len(words), -1, width), x["semantic_prompts"][:, index]], 1)
        return both.repeat_interleave(each, 0)

    out = image(images.flatten(0, 1), prompter=prompter)
    tokens = vpt_tokens(out).unflatten(0, images.shape[:2])
    agree(file, "out/tokens", tokens, FLOAT64)
    agree(file, "out/class_projected", image.joint_cls(out).unflatten(0, images.shape[:2]), FLOAT64)
    gradients_agree(file, "grad/", (tokens * file.tensor("in/cotangent")).sum(), x, TOWER)


# HPL: a second class token


def two_tokens(file, **options):
    """The tower with the stored second token, and what it says."""
    image = clip_vit(file, extra_tokens=1, **options).double()
    image.extra_embedding.data = file.tensor("w/visual.class_embedding_i2i")[None].double()
    image.extra_position.data = file.tensor("w/visual.positional_embedding_i2i")[None].double()
    return image, image.joint_tokens(image(file.tensor("in/image").double()))


@golden("hpl__two_class_tokens")
def test_a_second_class_token_reads_and_is_read(file):
    file = file()
    image, out = two_tokens(file)
    agree(file, "out/tokens_t2i_i2i_patches", out, FLOAT64)
    named = {
        "visual.class_embedding": image.class_embedding,
        "visual.class_embedding_i2i": image.extra_embedding,
        "visual.positional_embedding_i2i": image.extra_position,
    }
    gradients_agree(file, "grad/", (out * file.tensor("in/cotangent")).sum(), named, TOWER)


@golden("hpl__two_class_tokens")
def test_a_second_class_token_starts_as_a_copy(file):
    file = file()
    image = clip_vit(file, extra_tokens=1).double()
    out = image(file.tensor("in/image").double())
    agree(file, "out/copied_start/tokens", image.joint_tokens(out), FLOAT64)


@golden("hpl__two_class_tokens")
def test_an_isolated_class_token_leaves_the_others_alone(file):
    file = file()
    _, out = two_tokens(file, isolated=True)
    agree(file, "out/isolated/tokens", out, FLOAT64)
    plain = clip_vit(file).double()
    alone = plain.joint_tokens(plain(file.tensor("in/image").double()))
    torch.testing.assert_close(torch.cat([out[:, :1], out[:, 2:]], 1), alone, rtol=0, atol=FLOAT64)
