"""Confidence intervals of scores and of paired differences. Two sources of chance count: the training seed,
and which people are the queries."""

import dataclasses
import itertools
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
        """Half the width."""
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
    asked = [(run, task) for run, _ in both]
    asked += [(other, other_task) for _, other in both]
    together = by_identity(asked)  # also checks that both sides have the same queries
    one, two = np.split(together.sums, 2)  # (2 x seeds, identities) -> (seeds, identities) each
    return ByIdentity(one, together.counts), ByIdentity(two, together.counts)


def around(seeds, people):
    """The Interval of a mean over seeds (n,); `people` (draws,) is that mean over resampled identities.

    Half width t sqrt(var(seeds) / n + var(people)). The variance over few seeds is itself an estimate, so t
    is Student's, with the degrees of freedom of Welch and Satterthwaite for the sum; resampling three seeds
    instead would call one row in four without any effect better or worse. With one seed only var(people)
    counts.
    """
    luck = 0.0  # unknown with one seed
    if len(seeds) > 1:
        luck = seeds.var(ddof=1) / len(seeds)  # ddof: the mean is estimated from the same seeds
    deviation = (luck + people.var()) ** 0.5
    half = quantile(0.975, luck, people.var(), len(seeds)) * deviation
    mean = seeds.mean()
    return Interval(100 * mean, 100 * (mean - half), 100 * (mean + half))


def quantile(share, luck, people, seeds):
    """Quantile `share` of Student's t for the sum of two variances, `luck` being estimated from so many
    seeds: (luck + people)^2 / (luck^2 / (seeds - 1)) degrees of freedom."""
    freedom = np.inf  # as of the normal distribution
    if luck:
        freedom = (luck + people) ** 2 / (luck**2 / (seeds - 1))
    return stats.t.ppf(share, freedom)


class ByIdentity(NamedTuple):
    """AP of several runs on the same queries, summed over the queries of each identity."""

    sums: np.ndarray  # (runs, identities), AP in 0..1
    counts: np.ndarray  # (identities,) queries


def by_identity(asked):
    """The ByIdentity of each (run, task): images of one person are not independent, so identities are
    resampled. ValueError if the queries differ."""
    sums = []
    first = None  # the identities of the first run, and their numbers of queries
    for run, task in asked:
        scores = run.record(task)
        pids, place = np.unique(scores["pids"], return_inverse=True)  # (identities,), (queries,)
        counts = np.bincount(place)  # (identities,)
        first = first or (pids, counts)
        if not np.array_equal(first[0], pids) or not np.array_equal(first[1], counts):
            raise ValueError(
                "expected runs on the same queries, found different ones; compare runs of one data set."
            )
        sums.append(np.bincount(place, scores["ap"]))  # (identities,), AP as weights
    return ByIdentity(np.stack(sums), first[1])


def by_seed(table):
    """mAP of each run (runs,), in 0..1."""
    return table.sums.sum(1) / table.counts.sum()


def by_people(table, draws):
    """mAP over all seeds for resampled identities (draws,): the same resamples for every table with as many
    identities."""
    people = len(table.counts)
    rng = np.random.default_rng(0)  # always the same: `paired` subtracts draw by draw
    picks = rng.integers(people, size=(draws, people))  # with replacement
    sums = table.sums.mean(0)[picks]  # (draws, identities), the mean over seeds
    counts = table.counts[picks]
    return sums.sum(1) / counts.sum(1)  # (draws,)


def detectable(runs, task=None, draws=2000):
    """The smallest true difference of mAP, in points, that a paired comparison of so many seeds finds with 80
    % power; NaN for fewer than two runs.

    Estimated from pairs of runs of the *same* method, which differ by chance alone: the variance over seeds
    shrinks with their number, the variance over people does not.
    """
    if len(runs) < 2:
        return float("nan")
    changes = []
    for one, two in itertools.combinations(runs, 2):
        changes.append(paired([one], [renamed(two, one)], task, task, draws))
    # the expected change is zero, so the mean square is the variance
    luck = np.mean([change.mean**2 for change in changes]) / len(runs)
    # of one pair of runs each: half a width holds var(people) alone, 1.96 times its root
    people = np.mean([(change.half / 1.96) ** 2 for change in changes])
    return float(power(luck, people, len(runs)))


def power(luck, people, seeds):
    """The difference that is found with 80 % power: the sum of the quantiles for 95 % confidence and for 80 %
    power, times the standard deviation."""
    confidence = quantile(0.975, luck, people, seeds)  # two-sided, 95 %
    certainty = quantile(0.8, luck, people, seeds)
    return (confidence + certainty) * (luck + people) ** 0.5


class Spread(NamedTuple):
    """A paired difference of mAP (0..1), and its variances: over single seeds (`luck`) and over resampled
    identities (`people`)."""

    luck: float
    people: float
    mean: float


def spread(runs, others, task=None, other_task=None, draws=2000):
    """The Spread of `runs` minus `others`, pair by pair of seeds."""
    one, two = tables_of(runs, others, task, other_task)
    changes = by_seed(one) - by_seed(two)  # (seeds,)
    luck = float("nan")  # unknown with one seed
    if len(changes) > 1:
        luck = changes.var(ddof=1)
    people = (by_people(one, draws) - by_people(two, draws)).var()  # over the same resamples
    return Spread(float(luck), float(people), float(changes.mean()))


MOST_SEEDS = 50  # where `seeds_needed` gives up


def seeds_needed(found):
    """The number of seeds with which a true difference as large as the one seen is told from zero with 80 %
    power; None where MOST_SEEDS are too few."""
    for seeds in range(2, MOST_SEEDS + 1):  # var(people) does not shrink, so no number may do
        if power(found.luck / seeds, found.people, seeds) <= abs(found.mean):
            return seeds
    return None


def renamed(run, like):
    """The run under the seed of another, so that the two can be paired."""
    return dataclasses.replace(run, spec=run.spec._replace(seed=like.spec.seed))


UNCERTAIN = "cannot tell"


def verdict(difference, printed):
    """Whether our difference has the sign of the printed one: "holds" or "fails"; "cannot tell" where the
    interval contains zero."""
    if difference.low <= 0 <= difference.high:
        return UNCERTAIN
    agree = np.sign(difference.mean) == np.sign(printed)
    return "holds" if agree else "fails"
