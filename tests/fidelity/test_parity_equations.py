"""The equations of DMPT and HPL, for which there is no published code, against shared arrays in float64."""

import pytest
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

from reid_core import layers, losses
from reid_core.layers import Head
from reid_core.prompts import SpectrumPrompts

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


SPECTRA = "rnt"


@golden("dmpt__external_interaction")
def test_prompts_read_what_the_spectra_have_in_common(file):
    file = file()
    x = leaves(file, *(f"S_{m}" for m in SPECTRA), dtype=torch.float64)
    prompts = torch.stack([x[f"S_{m}"] for m in SPECTRA])  # (M, B, S, D)
    layer = layers.InverseBind(len(SPECTRA), prompts.shape[-1]).double()
    weights = external(file, "w/")
    layer.load_state_dict(weights)
    bind = layer.bind(prompts)
    agree(file, "out/bind", bind, FLOAT64)
    agree(file, "out/bind_projected", layer.shared(bind), FLOAT64)
    out = layer(prompts)
    for m, query, found in zip(SPECTRA, layer.query(prompts), out):
        agree(file, f"out/query_{m}", query, FLOAT64)
        agree(file, f"out/S_b2m_{m}", found, FLOAT64)
    loss = sum((found * file.tensor(f"in/cotangent_{m}")).sum() for m, found in zip(SPECTRA, out))
    gradients_agree(file, "grad/", loss, x, GRADIENT64)
    loss.backward()
    for k, m in enumerate(SPECTRA):
        agree(file, f"grad/bind_proj.{m}.weight", layer.into.weight.grad[k], GRADIENT64)
        agree(file, f"grad/query.{m}.bias", layer.query.bias.grad[k], GRADIENT64)
    agree(file, "grad/bind_shared.weight", layer.shared.weight.grad, GRADIENT64)


def stacked(file, *names):
    """The tensors of all spectra as one; each name has a place for the spectrum."""
    return [torch.stack([file.tensor(name.format(m)) for m in SPECTRA]).double() for name in names]


def external(file, prefix):
    """The state of an InverseBind."""
    found = {}
    for own, theirs in (("into", "bind_proj"), ("query", "query")):
        names = [f"{prefix}{theirs}.{{}}.{kind}" for kind in ("weight", "bias")]
        found[f"{own}.weight"], found[f"{own}.bias"] = stacked(file, *names)
    for kind in ("weight", "bias"):
        found[f"shared.{kind}"] = file.tensor(f"{prefix}bind_shared.{kind}").double()
    return found


def internal(file, prefix):
    """The state of a SpectrumAttention."""
    names = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    weight, bias, *out = stacked(file, *(f"{prefix}self_attn.{{}}.{name}" for name in names))
    width = weight.shape[-1]
    found = {"query.weight": weight[:, :width], "query.bias": bias[:, :width]}
    found |= {"keys.weight": weight[:, width:], "keys.bias": bias[:, width:]}
    found |= {"out.weight": out[0], "out.bias": out[1]}
    scale, shift = stacked(file, f"{prefix}norm.{{}}.weight", f"{prefix}norm.{{}}.bias")
    return found, {"norm.weight": scale, "norm.bias": shift}


@golden("dmpt__promptibind_layer")
@pytest.mark.parametrize("norm", ["pre", "none"])
def test_spectra_exchange_and_then_read_themselves(file, norm):
    """The class token alone gives the same feature as all tokens, and the order of tokens is immaterial."""
    file = file()
    told = file.settings
    semantic, before = told["num_semantic_prompts"], 1 + told["num_modality_prompts"]
    x = leaves(file, *(f"tokens_{m}" for m in SPECTRA), dtype=torch.float64)
    given = torch.stack([x[f"tokens_{m}"] for m in SPECTRA])  # class, modality, semantic, patches
    order = torch.arange(given.shape[2])
    order = torch.cat([order[:before], order[before + semantic :], order[before : before + semantic]])
    made = []
    for k in range(told["k"]):
        layer = layers.PromptBinding(len(SPECTRA), given.shape[-1], heads=told["heads"], norm=norm).double()
        layer.external.load_state_dict(external(file, f"w/layers.{k}."))
        attention, norms = internal(file, f"w/layers.{k}.")
        layer.internal.load_state_dict({**attention, **(norms if norm == "pre" else {})})
        made.append(layer)
    tokens = given[:, :, order]
    for layer in made[:-1]:
        tokens = layer(tokens, semantic)
    whole, first = made[-1](tokens, semantic), made[-1](tokens, semantic, 1)
    for m, found in zip(SPECTRA, whole):
        agree(file, f"out/{norm}/tokens_{m}", found[:, order.argsort()], FLOAT64)
    agree(file, f"out/{norm}/feature", torch.cat(list(first[:, :, 0]), 1), FLOAT64)
    loss = sum((found[:, 0] * file.tensor(f"in/cotangent_{m}")).sum() for m, found in zip(SPECTRA, first))
    gradients_agree(file, f"grad/{norm}/", loss, x, GRADIENT64)
    loss.backward()
    shared = made[0].external.shared.weight.grad
    agree(file, f"grad/{norm}/layers.0.bind_shared.weight", shared, GRADIENT64)


@golden("dmpt__param_count")
def test_what_is_trained_is_counted_as_the_paper_does(file):
    """17,885,440 for 171 identities, with the norm of D8 beyond it; 6.5 per cent of three towers and that."""
    file = file()
    told, parts = file["config"], file["components"]
    norm = "pre" if told["self_attention_norm"] else "none"
    found = {}
    layer = layers.PromptBinding(3, told["width"], heads=12, norm=norm)
    names = {"bind_proj_per_modality": "into", "query_per_modality": "query", "bind_shared": "shared"}
    found |= {name: told["k"] * count(getattr(layer.external, own)) for name, own in names.items()}
    found["self_attention_per_modality"] = told["k"] * count(layer.internal)
    prompts = SpectrumPrompts(
        told["layers"],
        3,
        told["width"],
        semantic=told["semantic"],
        spread=0.0625,
        words=torch.zeros(3, told["text_width"]),
        count=told["modality"],
    )
    found["semantic_prompts"], found["modality_projection"] = prompts.semantic.numel(), count(prompts.maps)
    head = Head(3 * told["width"], told["ids"])
    found["bnneck_weight"], found["classifier"] = head.neck.weight.numel(), count(head.classifier)
    assert {name: parts[name] for name in found} == found
    assert set(parts) - set(found) == {"image_projection", "text_projection", "total"}
    projections = told["width"] * told["text_width"] + told["text_width"] ** 2
    assert sum(found.values()) + projections == parts["total"]


def count(module):
    return sum(p.numel() for p in module.parameters())


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
