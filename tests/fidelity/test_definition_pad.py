"""PAD against its equations, written out: towers with prompts, every loss with its weight, what each of them
teaches, and the settings of each domain."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from definition import (
    batch_norm,
    block,
    called,
    contrast,
    cross_entropy,
    divergence,
    embedded,
    gradients,
    in_float64,
    learning,
    moved,
    norm,
    rates,
    triplet,
    unit,
)
from stages import begun, entered

from reid_core.augment import Augmentation
from reid_core.contract import first_batch
from reid_core.data import load_data, still_batches
from reid_core.methods import METHODS
from reid_core.recipe import PROFILES

SMALL = {"image_height": 64, "image_width": 32}
FEW = {"ids_per_batch": 4, "stage1_batch": 16, **SMALL}


@pytest.fixture(scope="module")
def domains():
    return [load_data(f"world_{name}@8", "smoke") for name in "abc"]


def standing(variant, domains, number=-1, row="full", **changes):
    """A method within a stage, away from where it began and from its teacher, in float64, with a batch."""
    method = begun("pad", variant, domains, row, **{**FEW, **changes})
    stage = entered(method, number)
    taught = [method.image, method.prompts, method.heads, method.words]
    moved([*taught, method.teacher, method.teacher_prompts])
    return method, stage, in_float64(method, stage, first_batch(method, stage, method.data))


def prompted(tower, pool, images, slots):
    """f11, f12, fp: in every block the general prompts and those of the four slots among the first `slots`
    whose keys are nearest to the mean of the tokens."""
    x, seen = embedded(tower, images), []
    every = torch.cat([pool.frozen, pool.trained, pool.waiting], 1)
    for place, layer in enumerate(tower.transformer.resblocks):
        cosine = unit(x.mean(1)) @ unit(pool.keys[place, :slots]).T
        picked = every[place][cosine.argsort(1, descending=True)[:, :4]].flatten(1, 2)
        general = pool.general[place].expand(len(x), -1, -1)
        x = block(torch.cat([x, general, picked], 1), layer)[:, : x.shape[1]]
        seen.append(x[:, 0])
    last = norm(x[:, 0], tower.ln_post)
    return seen[-2], last, last @ tower.proj


def looked(method, batch):
    """f11, f12, fp of a batch by the student and by the teacher."""
    slots = 8 * method.position
    student = prompted(method.image, method.prompts, batch.images[:, 0], slots)
    return student, prompted(method.teacher, method.teacher_prompts, batch.images[:, 0], slots)


def reid(method, features, labels):
    """Identity behind two necks, and triplet of three features."""
    behind = [
        batch_norm(f, head.neck) @ head.classifier.weight.T for f, head in zip(features[1:], method.heads)
    ]
    identity = sum(cross_entropy(logits, labels, 0.1) for logits in behind)
    return {"identity": identity, "triplet": sum(triplet(f, labels, 0.3) for f in features)}


def pulled(image, text, labels, temperature, cosine):
    """The contrast, in both directions."""
    how = (labels, temperature, cosine)
    return {"image to text": contrast(image, text, *how), "text to image": contrast(text, image, *how)}


def text_kept(image, sentences, teacher):
    """TEXKD: seven times cosines, at temperature 0.07."""
    student, taught = (7 * unit(image) @ unit(text).T for text in (sentences, teacher))
    return divergence(student, taught, 0.07)


def same(stage, batch, wanted):
    """Every term of a stage is what it should be, and weighs so much: {term: (weight, loss)}."""
    terms = stage.losses(batch).terms
    assert set(terms) == set(wanted)
    assert stage.weights == {name: weight for name, (weight, _) in wanted.items()}
    for name, (_, value) in wanted.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-8), name


# Losses


@pytest.mark.parametrize("count", [1, 3])
def test_released_words_learn_by_the_losses_of_their_definition(count, domains):
    method, stage, batch = standing("released", domains[:count], 0)
    image, labels = batch.cached["image"], batch.labels
    with torch.no_grad():
        text = called(method, method.words.new)
        wanted = {name: (1.0, loss) for name, loss in pulled(image, text[labels], labels, 1.0, False).items()}
        if count > 1:
            teacher = called(method, method.teacher_words.old)
            wanted["text distillation"] = (0.5, text_kept(image, text, teacher))
        same(stage, batch, wanted)


def test_released_words_are_held_on_the_batch_and_on_others_of_the_domain(domains):
    """With room for a batch of four and one other identity: five are compared, the batch's among them."""
    how = {"stage1_batch": 4, "texkd_negatives": 1}
    method, stage, batch = standing("released", domains[:2], 0, **how)
    image, there = batch.cached["image"], set(batch.labels.tolist())
    with torch.no_grad():
        found = stage.losses(batch).terms["text distillation"].item()
        text, teacher = called(method, method.words.new), called(method, method.teacher_words.old)
        sets = [list(ids) for ids in itertools.combinations(range(len(text)), 5) if there <= set(ids)]
        losses = [text_kept(image, text[ids], teacher[ids]).item() for ids in sets]
    assert sum(loss == pytest.approx(found, rel=1e-8) for loss in losses) == 1 < len(losses)


@pytest.mark.parametrize("count", [1, 3])
def test_released_images_learn_by_the_losses_of_their_definition(count, domains):
    method, stage, batch = standing("released", domains[:count], 1)
    with torch.no_grad():
        (student, teacher), text = looked(method, batch), called(method, method.words.new)
        terms = reid(method, student, batch.labels)
        wanted = {"identity": (0.25, terms["identity"]), "triplet": (1.0, terms["triplet"])}
        wanted["image to text"] = (1.0, cross_entropy(student[2] @ text.T, batch.labels, 0.1))
        if count > 1:
            gaps = [((s - t) ** 2).mean() for s, t in zip(student, teacher)]  # over rows and channels
            kept = divergence(student[2] @ text.T, teacher[2] @ text.T, 4.0)
            wanted |= {"feature distillation": (0.5, sum(gaps) / 3), "logit distillation": (0.5, kept)}
        same(stage, batch, wanted)


@pytest.mark.parametrize("count", [1, 3])
def test_described_domains_learn_by_the_losses_of_their_definition(count, domains):
    method, stage, batch = standing("described", domains[:count])
    first = sum(domain.classes for domain in domains[: count - 1])  # words of earlier identities stand first
    labels = batch.labels
    with torch.no_grad():
        (student, teacher), text = looked(method, batch), called(method, method.words.new)
        own = text[first:]
        terms = reid(method, student, labels) | pulled(student[2], own[labels], labels, 0.07, True)
        wanted = {name: (1.0, value) for name, value in terms.items()}
        if count > 1:
            earlier = called(method, method.teacher_words.old)
            kept = text_kept(student[2], text[:first], earlier)
            gaps = [((unit(s) - unit(t)) ** 2).sum(1).mean() for s, t in zip(student, teacher)]
            logits = divergence(student[2] @ own.T, teacher[2] @ own.T, 4.0)
            values = {"text": kept, "feature": sum(gaps) / 3, "logit": logits}
            wanted |= {f"{name} distillation": (0.5, value) for name, value in values.items()}
        same(stage, batch, wanted)


@pytest.mark.parametrize("variant", ["released", "described"])
def test_each_strength_of_distillation_weighs_its_own_term(variant, domains):
    strengths = {"text": 0.1, "feature": 0.3, "logit": 0.7}
    how = dict(zip(("lambda_text", "lambda_feat", "lambda_logit"), strengths.values()))
    stages = begun("pad", variant, domains[:2], **FEW, **how).stages()
    found = {name: weight for stage in stages for name, weight in stage.weights.items()}
    held = {name.removesuffix(" distillation"): w for name, w in found.items() if "distillation" in name}
    assert held == strengths


# What each loss teaches

VISUAL = {"image", "prompts"}
TAUGHT = {
    "identity": {*VISUAL, "heads"},
    "triplet": VISUAL,
    "feature distillation": VISUAL,
    "logit distillation": VISUAL,
}
WORDS = {"image to text": {"words"}, "text to image": {"words"}, "text distillation": {"words"}}
BOTH = {"image to text": {*VISUAL, "words"}, "text to image": {*VISUAL, "words"}}


@pytest.mark.parametrize(
    "variant, number, taught",
    [
        ("released", 0, WORDS),
        ("released", 1, {**TAUGHT, "image to text": VISUAL}),
        ("described", 0, {**TAUGHT, **BOTH, "text distillation": {"words", "gamma"}}),
    ],
)
def test_each_loss_teaches_what_it_should_and_nothing_else(variant, number, taught, domains):
    """Sentences are anchors where images are distilled, and images where sentences are."""
    method, stage, batch = standing(variant, domains[:2], number)
    terms = stage.losses(batch).terms
    found = {name: {key.split(".")[0] for key in gradients(method, loss)} for name, loss in terms.items()}
    assert found == taught


def test_described_words_learn_from_their_own_domain_and_are_held_in_later_ones(domains):
    method, stage, batch = standing("described", domains)
    terms = stage.losses(batch).terms
    rows = {}
    for name in ("image to text", "text distillation"):
        grad = gradients(method, terms[name])["words.new"]
        rows[name] = grad.flatten(1).abs().sum(1).nonzero().flatten().tolist()
    first = domains[0].classes + domains[1].classes
    assert rows["text distillation"] == list(range(first))
    assert rows["image to text"] == (first + batch.labels.unique()).tolist()


# What is looked at


@pytest.mark.parametrize("count", [1, 3])
def test_words_learn_on_images_that_nothing_has_changed(count, domains):
    """The cache holds fp of the tower with its prompts, of bilinear images without flip, crop or erasing."""
    method, stage, batch = standing("released", domains[:count], 0)
    plain = Augmentation("bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert stage.cache["image"].view == plain
    images = next(still_batches(method.data, "train", method.size, plain)).images[batch.index, 0].double()
    with torch.no_grad():
        joint = prompted(method.image, method.prompts, images, 8 * count)[2]
    torch.testing.assert_close(batch.cached["image"], joint, rtol=1e-5, atol=1e-4)  # computed in float32


@pytest.mark.parametrize("row, slots", [("full", 16), ("all slots at test (D8)", 36)])
@pytest.mark.parametrize("variant", ["released", "described"])
def test_what_is_tested_is_the_student_with_the_slots_of_its_row(variant, row, slots, domains):
    method, _, _ = standing(variant, domains[:2], row=row)
    method.eval()
    batch = next(still_batches(domains[0], "query", method.size, method.test_view(), batch=8))
    batch.views = [batch.images.double()]
    with torch.no_grad():
        wanted = prompted(method.image, method.prompts, batch.images[:, 0], slots)
        found = method.embed(batch, "f12+fp")
    torch.testing.assert_close(found, torch.cat(wanted[1:], 1), rtol=0, atol=1e-8)


@pytest.mark.parametrize("variant, first", [("released", 0), ("described", 8)])
def test_the_anchors_of_a_domain_are_the_sentences_of_its_own_identities(variant, first, domains):
    method, _, _ = standing(variant, domains[:2])
    with torch.no_grad():
        wanted = called(method, method.words.new[first:])
    method.begin_domain(domains[2], 3)
    torch.testing.assert_close(method.anchors["world_b"], wanted, rtol=0, atol=1e-8)


@pytest.mark.parametrize("variant", ["released", "described"])
def test_the_visual_teacher_follows_what_learns_after_each_step(variant, domains):
    method, stage, _ = standing(variant, domains[:2], ema_alpha=0.9)
    pairs = [(method.image, method.teacher), (method.prompts, method.teacher_prompts)]
    before = [[value.clone() for value in teacher.parameters()] for _, teacher in pairs]
    stage.after_step({})
    for (student, teacher), values in zip(pairs, before):
        for learned, value, found in zip(student.parameters(), values, teacher.parameters()):
            share = 0.9 if learned.requires_grad else 1.0
            torch.testing.assert_close(found, share * value + (1 - share) * learned, rtol=0, atol=1e-8)


@pytest.mark.parametrize("variant, held", [("released", slice(None)), ("described", slice(8))])
@pytest.mark.parametrize("row, share", [("full", 1.0), ("text teacher by EMA", 0.9)])
def test_the_text_teacher_stays_or_follows_the_words_that_it_holds_on_to(variant, held, row, share, domains):
    method, stage, _ = standing(variant, domains[:2], 0, row, ema_alpha=0.9)
    wanted = share * method.teacher_words.old + (1 - share) * method.words.new[held]
    stage.after_step({})
    torch.testing.assert_close(method.teacher_words.old, wanted, rtol=0, atol=1e-8)


# Settings of each domain

# a domain of the first order -> epochs, batch of stage 1; epochs, milestones, batch of stage 2; rate of
# prompts and words; chance of an erasing
SETTINGS = {
    "market1501": (20, 64, 30, (18, 26), 64, 2e-3, 0.5),
    "cuhk_sysu": (12, 64, 25, (14, 22), 64, 5e-3, 0.5),
    "dukemtmc": (12, 64, 25, (14, 22), 64, 5e-3, 0.5),
    "msmt17": (15, 64, 32, (18, 28), 64, 5e-3, 0.5),
    "cuhk03": (10, 48, 28, (16, 24), 48, 5e-3, 0.6),
}


def published(variant, domains, name):
    """A small method that stands in a domain of the first order with the recipe of the paper."""
    method = begun("pad", variant, domains[:2], **FEW)
    method.recipe = METHODS["pad"].recipe_of(variant, "full").at(PROFILES["paper"])
    labels = np.repeat(np.arange(64), 4)
    manifest = SimpleNamespace(name=name)
    method.data = SimpleNamespace(manifest=manifest, labels=labels, train=labels, classes=64)
    method.position = 1 + list(SETTINGS).index(name)
    return method


@pytest.mark.parametrize("name", SETTINGS)
def test_words_learn_with_the_settings_of_their_domain(name, domains):
    epochs, size, *_, rate, _ = SETTINGS[name]
    stage = published("released", domains, name).stages()[0]
    assert (stage.epochs, stage.sampler.batch) == (epochs, size)

    def wanted(e):
        if e < 3:
            return 1e-5 + e * (rate - 1e-5) / 3
        return 1e-6 + 0.5 * (rate - 1e-6) * (1 + math.cos(math.pi * e / epochs))

    assert rates(stage, stage.groups[0]) == pytest.approx([wanted(e) for e in range(1, epochs + 1)])


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("variant", ["released", "described"])
def test_images_learn_with_the_settings_of_their_domain(variant, name, domains):
    _, _, epochs, milestones, size, rate, erased = SETTINGS[name]
    stage = published(variant, domains, name).stages()[-1]
    assert (stage.epochs, stage.sampler.P, stage.sampler.K) == (epochs, size // 4, 4)
    assert [one.p for one in stage.views[0].erasing] == [erased]
    curve = [
        min(0.1 + 0.9 * e / 10, 1) * 0.1 ** sum(e >= m for m in milestones) for e in range(1, epochs + 1)
    ]
    for group, full in zip(stage.groups, (5e-6, 5e-6, rate, rate)):
        assert rates(stage, group) == pytest.approx([full * factor for factor in curve])


def visual(method, later, rate):
    """The same as it should be: tower (its last four blocks in later domains), heads, and the prompts."""
    count = len(method.image.transformer.resblocks)
    open_ = [f"image.transformer.resblocks.{count - k}." for k in range(1, 5)] if later else ["image."]
    slow = [name for name, _ in method.named_parameters() if name.startswith((*open_, "heads."))]
    return dict.fromkeys(slow, (5e-6, 1e-4)) | dict.fromkeys(
        ("prompts.general", "prompts.trained"), (rate, 0.0)
    )


@pytest.mark.parametrize("name, rate", [("market1501", 2e-3), ("dukemtmc", 5e-3)])
@pytest.mark.parametrize("variant", ["released", "described"])
def test_every_parameter_learns_at_its_own_rate(variant, name, rate, domains):
    method = published(variant, domains, name)
    images = visual(method, name == "dukemtmc", rate)
    words = {"words.new": (rate, 0.0)}
    first, *second = [learning(method, stage) for stage in method.stages()]
    if variant == "released":
        assert first == words and second == [images]
    else:
        assert not second and first == images | words | {"gamma": (rate, 0.0)}
