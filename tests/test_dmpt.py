"""DMPT: what is trained and what is frozen, which tokens read which, and what a missing spectrum changes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from reid_core import evaluate, layers, train
from reid_core.data import Loader, load_data
from reid_core.methods import dmpt
from reid_core.methods.base import StageLoss, freeze_all_but, learnable, total
from reid_core.recipe import PROFILES

SMOKE = PROFILES["smoke"]


@pytest.fixture(scope="module")
def spectra():
    return load_data("world_rgbnt201", "smoke")


def built(data, row="full", **changes):
    train.seed_all(0)
    few = {"ids_per_batch": 4, "image_height": 64, "image_width": 32}  # what is claimed needs no more
    recipe = dmpt.RECIPE.but(**dmpt.PAPER.rows[row]).at(SMOKE).but(**{**few, **changes})
    return dmpt.DMPT(recipe, data)


@pytest.fixture(scope="module")
def method(spectra):
    return built(spectra)


def batch_of(method):
    (stage,) = method.stages()
    loader = Loader.of_stage(method.data, method.size, stage)
    return stage, next(iter(loader.batches(0, loader.plan(0))))


def at_full_size(identities, **changes):
    """The method as published with random weights, on data of which it only sees how many there are."""
    shots = SimpleNamespace(paths=np.empty((4 * identities, 3), object))
    labels = np.repeat(np.arange(identities), 4)
    manifest = SimpleNamespace(name="rgbnt201")
    data = SimpleNamespace(classes=identities, labels=labels, train=shots, manifest=manifest)
    return dmpt.DMPT(dmpt.RECIPE.but(pretrained=None, **changes), data)


@pytest.mark.slow
def test_the_paper_trains_17_885_440_parameters_which_is_six_and_a_half_per_cent():
    literal = at_full_size(171, sa_norm="none")
    told = dmpt.budget(literal)
    assert told["trained"] == 17_885_440 and round(told["per cent"], 1) == 6.5
    assert learnable(at_full_size(171)) == 17_890_048, "with the norm of D8"


@pytest.mark.parametrize("row", dmpt.PAPER.rows)
def test_every_row_trains_what_it_names_and_leaves_the_tower_as_it_was(row, spectra):
    method = built(spectra, row)
    stage, batch = batch_of(method)
    freeze_all_but(method, stage.groups)
    total(StageLoss(method, stage)(batch).terms, stage.weights).backward()
    fine_tuned = row.startswith("fine-tuning")
    assert any(p.grad is not None for p in method.image.parameters()) == fine_tuned
    learning = [(name, p) for name, p in method.named_parameters() if p.requires_grad and p.numel()]
    # a copy of the tower's projection learns (D10), the tower's own is never asked
    missing = [name for name, p in learning if p.grad is None and name != "image.proj"]
    assert not missing, missing
    assert not any(module.training for module in method.image.modules()) or fine_tuned


def test_rows_begin_with_the_same_weights_where_they_share_a_part(spectra):
    """Whatever else is drawn before it."""
    full = built(spectra).state_dict()
    for row, part in (("head alone", "head."), ("Baseline2", "prompts.semantic")):
        own = {name: value for name, value in built(spectra, row).state_dict().items() if part in name}
        assert own and all(torch.equal(value, full[name]) for name, value in own.items())


def test_the_words_of_the_spectra_enter_every_block_and_the_sentences_the_contrast(method, spectra):
    assert len(method.prompts.maps) == len(method.image.blocks)
    swapped = built(spectra, modality_words=("thermal-infrared", "near-infrared", "visible"))
    assert torch.equal(swapped.prompts.words, method.prompts.words.flip(0))
    assert torch.equal(swapped.sentences, method.sentences.flip(0))


def test_vehicles_are_called_so(spectra):
    vehicles = built(load_data("world_rgbnt100", "smoke"))
    assert not torch.equal(vehicles.sentences, built(spectra).sentences)


def test_one_pass_of_all_spectra_is_a_pass_of_each(spectra):
    method = built(spectra).double().eval()
    _, batch = batch_of(method)
    batch.views = [view.double() for view in batch.views]
    with torch.no_grad():
        together, _ = method.encode(batch)
        for m, image in enumerate(batch.images.unbind(1)):
            rows = method.prompts.semantic[:, m]

            def alone(index, x, prompts, m=m, rows=rows):
                word = method.prompts.maps[index](method.prompts.words[m])
                own = torch.cat([word.view(-1, x.shape[-1]), rows[index]])
                return own.expand(len(x), -1, -1)

            single = method.image(image, prompter=alone).tokens[:, 0]
            assert torch.allclose(single, together[m], rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["pre", "post", "none"])
@pytest.mark.parametrize("exchange", ["bind", "prompts", "tokens"])
def test_the_class_token_alone_reads_what_it_reads_among_all(norm, exchange):
    layer = layers.PromptBinding(3, 16, heads=4, norm=norm, exchange=exchange).eval()
    x = torch.randn(3, 2, 9, 16)
    with torch.no_grad():
        assert torch.allclose(layer(x, 4)[:, :, :1], layer(x, 4, 1), atol=1e-6)


def reached(layer, x, prompts):
    """(M, M): which spectra's tokens move the class token of which."""
    x = x.requires_grad_()
    found = []
    for m in range(len(x)):
        (gradient,) = torch.autograd.grad(layer(x, prompts, 1)[m].square().sum(), x, retain_graph=True)
        found.append(gradient[:, :, :-prompts].abs().amax((1, 2, 3)) > 0)
    return torch.stack(found)


def test_spectra_exchange_by_their_prompts_alone_unless_tokens_are_fused():
    x = torch.randn(3, 2, 9, 16)
    own = torch.eye(3, dtype=torch.bool)
    for exchange in ("bind", "prompts"):
        assert torch.equal(reached(layers.PromptBinding(3, 16, heads=4, exchange=exchange), x, 4), own)
    assert reached(layers.PromptBinding(3, 16, heads=4, exchange="tokens"), x, 4).all()


def test_the_bind_of_spectra_that_are_there_leaves_the_others_out():
    layer = layers.InverseBind(3, 8)
    prompts = torch.randn(3, 2, 5, 8)
    there = torch.tensor([[1, 1], [1, 0], [0, 0]], dtype=torch.bool)  # (M, B)
    found = layer.bind(prompts, there)
    mapped = layer.into(prompts)
    assert torch.allclose(found[0], mapped[:2, 0].mean(0), atol=1e-6)
    assert torch.allclose(found[1], mapped[0, 1], atol=1e-6)


def blocks(method, data):
    """The feature of the queries, a block for each spectrum: (B, M, D)."""
    return evaluate.embed_images(method, data, "query", {"after"})["after"].unflatten(1, (3, -1))


def test_a_missing_spectrum_leaves_what_the_tower_makes_of_a_blank_image_or_nothing(spectra):
    """As DeMo's test, or masked; and the others' blocks hear of it through the bind alone."""
    found = {}
    for missing in dmpt.MISSING:
        method = built(spectra, missing=missing).eval()
        method.learn_means()
        found[missing] = blocks(method, spectra.without("rgb"))
    assert (found["mask"][:, 0] == 0).all() and (found["mask"][:, 1:] != 0).any()
    assert (found["zeros"][:, 0] != 0).any() and not torch.allclose(found["zeros"], found["mean"])
    unbound = built(spectra, missing="zeros", interaction_layers_k=0, neck_feature="before").eval()
    whole, lacking = (
        evaluate.embed_images(unbound, data, "query", {"tower"})["tower"].unflatten(1, (3, -1))
        for data in (spectra, spectra.without("rgb"))
    )
    ratio = (whole / lacking)[:, 1:].flatten(1)  # unit length as a whole: a factor for each image
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-3)


def test_the_blank_image_is_grey_or_the_mean_after_the_normalisation(spectra, monkeypatch):
    for missing in ("zeros", "mean"):
        method = built(spectra, missing=missing).eval()
        method.learn_means()
        seen = []
        real = method.image.forward
        monkeypatch.setattr(
            method.image, "forward", lambda x, real=real, seen=seen, **more: seen.append(x) or real(x, **more)
        )
        evaluate.embed_images(method, spectra.without("nir"), "query", {"before"})
        first, second, _ = seen[0].unflatten(0, (-1, 3)).unbind(1)
        wanted = method.means[1] if missing == "mean" else torch.zeros(3, 1, 1)
        assert torch.equal(second, wanted.expand_as(second)) and first.std() > 0.1


def test_the_means_are_those_of_the_training_images(spectra):
    method = built(spectra)
    method.learn_means()
    pixels = spectra.store("train", method.size, "bilinear").pixels[1::3]  # near infrared
    assert torch.allclose(method.means[1].flatten(), (pixels.float() / 127.5 - 1).mean((0, 2, 3)), atol=1e-4)


def test_every_subset_of_spectra_is_tested_with_every_filling(spectra):
    method = built(spectra)
    method.learn_means()
    found = evaluate.run_tests(method, spectra)
    lacking = [name for name in found if "without" in name]
    assert len(lacking) == 3 * 6, "every non-empty proper subset is missing once, in three ways"
    same = [dmpt.test_without(("rgb", "nir"), filling) for filling in dmpt.FILLINGS]
    assert set(same) <= set(lacking)
    assert found[same[0]].ap.tolist() != found["image to image"].ap.tolist()
    assert found[same[0]].protocol.endswith("without rgb and nir")
    few = evaluate.run_tests(method, spectra, number=1)
    assert list(few) == ["image to image"] and few["image to image"].mAP == found["image to image"].mAP


def test_a_spectrum_is_searched_alone_before_and_after_it_heard_of_the_others(spectra):
    method = built(spectra).eval()
    names = {"tower rgb", "before rgb"}
    whole = evaluate.embed_images(method, spectra, "query", names)
    lacking = evaluate.embed_images(method, spectra.without("nir", "tir"), "query", names)
    assert torch.allclose(whole["tower rgb"], lacking["tower rgb"], atol=1e-5)
    assert not torch.allclose(whole["before rgb"], lacking["before rgb"], atol=1e-5)
    tasks = [name for name in method.retrieval_tasks() if " by " in name and "interaction" in name]
    assert len(tasks) == 6


def test_another_number_of_spectra_is_one_sentence(world):
    with pytest.raises(
        ValueError, match=r"expected 3 spectra \(visible, .*\) in world_market, found 1; choose"
    ):
        built(world)


@pytest.mark.parametrize(
    "field", ["tower", "prompt_insertion", "modality_pool", "interaction", "sa_norm", "con_mode", "tuned"]
)
def test_a_word_that_names_no_choice_is_one_sentence(field, spectra):
    with pytest.raises(ValueError, match=f"expected {field} among .*, found 'nonsense'"):
        built(spectra, **{field: "nonsense"})
