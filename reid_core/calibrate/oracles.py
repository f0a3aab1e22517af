"""Oracles and probes of the synthetic world: colour histograms, the attribute table, sentences matched with
it, colour naming, and linear probes of towers.

    S shots of a split, D width of a feature, E width of the joint space
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import rgb_to_hsv

from data_prep.world import cast, people, truth, words
from reid_core import evaluate
from reid_core.augment import HALF, Augmentation
from reid_core.data import still_batches


def by_feature(data, describe):
    """mAP in per cent of ranking by features that `describe` computes: Shots -> (S, D)."""
    query, gallery = (F.normalize(describe(rows), dim=1) for rows in (data.query, data.gallery))
    return 100 * evaluate.score(query, gallery, data.query, data.gallery).mAP


def colours(data, rows, stripes=8, bins=(8, 4, 4)):
    """Colour histograms (S, stripes x bins): hue, saturation and value in horizontal stripes of the middle
    columns, where the person is, after white-balancing; square roots, so that dot products are Bhattacharyya
    coefficients."""
    pixels = (
        data.store("query" if rows is data.query else "gallery", (128, 64), "bilinear").pixels.numpy() / 255.0
    )
    balanced = (0.45 * pixels / pixels.mean((2, 3), keepdims=True)).clip(0, 1)[:, :, 8:120, 20:44]
    hsv = rgb_to_hsv(balanced.transpose(0, 2, 3, 1))
    level = np.minimum((hsv * bins).astype(int), np.array(bins) - 1) @ np.array(
        (bins[1] * bins[2], bins[2], 1)
    )
    level = level.reshape(len(pixels), stripes, -1)
    found = [[np.bincount(stripe, minlength=np.prod(bins)) for stripe in image] for image in level]
    return torch.from_numpy(np.sqrt(np.array(found, np.float32)).reshape(len(pixels), -1))


def attributes(data, rows):
    """Indicators (S, words): a column per attribute and word that describes a person."""
    table = truth.attributes(data.manifest.root)
    told = [[f"{name} {table[path]['person'][name]}" for name in people.TOLD] for path in rows.paths[:, 0]]
    columns = {word: k for k, word in enumerate(sorted({w for some in told for w in some} | all_words(data)))}
    found = torch.zeros(len(told), len(columns))
    for row, some in zip(found, told):
        row[[columns[word] for word in some]] = 1
    return found


def all_words(data):
    """Every "attribute word" that describes anybody in the data set."""
    people_ = [record["person"] for record in truth.attributes(data.manifest.root).values()]
    return {f"{name} {who[name]}" for who in people_ for name in people.TOLD}


def caption_oracle(seed, profile):
    """For each sentence of the text set's test images: the probability that a random one of the images that
    agree with it best shows its person, and the number of people on these images."""
    shots = [one for one in cast.plan("world_text", profile, seed) if one["split"] == "test"]
    pids = np.array([one["pid"] for one in shots])
    first, agreeing = [], []
    for one in shots:
        for number, sentence in enumerate(cast.captions(seed, one)):
            key = (one["who"], one["index"], number)
            agree = np.array([agreement(seed, other, key, words.plain(sentence)) for other in shots])
            best = agree == agree.max()
            first.append((pids[best] == one["pid"]).mean())
            agreeing.append(len(np.unique(pids[best])))
    return np.array(first), np.array(agreeing)


def agreement(seed, one, key, sentence):
    """How many phrases of a sentence are true of the image `one`."""
    phrases = words.seen_person(seed, one["person"], one["image"], key, words.witness(seed, key))
    return sum(bool(phrase) and phrase in sentence for phrase in phrases) + (
        f" {one['person']['noun']} " in sentence
    )


def only_at_night(data):
    """The same data with only those test images that were taken at night."""
    dark, table = copy.copy(data), truth.attributes(data.manifest.root)
    for split in ("query", "gallery"):
        rows = getattr(data, split)
        night = [k for k, path in enumerate(rows.paths[:, 0]) if table[path]["when"] == "night"]
        setattr(dark, split, rows.pick(night))
    return dark


@torch.inference_mode()
def named_colours(method, data):
    """Accuracy in % of naming the upper garment's colour among all colours, by the nearest sentence: [pairs
    of colour and garment that pretraining saw, held-out pairs]."""
    table, right = truth.attributes(data.manifest.root), {False: [], True: []}
    garments = {garment: in_every_colour(garment, method) for garment in words.GARMENTS}
    images = still_batches(data, "gallery", method.size, method.test_view())
    features = torch.cat([method.encode(batch)[2] for batch in images])
    for feature, path in zip(features, data.gallery.paths[:, 0]):
        who = table[path]["person"]
        named = tuple(people.COLOURS)[int((garments[who["upper"]] @ feature).argmax())]
        right[people.is_held_out(who["upper colour"], who["upper"])].append(named == who["upper colour"])
    return [100 * float(np.mean(right[held])) for held in (False, True)]


def in_every_colour(garment, method):
    """Unit features (colours, E) of a sentence about a garment in every colour."""
    sentences = [f"A person wearing {words.a(colour)} {garment}." for colour in people.COLOURS]
    said = [method.text.sentences(method.tokenizer([sentence])) for sentence in sentences]
    return F.normalize(torch.cat(said), dim=1)


@torch.inference_mode()
def read_off(tower, data, ridge=0.01):
    """Linear probes of a frozen tower: {attribute: (% right, % that the commonest word would get)} on the
    gallery, by ridge regression from class tokens to words, fitted on the training people."""
    table = truth.attributes(data.manifest.root)
    seen, unseen = (class_tokens(tower, data, split) for split in ("train", "gallery"))
    seen, unseen = ((x - seen.mean(0)) / seen.std(0) for x in (seen, unseen))
    inverse = torch.linalg.inv(seen.T @ seen + ridge * len(seen) * torch.eye(seen.shape[1]))
    return {
        name: read_word(
            inverse, seen, unseen, *(told(table, rows, name) for rows in (data.train, data.gallery))
        )
        for name in people.TOLD
    }


def class_tokens(tower, data, split):
    """The tower's class tokens (S, D)."""
    images = still_batches(data, split, tower.size, Augmentation("bicubic", HALF, HALF))
    return torch.cat([tower.eval()(batch.images[:, 0]).tokens[:, 0].float() for batch in images])


def told(table, rows, name):
    """The word of an attribute for each shot (S,)."""
    return np.array([table[path]["person"][name] for path in rows.paths[:, 0]])


def read_word(inverse, seen, unseen, words_, truth_):
    """(% right, % of the commonest word) of one attribute, as `read_off`; `inverse` is that of the normal
    equations."""
    names, index = np.unique(words_, return_inverse=True)
    goal = F.one_hot(torch.from_numpy(index)).float()
    guess = (unseen @ (inverse @ (seen.T @ (goal - goal.mean(0)))) + goal.mean(0)).argmax(1)
    common = names[np.bincount(index).argmax()]
    return 100 * float(np.mean(names[guess] == truth_)), 100 * float(np.mean(common == truth_))
