"""Every property has a random stream of its own, so that a new property changes no old one."""

import hashlib

import numpy as np


def stream(seed, *names):
    """A generator that depends on the seed and the names alone: stream(0, "height", 17)."""
    text = "/".join(map(str, (seed, *names)))
    return np.random.Generator(
        np.random.Philox(key=int.from_bytes(hashlib.blake2b(text.encode()).digest()[:16]))
    )


def pick(seed, options, *names):
    """One of `options`; a dict maps options to their integer weights."""
    if not isinstance(options, dict):
        options = dict.fromkeys(options, 1)
    thresholds = np.cumsum(list(options.values()))
    return list(options)[
        int(np.searchsorted(thresholds, stream(seed, *names).integers(thresholds[-1]), "right"))
    ]


def between(seed, low, high, *names):
    """A whole number from low to high, both included."""
    return int(stream(seed, *names).integers(low, high + 1))


def near(seed, mean, spread, *names):
    """A whole number around `mean`: the sum of four dice, so within twice the spread and never far off."""
    dice = stream(seed, *names).integers(-spread, spread + 1, size=4)
    return mean + int(dice.sum()) // 2
