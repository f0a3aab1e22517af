"""What is kept of a method that reads attributes: where each query looks, and what its attributes place side
by side.

    Q explained images, N points of an embedding, K attributes, h x w patches, A attributes of the world
"""

import numpy as np
import torch

from reid_core import evaluate
from reid_core.analysis import explain, regions

NEAREST = 10  # neighbours whose clothes are compared
SPLITS = ("query", "gallery")
AT_ONCE = 64  # images


def visualise(method, data, rows, points, draw):
    """Entries of Visuals: attention maps of the query images `rows` (Q,); of the images `points` (N,),
    counted in the query split and on into the gallery, each attribute in the planes of `draw` {name: (N, D)
    -> (N, 2)}, what the people wear, and how often neighbours wear the same (`agreement`). {} for a method
    without attributes."""
    if not hasattr(method, "attribute_names"):
        return {}
    features, whole = features_of(method, data, points)
    planes = {f"{name}_by": np.stack([plane(one) for one in features]) for name, plane in draw.items()}
    known = regions.worn(data, paths_of(data)[points]) if method.attribute_names() == regions.PARTS else None
    told = {}
    if known is not None:
        told = {"worn": known, "agrees": agreements(features, whole, known, pids_of(data)[points])}
    return {"attended": attended(method, data, rows), **planes, **told}


def paths_of(data):
    """Paths of the query split, then of the gallery."""
    return np.concatenate([getattr(data, split).paths[:, 0] for split in SPLITS])


def pids_of(data):
    return np.concatenate([getattr(data, split).pids for split in SPLITS])


def attended(method, data, rows):
    """(Q, K, h, w) attention maps as uint8, each from 0 to 255."""
    found = []
    for some in torch.as_tensor(rows).split(AT_ONCE):
        batch = explain.batch_of(method, data, some)
        found.append(method.attention(batch.images).float().cpu())
    maps = torch.cat(found)
    return explain.as_bytes(maps.flatten(0, 1).numpy()).reshape(maps.shape)


def features_of(method, data, points):
    """([(N, E) of each attribute], (N, D) of the first test), of unit length."""
    names = method.attribute_names()
    tested = next(iter(method.retrieval_tasks().values())).query
    several = [evaluate.embed_images(method, data, split, {*names, tested}) for split in SPLITS]
    every = {name: torch.cat([one[name] for one in several])[points].cpu().numpy() for name in several[0]}
    return [every[name] for name in names], every[tested]


def agreements(features, whole, known, pids):
    """(A, 3) in per cent, for what each part of a person wears: `agreement` by the attribute of the part, by
    the whole feature, and by chance."""
    own = [agreement(one, worn, pids) for one, worn in zip(features, known.T)]
    others = [agreement(whole, worn, pids)[0] for worn in known.T]
    return 100 * np.array([[near, other, chance] for (near, chance), other in zip(own, others)], np.float32)


def agreement(features, worn, pids):
    """(share of the NEAREST images of other people by cosine that show the same word of `worn` (N,), the same
    of all images of other people); features (N, D) of unit length."""
    near = features @ features.T  # (N, N)
    others = pids[:, None] != pids
    same = worn[:, None] == worn
    order = np.argsort(np.where(others, -near, np.inf), axis=1, kind="stable")[:, :NEAREST]
    there = np.take_along_axis(others, order, 1)  # of few people, others may be fewer
    alike = np.take_along_axis(same, order, 1) & there
    return alike.sum() / max(there.sum(), 1), (same & others).sum() / max(others.sum(), 1)
