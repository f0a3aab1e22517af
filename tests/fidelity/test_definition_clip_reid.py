"""CLIP-ReID and the baseline held to their equations: features, sentences, the losses of both stages, what
each of them teaches, and the settings of each data set and tower."""

import copy
import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from definition import (
    EXACT,
    batch_norm,
    called,
    changed,
    contrast,
    cross_entropy,
    gradients,
    in_float64,
    learning,
    moved,
    rates,
    residual,
    same_gradients,
    sentence,
    stirred,
    supervised,
    triplet,
    unit,
)
from stages import entered, stepped

from reid_core import train
from reid_core.augment import Augmentation, Erasing
from reid_core.contract import first_batch
from reid_core.data import load_data, still_batches
from reid_core.evaluate import embed_images
from reid_core.loading import load_clip
from reid_core.methods import METHODS
from reid_core.methods.baseline import HeatBaseline, SpectraBaseline, TextBaseline
from reid_core.recipe import PROFILES
from reid_core.samplers import SamplerRng

SMALL = {"image_height": 64, "image_width": 32, "stage1_batch": 5, "stage2_ids_per_batch": 4}
HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def few():
    return load_data("world_market@8", "smoke")


def recipe_of(row, variant="clip_reid", profile="smoke", **changes):
    return METHODS["clip_reid"].recipe_of(variant, row).at(PROFILES[profile]).but(**changes)


def built(data, row="full", variant="clip_reid", **changes):
    """A method as it begins."""
    train.seed_all(0)
    kind = METHODS["clip_reid"].variants[variant].kind
    return kind(recipe_of(row, variant, **{**SMALL, **changes}), data)


def away(method):
    """The same method away from where it began, its frozen text tower apart."""
    moved([method.image, method.heads])
    moved([getattr(method, "words", torch.nn.Identity())], 0.1, seed=1)
    return method


def standing(data, row="full", number=-1, variant="clip_reid", **changes):
    """A method within a stage, away from where it began, in float64, with a batch."""
    method = away(built(data, row, variant, **changes))
    stage = entered(method, number)
    return method, stage, in_float64(method, stage, first_batch(method, stage, data))


@functools.cache
def small(variant, data):
    """A method that is asked for its settings alone, with identities for its batches."""
    method = built(data, variant=variant)
    method.data = copy.copy(data)
    method.data.labels = torch.arange(64).repeat_interleave(4).numpy()
    return method


def published(variant, data, row):
    """The same with the recipe of the paper."""
    method = small(variant, data)
    method.recipe = recipe_of(row, variant, "paper")
    return method


def side(method, cameras):
    """What the camera adds to the class token: a coefficient times its row, the mean of rows if unknown."""
    if not method.recipe.sie:
        return 0.0
    table = method.image.camera.table
    rows = [table.mean(0) if camera < 0 else table[camera] for camera in cameras.tolist()]
    return method.recipe.sie * torch.stack(rows)


def looked(method, batch):
    """f11, f12, fp of a batch."""
    return supervised(method.image, batch.images[:, 0], side(method, batch.cameras))


def same(terms, wanted):
    assert set(terms) == set(wanted)
    for name, value in wanted.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=1e-8), name


# Losses


def prompt_terms(method, batch, what="person"):
    """Stage 1: both directions of the contrast, on raw dot products."""
    image, text = batch.cached["image"], called(method, method.words.new, what)[batch.labels]
    how = (batch.labels, 1.0, False)
    return {"image to text": contrast(image, text, *how), "text to image": contrast(text, image, *how)}


def visual_terms(method, batch, smoothing=0.1):
    """Identity behind two necks, which read f12 and fp, and triplet of f11, f12 and fp."""
    features = looked(method, batch)
    behind = [
        batch_norm(f, head.neck) @ head.classifier.weight.T for f, head in zip(features[1:], method.heads)
    ]
    return {
        "identity": sum(cross_entropy(logits, batch.labels, smoothing) for logits in behind),
        "triplet": sum(triplet(f, batch.labels, 0.3) for f in features),
    }


def image_terms(method, batch, what="person", smoothing=0.1, moved_on=0):
    """Stage 2: the same, and identity of fp among the sentences of everybody."""
    with torch.no_grad():
        text = called(method, method.words.new, what)
        text = torch.cat([text[len(text) - moved_on :], text[: len(text) - moved_on]])
    against = cross_entropy(looked(method, batch)[2] @ text.T, batch.labels, smoothing)
    return {**visual_terms(method, batch, smoothing), "image to text": against}


STAGE_1 = {
    "full": {},
    "1 token": {},
    "8 tokens": {},
    "SIE": {},
    "control: random text tower": {},
    "control: another's sentence": {},  # not before stage 2
    "VeRi-776": {"what": "vehicle"},
}
STAGE_2 = {
    **STAGE_1,
    "overlapping patches": {},
    "SIE, coefficient 3": {},
    "control: another's sentence": {"moved_on": 1},
    "VehicleID, baseline": {"what": "vehicle", "smoothing": 0.0},
}


@torch.no_grad()
@pytest.mark.parametrize("row", STAGE_1)
def test_words_learn_by_the_losses_of_their_definition(row, few):
    method, stage, batch = standing(few, row, 0, image_width=32, stage1_batch=12)
    same(stage.losses(batch).terms, prompt_terms(method, batch, **STAGE_1[row]))


@torch.no_grad()
@pytest.mark.parametrize("row", STAGE_2)
def test_images_learn_by_the_losses_of_their_definition(row, few):
    """Five sentences are made at once: the bank of eight identities takes two goes."""
    method, stage, batch = standing(few, row, 1, image_width=32)
    same(stage.losses(batch).terms, image_terms(method, batch, **STAGE_2[row]))


BASELINE = {"full": 0.1, "SIE": 0.1, "overlapping patches": 0.1, "VehicleID, baseline": 0.0}


@torch.no_grad()
@pytest.mark.parametrize("row", BASELINE)
def test_the_baseline_learns_by_the_losses_of_its_definition(row, few):
    method, stage, batch = standing(few, row, variant="baseline", image_width=32)
    same(stage.losses(batch).terms, visual_terms(method, batch, BASELINE[row]))


@pytest.mark.parametrize(
    "row, identity, against",
    [("full", 0.25, 1.0), ("RN50", 1.0, 1.0), ("VehicleID", 0.25, 1.0), ("no image-to-text loss", 0.25, 0.0)],
)
def test_every_loss_weighs_what_its_row_says(row, identity, against, few):
    first, second = published("clip_reid", few, row).stages()
    assert first.weights == {"image to text": 1.0, "text to image": 1.0}
    assert second.weights == {"identity": identity, "triplet": 1.0, "image to text": against}


@pytest.mark.parametrize("row", ["full", "RN50", "VehicleID"])
def test_the_losses_of_the_baseline_weigh_the_same(row, few):
    (stage,) = published("baseline", few, row).stages()
    assert stage.weights == {"identity": 1.0, "triplet": 1.0}


# What learns


@pytest.mark.parametrize("number, row", [(0, "full"), (1, "full"), (1, "SIE")])
def test_every_trained_weight_follows_the_gradient_of_its_definition(number, row, few):
    method, stage, batch = standing(few, row, number)
    wanted = (prompt_terms, image_terms)[number](method, batch)
    same_gradients(method, stage, stage.losses(batch).terms, wanted)


WORDS = {"image to text": {"words"}, "text to image": {"words"}}
VISUAL = {"identity": {"image", "heads"}, "triplet": {"image"}}


@pytest.mark.parametrize(
    "variant, number, taught",
    [
        ("clip_reid", 0, WORDS),
        ("clip_reid", 1, VISUAL | {"image to text": {"image"}}),
        ("baseline", 0, VISUAL),
    ],
)
def test_each_loss_teaches_what_it_should_and_nothing_else(variant, number, taught, few):
    method, stage, batch = standing(few, number=number, variant=variant)
    terms = stage.losses(batch).terms
    found = {name: {key.split(".")[0] for key in gradients(method, loss)} for name, loss in terms.items()}
    assert found == taught


@pytest.mark.parametrize("variant, number", [("clip_reid", 0), ("clip_reid", 1), ("baseline", 0)])
def test_a_stage_changes_what_it_teaches_and_the_statistics_of_its_necks(variant, number, few):
    method = built(few, "SIE", variant)
    before = copy.deepcopy(method.state_dict())
    stepped(method, entered(method, number), steps=2)
    visual = {name for name in before if name.startswith(("image.", "heads.")) and "neck.bias" not in name}
    assert changed(method, before) == (visual if method.stages()[number].views else {"words.new"})


def test_everything_new_begins_as_published(few):
    """Words from N(0, 0.02), class-specific; classifiers from N(0, 0.001) behind necks of weight 1."""
    method = built(few, "8 tokens")
    assert method.words.new.shape == (few.classes, 8, method.text.width)
    assert method.words.new.std().item() == pytest.approx(0.02, rel=0.05)
    assert abs(method.words.new.mean().item()) < 0.001
    for head, width in zip(method.heads, method.image.widths[1:]):
        assert head.classifier.weight.shape == (few.classes, width) and head.classifier.bias is None
        assert head.classifier.weight.std().item() == pytest.approx(0.001, rel=0.15)
        assert (head.neck.weight == 1).all() and (head.neck.bias == 0).all()


def test_both_towers_begin_with_the_published_weights_and_the_control_with_another_text_tower(few):
    image, text, _ = load_clip("tiny", "tiny", (64, 32))
    weights = image.state_dict() | {f"text.{name}": value for name, value in text.state_dict().items()}
    for row, alike in (("full", True), ("control: random text tower", False)):
        method = built(few, row)
        assert all(torch.equal(value, weights[name]) for name, value in method.image.state_dict().items())
        words = method.text.token_embedding.weight
        assert torch.equal(words, weights["text.token_embedding.weight"]) is alike


# What is looked at


@pytest.mark.parametrize("row", ["full", "SIE"])
def test_words_learn_on_images_that_nothing_has_changed(row, few):
    """The cache holds fp without a camera, of bilinear images without flip, crop or erasing, row by row."""
    method, stage, batch = standing(few, row, 0)
    plain = Augmentation("bilinear", HALF, HALF)
    assert stage.cache["image"].view == plain and set(stage.cache) == {"image"} and not stage.views
    images = next(still_batches(few, "train", method.size, plain)).images[batch.index, 0].double()
    with torch.no_grad():
        joint = supervised(method.image, images)[2]
    torch.testing.assert_close(batch.cached["image"], joint, rtol=1e-5, atol=1e-4)  # computed in float32
    assert batch.labels.tolist() == few.labels[batch.index].tolist()


def test_an_epoch_of_stage_one_meets_every_image_once(few):
    stage = built(few).stages()[0]
    rows = [row for one in stage.sampler.epoch(SamplerRng(0)) for row in one.index.tolist()]
    assert sorted(rows) == list(range(len(few.train)))


@torch.no_grad()
def test_sentences_are_those_of_the_words_as_stage_one_left_them(few):
    """Also where a training is taken up: the bank is in no file."""
    method = away(built(few)).double()
    stage = method.stages()[1]
    for seed in (2, 3):
        moved([method.words], 0.1, seed)
        stage.prepare()
        torch.testing.assert_close(method.bank, called(method, method.words.new), **EXACT)
    assert "bank" not in train.stored(method)


@torch.no_grad()
@pytest.mark.parametrize("variant", ["clip_reid", "baseline"])
@pytest.mark.parametrize("row", ["full", "SIE", "SIE, coefficient 3", "overlapping patches"])
def test_what_is_tested_is_f12_and_fp_before_the_necks(variant, row, few):
    """Of query and gallery alike; a camera that training never saw counts as the mean of the others."""
    method = away(built(few, row, variant)).double().eval()
    batch = next(still_batches(few, "query", method.size, method.test_view(), batch=8))
    cameras = torch.tensor([-1, *batch.cameras[1:].tolist()])
    batch = replace(batch, views=[batch.images.double()], cameras=cameras)
    f11, f12, fp = looked(method, batch)
    for task in method.retrieval_tasks().values():
        for name in (task.query, task.gallery):
            torch.testing.assert_close(method.embed(batch, name), torch.cat([f12, fp], 1), **EXACT)
    torch.testing.assert_close(method.features(batch, ["f11"])["f11"], f11, **EXACT)


@torch.no_grad()
def test_both_parts_of_a_test_feature_are_brought_to_length_one_together(few):
    method = away(built(few)).double().eval()
    (batch,) = still_batches(few, "query", method.size, method.test_view(), batch=1000)
    batch.views = [batch.images.double()]
    wanted = unit(torch.cat(looked(method, batch)[1:], 1)).numpy()
    found = embed_images(method.float(), few, "query", {"f12+fp"})["f12+fp"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)  # computed in float32


def test_one_search_is_ranked_by_distances_and_one_is_re_ranked(few):
    for variant in ("clip_reid", "baseline"):
        tasks = built(few, variant=variant).retrieval_tasks()
        assert [task.rerank for task in tasks.values()] == [False, True]
        assert {(task.query_type, task.without) for task in tasks.values()} == {("image", ())}


@pytest.mark.parametrize("row, stride, grid", [("full", 16, (16, 8)), ("overlapping patches", 12, (21, 10))])
def test_patches_lie_as_far_apart_as_the_row_says(row, stride, grid, few):
    method = built(few, row, image_height=256, image_width=128)
    assert method.image.stride == stride and method.image.grid == grid
    assert method.image.positional_embedding.shape[0] == 1 + grid[0] * grid[1]


def test_the_camera_is_read_where_the_row_has_it_alone(few):
    assert not list(built(few).image.camera.parameters())
    table = built(few, "SIE").image.camera.table
    assert table.shape == (len(few.cameras), built(few).image.width)
    assert table.std().item() == pytest.approx(0.02, rel=0.1)


# The other backbone


@torch.no_grad()
def test_features_of_a_resnet_are_those_of_its_definition(few):
    """And its two heads and its test read f4 and fp."""
    method = built(few, "RN50", "baseline", backbone="RN50-quickgelu", pretrained=None)
    stirred(method.image)
    batch = next(still_batches(few, "query", method.size, method.test_view(), batch=2)).rows(slice(0, 2))
    method.double().eval()
    batch.views = [batch.images.double()]
    f3, f4, tokens = residual(method.image, batch.images[:, 0])
    for found, wanted in zip(method.encode(batch), (f3, f4, tokens[:, 0])):
        torch.testing.assert_close(found, wanted, **EXACT)
    torch.testing.assert_close(method.embed(batch, "f12+fp"), torch.cat([f4, tokens[:, 0]], 1), **EXACT)
    assert [head.classifier.in_features for head in method.heads] == [2048, 1024]


# The same idea for sentences and for spectra


def gate(kind, data):
    """A method that the gates of the world are measured with, away from where it began, and its first batch,
    both in float64."""
    train.seed_all(0)
    few = {**SMALL, "stage1_batch": 6, "stage2_ids_per_batch": 2}
    method = kind(recipe_of("full", "baseline", **few), data)
    stage = entered(method)
    moved([method.image, method.heads])
    return method, stage, in_float64(method, stage, first_batch(method, stage, data))


@torch.no_grad()
def test_sentences_and_images_are_matched_and_named_by_one_head():
    """By the divergence of shares of cosines from shares of matches (IRRA), and cross-entropy of both."""
    method, stage, batch = gate(TextBaseline, load_data("world_text@8", "smoke"))
    image, text = looked(method, batch)[2], said(method, batch.text)
    logits = unit(image) @ unit(text).T / method.temperature
    match = (batch.labels[:, None] == batch.labels).double()
    share = torch.log(match / match.sum(1, keepdim=True) + 1e-8)  # the same in both directions
    gaps = [(x.softmax(1) * (x.log_softmax(1) - share)).sum(1).mean() for x in (logits, logits.T)]
    head = method.heads[1]
    named = [batch_norm(x, head.neck) @ head.classifier.weight.T for x in (image, text)]
    wanted = {"matching": sum(gaps), "identity": sum(cross_entropy(one, batch.labels) for one in named)}
    assert stage.weights == {"matching": 1.0, "identity": 1.0}
    same(stage.losses(batch).terms, wanted)
    method.eval()
    (task,) = method.retrieval_tasks().values()
    torch.testing.assert_close(method.embed(batch, task.query), text, **EXACT)
    torch.testing.assert_close(method.embed(batch, task.gallery), image, **EXACT)
    assert {name.split(".")[0] for name in learning(method, stage)} == {"image", "text", "heads"}


def said(method, ids):
    """Features (N, E) of captions (N, L); the last sign has the largest number."""
    table = method.text.token_embedding.weight
    return torch.stack([sentence(method.text, table[row[: row.argmax() + 1]]) for row in ids])


@torch.no_grad()
@pytest.mark.parametrize("kind, spectra", [(SpectraBaseline, [0]), (HeatBaseline, [1, 2])])
def test_spectra_are_seen_by_one_tower_and_read_side_by_side(kind, spectra):
    method, stage, batch = gate(kind, load_data("world_rgbnt201@8", "smoke"))
    each = [supervised(method.image, batch.images[:, place]) for place in spectra]
    features = [torch.cat(parts, 1) for parts in zip(*each)]
    behind = [
        batch_norm(f, head.neck) @ head.classifier.weight.T for f, head in zip(features[1:], method.heads)
    ]
    identity = sum(cross_entropy(logits, batch.labels, 0.1) for logits in behind)
    wanted = {"identity": identity, "triplet": sum(triplet(f, batch.labels, 0.3) for f in features)}
    same(stage.losses(batch).terms, wanted)
    method.eval()
    torch.testing.assert_close(method.embed(batch, "f12+fp"), torch.cat(features[1:], 1), **EXACT)


# Settings

# row -> stage 1: epochs, batch; stage 2: epochs, rate, weight decay, start of the warm-up, milestones
SETTINGS = {
    "full": (120, 64, 60, 5e-6, 1e-4, 0.1, (30, 50)),
    "RN50": (60, 64, 120, 3.5e-4, 5e-4, 0.01, (40, 70)),
    "VeRi-776": (60, 64, 60, 5e-6, 1e-4, 0.1, (30, 50)),
    "VehicleID": (60, 256, 60, 5e-5, 1e-4, 0.1, (30, 50)),
    "VeRi-776, RN50": (60, 64, 120, 3.5e-4, 5e-4, 0.01, (40, 70)),
    "VehicleID, RN50": (60, 256, 120, 3.5e-4, 5e-4, 0.01, (40, 70)),
    "SIE and overlapping patches": (120, 64, 60, 5e-6, 1e-4, 0.1, (30, 50)),
    "half the epochs": (60, 64, 30, 5e-6, 1e-4, 0.1, (30, 50)),  # of curves that are written in twice as many
}


@pytest.mark.parametrize("row", SETTINGS)
def test_words_learn_with_the_settings_of_their_data_set(row, few):
    epochs, size, *_ = SETTINGS[row]
    span = 120 if row == "half the epochs" else epochs
    method = published("clip_reid", few, row)
    stage = method.stages()[0]
    assert (stage.epochs, stage.sampler.batch) == (epochs, size)
    assert learning(method, stage) == {"words.new": (3.5e-4, 1e-4)}

    def wanted(e):
        if e < 5:
            return 1e-5 + e * (3.5e-4 - 1e-5) / 5
        return 1e-6 + 0.5 * (3.5e-4 - 1e-6) * (1 + math.cos(math.pi * e / span))

    places = [e * span / epochs for e in range(1, epochs + 1)]
    assert rates(stage, stage.groups[0]) == pytest.approx([wanted(e) for e in places])


@pytest.mark.parametrize("row", SETTINGS)
@pytest.mark.parametrize("variant", ["clip_reid", "baseline"])
def test_images_learn_with_the_settings_of_their_tower(variant, row, few):
    _, _, epochs, rate, decay, start, milestones = SETTINGS[row]
    method = published(variant, few, row)
    stage = method.stages()[-1]
    assert (stage.epochs, stage.sampler.P, stage.sampler.K) == (epochs, 16, 4)
    names = [n for n, _ in method.named_parameters() if n.startswith(("image.", "heads."))]
    slow = {n: (rate * (2 if "bias" in n else 1), decay) for n in names}
    assert learning(method, stage) == slow
    places = [e * (2 if row == "half the epochs" else 1) for e in range(1, epochs + 1)]
    curve = [min(start + (1 - start) * e / 10, 1) * 0.1 ** sum(e >= m for m in milestones) for e in places]
    for group in stage.groups:
        assert rates(stage, group) == pytest.approx([rate * factor for factor in curve])


@pytest.mark.parametrize("variant", ["clip_reid", "baseline"])
def test_tower_and_heads_learn_at_rates_of_their_own(variant, few):
    """Where a profile changes one of them."""
    method = built(few, variant=variant, stage2_lr=0.1, stage2_head_lr=0.3)
    parts = {name.split(".")[0]: set() for name in learning(method, method.stages()[-1])}
    for name, (rate, _) in learning(method, method.stages()[-1]).items():
        parts[name.split(".")[0]].add(rate / (2 if "bias" in name else 1))
    assert parts == {"image": {0.1}, "heads": {0.3}}


@pytest.mark.parametrize("variant", ["clip_reid", "baseline"])
@pytest.mark.parametrize("row", SETTINGS)
def test_images_are_prepared_as_published(variant, row, few):
    """Batches for training are flipped, padded, cropped and erased; those for tests are only resized."""
    method = published(variant, few, row)
    usual = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if "RN50" in row else (HALF, HALF)
    erasing = Erasing(0.5, (0.02, 1 / 3), (0.3, 1 / 0.3))
    assert method.test_view() == Augmentation("bilinear", *usual)
    assert method.stages()[-1].views == [Augmentation("bicubic", *usual, 0.5, 10, erasing=(erasing,))]
    width = 256 if "V" in row else 128
    assert (method.recipe.image_height, method.recipe.image_width) == (256, width)


@pytest.mark.parametrize(
    "row, epochs",
    [("no stage 1", (0, 60)), ("zero-shot", (0, 0)), ("half the epochs", (60, 30)), ("1 token", (120, 60))],
)
def test_rows_train_for_as_long_as_they_say(row, epochs, few):
    assert tuple(stage.epochs for stage in published("clip_reid", few, row).stages()) == epochs


@pytest.mark.parametrize(
    "row, smoothing",
    [
        ("full", 0.1),
        ("VehicleID", 0.1),
        ("VehicleID, baseline", 0.0),
        ("VehicleID, RN50", 0.0),
        ("RN50", 0.1),
    ],
)
def test_targets_are_smoothed_as_published(row, smoothing):
    assert recipe_of(row, profile="paper").label_smoothing == smoothing
