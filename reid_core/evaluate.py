"""Evaluation: embed query and gallery, and run a method's tests, from named features to Scores
(`reid_core.metrics`).

    Q queries, G gallery items, S shots of a split, N sentences of a split, D width of a feature
"""

import numpy as np
import torch
import torch.nn.functional as F

from data_prep.manifest import MODALITIES, PROTOCOLS
from reid_core.data import Batch, CaptionTable, still_batches
from reid_core.methods.base import side_by_side
from reid_core.metrics import check_finite, concatenated, rank
from reid_core.rerank import rerank

COLUMNS = {"camid": "camids", "scene": "scenes", None: None}  # of a manifest -> of Shots
WORDS = {
    "market": "gallery images of the query's identity and camera left out",
    "scene": "gallery images of the query's identity and scene left out",
    "all": "no gallery image left out",
}


def run_tests(method, data, device=None, precision="fp32", number=None, brief=False):
    """{task: Scores} of the first `number` of the method's tests that the data has queries for (None: of
    all), and of those whose summary alone is kept, if `brief`.

    A split is encoded once, for all features that any of the tests names; once more for each choice of
    spectra that tests go without.
    """
    method.eval()
    there = available_tasks(method, data)
    tasks = dict(list(there.items())[:number])
    tasks |= {name: task for name, task in there.items() if brief and task.brief}
    how = {"device": device, "precision": precision}
    found = {}
    for gone in dict.fromkeys(task.without for task in tasks.values()):
        some = {name: task for name, task in tasks.items() if task.without == gone}
        found |= run_alike(method, data.without(*gone) if gone else data, some, how)
    return {name: found[name] for name in tasks}  # in the method's order


def run_alike(method, data, tasks, how):
    """{task: Scores} of tests that see the same spectra."""
    images = [task for task in tasks.values() if task.query_type == "image"]
    texts = [task for task in tasks.values() if task.query_type == "text"]
    named = {task.query for task in images}
    shown = {task.gallery for task in tasks.values()}
    said = {task.query for task in texts}
    seen = {
        "query": embed_images(method, data, "query", named, **how),  # (Q, D) by name
        "gallery": embed_images(method, data, "gallery", shown, **how),  # (G, D)
        "sentences": embed_sentences(method, data.gallery, said, **how),  # (N, D)
    }
    return {name: run_task(task, data, seen) for name, task in tasks.items()}


def available_tasks(method, data):
    """{task: Task}: the tests of a method that a data set has queries for, which are images of its query
    split or sentences of its gallery. ValueError if there are none, or if the method cannot see the shots."""
    check_spectra(method, data)
    there = {"image": len(data.query) > 0, "text": any(data.gallery.captions)}
    found = {name: task for name, task in method.retrieval_tasks().items() if there[task.query_type]}
    if not found:
        raise ValueError(
            f"expected queries that {type(method).__name__} can ask with, found {len(data.query)} images in "
            f"the query split of {data.manifest.name}; choose a data set that is searched with images."
        )
    return found


def check_spectra(method, data):
    """ValueError for shots of more images than a method sees, or of fewer than it needs."""
    spectra = data.gallery.present.shape[1]
    name = type(method).__name__
    if spectra > 1 and not method.multispectral:
        raise ValueError(
            f"expected shots of one image for {name}, found {spectra} spectra each in {data.manifest.name}; "
            "choose a method that sees spectra, or another data set."
        )
    if method.spectra_needed not in (None, spectra):
        raise ValueError(
            f"expected shots of {method.spectra_needed} images for {name}, found {spectra} each in "
            f"{data.manifest.name}; name a table with the columns path, modality ({', '.join(MODALITIES)}) "
            "and shot."
        )


def run_task(task, data, seen):
    """Scores of one test; `seen` is {split: {name: features}}, as `run_tests` gathers them.

    Queries of type "image" are the query split, under the data set's protocol. Queries of type "text" are all
    sentences of the gallery's images, under the task's protocol, since a sentence has no camera.
    """
    if task.query_type == "text":
        query = seen["sentences"][task.query]
        protocol = task.protocol
        trials = None
        shots = data.gallery.pick(owners(data.gallery))  # one entry per sentence: whom it describes
    else:
        query = seen["query"][task.query]
        protocol = data.manifest.protocol
        trials = data.manifest.trials
        shots = data.query
    found = score_trials(
        query, seen["gallery"][task.gallery], shots, data.gallery, protocol, trials, task.rerank
    )
    words = protocol_words(task.query_type, data, protocol, task.rerank, task.without)
    return found._replace(pids=shots.pids[found.valid], protocol=words)


def protocol_words(query_type, data, protocol, reranked=False, without=()):
    """The protocol in words: query type, what is left out of the gallery, trials, re-ranking, spectra that
    are taken away."""
    trials = data.manifest.trials
    kind = "sentence" if query_type == "text" else "image"
    words = [f"{kind} queries", WORDS[protocol]]
    if query_type == "image" and trials:
        words.append(trials.words)
    elif query_type == "image" and np.array_equal(data.query.paths, data.gallery.paths):
        words.append("all test images are queries and gallery")
    if reranked:
        words.append(f"re-ranked by k-reciprocal neighbours {rerank.__defaults__}")
    if without:
        words.append(f"without {' and '.join(without)}")
    return "; ".join(words)


def score_trials(query, gallery, query_shots, gallery_shots, protocol, trials=None, reranked=False):
    """Scores over all trials (`data_prep.manifest.Trials`): each picks queries and a gallery from the same
    images and is ranked by itself, on features that are computed once. The trials of a data set have equally
    many queries, so that the mean over queries is the mean over trials."""
    if trials is None:
        return score(query, gallery, query_shots, gallery_shots, protocol, reranked)
    parts = []
    for chosen, shown in trials.draws:
        chosen = np.array(chosen, np.int64)
        shown = np.array(shown, np.int64)
        part = score(
            query[chosen],
            gallery[shown],
            query_shots.pick(chosen),
            gallery_shots.pick(shown),
            protocol,
            reranked,
        )
        parts.append(part._replace(valid=chosen[part.valid]))  # positions among all queries again
    return concatenated(parts)


@torch.inference_mode()
def embed_images(method, data, split, names, device=None, precision="fp32"):
    """{name: features (S, D)} of a split: float32, on the device, of unit length."""
    device = torch.device(device or next(method.parameters()).device)
    batches = still_batches(data, split, method.size, method.test_view(), device) if names else ()
    return unit_features(method, batches, names, device, precision)


@torch.inference_mode()
def embed_sentences(method, shots, names, device=None, precision="fp32", batch=256):
    """{name: features (N, D)} of all sentences of a split, shot by shot (`owners`); as `embed_images`."""
    device = torch.device(device or next(method.parameters()).device)
    batches = sentence_batches(CaptionTable(shots.captions, method.tokenizer), device, batch) if names else ()
    return unit_features(method, batches, names, device, precision)


def unit_features(method, batches, names, device, precision):
    """{name: features (S or N, D)} over all batches, of unit length; each batch is encoded once for all
    names."""
    found = {name: [] for name in names}
    parts = sorted({part for name in names for part in name.split("+")})  # in one order on every machine
    with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
        for batch in batches:
            features = method.features(batch, parts)  # {part: (B, D)}
            for name in names:
                found[name].append(F.normalize(side_by_side(features, name).float(), dim=1))
    whole = {name: torch.cat(some) for name, some in found.items()}  # (S, D) or (N, D) each
    for name, features in whole.items():
        check_finite(features, f"features {name!r}")
    return whole


def sentence_batches(table, device, size):
    """Batches of sentences without images: all of a CaptionTable, in order."""
    owner = np.repeat(np.arange(len(table.counts)), table.counts)  # (N,) whose sentence it is
    number = np.concatenate([np.arange(count) for count in table.counts])  # (N,) which of that shot's
    for start in range(0, len(owner), size):
        some = slice(start, start + size)
        text, lengths = table.batch(owner[some], number[some])  # (B, L) and B numbers
        nobody = torch.full((len(text),), -1, device=device)  # a sentence has no label and no camera
        yield Batch(
            index=torch.from_numpy(owner[some]).to(device),
            labels=nobody,
            cameras=nobody,
            text=text.to(device),
            lengths=lengths,
            captioned=np.ones(len(text), bool),
        )


def owners(shots):
    """The position (N,) of the shot that each sentence of a split describes."""
    return np.repeat(np.arange(len(shots)), [len(sentences) for sentences in shots.captions])


def column_of(protocol):
    """The column of Shots in which a query and a gallery image of its identity must differ, or None."""
    return COLUMNS[PROTOCOLS[protocol]]


def score(query, gallery, query_shots, gallery_shots, protocol="market", reranked=False):
    """Scores of ranking by cosine: features (Q, D) and (G, D) of unit length, and the Shots they belong to.
    `reranked`: after k-reciprocal re-ranking (Zhong et al. 2017) with the parameters of CLIP-ReID's code."""
    column = column_of(protocol)
    if column is None:  # no query's mark is that of a gallery item: nothing is left out
        marks = np.zeros(len(query)), np.ones(len(gallery))
    else:
        marks = getattr(query_shots, column), getattr(gallery_shots, column)  # (Q,) and (G,)
    distance = rerank(query, gallery) if reranked else None  # (Q, G)
    return rank(query, gallery, query_shots.pids, gallery_shots.pids, *marks, distance=distance)
