"""embed, rank, score: how well a query's true matches are found, in blocks, on the device.

    Q queries, G gallery items, D features; N the largest number of gallery items that share a query's identity

Only true matches are ranked: the rank of a match is one plus the number of gallery items that come before it. Ties
count against the query, so a model that gives one vector to everybody scores as badly as it is.
"""

from typing import NamedTuple

import numba
import numpy as np
import torch
import torch.nn.functional as F

from data_prep.manifest import PROTOCOLS
from reid_core.data import Batch, CaptionTable, still_batches
from reid_core.rerank import rerank

MAX_RANK = 50
BLOCK = 256  # queries ranked together: memory grows with the block, not with Q x G
COLUMNS = {"camid": "camids", "scene": "scenes", None: None}  # of a manifest -> of Rows
WORDS = {
    "market": "gallery images of the query's identity and camera left out",
    "scene": "gallery images of the query's identity and scene left out",
    "all": "no gallery image left out",
}


class Scores(NamedTuple):
    """Per valid query (V of them), so that intervals can be computed; means are properties."""

    ap: np.ndarray  # (V,) average precision: mean over matches of the precision at their rank
    ap_trapezoid: np.ndarray  # (V,) as the official Market-1501 script integrates it
    inp: np.ndarray  # (V,) matches / rank of the last match
    first: np.ndarray  # (V,) rank of the first match
    valid: np.ndarray  # (V,) positions of the valid queries; the others have no match left
    skipped: int
    gallery: int
    pids: np.ndarray | None = None  # (V,) identities of the valid queries
    protocol: str = ""  # in words: a number without it means nothing

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
        """What a table shows, in per cent."""
        cmc = self.cmc()
        at = {f"R{k}": cmc[min(k, len(cmc)) - 1] for k in (1, 5, 10)}
        values = {"mAP": self.mAP, "mAP trapezoidal": self.mAP_trapezoid, "mINP": self.mINP, **at}
        return {name: 100 * float(value) for name, value in values.items()}


def test(method, data, device=None, precision="fp32", ways=None):
    """{task: Scores} of the first `ways` ways of searching that the method has (None: of all that the data has queries for).
    Images are gone through once, for all tasks."""
    method.eval()
    device = device or next(method.parameters()).device
    tasks = dict(list(able(method, data).items())[:ways])
    asks = {"query": [task.query for task in tasks.values() if task.asks == "image"],
            "gallery": [task.gallery for task in tasks.values()]}  # fmt: skip
    seen = {split: embed_all(encoders, data, split, method.size, method.test_view(), device, precision)
            for split, encoders in asks.items()}  # fmt: skip
    return {name: run_task(task, method, data, seen, device, precision) for name, task in tasks.items()}


def able(method, data):
    """{task: Task} of a method that a data set has queries for: images of its query split, or sentences about its gallery."""
    there = {"image": len(data.query) > 0, "text": any(data.gallery.captions)}
    found = {name: task for name, task in method.retrieval_tasks().items() if there[task.asks]}
    if not found:
        raise ValueError(f"expected queries that {type(method).__name__} can ask with, found "
                         f"{len(data.query)} images in the query split of {data.manifest.name}; choose a data set that is "
                         f"searched with images.")  # fmt: skip
    return found


def run_task(task, method, data, seen, device, precision):
    """Scores of one way of searching; `seen` is {split: {encoder: features}}. Queries are the images of the query split, or every
    sentence of the gallery's images. Images go by the data set's protocol; a sentence by its task's, since no camera says it."""
    gallery, trials = seen["gallery"][task.gallery], data.manifest.trials
    if task.asks == "text":
        query, rows = embed_text(task.query, data.gallery, method.tokenizer, device, precision)
        protocol, trials = task.protocol, None
    else:
        query, rows, protocol = seen["query"][task.query], data.query, data.manifest.protocol
    found = score_draws(query, gallery, rows, data.gallery, protocol, trials, task.rerank)
    return found._replace(
        pids=rows.pids[found.valid], protocol=protocol_words(task.asks, data, protocol, task.rerank)
    )


def protocol_words(asks, data, protocol, reranked=False):
    """One sentence that says what was ranked against what."""
    trials, words = (
        data.manifest.trials,
        [f"{'every sentence' if asks == 'text' else 'images'} asked", WORDS[protocol]],
    )
    if asks == "image" and trials:
        words.append(trials.words)
    elif asks == "image" and np.array_equal(data.query.paths, data.gallery.paths):
        words.append("all test images are queries and gallery")
    if reranked:
        words.append(f"re-ranked by k-reciprocal neighbours {rerank.__defaults__}")
    return "; ".join(words)


def score_draws(query, gallery, query_rows, gallery_rows, protocol, trials=None, reranked=False):
    """Scores over all draws of queries and gallery (`data_prep.manifest.Trials`), each ranked by itself; features are those of
    all images, taken once. Draws of one set ask equally often, so the mean over queries is the mean over draws."""
    if trials is None:
        return score(query, gallery, query_rows, gallery_rows, protocol, reranked)
    parts = []
    for asked, shown in trials.draws:
        asked, shown = np.array(asked, np.int64), np.array(shown, np.int64)
        part = score(
            query[asked], gallery[shown], query_rows.pick(asked), gallery_rows.pick(shown), protocol, reranked
        )
        parts.append(part._replace(valid=asked[part.valid]))
    return concatenated(parts)


def concatenated(parts):
    """The Scores of several rankings as one."""
    arrays = (np.concatenate([getattr(part, name) for part in parts]) for name in Scores._fields[:5])
    return Scores(*arrays, sum(part.skipped for part in parts), min(part.gallery for part in parts))


@torch.inference_mode()
def embed(encode, data, split, size, view, device, precision="fp32"):
    """Features (S, D) of a split, float32 on the device, of unit length."""
    return embed_all([encode], data, split, size, view, device, precision)[encode]


@torch.inference_mode()
def embed_all(encoders, data, split, size, view, device, precision="fp32"):
    """{encoder: features (S, D)} of a split, as `embed`; all of them see a batch before the next one comes."""
    found = {encode: [] for encode in encoders}
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
        for batch in still_batches(data, split, size, view, device):
            for encode, parts in found.items():
                parts.append(F.normalize(encode(batch).float(), dim=1))
    return {encode: torch.cat(parts) for encode, parts in found.items()}


@torch.inference_mode()
def embed_text(encode, rows, tokenizer, device, precision="fp32", batch=256):
    """Features (sentences, D) of all sentences of a split, and the Rows that say whose each is."""
    table = CaptionTable(rows.captions, tokenizer)
    owner = np.repeat(np.arange(len(rows)), table.counts)
    number = np.concatenate([np.arange(count) for count in table.counts])
    found = []
    for start in range(0, len(owner), batch):
        some = slice(start, start + batch)
        text, lengths = table.batch(owner[some], number[some])
        asked = Batch(torch.from_numpy(owner[some]), None, None, [], text=text.to(device), lengths=lengths)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision == "bf16"):
            found.append(F.normalize(encode(asked).float(), dim=1))
    return torch.cat(found), rows.pick(owner)


def column_of(protocol):
    """The column of Rows in which a query and a gallery image of its identity must differ, or None."""
    return COLUMNS[PROTOCOLS[protocol]]


def score(query, gallery, query_rows, gallery_rows, protocol="market", reranked=False):
    """Scores of cosine ranking: features (Q, D) and (G, D) of unit length, and the Rows they belong to. `reranked`: by
    k-reciprocal neighbours (Zhong et al. 2017) with the numbers of CLIP-ReID's code."""
    column = column_of(protocol)
    marks = (np.zeros(len(query)), np.ones(len(gallery))) if column is None else (
        getattr(query_rows, column), getattr(gallery_rows, column))  # fmt: skip
    distance = rerank(query, gallery) if reranked else None
    return rank(query, gallery, query_rows.pids, gallery_rows.pids, *marks, distance=distance)


def rank(query, gallery, query_pids, gallery_pids, query_marks, gallery_marks, junk=None, distance=None):
    """Scores from features, or from a precomputed tensor `distance` (Q, G), smaller is nearer; features are then None.

    A gallery item with the query's identity *and* mark (camera or scene) is left out for that query, an item of pid -1
    or marked in `junk` (G,) for all. A query without a match left is skipped and counted.
    """
    table = Candidates(query_pids, gallery_pids, query_marks, gallery_marks)
    everywhere = np.flatnonzero(
        (np.asarray(gallery_pids) == -1) | (False if junk is None else np.asarray(junk))
    )
    ranks = []
    for start in range(0, len(query_pids), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(query_pids)))
        near = -distance[block] if distance is not None else query[block] @ gallery.T
        ranks += table.ranks(block, near, everywhere)
    return from_ranks(ranks, len(gallery_pids))


class Candidates:
    """For each query, the gallery items of its identity: matches and those to leave out."""

    def __init__(self, query_pids, gallery_pids, query_marks, gallery_marks):
        self.marks = np.asarray(query_marks), np.asarray(gallery_marks)
        self.order = np.argsort(gallery_pids, kind="stable")
        sorted_pids = np.asarray(gallery_pids)[self.order]
        self.start, self.end = (np.searchsorted(sorted_pids, query_pids, side) for side in ("left", "right"))

    def ranks(self, block, near, everywhere):
        """Ranks (ascending arrays from 1) of the matches of each query in the block; `near` (b, G) is overwritten."""
        near[:, torch.from_numpy(everywhere).to(near.device)] = -torch.inf
        same = [np.setdiff1d(self.order[self.start[q] : self.end[q]], everywhere) for q in block]
        out = [items[self.marks[1][items] == self.marks[0][q]] for q, items in zip(block, same)]
        matches = [np.setdiff1d(items, left, assume_unique=True) for items, left in zip(same, out)]
        row, column = pairs(out, near.device)
        near[row, column] = -torch.inf
        row, column = pairs(matches, near.device)
        table = near.new_full((len(block), max(map(len, matches), default=0)), torch.inf)
        place = torch.cat([torch.arange(len(items)) for items in matches]).to(near.device)
        table[row, place] = near[row, column]
        table = table.sort(1).values  # ascending: the nearest match last, before the padding
        before = count_not_below(near, table).cpu().numpy()
        return [spread_ties(np.sort(before[k, : len(items)])) for k, items in enumerate(matches)]


def spread_ties(ranks):
    """Matches that tie with each other take consecutive ranks, up to the worst."""
    last = np.searchsorted(ranks, ranks, side="right") - 1
    return ranks - (last - np.arange(len(ranks)))


def pairs(lists, device):
    """Row and column numbers of all (row, item) pairs."""
    row = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
    column = np.concatenate([*lists, np.empty(0, dtype=np.int64)]).astype(np.int64)
    return torch.from_numpy(row).to(device), torch.from_numpy(column).to(device)


def count_not_below(near, thresholds):
    """How many entries of each row of `near` (b, G) are at least each threshold (b, N): ranks, a tie at its worst.

    numba counts in one vectorised pass on the CPU; on a GPU each entry looks its place up among the thresholds.
    """
    if near.device.type == "cpu":
        found = np.empty(thresholds.shape, dtype=np.int64)
        count_on_cpu(near.numpy(), thresholds.numpy(), found)
        return torch.from_numpy(found)
    place = torch.searchsorted(thresholds, near, right=True)  # thresholds not above the entry
    hits = torch.zeros(len(near), thresholds.shape[1] + 1, dtype=torch.int64, device=near.device)
    hits.scatter_add_(1, place, torch.ones_like(place))
    return hits.flip(1).cumsum(1).flip(1)[:, 1:]


@numba.njit(parallel=True, cache=True)
def count_on_cpu(near, thresholds, found):
    for row in numba.prange(near.shape[0]):
        for column in range(thresholds.shape[1]):
            limit, count = thresholds[row, column], np.int32(0)
            for item in range(near.shape[1]):
                count += np.int32(near[row, item] >= limit)
            found[row, column] = count


def from_ranks(ranks, gallery):
    """Scores from the ascending ranks of each query's matches."""
    valid = np.array([k for k, r in enumerate(ranks) if len(r)], dtype=np.int64)
    kept = [ranks[k] for k in valid]
    number = [np.arange(1, len(r) + 1) for r in kept]
    precision = [n / r for n, r in zip(number, kept)]
    just_before = [np.where(r > 1, (n - 1) / np.maximum(r - 1, 1), 1.0) for n, r in zip(number, kept)]
    return Scores(
        ap=np.array([p.mean() for p in precision]),
        ap_trapezoid=np.array([((p + b) / 2).mean() for p, b in zip(precision, just_before)]),
        inp=np.array([len(r) / r[-1] for r in kept]),
        first=np.array([r[0] for r in kept]),
        valid=valid,
        skipped=len(ranks) - len(valid),
        gallery=gallery,
    )
