"""The equations of DMPT and HPL, for which there is no published code, against shared arrays in float64."""

import torch
import torch.nn.functional as F
from golden import (
    FLOAT64,
    GRADIENT64,
    NUMBER,
    SAME,
    agree,
    golden,
    gradients_agree,
    leaves,
    matching,
    spectra,
    temperatures,
)
from torch import nn

from reid_core import losses
from reid_core.layers import Head

# DMPT


@golden("dmpt__centre_l1")
def test_the_distance_to_centres_is_the_mean_of_absolute_differences(file):
    file = file()
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
    file = file()
    for tau in temperatures(file):
        x, features = spectra(file, "z", torch.float64)
        x |= leaves(file, "text", dtype=torch.float64)
        loss = losses.modality_contrast(features, x["text"], float(tau))
        agree(file, f"out/tau{tau}/loss", loss, FLOAT64)
        gradients_agree(file, f"grad/tau{tau}/", loss, x, SAME)


@golden("dmpt__modality_contrast")
def test_the_pull_is_one_minus_the_cosine(file):
    file = file()
    x, features = spectra(file, "z", torch.float64)
    loss = losses.modality_pull(features, file.tensor("in/text").double())
    agree(file, "out/pull/loss", loss, FLOAT64)
    gradients_agree(file, "grad/pull/", loss, x, SAME)


@golden("dmpt__modality_contrast")
def test_the_printed_contrast_is_a_constant(file):
    """Equations 5-6 as printed: N identical sentences per modality."""
    file = file()
    x, features = spectra(file, "z", torch.float64)
    ids = torch.arange(len(features)) % file.settings["literal_N"]
    bank = file.tensor("in/text").double()[:, None].expand(-1, file.settings["literal_N"], -1)
    loss = sum(losses.bank_classification(z, b, ids, 100.0) for z, b in zip(features.unbind(1), bank))
    agree(file, "out/literal/loss", loss, FLOAT64)
    assert max(g.abs().max() for g in torch.autograd.grad(loss, list(x.values()))) < 1e-12


@golden("dmpt__total_loss")
def test_dmpt_sums_four_terms_of_weight_one(file):
    file = file()
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
    file = file()
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


# HPL


@golden("hpl__sdm")
def test_matching_is_the_divergence_of_both_directions(file):
    """The two directions apart (i2t, t2i) are left out: our function gives the sum only."""
    file = file()
    for tau in temperatures(file):
        x = leaves(file, "image", "text", dtype=torch.float64)
        loss = losses.similarity_distribution_matching(
            x["image"], x["text"], file.tensor("in/labels"), float(tau), file.settings["eps"]
        )
        agree(file, f"out/tau{tau}/loss", loss, FLOAT64)
        gradients_agree(file, f"grad/tau{tau}/", loss, x, GRADIENT64)


@golden("hpl__id_prompt_contrast")
def test_identity_prompts_keep_duplicates_in_the_denominator(file):
    file = file()
    for _, match in matching(file, rf"out/(s{NUMBER})/eq8_t2i"):
        scale, factor = match[1], float(match[2])
        x = leaves(file, "image", "identity_prompt_features", dtype=torch.float64)
        prompts = x["identity_prompt_features"][file.tensor("in/labels")]
        t2i = losses.pair_contrast(prompts, x["image"], factor)
        i2t = losses.pair_contrast(x["image"], prompts, factor)
        agree(file, f"out/{scale}/eq8_t2i", t2i, FLOAT64)
        agree(file, f"out/{scale}/eq9_i2t", i2t, FLOAT64)
        gradients_agree(file, f"grad/{scale}/", t2i + i2t, x, GRADIENT64)


@golden("hpl__id_prompt_classification")
def test_identity_prompts_classify_among_all_identities(file):
    """Equation 11 is printed as a sum over the batch: ours is its mean."""
    file = file()
    ids = file.tensor("in/labels")
    for _, match in matching(file, rf"out/(s{NUMBER})/mean"):
        scale, factor = match[1], float(match[2])
        x = leaves(file, "image", "identity_prompt_features", dtype=torch.float64)
        image, bank = x.values()
        loss = losses.bank_classification(image, bank, ids, factor)
        agree(file, f"out/{scale}/mean", loss, FLOAT64)
        agree(file, f"out/{scale}/sum_as_printed", loss * len(ids), FLOAT64)
        gradients_agree(file, f"grad/{scale}/", loss, x, GRADIENT64)
        each = [losses.bank_classification(v[None], bank, y[None], factor) for v, y in zip(image, ids)]
        agree(file, f"out/{scale}/per_sample", torch.stack(each), FLOAT64)


@golden("hpl__inversion_consistency")
def test_only_captioned_rows_have_a_text_term(file):
    file = file()
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
    file = file()
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
    file = file()
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
    file = file()
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
    trained = {
        "classifier_t2i.weight": match.weight,
        "classifier_i2i.weight": head.classifier.weight,
        "bottleneck.weight": head.neck.weight,
    }
    gradients_agree(file, "grad/stage2/", total, {**x, **trained}, GRADIENT64)


@golden("hpl__base_and_totals")
def test_hpl_stage_one_has_unit_weights(file):
    file = file()
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
