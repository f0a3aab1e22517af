"""Augmentation of a batch, checked against the same thing done slowly."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from reid_core.augment import Augmentation, Choices, Erasing, augment, box_sides, draw_boxes, draw_choices
from reid_core.randaugment import OPERATIONS, Decisions, RandAugment, cut_out_boxes, operate, value_of
from reid_core.samplers import generator

PIXELS = torch.arange(2 * 1 * 3 * 6 * 4, dtype=torch.uint8).view(2, 1, 3, 6, 4)
WEAK = Augmentation(flip=0.5, pad=4, erasing=(Erasing(),))
STRONG = dataclasses.replace(WEAK, randaugment=RandAugment())


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
        view = Augmentation(
            flip=0.5, pad=10, erasing=(Erasing(1.0),), shared=shared, randaugment=RandAugment()
        )
        return draw_choices(view, generator(3), 50, 3, 64, 32)

    together = lambda a: (a == a[:, :1]).all()  # noqa: E731
    assert not together(draw("none").flip)
    assert together(draw("flip").flip) and not together(draw("flip").top)
    assert together(draw("geometry").left) and not together(draw("geometry").boxes[0])
    assert not any(together(a) for a in draw("geometry").randaugment)
    assert together(draw("all").boxes[0]) and all(together(a) for a in draw("all").randaugment)


# RandAugment


def photograph(height=128, width=64):
    """uint8 (3, H, W): slopes, an edge and noise, short of black and white, so that no operation is idle."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    planes = np.stack([40 + 150 * y, 60 + 120 * x, 225 - 90 * x * y]) - 25 * (x > y)
    return (planes + generator(1).normal(0, 6, planes.shape)).clip(5, 240).astype(np.uint8)


def by_pillow(name, image, value):
    """An operation as the published code does it, on a PIL image."""
    width, height = image.size
    matrices = {
        "ShearX": lambda: (1, value, 0, 0, 1, 0),
        "ShearY": lambda: (1, 0, 0, value, 1, 0),
        "TranslateX": lambda: (1, 0, int(value * width), 0, 1, 0),
        "TranslateY": lambda: (1, 0, 0, 0, 1, int(value * height)),
    }
    if name in matrices:
        return image.transform(image.size, Image.Transform.AFFINE, matrices[name]())
    if name in ("Brightness", "Color", "Contrast", "Sharpness"):
        return getattr(ImageEnhance, name)(image).enhance(value)
    if name in ("Posterize", "Solarize"):
        return getattr(ImageOps, name.lower())(image, value)
    if name in ("AutoContrast", "Equalize"):
        return getattr(ImageOps, name.lower())(image)
    return image.rotate(value) if name == "Rotate" else image


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("level", [1, 4, 9])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_does_what_pillow_does(name, level, turned):
    """Up to 1 grey level of rounding. A place exactly between two pixels may show the other one: a line in 25
    of a shear by 0.12."""
    image, value = photograph(), value_of(name, level, turned)
    found = OPERATIONS[name].change(torch.tensor(image)[None], value)[0].numpy()
    wanted = np.asarray(by_pillow(name, Image.fromarray(image.transpose(1, 2, 0)), value)).transpose(2, 0, 1)
    same = np.abs(found.astype(int) - wanted) <= 1
    assert same.mean() > 0.96 if name in ("Rotate", "ShearX", "ShearY") else same.all()
    assert name == "Identity" or (found != image).any(), "nothing happened"


def test_a_view_without_randaugment_draws_what_it_drew():
    rng = generator(5)
    weak, after = draw_choices(WEAK, rng, 9, 2, 64, 32), rng.random()
    again = generator(5)
    assert np.array_equal(weak.flip, again.random((9, 2)) < 0.5)
    assert np.array_equal([weak.top, weak.left], again.integers(0, 9, (2, 9, 2)))
    assert np.array_equal(weak.boxes[0].reshape(18, 4), draw_boxes(Erasing(), again, 18, 64, 32))
    assert weak.randaugment is None and after == again.random()


def test_randaugment_leaves_the_other_decisions_as_they_are():
    weak, strong = (draw_choices(view, generator(5), 9, 2, 64, 32) for view in (WEAK, STRONG))
    assert all(np.array_equal(a, b) for a, b in zip(weak[:4], strong[:4], strict=True))


def test_a_view_without_randaugment_shows_what_it_showed():
    pixels = torch.tensor(photograph(64, 32)).expand(9, 2, 3, 64, 32)
    weak = draw_choices(WEAK, generator(5), 9, 2, 64, 32)
    nothing = draw_choices(STRONG, generator(5), 9, 2, 64, 32).randaugment
    nothing = nothing._replace(applied=nothing.applied & False, box=nothing.box * 0)
    seen = augment(STRONG, pixels, weak._replace(randaugment=nothing), 0)
    assert torch.equal(augment(WEAK, pixels, weak, 0), seen)


def test_decisions_depend_on_the_generator_alone():
    one, two, other = (draw_choices(STRONG, generator(s), 9, 2, 64, 32).randaugment for s in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_operations_levels_signs_and_application_are_drawn_evenly():
    found = draw_choices(STRONG, generator(0), 4000, 2, 64, 32).randaugment
    assert found.operation.shape == (4000, 2, 2)
    for values, number in (
        (found.operation, 14),
        (found.level - 1, 9),
        (found.applied, 2),
        (found.turned, 2),
    ):
        share = np.bincount(values.ravel().astype(int), minlength=number) / values.size
        assert np.abs(share - 1 / number).max() < 0.015 and len(share) == number
    assert (found.operation[..., 0] == found.operation[..., 1]).mean() == pytest.approx(1 / 14, abs=0.015)


def test_a_batch_is_changed_as_its_images_are_one_by_one():
    """Several images share a call; the input stays as it is."""
    pixels = torch.tensor(np.stack([photograph(64, 32) // k for k in range(1, 33)])).view(16, 2, 3, 64, 32)
    before, drawn = pixels.clone(), draw_choices(STRONG, generator(7), 16, 2, 64, 32).randaugment
    found = operate(pixels, drawn)
    names = list(OPERATIONS)
    for b, m in np.ndindex(16, 2):
        image = pixels[b, m][None]
        for k in range(2):
            name = names[drawn.operation[b, m, k]]
            if drawn.applied[b, m, k]:
                value = value_of(name, int(drawn.level[b, m, k]), drawn.turned[b, m, k])
                image = OPERATIONS[name].change(image, value)
        assert torch.equal(found[b, m], image[0])
    assert torch.equal(pixels, before) and found.dtype == torch.uint8


def test_the_cut_out_is_shifted_at_the_first_border_and_cut_at_the_last():
    """A square of 16 on an image of 64 x 32; the end is drawn too."""
    centre = np.array([[2.0, 16.0], [30.9, 3.0], [60.0, 30.0]])
    assert cut_out_boxes(centre, 16, 64, 32).tolist() == [[0, 8, 17, 17], [22, 0, 17, 17], [52, 22, 12, 10]]


def test_the_cut_out_is_grey_and_comes_last():
    """A quarter of the height wide, over operations that would change its grey."""
    shape = (1, 1, 2)
    both = np.full(shape, list(OPERATIONS).index("Solarize"))
    box = np.array([[[3, 4, 17, 17]]])
    drawn = Decisions(both, np.full(shape, 9), np.ones(shape, bool), np.zeros(shape, bool), box)
    view = Augmentation(randaugment=RandAugment(), mean=(0, 0, 0), std=(1, 1, 1))
    pixels = torch.zeros(1, 1, 3, 64, 32, dtype=torch.uint8)
    seen = augment(view, pixels, choices([[0]], [[0]], [[0]])._replace(randaugment=drawn), 0)
    grey = torch.isclose(seen, torch.tensor(127 / 255))
    assert grey[..., 3:20, 4:21].all() and grey.sum() == 3 * 17 * 17


def test_the_cut_out_is_proportionate_to_the_image():
    for height in (64, 256):
        box = draw_choices(STRONG, generator(2), 200, 1, height, height // 2).randaugment.box
        assert box[..., 2:].max() == height // 4 + 1 and (box[..., :2] >= 0).all()
