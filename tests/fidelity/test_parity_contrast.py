"""Losses against published code, set B: VLADR, TOP-ReID, HTT, PromptMA."""

import re

import torch
import torch.nn.functional as F
from golden import golden
from golden_b import agree, gradients_agree, leaves, load, spectra, temperatures
from torch import nn

from reid_core import losses

SAME = 1e-5


# --- VLADR


@golden("vladr__supcon")
def test_vladr_contrasts_raw_dot_products(file):
    file = load(file)
    x, ids = leaves(file, "image", "text"), file.tensor("in/labels")
    more = (ids, ids, file.settings["temperature"], False)
    i2t = losses.supervised_contrastive(x["image"], x["text"], *more)
    t2i = losses.supervised_contrastive(x["text"], x["image"], *more)
    for name, value in (("i2t", i2t), ("t2i", t2i), ("total", i2t + t2i)):
        agree(file, f"out/{name}", value, SAME)
    gradients_agree(file, "grad/", i2t + t2i, x, SAME)


@golden("vladr__supcon")
def test_one_sentence_per_identity_has_several_positives(file):
    file = load(file)
    image, text = file.tensor("in/image"), file.tensor("in/text_unique")
    ids, own, more = (
        file.tensor("in/labels"),
        file.tensor("in/labels_unique"),
        (file.settings["temperature"], False),
    )
    agree(file, "out/i2t_unique", losses.supervised_contrastive(image, text, ids, own, *more), SAME)
    agree(file, "out/t2i_unique", losses.supervised_contrastive(text, image, own, ids, *more), SAME)


@golden("vladr__id_triplet")
def test_vladr_has_plain_cross_entropy_and_a_soft_margin(file):
    file = load(file)
    x, ids = leaves(file, "score", "feat"), file.tensor("in/labels")
    ce, triplet = losses.identity(x["score"], ids), losses.batch_hard_triplet(x["feat"], ids, None)
    agree(file, "out/ce", ce, SAME)
    agree(file, "out/triplet", triplet, SAME)
    gradients_agree(file, "grad/", ce + triplet, x, SAME)


@golden("vladr__id_triplet")
def test_the_hardest_positive_may_be_the_anchor(file):
    file = load(file)
    near, far = losses.hardest_distances(file.tensor("in/feat"), file.tensor("in/labels"))
    agree(file, "out/dist_ap", near, SAME)
    agree(file, "out/dist_an", far, SAME)


@golden("vladr__affinity_kl")
def test_relations_are_a_softmax_within_each_attribute(file):
    file = load(file)
    for tau in temperatures(file):
        for side in ("new", "old"):
            relations = losses.attribute_relations(file.tensor(f"in/{side}"), float(tau))
            agree(file, f"out/tau{tau}/affinity_{side}", relations.permute(1, 2, 0), 1e-3)


@golden("vladr__affinity_kl")
def test_divergence_of_relations_is_summed_over_attributes(file):
    file = load(file)
    for tau in temperatures(file):
        x = leaves(file, "new")
        loss = losses.relation_divergence(x["new"], file.tensor("in/old"), float(tau))
        agree(file, f"out/tau{tau}/kl_clamped", loss, 1e-3)
        gradients_agree(file, f"grad/tau{tau}/", loss, x, 1e-3)


@golden("vladr__affinity_kl")
def test_relations_do_not_diverge_from_themselves(file):
    file = load(file)
    new = file.tensor("in/new")
    apart = losses.relation_divergence(new, file.tensor("in/old"))
    assert losses.relation_divergence(new, new) <= min(1e-5, 1e-3 * apart)


@golden("vladr__kd_logits")
def test_old_classes_are_distilled_among_all_classes(file):
    file = load(file)
    x = leaves(file, "score")
    loss = losses.old_class_distillation(x["score"], file.tensor("in/target_score"), file.settings["T"])
    agree(file, "out/loss", loss, SAME)
    gradients_agree(file, "grad/", loss, x, SAME)


# --- TOP-ReID


@golden("topreid__triplet")
def test_the_batch_hard_triplet_is_the_published_one(file):
    file = load(file)
    ids = file.tensor("in/labels")
    for variant, margin, view in (
        ("soft", None, nn.Identity()),
        ("margin03", 0.3, nn.Identity()),
        ("soft_normalised", None, F.normalize),
    ):
        x = leaves(file, "feat")
        loss = losses.batch_hard_triplet(view(x["feat"]), ids, margin)
        agree(file, f"out/{variant}/loss", loss, SAME)
        gradients_agree(file, f"grad/{variant}/", loss, x, SAME)
        for name, distance in zip(("ap", "an"), losses.hardest_distances(view(x["feat"]), ids)):
            agree(file, f"out/{variant}/dist_{name}", distance, SAME)


@golden("topreid__triplet")
def test_a_hard_factor_stretches_our_distances(file):
    """We have no such factor: theirs are our distances, each times one number."""
    file = load(file)
    x = leaves(file, "feat")
    near, far = losses.hardest_distances(x["feat"], file.tensor("in/labels"))
    stretch = [
        file[f"out/margin_hard_factor/dist_{k}"][0] / file[f"out/margin03/dist_{k}"][0] for k in ("ap", "an")
    ]
    assert stretch[0] > 1 > stretch[1]
    near, far = near * stretch[0], far * stretch[1]
    agree(file, "out/margin_hard_factor/dist_ap", near, SAME)
    agree(file, "out/margin_hard_factor/dist_an", far, SAME)
    gradients_agree(file, "grad/margin_hard_factor/", F.relu(near - far + 0.3).mean(), x, SAME)


@golden("topreid__label_smooth_ce")
def test_topreid_smooths_labels_as_the_library_does(file):
    file = load(file)
    x = leaves(file, "score")
    smoothing = float(re.search(r"eps ([\d.]+)", file.settings["function"])[1])
    loss = losses.identity(x["score"], file.tensor("in/labels"), smoothing)
    agree(file, "out/loss", loss, SAME)
    agree(file, "out/loss_other_implementation", loss, SAME)
    gradients_agree(file, "grad/", loss, x, SAME)


@golden("topreid__loss_func")
def test_topreid_adds_up_pairs_of_scores_and_features(file):
    file = load(file)
    s, ids = file.settings, file.tensor("in/labels")
    heads = [key.removeprefix("in/score") for key in file if key.startswith("in/score")]
    x = leaves(file, *(kind + h for h in heads for kind in ("score", "feat")))
    total = 0
    for h in heads:
        triplet = losses.batch_hard_triplet(x[f"feat{h}"], ids, None if s["soft_margin"] else s["margin"])
        pair = (
            s["id_weight"] * losses.identity(x[f"score{h}"], ids, s["label_smoothing"])
            + s["triplet_weight"] * triplet
        )
        agree(file, f"out/pair{h}", pair, SAME)
        total = total + pair
    agree(file, "out/total", total, SAME)
    gradients_agree(file, "grad/", total, x, SAME)


# --- HTT


@golden("htt__three_m_loss")
def test_modality_centres_keep_a_margin(file):
    file = load(file)
    for margin, power in variants(file, "margin"):
        x, features = spectra(file, "feat")
        loss = losses.modality_centres_margin(features, file.tensor("in/labels"), float(margin), int(power))
        agree(file, f"out/margin{margin}_l{power}", loss, SAME)
        gradients_agree(file, f"grad/margin{margin}_l{power}/", loss, x, SAME)


@golden("htt__three_m_loss")
def test_modality_centres_follow_labels_and_theirs_the_order(file):
    """Published code cuts the batch into equal pieces: with labels by position ours repeats it, with true
    labels the order is immaterial."""
    file = load(file)
    ids, order = file.tensor("in/labels"), file.tensor("in/permutation")
    _, features = spectra(file, "feat")
    agree(file, "out/margin1_l2_permuted_batch", losses.modality_centres_margin(features[order], ids), SAME)
    agree(file, "out/margin1_l2", losses.modality_centres_margin(features[order], ids[order]), SAME)


@golden("htt__cim_loss")
def test_identities_keep_a_margin_over_all_pairs_of_modalities(file):
    file = load(file)
    for margin, power in variants(file, "delta"):
        x, features = spectra(file, "feat")
        loss = losses.cross_identity_margin(features, file.tensor("in/labels"), float(margin), int(power))
        agree(file, f"out/delta{margin}_l{power}", loss, SAME)
        gradients_agree(file, f"grad/delta{margin}_l{power}/", loss, x, SAME)


def variants(file, name):
    """(margin, power) of every variant, as written in the keys."""
    return [found.groups() for key in file if (found := re.fullmatch(rf"out/{name}([\d.]+)_l(\d)", key))]


@golden("htt__loss_func")
def test_htt_adds_half_of_each_margin_loss(file):
    file = load(file)
    ids, numbers = (
        file.tensor("in/labels"),
        r"([\d.]+)\*3M\(margin ([\d.]+)\) \+ ([\d.]+)\*CIM\(delta ([\d.]+), l(\d)",
    )
    share3m, margin, share_cim, delta, power = map(float, re.search(numbers, file.settings["total"]).groups())
    x, features = spectra(file, "feat")
    x |= leaves(file, "score")
    unit = F.normalize(features, dim=2)
    total = losses.identity(x["score"], ids) + losses.batch_hard_triplet(features.flatten(1), ids, None)
    total = total + share3m * losses.modality_centres_margin(unit, ids, margin)
    total = total + share_cim * losses.cross_identity_margin(unit, ids, delta, power)
    agree(file, "out/total", total, SAME)
    gradients_agree(file, "grad/", total, x, SAME)


@golden("htt__ttt_loss")
def test_test_time_margins_group_by_pseudo_label(file):
    """With one pseudo label there are no pairs of identities, so the second term is absent."""
    file = load(file)
    margin, delta = (
        float(re.search(rf"{name}.*?([\d.]+)", file.settings["note"])[1]) for name in ("margin", "delta")
    )
    features = F.normalize(spectra(file, "feat")[1], dim=2)
    two, same = (file.tensor(f"in/score_{name}").argmax(1) for name in ("two_pseudo_ids", "same_pseudo_id"))
    loss = losses.modality_centres_margin(features, two, margin) + losses.cross_identity_margin(
        features, two, delta
    )
    agree(file, "out/two_ids", loss, SAME)
    agree(file, "out/same_id", losses.modality_centres_margin(features, same, margin), SAME)


# --- PromptMA


@golden("promptma__supcon_degenerate")
def test_one_sentence_for_all_teaches_images_nothing(file):
    file = load(file)
    ids, count = file.tensor("in/labels"), len(file["in/labels"])
    x, text = leaves(file, "image", dtype=torch.float64), file.tensor("in/text").double().expand(count, -1)
    i2t = losses.supervised_contrastive(x["image"], text, ids, ids, cosine=False)
    t2i = losses.supervised_contrastive(text, x["image"], ids, ids, cosine=False)
    agree(file, "out/i2t", i2t, 1e-6)
    agree(file, "out/t2i", t2i, 1e-6)
    assert torch.autograd.grad(i2t, x["image"])[0].abs().max() < 1e-12
    gradients_agree(file, "grad/t2i/", t2i, x, 1e-6)
