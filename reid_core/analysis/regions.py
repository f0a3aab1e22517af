"""How much of what a query reads lies on which part of a person, as the world's truth knows it.

n images, K queries, R regions
"""

import numpy as np

from data_prep.world.truth import REGIONS, Masks, attributes
from reid_core.data import still_batches

PARTS = ("head", "upper", "lower", "foot")
SHOWN = (*PARTS, "elsewhere")  # R
WORN = ("hair", "upper colour", "lower colour", "shoes")  # of each of PARTS, in the world's words


def traits_of(method, data):
    """What a lifelong run keeps of a model on a test set: what the method tells of itself, and of one that
    has `attention` what its queries look at, {"attribute shares": (K, R)}, where the truth is known."""
    looked = of_attributes(method, data) if hasattr(method, "attention") else None
    known = {} if looked is None else {"attribute shares": looked.round(2).tolist()}
    return method.traits(data) | known


def of_attributes(method, data, number=16):
    """`shares` of the first query images, read by a method that has `attention`."""
    batch = next(still_batches(data, "query", method.size, method.test_view(), method.device, number))
    return shares(method.attention(batch.images).float().cpu().numpy(), data)


def shares(maps, data, split="query"):
    """(K, R) per cent of maps (n, K, rows, columns), each of sum 1, on the SHOWN regions of the first n
    images of a split, mean over images; None where the data are no world, which alone knows its truth."""
    if not (data.manifest.root / "world.json").exists():
        return None
    trace = Masks(data.manifest.root)
    found = []
    for path, one in zip(getattr(data, split).paths[:, 0], maps):
        seen = covered(trace(path), one.shape[1:])  # (R, rows, columns)
        found.append(np.einsum("krc,xrc->kx", one, seen))
    return 100 * np.mean(found, 0)


def worn(data, paths):
    """(N, A) the colour of each of WORN on the images `paths`; None where the data are no world."""
    if not (data.manifest.root / "world.json").exists():
        return None
    table = attributes(data.manifest.root)
    people = [table[path]["person"] for path in paths]
    return np.array([[person[name] for name in WORN] for person in people])


def covered(mask, grid):
    """(R, rows, columns) which share of each cell of a grid shows each of the SHOWN regions, of a mask (H, W)
    of numbers into REGIONS."""
    parts = np.stack([mask == REGIONS.index(name) for name in PARTS]).astype(float)
    layers = np.concatenate([parts, 1 - parts.sum(0, keepdims=True)])  # (R, H, W)
    rows, columns = grid
    height, width = mask.shape[0] // rows * rows, mask.shape[1] // columns * columns
    cells = layers[:, :height, :width].reshape(len(SHOWN), rows, height // rows, columns, width // columns)
    return cells.mean((2, 4))
