"""Augmentation of a whole batch at once, from decisions drawn on the host.

    B shots, M spectra, H x W pixels; boxes are (top, left, height, width)

The order is that of the published pipelines: flip, pad, crop, RandAugment, scale to 0..1, normalise, erase.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from reid_core.randaugment import Decisions, RandAugment, draw_decisions, operate

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Erasing:
    """Random erasing (Zhong et al. 2020): one box, at most `tries` candidates, none if no candidate fits."""

    p: float = 0.5
    area: tuple = (0.02, 1 / 3)
    aspect: tuple = (0.3, 1 / 0.3)
    log_uniform: bool = True
    tries: int = 10
    fill: tuple | None = None  # None: normal noise per pixel; else one value per channel, in normalised space


@dataclass(frozen=True)
class Augmentation:
    """How one view of an image is made. The default only normalises: the view of testing and of caching."""

    filter: str = "bilinear"  # how the store resizes: published recipes train on bicubic and test on bilinear
    mean: tuple = HALF
    std: tuple = HALF
    flip: float = 0.0
    pad: int = 0
    padding: str = "constant"  # or "reflect"
    erasing: tuple = ()
    shared: str = "none"  # among the spectra of a shot: none, flip, geometry (flip and crop) or all
    randaugment: RandAugment | None = None


class Choices(NamedTuple):
    """The random decisions for a batch: flips (B, M), offsets of the crop (B, M) from top and left, and boxes
    to erase (one (B, M, 4) per Erasing; zero height for none), and those of RandAugment."""

    flip: np.ndarray
    top: np.ndarray
    left: np.ndarray
    boxes: np.ndarray
    randaugment: Decisions | None = None


def draw_choices(view, rng, shots, spectra, height, width):
    """The random decisions of `view` for one batch, from a numpy generator."""
    shape = (shots, spectra)
    flip = rng.random(shape) < view.flip  # (B, M)
    top, left = rng.integers(0, 2 * view.pad + 1, (2, *shape))  # (B, M) each
    boxes = np.zeros((len(view.erasing), *shape, 4), dtype=np.int64)  # (erasings, B, M, 4)
    for k, erasing in enumerate(view.erasing):
        boxes[k] = draw_boxes(erasing, rng, shots * spectra, height, width).reshape(*shape, 4)
    strong = view.randaugment  # drawn last, so that a view without it draws what it always drew
    decisions = strong and draw_decisions(strong, rng, shots, spectra, height, width)
    return share(view.shared, Choices(flip, top, left, boxes, decisions))


def share(what, choices):
    """Give all spectra of a shot the decisions of the first: `what` is a value of `Augmentation.shared`."""
    *arrays, decisions = choices
    first = [same(a, axis) for a, axis in zip(arrays, (1, 1, 1, 2))]  # axis M of each
    first.append(decisions and Decisions._make(same(a, 1) for a in decisions))
    together = {"none": 0, "flip": 1, "geometry": 3, "all": 5}[what]  # how many fields of Choices
    return Choices(*first[:together], *choices[together:])


def same(array, axis):
    """The first entry along an axis, in every place."""
    return np.broadcast_to(array.take([0], axis), array.shape)


def draw_boxes(erasing, rng, number, height, width):
    """Boxes (number, 4); zeros where nothing is erased."""
    shape = (number, erasing.tries)
    area = rng.uniform(*erasing.area, shape)  # (number, tries), share of the image
    low, high = np.log(erasing.aspect) if erasing.log_uniform else erasing.aspect
    aspect = rng.uniform(low, high, shape)  # (number, tries), h / w or its logarithm
    h, w = box_sides(area, np.exp(aspect) if erasing.log_uniform else aspect, height, width)
    fits = (h < height) & (w < width) & (h > 0) & (w > 0)  # (number, tries)
    best = fits.argmax(1)[:, None]  # (number, 1), the first candidate that fits
    h = np.take_along_axis(h, best, 1)[:, 0]
    w = np.take_along_axis(w, best, 1)[:, 0]
    top, left = (rng.random((2, number)) * np.stack([height - h + 1, width - w + 1])).astype(np.int64)
    keep = (rng.random(number) < erasing.p) & fits.any(1)  # (number,)
    return np.where(keep[:, None], np.stack([top, left, h, w], 1), 0)  # (number, 4)


def box_sides(area, aspect, height, width):
    """Whole numbers h, w of a box that covers `area` (a fraction) of the image with h / w = `aspect`."""
    covered = area * height * width
    h = np.rint(np.sqrt(covered * aspect)).astype(np.int64)
    w = np.rint(np.sqrt(covered / aspect)).astype(np.int64)
    return h, w


def augment(view, pixels, choices, seed):
    """uint8 (B, M, 3, H, W) -> float32 of the same shape. `seed` starts the noise that fills erased boxes."""
    images = normalise(view, strengthened(view, moved(view, pixels, choices), choices.randaugment))
    every = on_device(choices.boxes, pixels.device)  # (erasings, B, M, 4)
    for erasing, boxes in zip(view.erasing, every):
        erased = inside(boxes, *images.shape[-2:])  # (B, M, 1, H, W)
        images = torch.where(erased, filling(erasing, images, seed), images)
    return images


def normalise(view, pixels):
    """(x / 255 - mean) / std, per channel."""
    mean = per_channel(tuple(view.mean), pixels.device)  # (3, 1, 1)
    std = per_channel(tuple(view.std), pixels.device)
    return (pixels.float() / 255 - mean) / std


@functools.cache
def per_channel(values, device):
    """A tensor (3, 1, 1), cached: copying it to a GPU at every step would make the GPU wait."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device).view(3, 1, 1)


def moved(view, pixels, choices):
    """Flip, pad and crop of uint8 (B, M, 3, H, W), as one gather per side; a constant border is black."""
    if not (view.flip or view.pad):
        return pixels
    flip = on_device(choices.flip, pixels.device)  # (B, M), as the next two
    top = on_device(choices.top, pixels.device)
    left = on_device(choices.left, pixels.device)
    y, y_inside = source(view, pixels.shape[-2], top)  # (B, M, H)
    x, x_inside = source(view, pixels.shape[-1], left)  # (B, M, W)
    x = torch.where(flip[..., None], pixels.shape[-1] - 1 - x, x)  # flipped first, then cropped
    rows = pixels.gather(3, y[:, :, None, :, None].expand(pixels.shape))  # (B, M, 3, H, W)
    moved = rows.gather(4, x[:, :, None, None, :].expand(pixels.shape))
    shown = y_inside[..., :, None] & x_inside[..., None, :]  # (B, M, H, W)
    return moved.masked_fill(~shown[:, :, None], 0)


def strengthened(view, pixels, decisions):
    """RandAugment of uint8 (B, M, 3, H, W), and the cut-out that ends it, if the view has one."""
    if view.randaugment is None:
        return pixels
    cut = inside(on_device(decisions.box, pixels.device), *pixels.shape[-2:])  # (B, M, 1, H, W)
    return operate(pixels, decisions).masked_fill(cut, view.randaugment.fill)


def on_device(array, device):
    """A numpy array, which may be a broadcast view, as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)


def source(view, side, offset):
    """For a crop that begins at `offset` (B, M): the pixel that each of `side` places shows (B, M, side), and
    whether it lies on the image."""
    place = torch.arange(side, device=offset.device) + offset[..., None] - view.pad  # (B, M, side)
    if view.padding == "reflect":
        place = (side - 1) - (place.abs() - (side - 1)).abs()  # the border itself is not repeated
    return place.clamp(0, side - 1), (place >= 0) & (place < side)


def inside(boxes, height, width):
    """A mask (B, M, 1, H, W), true within the boxes (B, M, 4)."""
    top, left, h, w = boxes[..., None, None, None].unbind(2)  # (B, M, 1, 1, 1) each
    y = torch.arange(height, device=boxes.device)[:, None]  # (H, 1)
    x = torch.arange(width, device=boxes.device)  # (W,)
    return (y >= top) & (y < top + h) & (x >= left) & (x < left + w)


def filling(erasing, images, seed):
    """What erased boxes show: one value per channel, or normal noise from `seed`."""
    if erasing.fill is not None:
        return per_channel(tuple(erasing.fill), images.device)
    noise = torch.Generator(images.device).manual_seed(seed)
    return torch.randn(images.shape, generator=noise, device=images.device)
