"""The models that come with the project are what their records say, and loading them is exact."""

import json

import pytest
import torch
from safetensors import safe_open

from data_prep.world import build, cast
from reid_core import loading, optim
from reid_core.calibrate import pretrain
from reid_core.data import load_data
from reid_core.loading import load_clip, load_timm
from reid_core.runs import provenance

SHIPPED = [name for name in loading.OWN if (loading.FOLDER / f"{name}.safetensors").exists()]


@pytest.fixture(scope="module")
def small():
    """The smallest pretraining: its file and its record."""
    path = pretrain.pretrain("clip", profile="smoke", epochs=1, log=lambda text: None)
    return path, json.loads(path.with_suffix("").with_suffix(".record.json").read_text())


def test_pretraining_again_takes_up_what_is_there_and_writes_the_same_weights(small):
    path, _ = small
    before, _ = loading.read(path)
    again, _ = loading.read(pretrain.pretrain("clip", profile="smoke", epochs=1, log=lambda text: None))
    assert before.keys() == again.keys() and all(torch.equal(before[key], again[key]) for key in before)


def test_what_was_saved_is_what_is_loaded(small):
    path, _ = small
    clip = load_clip("tiny", str(path), (128, 64))
    with safe_open(path, "pt") as file:
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for key, value in clip.image.state_dict().items():
        assert torch.equal(value, stored[f"visual.{key}"].float()), key
    ids = stored["token_embedding.ids"].long()
    assert torch.equal(clip.text.token_embedding.weight[ids], stored["token_embedding.rows"].float())


def test_the_temperature_of_a_model_is_the_one_that_its_pretraining_ended_with(small):
    path, _ = small
    with safe_open(path, "pt") as file:
        scale = file.get_tensor("logit_scale").float().exp()
    assert loading.temperature(str(path)) == pytest.approx(1 / scale.item(), rel=1e-3)
    assert loading.temperature("random") == 0.07 and 0.01 < loading.temperature("tiny") < 0.07


def test_words_that_training_never_saw_are_the_same_in_every_process(small):
    path, _ = small
    one, two = (
        load_clip("tiny", str(path), (128, 64)).text.token_embedding.weight.detach() for _ in range(2)
    )
    assert torch.equal(one, two) and one[-5:].std() == pytest.approx(0.02, rel=0.3)


def test_the_record_says_from_what_and_how(small):
    _, record = small
    assert record["made by"] == "python -m reid_core pretrain clip" and record["data"]["origin"] == "world"
    assert (
        record["history"][0]["losses"].keys() == {"image to text", "text to image", "attributes", "words"}
        and record["commit"]
    )
    assert record["recipe"]["epochs"] == 1 and "to" in pretrain.finding(record)


def test_attribute_labels_are_passed_over_where_there_is_none():
    data = load_data("world_pairs", "smoke")
    names, labels = pretrain.attribute_labels(data)
    assert labels.shape == (len(data.train), len(pretrain.TOLD)) and (labels == -100).any()
    assert all(labels[:, k].max() == len(words) - 1 for k, words in enumerate(names))


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="expected a model among clip, attributes, found 'bert'"):
        pretrain.pretrain("bert")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_is_under_eight_megabytes_and_has_its_record(name):
    path, told = loading.FOLDER / f"{name}.safetensors", pretrain.record(name)
    assert path.stat().st_size < 8e6 and told["model"] == name and told["clean"]
    whole = (
        provenance.git("rev-parse", "--is-shallow-repository") == "false"
    )  # and not a copy without its history
    assert told["pairs"] >= 40_000 and provenance.git("cat-file", "-t", told["commit"]) == (
        "commit" if whole else "unknown"
    )


def test_the_people_and_words_have_not_changed_since_the_shipped_models_saw_them():
    """The renderer has: their photographs are of its version 4, which drew other specks and another grain.
    Who is seen, by which camera, at which moment, and what is said of it is the same to the last number."""
    plan = cast.plan("world_pairs", "laptop", 0)
    layout = build.layout_of("world_pairs")
    paths = [layout.files(one, number) for number, one in enumerate(plan)]
    fingerprint = build.digest_of([4, *build.scene("world_pairs", plan, paths, 0, build.SIZE)])
    for name in SHIPPED:
        told = pretrain.record(name)
        assert told["renderer"] == 4 < build.VERSION
        assert told["data"]["fingerprint"] == fingerprint


def test_both_models_are_shipped_and_load():
    assert set(SHIPPED) == set(loading.OWN)
    for name, load in (("tiny", load_clip), ("tiny_vit", load_timm)):
        assert load(name, name, (128, 64))


def test_the_tower_of_labels_has_the_shape_of_tiny_clip():
    one, two = load_clip("tiny", "tiny", (128, 64)).image, load_timm("tiny_vit", "tiny_vit", (128, 64))
    assert (one.grid, one.width, len(one.blocks)) == (two.grid, two.width, len(two.blocks))


def test_every_patch_has_a_place_of_its_own_as_large_as_the_recipe_says():
    places = pretrain.grid_positions((8, 4), 192, 0.3)
    apart = torch.cdist(places, places) + torch.eye(32)
    assert places.shape == (32, 192) and apart.min() > 0.1
    assert places.square().mean().sqrt().item() == pytest.approx(0.3 / 2**0.5, rel=1e-5)


def test_the_words_of_a_sentence_are_its_own_and_padding_is_none_of_them():
    data = load_data("world_pairs", "smoke")
    model = pretrain.TinyClip(pretrain.RECIPE, data)
    ids = model.tokenizer([data.train.captions[0][0]])[:, :40]
    there = torch.isin(model.seen, ids[ids > 0]).float()
    torch.nn.init.zeros_(model.words.weight)
    read = model.text(model.text.embed(ids), ids.argmax(1))
    for bias, right in ((there, True), (1 - there, False)):
        model.words.bias.data = 200 * (bias - 0.5)
        assert (model.name_words(read, ids).item() < 1e-3) == right


def test_evening_out_changes_the_size_of_the_raw_token_and_nothing_that_is_computed_from_it():
    torch.manual_seed(0)
    image, images = load_clip("tiny", "tiny", (128, 64)).image.eval(), torch.randn(8, 1, 3, 128, 64)
    image, images = image.double(), images.double()
    for norm in (m for m in image.modules() if isinstance(m, torch.nn.LayerNorm)):
        norm.eps = 0.0  # the only part of a norm that sees how large its input is
    with torch.no_grad():
        image.ln_pre.weight.mul_(9), image.ln_pre.bias.mul_(9)
        for block in image.blocks:
            for layer in (block.attn.out_proj, block.mlp.c_proj):
                layer.weight.mul_(9), layer.bias.mul_(9)
        before = image(images[:, 0])
        pretrain.even_out(image, images)
        after = image(images[:, 0])
    torch.testing.assert_close(after.tokens, before.tokens, atol=1e-6, rtol=1e-6)
    raw, normed = (tokens[:, 0].norm(dim=1).mean() for tokens in (after.hidden[-2], after.tokens))
    assert raw.item() == pytest.approx(normed.item(), rel=0.01)


def test_matrices_of_the_blocks_move_by_muon_and_all_else_by_adam():
    model = pretrain.AttributeTower(pretrain.RECIPE, load_data("world_pairs", "smoke"))
    adam, muon = optim.make_optimisers(model, model.groups())
    shapes = {tuple(p.shape) for group in muon.param_groups for p in group["params"]}
    assert type(muon).__name__ == "Muon" and shapes == {(576, 192), (192, 192), (768, 192), (192, 768)}
    moved = sum(len(group["params"]) for one in (adam, muon) for group in one.param_groups)
    assert moved == len(list(model.parameters()))
