"""Sentences as queries: ranked lists, and what the class token that answers sentences looks at beside the one
that answers images.

    N sentences of a gallery of G images, D width of a feature, K sentences with a ranked list, T images that
    are explained for one of their sentences, h x w patches, H x W pixels
"""

import re

import numpy as np
import torch

from data_prep.world.people import CARRIED
from data_prep.world.truth import REGIONS
from data_prep.world.words import plain
from reid_core import evaluate
from reid_core.analysis import explain
from reid_core.data import Shots

TOKENS = ("sentences", "images")  # which queries a class token answers
LOOKED = ("things named", "clothing and body")  # parts of an image, of which maps hold a share
BODY = ("head", "upper", "lower", "foot")
THINGS = {"backpack": "backpack", **dict.fromkeys(CARRIED.keys() - {"nothing"}, "carried")}  # word -> region
TYPED = "A woman in a red coat carrying a box."  # what a page asks for until its reader types another
WORD = re.compile(r"\w+")


def tasks_of(method):
    """(text, image): the first Task of each query type; None where there are not both."""
    first = {}
    for task in method.retrieval_tasks().values():
        first.setdefault(task.query_type, task)
    return (first["text"], first["image"]) if len(first) == 2 else None


def has_two_tokens(method):
    """Whether sentences and images are answered by two class tokens of one tower."""
    tasks = tasks_of(method)
    if tasks is None:
        return False
    (one, *more), (other, *others) = (method.readers(task.gallery) for task in tasks)
    return not more and not others and one[0] is other[0] and one[1] != other[1]


def visualise(method, data, pick, number):
    """What `visuals.Visuals` keeps of sentence queries on a set with captions; `pick` chooses K rows from
    average precisions and pids, and at most `number` images are explained."""
    text, image = tasks_of(method)
    shots = data.gallery
    gallery = evaluate.embed_images(method, data, "gallery", {text.gallery, image.gallery})  # (G, D) each
    said = evaluate.embed_sentences(method, shots, {text.query})[text.query]  # (N, D)
    owner = evaluate.owners(shots)  # (N,)
    rows, chosen = explained(data, number)
    same = torch.from_numpy(shots.pids == shots.pids[rows, None])  # (T, G)
    same[torch.arange(len(rows)), torch.from_numpy(rows)] = False  # an image is no match of its own
    others = same.to(gallery[image.gallery]) @ gallery[image.gallery]  # (T, G) and (G, D) -> (T, D)
    targets = {text.gallery: said[chosen], image.gallery: others}
    maps = np.stack([token_maps(how, method, data, rows, targets) for how in explain.HOW.values()])
    return {
        **ranked_lists(said, gallery[text.gallery], shots, owner, pick),
        **typed(method, text, gallery[text.gallery]),
        **judged(data, rows, chosen, maps),
    }


def ranked_lists(said, gallery, shots, owner, pick):
    """The first places for a few sentences: their numbers among all (K,), precisions, order and matches."""
    scores = evaluate.score(said, gallery, shots.pick(owner), shots, "all")
    picked = pick(scores.ap, shots.pids[owner[scores.valid]])
    rows = scores.valid[picked]
    order = np.argsort(-(said[rows] @ gallery.T).cpu().numpy(), axis=1, kind="stable")[:, : explain.PLACES]
    return {
        "asked": rows.astype(np.int32),
        "asked_ap": scores.ap[picked].astype(np.float32),
        "asked_order": order.astype(np.int32),  # (K, S)
        "asked_correct": shots.pids[order] == shots.pids[owner[rows], None],
    }


def sentence(method, text, feature, device=None):
    """The feature (D,) of a sentence, of unit length."""
    nobody = np.zeros(1, np.int64)
    shots = Shots(
        paths=np.array([[""]], object),
        tiles=np.full((1, 1), -1),
        pids=nobody,
        camids=nobody,
        scenes=nobody,
        domains=np.array([""], object),
        present=np.ones((1, 1), bool),
        captions=[(text,)],
    )
    found = evaluate.embed_sentences(method, shots, {feature}, device)
    return found[feature][0].cpu().numpy()


def typed(method, task, gallery):
    """The first places of a gallery (G, D) for the sentence TYPED, and their cosines, (S,) each."""
    said = sentence(method, TYPED, task.query, gallery.device)  # (D,)
    cosines = gallery.cpu().numpy() @ said  # (G,)
    order = np.argsort(-cosines, kind="stable")[: explain.PLACES]
    return {"typed_order": order.astype(np.int32), "typed_cosine": cosines[order].astype(np.float32)}


def explained(data, number):
    """(positions of images (T,), numbers of their sentences among all (T,)): of each person the first
    sentence that names a thing carried which the image shows, else the first."""
    shots = data.gallery
    owner = evaluate.owners(shots)  # (N,)
    texts = every(shots)
    named = np.array([bool(things(text)) for text in texts])  # (N,)
    asking = np.flatnonzero(named)
    masks = explain.masks_of(data, shots.paths[owner[asking], 0])  # none for real data: words must do
    for k, mask in zip(asking, masks):
        named[k] = looked(mask, texts[k])[0].any()
    order = np.argsort(~named, kind="stable")
    _, first = np.unique(shots.pids[owner[order]], return_index=True)  # one for each person
    chosen = order[np.sort(first)[:number]]  # those who name something come before the others
    return owner[chosen], chosen


def every(shots):
    """All sentences (N,) of a split, shot by shot."""
    return [text for some in shots.captions for text in some]


def things(text):
    """The regions of things that a sentence names."""
    return {THINGS[word] for word in WORD.findall(plain(text.lower())) if word in THINGS}


def token_maps(how, method, data, rows, targets):
    """Maps (2, T, h, w) uint8 of the nearness of each feature to its targets (T, D), {feature: targets}."""
    found = [explain.all_of(how, method, data, "gallery", rows, near, name) for name, near in targets.items()]
    return np.stack(list(map(explain.as_bytes, found)))


def judged(data, rows, chosen, maps):
    """The explained images with maps (2, 2, T, h, w) and the shares of these on LOOKED; NaN where a sentence
    names nothing that the mask shows, and without masks."""
    sentences = every(data.gallery)
    masks = explain.masks_of(data, data.gallery.paths[rows, 0])
    regions = [looked(mask, sentences[k]) for mask, k in zip(masks, chosen)]  # T of (2, H, W)
    shares = np.full((*maps.shape[:3], len(LOOKED)), np.nan, np.float16)
    for where in np.ndindex(maps.shape[:2] if regions else (0, 0)):
        shares[where] = [shares_of(one, seen) for one, seen in zip(maps[where], regions)]
    uniform = [shares_of(np.ones((1, 1)), seen) for seen in regions]
    return {
        "told": rows.astype(np.int32),
        "sentence": chosen.astype(np.int32),
        "tokens": maps,
        "looked": shares,
        "looked_chance": np.array(uniform or np.full((len(rows), len(LOOKED)), np.nan), np.float16),
    }


def looked(mask, text):
    """(2, H, W) of truth: where a mask shows what the sentence names, and clothing and body."""
    return np.stack([np.isin(mask, list(map(REGIONS.index, names))) for names in (things(text), BODY)])


def shares_of(found, regions):
    """The shares (2,) of a map (h, w) on regions (2, H, W); NaN on an empty one."""
    wide = explain.spread(found, regions.shape[1:])
    return [explain.energy(wide, region) if region.any() else np.nan for region in regions]
