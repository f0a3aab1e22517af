"""Manifest -> pixels (uint8, decoded once) -> Batch.

    S shots of a split, M spectra each, B of them in a batch, H x W pixels

There are no worker processes: images are decoded once into a memory map and augmented on the device, so nothing
starves it and nothing makes a seed depend on the machine.
"""

import copy
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data_prep import public
from data_prep.manifest import MODALITIES
from data_prep.world import build as world_build
from data_prep.world.cast import SETS
from data_prep.world.layouts import layout_of
from reid_core.augment import augment, draw_choices, normalise
from reid_core.draws import Dice, generator

ROOT = Path(__file__).resolve().parents[1]
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
DEVICE_SHARE = 0.4  # a store moves to the device when it needs less than this part of the free memory


def build_folder():
    """Where everything goes that can be made again: $REID_BUILD, or build/ in the project."""
    return Path(os.environ.get("REID_BUILD", ROOT / "build"))


def cache_folder():
    """Where decoded images are kept: $REID_CACHE, or cache/ in the build folder."""
    return Path(os.environ.get("REID_CACHE", build_folder() / "cache"))


@dataclass(frozen=True)
class Rows:
    """The shots of a split, as arrays of length S."""

    paths: np.ndarray  # (S, M)
    tiles: np.ndarray  # (S, M), which third of a file's width; -1 is the whole
    pids: np.ndarray
    camids: np.ndarray
    scenes: np.ndarray
    domains: np.ndarray
    captions: list = field(default_factory=list)
    parts: list = field(default_factory=list)

    def __len__(self):
        return len(self.pids)

    def pick(self, index):
        """The rows at `index`, in that order, possibly repeated."""
        arrays = (self.paths, self.tiles, self.pids, self.camids, self.scenes, self.domains)
        said = ([column[k] for k in index] if column else [] for column in (self.captions, self.parts))
        return Rows(*(array[index] for array in arrays), *said)


def rows_of(table):
    """Group a manifest's rows into shots: one entry per shot, one column per modality."""
    if not len(table):
        nothing = np.empty((0, 1), dtype=object), np.empty((0, 1), np.int64)
        return Rows(*nothing, *(np.empty(0, np.int64) for _ in range(3)), np.empty(0, dtype=object))
    order = [name for name in MODALITIES if name in set(table.modality)]
    paths = table.pivot(index="shot", columns="modality", values="path")[order]
    if paths.isna().any(axis=None):
        shot = paths.index[paths.isna().any(axis=1)][0]
        raise ValueError(
            f"expected every shot to have {', '.join(order)}, found shot {shot} without one; add the file."
        )
    first = table.drop_duplicates("shot").set_index("shot").loc[paths.index]
    tiles = table.pivot(index="shot", columns="modality", values="tile")[order].to_numpy()
    columns = [first[name].to_numpy(copy=True) for name in ("pid", "camid", "scene", "domain")]
    return Rows(paths.to_numpy(), tiles, *columns, list(first.captions), list(first.parts))


class PixelStore:
    """Every image of a split at one size, decoded once: `pixels` is (N, 3, H, W) uint8, N = S * M."""

    def __init__(self, root, rows, size, filter, cache=None):
        self.shape, self.M = (rows.paths.size, 3, *size), rows.paths.shape[1]
        files = [(Path(root) / path, int(tile)) for path, tile in zip(rows.paths.ravel(), rows.tiles.ravel())]
        self.path = Path(cache or cache_folder()) / f"{store_key(files, size, filter)}.u8"
        if not self.path.exists():
            decode_all(files, self.path, size, FILTERS[filter])
        self.pixels = torch.from_numpy(np.memmap(self.path, np.uint8, "c", shape=self.shape))

    def to(self, device):
        """Move the pixels to the device if they fit comfortably; otherwise they stay a memory map."""
        device = torch.device(device)
        if device.type == "cuda" and self.pixels.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
            self.pixels = self.pixels.to(device)
        return self

    def batch(self, rows, device):
        """uint8 (B, M, 3, H, W) on the device, for the shots `rows` (a numpy array)."""
        index = torch.from_numpy(rows[:, None] * self.M + np.arange(self.M)).to(self.pixels.device)
        pixels = self.pixels[index]
        if pixels.device.type == "cpu" and torch.device(device).type == "cuda":
            pixels = pixels.pin_memory()
        return pixels.to(device, non_blocking=True)


def store_key(files, size, filter):
    """A name that changes with any file, the size and the filter."""
    stats = [(path, tile, stat_of(path)) for path, tile in files]
    facts = [(str(path), tile, stat.st_size, stat.st_mtime_ns) for path, tile, stat in stats]
    return hashlib.sha256(json.dumps([facts, list(size), filter]).encode()).hexdigest()[:20]


def stat_of(path):
    try:
        return path.stat()
    except FileNotFoundError:
        raise ValueError(
            f"expected an image at {path}, found nothing; run python -m data_prep check."
        ) from None


def decode_all(files, path, size, filter):
    """Decode into a file under a temporary name, then rename it: a store exists whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    total = len(files) * 3 * size[0] * size[1]
    try:
        with open(part, "wb") as out:
            os.posix_fallocate(
                out.fileno(), 0, max(total, 1)
            )  # a full disk is an error here, not a crash later
        pixels = np.memmap(part, np.uint8, "r+", shape=(len(files), 3, *size))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for k, image in enumerate(pool.map(lambda file: decode(file[0], size, filter, file[1]), files)):
                pixels[k] = image
        pixels.flush()
        os.replace(part, path)
    except OSError as error:
        raise ValueError(f"expected room for {total / 1e9:.2f} GB of decoded images in {path.parent}, found "
                         f"{error.strerror}; free some or set REID_CACHE to another folder.") from error  # fmt: skip
    finally:
        part.unlink(missing_ok=True)


def decode(path, size, filter, tile=-1):
    """One image file, or a third of its width, as (3, H, W) uint8, resized as Pillow does (antialiased), like the published
    loaders."""
    try:
        with Image.open(path) as image:
            if tile >= 0:
                image = image.crop((image.width * tile // 3, 0, image.width * (tile + 1) // 3, image.height))
            return np.asarray(image.convert("RGB").resize(size[::-1], filter)).transpose(2, 0, 1)
    except Exception as error:
        found = (
            "an empty file"
            if path.exists() and not path.stat().st_size
            else f"{type(error).__name__} ({error})"
        )
        raise ValueError(
            f"expected a readable image at {path}, found {found}; replace or remove it."
        ) from error


@dataclass
class Batch:
    """What a stage's losses see. `views` holds one tensor (B, M, 3, H, W) per augmentation of the stage."""

    rows: torch.Tensor  # (B,) shot numbers in the training split
    pids: torch.Tensor  # (B,) class indices 0..C-1
    camids: torch.Tensor  # (B,) camera indices, -1 for a camera that training never saw
    views: list
    cached: dict = field(default_factory=dict)  # what the stage's cache says about these rows
    text: torch.Tensor | None = None  # (B, L) token ids
    lengths: list = field(default_factory=list)  # tokens per sentence, on the host
    sizes: tuple = ()  # of the parts that were zipped
    rng: np.random.Generator | None = None  # for a method's own chance, the same on every machine

    @property
    def images(self):
        """The first view."""
        return self.views[0]


class ReidData:
    """A manifest ready for training and testing; labels and cameras are numbered by the training split."""

    def __init__(self, manifest, cache=None):
        self.manifest, self.cache = manifest, cache
        self.train, self.val, self.query, self.gallery = (
            rows_of(manifest.split(name)) for name in ("train", "val", "query", "gallery")
        )
        self.pids, self.labels = np.unique(self.train.pids, return_inverse=True)
        self.cameras = np.unique(self.train.camids)

    @property
    def classes(self):
        return len(self.pids)

    @property
    def label(self):
        return self.manifest.label

    def camera_index(self, camids):
        """Position of each camera among those of the training split, -1 for one that it lacks."""
        place = np.searchsorted(self.cameras, camids).clip(max=len(self.cameras) - 1)
        return (
            np.where(self.cameras[place] == camids, place, -1)
            if len(self.cameras)
            else np.full(len(camids), -1)
        )

    def abroad(self):
        """The same data for a model that was trained elsewhere and knows none of these cameras."""
        other = copy.copy(self)
        other.cameras = self.cameras[:0]
        return other

    def store(self, split, size, filter):
        """The decoded images of a split; a second call maps the same file."""
        return PixelStore(self.manifest.root, getattr(self, split), tuple(size), filter, self.cache)


class Loader:
    """Batches of one stage, the same from any step of any epoch on, however often a run is taken up."""

    def __init__(self, data, size, draws, views, seed, device, name="", cached=None, captions=None, passes=1):
        self.data, self.size, self.draws, self.views, self.passes = data, size, draws, views, passes
        self.seed, self.device, self.name, self.cached, self.captions = (
            seed,
            device,
            name,
            cached or {},
            captions,
        )
        self.stores = [data.store("train", size, view.filter).to(device) for view in views]
        self.labels = torch.from_numpy(data.labels).to(device)
        self.camids = torch.from_numpy(data.camera_index(data.train.camids)).to(device)

    def plan(self, epoch):
        """The draws of an epoch, which goes through the data `passes` times."""
        dice = Dice(self.seed, "draws", self.name, epoch)
        return [draw for _ in range(self.passes) for draw in self.draws.epoch(dice)]

    def batches(self, epoch, plan, first=0):
        """The batches of an epoch's plan from step `first` on; on a GPU, one is read ahead."""
        jobs = (
            (plan[k], generator(self.seed, "views", self.name, epoch, k)) for k in range(first, len(plan))
        )
        if torch.device(self.device).type == "cpu":
            return (self.batch(*job) for job in jobs)
        return ahead(lambda job: self.batch(*job), jobs)

    def batch(self, draw, rng):
        rows = torch.from_numpy(draw.rows.astype(np.int64)).to(self.device, non_blocking=True)
        views = [self.view(k, draw.rows, rng) for k in range(len(self.views))]
        text, lengths = (
            self.captions.batch(draw.rows, draw.captions) if draw.captions is not None else (None, [])
        )
        text = text if text is None else text.to(self.device, non_blocking=True)
        cached = {name: table[rows] for name, table in self.cached.items()}
        return Batch(
            rows, self.labels[rows], self.camids[rows], views, cached, text, lengths, draw.sizes, rng
        )

    def view(self, k, rows, rng):
        pixels = self.stores[k].batch(rows, self.device)
        choices = draw_choices(self.views[k], rng, *pixels.shape[:2], *self.size)
        return augment(self.views[k], pixels, choices, int(rng.integers(2**62)))


def ahead(work, jobs):
    """Results of `work` in order, each begun by a thread while its predecessor is in use."""
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for job in jobs:
            following = pool.submit(work, job)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


def still_batches(data, split, size, view, device="cpu", batch=256):
    """The whole split in order, unaugmented: what testing and caching look at."""
    rows = getattr(data, split)
    store = data.store(split, size, view.filter).to(device)
    camids = torch.from_numpy(data.camera_index(rows.camids))
    pids = torch.from_numpy(rows.pids)
    for start in range(0, len(rows), batch):
        index = np.arange(start, min(start + batch, len(rows)))
        images = normalise(view, store.batch(index, device))
        yield Batch(torch.from_numpy(index), pids[index], camids[index].to(device), [images])


class CaptionTable:
    """Sentences of a split as one ragged table of token ids: uint16, since CLIP's vocabulary has 49,408 words."""

    def __init__(self, captions, tokenizer):
        tokens = [tokenizer.encode(sentence) for shot in captions for sentence in shot]
        tokens = [
            [tokenizer.sot_token_id, *ids[: tokenizer.context_length - 2], tokenizer.eot_token_id]
            for ids in tokens
        ]
        self.first = np.cumsum([0, *map(len, captions)])
        self.start = np.cumsum([0, *map(len, tokens)])
        self.ids = np.array([token for ids in tokens for token in ids], dtype=np.uint16)
        self.counts = np.diff(self.first)

    def batch(self, rows, numbers):
        """Token ids (B, L), zero after the end, and the lengths; a number of -1 stands for no sentence."""
        found = [self.first[row] + k for row, k in zip(rows, numbers) if k >= 0]
        sentences = [self.ids[self.start[k] : self.start[k + 1]] for k in found]
        lengths = [len(ids) for ids in sentences]
        text = np.zeros((len(found), max(lengths, default=0)), dtype=np.int64)
        for row, ids in zip(text, sentences):
            row[: len(ids)] = ids
        return torch.from_numpy(text), lengths


def load_data(name, profile="laptop"):
    """The data set called `name`: "world_market" (or "world_market#7", of seed 7) is rendered where it is missing, a
    path to a table (*.csv, or *.csv#scene for that protocol) is read, anything else ("viper#pad_jul": a variant) is looked
    for under $REID_DATA. REID_ALLOW_COUNT_MISMATCH=1 takes a part of a data set for the whole."""
    first, _, second = name.partition("#")
    if name.startswith("world_"):
        return ReidData(world(first, second, profile))
    if first.endswith(".csv"):
        return ReidData(public.read(f"csv#{second or 'market'}", first))
    root = os.environ.get("REID_DATA")
    if not root:
        raise ValueError(f"expected the folder of your data sets in $REID_DATA for {name}, found it unset; set it, or use "
                         f"the data set world_market.")  # fmt: skip
    folder = Path(root) / first if (Path(root) / first).is_dir() else root
    allowed = os.environ.get("REID_ALLOW_COUNT_MISMATCH") == "1"
    return ReidData(public.read(name, folder, allow_count_mismatch=allowed))


def world(name, seed, profile):
    """The manifest of a synthetic data set, rendered first if need be."""
    if name not in SETS:
        raise ValueError(f"expected a world among {', '.join(SETS)}, found {name!r}; correct the name.")
    folder = world_build.cached(build_folder() / "world", scale(profile), seed or 0, name)
    return public.read(layout_of(name).reader, folder)


def scale(profile):
    """The size of the world in a profile."""
    return "smoke" if profile == "smoke" else "laptop"


def fingerprint_of(name, profile="laptop"):
    """The fingerprint of a data set; for that of a world nothing is rendered."""
    first, _, seed = name.partition("#")
    if first in SETS:
        return world_build.fingerprint(first, scale(profile), seed or 0)
    return load_data(name, profile).manifest.fingerprint
