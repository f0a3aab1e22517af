"""RandAugment-MC (Cubuk et al. 2020, as in FixMatch): a few random operations per image, then a grey cut-out.

    B shots, M spectra, H x W pixels; K operations per image; N images that share one decision

Operations keep the semantics of Pillow, in which the published code is written: enhancing blends with a
degenerate image and so can only weaken, geometry takes the nearest pixel, and what lies outside is black.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import atan, degrees
from typing import NamedTuple

import numpy as np
from torchvision.transforms.v2 import functional as F

MOST = 10  # the level at which an operation has its full strength; levels are drawn below it


@dataclass(frozen=True)
class RandAugment:
    """`operations` are drawn with replacement from OPERATIONS; each happens with probability `p`, at a level
    from 1 to `magnitude` - 1. The cut-out always happens."""

    operations: int = 2
    magnitude: int = 10
    p: float = 0.5
    cutout: float = 64 / 256  # side of the square, as a share of the height: published as 64 pixels of 256
    fill: int = 127


class Decisions(NamedTuple):
    """The random decisions for a batch: indices into OPERATIONS, levels, whether applied, whether the sign of
    the magnitude is turned, (B, M, K) each, and the box to cut out, (B, M, 4)."""

    operation: np.ndarray
    level: np.ndarray
    applied: np.ndarray
    turned: np.ndarray
    box: np.ndarray


# The operations


class Operation(NamedTuple):
    """`change(images, value)` maps uint8 (N, 3, H, W) to the same; `magnitude` maps a level to the value."""

    change: Callable
    magnitude: Callable = lambda level: None
    signed: bool = False


def strength(level):
    """Factor of an enhancing operation: 0 is the degenerate image, 1 the image itself."""
    return 0.9 * level / MOST + 0.05


def slope(level):
    """Of a shear, or of a translation as a share of the image's side."""
    return 0.3 * level / MOST


def transformed(images, shift=(0.0, 0.0), shear=(0.0, 0.0)):
    """Moved by `shift` pixels (x, y) and sheared about the top left corner, as Pillow does."""
    return F.affine(images, angle=0.0, translate=list(shift), scale=1.0, shear=list(shear), center=[0.0, 0.0])


def shear_x(images, tangent):
    return transformed(images, shear=(degrees(atan(tangent)), 0.0))


def shear_y(images, tangent):
    return transformed(images, shear=(0.0, degrees(atan(tangent))))


def translate_x(images, share):
    """By whole pixels, to the left where positive: Pillow's matrix tells where an output pixel comes from."""
    return transformed(images, shift=(-int(share * images.shape[-1]), 0.0))


def translate_y(images, share):
    return transformed(images, shift=(0.0, -int(share * images.shape[-2])))


OPERATIONS = {
    "AutoContrast": Operation(lambda images, _: F.autocontrast(images)),
    "Brightness": Operation(F.adjust_brightness, strength),
    "Color": Operation(F.adjust_saturation, strength),
    "Contrast": Operation(F.adjust_contrast, strength),
    "Equalize": Operation(lambda images, _: F.equalize(images)),
    "Identity": Operation(lambda images, _: images),
    "Posterize": Operation(F.posterize, lambda level: 4 + 4 * level // MOST),  # bits that are kept
    "Rotate": Operation(F.rotate, lambda level: 30 * level // MOST, signed=True),  # degrees
    "Sharpness": Operation(F.adjust_sharpness, strength),
    "ShearX": Operation(shear_x, slope, signed=True),
    "ShearY": Operation(shear_y, slope, signed=True),
    "Solarize": Operation(F.solarize, lambda level: 256 - 256 * level // MOST),  # inverted from here on
    "TranslateX": Operation(translate_x, slope, signed=True),
    "TranslateY": Operation(translate_y, slope, signed=True),
}


def value_of(operation, level, turned):
    """What `operation` (a key of OPERATIONS) is called with."""
    value = OPERATIONS[operation].magnitude(level)
    return -value if turned and OPERATIONS[operation].signed else value


# Drawing


def draw_decisions(randaugment, rng, shots, spectra, height, width):
    """The random decisions for one batch, from a numpy generator."""
    shape = (shots, spectra, randaugment.operations)
    operation = rng.integers(0, len(OPERATIONS), shape)  # (B, M, K), as the next three
    level = rng.integers(1, randaugment.magnitude, shape)
    applied = rng.random(shape) < randaugment.p
    turned = rng.random(shape) < 0.5
    centre = rng.random((shots, spectra, 2)) * (height, width)  # (B, M, 2)
    box = cut_out_boxes(centre, randaugment.cutout * height, height, width)
    return Decisions(operation, level, applied, turned, box)


def cut_out_boxes(centre, side, height, width):
    """Boxes (..., 4) of squares around centres (..., 2), both from top and left.

    As published, a square that begins before the top or left border is shifted onto the image, one that ends
    behind the bottom or right border is cut, and Pillow draws the end too: side + 1 pixels.
    """
    start = np.maximum(0, centre - side / 2).astype(np.int64)  # (..., 2)
    end = np.minimum((height, width), (start + side).astype(np.int64) + 1)
    return np.concatenate([start, end - start], -1)


# Applying


def operate(pixels, decisions):
    """The operations of all images, without the cut-out: uint8 (B, M, 3, H, W) -> the same."""
    images = pixels.flatten(0, 1).clone()  # (B * M, 3, H, W)
    for k in range(decisions.operation.shape[-1]):
        for (operation, value), rows in alike(decisions, k).items():
            images[rows] = OPERATIONS[operation].change(images[rows], value)
    return images.unflatten(0, pixels.shape[:2])


def alike(decisions, k):
    """{(operation, value): rows of the images whose k-th operation it is}: they share one call."""
    names, found = list(OPERATIONS), {}
    columns = (a[..., k].ravel().tolist() for a in decisions[:4])
    for row, (operation, level, applied, turned) in enumerate(zip(*columns)):
        if applied:
            key = names[operation], value_of(names[operation], level, turned)
            found.setdefault(key, []).append(row)
    return found
