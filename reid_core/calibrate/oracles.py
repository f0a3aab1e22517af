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
from reid_core.analysis import explain
from reid_core.augment import HALF, Augmentation
from reid_core.data import still_batches


def by_feature(data, describe):
    """mAP in per cent of ranking by features that `describe` computes: Shots -> (S, D)."""
    query = F.normalize(describe(data.query), dim=1)
    gallery = F.normalize(describe(data.gallery), dim=1)
    return 100 * evaluate.score(query, gallery, data.query, data.gallery).mAP


def colours(data, rows, stripes=8, bins=(8, 4, 4)):
    """Colour histograms (S, stripes x bins): hue, saturation and value in horizontal stripes of the middle
    columns, where the person is, after white-balancing; square roots, so that dot products are Bhattacharyya
    coefficients."""
    split = "query" if rows is data.query else "gallery"
    pixels = data.store(split, (128, 64), "bilinear").pixels.numpy() / 255.0  # (S, 3, 128, 64)
    grey = pixels.mean((2, 3), keepdims=True)  # (S, 3, 1, 1), of an image, by channel
    balanced = (0.45 * pixels / grey).clip(0, 1)
    middle = balanced[:, :, 8:120, 20:44].transpose(0, 2, 3, 1)  # (S, 112, 24, 3)
    binned = (rgb_to_hsv(middle) * bins).astype(int)  # (S, 112, 24, 3)
    binned = np.minimum(binned, np.array(bins) - 1)  # a value of exactly 1 belongs to the last bin
    level = binned @ np.array((bins[1] * bins[2], bins[2], 1))  # (S, 112, 24), the number of the bin
    level = level.reshape(len(pixels) * stripes, -1)  # (S x stripes, pixels)
    found = [np.bincount(stripe, minlength=np.prod(bins)) for stripe in level]
    roots = np.sqrt(np.array(found, np.float32))  # (S x stripes, bins)
    return torch.from_numpy(roots.reshape(len(pixels), -1))  # (S, stripes x bins)


def attributes(data, rows):
    """Indicators (S, words): a column per attribute and word that describes a person."""
    table = truth.attributes(data.manifest.root)
    every = set()  # of everybody in the data set, so that query and gallery have the same columns
    for record in table.values():
        every.update(words_of(record["person"]))
    columns = {word: k for k, word in enumerate(sorted(every))}  # word -> its column
    found = torch.zeros(len(rows.paths), len(columns))
    for row, path in zip(found, rows.paths[:, 0]):
        for word in words_of(table[path]["person"]):
            row[columns[word]] = 1
    return found


def words_of(person):
    """Every "attribute word" that describes a person."""
    return [f"{name} {person[name]}" for name in people.TOLD]


def caption_oracle(seed, profile):
    """For each sentence of the text set's test images: the probability that a random one of the images that
    agree with it best shows its person, and the number of people on these images."""
    shots = [one for one in cast.plan("world_text", profile, seed) if one["split"] == "test"]
    pids = np.array([one["pid"] for one in shots])
    first = []
    agreeing = []
    for one in shots:
        for number, sentence in enumerate(cast.captions(seed, one)):
            key = (one["who"], one["index"], number)
            said = words.plain(sentence)
            agree = np.array([agreement(seed, other, key, said) for other in shots])  # (S,) phrases
            best = pids[agree == agree.max()]  # with ties, all of them
            first.append((best == one["pid"]).mean())
            agreeing.append(len(np.unique(best)))
    return np.array(first), np.array(agreeing)


def agreement(seed, one, key, sentence):
    """How many phrases of a sentence are true of the image `one`."""
    phrases = words.seen_person(seed, one["person"], one["image"], key, words.witness(seed, key))
    phrases = [phrase for phrase in phrases if phrase]  # "" where there is nothing to say
    phrases.append(f" {one['person']['noun']} ")
    return sum(phrase in sentence for phrase in phrases)


def only_at_night(data):
    """The same data with only those test images that were taken at night."""
    dark = copy.copy(data)  # shallow: the training split and the pixels stay shared
    for split in ("query", "gallery"):
        rows = getattr(data, split)
        hours = np.array(explain.hours_of(data, rows.paths[:, 0]))
        setattr(dark, split, rows.pick(np.flatnonzero(hours == "night")))
    return dark


@torch.inference_mode()
def named_colours(method, data):
    """Accuracy in % of naming the upper garment's colour among all colours, by the nearest sentence: [pairs
    of colour and garment that pretraining saw, held-out pairs]."""
    table = truth.attributes(data.manifest.root)
    garments = {garment: in_every_colour(garment, method) for garment in words.GARMENTS}
    images = still_batches(data, "gallery", method.size, method.test_view())
    features = torch.cat([method.encode(batch)[2] for batch in images])  # (S, E), in the joint space
    names = list(people.COLOURS)
    right = {False: [], True: []}  # held out -> whether each was named rightly
    for feature, path in zip(features, data.gallery.paths[:, 0]):
        who = table[path]["person"]
        colour = who["upper colour"]
        cosines = garments[who["upper"]] @ feature  # (colours, E) @ (E,) -> (colours,)
        nearest = int(cosines.argmax())
        right[people.is_held_out(colour, who["upper"])].append(names[nearest] == colour)
    return [100 * float(np.mean(some)) for some in right.values()]


def in_every_colour(garment, method):
    """Unit features (colours, E) of a sentence about a garment in every colour."""
    sentences = [f"A person wearing {words.a(colour)} {garment}." for colour in people.COLOURS]
    said = []
    for sentence in sentences:  # one by one: a feature does not depend on its batch
        said.append(method.text.sentences(method.tokenizer([sentence])))  # (1, E)
    return F.normalize(torch.cat(said), dim=1)


@torch.inference_mode()
def read_off(tower, data, ridge=0.01):
    """Linear probes of a frozen tower: {attribute: (% right, % that the commonest word would get)} on the
    gallery, by ridge regression from class tokens to words, fitted on the training people."""
    table = truth.attributes(data.manifest.root)
    seen = class_tokens(tower, data, "train")  # (S, D)
    unseen = class_tokens(tower, data, "gallery")  # (S', D), people that the probe was not fitted on
    mean = seen.mean(0)  # (D,)
    deviation = seen.std(0)  # (D,)
    seen = (seen - mean) / deviation
    unseen = (unseen - mean) / deviation  # watch out: with the training images' mean and deviation
    penalty = ridge * len(seen) * torch.eye(seen.shape[1])
    inverse = torch.linalg.inv(seen.T @ seen + penalty)  # (D, D), the same for all attributes
    found = {}
    for name in people.TOLD:
        words_ = told(table, data.train, name)
        truth_ = told(table, data.gallery, name)
        found[name] = read_word(inverse, seen, unseen, words_, truth_)
    return found


def class_tokens(tower, data, split):
    """The tower's class tokens (S, D)."""
    tower.eval()
    view = Augmentation("bicubic", HALF, HALF)
    found = []
    for batch in still_batches(data, split, tower.size, view):
        tokens = tower(batch.images[:, 0]).tokens  # (B, 1 + patches, D), of the first spectrum
        found.append(tokens[:, 0].float())
    return torch.cat(found)


def told(table, rows, name):
    """The word of an attribute for each shot (S,)."""
    return np.array([table[path]["person"][name] for path in rows.paths[:, 0]])


def read_word(inverse, seen, unseen, words_, truth_):
    """(% right, % of the commonest word) of one attribute, as `read_off`; `inverse` is that of the normal
    equations."""
    names, index = np.unique(words_, return_inverse=True)
    goal = F.one_hot(torch.from_numpy(index)).float()  # (S, words)
    share = goal.mean(0)  # of each word
    weights = inverse @ (seen.T @ (goal - share))  # (D, words)
    guess = (unseen @ weights + share).argmax(1)  # (S',) numbers of words
    common = names[np.bincount(index).argmax()]  # of the training images
    right = np.mean(names[guess] == truth_)
    chance = np.mean(common == truth_)
    return 100 * float(right), 100 * float(chance)
