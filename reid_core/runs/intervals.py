"""Confidence intervals of scores and of paired differences. Two sources of chance count: the training seed,
and which people are the queries."""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """A mean in per cent (mAP) or in points (a difference), with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def half(self):
        return (self.high - self.low) / 2


def interval(runs, task=None, draws=2000):
    """The Interval of mAP of runs that differ in their seed; `task` None is their first test."""
    table = by_identity([(run, task) for run in runs])
    return around(by_seed(table), by_people(table, draws))


def paired(runs, others, task=None, other_task=None, draws=2000):
    """The Interval of mAP of `runs` minus that of `others`, pair by pair of seeds, on the same resampled
    identities. Each side has its own test; None is a run's first."""
    one, two = tables_of(runs, others, task, other_task)
    return around(by_seed(one) - by_seed(two), by_people(one, draws) - by_people(two, draws))


def tables_of(runs, others, task=None, other_task=None):
    """A ByIdentity for each side, of the runs that share a seed, in the same order of seeds."""
    seeds = {run.spec.seed: run for run in others}
    both = [(run, seeds[run.spec.seed]) for run in runs if run.spec.seed in seeds]
    if not both:
        raise ValueError("expected runs that share seeds, found none; measure both with the same seeds.")
    sides = zip(zip(*both), (task, other_task))
    together = by_identity([(run, asked) for side, asked in sides for run in side])
    return [ByIdentity(half, together.counts) for half in np.split(together.sums, 2)]


def around(seeds, people):
    """The Interval of a mean over seeds (n,); `people` (draws,) is that mean over resampled identities.

    Half width t sqrt(var(seeds) / n + var(people)). The variance over few seeds is itself an estimate, so t
    is Student's, with the degrees of freedom of Welch and Satterthwaite for the sum; resampling three seeds
    instead would call one row in four without any effect better or worse. With one seed only var(people)
    counts.
    """
    luck = seeds.var(ddof=1) / len(seeds) if len(seeds) > 1 else 0.0
    half = quantile(0.975, luck, people.var(), len(seeds)) * (luck + people.var()) ** 0.5
    return Interval(*(100 * (seeds.mean() + shift) for shift in (0.0, -half, half)))


def quantile(share, luck, people, seeds):
    """Quantile `share` of Student's t for the sum of two variances, `luck` being estimated from so many
    seeds: (luck + people)^2 / (luck^2 / (seeds - 1)) degrees of freedom."""
    return stats.t.ppf(share, (luck + people) ** 2 / (luck**2 / (seeds - 1)) if luck else np.inf)


class ByIdentity(NamedTuple):
    """AP of several runs on the same queries, summed over the queries of each identity."""

    sums: np.ndarray  # (runs, identities), AP in 0..1
    counts: np.ndarray  # (identities,) queries


def by_identity(asked):
    """The ByIdentity of each (run, task): images of one person are not independent, so identities are
    resampled. ValueError if the queries differ."""
    tables = []
    for run, task in asked:
        scores = run.record(task)
        pids, place = np.unique(scores["pids"], return_inverse=True)
        tables.append((pids, np.bincount(place, scores["ap"]), np.bincount(place)))
    if any(not np.array_equal(tables[0][0], t[0]) or not np.array_equal(tables[0][2], t[2]) for t in tables):
        raise ValueError(
            "expected runs on the same queries, found different ones; compare runs of one data set."
        )
    return ByIdentity(np.stack([t[1] for t in tables]), tables[0][2])


def by_seed(table):
    """mAP of each run (runs,), in 0..1."""
    return table.sums.sum(1) / table.counts.sum()


def by_people(table, draws):
    """mAP over all seeds for resampled identities (draws,): the same resamples for every table with as many
    identities."""
    picks = np.random.default_rng(0).integers(len(table.counts), size=(draws, len(table.counts)))
    return table.sums.mean(0)[picks].sum(1) / table.counts[picks].sum(1)


def detectable(runs, task=None, draws=2000):
    """The smallest true difference of mAP, in points, that a paired comparison of so many seeds finds with 80
    % power; NaN for fewer than two runs.

    Estimated from pairs of runs of the *same* method, which differ by chance alone: the variance over seeds
    shrinks with their number, the variance over people does not.
    """
    if len(runs) < 2:
        return float("nan")
    changes = [paired([one], [renamed(two, one)], task, task, draws) for one, two in pairs(runs)]
    luck = np.mean([one.mean**2 for one in changes]) / len(runs)
    people = np.mean([(one.half / 1.96) ** 2 for one in changes])
    factor = sum(quantile(share, luck, people, len(runs)) for share in (0.975, 0.8))
    return float(factor * (luck + people) ** 0.5)


class Spread(NamedTuple):
    """A paired difference of mAP (0..1), and its variances: over single seeds (`luck`) and over resampled
    identities (`people`)."""

    luck: float
    people: float
    mean: float


def spread(runs, others, task=None, other_task=None, draws=2000):
    """The Spread of `runs` minus `others`, pair by pair of seeds."""
    one, two = tables_of(runs, others, task, other_task)
    luck = (by_seed(one) - by_seed(two)).var(ddof=1) if len(one.sums) > 1 else float("nan")
    people = (by_people(one, draws) - by_people(two, draws)).var()
    return Spread(float(luck), float(people), float((by_seed(one) - by_seed(two)).mean()))


MOST_SEEDS = 50  # where `seeds_needed` gives up


def seeds_needed(found):
    """The number of seeds with which a true difference as large as the one seen is told from zero with 80 %
    power; None where MOST_SEEDS are too few."""
    for seeds in range(2, MOST_SEEDS + 1):
        luck = found.luck / seeds
        factor = sum(quantile(share, luck, found.people, seeds) for share in (0.975, 0.8))
        if factor * (luck + found.people) ** 0.5 <= abs(found.mean):
            return seeds
    return None


def renamed(run, like):
    """The run under the seed of another, so that the two can be paired."""
    return dataclasses.replace(run, spec=run.spec._replace(seed=like.spec.seed))


def pairs(items):
    return [(a, b) for k, a in enumerate(items) for b in items[k + 1 :]]


UNCERTAIN = "cannot tell"


def verdict(difference, printed):
    """Whether our difference has the sign of the printed one: "holds" or "fails"; "cannot tell" where the
    interval contains zero."""
    if difference.low <= 0 <= difference.high:
        return UNCERTAIN
    return "holds" if np.sign(difference.mean) == np.sign(printed) else "fails"
