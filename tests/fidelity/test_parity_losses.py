"""Losses of identities against published code, values and gradients: cross-entropy, triplet, margins between
modalities, and their sums."""

import re

import numpy as np
import torch
import torch.nn.functional as F
from golden import (
    LOSS,
    NUMBER,
    SAME,
    agree,
    close,
    golden,
    gradients_agree,
    lacks,
    leaves,
    loss_close,
    matching,
    said,
    spectra,
)

from reid_core.losses import (
    bank_classification,
    batch_hard_triplet,
    cross_identity_margin,
    hardest_distances,
    identity,
    modality_centres_margin,
)
from reid_core.methods.base import total
from reid_core.methods.clip_reid import RECIPE

# Cross-entropy


@golden("clipreid__ce_label_smooth")
def test_label_smoothing_is_the_published_one(file):
    name, file = file.name, file()
    for key, match in matching(file, rf"out/(.*?)eps{NUMBER}(?:/loss)"):
        logits = file.leaf("in/logits")
        loss = identity(logits, file.tensor("in/label"), float(match[2]))
        gradients = [] if match[1] else [file[f"grad/eps{match[2]}/logits"]]
        loss_close(name, loss, file[key], [logits] * len(gradients), gradients)


@golden("topreid__label_smooth_ce")
def test_topreid_smooths_labels_as_the_library_does(file):
    file = file()
    x = leaves(file, "score")
    (smoothing,) = said(file, file.settings["function"], "eps")
    loss = identity(x["score"], file.tensor("in/labels"), smoothing)
    agree(file, "out/loss", loss, SAME)
    agree(file, "out/loss_other_implementation", loss, SAME)
    gradients_agree(file, "grad/", loss, x, SAME)


@golden("fastreid__losses")
def test_smoothing_over_the_other_classes_is_ours_with_a_larger_share(file):
    """fast-reid spreads eps over C - 1 classes; we spread it over C (D15). Its adaptive eps = -1 is left
    out."""
    name, file = file.name, file()
    classes = file["in/logits"].shape[1]
    for key, match in matching(file, r"out/cross_entropy/eps([\d.]+(?:e-\d+)?)"):
        logits = file.leaf("in/logits")
        loss = identity(logits, file.tensor("in/label"), float(match[1]) * classes / (classes - 1))
        loss_close(name, loss, file[key], [logits], [file[key.replace("out/", "grad/")]])


@golden("irra__objectives")
def test_id_is_the_mean_over_both_sides(file):
    name, file = file.name, file()
    sides = [file.leaf(f"in/id/{side}_logits") for side in ("image", "text")]
    loss = sum(identity(logits, file.tensor("in/id/label")) for logits in sides) / 2
    loss_close(name, loss, file["out/id"], sides, [file["grad/id/image_logits"], file["grad/id/text_logits"]])


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
        loss_close(name, loss, file[key], [leaf], [file[f"grad/{match[1]}_{match[2]}/features"]])


@golden("clipreid__triplet", "pad__triplet")
def test_hardest_distances_are_the_published_ones(file):
    """With `hard<f>`, published code stretches both by the factor 1 +- f; we have no such switch."""
    name, file = file.name, file()
    for key, match in matching(file, rf"out/((margin|soft)_.*?(?:hard{NUMBER})?(?:_duplicate)?)/loss"):
        stretch = float(match[3] or 0)
        leaf, features, pids = triplet_case(file, match[1])
        near, far = hardest_distances(features, pids)
        near, far = near * (1 + stretch), far * (1 - stretch)
        for found, side in ((near, "positive"), (far, "negative")):
            close(found, file[f"out/{match[1]}/hardest_{side}"], LOSS, name)
        loss_close(
            name,
            hinge(near, far, file.number("in/margin"), match[2]),
            file[key],
            [leaf],
            [file[f"grad/{match[1]}/features"]],
        )


@golden("topreid__triplet")
def test_the_batch_hard_triplet_is_the_published_one(file):
    file = file()
    ids = file.tensor("in/labels")
    for _, match in matching(file, r"out/((?:soft|margin(\d+))(?:_normalised)?)/loss"):
        x, variant, margin = leaves(file, "feat"), match[1], match[2] and margin_of(match[2])
        features = F.normalize(x["feat"]) if "normalised" in variant else x["feat"]
        loss = batch_hard_triplet(features, ids, margin)
        agree(file, f"out/{variant}/loss", loss, SAME)
        gradients_agree(file, f"grad/{variant}/", loss, x, SAME)
        for name, distance in zip(("ap", "an"), hardest_distances(features, ids)):
            agree(file, f"out/{variant}/dist_{name}", distance, SAME)


def margin_of(digits):
    """As TOP-ReID's keys write it: 03 is 0.3, 1 is 1."""
    return float(f"{digits[0]}.{digits[1:] or 0}")


@golden("topreid__triplet")
def test_a_hard_factor_stretches_our_distances(file):
    """We have no such factor: theirs are our distances, each times one number."""
    file = file()
    x = leaves(file, "feat")
    near, far = hardest_distances(x["feat"], file.tensor("in/labels"))
    ((_, match),) = matching(file, r"out/(margin(\d+))/loss")
    stretch = [
        file[f"out/margin_hard_factor/dist_{k}"].sum() / file[f"out/{match[1]}/dist_{k}"].sum()
        for k in ("ap", "an")
    ]
    assert stretch[0] > 1 > stretch[1]
    near, far = near * stretch[0], far * stretch[1]
    agree(file, "out/margin_hard_factor/dist_ap", near, SAME)
    agree(file, "out/margin_hard_factor/dist_an", far, SAME)
    loss = F.relu(near - far + margin_of(match[2])).mean()
    agree(file, "out/margin_hard_factor/loss", loss, SAME)
    gradients_agree(file, "grad/margin_hard_factor/", loss, x, SAME)


@golden("vladr__id_triplet")
def test_the_hardest_positive_may_be_the_anchor(file):
    file = file()
    near, far = hardest_distances(file.tensor("in/feat"), file.tensor("in/labels"))
    agree(file, "out/dist_ap", near, SAME)
    agree(file, "out/dist_an", far, SAME)


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
    for key, match in matching(file, rf"out/margin{NUMBER}/loss"):
        features = file.tensor("in/features").double().requires_grad_()
        loss = batch_hard_triplet(features, file.tensor("in/label"), float(match[1]))
        loss_close(name, loss, file[key], [features], [file[f"grad/margin{match[1]}/features"]])


@golden("fastreid__losses")
def test_hard_mining_agrees_with_a_second_library(file):
    """2 - 2 cos is the square of the distance on the unit sphere. Softmax-weighted mining, circle loss and
    cosface are left out: no method here uses them."""
    name, file = file.name, file()
    for key, match in matching(file, rf"out/triplet/(euclidean|cosine)_hard_(margin|soft){NUMBER}?"):
        features = file.leaf("in/features")
        cosine = match[1] == "cosine"
        near, far = hardest_distances(F.normalize(features) if cosine else features, file.tensor("in/label"))
        loss = hinge(*((near**2, far**2) if cosine else (near, far)), float(match[3] or 0), match[2])
        loss_close(name, loss, file[key], [features], [file[key.replace("out/", "grad/")]])


# Margins between modalities: HTT


def variants(file, name):
    """(margin, power) of every variant, as written in the keys."""
    return [match.groups() for _, match in matching(file, rf"out/{name}{NUMBER}_l(\d)")]


@golden("htt__three_m_loss")
def test_modality_centres_keep_a_margin(file):
    file = file()
    for margin, power in variants(file, "margin"):
        x, features = spectra(file, "feat")
        loss = modality_centres_margin(features, file.tensor("in/labels"), float(margin), int(power))
        agree(file, f"out/margin{margin}_l{power}", loss, SAME)
        gradients_agree(file, f"grad/margin{margin}_l{power}/", loss, x, SAME)


@golden("htt__three_m_loss")
def test_modality_centres_follow_labels_and_theirs_the_order(file):
    """Published code cuts the batch into equal pieces: with labels by position ours repeats it, with true
    labels the order is immaterial."""
    file = file()
    ids, order = file.tensor("in/labels"), file.tensor("in/permutation")
    _, features = spectra(file, "feat")
    for key, match in matching(file, rf"(out/margin{NUMBER}_l(\d))_permuted_batch"):
        rule = float(match[2]), int(match[3])
        agree(file, key, modality_centres_margin(features[order], ids, *rule), SAME)
        agree(file, match[1], modality_centres_margin(features[order], ids[order], *rule), SAME)


@golden("htt__cim_loss")
def test_identities_keep_a_margin_over_all_pairs_of_modalities(file):
    file = file()
    for margin, power in variants(file, "delta"):
        x, features = spectra(file, "feat")
        loss = cross_identity_margin(features, file.tensor("in/labels"), float(margin), int(power))
        agree(file, f"out/delta{margin}_l{power}", loss, SAME)
        gradients_agree(file, f"grad/delta{margin}_l{power}/", loss, x, SAME)


@golden("htt__ttt_loss")
def test_test_time_margins_group_by_pseudo_label(file):
    """With one pseudo label there are no pairs of identities, so the second term is absent."""
    file = file()
    margin, delta, power = said(file, file.settings["note"], "margin", "delta", ", l")
    features = F.normalize(spectra(file, "feat")[1], dim=2)
    two, same = (file.tensor(f"in/score_{name}").argmax(1) for name in ("two_pseudo_ids", "same_pseudo_id"))
    loss = modality_centres_margin(features, two, margin)
    loss = loss + cross_identity_margin(features, two, delta, int(power))
    agree(file, "out/two_ids", loss, SAME)
    agree(file, "out/same_id", modality_centres_margin(features, same, margin), SAME)


# Sums


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
        keys = (key for key in sorted(file.tensors("in/")) if re.match("score|feat|i2t", key))
        inputs = {key: file.leaf(f"in/{key}") for key in keys}
        scores, features = (
            [leaf for key, leaf in inputs.items() if key.startswith(kind)] for kind in ("score", "feat")
        )
        pids, smooth = file.tensor("in/label"), file[f"{setting}/label_smooth"]
        terms = stage2_terms(scores, features, pids, smooth, file[f"{setting}/soft_margin"])
        weights = dict(
            zip(("identity", "triplet", "i2t"), file[f"{setting}/weights_id_triplet_i2t"].tolist())
        )
        i2t = identity(inputs["i2t_logits"], pids, RECIPE.label_smoothing if smooth else 0.0)
        published = [key for key in inputs if f"grad/{match[1]}/{key}" in file]
        loss_close(
            name,
            total(terms | {"i2t": i2t}, weights),
            file[f"out/{match[1]}/with_i2t/loss"],
            [inputs[key] for key in published],
            [file[f"grad/{match[1]}/{key}"] for key in published],
        )
        loss_close(name, total(terms, {k: weights[k] for k in terms}), file[f"out/{match[1]}/no_i2t/loss"])


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


@golden("vladr__id_triplet")
def test_vladr_has_plain_cross_entropy_and_a_soft_margin(file):
    file = file()
    x, ids = leaves(file, "score", "feat"), file.tensor("in/labels")
    ce, triplet = identity(x["score"], ids), batch_hard_triplet(x["feat"], ids, None)
    agree(file, "out/ce", ce, SAME)
    agree(file, "out/triplet", triplet, SAME)
    gradients_agree(file, "grad/", ce + triplet, x, SAME)


@golden("topreid__loss_func")
def test_topreid_adds_up_pairs_of_scores_and_features(file):
    file = file()
    s, ids = file.settings, file.tensor("in/labels")
    heads = [key.removeprefix("in/score") for key in file if key.startswith("in/score")]
    x = leaves(file, *(kind + h for h in heads for kind in ("score", "feat")))
    loss = 0
    for h in heads:
        triplet = batch_hard_triplet(x[f"feat{h}"], ids, None if s["soft_margin"] else s["margin"])
        pair = (
            s["id_weight"] * identity(x[f"score{h}"], ids, s["label_smoothing"])
            + s["triplet_weight"] * triplet
        )
        agree(file, f"out/pair{h}", pair, SAME)
        loss = loss + pair
    agree(file, "out/total", loss, SAME)
    gradients_agree(file, "grad/", loss, x, SAME)


@golden("htt__loss_func")
def test_htt_adds_half_of_each_margin_loss(file):
    file = file()
    ids = file.tensor("in/labels")
    rule = rf"{NUMBER}\*3M\(margin {NUMBER}\) \+ {NUMBER}\*CIM\(delta {NUMBER}, l{NUMBER}"
    found = re.search(rule, file.settings["total"]) or lacks(file, f"rule like {rule}")
    share3m, margin, share_cim, delta, power = map(float, found.groups())
    x, features = spectra(file, "feat")
    x |= leaves(file, "score")
    unit = F.normalize(features, dim=2)
    loss = identity(x["score"], ids) + batch_hard_triplet(features.flatten(1), ids, None)
    loss = loss + share3m * modality_centres_margin(unit, ids, margin)
    loss = loss + share_cim * cross_identity_margin(unit, ids, delta, power)
    agree(file, "out/total", loss, SAME)
    gradients_agree(file, "grad/", loss, x, SAME)
