"""Random numbers of the synthetic world. Every property has a stream of its own, named by words, so that a
new property changes no old one.

Numbers are cut from BLAKE2b hashes, which are the same on every machine; `stream` seeds numpy's Philox with
one.
"""

import hashlib

import numpy as np


def digest(seed, *names):
    """32 bytes that depend on the seed and the names alone."""
    return hashlib.blake2b("/".join(map(str, (seed, *names))).encode(), digest_size=32).digest()


def numbers(seed, *names):
    """Four whole numbers below 2^64."""
    found = digest(seed, *names)
    return [int.from_bytes(found[k : k + 8]) for k in range(0, 32, 8)]  # 8 bytes each, big-endian


def number(seed, *names):
    """The first of `numbers`."""
    return int.from_bytes(digest(seed, *names)[:8])


def stream(seed, *names):
    """A numpy generator that depends on the seed and the names alone, as in stream(0, "height", 17), for
    whoever needs many numbers."""
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest(seed, *names)[:16])))


def pick(seed, options, *names):
    """One of `options`: a sequence, all equally likely, or a dict {option: whole weight}."""
    chance = number(seed, *names)
    if not isinstance(options, dict):
        return options[chance % len(options)]
    place = chance % sum(options.values())
    for option, weight in options.items():
        if place < weight:
            return option
        place -= weight


def between(seed, low, high, *names):
    """A whole number from low to high, both included."""
    return low + number(seed, *names) % (high - low + 1)


def near(seed, mean, spread, *names):
    """A whole number around `mean`: half the sum of four uniform ones from -spread to spread is added. It is
    never more than twice `spread` off, and its standard deviation is about 0.6 `spread`."""
    return mean + sum(one % (2 * spread + 1) - spread for one in numbers(seed, *names)) // 2
