"""What is wrong with a data set on disk, and how to mend it. Every complaint is one sentence that ends in
what to do."""

import hashlib
import itertools
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from PIL import Image

from data_prep import public
from data_prep.manifest import CHECKS, FIRST_CHECKS, PROTOCOLS

READY = "ready for training"


class Report(NamedTuple):
    lines: list  # what was found
    complaints: list  # what must be mended before training may start

    @property
    def healthy(self):
        return not self.complaints


def check(name, root, decode=False, hashes=False, **options):
    """Read and examine a data set. A reader that cannot go on gives the only complaint."""
    try:
        manifest = public.read(name, root, tests=FIRST_CHECKS, **options)
    except (ValueError, OSError) as error:
        return Report([], [str(error)])
    return examine(manifest, decode, hashes)


def examine(manifest, decode=False, hashes=False):
    """The Report on a manifest: every check of the contract, then every file: its header, or all of it
    (`decode`); `hashes` finds copies."""
    found = [complaint(test, manifest) for test in CHECKS]  # all of them, not the first that fails
    complaints = [sentence for sentence in found if sentence]
    missing = any("found nothing" in sentence for sentence in complaints)
    complaints += two_versions(manifest) + unreadable(manifest, decode)
    if hashes and not missing:  # a file that is not there has no content
        complaints += copies(manifest)
    lines = summary(manifest, missing)
    if not complaints:
        lines.append(READY)
    return Report(lines, complaints)


def complaint(test, manifest):
    """The sentence of a check that fails, or ""."""
    try:
        test(manifest)
    except ValueError as error:
        return str(error)
    return ""


def summary(manifest, missing):
    """Lines about a manifest; without a fingerprint, which reads the files' sizes, where some are
    `missing`."""
    fingerprint = "" if missing else f", fingerprint {manifest.fingerprint}"
    lines = [f"{manifest.name} ({manifest.origin}){fingerprint}", *manifest.notes]
    if manifest.trials:
        lines.append(manifest.trials.words)
    for split, numbers in manifest.counts().items():
        told = "  ".join(f"{number} {what}" for what, number in numbers.items())
        lines.append(f"{split:8}{told}")
    return lines


def two_versions(manifest):
    """MSMT17 with and without blurred faces in one folder: nobody can say which of the two a number means."""
    both = ("train", "mask_train_v2")
    if not manifest.name.startswith("msmt17") or not all((manifest.root / name).exists() for name in both):
        return []
    return [
        f"{manifest.name}: expected V1 (train, test) or V2 (mask_train_v2, mask_test_v2) in "
        f"{manifest.root}, found both; move one elsewhere."
    ]


def unreadable(manifest, decode):
    """One complaint for all files that are no images."""
    files = [manifest.root / path for path in dict.fromkeys(manifest.table.path)]
    look = partial(look_at, decode=decode)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads: most of the time is the disk's
        found = [sentence for sentence in pool.map(look, files, chunksize=256) if sentence]
    if not found:
        return []
    more = f" ({len(found)} such files)" if len(found) > 1 else ""
    return [f"{found[0]}{more}; unpack the archive again, or replace or remove it."]


def look_at(path, decode=False):
    """What is wrong with an image file, or "". The header alone is read, unless all pixels are to be
    decoded."""
    try:
        if not os.stat(path).st_size:
            return f"expected an image, found an empty file at {path}"
        with Image.open(path) as image:
            if decode:
                image.load()
    except FileNotFoundError:
        return ""  # the contract complains of it
    except Exception as error:  # Pillow raises many kinds on spoiled files
        return f"expected an image, found {error} at {path}"
    return ""


def copies(manifest):
    """Complaints about files with the same content on both sides of a wall: training and testing, or a query
    and a gallery image that its protocol does not leave out. Only files of equal size are read."""
    groups = defaultdict(list)  # size in bytes -> rows
    for row in manifest.table.itertuples():
        if row.modality == "rgb":  # one spectrum of a moment tells
            groups[os.stat(manifest.root / row.path).st_size].append(row)
    same = []
    for group in groups.values():
        if len(group) > 1:
            same += equal(manifest.root, group)
    return leaked(manifest, same) + given_away(manifest, same)


def equal(root, rows):
    """Groups of rows whose files have one content."""
    found = defaultdict(list)
    known = {}  # a file may stand in several rows, and is read once
    for row in rows:
        if row.path not in known:
            known[row.path] = hashlib.sha256((root / row.path).read_bytes()).digest()
        found[known[row.path]].append(row)
    return [twins for twins in found.values() if len(twins) > 1]


def pairs_in(same):
    """Every ordered pair of rows of one content."""
    for twins in same:
        yield from itertools.product(twins, twins)


def leaked(manifest, same):
    """A complaint about training images that are test images as well, or none."""
    test = ("query", "gallery", "val")
    pairs = [(a, b) for a, b in pairs_in(same) if a.split == "train" and b.split in test]
    if not pairs:
        return []
    a, b = pairs[0]
    number = len({one.path for one, _ in pairs})
    return [
        f"{manifest.name}: expected no training image among the test images, found {number} (the first is "
        f"{a.path}, also {b.path}); remove one of the two."
    ]


def given_away(manifest, same):
    """A complaint about queries of which the gallery holds a copy that the protocol does not leave out, or
    none."""
    if manifest.trials:  # there both splits hold all images, and the draws keep them apart
        return []
    column = PROTOCOLS[manifest.protocol]
    pairs = []
    for a, b in pairs_in(same):
        # the same path in both is no copy: RGBNT201 tests its images against each other
        asks = (a.split, b.split) == ("query", "gallery") and a.path != b.path
        if asks and (column is None or a.pid != b.pid or getattr(a, column) != getattr(b, column)):
            pairs.append((a, b))
    if not pairs:
        return []
    a, b = pairs[0]
    number = len({one.path for one, _ in pairs})
    return [
        f"{manifest.name}: expected no copy of a query in its gallery, found {number} (the first is "
        f"{a.path}, also {b.path}); remove one of the two."
    ]
