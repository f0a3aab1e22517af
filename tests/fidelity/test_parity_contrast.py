"""Contrast of images and sentences, and distillation, against published code: values and gradients."""

import re

import numpy as np
import pytest
import torch
from golden import (
    LOSS,
    NUMBER,
    SAME,
    agree,
    close,
    golden,
    gradients_agree,
    leaves,
    loss_close,
    matching,
    temperatures,
)

from reid_core.losses import (
    attribute_relations,
    feature_distillation,
    logit_distillation,
    old_class_distillation,
    pair_contrast,
    relation_divergence,
    similarity_distribution_matching,
    supervised_contrastive,
)

RELATION = 1e-3


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
    loss_close(
        name,
        to_text + to_image,
        file["out/square/total"],
        [image, text],
        [file["grad/square/image"], file["grad/square/text"]],
    )


@golden("clipreid__supcon")
def test_contrast_survives_large_logits(file):
    name, file = file.name, file()
    for key, match in matching(file, rf"out/square/image_to_text_inputs_times_{NUMBER}"):
        image, text = (float(match[1]) * file.tensor(f"in/square/{side}") for side in ("image", "text"))
        ids = file.tensor("in/square/label")
        close(supervised_contrastive(image, text, ids, ids, cosine=False), file[key], LOSS, name)


@golden("pad__supcon")
def test_contrast_at_any_temperature_is_the_published_one(file):
    name, file = file.name, file()
    for key, match in matching(file, rf"out/square/tau{NUMBER}/total"):
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
        loss_close(name, loss, file[key], [image, text], gradients)


@golden("vladr__supcon")
def test_vladr_contrasts_raw_dot_products(file):
    file = file()
    x, ids = leaves(file, "image", "text"), file.tensor("in/labels")
    more = (ids, ids, file.settings["temperature"], False)
    i2t = supervised_contrastive(x["image"], x["text"], *more)
    t2i = supervised_contrastive(x["text"], x["image"], *more)
    for name, value in (("i2t", i2t), ("t2i", t2i), ("total", i2t + t2i)):
        agree(file, f"out/{name}", value, SAME)
    gradients_agree(file, "grad/", i2t + t2i, x, SAME)


@golden("vladr__supcon")
def test_one_sentence_per_identity_has_several_positives(file):
    file = file()
    image, text = file.tensor("in/image"), file.tensor("in/text_unique")
    ids, own = file.tensor("in/labels"), file.tensor("in/labels_unique")
    more = (file.settings["temperature"], False)
    agree(file, "out/i2t_unique", supervised_contrastive(image, text, ids, own, *more), SAME)
    agree(file, "out/t2i_unique", supervised_contrastive(text, image, own, ids, *more), SAME)


@golden("promptma__supcon_degenerate")
def test_one_sentence_for_all_teaches_images_nothing(file):
    file = file()
    ids, count = file.tensor("in/labels"), len(file["in/labels"])
    x, text = leaves(file, "image", dtype=torch.float64), file.tensor("in/text").double().expand(count, -1)
    i2t = supervised_contrastive(x["image"], text, ids, ids, cosine=False)
    t2i = supervised_contrastive(text, x["image"], ids, ids, cosine=False)
    agree(file, "out/i2t", i2t, 1e-6)
    agree(file, "out/t2i", t2i, 1e-6)
    assert torch.autograd.grad(i2t, x["image"])[0].abs().max() < 1e-12
    gradients_agree(file, "grad/t2i/", t2i, x, 1e-6)


def rectangle(file, anchors="anchor_label"):
    a, b = file.leaf("in/rect/anchor"), file.leaf("in/rect/candidate")
    ids = file.tensor(f"in/rect/{anchors}"), file.tensor("in/rect/candidate_label")
    return supervised_contrastive(a, b, *ids, cosine=False), a, b


@golden("clipreid__supcon", "pad__supcon")
def test_contrast_takes_two_sets_of_different_size(file):
    name, file = file.name, file()
    loss, a, b = rectangle(file)
    inputs = {f"grad/rect/{side}": leaf for side, leaf in (("anchor", a), ("candidate", b))}
    published = [key for key in inputs if key in file]
    gradients = [file[key] for key in published]
    loss_close(name, loss, file["out/rect/loss"], [inputs[key] for key in published], gradients)


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


@golden("irra__objectives")
def test_sdm_is_the_published_one(file):
    """Label matrices with image numbers, cmpm and mlm are left out: no method here uses them."""
    name, file = file.name, file()
    for key, match in matching(file, r"out/sdm/(scale[\d.]+)/(\w+)"):
        image, text = file.leaf("in/image"), file.leaf("in/text")
        pids, scale = file.tensor(f"in/pid_{match[2]}"), file.number(f"in/{match[1]}")
        loss = similarity_distribution_matching(image, text, pids, 1 / scale)
        gradients = [file[f"{key.replace('out', 'grad')}/{side}"] for side in ("image", "text")]
        loss_close(name, loss, file[key], [image, text], gradients)


@golden("irra__objectives")
def test_itc_is_the_published_one(file):
    name, file = file.name, file()
    for key, match in matching(file, r"out/itc/(scale[\d.]+)"):
        image, text, scale = file.leaf("in/image"), file.tensor("in/text"), file.number(f"in/{match[1]}")
        loss = (pair_contrast(image, text, scale) + pair_contrast(text, image, scale)) / 2
        loss_close(name, loss, file[key], [image], [file[f"grad/itc/{match[1]}/image"]])


# Distillation


@golden("pad__kd_losses")
def test_distillation_is_the_published_one(file):
    """A part whose weight is zero is reported as zero by the published code."""
    name, file = file.name, file()
    for _, match in matching(file, r"in/(.+)/temperature"):
        number, layers = match[1], re.match(r"layers((?:_\d+)+)", match[1])
        feat_weight, logit_weight = (file.number(f"in/{number}/lambda_{part}") for part in ("feat", "logit"))
        chosen = layers[1][1:].split("_") if layers else sorted(file.tensors("in/student_feat_"))
        keys = ["student_logits", *(f"student_feat_{k}" for k in chosen)]
        inputs = {key: file.leaf(f"in/{key}") for key in keys}
        logits, *student = inputs.values()
        feat = feature_distillation(student, [file.tensor(f"in/teacher_feat_{k}") for k in chosen])
        kl = logit_distillation(
            logits, file.tensor("in/teacher_logits"), file.number(f"in/{number}/temperature")
        )
        for found, weight, part in ((feat, feat_weight, "feat"), (kl, logit_weight, "kl")):
            close(found if weight else 0 * found, file[f"out/{number}/{part}"], LOSS, name)
        used = {key: leaf for key, leaf in inputs.items() if f"grad/{number}/{key}" in file}
        loss_close(
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


@golden("vladr__kd_logits")
def test_old_classes_are_distilled_among_all_classes(file):
    file = file()
    x = leaves(file, "score")
    loss = old_class_distillation(x["score"], file.tensor("in/target_score"), file.settings["T"])
    agree(file, "out/loss", loss, SAME)
    gradients_agree(file, "grad/", loss, x, SAME)


@golden("vladr__affinity_kl")
def test_relations_are_a_softmax_within_each_attribute(file):
    file = file()
    for tau in temperatures(file):
        for side in ("new", "old"):
            relations = attribute_relations(file.tensor(f"in/{side}"), float(tau))
            agree(file, f"out/tau{tau}/affinity_{side}", relations.permute(1, 2, 0), RELATION)


@golden("vladr__affinity_kl")
def test_divergence_of_relations_is_summed_over_attributes(file):
    file = file()
    for tau in temperatures(file):
        x = leaves(file, "new")
        loss = relation_divergence(x["new"], file.tensor("in/old"), float(tau))
        agree(file, f"out/tau{tau}/kl_clamped", loss, RELATION)
        gradients_agree(file, f"grad/tau{tau}/", loss, x, RELATION)


@golden("vladr__affinity_kl")
def test_relations_do_not_diverge_from_themselves(file):
    file = file()
    new = file.tensor("in/new")
    apart = relation_divergence(new, file.tensor("in/old"))
    assert relation_divergence(new, new) <= min(1e-5, 1e-3 * apart)
