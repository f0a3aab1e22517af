"""Which rows make a batch, in which order. Everything is a function of (seed, epoch): no generator state is kept,
so a run can be taken up anywhere.

    B rows in a batch, P identities of K images each
"""

import hashlib
from collections import defaultdict
from typing import NamedTuple

import numpy as np


class Draw(NamedTuple):
    """One batch: row numbers (B,), the number of each row's sentence (B,) or None, and the sizes of its parts."""

    rows: np.ndarray
    captions: np.ndarray | None = None
    sizes: tuple = ()


def generator(*key):
    """A numpy generator that depends on the key alone."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest)))


class Dice:
    """The three kinds of chance that samplers need. Tests replace it to repeat published streams."""

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
    """Every row once per epoch, in random order."""

    def __init__(self, rows, batch, drop_last=False):
        self.rows, self.batch, self.drop_last = np.asarray(rows), batch, drop_last

    def epoch(self, dice):
        order = np.array(dice.shuffle(self.rows))
        end = len(order) - len(order) % self.batch if self.drop_last else len(order)
        return [Draw(order[k : k + self.batch]) for k in range(0, end, self.batch)]


class CaptionShuffle:
    """Every (row, sentence) pair once per epoch, in random order. `counts` holds the sentences of each row."""

    def __init__(self, rows, counts, batch, drop_last=True):
        self.pairs = [(row, k) for row in rows for k in range(counts[row])]
        self.batch, self.drop_last = batch, drop_last

    def epoch(self, dice):
        draws = Shuffle(range(len(self.pairs)), self.batch, self.drop_last).epoch(dice)
        return [Draw(*np.array([self.pairs[k] for k in draw.rows]).T) for draw in draws]


class IdentityBatches:
    """P identities x K images (CLIP-ReID; Hermans et al. 2017).

    Each identity's images are shuffled and cut into groups of K, a remainder is dropped, and an identity with fewer
    than K images is drawn K times with replacement. Batches take one group from each of P random identities, until
    fewer than P identities have any left. `rows` restricts the draw to some rows; all unless told.
    """

    def __init__(self, pids, identities, images, rows=None):
        self.P, self.K = identities, images
        self.rows = defaultdict(list)
        for row in range(len(pids)) if rows is None else rows:
            self.rows[int(pids[row])].append(int(row))
        if len(self.rows) < identities:
            raise ValueError(f"expected at least {identities} identities for a batch, found {len(self.rows)}; "
                             f"lower the recipe's identities per batch or add data.")  # fmt: skip

    def epoch(self, dice):
        groups = {pid: self.groups(rows, dice) for pid, rows in self.rows.items()}
        left, batches = list(groups), []
        while len(left) >= self.P:
            chosen = dice.sample(left, self.P)
            batches.append(Draw(np.concatenate([groups[pid].pop(0) for pid in chosen])))
            left = [pid for pid in left if groups[pid]]
        return batches

    def groups(self, rows, dice):
        if len(rows) < self.K:
            rows = dice.repeat(rows, self.K)
        rows = dice.shuffle(rows)
        return [np.array(rows[k : k + self.K]) for k in range(0, len(rows) - self.K + 1, self.K)]


class CameraBatches:
    """P identities x K images, the others of a group from other cameras than its first where there are any (VLADR).

    One pass takes one group of every identity; passes follow each other until `steps` batches are drawn.
    """

    def __init__(self, pids, camids, identities, images, steps):
        self.pids, self.camids = np.asarray(pids), np.asarray(camids)
        self.P, self.K, self.steps = identities, images, steps
        self.identities = list(dict.fromkeys(self.pids.tolist()))

    def epoch(self, dice):
        batches = []
        while len(batches) < self.steps:
            order = dice.shuffle(self.identities)
            groups = [self.group(pid, dice) for pid in order]
            batches += [
                Draw(np.concatenate(groups[k : k + self.P]))
                for k in range(0, len(groups) - self.P + 1, self.P)
            ]
        return batches[: self.steps]

    def group(self, pid, dice):
        rows = np.flatnonzero(self.pids == pid)
        first = dice.sample(rows, 1)[0]
        others = rows[self.camids[rows] != self.camids[first]]
        others = others if len(others) else rows[rows != first]
        others = others if len(others) else rows
        more = dice.sample(others, self.K - 1) if len(others) >= self.K else dice.repeat(others, self.K - 1)
        return np.array([first, *more])


class Zipped:
    """Two samplers side by side (HPL): the first defines the epoch, the second starts again as often as it must."""

    def __init__(self, first, second):
        self.first, self.second = first, second

    def epoch(self, dice):
        batches = []
        for one, two in zip(self.first.epoch(dice), endless(self.second, dice)):
            captions = np.concatenate([one.captions, np.full(len(two.rows), -1)])
            batches.append(
                Draw(np.concatenate([one.rows, two.rows]), captions, (len(one.rows), len(two.rows)))
            )
        return batches


def endless(sampler, dice):
    while True:
        yield from sampler.epoch(dice)
