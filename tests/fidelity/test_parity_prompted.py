"""Towers and prompts against published code, set B: VLADR, DeMo, HTT, VPT, MaPLe; and the equations of DMPT
and HPL."""

import re

import numpy as np
import torch
import torch.nn.functional as F
from golden import golden
from golden_b import (
    TOKENIZER,
    agree,
    camera_embedding,
    clip_vit,
    fill,
    gradients_agree,
    leaves,
    load,
    stored,
    template,
    text_tower,
    timm_tower,
)
from torch import nn

from reid_core import losses
from reid_core.prompts import DeepPrompts, PromptTemplate, ShallowPrompts
from reid_core.towers import cropped, resize_positions

SAME, TOWER, FLOAT64 = 1e-5, 1e-4, 1e-9


# --- positions


@golden("vladr__pos_resize", "demo__pos_resize")
def test_positions_are_resampled_bilinearly_without_antialias(file):
    file = load(file)
    agree(file, "out/pos", resize_positions(file.tensor("in/pos"), tuple(file.settings["grid"])), SAME)


@golden("htt__pos_resize")
def test_timm_positions_are_resampled_alike(file):
    file = load(file)
    resized = resize_positions(file.tensor("in/pos")[0], tuple(file.settings["grid"]))
    agree(file, "out/pos", resized[None], SAME)


# --- plain towers


@golden("demo__clip_vit")
def test_demo_projects_all_tokens(file):
    file = load(file)
    image = clip_vit(file)
    agree(file, "out/tokens_without_camera", image.joint_tokens(image(file.tensor("in/image"))), TOWER)


@golden("demo__clip_vit")
def test_demo_tells_the_camera_to_the_class_token_only(file):
    file = load(file)
    camera = camera_embedding(file.tensor("w/cv_embed"), file.settings["sie_coefficient"], tokens=1)
    image = clip_vit(file, camera=camera)
    out = image.joint_tokens(image(file.tensor("in/image"), file.tensor("in/cam")))
    agree(file, "out/global_with_camera", out[:, 0], TOWER)
    agree(file, "out/patch_tokens_with_camera", out[:, 1:], TOWER)


@golden("htt__vit")
def test_htt_tells_the_camera_to_all_tokens(file):
    """Only one of the two cases has cameras; the other is run with a table of zeros."""
    file = load(file)
    image, weights, cameras = timm_tower(file), file.tensors("w/"), file.tensor("in/cam")
    tables = {name: value for name, value in weights.items() if name not in image.state_dict()}
    table = next(iter(tables.values()), torch.zeros(int(cameras.max()) + 1, 1, image.width))
    image.camera = camera_embedding(table, htt_coefficient(file.settings), tokens=None)
    found = image(file.tensor("in/image"), cameras).tokens[:, 0]
    agree(file, "out/class_token", found, TOWER)
    named = stored(file, "grad/", image, **{name: image.camera.table for name in tables})
    gradients_agree(file, "grad/", (found * file.tensor("in/cotangent")).sum(), named, TOWER)


def htt_coefficient(settings):
    """The first number that the settings say about it."""
    numbers = re.findall(r"\d+(?:\.\d+)?", str(settings.get("sie_coefficient", settings["sie"])))
    return float(numbers[0]) if numbers else 1.0


# --- prompts of the image tower


@golden("vpt__shallow_prompt")
def test_shallow_prompts_are_ordinary_tokens(file):
    file = load(file)
    image, (rows, width) = timm_tower(file), file["w/prompt_embeddings"].shape[1:]
    prompts = ShallowPrompts(rows, width)
    prompts.table.data = file.tensor("w/prompt_embeddings")[0]
    check_vpt(file, image, prompts, prompt_embeddings=prompts.table)


@golden("vpt__deep_prompt")
def test_deep_prompts_overwrite_their_slots(file):
    file = load(file)
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
    file = load(file)
    x = leaves(file, "prompt_embeddings", "deep_prompt_embeddings", "prompt_proj.weight")
    tables = torch.cat([x["prompt_embeddings"], x["deep_prompt_embeddings"]])
    tables = F.linear(tables, x["prompt_proj.weight"], file.tensor("w/prompt_proj.bias"))
    check_vpt(file, timm_tower(file), lambda index, tokens, _: tables[index].expand(len(tokens), -1, -1), **x)


def check_vpt(file, image, prompter, **named):
    out = image(file.tensor("in/image"), prompter=prompter)
    agree(file, "out/tokens", vpt_tokens(out), TOWER)
    agree(file, "out/class_token", out.tokens[:, 0], TOWER)
    if named:
        gradients_agree(file, "grad/", (vpt_tokens(out) * file.tensor("in/cotangent")).sum(), named, TOWER)
    return out


def vpt_tokens(out):
    """Class token, prompts, patches: the order of VPT and DMPT."""
    return torch.cat([out.tokens[:, :1], out.prompts, out.tokens[:, 1:]], 1)


def maple_prompter(image, first, deep):
    """MaPLe's way: the first prompts pass CLIP's first norm, the last ones live on."""

    def prompter(index, x, prompts):
        if index > len(deep):
            return prompts
        return (deep[index - 1] if index else image.ln_pre(first)).expand(len(x), -1, -1)

    return prompter


@golden("maple__visual_deep_prompt")
def test_maple_norms_its_first_prompts(file):
    file = load(file)
    image, x = clip_vit(file), leaves(file, "shared_ctx", "deep_prompts")
    out = image(file.tensor("in/image"), prompter=maple_prompter(image, x["shared_ctx"], x["deep_prompts"]))
    agree(file, "out/features", image.joint_cls(out), TOWER)
    gradients_agree(file, "grad/", (image.joint_cls(out) * file.tensor("in/cotangent")).sum(), x, TOWER)


@golden("maple__visual_deep_prompt")
def test_prompts_past_the_first_norm_are_another_model(file):
    file = load(file)
    image, first, deep = clip_vit(file), file.tensor("in/shared_ctx"), file.tensor("in/deep_prompts")
    prompts = DeepPrompts(1 + len(deep), *first.shape)
    prompts.tables.data = torch.cat([first[None], deep])
    found = image.joint_cls(image(file.tensor("in/image"), prompter=prompts)).detach()
    assert (found - file.tensor("out/features")).abs().max() > 10 * TOWER * found.abs().max()


@golden("maple__ivlp_visual")
def test_independent_prompts_per_block_flow_alike(file):
    file = load(file)
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
    file = load(file)
    learner = fill(MapleLearner(file.tensors("w/prompt_learner.")), file.tensors("w/prompt_learner."))
    first, deep = learner.visual_prompts()
    agree(file, "out/visual_shared_ctx", first, TOWER)
    agree(file, "out/visual_deep_prompts", deep, TOWER)
    image, text = clip_vit(file, heads="vision_heads"), text_tower(file, heads="text_heads")
    seen = image.joint_cls(image(file.tensor("in/image"), prompter=maple_prompter(image, first, deep)))
    read = learner.read(text, file.tensor("in/token_ids"))
    agree(file, "out/text_features_unnormalised", read, TOWER)
    logits = file.tensor("w/logit_scale").exp() * losses.similarity(seen, read)
    agree(file, "out/logits", logits, TOWER)
    loss = losses.identity(logits, file.tensor("in/labels"))
    agree(file, "out/loss", loss, TOWER)
    gradients_agree(file, "grad/prompt_learner.", loss, dict(learner.named_parameters()), TOWER)


class MapleLearner(nn.Module):
    """Prompts of the text side, and an affine map of each to the image side, under the published names."""

    def __init__(self, weights):
        super().__init__()
        self.ctx = nn.Parameter(weights["ctx"])
        deep = [value for name, value in sorted(weights.items()) if name.startswith("compound_prompts_text")]
        self.compound_prompts_text = nn.ParameterList(deep)
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


@golden("dmpt__deep_prompt_vit")
def test_three_spectra_share_one_pass(file):
    """Modality prompts are an affine map of the word of each spectrum, one map per block; semantic prompts
    are free."""
    file = load(file)
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


# --- a second class token (HPL)


@golden("hpl__two_class_tokens")
def test_a_second_class_token_reads_and_is_read(file):
    file = load(file)
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
    file = load(file)
    image = clip_vit(file, extra_tokens=1).double()
    out = image(file.tensor("in/image").double())
    agree(file, "out/copied_start/tokens", image.joint_tokens(out), FLOAT64)


@golden("hpl__two_class_tokens")
def test_an_isolated_class_token_leaves_the_others_alone(file):
    file = load(file)
    _, out = two_tokens(file, isolated=True)
    agree(file, "out/isolated/tokens", out, FLOAT64)
    plain = clip_vit(file).double()
    alone = plain.joint_tokens(plain(file.tensor("in/image").double()))
    torch.testing.assert_close(torch.cat([out[:, :1], out[:, 2:]], 1), alone, rtol=0, atol=FLOAT64)


def two_tokens(file, **options):
    """The tower with the stored second token, and what it says."""
    image = clip_vit(file, extra_tokens=1, **options).double()
    image.extra_embedding.data = file.tensor("w/visual.class_embedding_i2i")[None].double()
    image.extra_position.data = file.tensor("w/visual.positional_embedding_i2i")[None].double()
    return image, image.joint_tokens(image(file.tensor("in/image").double()))


# --- sentences


@golden("vladr__prompt_text")
def test_four_learned_words_stand_in_the_sentence(file):
    file = load(file)
    text, table, labels = text_tower(file), leaves(file, "prompt_learner.cls_ctx"), file.tensor("in/labels")
    words = template(file, text)(identity=table["prompt_learner.cls_ctx"][labels])
    end = file.settings["eot_index"]
    assert words.end.tolist() == [end] * len(labels)
    agree(file, "out/prompt_embeddings_first13", words.embeddings[:, : end + 1], TOWER, np.s_[:, : end + 1])
    read, seen = text.joint_end(text(*words)), file.tensor("in/image_features")
    agree(file, "out/text_features", read, TOWER)
    pairs = ((seen, read), (read, seen))
    loss = sum(losses.supervised_contrastive(a, b, labels, labels, cosine=False) for a, b in pairs)
    agree(file, "out/stage1_loss", loss, TOWER)
    gradients_agree(file, "grad/", loss, table, TOWER)


@golden("vladr__attribute_text")
def test_attribute_sentences_are_read_one_by_one(file):
    """Writing and parsing the description file is left out: our sentences come from manifests."""
    file = load(file)
    sentences, text = list(file.settings["sentences"].values()), text_tower(file)
    ids = TOKENIZER([s for image in sentences for s in image], file["in/token_ids"].shape[1])
    assert torch.equal(ids, file.tensor("in/token_ids"))
    features = F.normalize(text.sentences(cropped(ids)), dim=1).unflatten(0, (len(sentences), -1))
    wanted = features[file.tensor("in/query_order")]
    agree(file, "out/text_features", wanted, TOWER)
    lower = file.settings["parts"].index("lower")
    agree(file, "out/text_features_lower_only", wanted[:, [lower]], TOWER)


@golden("hpl__prompt_encoder")
def test_prompts_of_one_identity_and_of_one_image_are_read_alike(file):
    file = load(file)
    text, x = text_tower(file).double(), leaves(file, "identity_tokens", "pseudo_tokens", dtype=torch.float64)
    identity = x["identity_tokens"][file.tensor("in/labels")]
    short = PromptTemplate("A photo of a {identity} person.", text, TOKENIZER)(identity=identity)
    long = PromptTemplate("A photo of a {identity} and {instance} person.", text, TOKENIZER)
    long = long(identity=identity, instance=x["pseudo_tokens"])
    assert set(short.end.tolist()) == {file.settings["eot_identity"]}
    assert set(long.end.tolist()) == {file.settings["eot_hierarchical"]}
    one, two = (text.joint_end(text(*words)) for words in (short, long))
    agree(file, "out/identity_prompt_feature", one, FLOAT64)
    agree(file, "out/hierarchical_prompt_feature", two, FLOAT64)
    gradients_agree(file, "grad/", ((one + two) * file.tensor("in/cotangent")).sum(), x, TOWER)
