"""What is compared begins alike: methods and rows see the same images, augmented alike, and share the initial
weights of shared parts."""

import pytest
import torch

from reid_core import train
from reid_core.data import Loader, load_data
from reid_core.methods.base import chance_of
from reid_core.runs.run import Spec

BASE = Spec("clip_reid", "baseline", profile="smoke")
OTHERS = {
    "CLIP-ReID": Spec("clip_reid", "clip_reid", profile="smoke"),
    "CLIP-ReID, random text tower": Spec(
        "clip_reid", "clip_reid", "control: random text tower", profile="smoke"
    ),
    "PromptSG": Spec("promptsg", "promptsg", profile="smoke"),
    "PromptSG without its interaction": Spec(
        "promptsg", "promptsg", "d): L_i2t_sup=1;L_t2i_sup=1;MIM=0", profile="smoke"
    ),
}


def loader_of(method, stage, data, passes=1):
    return Loader.of_stage(data, method.size, stage, passes=passes)


def first_batches(method, data, number=2):
    """Of the stage that teaches the image tower."""
    stage = method.stages()[-1]
    loader = loader_of(method, stage, data)
    batches = loader.batches(0, loader.plan(0))
    return [batch for batch, _ in zip(batches, range(number))]


@pytest.mark.parametrize("name", OTHERS)
def test_methods_see_the_same_images_augmented_alike(name, world):
    one, other = (spec.build(world)[0] for spec in (BASE, OTHERS[name]))
    for a, b in zip(first_batches(one, world), first_batches(other, world)):
        assert torch.equal(a.index, b.index) and torch.equal(a.images, b.images)


def parts(spec, world):
    return {name: value for name, value in spec.build(world)[0].state_dict().items()}


@pytest.mark.parametrize("name", list(OTHERS)[:2])
def test_rows_of_one_method_begin_with_the_same_tower_and_heads(name, world):
    one, other = parts(BASE, world), parts(OTHERS[name], world)
    assert one.keys() <= other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_row_that_lacks_a_part_begins_with_the_others_as_they_are(world):
    full = parts(OTHERS["PromptSG"], world)
    for row in ("control: random text tower", "two classifiers (D10)", "output projection (D8)"):
        other = parts(Spec("promptsg", "promptsg", row, profile="smoke"), world)
        for part in ("inversion.", "heads.z.", "image."):
            shared = [key for key in full if key.startswith(part)]
            assert shared and all(torch.equal(full[key], other[key]) for key in shared), (row, part)


def test_another_seed_begins_otherwise_and_the_dice_of_the_program_are_left_alone(world):
    assert not torch.equal(
        parts(BASE, world)["heads.0.classifier.weight"],
        parts(BASE._replace(seed=1), world)["heads.0.classifier.weight"],
    )
    train.seed_all(0)
    plain = torch.randn(3)
    train.seed_all(0)
    with chance_of("a part"):
        first = torch.randn(3)
    assert torch.equal(torch.randn(3), plain)
    with chance_of("a part"):
        assert torch.equal(torch.randn(3), first)


def test_an_epoch_of_a_small_set_goes_through_it_several_times(world):
    images = len(world.train)
    assert [train.passes(world, n) for n in (0, images, 3 * images, 3.4 * images)] == [1, 1, 3, 3]
    method = BASE.build(world)[0]
    stage = method.stages()[-1]
    once, thrice = (loader_of(method, stage, world, passes=n).plan(4) for n in (1, 3))
    assert len(thrice) == 3 * len(once) and all((a.index == b.index).all() for a, b in zip(once, thrice))
    assert any((a.index != b.index).any() for a, b in zip(once, thrice[len(once) :])), (
        "another order each time"
    )


def test_an_epoch_counts_the_images_of_all_spectra():
    """Three images of a shot take as long as three shots of one."""
    shots = load_data("world_rgbnt201", "smoke")
    many = len(shots.train)
    assert shots.train.paths.shape[1] == 3
    assert [train.passes(shots, n) for n in (many, 3 * many, 6 * many)] == [1, 1, 2]
