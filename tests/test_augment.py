"""Augmentation of a batch, checked against the same thing done slowly."""

import numpy as np
import pytest
import torch

from reid_core.augment import Augmentation, Choices, Erasing, augment, box_sides, draw_boxes, draw_choices
from reid_core.samplers import generator

PIXELS = torch.arange(2 * 1 * 3 * 6 * 4, dtype=torch.uint8).view(2, 1, 3, 6, 4)


def choices(flip, top, left, boxes=None):
    shape = np.shape(flip)
    return Choices(
        np.array(flip),
        np.array(top),
        np.array(left),
        np.zeros((0, *shape, 4), int) if boxes is None else boxes,
    )


def test_without_chance_only_the_scale_changes():
    view = Augmentation(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    seen = augment(view, PIXELS, choices([[0], [0]], [[0], [0]], [[0], [0]]), 0)
    for c in range(3):
        assert torch.allclose(seen[:, :, c], (PIXELS[:, :, c] / 255 - view.mean[c]) / view.std[c], atol=1e-6)


@pytest.mark.parametrize("padding", ["constant", "reflect"])
def test_flip_pad_and_crop_are_those_of_numpy(padding):
    view = Augmentation(flip=0.5, pad=2, padding=padding, mean=(0, 0, 0), std=(1, 1, 1))
    drawn = choices([[True], [False]], [[1], [4]], [[3], [0]])
    seen = augment(view, PIXELS, drawn, 0) * 255
    for b in range(2):
        image = PIXELS[b, 0].numpy()
        image = image[..., ::-1] if drawn.flip[b, 0] else image
        wide = np.pad(image, ((0, 0), (2, 2), (2, 2)), mode=padding)
        top, left = drawn.top[b, 0], drawn.left[b, 0]
        assert np.allclose(seen[b, 0].numpy(), wide[:, top : top + 6, left : left + 4], atol=1e-4)


def test_an_erased_box_is_filled_and_nothing_else_is():
    boxes = np.array([[[[1, 1, 3, 2]], [[0, 0, 0, 0]]]])
    view = Augmentation(erasing=(Erasing(fill=(7.0, 8.0, 9.0)),))
    seen = augment(view, PIXELS, choices([[0], [0]], [[0], [0]], [[0], [0]], boxes), 0)
    assert (seen[0, 0, :, 1:4, 1:3] == torch.tensor([7.0, 8, 9])[:, None, None]).all()
    plain = augment(Augmentation(), PIXELS, choices([[0], [0]], [[0], [0]], [[0], [0]]), 0)
    assert torch.equal(seen[1], plain[1]) and torch.equal(seen[0, 0, :, 4:], plain[0, 0, :, 4:])


def test_noise_depends_on_the_seed_alone():
    boxes = np.tile(np.array([0, 0, 5, 3]), (1, 2, 1, 1))
    view = Augmentation(erasing=(Erasing(),))
    one, two, other = (
        augment(view, PIXELS, choices([[0]] * 2, [[0]] * 2, [[0]] * 2, boxes), s) for s in (1, 1, 2)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)


def test_boxes_cover_the_asked_area_with_the_asked_shape():
    h, w = box_sides(np.array([0.1]), np.array([2.0]), 256, 128)
    assert h[0] * w[0] == pytest.approx(0.1 * 256 * 128, rel=0.02) and h[0] / w[0] == pytest.approx(
        2, rel=0.02
    )


def test_half_of_the_images_keep_all_their_pixels():
    boxes = draw_boxes(Erasing(), generator(0), 4000, 256, 128)
    erased = boxes[:, 2] > 0
    assert 0.47 < erased.mean() < 0.53
    area = boxes[erased, 2] * boxes[erased, 3] / (256 * 128)
    assert area.min() > 0.015 and area.max() < 0.35
    assert (boxes[:, 0] + boxes[:, 2] <= 256).all() and (boxes[:, 1] + boxes[:, 3] <= 128).all()


def test_spectra_share_what_they_are_told_to_share():
    def draw(shared):
        view = Augmentation(flip=0.5, pad=10, erasing=(Erasing(1.0),), shared=shared)
        return draw_choices(view, generator(3), 50, 3, 64, 32)

    together = lambda a: (a == a[:, :1]).all()  # noqa: E731
    assert not together(draw("none").flip)
    assert together(draw("flip").flip) and not together(draw("flip").top)
    assert together(draw("geometry").left) and not together(draw("geometry").boxes[0])
    assert together(draw("all").boxes[0])
