"""HPL held to its equations: towers with two class tokens, inversion, prompts, the losses of both stages,
features, and a stage that is taken up."""

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from definition import (
    EXACT,
    batch_norm,
    block,
    changed,
    cross_entropy,
    moved,
    norm,
    same_gradients,
    triplet,
    unit,
    words_of,
)
from stages import entered, stepped
from torch.nn import functional as F

from reid_core import train
from reid_core.contract import interrupted, same_state
from reid_core.data import Loader, load_data, still_batches
from reid_core.loading import load_clip
from reid_core.methods import hpl
from reid_core.recipe import PROFILES
from reid_core.samplers import SamplerRng

FEW = {"batch_t2i_pairs": 4, "batch_i2i_images": 4, "images_per_id": 2, "image_height": 64, "image_width": 32}
ROWS = [  # those that change what stage II computes
    "full",
    "TRT=0;HPL=0;CMPR=0",
    "L_tgps=1;L_vgps=0",
    "L_tgps=0;L_vgps=1",
    "second token isolated (D2)",
    "second token with its own projection (D3)",
    "class token is inverted (D5)",
    "tokens before the projection (D6)",
    "padding is read (D7)",
    "no article, no period (D8)",
    "raw distances (D9)",
    "plain cosine as printed (D10)",
    "image losses on both halves (D12)",
    "identity prompts summed as printed (D13)",
    "control: another's prompt",
    "control: words without meaning",
]
FIRST = [row for row in ROWS if re.search(r"full|D[5679]\)|meaning", row)]  # and stage I


@pytest.fixture(scope="module")
def joint():
    """Pairs of one data set and images of another."""
    return load_data("world_text@8+world_msmt@8", "smoke")


def plain(data, row="full", kind=hpl.HPL, **changes):
    """A method as it begins."""
    train.seed_all(0)
    recipe = hpl.RECIPE.at(PROFILES["smoke"]).but(**hpl.PAPER.rows[row])
    return kind(recipe.but(**{**FEW, **changes}), data)


def built(data, row="full", kind=hpl.HPL, **changes):
    """A method whose weights are away from where they start, those of the prompt encoder apart."""
    method = plain(data, row, kind, **changes)
    text = method.text
    moved([method.image, method.second, text.transformer, text.ln_final], 0.01)
    moved([method.inversion, method.match, method.head], 0.05, seed=1)
    moved([method.identities], 0.1, seed=2)
    with torch.no_grad():
        for value in (text.token_embedding.weight, text.positional_embedding, text.text_projection):
            value.mul_(1.1)  # millions of random numbers would take long
        method.image.extra_embedding.add_(0.3 * torch.randn(method.image.extra_embedding.shape))
    return method


def first(method, number=0):
    """Stage, and its first batch in float64, with what its cache says of the same images."""
    stage = entered(method, number)
    loader = Loader.of_stage(method.data, method.size, stage)
    batch = next(iter(loader.batches(0, loader.plan(0))))
    method.double()
    still = replace(batch, views=[seen(method, "train")[batch.index]])
    with torch.no_grad():
        cached = {name: one.compute(still) for name, one in stage.cache.items()}
    views = [view.double() for view in batch.views] or still.views
    return stage, replace(batch, views=views, cached=cached)


def seen(method, split):
    """The images (S, 1, 3, H, W) of a split, as tests see them."""
    view = method.test_view()
    return torch.cat([one.images for one in still_batches(method.data, split, method.size, view)]).double()


# Towers


def image_states(method, images):
    """Class tokens and patches (B, T, D) before the last norm (Sec. Task-Routed Transformer)."""
    tower = method.image
    patches = F.conv2d(images, tower.conv1.weight, stride=tower.stride).flatten(2).mT
    classes = torch.cat([tower.class_embedding[None], tower.extra_embedding])
    place = tower.positional_embedding
    places = torch.cat([place[:1], tower.extra_position, place[1:]])
    x = torch.cat([classes.expand(len(images), -1, -1), patches], 1) + places
    hidden = None
    if method.recipe.class_token_isolated:  # from all but itself
        hidden = torch.zeros(x.shape[1], x.shape[1], dtype=torch.bool)
        hidden[:, 1] = True
        hidden[1, 1] = False
    x = norm(x, tower.ln_pre)
    for layer in tower.transformer.resblocks:
        x = block(x, layer, hidden)
    return x


def image_side(method, images):
    """`states` and `joint` of all tokens (B, T, .), and the class tokens `c1` and `c2` (B, E)."""
    raw = image_states(method, images)
    states = norm(raw, method.image.ln_post)
    joint = states @ method.image.proj
    place = method.recipe.class_tokens - 1
    c2 = joint[:, place]
    if method.recipe.class_head == "separate":
        c2 = norm(raw[:, place], method.second.norm) @ method.second.proj
    return SimpleNamespace(states=states, joint=joint, c1=joint[:, 0], c2=c2)


def text_states(text, vectors):
    """Normed tokens (L, W) of one row of word vectors (L, W)."""
    x = (vectors + text.positional_embedding[: len(vectors)])[None]
    later = torch.ones(len(vectors), len(vectors), dtype=torch.bool).triu(1)
    for layer in text.transformer.resblocks:
        x = block(x, layer, later)
    return norm(x, text.ln_final)[0]


def text_side(method, ids):
    """`states` and `joint` [(L, .)] of captions (N, L), where they `end`, and their features `t` (N, E)."""
    text = method.text
    states = [text_states(text, text.token_embedding.weight[row]) for row in ids]
    joint = [x @ text.text_projection for x in states]
    end = [row.tolist().index(method.tokenizer.eot_token_id) for row in ids]
    t = torch.stack([x[last] for x, last in zip(joint, end)])
    return SimpleNamespace(states=states, joint=joint, end=end, t=t)


# Prompts


def inverted(method, side, tokens, answering):
    """Pseudo-words (Q, W) of the tokens (T, E) of one image or caption (Eq. 4)."""
    network = method.inversion[side]
    queries = method.recipe.inversion_readout == "queries"
    x = (torch.cat([network.queries, tokens]) if queries else tokens)[None]
    for layer in network.blocks:
        x = block(x, layer)
    found = x[0, : method.recipe.inst_tokens] if queries else x[0, answering : answering + 1]
    return norm(found, network.norm) @ network.out.weight.T + network.out.bias


def pseudo_words(method, image, text):
    """P_v and P_t (N, Q, W) of the pairs; unless a row says so, nothing is read behind a caption's end."""
    kind = method.recipe.inversion_reads
    told = getattr(text, kind)
    if method.recipe.inversion_mask:
        told = [x[: end + 1] for x, end in zip(told, text.end)]
    return (
        torch.stack([inverted(method, "image", x, 0) for x in getattr(image, kind)]),
        torch.stack([inverted(method, "caption", x, end) for x, end in zip(told, text.end)]),
    )


def prompt(method, template, **gaps):
    """What the prompt encoder says (E,) of a sentence whose {gaps} are filled with vectors (., W)."""
    text, vectors = method.prompt_encoder, []
    sign = text.token_embedding.weight
    for piece in re.split(r"(\{\w+\})", template):
        name = piece.strip("{}")
        vectors.append(gaps[name] if piece.startswith("{") else sign[method.tokenizer.encode(piece)])
    start, end = sign[[method.tokenizer.sot_token_id]], sign[[method.tokenizer.eot_token_id]]
    return text_states(text, torch.cat([start, *vectors, end]))[-1] @ text.text_projection


def of_identities(method, labels):
    """(B, E): prompts of identity words alone (Eq. 7)."""
    rows = method.identities.new[labels]
    return torch.stack([prompt(method, method.recipe.prompt_identity, identity=row) for row in rows])


def of_instances(method, labels, words):
    """(N, E): prompts of identity words and pseudo-words (Eq. 5)."""
    rows = zip(method.identities.new[labels], words)
    template = method.recipe.prompt_full
    return torch.stack([prompt(method, template, identity=row, instance=one) for row, one in rows])


# Losses


def distance(method, one, other):
    """Mean squared distance of rows, of length one unless a row says otherwise (Eq. 6, 10)."""
    if method.recipe.distance_normalised:
        one, other = unit(one), unit(other)
    return ((one - other) ** 2).sum(1).mean()


def construction(method, batch):
    """The terms of Eq. 13."""
    count, labels = batch.sizes[0], batch.labels
    image, text = image_side(method, batch.images[:, 0]), text_side(method, batch.text)
    image_words = [inverted(method, "image", x, 0) for x in getattr(image, method.recipe.inversion_reads)]
    _, caption_words = pseudo_words(method, image, text)
    logits = method.recipe.prompt_scale * unit(image.c1) @ unit(of_identities(method, labels)).T
    each = torch.arange(len(labels))
    seen = of_instances(method, labels, image_words)
    told = of_instances(method, labels[:count], caption_words)
    return {
        "text to image": cross_entropy(logits.T, each),
        "image to text": cross_entropy(logits, each),
        "inversion consistency": distance(method, seen, image.c1) + distance(method, told, text.t),
    }


def matching_terms(method, c1, t, labels):
    """Eq. 2 for text to image."""
    r = method.recipe
    logits = unit(c1) @ unit(t).T / r.sdm_temperature
    match = (labels[:, None] == labels).double()
    share = torch.log(match / match.sum(1, keepdim=True) + r.sdm_epsilon)  # the same in both directions
    gaps = [(x.softmax(1) * (x.log_softmax(1) - share)).sum(1).mean() for x in (logits, logits.T)]
    said = [cross_entropy(x @ method.match.weight.T + method.match.bias, labels) for x in (c1, t)]
    return {"matching": sum(gaps), "identity t2i": sum(said) / 2}


def image_terms(method, c2, labels):
    """Eq. 2 for image to image."""
    logits = batch_norm(c2, method.head.neck) @ method.head.classifier.weight.T
    return {
        "triplet": triplet(c2, labels, method.recipe.triplet_margin),
        "identity i2i": cross_entropy(logits, labels, method.recipe.label_smoothing_i2i),
    }


def prompt_terms(method, batch, image, text):
    """Eq. 10 to 12."""
    r, count, labels = method.recipe, batch.sizes[0], batch.labels
    pairs = SimpleNamespace(states=image.states[:count], joint=image.joint[:count])
    p_v, p_t = pseudo_words(method, pairs, text)
    seen, told = (of_instances(method, labels[:count], words) for words in (p_v, p_t))
    if r.detach_prompt_targets:
        seen, told = seen.detach(), told.detach()
    by_identity = cross_entropy(r.prompt_scale * unit(image.c2) @ unit(method.bank).T, labels)
    by_text, by_image = distance(method, told, image.c1[:count]), distance(method, seen, text.t)
    return {
        "identity prompts": by_identity * (len(labels) if r.cic_reduction == "sum" else 1),
        "instance prompts": r.tgps_share * by_text + r.vgps_share * by_image,
        "prompt regularisation": ((p_t - p_v) ** 2).sum((1, 2)).mean(),
    }


def learning(method, batch):
    """The terms of Eq. 14."""
    count, labels = batch.sizes[0], batch.labels
    image, text = image_side(method, batch.images[:, 0]), text_side(method, batch.text)
    start = {"images": count, "all": 0}[method.recipe.i2i_loss_scope]
    return {
        **matching_terms(method, image.c1[:count], text.t, labels[:count]),
        **image_terms(method, image.c2[start:], labels[start:]),
        **prompt_terms(method, batch, image, text),
    }


def same(found, wanted, names):
    assert set(found) == set(names) <= set(wanted)
    for name in names:
        torch.testing.assert_close(
            found[name], wanted[name], **EXACT, msg=lambda said, name=name: f"{name}: {said}"
        )


@torch.no_grad()
@pytest.mark.parametrize("row", FIRST)
def test_every_loss_of_stage_one_of_hpl_is_that_of_its_definition(row, joint):
    method = built(joint, row)
    stage, batch = first(method)
    same(stage.losses(batch).terms, construction(method, batch), stage.weights)


@torch.no_grad()
@pytest.mark.parametrize("row", ROWS)
def test_every_loss_of_stage_two_of_hpl_is_that_of_its_definition(row, joint):
    method = built(joint, row)
    stage, batch = first(method, 1)
    same(stage.losses(batch).terms, learning(method, batch), stage.weights)


@torch.no_grad()
def test_every_loss_of_a_model_for_one_task_is_that_of_its_definition(joint):
    method = built(joint, kind=hpl.SentencesAlone, **hpl.ALONE)
    stage, batch = first(method)
    c1, t = image_side(method, batch.images[:, 0]).c1, text_side(method, batch.text).t
    same(stage.losses(batch).terms, matching_terms(method, c1, t, batch.labels), stage.weights)
    method = built(joint, kind=hpl.ImagesAlone, **hpl.ALONE)
    stage, batch = first(method)
    c2 = image_side(method, batch.images[:, 0]).c2
    same(stage.losses(batch).terms, image_terms(method, c2, batch.labels), stage.weights)


@pytest.mark.parametrize("row, number", [("full", 0), ("full", 1), ("prompts detached (D22)", 1)])
def test_every_trained_weight_of_hpl_follows_the_gradient_of_its_definition(row, number, joint):
    method = built(joint, row)
    stage, batch = first(method, number)
    wanted = (construction, learning)[number](method, batch)
    same_gradients(method, stage, stage.losses(batch).terms, wanted)


def changed_parts(method, stage):
    """Names of the parts that some updates of a stage change."""
    before = {name: value.clone() for name, value in method.state_dict().items()}
    stepped(method, stage, steps=2)
    return {
        ".".join(name.split(".")[: 2 if name.startswith("inversion") else 1])
        for name in changed(method, before)
    }


@pytest.mark.parametrize(
    "row, number, learn",
    [
        ("full", 0, {"identities", "inversion.image", "inversion.caption"}),
        ("full", 1, {"image", "text", "match", "head"}),
        (
            "inversion trained in stage II (D18)",
            1,
            {"image", "text", "match", "head", "inversion.image", "inversion.caption"},
        ),
        (
            "second token with its own projection (D3)",
            1,
            {"image", "second", "text", "match", "head"},
        ),
    ],
)
def test_each_stage_of_hpl_trains_what_it_names(row, number, learn, joint):
    method = plain(joint, row)
    assert changed_parts(method, entered(method, number)) == learn


# The bank


@torch.no_grad()
@pytest.mark.parametrize(
    "row, before", [("full", 0), ("no article, no period (D8)", 0), ("control: another's prompt", 1)]
)
def test_the_bank_holds_what_the_frozen_prompt_encoder_says_of_each_identity(row, before, joint):
    """Whatever the text tower has learned since; a control gives everybody the prompt of the one before."""
    method = built(joint, row)
    entered(method, 1)
    bank = method.bank.double()
    wanted = of_identities(method.double(), torch.arange(joint.classes) - before)
    torch.testing.assert_close(bank, wanted, rtol=1e-5, atol=1e-5)


def test_prompts_are_written_with_the_words_of_the_weights_file(joint):
    method = built(joint)
    r = method.recipe
    _, text, tokenizer = load_clip(r.backbone, r.pretrained, method.size)
    assert torch.equal(method.prompt_encoder.token_embedding.weight, text.token_embedding.weight)
    with torch.no_grad():
        said = "A photo of a red person."
        wanted = text_states(text, words_of(text, tokenizer, said))[-1] @ text.text_projection
        red = words_of(text, tokenizer, "red")[1:-1]
        found = method.prompt_encoder.feature(*method.short(identity=red[None]))[0]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_training_of_hpl_that_is_interrupted_in_stage_two_ends_with_the_same_bits(joint, tmp_path):
    """Its bank included, which is made once more: no file holds it."""

    def trained(place, every=None):
        method = plain(joint, stage1_epochs=1, stage2_epochs=1, epoch_pairs=8)
        how = {"precision": "fp32", "checkpoint_every": every, "key": "one", "log": lambda text: None}
        train.fit(method, joint, place, **how)
        return method

    whole = trained(tmp_path / "whole")
    steps = len(whole.stages()[0].sampler.epoch(SamplerRng(0)))
    interrupted(lambda: trained(tmp_path / "broken", every=1), steps=steps + 1)
    again = trained(tmp_path / "broken")
    assert same_state(whole, again)
    assert torch.equal(whole.bank, again.bank) and whole.bank.abs().sum() > 0


# Tests


@torch.no_grad()
@pytest.mark.parametrize(
    "row", ["full", "second token with its own projection (D3)", "second token isolated (D2)", ROWS[1]]
)
def test_every_feature_of_hpl_is_that_of_its_definition(row, joint):
    """Captions are read by the text tower that was trained, never by the prompt encoder."""
    method = built(joint, row).double().eval()
    part = next(one for one in joint.parts if any(one.gallery.captions))
    batch = next(still_batches(part, "gallery", method.size, method.test_view())).rows(slice(0, 3))
    batch.views = [view.double() for view in batch.views]
    said = method.tokenizer([captions[0] for captions in part.gallery.captions[:3]])
    image, text = image_side(method, batch.images[:, 0]), text_side(method, said)
    found = method.features(batch, ["c1", "c2"])
    found |= method.features(replace(batch, text=said, views=[]), ["caption"])
    same(found, {"c1": image.c1, "c2": image.c2, "caption": text.t}, ["c1", "c2", "caption"])


def test_images_are_compared_by_the_second_token_and_sentences_with_the_first(joint):
    tasks = plain(joint).retrieval_tasks()
    assert tasks["image to image"][:3] == ("c2", "c2", "image")
    assert tasks["text to image"][:3] == ("caption", "c1", "text")
