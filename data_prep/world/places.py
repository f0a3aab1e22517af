"""Cameras: where they stand, what they see behind a person, and what they do to colours."""

import numpy as np
import torch

from data_prep.world.render import BOX, CAPSULE
from data_prep.world.streams import between, stream

CLUTTER = {f"clutter {k}": BOX for k in range(3)}
SLOTS = CLUTTER | {"post": CAPSULE}
GREY = (90, 92, 96)


def camera(seed, domain, camid):
    """One camera in integers: angles in degrees, distances in centimetres, gains and sizes in per cent."""
    draw = lambda low, high, name: between(seed, low, high, name, domain, camid)  # noqa: E731
    return {
        "heading": draw(0, 359, "camera heading"),
        "spread": draw(35, 60, "camera spread"),
        "pitch": draw(4, 26, "camera pitch"),
        "distance": draw(550, 1000, "camera distance"),
        "sun": draw(0, 359, "sun heading"),
        "sun height": draw(30, 65, "sun height"),
        "wall": draw(180, 600, "wall distance"),
        "exposure": draw(72, 118, "exposure"),
        "blur": draw(0, 90, "blur"),
        "noise": draw(8, 34, "noise"),
        "tile": draw(15, 60, "tile"),
        "panel": draw(50, 140, "panel"),
        **{f"cast {k}": draw(90, 110, f"cast {k}") for k in range(3)},
        "wall grey": draw(95, 190, "wall grey"),
        "ground grey": draw(95, 165, "ground grey"),
        **{f"wall {k}": draw(-28, 28, f"wall colour {k}") for k in range(3)},
        **{f"ground {k}": draw(-16, 16, f"ground colour {k}") for k in range(3)},
        **{f"{slot} {key}": draw(low, high, f"{slot} {key}")
           for slot in CLUTTER
           for key, low, high in (("x", -150, 150), ("y", 70, 170), ("w", 8, 40), ("h", 25, 110))},
    }  # fmt: skip


def furniture(seed, cam, image, domain, camid):
    """The boxes that stand about before this camera, and the post that hides part of a person."""
    parts = {}
    for slot in CLUTTER:
        x, y, w, h = (cam[f"{slot} {key}"] / 100 for key in "xywh")
        colour = tuple(int(c) for c in stream(seed, slot, "hue", domain, camid).integers(40, 200, size=3))
        parts[slot] = ((x, y, 0), (x, y, h), (w, w), colour, colour, 0)
    if image["hiding"] == "post":
        x = image["hiding place"] / 1000
        parts["post"] = ((x, -0.7, 0), (x, -0.7, 2.6), (0.055, 0.055), GREY, GREY, 0)
    return parts


def view(cam, image):
    """(eye, axes, sun, place) of one image, as flat lists of numbers."""
    pitch, distance = np.radians(cam["pitch"]), cam["distance"] / 100
    target = np.array([image["shift x"] / 1000, 0, 0.88 + image["shift z"] / 1000])
    forward = np.array([0, np.cos(pitch), -np.sin(pitch)])
    up = np.array([0, np.sin(pitch), np.cos(pitch)])
    edge = 1.0 / distance / (image["zoom"] / 100)
    axes = np.stack([np.array([1, 0, 0]) * edge / 2, up * edge, forward])
    heading, height = np.radians(cam["sun"]), np.radians(cam["sun height"])
    sun = [np.cos(heading) * np.cos(height), -abs(np.sin(heading)) * np.cos(height), np.sin(height)]
    colours = [
        (cam[f"{name} grey"] + cam[f"{name} {k}"]) / 255 for name in ("wall", "ground") for k in range(3)
    ]
    place = [cam["wall"] / 100, *colours, cam["tile"] / 100, cam["panel"] / 100]
    return target - distance * forward, axes, sun, place


def develop(colour, cam, noise):
    """What the camera makes of the light: (H, W, 3) in 0..1 -> uint8. `noise` is standard normal, of that shape."""
    gain = torch.tensor([cam[f"cast {k}"] * cam["exposure"] / 1e4 for k in range(3)])
    picture = blurred((colour * gain).clamp(0, 1) ** 0.85, cam["blur"] / 100)
    return (picture * 255 + noise * cam["noise"] / 10).round().clamp(0, 255).to(torch.uint8)


def blurred(picture, sigma):
    """Gaussian blur with `sigma` pixels."""
    if sigma < 0.2:
        return picture
    x = torch.arange(-3.0, 4)
    kernel = torch.softmax(-(x**2) / (2 * sigma**2), 0)
    columns = torch.nn.functional.pad(picture.permute(2, 0, 1)[:, None], (3, 3, 3, 3), mode="replicate")
    rows = torch.nn.functional.conv2d(columns, kernel.view(1, 1, 7, 1))
    return torch.nn.functional.conv2d(rows, kernel.view(1, 1, 1, 7))[:, 0].permute(1, 2, 0)
