"""Losses against published code: values and gradients."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import GRADIENT, LOSS, close, golden, matching

from reid_core.losses import (
    bank_classification,
    batch_hard_triplet,
    feature_distillation,
    hardest_distances,
    identity,
    logit_distillation,
    pair_contrast,
    similarity_distribution_matching,
    supervised_contrastive,
)
from reid_core.methods.base import total
from reid_core.methods.clip_reid import RECIPE


def check(name, loss, wanted, leaves=(), gradients=()):
    """Value and gradients of a loss against the published ones.

    Equal rows are interchangeable, so their gradients are compared as sums: at a tie, published mining gives
    all of the gradient to one row and ours divides it.
    """
    close(loss, wanted, LOSS, name)
    if leaves:
        for leaf, found, gradient in zip(leaves, torch.autograd.grad(loss, leaves), gradients, strict=True):
            equal = (leaf[:, None] == leaf).all(2).to(found)
            close(equal @ found, equal @ torch.from_numpy(gradient).to(found), GRADIENT, name)


# Cross-entropy


@golden("clipreid__ce_label_smooth")
def test_label_smoothing_is_the_published_one(file):
    name, file = file.name, file()
    for key, match in matching(file, r"out/(.*?)eps([\d.]+)(?:/loss)"):
        logits = file.leaf("in/logits")
        loss = identity(logits, file.tensor("in/label"), float(match[2]))
        gradient = f"grad/eps{match[2]}/logits" if match[1] == "" else None
        check(name, loss, file[key], [logits] if gradient else [], [file[gradient]] if gradient else [])


@golden("fastreid__losses")
def test_smoothing_over_the_other_classes_is_ours_with_a_larger_share(file):
    """fast-reid spreads eps over C - 1 classes; we spread it over C (D15). Its adaptive eps = -1 is left
    out."""
    name, file = file.name, file()
    classes = file["in/logits"].shape[1]
    for key, match in matching(file, r"out/cross_entropy/eps([\d.]+)"):
        logits = file.leaf("in/logits")
        loss = identity(logits, file.tensor("in/label"), float(match[1]) * classes / (classes - 1))
        check(name, loss, file[key], [logits], [file[key.replace("out/", "grad/")]])


# Triplet


def hinge(near, far, margin, kind):
    return (F.relu(near - far + margin) if kind == "margin" else F.softplus(near - far)).mean()


def triplet_case(file, rest):
    """Labels and a leaf of the features that a variant starts from."""
    features = file.leaf("in/features_with_duplicate" if "duplicate" in rest else "in/features")
    return features, F.normalize(features) if "normalised" in rest else features, file.tensor("in/label")


@golden("clipreid__triplet", "pad__triplet")
def test_triplet_is_the_published_one(file):
    name, file = file.name, file()
    for key, match in matching(file, r"out/(margin|soft)_((?:raw|normalised)(?:_duplicate)?)/loss"):
        leaf, features, pids = triplet_case(file, match[2])
        loss = batch_hard_triplet(features, pids, file.number("in/margin") if match[1] == "margin" else None)
        check(name, loss, file[key], [leaf], [file[f"grad/{match[1]}_{match[2]}/features"]])


@golden("clipreid__triplet", "pad__triplet")
def test_hardest_distances_are_the_published_ones(file):
    """With `hard<f>`, published code stretches both by the factor 1 +- f; we have no such switch."""
    name, file = file.name, file()
    for key, match in matching(file, r"out/((margin|soft)_.*?(?:hard([\d.]+))?(?:_duplicate)?)/loss"):
        stretch = float(match[3] or 0)
        leaf, features, pids = triplet_case(file, match[1])
        near, far = hardest_distances(features, pids)
        near, far = near * (1 + stretch), far * (1 - stretch)
        for found, side in ((near, "positive"), (far, "negative")):
            close(found, file[f"out/{match[1]}/hardest_{side}"], LOSS, name)
        check(
            name,
            hinge(near, far, file.number("in/margin"), match[2]),
            file[key],
            [leaf],
            [file[f"grad/{match[1]}/features"]],
        )


@golden("clipreid__triplet")
def test_unequal_classes_are_not_mixed(file):
    """Published code reshapes and silently mixes rows (D1); ours equals the correct value."""
    name, file = file.name, file()
    features, pids = file.tensor("in/unequal/features").double(), file.tensor("in/unequal/label")
    near, far = hardest_distances(features, pids)
    close(near, file["ref64/unequal/correct_hardest_positive"], LOSS, name)
    close(
        hinge(near, far, file.number("in/margin"), "margin"), file["ref64/unequal/correct_loss"], LOSS, name
    )
    assert not np.allclose(near, file["out/unequal/published_hardest_positive_WRONG"], atol=1e-3)


@golden("torchreid__triplet")
def test_triplet_takes_classes_of_any_size(file):
    """In float64, because a single sample's distance to itself is rounding noise in float32."""
    name, file = file.name, file()
    for key, match in matching(file, r"out/margin([\d.]+)/loss"):
        features = file.tensor("in/features").double().requires_grad_()
        loss = batch_hard_triplet(features, file.tensor("in/label"), float(match[1]))
        check(name, loss, file[key], [features], [file[f"grad/margin{match[1]}/features"]])


@golden("fastreid__losses")
def test_hard_mining_agrees_with_a_second_library(file):
    """2 - 2 cos is the square of the distance on the unit sphere. Softmax-weighted mining, circle loss and
    cosface are left out: no method here uses them."""
    name, file = file.name, file()
    for key, match in matching(file, r"out/triplet/(euclidean|cosine)_hard_(margin|soft)([\d.]*)"):
        features = file.leaf("in/features")
        cosine = match[1] == "cosine"
        near, far = hardest_distances(F.normalize(features) if cosine else features, file.tensor("in/label"))
        loss = hinge(*((near**2, far**2) if cosine else (near, far)), float(match[3] or 0), match[2])
        check(name, loss, file[key], [features], [file[key.replace("out/", "grad/")]])


# Contrast


@golden("clipreid__supcon")
def test_contrast_of_image_and_text_is_the_published_one(file):
    name, file = file.name, file()
    image, text, ids = (
        file.leaf("in/square/image"),
        file.leaf("in/square/text"),
        file.tensor("in/square/label"),
    )
    to_text = supervised_contrastive(image, text, ids, ids, cosine=False)
    to_image = supervised_contrastive(text, image, ids, ids, cosine=False)
    close(to_text, file["out/square/image_to_text"], LOSS, name)
    close(to_image, file["out/square/text_to_image"], LOSS, name)
    check(
        name,
        to_text + to_image,
        file["out/square/total"],
        [image, text],
        [file["grad/square/image"], file["grad/square/text"]],
    )


@golden("clipreid__supcon")
def test_contrast_survives_large_logits(file):
    name, file = file.name, file()
    for key, match in matching(file, r"out/square/image_to_text_inputs_times_([\d.]+)"):
        image, text = (float(match[1]) * file.tensor(f"in/square/{side}") for side in ("image", "text"))
        ids = file.tensor("in/square/label")
        close(supervised_contrastive(image, text, ids, ids, cosine=False), file[key], LOSS, name)


@golden("pad__supcon")
def test_contrast_at_any_temperature_is_the_published_one(file):
    name, file = file.name, file()
    for key, match in matching(file, r"out/square/tau([\d.]+)/total"):
        image, text, ids = (
            file.leaf("in/square/image"),
            file.leaf("in/square/text"),
            file.tensor("in/square/label"),
        )
        loss = sum(
            supervised_contrastive(*pair, ids, ids, float(match[1]), cosine=False)
            for pair in ((image, text), (text, image))
        )
        gradients = [file[f"grad/square/tau{match[1]}/{side}"] for side in ("image", "text")]
        check(name, loss, file[key], [image, text], gradients)


def rectangle(file, anchors="anchor_label"):
    a, b = file.leaf("in/rect/anchor"), file.leaf("in/rect/candidate")
    ids = file.tensor(f"in/rect/{anchors}"), file.tensor("in/rect/candidate_label")
    return supervised_contrastive(a, b, *ids, cosine=False), a, b


@golden("clipreid__supcon", "pad__supcon")
def test_contrast_takes_two_sets_of_different_size(file):
    name, file = file.name, file()
    loss, a, b = rectangle(file)
    published = [key for key in ("grad/rect/anchor", "grad/rect/candidate") if key in file]
    check(name, loss, file["out/rect/loss"], [a, b][: len(published)], [file[key] for key in published])


@golden("pad__supcon")
def test_a_row_without_positives_counts_zero(file):
    name, file = file.name, file()
    loss, *_ = rectangle(file, "anchor_label_one_without_positive")
    close(loss, file["out/rect/loss_one_without_positive"], LOSS, name)


@golden("clipreid__supcon")
def test_a_row_without_positives_is_not_nan_as_published(file):
    """Published code divides 0 by 0 (D2); ours is the sum over the other rows divided by all rows."""
    name, file = file.name, file()
    assert np.isnan(file["out/rect/loss_one_without_positive"])
    loss, a, b = rectangle(file, "anchor_label_one_without_positive")
    ids, others = (
        file.tensor("in/rect/anchor_label_one_without_positive"),
        file.tensor("in/rect/candidate_label"),
    )
    kept = torch.isin(ids, others)
    assert not kept.all()
    close(
        loss,
        supervised_contrastive(a[kept], b, ids[kept], others, cosine=False) * kept.float().mean(),
        LOSS,
        name,
    )


# Totals


def stage2_terms(scores, features, pids, smooth, soft):
    smoothing, margin = RECIPE.label_smoothing if smooth else 0.0, None if soft else RECIPE.triplet_margin
    return {
        "identity": sum(identity(s, pids, smoothing) for s in scores),
        "triplet": sum(batch_hard_triplet(f, pids, margin) for f in features),
    }


@golden("clipreid__stage2_loss", "pad__stage2_loss")
def test_stage2_objective_is_the_published_sum(file):
    name, file = file.name, file()
    for _, match in matching(file, r"in/(\w+)/weights_id_triplet_i2t"):
        setting = f"in/{match[1]}"
        leaves = {
            key: file.leaf(f"in/{key}")
            for key in sorted(file.tensors("in/"))
            if re.match("score|feat|i2t", key)
        }
        scores, features = (
            [leaf for key, leaf in leaves.items() if key.startswith(kind)] for kind in ("score", "feat")
        )
        pids, smooth = file.tensor("in/label"), file[f"{setting}/label_smooth"]
        terms = stage2_terms(scores, features, pids, smooth, file[f"{setting}/soft_margin"])
        weights = dict(
            zip(("identity", "triplet", "i2t"), file[f"{setting}/weights_id_triplet_i2t"].tolist())
        )
        i2t = identity(leaves["i2t_logits"], pids, RECIPE.label_smoothing if smooth else 0.0)
        gradients = [file[f"grad/{match[1]}/{key}"] for key in leaves if f"grad/{match[1]}/{key}" in file]
        check(
            name,
            total(terms | {"i2t": i2t}, weights),
            file[f"out/{match[1]}/with_i2t/loss"],
            list(leaves.values()) if gradients else [],
            gradients,
        )
        check(name, total(terms, {k: weights[k] for k in terms}), file[f"out/{match[1]}/no_i2t/loss"])


@golden("clipreid__stage2_loss", "pad__stage2_loss")
def test_stage2_objective_of_one_head_is_the_published_one(file):
    name, file = file.name, file()
    terms = stage2_terms(
        [file.tensor("in/score_0")], [file.tensor("in/feat_0")], file.tensor("in/label"), True, False
    )
    weights = {"identity": RECIPE.id_weight, "triplet": RECIPE.triplet_weight}
    close(total(terms, weights), file["out/single_score0_feat0_no_i2t/loss"], LOSS, name)


@golden("clipreid__stage2_loss")
def test_logits_against_the_bank_are_raw_products(file):
    """With the unit vectors as bank, a feature is its own logits."""
    name, file = file.name, file()
    logits, pids = file.tensor("in/i2t_logits"), file.tensor("in/label")
    for _, match in matching(file, r"in/(\w+)/weights_id_triplet_i2t"):
        smoothing = RECIPE.label_smoothing if file[f"in/{match[1]}/label_smooth"] else 0.0
        found = bank_classification(logits, torch.eye(logits.shape[1]), pids, 1.0, False, smoothing)
        with_i2t, without = (file.number(f"out/{match[1]}/{kind}_i2t/loss") for kind in ("with", "no"))
        weight = file.tensor(f"in/{match[1]}/weights_id_triplet_i2t")[2].item()
        close(without + weight * found, with_i2t, LOSS, name)


# Distillation


@golden("pad__kd_losses")
def test_distillation_is_the_published_one(file):
    """A part whose weight is zero is reported as zero by the published code."""
    name, file = file.name, file()
    for _, match in matching(file, r"in/(.+)/temperature"):
        number, layers = match[1], re.match(r"layers((?:_\d+)+)", match[1])
        feat_weight, logit_weight = (file.number(f"in/{number}/lambda_{part}") for part in ("feat", "logit"))
        chosen = layers[1][1:].split("_") if layers else sorted(file.tensors("in/student_feat_"))
        leaves = {
            f"student_{kind}": file.leaf(f"in/student_{kind}")
            for kind in ("logits", *(f"feat_{k}" for k in chosen))
        }
        logits, *student = leaves.values()
        feat = feature_distillation(student, [file.tensor(f"in/teacher_feat_{k}") for k in chosen])
        kl = logit_distillation(
            logits, file.tensor("in/teacher_logits"), file.number(f"in/{number}/temperature")
        )
        for found, weight, part in ((feat, feat_weight, "feat"), (kl, logit_weight, "kl")):
            close(found if weight else 0 * found, file[f"out/{number}/{part}"], LOSS, name)
        used = {key: leaf for key, leaf in leaves.items() if f"grad/{number}/{key}" in file}
        check(
            name,
            feat_weight * feat + logit_weight * kl,
            file[f"out/{number}/total"],
            list(used.values()),
            [file[f"grad/{number}/{key}"] for key in used],
        )


@golden("pad__kd_losses")
def test_distillation_between_different_shapes_is_refused(file):
    """The published code returns zero instead, and the term disappears."""
    file = file()
    assert file["out/kl_shape_mismatch"] == 0
    with pytest.raises(RuntimeError):
        logit_distillation(file.tensor("in/student_logits"), file.tensor("in/teacher_logits")[:, 1:], 1.0)


# IRRA


@golden("irra__objectives")
def test_sdm_is_the_published_one(file):
    """Label matrices with image numbers, cmpm and mlm are left out: no method here uses them."""
    name, file = file.name, file()
    for key, match in matching(file, r"out/sdm/(scale[\d.]+)/(\w+)"):
        image, text = file.leaf("in/image"), file.leaf("in/text")
        pids, scale = file.tensor(f"in/pid_{match[2]}"), file.number(f"in/{match[1]}")
        loss = similarity_distribution_matching(image, text, pids, 1 / scale)
        gradients = [file[f"{key.replace('out', 'grad')}/{side}"] for side in ("image", "text")]
        check(name, loss, file[key], [image, text], gradients)


@golden("irra__objectives")
def test_itc_is_the_published_one(file):
    name, file = file.name, file()
    for key, match in matching(file, r"out/itc/(scale[\d.]+)"):
        image, text, scale = file.leaf("in/image"), file.tensor("in/text"), file.number(f"in/{match[1]}")
        loss = (pair_contrast(image, text, scale) + pair_contrast(text, image, scale)) / 2
        check(name, loss, file[key], [image], [file[f"grad/itc/{match[1]}/image"]])


@golden("irra__objectives")
def test_id_is_the_mean_over_both_sides(file):
    name, file = file.name, file()
    sides = [file.leaf(f"in/id/{side}_logits") for side in ("image", "text")]
    loss = sum(identity(logits, file.tensor("in/id/label")) for logits in sides) / 2
    check(name, loss, file["out/id"], sides, [file["grad/id/image_logits"], file["grad/id/text_logits"]])
