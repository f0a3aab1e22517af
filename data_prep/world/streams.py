"""Every property has a random stream of its own, so that a new property changes no old one."""

import hashlib
from itertools import accumulate

import numpy as np


def digest(seed, *names):
    """32 bytes that depend on the seed and the names alone."""
    return hashlib.blake2b("/".join(map(str, (seed, *names))).encode(), digest_size=32).digest()


def numbers(seed, *names):
    """Four whole numbers below 2^64."""
    found = digest(seed, *names)
    return [int.from_bytes(found[k : k + 8]) for k in range(0, 32, 8)]


def stream(seed, *names):
    """A generator that depends on the seed and the names alone, for whoever needs many numbers: stream(0,
    "height", 17)."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest(seed, *names)[:16])))


def pick(seed, options, *names):
    """One of `options`; a dict maps options to their integer weights."""
    chance = numbers(seed, *names)[0]
    if not isinstance(options, dict):
        return options[chance % len(options)]
    thresholds = list(accumulate(options.values()))
    place = chance % thresholds[-1]
    return next(option for option, threshold in zip(options, thresholds) if place < threshold)


def between(seed, low, high, *names):
    """A whole number from low to high, both included."""
    return low + numbers(seed, *names)[0] % (high - low + 1)


def near(seed, mean, spread, *names):
    """A whole number around `mean`: the sum of four rng, so within twice the spread and never far off."""
    return mean + sum(number % (2 * spread + 1) - spread for number in numbers(seed, *names)) // 2
