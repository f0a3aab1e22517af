"""Several data sets as one: one label per person, one number per camera."""

import hashlib
import os
from pathlib import Path

import pandas as pd

from data_prep.manifest import from_table


def join(manifests, name="joint"):
    """One manifest of all rows, with paths below the roots' common parent. Identities and cameras of different sets stay
    different; distractors (pid 0 of a gallery) and junk (-1) stay what they are."""
    root = Path(os.path.commonpath([manifest.root.resolve() for manifest in manifests]))
    tables, people, cameras, shots = [], 1, 0, 0
    for manifest in manifests:
        table, folder = manifest.table.copy(), manifest.root.resolve().relative_to(root)
        table["path"] = [str(folder / path) for path in table.path]
        table["pid"] = table.pid.where(table.pid <= 0, table.pid + people)
        table["camid"] += cameras
        table["shot"] += shots
        people, cameras, shots = (int(table[column].max()) + 1 for column in ("pid", "camid", "shot"))
        tables.append(table)
    labels = {manifest.label for manifest in manifests}
    if len(labels) > 1:
        raise ValueError(f"expected data sets of one kind, found {' and '.join(sorted(labels))}; world images and photographs "
                         f"are never joined.")  # fmt: skip
    seeds = {manifest.seed for manifest in manifests}
    prints = " ".join(manifest.fingerprint for manifest in manifests)
    return from_table(name, root, pd.concat(tables), label=labels.pop(), protocol=manifests[0].protocol,
                      seed=seeds.pop() if len(seeds) == 1 else None,
                      scene_fingerprint=hashlib.sha256(prints.encode()).hexdigest()[:16])  # fmt: skip
