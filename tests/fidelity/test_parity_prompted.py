"""Towers with prompts in their blocks or a second class token, against published code (PAD, VPT, MaPLe) and
against the equations of DMPT and HPL."""

import numpy as np
import torch
import torch.nn.functional as F
from golden import FLOAT64, GRADIENT, OUTPUT, TOWER, agree, close, golden, gradients_agree, leaves
from golden_towers import PoolPrompts, clip_vit, fill, image_tower, text_tower, timm_tower, weights
from torch import nn

from reid_core.losses import identity, similarity
from reid_core.prompts import DeepPrompts, ShallowPrompts
from reid_core.towers import no_prompts

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


def pool(file, accumulate=False):
    return PoolPrompts(file.tensors("w/visual.va_prompt."), file["in/k"].item(), accumulate)


@golden("pad__visual_va")
def test_tokens_with_fresh_prompts_in_every_block_are_the_published_ones(file):
    """The routing is this test's own: it enters the tower as any prompter does."""
    name, file = file.name, file()
    for kind, prompter in (("strip", pool(file)), ("no_prompt", no_prompts)):
        _, _, maps = prompted(file, prompter)
        for key, found in maps.items():
            close(found, file[f"out/{kind}/{key}"], OUTPUT, name)
        if kind == "strip":
            assert np.array_equal(torch.stack(prompter.chosen), file["out/strip/topk_idx"])


@golden("pad__visual_va")
def test_tokens_with_accumulating_prompts_are_the_published_ones(file):
    name, file = file.name, file()
    prompter = pool(file, accumulate=True)
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
    found |= {f"va_prompt.{key}": p.grad for key, p in prompter.named_parameters()}
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
