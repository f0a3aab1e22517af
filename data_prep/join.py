"""Several data sets as one: one label per person, one number per camera, and nobody of a test among the
training images."""

import hashlib
import os
import re
import warnings
from pathlib import Path

import pandas as pd

from data_prep.manifest import CHECKS, distractors, from_table, nobody_in_train_and_test

SOURCES = {
    "world_market": "market1501",
    "world_text": "cuhk_pedes",
    "world_msmt": "msmt17",
}  # who is modelled on whom
LEAKY = "leaky:"  # begins the name of a joint set that keeps people whom one of its sets tests
LOUD = 0.1  # a larger share of removed training images is a warning: results are no longer comparable


def join(manifests, name="joint"):
    """One manifest of all rows, with paths below the roots' common parent. Identities and cameras of
    different sets stay different; distractors stay 0."""
    tables = stacked(manifests)
    people = 1  # what is added to a set's pids: 0 stays free for distractors
    for manifest, table in zip(manifests, tables):
        # where: keeps what is true
        table["pid"] = table.pid.where(distractors(manifest), table.pid + people)
        people = int(table.pid.max()) + 1
    return manifest_of(name, manifests, pd.concat(tables))


def stacked(manifests):
    """Copies of the tables, with paths below one root, and cameras and shots that do not collide."""
    root = common_root(manifests)
    tables = []
    cameras = 0  # how many numbers the sets before have taken
    shots = 0
    for manifest in manifests:
        table = manifest.table.copy()  # the caller's stays as it is
        folder = manifest.root.resolve().relative_to(root)
        table["path"] = [str(folder / path) for path in table.path]
        table["camid"] += cameras
        table["shot"] += shots
        cameras = int(table["camid"].max()) + 1
        shots = int(table["shot"].max()) + 1
        tables.append(table)
    return tables


def common_root(manifests):
    """The deepest folder that holds all roots."""
    return Path(os.path.commonpath([manifest.root.resolve() for manifest in manifests]))


def manifest_of(name, manifests, table, leaky=False, **more):
    """The checked manifest of a joint table. ValueError for sets that cannot be joined."""
    check_kinds(manifests)
    seeds = {manifest.seed for manifest in manifests}
    tests = [test for test in CHECKS if test is not nobody_in_train_and_test] if leaky else None
    return from_table(
        name,
        common_root(manifests),
        table,
        origin=manifests[0].origin,
        protocol=manifests[-1].protocol,  # of the joint table; a run tests each set by its own
        seed=seeds.pop() if len(seeds) == 1 else None,
        scene_fingerprint=fingerprint([manifest.fingerprint for manifest in manifests], leaky),
        tests=tests,
        parts=tuple(manifests),
        **more,
    )


def check_kinds(manifests):
    """ValueError for world images with photographs, and for sets of different spectra: they are never
    joined."""
    origins = {manifest.origin for manifest in manifests}
    if len(origins) > 1:
        raise ValueError(
            f"expected data sets of one kind, found {' and '.join(sorted(origins))}; world images and "
            "photographs are never joined."
        )
    spectra = {", ".join(sorted(set(manifest.table.modality))): manifest.name for manifest in manifests}
    if len(spectra) > 1:
        found = " and ".join(f"{kinds} in {name}" for kinds, name in spectra.items())
        raise ValueError(f"expected data sets of the same spectra, found {found}; join others.")


def fingerprint(prints, leaky=False):
    """The fingerprint of a joint set, from those of its parts."""
    told = " ".join([*prints, *["leaky"] * leaky])
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def joint_training(*manifests, leaky=False):
    """Data sets joined as HPL trains on them (decision D19): images that the names of their files trace to
    one person get one label, and a training image of anybody whom another of the sets tests is removed.

    A node is (data set, seed of its world, pid), where variants are one data set and a table is known by its
    place; a file name that tells its source unites it with the source's node. What was removed and merged
    stands in the notes, and a large share is a warning. `leaky`: these images stay, as a comparison, and the
    notes and the name say so.
    """
    people = People()
    tables = stacked(manifests)
    for manifest, table in zip(manifests, tables):
        table["pid"] = [people.label(node) for node in nodes(manifest, people)]
    for table in tables:  # only now are all groups known
        table["pid"] = [people.find(pid) for pid in table.pid]
    kept = []
    notes = []
    for k, table in enumerate(tables):
        tested = set()
        for other in tables[:k] + tables[k + 1 :]:
            tested.update(other[other.split != "train"].pid)
        tested.discard(0)  # distractors are nobody
        leak = (table.split == "train") & table.pid.isin(tested)
        say = report_leak if leaky else report
        notes.append(say(manifests[k].name, leak.sum(), (table.split == "train").sum()))
        kept.append(table if leaky else table[~leak])
    trained = [set(table[table.split == "train"].pid) for table in kept]
    shared = set.intersection(*trained)
    notes.append(f"{len(shared)} training identities occur in all of the sets and have one label each")
    name = LEAKY * leaky + "+".join(manifest.name for manifest in manifests)
    return manifest_of(name, manifests, pd.concat(kept), leaky, notes=tuple(notes))


def report(name, removed, images):
    """A note of what was taken from a set; a warning as well where it is more than LOUD of it."""
    said = (
        f"{name}: {removed} of {images} training images removed ({removed / max(images, 1):.1%}), whose "
        "people another set tests"
    )
    if removed > LOUD * images:
        said = f"WATCH OUT: {said}; numbers from this set compare with no published ones"
        warnings.warn(said, stacklevel=3)
    return said


def report_leak(name, kept, images):
    """A note of what a leaky joint set keeps."""
    return (
        f"LEAKY: {name}: {kept} of {images} training images kept ({kept / max(images, 1):.1%}), whose people "
        "another set tests; scores are too high"
    )


class People:
    """Union-find over nodes; labels count from 1, and the root of a group is its smallest label."""

    def __init__(self):
        self.numbers = {}  # node -> its label
        self.parent = [0]  # label -> a label nearer to the root of its group; 0 is the distractor's

    def label(self, node):
        """The number of a node, made when first asked for; None, a distractor, is 0."""
        if node is None:
            return 0
        if node not in self.numbers:
            self.numbers[node] = len(self.parent)
            self.parent.append(len(self.parent))
        return self.numbers[node]

    def find(self, number):
        """The root of a label's group."""
        while self.parent[number] != number:
            self.parent[number] = self.parent[self.parent[number]]  # halves the path for the next time
            number = self.parent[number]
        return number

    def unite(self, node, other):
        """Put two nodes into one group."""
        roots = (self.find(self.label(node)), self.find(self.label(other)))
        self.parent[max(roots)] = min(roots)


def nodes(manifest, people):
    """The node of every row, united with that of its source; None for a distractor."""
    name = manifest.place or manifest.name.partition("#")[0]
    kind = SOURCES.get(name, name)
    found = []
    for row, nobody in zip(manifest.table.itertuples(), distractors(manifest)):
        node = None if nobody else (name, manifest.seed, row.pid)
        if node and (source := source_of(kind, row)):
            people.unite(node, (source[0], manifest.seed, *source[1:]))
        found.append(node)
    return found


def source_of(kind, row):
    """The person in the set from which an image comes, where its path tells; None elsewhere (RSTPReid
    renumbered MSMT17; a table of anybody's own may number as it likes)."""
    if kind == "market1501":
        return ("market1501", row.pid)
    if kind == "cuhk_pedes":
        return market_source(row.path)
    if kind in ("msmt17", "icfg_pedes"):
        return msmt_source(row.path)
    return None


def market_source(path):
    """CUHK-PEDES keeps Market-1501's images below Market/, under names that begin with the pid."""
    if not path.startswith("imgs/Market/"):
        return None
    match = re.match(r"(\d{4})_", path.rpartition("/")[2])
    if not match:
        raise ValueError(
            f"expected the pid of Market-1501 at the beginning of the name, found {path}; without it nobody "
            "can say who is in both sets: leave the image out."
        )
    return ("market1501", int(match[1]))


def msmt_source(path):
    """MSMT17 and ICFG-PEDES: <train|test>/<pid 4>/... is MSMT17's own folder, whatever the split of
    ICFG-PEDES says."""
    match = re.search(r"(?:^|/)(?:mask_)?(train|test)(?:_v2)?/(\d{4})/", path)
    if not match:
        return None
    return ("msmt17", match[1], int(match[2]))  # with the side: both count their people from 0
