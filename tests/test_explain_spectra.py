"""Maps of methods that read several spectra."""

import numpy as np
import pytest
import torch

from reid_core.analysis import explain, visuals
from reid_core.data import load_data
from reid_core.methods import dmpt

SPECTRA = ("rgb", "nir", "tir")


@pytest.fixture(scope="module")
def data():
    return load_data("world_rgbnt201", "smoke")


@pytest.fixture(scope="module")
def method(data):
    torch.manual_seed(0)
    recipe = dmpt.RECIPE.but(
        backbone="tiny", pretrained="random", image_height=64, image_width=32, interaction_layers_k=2
    )
    return dmpt.DMPT(recipe, data).eval()


def maps_of(how, method, data, rows, name):
    batch = explain.batch_of(method, data, torch.as_tensor(rows))
    width = method.embed(batch, name).shape[1]
    targets = torch.randn(8, width, generator=torch.Generator().manual_seed(0))
    return how(method, batch, explain.nearness(targets[list(rows)]), name)  # (B, M, h, w)


@pytest.mark.parametrize("how", explain.HOW.values(), ids=explain.HOW)
@pytest.mark.parametrize("feature", ["tower", "before"])
@pytest.mark.parametrize("number", range(3), ids=SPECTRA)
def test_a_map_lies_in_the_image_of_the_spectrum_that_is_asked(how, feature, number, method, data):
    """After the interaction, too, but for the little that comes through the prompts."""
    found = maps_of(how, method, data, (0, 3), f"{feature} {SPECTRA[number]}")
    assert found.shape == (2, 3, *method.image.grid)
    sums = found.flatten(2).sum(2)  # (B, M)
    assert (sums[:, number] > 0).all()
    others = sums[:, [m for m in range(3) if m != number]] / sums[:, [number]]
    if feature == "tower":
        assert (others == 0).all()
    elif how is explain.relevance:
        assert (others < 0.02).all()


@pytest.mark.parametrize("how", explain.HOW.values(), ids=explain.HOW)
def test_the_maps_of_a_shot_do_not_depend_on_the_others_of_its_batch(how, method, data):
    together = maps_of(how, method, data, (0, 3, 5), "after")
    for k, row in enumerate((0, 3, 5)):
        alone = maps_of(how, method, data, (row,), "after")
        assert torch.allclose(together[k], alone[0], rtol=1e-3, atol=1e-5)


def test_what_the_layers_behind_the_tower_read_counts(method, data):
    """Without their own reading the map would be that of the tower's class token."""
    behind = maps_of(explain.relevance, method, data, (0,), "before rgb")
    layers = method.layers
    method.layers = torch.nn.ModuleList()
    try:
        alone = maps_of(explain.relevance, method, data, (0,), "before rgb")
    finally:
        method.layers = layers
    assert not torch.allclose(behind / behind.sum(), alone / alone.sum(), rtol=1e-2)


def test_visuals_keep_a_map_of_each_spectrum_and_when_the_image_was_taken(method, data):
    found = visuals.visualise(method, data, maps=())
    count = len(found.rows)
    assert found.spectra.shape == (2, count, 3, *method.image.grid)
    assert found.relevance.shape == (count, *method.image.grid), "the sum over the spectra"
    np.testing.assert_allclose(found.shares.sum(2), 1, atol=5e-3)
    assert (found.spectra.max((2, 3, 4)) == 255).all(), "one scale for a shot"
    assert found.seen.shape == (2, count, 3) and not np.isnan(found.seen).any()
    assert set(found.hours) == {"day", "night"}
