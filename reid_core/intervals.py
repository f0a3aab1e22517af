"""How far chance may have moved a score or a difference: bootstraps over identities and seeds."""

import dataclasses
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """In per cent (of average precision) or points (of a difference); 95 % of the bootstrap lies between."""

    mean: float
    low: float
    high: float

    @property
    def half(self):
        return (self.high - self.low) / 2


def interval(runs, task=None, draws=2000):
    """Mean AP of runs that differ in their seed; identities and seeds are resampled together."""
    table = by_identity([(run, task) for run in runs])
    means = resampled(table, np.random.default_rng(0), draws)
    return Interval(100 * overall(table), *100 * np.quantile(means, (0.025, 0.975)))


def paired(runs, others, task=None, other_task=None, draws=2000):
    """Mean AP of `runs` minus that of `others`, pair by pair of seeds, on the same resampled identities. Each side has its way
    of searching; None is a run's first."""
    seeds = {run.spec.seed: run for run in others}
    both = [(run, seeds[run.spec.seed]) for run in runs if run.spec.seed in seeds]
    if not both:
        raise ValueError("expected runs that share seeds, found none; measure both with the same seeds.")
    sides = zip(zip(*both), (task, other_task))
    together = by_identity([(run, asked) for side, asked in sides for run in side])
    one, two = (ByIdentity(half, together.counts) for half in np.split(together.sums, 2))
    rng = np.random.default_rng(0)
    picks = [choose(one, rng) for _ in range(draws)]
    differences = [overall(one, *pick) - overall(two, *pick) for pick in picks]
    return Interval(100 * (overall(one) - overall(two)), *100 * np.quantile(differences, (0.025, 0.975)))


class ByIdentity(NamedTuple):
    sums: np.ndarray  # (seeds, identities), AP summed over the identity's queries
    counts: np.ndarray  # (identities,)


def by_identity(asked):
    """AP of the queries of each (run, task), gathered by identity: images of one person are not independent."""
    tables = []
    for run, task in asked:
        scores = run.scores[task or next(iter(run.scores))]
        pids, place = np.unique(scores["pids"], return_inverse=True)
        tables.append((pids, np.bincount(place, scores["ap"]), np.bincount(place)))
    if any(not np.array_equal(tables[0][0], t[0]) or not np.array_equal(tables[0][2], t[2]) for t in tables):
        raise ValueError(
            "expected runs on the same queries, found different ones; compare runs of one data set."
        )
    return ByIdentity(np.stack([t[1] for t in tables]), tables[0][2])


def overall(table, seeds=slice(None), identities=slice(None)):
    return table.sums[seeds][:, identities].sum(1).mean() / table.counts[identities].sum()


def choose(table, rng):
    seeds, identities = table.sums.shape
    return rng.integers(seeds, size=seeds), rng.integers(identities, size=identities)


def resampled(table, rng, draws):
    return np.array([overall(table, *choose(table, rng)) for _ in range(draws)])


def detectable(runs, task=None, draws=2000):
    """The smallest difference of mean AP, in points, that a paired comparison of so many seeds would show.

    Two runs of the *same* method differ by chance alone: by the luck of training, which moves their difference, and by who
    is searched for, which spreads it. The root of both squares, times 2.8 (two-sided 5 %, power 80 %), scaled from one seed
    each to the number of seeds there are.
    """
    if len(runs) < 2:
        return float("nan")
    changes = [paired([one], [renamed(two, one)], task, task, draws) for one, two in pairs(runs)]
    squares = [one.mean**2 + ((one.high - one.low) / (2 * 1.96)) ** 2 for one in changes]
    return 2.8 * float(np.mean(squares) / len(runs)) ** 0.5


def renamed(run, like):
    """The run as if it had the seed of another, so that the two can be paired."""
    return dataclasses.replace(run, spec=run.spec._replace(seed=like.spec.seed))


def pairs(items):
    return [(a, b) for k, a in enumerate(items) for b in items[k + 1 :]]


UNCERTAIN = "cannot tell"


def verdict(difference, printed):
    """Whether a printed effect (its sign counts) holds in ours: "holds", "fails" or "cannot tell"."""
    if difference.low <= 0 <= difference.high:
        return UNCERTAIN
    return "holds" if np.sign(difference.mean) == np.sign(printed) else "fails"
