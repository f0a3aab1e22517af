"""What is wrong with a data set on disk, and how to mend it. Every complaint is one sentence that ends in
what to do."""

import contextlib
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
from data_prep.pictures import ORIENTATION, UPRIGHT, rgb
from data_prep.public import lifelong
from data_prep.texts import in_one_sentence

READY = "ready for training"
TESTING = "ready for testing: it has no training images"
PRETRAINING = "ready for pretraining: it has no identities"
SETTINGS = {  # what lets a reader go on -> the variable with which training does
    "allow_count_mismatch": "REID_ALLOW_COUNT_MISMATCH",
    "drop_unmatched_queries": "REID_DROP_UNMATCHED_QUERIES",
}
IDENTITIES = 16  # in a batch, as the papers' recipes have it
SENTENCES = 64
TURNS = range(2, 9)  # of EXIF's orientations
SHOWN = 10  # names of files in a complaint


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
        return Report([], [in_one_sentence(error)])
    report = examine(manifest, decode, hashes)
    chosen = [f"{variable}=1" for option, variable in SETTINGS.items() if options.get(option)]
    if chosen and report.healthy:
        report.lines.insert(-1, f"for training, set {' '.join(chosen)}")
    return report


def examine(manifest, decode=False, hashes=False):
    """The Report on a manifest: every check of the contract, then every file: its header, or all of it
    (`decode`); `hashes` finds copies."""
    found = [complaint(test, manifest) for test in CHECKS]  # all of them, not the first that fails
    complaints = [sentence for sentence in found if sentence]
    missing = any("found nothing" in sentence for sentence in complaints)
    complaints += two_versions(manifest) + useless(manifest) + unreadable(manifest, decode)
    if hashes and not missing:  # a file that is not there has no content
        complaints += copies(manifest)
    lines = summary(manifest, missing)
    if not complaints:
        lines += [*small(manifest), *fitting(manifest), readiness(manifest)]
    return Report(lines, complaints)


def readiness(manifest):
    """What a data set without complaints is ready for."""
    if for_pretraining(manifest):
        return PRETRAINING
    return READY if len(manifest.split("train")) else TESTING


def for_pretraining(manifest):
    """Whether these are pairs of images and sentences, where every image is its own identity."""
    return manifest.name in ("pairs", "world_pairs")


def useless(manifest):
    """Complaints about a data set that nothing can be trained or tested with."""
    found = []
    # sets that others are tested on have no training images, nor have some worlds
    for_tests = manifest.name.partition("#")[0] in lifelong.UNSEEN or manifest.origin == "world"
    if not for_tests and not len(manifest.split("train")):
        found.append(
            f"{manifest.name}: expected training images, found none among {len(manifest.table)} images in "
            f"{manifest.root}; add some whose split is train."
        )
    if not for_pretraining(manifest) and not is_searched(manifest):
        found.append(
            f"{manifest.name}: expected queries, found none; add images whose split is query, or sentences "
            "of gallery images, with a match in the gallery."
        )
    return found


def is_searched(manifest):
    """Whether there is a query: an image (of some draw, where there are draws), or a sentence of the
    gallery."""
    if manifest.trials:
        return any(len(asked) for asked, _ in manifest.trials.draws)
    sentences = itertools.chain.from_iterable(manifest.split("gallery").captions)
    return len(manifest.split("query")) > 0 or any(map(str.strip, sentences))


def small(manifest):
    """Lines on a training set with less than the batch of a recipe, or none."""
    train = manifest.split("train")
    people = train.pid.nunique()
    captions = train.captions.map(len).sum()
    few = []
    if 0 < people < IDENTITIES:
        few.append(f"{people} training identities, where a batch of the recipes has {IDENTITIES}")
    if 0 < captions < SENTENCES:
        few.append(f"{captions} training sentences, where a batch of the recipes has {SENTENCES}")
    return [f"{one}: lower it with --set" for one in few]


def fitting(manifest):
    """Lines on the methods that a data set is for, where these are not all."""
    found = []
    if not manifest.trials and not len(manifest.split("query")):
        found.append("searched with sentences alone: for methods that read them")
    spectra = manifest.table.modality.unique()
    if len(spectra) > 1:
        found.append(f"shots of {', '.join(spectra)}: for methods that see spectra")
    return found


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
    said = manifest.table.captions.explode().dropna()
    empty = len(said) - sum(map(bool, said.map(str.strip)))
    if empty:
        lines.append(f"{empty} of {len(said)} sentences are empty, and ask nothing")
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
    """One complaint for all files that are no images, and one for all that EXIF asks to turn."""
    files = [manifest.root / path for path in dict.fromkeys(manifest.table.path)]
    look = partial(look_at, decode=decode)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads: most of the time is the disk's
        seen = list(zip(files, pool.map(look, files, chunksize=256)))
    spoiled = [fault for _, fault in seen if isinstance(fault, str)]
    turned = [path.relative_to(manifest.root) for path, fault in seen if fault in TURNS]
    complaints = []
    if spoiled:
        more = f" ({len(spoiled)} such files)" if len(spoiled) > 1 else ""
        complaints.append(f"{spoiled[0]}{more}; unpack the archive again, or replace or remove it.")
    if turned:
        names = ", ".join(map(str, turned[:SHOWN])) + ", ..." * (len(turned) > SHOWN)
        complaints.append(
            f"{manifest.name}: expected upright pixels, found {len(turned)} images with an EXIF orientation, "
            f"which nothing here follows ({names}); turn their pixels (mogrify -auto-orient)."
        )
    return complaints


def look_at(path, decode=False):
    """What is wrong with an image file, in words, or its EXIF orientation: 1 is upright. The header alone is
    read, unless all pixels are to be decoded."""
    try:
        if not os.stat(path).st_size:
            return f"expected an image, found an empty file at {path}"
        with Image.open(path) as image:
            if decode:
                rgb(image)
            return orientation(image)
    except FileNotFoundError:
        return UPRIGHT  # the contract complains of it
    except Exception as error:  # Pillow raises many kinds on spoiled files
        return f"expected an image, found {error} at {path}"


def orientation(image):
    """EXIF's orientation. Of a PNG it is known before the pixels, or once these are decoded, which asking
    would do."""
    told = image.format != "PNG" or "exif" in image.info
    with contextlib.suppress(Exception):  # a spoiled EXIF turns nothing
        return image.getexif().get(ORIENTATION, UPRIGHT) if told else UPRIGHT
    return UPRIGHT


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
