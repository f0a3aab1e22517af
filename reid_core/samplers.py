"""Which shots make a batch, and in which order. A sampler keeps no state: its epoch is a function of the seed
and the epoch's number, so that a run can be resumed anywhere.

    S shots of a split, B of them in a batch, P identities of K images each

`rows` are positions of shots in the split.
"""

import hashlib
from collections import defaultdict
from typing import NamedTuple

import numpy as np


class BatchIndex(NamedTuple):
    """What a sampler yields for one batch: positions in the split (B,), the number of each shot's sentence
    (B,) with -1 for none (or None), and the sizes of the parts that `Zipped` joined."""

    index: np.ndarray
    captions: np.ndarray | None = None
    sizes: tuple = ()


def generator(*key):
    """A numpy generator whose stream depends on the key alone."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest)))


class SamplerRng:
    """The three kinds of random decision that samplers take, from the stream of one key. Tests replace it to
    repeat published streams."""

    def __init__(self, *key):
        self.rng = generator(*key)

    def shuffle(self, items):
        """A list in random order."""
        return [items[k] for k in self.rng.permutation(len(items))]

    def repeat(self, items, number):
        """`number` items, drawn with replacement."""
        return [items[k] for k in self.rng.integers(len(items), size=number)]

    def sample(self, items, number):
        """`number` different items."""
        return [items[k] for k in self.rng.choice(len(items), number, replace=False)]


class Shuffle:
    """Every shot once per epoch, in random order."""

    def __init__(self, rows, batch, drop_last=False):
        self.rows, self.batch, self.drop_last = np.asarray(rows), batch, drop_last

    def epoch(self, rng):
        order = np.array(rng.shuffle(self.rows))
        end = len(order) - len(order) % self.batch if self.drop_last else len(order)
        return [BatchIndex(order[k : k + self.batch]) for k in range(0, end, self.batch)]


class CaptionShuffle:
    """Every (shot, sentence) pair once per epoch, in random order, or the first `most` pairs of that order,
    at least one batch; `counts` (S,) is the number of sentences of each shot."""

    def __init__(self, rows, counts, batch, drop_last=True, most=0):
        self.pairs = [(row, k) for row in rows for k in range(counts[row])]
        self.batch, self.drop_last = batch, drop_last
        self.batches = max(most // batch, 1) if most else None

    def epoch(self, rng):
        batches = Shuffle(range(len(self.pairs)), self.batch, self.drop_last).epoch(rng)[: self.batches]
        return [BatchIndex(*np.array([self.pairs[k] for k in batch.index]).T) for batch in batches]


class IdentityBatches:
    """P identities x K images (CLIP-ReID; Hermans et al. 2017).

    Each identity's images are shuffled and cut into groups of K, a remainder is dropped, and of an identity
    with fewer than K images K are drawn with replacement. Batches take one group from each of P random
    identities, until fewer than P identities have any left. `rows` restricts sampling to some shots of the
    split. ValueError for fewer than P identities.
    """

    def __init__(self, pids, identities, images, rows=None):
        self.P, self.K = identities, images
        self.rows = defaultdict(list)
        for row in range(len(pids)) if rows is None else rows:
            self.rows[int(pids[row])].append(int(row))
        if len(self.rows) < identities:
            raise ValueError(
                f"expected at least {identities} identities for a batch, found {len(self.rows)}; lower the "
                "recipe's identities per batch or add data."
            )

    def epoch(self, rng):
        groups = {pid: self.groups(rows, rng) for pid, rows in self.rows.items()}
        left, batches = list(groups), []
        while len(left) >= self.P:
            chosen = rng.sample(left, self.P)
            batches.append(BatchIndex(np.concatenate([groups[pid].pop(0) for pid in chosen])))
            left = [pid for pid in left if groups[pid]]
        return batches

    def groups(self, rows, rng):
        if len(rows) < self.K:
            rows = rng.repeat(rows, self.K)
        rows = rng.shuffle(rows)
        return [np.array(rows[k : k + self.K]) for k in range(0, len(rows) - self.K + 1, self.K)]


class CameraBatches:
    """P identities x K images (VLADR): the first image of a group is random, the others come from other
    cameras where the identity has any.

    One pass takes one group of every identity; passes are repeated until there are `steps` batches.
    """

    def __init__(self, pids, camids, identities, images, steps):
        self.pids, self.camids = np.asarray(pids), np.asarray(camids)
        self.P, self.K, self.steps = identities, images, steps
        self.identities = list(dict.fromkeys(self.pids.tolist()))
        if len(self.identities) < identities:  # no pass would ever fill a batch
            raise ValueError(
                f"expected at least {identities} identities for a batch, found {len(self.identities)}; lower "
                "the recipe's number or add data."
            )

    def epoch(self, rng):
        batches = []
        while len(batches) < self.steps:
            order = rng.shuffle(self.identities)
            groups = [self.group(pid, rng) for pid in order]
            batches += [
                BatchIndex(np.concatenate(groups[k : k + self.P]))
                for k in range(0, len(groups) - self.P + 1, self.P)
            ]
        return batches[: self.steps]

    def group(self, pid, rng):
        rows = np.flatnonzero(self.pids == pid)
        first = rng.sample(rows, 1)[0]
        others = rows[self.camids[rows] != self.camids[first]]
        others = others if len(others) else rows[rows != first]
        others = others if len(others) else rows
        more = rng.sample(others, self.K - 1) if len(others) >= self.K else rng.repeat(others, self.K - 1)
        return np.array([first, *more])


class Zipped:
    """Two samplers side by side (HPL): each batch joins a batch of both. The first defines the length of the
    epoch, the second starts again as often as needed."""

    def __init__(self, first, second):
        self.first, self.second = first, second

    def epoch(self, rng):
        batches = []
        for one, two in zip(self.first.epoch(rng), endless(self.second, rng)):
            sizes = (len(one.index), len(two.index))
            captions = np.concatenate([numbers_of(one), numbers_of(two)])
            batches.append(BatchIndex(np.concatenate([one.index, two.index]), captions, sizes))
        return batches


def numbers_of(batch):
    """The number of each shot's sentence (B,); -1 where the sampler attaches none."""
    return np.full(len(batch.index), -1) if batch.captions is None else batch.captions


def endless(sampler, rng):
    """The batches of a sampler, epoch after epoch."""
    while True:
        yield from sampler.epoch(rng)
