"""The ground truth of every image of a world: attributes, and which pixel shows what. Explanations are judged
by it."""

from pathlib import Path

import numpy as np

from data_prep.texts import read_object
from data_prep.world import render
from data_prep.world.build import planned, size_of, stage
from data_prep.world.layouts import layout_of

REGIONS = (  # a pixel's number in a mask counts these from 0
    "background",
    "head",
    "upper",
    "lower",
    "foot",
    "backpack",
    "carried",
    "hiding",
    "passer-by",
    "clutter",
    "vehicle",
)


def attributes(root):
    """{path: {"person": ..., "image": ..., "when": ...}} of a world's folder."""
    return read_object(Path(root) / "attributes.json")


class Masks:
    """Masks of the images in a world's folder, traced again from its numbers when asked for. ValueError where
    this code makes another world."""

    def __init__(self, root):
        card = read_object(Path(root) / "world.json")
        self.seed = card["seed"]
        self.size = tuple(card["size"])  # height and width in pixels
        self.layout = layout_of(card["name"])
        plan, paths, now = planned(card["name"], card["profile"], self.seed, self.size)
        if now["fingerprint"] != card["fingerprint"]:
            raise ValueError(
                f"expected the world that this code makes in {root}, found another ({card['name']}, version "
                f"{card['version']}): its masks cannot be traced; remove the folder and make it again."
            )
        self.shots = {path: one for one, files in zip(plan, paths) for path in files}

    def __call__(self, path):
        """(H, W) uint8 of numbers into REGIONS."""
        parts, traced, _ = stage(self.shots[path], self.seed, size_of(self.layout, *self.size))
        return mask_of(parts, traced)


def mask_of(parts, traced):
    """(H, W) uint8 of numbers into REGIONS: what each pixel of a traced scene shows."""
    # the last entry, at index -1, answers for ground, wall and sky, whose slots are -1, -2 and -3
    lookup = np.array([*map(region, parts), 0], np.uint8)
    return lookup[np.maximum(render.seen_slots(traced), -1)]


def region(part):
    """Number of the region that a part belongs to."""
    first = part.name.split()[0]  # as in "upper left arm"
    return REGIONS.index(first if first in REGIONS else "vehicle")
