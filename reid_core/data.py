"""Manifest -> pixels (uint8, decoded once) -> Batch.

    S shots of a split, M spectra each, B of them in a batch, H x W pixels

There are no worker processes: images are decoded once into a memory map and augmented on the device, so
nothing starves it and nothing makes a seed depend on the machine.
"""

import copy
import errno
import functools
import hashlib
import itertools
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data_prep import catalogue, pictures, seal, unfinished
from data_prep.manifest import MODALITIES
from reid_core.augment import augment, draw_choices, normalise
from reid_core.samplers import SamplerRng, generator

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
DIGEST = 32  # bytes of a SHA-256
DEVICE_SHARE = 0.4  # a store moves to the device when it needs less than this part of the free memory


@dataclass(frozen=True)
class Shots:
    """The shots of a split, as arrays of length S."""

    paths: np.ndarray  # (S, M)
    tiles: np.ndarray  # (S, M), which third of a file's width; -1 is the whole
    pids: np.ndarray  # (S,), as the four below
    camids: np.ndarray
    scenes: np.ndarray
    domains: np.ndarray
    present: np.ndarray  # (S, M) whether the spectrum is there, or taken away by `ReidData.without`
    captions: list = field(default_factory=list)  # S tuples of sentences; those that say nothing are left out
    parts: list = field(default_factory=list)

    def __post_init__(self):
        spoken = [tuple(filter(str.strip, sentences)) for sentences in self.captions]
        object.__setattr__(self, "captions", spoken)

    def __len__(self):
        return len(self.pids)

    def pick(self, index):
        """The rows at `index`, in that order, possibly repeated."""
        return Shots(
            paths=self.paths[index],
            tiles=self.tiles[index],
            pids=self.pids[index],
            camids=self.camids[index],
            scenes=self.scenes[index],
            domains=self.domains[index],
            present=self.present[index],
            captions=picked(self.captions, index),
            parts=picked(self.parts, index),
        )


def picked(column, index):
    """The entries of a list at `index`; of an empty list none, for a split without it."""
    return [column[k] for k in index] if column else []


def shots_of(table):
    """Group a manifest's rows into shots: one entry per shot, one column per modality."""
    if not len(table):
        return Shots(
            paths=np.empty((0, 1), object),
            tiles=np.empty((0, 1), np.int64),
            pids=np.empty(0, np.int64),
            camids=np.empty(0, np.int64),
            scenes=np.empty(0, np.int64),
            domains=np.empty(0, object),
            present=np.empty((0, 1), bool),
        )
    order = [name for name in MODALITIES if name in set(table.modality)]
    paths = table.pivot(index="shot", columns="modality", values="path")[order]  # (S, M)
    if paths.isna().any(axis=None):
        shot = paths.index[paths.isna().any(axis=1)][0]
        raise ValueError(
            f"expected every shot to have {', '.join(order)}, found shot {shot} without one; add the file."
        )
    # what all spectra of a shot share
    first = table.drop_duplicates("shot").set_index("shot").loc[paths.index]
    tiles = table.pivot(index="shot", columns="modality", values="tile")[order].to_numpy()
    return Shots(
        paths=paths.to_numpy(),
        tiles=tiles,
        pids=first.pid.to_numpy(copy=True),
        camids=first.camid.to_numpy(copy=True),
        scenes=first.scene.to_numpy(copy=True),
        domains=first.domain.to_numpy(copy=True),
        present=np.ones(tiles.shape, bool),
        captions=list(first.captions),
        parts=list(first.parts),
    )


class PixelStore:
    """Every image of a split at one size, decoded once: `pixels` is (N, 3, H, W) uint8, N = S * M."""

    def __init__(self, root, rows, size, filter, cache=None):
        self.shape = (rows.paths.size, 3, *size)
        self.M = rows.paths.shape[1]
        # N = S M files, the spectra of a shot side by side
        files = [(Path(root) / path, int(tile)) for path, tile in zip(rows.paths.ravel(), rows.tiles.ravel())]
        self.path = Path(cache or catalogue.cache_folder()) / f"{store_key(files, size, filter)}.u8"
        if not is_whole(self.path, self.path.exists() and self.path.stat().st_mtime_ns):
            seal.check(root, set(rows.paths.ravel()).__contains__)
            decode_all(files, self.path, size, FILTERS[filter])
        # "c", copy on write: torch wants a writable array, and the file stays as it is
        self.pixels = torch.from_numpy(np.memmap(self.path, np.uint8, "c", shape=self.shape))

    def to(self, device):
        """Move the pixels to the device if they fit comfortably; otherwise they stay a memory map."""
        device = torch.device(device)
        if device.type == "cuda" and self.pixels.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
            self.pixels = self.pixels.to(device)
        return self

    def batch(self, rows, device):
        """uint8 (B, M, 3, H, W) on the device, for the shots `rows` (a numpy array)."""
        index = torch.from_numpy(rows[:, None] * self.M + np.arange(self.M)).to(self.pixels.device)  # (B, M)
        pixels = self.pixels[index]  # (B, M, 3, H, W)
        if pixels.device.type == "cpu" and torch.device(device).type == "cuda":
            pixels = pixels.pin_memory()  # so that the copy does not wait
        return pixels.to(device, non_blocking=True)


def store_key(files, size, filter):
    """A name that changes with any file, the size and the filter."""
    stats = [(path, tile, stat_of(path)) for path, tile in files]
    # size and time stand for the content: reading every file takes as long as decoding
    facts = [(str(path), tile, stat.st_size, stat.st_mtime_ns) for path, tile, stat in stats]
    return hashlib.sha256(json.dumps([facts, list(size), filter, DIGEST]).encode()).hexdigest()[:20]


def stat_of(path):
    try:
        return path.stat()
    except FileNotFoundError:
        raise ValueError(
            f"expected an image at {path}, found nothing; run python -m data_prep check."
        ) from None


@functools.lru_cache(maxsize=64)  # a process asks once
def is_whole(path, changed):
    """Whether a store, as it was at a time (False: there is none), ends in the digest of its pixels. One that
    does not is reported."""
    if not changed:
        return False
    content = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    if digest_of(content[:-DIGEST]) == content[-DIGEST:].tobytes():
        return True
    warnings.warn(
        f"expected decoded images in {path} as they were written, found others; decoding them again.",
        stacklevel=3,
    )
    return False


def digest_of(pixels):
    """The DIGEST bytes that stand behind the pixels of a store."""
    return hashlib.sha256(pixels).digest()


def decode_all(files, path, size, filter):
    """Decode into a file under a temporary name, then rename it: a store exists whole or not at all."""
    part = unfinished.beside(path)
    total = len(files) * 3 * size[0] * size[1]  # bytes
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "w+b") as out:
            reserve(out, total + DIGEST)
            fill(out, files, size, filter)
        os.replace(part, path)
    except OSError as error:
        raise ValueError(
            f"expected room for {total / 1e9:.2f} GB of decoded images in {path.parent}, found "
            f"{error.strerror}; free some or set REID_CACHE to another folder."
        ) from error
    finally:
        unfinished.remove(part)


def fill(out, files, size, filter):
    """Write the pixels of all files, and the digest behind them, into the open file `out`."""
    pixels = np.memmap(out, np.uint8, "r+", shape=(len(files), 3, *size))  # (N, 3, H, W)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for k, image in enumerate(pool.map(lambda file: decode(file[0], size, filter, file[1]), files)):
            pixels[k] = image
    pixels.flush()
    out.seek(pixels.nbytes)
    out.write(digest_of(pixels))


# what file systems without reservation answer: network and FUSE mounts
UNKNOWN = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


def reserve(file, size):
    """Give a file `size` bytes: a full disk is an error here, not a crash later. Where space cannot be
    reserved (macOS, some file systems) the file only gets its length."""
    try:
        os.posix_fallocate(file.fileno(), 0, size)
    except AttributeError:
        file.truncate(size)
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
        file.truncate(size)


def decode(path, size, filter, tile=-1):
    """One image file, or a third of its width, as (3, H, W) uint8, resized as Pillow does (antialiased), like
    the published loaders."""
    image = pictures.opened(path, tile)
    # Pillow says (width, height) and gives (H, W, 3)
    return np.asarray(image.resize(size[::-1], filter)).transpose(2, 0, 1)


@dataclass(kw_only=True)
class Batch:
    """What a method sees of some shots, from the `Loader` and from `still_batches` alike: all tensors are on
    the device."""

    index: torch.Tensor  # (B,) positions in the split
    # (B,) class indices 0..C-1 of the training identities; -1 for somebody whom training never saw
    labels: torch.Tensor
    cameras: torch.Tensor  # (B,) camera indices; -1 for a camera that training never saw
    views: list = field(default_factory=list)  # one (B, M, 3, H, W) per augmentation of the stage
    # (B, M) which spectra there are; an absent one is black before normalising
    present: torch.Tensor | None = None
    # (N, L) token ids of the N <= B rows that carry a sentence, in their order
    text: torch.Tensor | None = None
    lengths: list = field(default_factory=list)  # (N,) tokens of each sentence, on the host
    # (B,) which rows carry a sentence, on the host; None where no row does
    captioned: np.ndarray | None = None
    sizes: tuple = ()  # of the parts that a sampler zipped
    # name -> (B, ...): what the stage's cache says about these rows
    cached: dict = field(default_factory=dict)
    rng: np.random.Generator | None = None  # for a method's own chance, the same on every machine

    @property
    def images(self):
        """The first view."""
        return self.views[0]

    def parts(self):
        """The sub-batches that a sampler zipped, in order; a batch that was not zipped is its own only
        part."""
        # where each part begins, and the last ends
        ends = np.cumsum([0, *(self.sizes or (len(self.index),))])
        return [self.rows(slice(start, end)) for start, end in itertools.pairwise(ends)]

    def rows(self, some):
        """The sub-batch at a slice, sentences included."""
        carrying = self.carrying()
        # sentences have rows of their own: those of the slice follow those of the rows before it
        sentences = slice(int(carrying[: some.start].sum()), int(carrying[: some.stop].sum()))
        views = [view[some] for view in self.views]
        cached = {name: value[some] for name, value in self.cached.items()}
        return Batch(
            index=self.index[some],
            labels=self.labels[some],
            cameras=self.cameras[some],
            views=views,
            present=cut(self.present, some),
            text=cut(self.text, sentences),
            lengths=self.lengths[sentences],
            captioned=cut(self.captioned, some),
            cached=cached,
            rng=self.rng,
        )

    def carrying(self):
        """(B,) which rows carry a sentence."""
        return np.zeros(len(self.index), bool) if self.captioned is None else self.captioned


def cut(value, some):
    """A slice of what a batch may lack."""
    return None if value is None else value[some]


class ReidData:
    """A manifest ready for training and testing; labels and cameras are numbered by the training split."""

    def __init__(self, manifest, cache=None):
        self.manifest = manifest
        self.cache = cache
        self.train = shots_of(manifest.split("train"))
        self.val = shots_of(manifest.split("val"))
        self.query = shots_of(manifest.split("query"))
        self.gallery = shots_of(manifest.split("gallery"))
        self.pids, self.labels = np.unique(self.train.pids, return_inverse=True)  # (C,) sorted, and (S,)
        self.cameras = np.unique(self.train.camids)

    @property
    def classes(self):
        return len(self.pids)

    @property
    def origin(self):
        """ "real" or "world": it stands beside every number that is made from the data."""
        return self.manifest.origin

    @property
    def parts(self):
        """The sets that a joint one was made of, each with its own gallery and protocol; their cameras are
        unknown. A set alone is its own only part."""
        made_of = [ReidData(part, self.cache).without_cameras() for part in self.manifest.parts]
        return made_of or [self]

    def labels_of(self, split):
        """Class indices (S,) of a split: positions among the training identities, -1 for somebody whom
        training never saw."""
        return place_among(self.pids, getattr(self, split).pids)

    def camera_index(self, camids):
        """Position of each camera among those of the training split, -1 for one that it lacks."""
        return place_among(self.cameras, camids)

    def without_cameras(self):
        """The same data for a model that was trained elsewhere and knows none of these cameras."""
        other = copy.copy(self)
        other.cameras = self.cameras[:0]
        return other

    def without(self, *spectra):
        """The same data with these spectra ("rgb", "nir", "tir") taken away in the test: the missing-modality
        protocol."""
        order = [name for name in MODALITIES if name in set(self.manifest.table.modality)]
        unknown = [name for name in spectra if name not in order]
        if unknown:
            raise ValueError(
                f"expected spectra among {', '.join(order)}, which {self.manifest.name} has, found "
                f"{unknown[0]!r}; correct the name."
            )
        gone = np.isin(order, spectra)  # (M,)
        other = copy.copy(self)
        other.query = replace(self.query, present=self.query.present & ~gone)
        other.gallery = replace(self.gallery, present=self.gallery.present & ~gone)
        return other

    def store(self, split, size, filter):
        """The decoded images of a split; a second call maps the same file."""
        return PixelStore(self.manifest.root, getattr(self, split), tuple(size), filter, self.cache)


def place_among(known, values):
    """Position of each value in the sorted array `known`, -1 for one that is not there."""
    if not len(known):
        return np.full(len(values), -1)
    place = np.searchsorted(known, values).clip(max=len(known) - 1)  # where it would stand
    return np.where(known[place] == values, place, -1)


class Loader:
    """Batches of one stage, the same from any step of any epoch on, however often a run is taken up.

    `stream` names the random numbers of sampler and augmentations; an epoch goes through the data `passes`
    times.
    """

    def __init__(
        self,
        data,
        *,
        size,
        sampler,
        views,
        seed=0,
        device="cpu",
        stream="",
        cached=None,
        captions=None,
        passes=1,
    ):
        self.data = data
        self.size = size
        self.sampler = sampler
        self.views = views
        self.seed = seed
        self.device = device
        self.stream = stream
        self.passes = passes
        self.cached = cached or {}
        self.captions = captions
        self.stores = [data.store("train", size, view.filter).to(device) for view in views]
        self.columns = Columns(data, "train", device)

    @classmethod
    def of_stage(cls, data, size, stage, **more):
        """The Loader that a `methods.base.Stage` asks for."""
        return cls(
            data,
            size=size,
            sampler=stage.sampler,
            views=stage.views,
            stream=stage.stream or stage.name,
            captions=stage.captions,
            **more,
        )

    def plan(self, epoch):
        """The `BatchIndex` of every step of an epoch."""
        rng = SamplerRng(self.seed, "draws", self.stream, epoch)
        return [batch for _ in range(self.passes) for batch in self.sampler.epoch(rng)]

    def batches(self, epoch, plan, first=0):
        """The batches of an epoch's plan from step `first` on; on a GPU, one is read ahead."""
        jobs = (
            (plan[k], generator(self.seed, "views", self.stream, epoch, k)) for k in range(first, len(plan))
        )
        if torch.device(self.device).type == "cpu":
            return (self.batch(*job) for job in jobs)
        return ahead(lambda job: self.batch(*job), jobs)

    def batch(self, chosen, rng):
        """The Batch of a BatchIndex; `rng` decides its augmentations."""
        index = torch.from_numpy(chosen.index.astype(np.int64)).to(self.device, non_blocking=True)  # (B,)
        views = [self.view(k, chosen.index, rng) for k in range(len(self.views))]
        return Batch(
            **self.columns.at(index),
            views=views,
            cached={name: table[index] for name, table in self.cached.items()},
            sizes=chosen.sizes,
            rng=rng,
            **self.sentences(chosen, rng),
        )

    def view(self, k, index, rng):
        pixels = self.stores[k].batch(index, self.device)  # uint8 (B, M, 3, H, W)
        choices = draw_choices(self.views[k], rng, *pixels.shape[:2], *self.size)
        return augment(self.views[k], pixels, choices, int(rng.integers(2**62)))

    def sentences(self, chosen, rng):
        """The sentences that the sampler named; where it names none and the stage has captions, one of each
        row's own."""
        if self.captions is None:
            return {}
        # (B,)
        numbers = self.captions.one_each(chosen.index, rng) if chosen.captions is None else chosen.captions
        text, lengths = self.captions.batch(chosen.index, numbers)  # (N, L) and N numbers
        return {
            "text": text.to(self.device, non_blocking=True),
            "lengths": lengths,
            "captioned": np.asarray(numbers) >= 0,
        }


class Columns:
    """What a Batch says of each shot of a split, as tensors on the device: labels, cameras, and which spectra
    there are."""

    def __init__(self, data, split, device):
        shots = getattr(data, split)
        self.labels = torch.from_numpy(data.labels_of(split)).to(device)  # (S,)
        self.cameras = torch.from_numpy(data.camera_index(shots.camids)).to(device)  # (S,)
        self.present = torch.from_numpy(shots.present).to(device)  # (S, M)

    def at(self, index):
        """The fields of a Batch for the shots `index` (B,), a tensor on the device."""
        return {
            "index": index,
            "labels": self.labels[index],
            "cameras": self.cameras[index],
            "present": self.present[index],
        }


def ahead(work, jobs):
    """Results of `work` in order, each begun by a thread while its predecessor is in use."""
    with ThreadPoolExecutor(1) as pool:
        waiting = None  # the one result that is read ahead
        for job in jobs:
            following = pool.submit(work, job)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def still_batches(data, split, size, view, device="cpu", batch=256):
    """The whole split in order, unaugmented: what testing and caching look at. view None: no image is
    read."""
    count = len(getattr(data, split))
    columns = Columns(data, split, device)
    store = view and data.store(split, size, view.filter).to(device)
    for start in range(0, count, batch):
        some = np.arange(start, min(start + batch, count))
        told = columns.at(torch.from_numpy(some).to(device))
        yield Batch(**told, views=[still(view, store, some, told["present"])] if view else [])


def still(view, store, index, present):
    """Unaugmented images (B, M, 3, H, W) of the shots `index`; a spectrum that is not `present` (B, M) is
    black."""
    pixels = store.batch(index, present.device)  # uint8 (B, M, 3, H, W)
    if not bool(present.all()):
        pixels = pixels.masked_fill(~present[..., None, None, None], 0)  # (B, M, 3, H, W)
    return normalise(view, pixels)


class CaptionTable:
    """Sentences of a split as one ragged table of token ids: uint16, since CLIP's vocabulary has 49,408
    words."""

    def __init__(self, captions, tokenizer):
        tokens = [tokenizer.encode(sentence) for shot in captions for sentence in shot]
        room = tokenizer.context_length - 2  # between the start and the end token
        longer = sum(len(ids) > room for ids in tokens)
        tokens = [[tokenizer.sot_token_id, *ids[:room], tokenizer.eot_token_id] for ids in tokens]
        self.first = np.cumsum([0, *map(len, captions)])  # (S + 1,) each shot's first sentence
        self.start = np.cumsum([0, *map(len, tokens)])  # (sentences + 1,) each sentence's first token
        self.ids = np.array([token for ids in tokens for token in ids], dtype=np.uint16)  # all tokens
        self.counts = np.diff(self.first)  # (S,) sentences of each shot
        self.shortened = longer  # how many sentences lost their end

    def one_each(self, index, rng):
        """The number of one sentence of each row (B,), drawn from its own; -1 where it has none."""
        counts = self.counts[index]  # (B,)
        return np.where(counts > 0, (rng.random(len(index)) * counts).astype(np.int64), -1)

    def batch(self, rows, numbers):
        """Token ids (B, L), zero after the end, and the lengths; a number of -1 stands for no sentence."""
        # N <= B numbers of sentences
        found = [self.first[row] + k for row, k in zip(rows, numbers) if k >= 0]
        sentences = [self.ids[self.start[k] : self.start[k + 1]] for k in found]
        lengths = [len(ids) for ids in sentences]
        text = np.zeros((len(found), max(lengths, default=0)), dtype=np.int64)  # (N, L)
        for row, ids in zip(text, sentences):
            row[: len(ids)] = ids
        return torch.from_numpy(text), lengths


def load_data(name, profile="laptop"):
    """The data set that `data_prep.catalogue` knows by this name, ready for a profile; a world is rendered
    where it is missing."""
    return ReidData(catalogue.read(name, size_of(profile)))


def size_of(profile):
    """The size of the world in a profile."""
    return "smoke" if profile == "smoke" else "laptop"
