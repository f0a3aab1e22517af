"""DMPT held to its equations: prompts in a frozen tower, the layers behind it, losses, features, and what
stands for a spectrum that is missing."""

import math
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from definition import (
    EXACT,
    batch_norm,
    block,
    cross_entropy,
    embedded,
    in_float64,
    moved,
    norm,
    sentence,
    triplet,
    unit,
    words_of,
)
from stages import entered, stepped

from data_prep.manifest import MODALITIES
from reid_core import train
from reid_core.contract import first_batch
from reid_core.data import load_data, still_batches
from reid_core.loading import load_clip
from reid_core.methods import dmpt
from reid_core.recipe import PROFILES

FEW = {"ids_per_batch": 4, "images_per_id": 2, "image_height": 64, "image_width": 32}
ROWS = [  # those that change what is computed
    "full",
    "(1): S_p=1;M_p=0;S_bind=0;W_t=0",
    "Interaction Layer Depth=2",
    "Modality Prompt Length=3",
    "Baseline2",
    "fine-tuning with text",
    *dmpt.FIGURE_1,
    *dmpt.READINGS,
]


@pytest.fixture(scope="module")
def spectra():
    return load_data("world_rgbnt201@8", "smoke")


def built(data, row="full", **changes):
    """A method whose weights are away from where they start."""
    train.seed_all(0)
    recipe = dmpt.RECIPE.but(**dmpt.PAPER.rows[row]).at(PROFILES["smoke"]).but(**{**FEW, **changes})
    method = dmpt.DMPT(recipe, data)
    moved([method], 0.05)
    moved([method.layers], 0.2, seed=1)  # so that attention is not flat
    neck = method.head.neck
    neck.running_mean.uniform_(-0.5, 0.5)
    neck.running_var.uniform_(0.5, 2)
    return method


def first(method):
    """Method, stage and the stage's first batch, in float64."""
    stage = entered(method)
    return method, stage, in_float64(method, stage, first_batch(method, stage, method.data))


def queries(method, data):
    """Two shots of the queries, in float64."""
    batch = next(still_batches(data, "query", method.size, method.test_view())).rows(slice(0, 2))
    return replace(batch, views=[view.double() for view in batch.views])


# What the text tower says, once


def of_word(tokens, pool, count):
    """Word vectors (W,), or (count, W), of the tokens (L, W) of a word."""
    if pool == "mean":
        return tokens.mean(0)
    share = len(tokens) / count  # of a slot
    ends = [(math.floor(k * share), math.ceil((k + 1) * share)) for k in range(count)]
    return torch.stack([tokens[start:end].mean(0) for start, end in ends])


@torch.no_grad()
@pytest.mark.parametrize("row", ["full", "a word per slot (D5)", "control: words without meaning"])
def test_modality_prompts_are_made_of_the_word_of_each_spectrum(row, spectra):
    method = built(spectra, row)
    r = method.recipe
    _, text, tokenizer = load_clip(r.backbone, r.pretrained, method.size)
    signs = [words_of(text, tokenizer, word)[1:-1] for word in r.modality_words]
    wanted = [of_word(tokens, r.modality_pool, r.modality_prompt_tokens_M) for tokens in signs]
    torch.testing.assert_close(method.prompts.words, torch.stack(wanted), rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(
    "name, row, said",
    [
        ("world_rgbnt201@8", "full", "a {} photo of a person."),
        ("world_rgbnt100@8", "full", "a {} photo of a vehicle."),
        ("world_rgbnt201@8", "language binds", "a photo of a person."),
    ],
)
def test_the_contrast_compares_with_the_end_of_the_sentence_of_each_spectrum(name, row, said):
    method = built(load_data(name, "smoke"), row)
    r = method.recipe
    _, text, tokenizer = load_clip(r.backbone, r.pretrained, method.size)
    plain = SimpleNamespace(  # what is trained in the place of the tower's projection comes later
        positional_embedding=text.positional_embedding,
        transformer=text.transformer,
        ln_final=text.ln_final,
        text_projection=torch.eye(text.width),
    )
    words = ("visible", "near-infrared", "thermal-infrared")
    wanted = [sentence(plain, words_of(text, tokenizer, said.format(word))) for word in words]
    torch.testing.assert_close(method.sentences, torch.stack(wanted), rtol=0, atol=1e-5)


# The tower and its prompts


def prompts_of(method, depth, spectrum):
    """M_p, then S_p of a block and a spectrum, (P, D)."""
    r, made = method.recipe, method.prompts
    prompts = [made.semantic[depth, 0 if r.share_semantic_prompts else spectrum]]
    if r.modality_prompt_tokens_M:
        vectors = made.words[spectrum] @ made.maps[depth].weight.T + made.maps[depth].bias
        prompts.insert(0, vectors.reshape(r.modality_prompt_tokens_M, -1))
    joined = torch.cat(prompts)
    early = depth == 0 and r.prompt_insertion == "before ln_pre"
    return norm(joined, method.image.ln_pre) if early else joined


def through_tower(method, images, spectrum):
    """Class token, patches and the prompts of the last block, (B, T, D), of the images of a spectrum."""
    x = embedded(method.image, images)
    for depth, layer in enumerate(method.image.transformer.resblocks):
        prompts = prompts_of(method, depth, spectrum).expand(len(x), -1, -1)
        passed = block(torch.cat([x, prompts], 1), layer)
        x = passed[:, : x.shape[1]]
    return norm(passed, method.image.ln_post)


# The layers behind it (Eq. 11-16)


def mapped(x, layer, spectrum):
    return x @ layer.weight[spectrum].T + layer.bias[spectrum]


def bound(method, layer, tokens, there):
    """Each spectrum's tokens, with semantic prompts that have read what the spectra `there` share."""
    r, outer = method.recipe, layer.external
    start = tokens[0].shape[1] - r.semantic_prompt_tokens_S
    prompts = [x[:, start:] for x in tokens]
    into = {s: mapped(prompts[s], outer.into, s) for s in there}
    common = sum(into.values()) / len(there) if r.interaction == "bind" else torch.cat(list(into.values()), 1)
    key = common @ outer.shared.weight.T + outer.shared.bias
    found = []
    for s, (x, own) in enumerate(zip(tokens, prompts)):
        scores = mapped(own, outer.query, s) @ key.mT / math.sqrt(key.shape[-1])
        found.append(torch.cat([x[:, :start], own + scores.softmax(-1) @ key], 1))
    return found


def read(layer, tokens, spectrum, asked):
    """What the tokens of a spectrum read from those of the spectra `asked`, with weights of their own."""
    inner, width = layer.internal, tokens[0].shape[-1]
    q = mapped(tokens[spectrum], inner.query, spectrum)
    both = torch.cat([mapped(tokens[s], inner.keys, s) for s in asked], 1)
    k, v = both[..., :width], both[..., width:]
    found = []
    for head in torch.arange(width).split(width // inner.heads):
        scores = q[..., head] @ k[..., head].mT / math.sqrt(len(head))
        found.append(scores.softmax(-1) @ v[..., head])
    return mapped(torch.cat(found, -1), inner.out, spectrum)


def through_layer(method, layer, tokens, there):
    """Tokens (B, T, D) of each spectrum after a layer."""
    r = method.recipe
    fused = r.interaction == "tokens"
    tokens = tokens if fused else bound(method, layer, tokens, there)
    asked = [range(len(tokens)) if fused else [s] for s in range(len(tokens))]

    def normed(x, s):
        scale = layer.internal.norm
        return norm(x, SimpleNamespace(weight=scale.weight[s], bias=scale.bias[s], eps=1e-5))

    if r.sa_norm == "none":
        return [read(layer, tokens, s, asked[s]) for s in range(len(tokens))]
    ready = [normed(x, s) for s, x in enumerate(tokens)]
    return [x + read(layer, ready, s, asked[s]) for s, x in enumerate(tokens)]


def encoded(method, images, there=(0, 1, 2)):
    """Class tokens [(B, D)] of each spectrum after the tower, and after the layers."""
    tokens = [through_tower(method, images[:, s], s) for s in range(3)]
    early = [x[:, 0] for x in tokens]
    for layer in method.layers:
        tokens = through_layer(method, layer, tokens, there)
    return early, [x[:, 0] for x in tokens]


# Losses


def centre(rows, labels, detached):
    """Mean absolute distance to the centre of one's identity, of one spectrum."""
    centres = torch.stack([rows[labels == label].mean(0) for label in labels])
    return (rows - (centres.detach() if detached else centres)).abs().mean()


def contrast_of(method, early, late):
    """Sec. 3.2, summed over the spectra."""
    r = method.recipe
    shown = {"encoder": early, "interaction": late}[r.con_feature]
    said = unit(method.sentences @ method.text_proj)  # (M, E)
    cosines = [unit(x @ method.image_proj) @ said.T for x in shown]  # (B, M) each
    if r.con_mode == "pull":
        return sum((1 - one[:, s]).mean() for s, one in enumerate(cosines))
    own = [torch.full((len(one),), s) for s, one in enumerate(cosines)]
    return sum(cross_entropy(one / r.con_temperature, s) for one, s in zip(cosines, own))


def defined(method, batch):
    """The terms of Eq. 17."""
    r, labels = method.recipe, batch.labels
    early, late = encoded(method, batch.images)
    joined = torch.cat(late, 1)
    logits = batch_norm(joined, method.head.neck) @ method.head.classifier.weight.T
    terms = {
        "identity": cross_entropy(logits, labels, r.label_smoothing),
        "triplet": triplet(joined, labels, r.triplet_margin or None),
        "centre": sum(centre(x, labels, r.centre_detached) for x in late) / 3,
    }
    return terms if r.con_mode == "off" else {**terms, "contrast": contrast_of(method, early, late)}


@pytest.mark.parametrize("row", ROWS)
def test_every_loss_of_dmpt_is_that_of_its_definition(row, spectra):
    method, stage, batch = first(built(spectra, row))
    with torch.no_grad():
        found, wanted = stage.losses(batch).terms, defined(method, batch)
    assert found.keys() == wanted.keys() == stage.weights.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, **EXACT, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("row", ["full", "centre detached (D13)", "features pulled to their sentences (D16)"])
def test_every_trained_weight_of_dmpt_follows_the_gradient_of_its_definition(row, spectra):
    # of two images the pulls on their centre cancel
    method, stage, batch = first(built(spectra, row, ids_per_batch=2, images_per_id=3))
    learning = {name: p for name, p in method.named_parameters() if p.requires_grad}
    how = {"inputs": list(learning.values()), "allow_unused": True}
    found, wanted = (
        torch.autograd.grad(sum(terms.values()), **how)
        for terms in (stage.losses(batch).terms, defined(method, batch))
    )
    for name, one, other in zip(learning, found, wanted):
        assert one is not None and one.abs().sum() > 0, name
        torch.testing.assert_close(one, other, **EXACT, msg=lambda said, name=name: f"{name}: {said}")


@pytest.mark.parametrize("row, learn", [("full", True), ("projections frozen (D10)", False)])
def test_projections_to_the_joint_space_learn_unless_a_row_freezes_them(row, learn, spectra):
    method = built(spectra, row)
    before = [p.detach().clone() for p in (method.image_proj, method.text_proj)]
    prompts = method.prompts.semantic.detach().clone()
    stepped(method, entered(method))
    after = (method.image_proj, method.text_proj)
    assert [not torch.equal(*pair) for pair in zip(before, after)] == [learn, learn]
    assert not torch.equal(method.prompts.semantic, prompts)


# Tests


def necked(method, late):
    """[(B, D)] of each spectrum, side by side through the neck as tests have it."""
    neck, x = method.head.neck, torch.cat(late, 1)
    return (x - neck.running_mean) / torch.sqrt(neck.running_var + neck.eps) * neck.weight + neck.bias


def same(found, wanted):
    torch.testing.assert_close(found, wanted, **EXACT)


@torch.no_grad()
def test_every_feature_of_dmpt_is_that_of_its_definition(spectra):
    method = built(spectra).double().eval()
    batch = queries(method, spectra)
    early, late = encoded(method, batch.images)
    wanted = {
        "before": torch.cat(late, 1),
        "after": necked(method, late),
        "tower": torch.cat(early, 1),
        **{f"tower {name}": early[s] for s, name in enumerate(MODALITIES)},
        **{f"before {name}": late[s] for s, name in enumerate(MODALITIES)},
    }
    found = method.features(batch, list(wanted))
    for name, value in wanted.items():
        same(found[name], value)


@torch.no_grad()
@pytest.mark.parametrize("feature", ["after", "before"])
def test_the_papers_own_test_ranks_by_the_side_of_the_neck_that_the_recipe_names(feature, spectra):
    method = built(spectra, neck_feature=feature).double().eval()
    batch = queries(method, spectra)
    _, late = encoded(method, batch.images)
    task = next(iter(method.retrieval_tasks().values()))
    assert task.query == task.gallery
    found = method.features(batch, [task.query])[task.query]
    same(found, {"after": necked(method, late), "before": torch.cat(late, 1)}[feature])


def lacking(method, images, gone, filling, mean):
    """The features "after" the neck and "tower" of shots (B, M, 3, H, W) without the spectra numbered
    `gone`."""
    shown = images.clone()
    shown[:, gone] = mean[gone] if filling == "mean" else 0.0
    there = [s for s in range(3) if s not in gone or filling != "mask"]  # who binds, and whose block stays
    stays = torch.zeros(3, 1, dtype=torch.float64)
    stays[there] = 1
    early, late = (list(torch.stack(some, 1).mul(stays).unbind(1)) for some in encoded(method, shown, there))
    blocks = necked(method, late).unflatten(1, (3, -1)) * stays
    return {"after": blocks.flatten(1), "tower": torch.cat(early, 1)}


@torch.no_grad()
@pytest.mark.parametrize("filling", ["zeros", "mean", "mask"])
def test_what_stands_for_a_missing_spectrum_is_what_its_test_is_named_after(filling, spectra):
    """Grey, the mean image, or nothing: neither a block of the feature nor a part of the bind. Every spectrum
    and every pair of them is missing once."""
    method = built(spectra).double().eval()
    images = next(still_batches(spectra, "train", method.size, method.test_view())).images.double()
    mean = images.mean((0, 3, 4))[..., None, None]  # (M, 3, 1, 1)
    method.means.copy_(mean)
    named = f"image to image without (.*), {filling}"
    tasks = {name: task for name, task in method.retrieval_tasks().items() if re.fullmatch(named, name)}
    assert len({task.without for task in tasks.values()}) == 6
    for name, task in tasks.items():
        gone = re.fullmatch(named, name)[1].split(" and ")
        assert set(task.without) == set(gone) and task.query == task.gallery
        numbers = [MODALITIES.index(spectrum) for spectrum in gone]
        wanted = lacking(method, queries(method, spectra).images, numbers, filling, mean)
        found = method.features(queries(method, spectra.without(*gone)), [task.query, f"tower:{filling}"])
        same(found[task.query], wanted["after"])
        same(found[f"tower:{filling}"], wanted["tower"])


def test_the_mean_image_is_that_of_the_training_images(spectra):
    method = built(spectra)
    entered(method)
    images = next(still_batches(spectra, "train", method.size, method.test_view())).images
    torch.testing.assert_close(method.means[..., 0, 0], images.mean((0, 3, 4)), rtol=0, atol=1e-5)
