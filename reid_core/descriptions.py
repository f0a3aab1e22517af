"""Part descriptions of training images as a text tower reads them: four sentences an image (head, upper body,
lower body, feet), as `data_prep.public.descriptions` finds them, and what a row or a control makes of them.

    S training images, n sentences of each, L tokens of the longest
"""

import numpy as np
import torch

from data_prep.public.descriptions import PARTS
from reid_core.samplers import generator


def part_sentences(data):
    """(S,) the four sentences of each training image. ValueError where one has no description."""
    shots = data.train
    lacking = [shots.paths[row, 0] for row, said in enumerate(shots.parts) if len(said) != len(PARTS)]
    if lacking or not shots.parts:
        first = lacking[0] if lacking else "any image"
        raise ValueError(
            f"expected {len(PARTS)} part sentences of every training image of {data.manifest.name}, found "
            f"none of {first} ({len(lacking)} such); write them to blip_descriptions.txt with python -m "
            "data_prep describe."
        )
    return list(shots.parts)


# What rows and controls make of descriptions: (sentences, pids (S,)) -> sentences


def own(said, pids):
    """Each image's own."""
    return said


def of_another(said, pids):
    """Each image gets the description of an image of the next identity."""
    order = np.unique(pids)
    rows = {pid: np.flatnonzero(pids == pid) for pid in order}
    following = dict(zip(order, np.roll(order, -1)))
    moved = list(said)
    for pid in order:
        there = rows[following[pid]]
        for place, row in enumerate(rows[pid]):
            moved[row] = said[there[place % len(there)]]
    return moved


def degraded(said, pids):
    """Half of the words are lost, the same in every run."""
    rng = generator(0, "degraded descriptions")
    return [tuple(half_of(sentence, rng) for sentence in parts) for parts in said]


def half_of(sentence, rng):
    """A sentence without half of its words, but never without all."""
    words = sentence.split()
    kept = np.sort(rng.permutation(len(words))[: max(1, len(words) // 2)])
    return " ".join(words[k] for k in kept)


def swapped(said, pids):
    """Each part gets the sentence of the next: the head that of the upper body."""
    return [(*parts[1:], parts[0]) for parts in said]


CHANGES = {"own": own, "another's": of_another, "degraded": degraded, "swapped": swapped}


# Sentences for each query or prompt: four sentences -> n


def whole(parts):
    """A description as one text."""
    return " ".join(parts)


def as_they_are(said, count):
    """The four sentences for four queries, one text of all for one. ValueError for another number."""
    if count not in (1, len(PARTS)):
        raise ValueError(
            f"expected {len(PARTS)} attributes (or 1: the whole description), found {count}; descriptions "
            f"have {len(PARTS)} sentences."
        )
    return [tuple(parts) if count > 1 else (whole(parts),) for parts in said]


def for_every_prompt(said, count):
    """The whole description for a global prompt and `count` local ones."""
    return [(whole(parts),) * (1 + count) for parts in said]


def by_chance(said, count):
    """The whole for the global prompt; each local one gets a random share of the words, in their order."""
    rng = generator(0, "random partition")
    return [(whole(parts), *shares(whole(parts).split(), count, rng)) for parts in said]


def shares(words, count, rng):
    """Words in `count` texts at random, none of them empty."""
    owner = rng.permutation(np.arange(max(len(words), count)) % count)[: len(words)]
    texts = [" ".join(word for word, one in zip(words, owner) if one == k) for k in range(count)]
    return tuple(text or words[0] for text in texts)


PARTITIONS = {"learned": for_every_prompt, "random": by_chance}


# Tokens


def tokens(said, tokenizer, room, cut=False):
    """(S, n, L) token ids of (S,) tuples of n sentences, zero after the end token. A sentence of more than
    `room` tokens, start and end included, is an error, or is `cut`."""
    length = room - 2
    rows = [[tokenizer.encode(sentence) for sentence in parts] for parts in said]
    longest = max((ids for row in rows for ids in row), key=len)
    if len(longest) > length and not cut:
        raise ValueError(
            f"expected sentences of at most {length} tokens, found {len(longest)} in "
            f"{tokenizer.decode(longest)[:60]!r}; shorten the sentence in the description file."
        )
    wide = min(len(longest), length) + 2
    table = torch.zeros(len(rows), len(rows[0]), wide, dtype=torch.long)
    for row, several in zip(table, rows):
        for place, ids in zip(row, several):
            framed = [tokenizer.sot_token_id, *ids[:length], tokenizer.eot_token_id]
            place[: len(framed)] = torch.tensor(framed)
    return table


def numbered(said):
    """Different sentences of (S,) tuples, as tuples of one, and which each image has (S, n)."""
    place = {sentence: k for k, sentence in enumerate(dict.fromkeys(s for parts in said for s in parts))}
    which = torch.tensor([[place[sentence] for sentence in parts] for parts in said])
    return [(sentence,) for sentence in place], which
