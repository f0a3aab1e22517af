"""CMC, mAP and mINP from ranks: pure functions of features, identities and marks (cameras or scenes), in
blocks, on the device.

    Q queries, b of them in a block, V of them valid, G gallery items, D width of a feature; N the largest
    number of true matches of a query

Only true matches are ranked: the rank of a match is one plus the number of gallery items that come before it.
Ties count against the query: if all features are equal, the true matches take the last ranks.
"""

import functools
import pickle
from typing import NamedTuple

import numba
import numpy as np
import torch

MAX_RANK = 50
BLOCK = 256  # queries ranked together: memory grows with the block, not with Q x G


class Scores(NamedTuple):
    """One value per valid query, so that intervals can be computed; means over queries are properties."""

    ap: np.ndarray  # (V,) average precision: mean over matches of the precision at their rank
    ap_trapezoid: np.ndarray  # (V,) as the official Market-1501 script integrates it
    inp: np.ndarray  # (V,) matches / rank of the last match
    first: np.ndarray  # (V,) rank of the first match
    valid: np.ndarray  # (V,) positions of the valid queries: those with a true match left in the gallery
    skipped: int
    gallery: int
    pids: np.ndarray | None = None  # (V,) identities of the valid queries
    protocol: str = ""  # in words (`evaluate.protocol_words`)

    @property
    def mAP(self):
        return float(self.ap.mean())

    @property
    def mAP_trapezoid(self):
        return float(self.ap_trapezoid.mean())

    @property
    def mINP(self):
        return float(self.inp.mean())

    def cmc(self, longest=MAX_RANK):
        """Share of queries with a match within the first k, k = 1..longest (shorter where the gallery is)."""
        ranks = np.arange(1, min(longest, self.gallery) + 1)
        return (self.first[:, None] <= ranks).mean(0)

    def summary(self):
        """{name: value in per cent}: mAP, trapezoidal mAP, mINP, R1, R5 and R10."""
        cmc = self.cmc()
        at = {f"R{k}": cmc[min(k, len(cmc)) - 1] for k in (1, 5, 10)}
        values = {"mAP": self.mAP, "mAP trapezoidal": self.mAP_trapezoid, "mINP": self.mINP, **at}
        return {name: 100 * float(value) for name, value in values.items()}


def concatenated(parts):
    """The Scores of several rankings as one; `gallery` is that of the smallest."""
    columns = zip(*(part[:5] for part in parts))  # ap, ap_trapezoid, inp, first, valid
    skipped = sum(part.skipped for part in parts)
    gallery = min(part.gallery for part in parts)
    return Scores(*map(np.concatenate, columns), skipped, gallery)


def rank(query, gallery, query_pids, gallery_pids, query_marks, gallery_marks, junk=None, distance=None):
    """Scores of ranking the gallery (G, D) for each query (Q, D) by dot product, or by a precomputed tensor
    `distance` (Q, G), smaller is nearer.

    A gallery item with the query's identity *and* mark (camera or scene) is left out for that query; an item
    of pid -1, or marked in `junk` (G,), is left out for all. A query without a match left is skipped and
    counted. ValueError for a similarity that is no finite number: it would beat every threshold, or none.
    """
    table = Candidates(query_pids, gallery_pids, query_marks, gallery_marks)
    # positions that no query may find
    everywhere = np.flatnonzero(
        (np.asarray(gallery_pids) == -1) | (False if junk is None else np.asarray(junk))
    )
    ranks = []
    for start in range(0, len(query_pids), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(query_pids)))
        # (b, G), larger is nearer
        near = -distance[block] if distance is not None else query[block] @ gallery.T
        check_finite(
            near, "similarities of queries and gallery"
        )  # before items are put behind everything by -inf
        ranks += table.ranks(block, near, everywhere)
    return from_ranks(ranks, len(gallery_pids))


def check_finite(values, called):
    """ValueError unless all of a tensor are finite numbers."""
    if not values.numel():
        return
    low, high = values.aminmax()  # both are NaN where any is
    if not torch.isfinite(low) or not torch.isfinite(high):
        raise ValueError(
            f"expected finite {called}, found {float(low):g} to {float(high):g}; the training diverged: "
            "lower its learning rates."
        )


class Candidates:
    """For each query, the gallery items of its identity: true matches, and those to leave out."""

    def __init__(self, query_pids, gallery_pids, query_marks, gallery_marks):
        self.query_marks = np.asarray(query_marks)  # (Q,)
        self.gallery_marks = np.asarray(gallery_marks)  # (G,)
        self.order = np.argsort(gallery_pids, kind="stable")  # (G,), items of one identity side by side
        sorted_pids = np.asarray(gallery_pids)[self.order]  # (G,)
        self.start = np.searchsorted(sorted_pids, query_pids, "left")  # (Q,), where its identity begins
        self.end = np.searchsorted(sorted_pids, query_pids, "right")  # (Q,), and ends

    def ranks(self, block, near, everywhere):
        """Ranks (ascending arrays from 1) of the matches of each query in the block; `near` (b, G) is
        overwritten."""
        near[:, torch.from_numpy(everywhere).to(near.device)] = -torch.inf
        # per query of the block: all of its identity, those to leave out, and the true matches
        same = [np.setdiff1d(self.order[self.start[q] : self.end[q]], everywhere) for q in block]
        out = [items[self.gallery_marks[items] == self.query_marks[q]] for q, items in zip(block, same)]
        matches = [np.setdiff1d(items, left, assume_unique=True) for items, left in zip(same, out)]
        row, column = pairs(out, near.device)
        near[row, column] = -torch.inf  # behind everything
        row, column = pairs(matches, near.device)
        table = near.new_full((len(block), max(map(len, matches), default=0)), torch.inf)  # (b, N), padded
        # column in the table
        place = torch.cat([torch.arange(len(items)) for items in matches]).to(near.device)
        table[row, place] = near[row, column]
        table = table.sort(1).values  # ascending: the nearest match last, before the padding
        before = count_not_below(near, table).cpu().numpy()  # (b, N), largest rank first
        return [spread_ties(np.sort(before[k, : len(items)])) for k, items in enumerate(matches)]


def spread_ties(ranks):
    """Consecutive ranks for matches that tie with each other, the last being the worst: (2, 2) -> (1, 2)."""
    last = np.searchsorted(ranks, ranks, side="right") - 1  # the last place of each run of equal ranks
    return ranks - (last - np.arange(len(ranks)))


def pairs(lists, device):
    """Index tensors of all (k, item) pairs, for the items of the k-th list."""
    row = np.repeat(np.arange(len(lists)), [len(items) for items in lists])  # (pairs,)
    # (pairs,); the empty array fixes the type where there are none
    column = np.concatenate([*lists, np.empty(0, dtype=np.int64)]).astype(np.int64)
    return torch.from_numpy(row).to(device), torch.from_numpy(column).to(device)


def count_not_below(near, thresholds):
    """How many entries of `near` (b, G) are at least each of its query's thresholds (b, N): the ranks of the
    matches whose similarities these are, ties at their worst.

    On the CPU numba counts in one vectorised pass; on a GPU each entry is placed among the thresholds by
    binary search.
    """
    if near.device.type == "cpu":
        found = np.empty(thresholds.shape, dtype=np.int64)  # (b, N)
        threads = torch.get_num_threads()
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        count_on_cpu(near.numpy(), thresholds.numpy(), found)
        # watch out: numba and torch share OpenMP's number of threads, on which the last bits of a sum depend
        torch.set_num_threads(threads)
        return torch.from_numpy(found)
    place = torch.searchsorted(thresholds, near, right=True)  # thresholds not above the entry
    # (b, N + 1)
    hits = torch.zeros(len(near), thresholds.shape[1] + 1, dtype=torch.int64, device=near.device)
    hits.scatter_add_(1, place, torch.ones_like(place))
    return hits.flip(1).cumsum(1).flip(1)[:, 1:]  # sums from the right: (b, N)


def compiled(function):
    """A function compiled for all cores, once for all processes: in each anew where there is no place to keep
    it (a read-only checkout without a home), and again where what was kept is cut."""
    try:
        fast = numba.njit(parallel=True, cache=True)(function)
    except RuntimeError:
        fast = numba.njit(parallel=True)(function)

    @functools.wraps(function)
    def called(*arrays):
        try:
            return fast(*arrays)
        except (pickle.UnpicklingError, EOFError):
            fast.recompile()  # which empties the cache
            return fast(*arrays)

    return called


@compiled
def count_on_cpu(near, thresholds, found):
    """Write the counts of `count_not_below` into `found` (b, N)."""
    for row in numba.prange(near.shape[0]):
        for column in range(thresholds.shape[1]):
            limit = thresholds[row, column]
            count = np.int32(0)  # 32 bits, as the similarities: both fit one vector register
            for item in range(near.shape[1]):
                count += np.int32(near[row, item] >= limit)
            found[row, column] = count


def from_ranks(ranks, gallery):
    """Scores from the ascending ranks of each query's matches."""
    valid = np.array([k for k, r in enumerate(ranks) if len(r)], dtype=np.int64)  # (V,)
    kept = [ranks[k] for k in valid]
    number = [np.arange(1, len(r) + 1) for r in kept]  # matches up to and including each
    precision = [n / r for n, r in zip(number, kept)]  # at each match
    # precision one rank earlier; before rank 1 it is 1, as in the official script
    just_before = [np.where(r > 1, (n - 1) / np.maximum(r - 1, 1), 1.0) for n, r in zip(number, kept)]
    ap = np.array([p.mean() for p in precision])
    ap_trapezoid = np.array([((p + b) / 2).mean() for p, b in zip(precision, just_before)])
    inp = np.array([len(r) / r[-1] for r in kept])
    first = np.array([r[0] for r in kept])
    return Scores(
        ap=ap,
        ap_trapezoid=ap_trapezoid,
        inp=inp,
        first=first,
        valid=valid,
        skipped=len(ranks) - len(valid),
        gallery=gallery,
    )
