"""Losses against published code, set B: VLADR, TOP-ReID, HTT, PromptMA; and the equations of DMPT and HPL in float64."""

import re

import torch
import torch.nn.functional as F
from golden import golden
from golden_b import agree, gradients_agree, leaves, load
from torch import nn

from reid_core import losses
from reid_core.layers import Head

SAME, FLOAT64, GRADIENT64 = 1e-5, 1e-9, 1e-4
SPECTRA = ("r", "n", "t")


def spectra(file, name, dtype=torch.float32):
    """Leaves name_r, name_n, name_t, and the three stacked: (B, M, D)."""
    found = leaves(file, *(f"{name}_{letter}" for letter in SPECTRA), dtype=dtype)
    return found, torch.stack(list(found.values()), 1)


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


def temperatures(file):
    return sorted({key.split("/")[1].removeprefix("tau") for key in file if key.startswith("out/tau")})


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
    for variant, margin, view in (("soft", None, nn.Identity()), ("margin03", 0.3, nn.Identity()),
                                  ("soft_normalised", None, F.normalize)):  # fmt: skip
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
    """Published code cuts the batch into equal pieces: with labels by position ours repeats it, with true labels the
    order is immaterial."""
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


# --- DMPT's equations


@golden("dmpt__centre_l1")
def test_the_distance_to_centres_is_the_mean_of_absolute_differences(file):
    file = load(file)
    ids = file.tensor("in/labels")
    variants = {
        "default": {},
        "detach": {"detach": True},
        "sum_over_dims": {"reduction": "sum"},
        "normalised": {},
    }
    for variant, options in variants.items():
        x, features = spectra(file, "feat", torch.float64)
        features = F.normalize(features, dim=2) if variant == "normalised" else features
        each = torch.stack([losses.centre_l1(f, ids, **options) for f in features.unbind(1)])
        agree(file, f"out/{variant}/per_modality", each, FLOAT64)
        agree(file, f"out/{variant}/loss", each.mean(), FLOAT64)
        gradients_agree(file, f"grad/{variant}/", each.mean(), x, SAME)


@golden("dmpt__modality_contrast")
def test_the_contrast_asks_for_the_modality(file):
    """The parts of the sum (per_modality) are left out: our function gives the sum only."""
    file = load(file)
    for tau in temperatures(file):
        x, features = spectra(file, "z", torch.float64)
        x |= leaves(file, "text", dtype=torch.float64)
        loss = losses.modality_contrast(features, x["text"], float(tau))
        agree(file, f"out/tau{tau}/loss", loss, FLOAT64)
        gradients_agree(file, f"grad/tau{tau}/", loss, x, SAME)


@golden("dmpt__modality_contrast")
def test_the_pull_is_one_minus_the_cosine(file):
    file = load(file)
    x, features = spectra(file, "z", torch.float64)
    loss = losses.modality_pull(features, file.tensor("in/text").double())
    agree(file, "out/pull/loss", loss, FLOAT64)
    gradients_agree(file, "grad/pull/", loss, x, SAME)


@golden("dmpt__modality_contrast")
def test_the_printed_contrast_is_a_constant(file):
    """Equations 5-6 as printed: N identical sentences per modality."""
    file = load(file)
    x, features = spectra(file, "z", torch.float64)
    ids = torch.arange(len(features)) % file.settings["literal_N"]
    bank = file.tensor("in/text").double()[:, None].expand(-1, file.settings["literal_N"], -1)
    loss = sum(losses.bank_classification(z, b, ids, 100.0) for z, b in zip(features.unbind(1), bank))
    agree(file, "out/literal/loss", loss, FLOAT64)
    assert max(g.abs().max() for g in torch.autograd.grad(loss, list(x.values()))) < 1e-12


@golden("dmpt__total_loss")
def test_dmpt_sums_four_terms_of_weight_one(file):
    file = load(file)
    ids, head = file.tensor("in/labels"), dmpt_head(file)
    x, features = spectra(file, "feat", torch.float64)
    y, z = spectra(file, "z", torch.float64)
    y |= leaves(file, "text", dtype=torch.float64)
    logits = head(features.flatten(1))
    agree(file, "out/logits", logits, FLOAT64)
    terms = {
        "ce": losses.identity(logits, ids, file.settings["label_smoothing"]),
        "triplet": losses.batch_hard_triplet(features.flatten(1), ids, None),
        "centre": torch.stack([losses.centre_l1(f, ids) for f in features.unbind(1)]).mean(),
        "contrast": losses.modality_contrast(z, y["text"], file.settings["tau"]),
    }
    for name, term in terms.items():
        agree(file, f"out/{name}", term, FLOAT64)
    total = sum(terms.values())
    agree(file, "out/total", total, FLOAT64)
    trained = {"classifier.weight": head.classifier.weight, "bottleneck.weight": head.neck.weight}
    gradients_agree(file, "grad/", total, {**x, "text": y["text"], **trained}, GRADIENT64)


@golden("dmpt__total_loss")
def test_dmpt_searches_with_the_normed_concatenation(file):
    file = load(file)
    neck = dmpt_head(file).neck
    _, features = spectra(file, "feat", torch.float64)
    agree(file, "out/bn_feature", neck(features.flatten(1)), FLOAT64)
    neck.running_mean, neck.running_var = (
        file.tensor(f"w/bottleneck.running_{k}").double() for k in ("mean", "var")
    )
    agree(file, "out/eval_descriptor", F.normalize(neck.eval()(features.flatten(1))), FLOAT64)


def dmpt_head(file):
    """Head with the stored weights; its neck's bias stays 0."""
    head = Head(*reversed(file["w/classifier.weight"].shape)).double()
    head.classifier.weight.data = file.tensor("w/classifier.weight").double()
    head.neck.weight.data = file.tensor("w/bottleneck.weight").double()
    return head


# --- HPL's equations


@golden("hpl__sdm")
def test_matching_is_the_divergence_of_both_directions(file):
    """The two directions apart (i2t, t2i) are left out: our function gives the sum only."""
    file = load(file)
    for tau in temperatures(file):
        x = leaves(file, "image", "text", dtype=torch.float64)
        loss = losses.similarity_distribution_matching(
            x["image"], x["text"], file.tensor("in/labels"), float(tau), file.settings["eps"]
        )
        agree(file, f"out/tau{tau}/loss", loss, FLOAT64)
        gradients_agree(file, f"grad/tau{tau}/", loss, x, GRADIENT64)


@golden("hpl__id_prompt_contrast")
def test_identity_prompts_keep_duplicates_in_the_denominator(file):
    file = load(file)
    for key in [key for key in file if key.endswith("eq8_t2i")]:
        scale = key.split("/")[1]
        x = leaves(file, "image", "identity_prompt_features", dtype=torch.float64)
        prompts = x["identity_prompt_features"][file.tensor("in/labels")]
        t2i = losses.pair_contrast(prompts, x["image"], float(scale[1:]))
        i2t = losses.pair_contrast(x["image"], prompts, float(scale[1:]))
        agree(file, f"out/{scale}/eq8_t2i", t2i, FLOAT64)
        agree(file, f"out/{scale}/eq9_i2t", i2t, FLOAT64)
        gradients_agree(file, f"grad/{scale}/", t2i + i2t, x, GRADIENT64)


@golden("hpl__id_prompt_classification")
def test_identity_prompts_classify_among_all_identities(file):
    """Equation 11 is printed as a sum over the batch: ours is its mean."""
    file = load(file)
    ids = file.tensor("in/labels")
    for key in [key for key in file if key.endswith("/mean")]:
        scale = key.split("/")[1]
        x = leaves(file, "image", "identity_prompt_features", dtype=torch.float64)
        image, bank = x.values()
        loss = losses.bank_classification(image, bank, ids, float(scale[1:]))
        agree(file, f"out/{scale}/mean", loss, FLOAT64)
        agree(file, f"out/{scale}/sum_as_printed", loss * len(ids), FLOAT64)
        gradients_agree(file, f"grad/{scale}/", loss, x, GRADIENT64)
        each = [
            losses.bank_classification(v[None], bank, y[None], float(scale[1:])) for v, y in zip(image, ids)
        ]
        agree(file, f"out/{scale}/per_sample", torch.stack(each), FLOAT64)


@golden("hpl__inversion_consistency")
def test_only_captioned_rows_have_a_text_term(file):
    file = load(file)
    captioned = file.tensor("in/is_captioned")
    for variant, normalise in (("normalised", True), ("raw", False)):
        x = leaves(file, "vision_prompt", "image", "text_prompt", "text", dtype=torch.float64)
        seen = losses.squared_distance(x["vision_prompt"], x["image"], normalise)
        read = losses.squared_distance(x["text_prompt"][captioned], x["text"][captioned], normalise)
        for name, value in (("image_term", seen), ("text_term", read), ("loss", seen + read)):
            agree(file, f"out/{variant}/{name}", value, FLOAT64)
        gradients_agree(file, f"grad/{variant}/", seen + read, x, SAME)


@golden("hpl__ilpa")
def test_instance_prompts_pull_the_other_modality(file):
    file = load(file)
    for variant, normalise in (("normalised", True), ("raw", False)):
        x = leaves(file, "vision_prompt", "image", "text_prompt", "text", dtype=torch.float64)
        tgps = losses.squared_distance(x["text_prompt"], x["image"], normalise)
        vgps = losses.squared_distance(x["vision_prompt"], x["text"], normalise)
        agree(file, f"out/{variant}/tgps_textprompt_vs_image", tgps, FLOAT64)
        agree(file, f"out/{variant}/vgps_visionprompt_vs_text", vgps, FLOAT64)
        agree(file, f"out/{variant}/loss", tgps + vgps, FLOAT64)
        gradients_agree(file, f"grad/{variant}/", tgps + vgps, x, SAME)


@golden("hpl__cmpr")
def test_regularisation_sums_over_tokens_and_dimensions(file):
    file = load(file)
    x = leaves(file, "P_v", "P_t", dtype=torch.float64)
    loss = losses.squared_distance(x["P_t"], x["P_v"], normalise=False)
    agree(file, "out/loss", loss, FLOAT64)
    gradients_agree(file, "grad/", loss, x, SAME)


HPL_INPUTS = (
    "v_t2i",
    "t_eos",
    "v_i2i",
    "vision_prompt",
    "text_prompt",
    "identity_prompt_features",
    "P_v",
    "P_t",
)


@golden("hpl__base_and_totals")
def test_hpl_stage_two_weighs_its_terms_as_printed(file):
    file = load(file)
    s, ids, x = file.settings, file.tensor("in/labels"), leaves(file, *HPL_INPUTS, dtype=torch.float64)
    match, head = hpl_heads(file)
    i2i, smoothing = head(x["v_i2i"]), s["label_smoothing"]
    terms = {
        "sdm": losses.similarity_distribution_matching(x["v_t2i"], x["t_eos"], ids, s["tau"]),
        "id_t2i": (losses.identity(match(x["v_t2i"]), ids) + losses.identity(match(x["t_eos"]), ids)) / 2,
        "id_i2i": losses.identity(i2i, ids, smoothing),
        "triplet": losses.batch_hard_triplet(x["v_i2i"], ids, s["margin"]),
        "cic": losses.bank_classification(x["v_i2i"], x["identity_prompt_features"], ids, s["scale"]),
        "ilpa": losses.squared_distance(x["text_prompt"], x["v_t2i"])
        + losses.squared_distance(x["vision_prompt"], x["t_eos"]),
        "cmpr": losses.squared_distance(x["P_t"], x["P_v"], normalise=False),
    }
    for name, term in terms.items():
        agree(file, f"out/{name}", term, FLOAT64)
    base = terms["sdm"] + terms["id_t2i"] + terms["id_i2i"] + terms["triplet"]
    total = base + terms["cic"] + s["lambda1"] * terms["ilpa"] + s["lambda2"] * terms["cmpr"]
    agree(file, "out/base", base, FLOAT64)
    agree(file, "out/stage2_total", total, FLOAT64)
    trained = {"classifier_t2i.weight": match.weight, "classifier_i2i.weight": head.classifier.weight,
               "bottleneck.weight": head.neck.weight}  # fmt: skip
    gradients_agree(file, "grad/stage2/", total, {**x, **trained}, GRADIENT64)


@golden("hpl__base_and_totals")
def test_hpl_stage_one_has_unit_weights(file):
    file = load(file)
    x = leaves(file, *HPL_INPUTS, dtype=torch.float64)
    prompts, scale = x["identity_prompt_features"][file.tensor("in/labels")], file.settings["scale"]
    contrast = losses.pair_contrast(prompts, x["v_t2i"], scale) + losses.pair_contrast(
        x["v_t2i"], prompts, scale
    )
    inversion = losses.squared_distance(x["vision_prompt"], x["v_t2i"])
    inversion = inversion + losses.squared_distance(x["text_prompt"], x["t_eos"])
    agree(file, "out/stage1_total", contrast + inversion, FLOAT64)


def hpl_heads(file):
    """The classifier that images and sentences share, and the neck with its own."""
    classes, width = file["w/classifier_t2i.weight"].shape
    match, head = nn.Linear(width, classes).double(), Head(width, classes, bias=True).double()
    match.load_state_dict(file.tensors("w/classifier_t2i."))
    head.classifier.weight.data = file.tensor("w/classifier_i2i.weight").double()
    head.neck.load_state_dict({k: v.double() for k, v in file.tensors("w/bottleneck.").items()}, strict=False)
    return match, head
