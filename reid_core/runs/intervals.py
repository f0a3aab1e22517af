"""Confidence intervals of scores and of paired differences. Two sources of chance count: the training seed,
and which people are the queries.

Every metric of a run (mAP, R1, R5, R10, mINP) is a mean over its queries, so one bootstrap over identities
serves all: the same resamples, whatever the metric.
"""

import dataclasses
import itertools
from typing import NamedTuple

import numpy as np
from scipy import special  # scipy.stats has the same, and takes half a second to import


class Interval(NamedTuple):
    """A mean in per cent (a metric) or in points (a difference), with the ends of its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def half(self):
        """Half the width."""
        return (self.high - self.low) / 2


class Spread(NamedTuple):
    """A mean over seeds in 0..1, a metric or a paired difference, and its variances: over single seeds
    (`luck`, NaN with one) and over resampled identities (`people`)."""

    luck: float
    people: float
    mean: float
    seeds: int = 1

    @property
    def by_luck(self):
        """The variance of the mean that comes from the seeds; unknown with one, then not counted."""
        return self.luck / self.seeds if self.seeds > 1 else 0.0

    @property
    def deviation(self):
        """The standard deviation of the mean."""
        return (self.by_luck + self.people) ** 0.5


def interval(runs, task=None, metric="mAP", draws=2000):
    """The Interval of a metric of runs that differ in their seed; `task` None is their first test."""
    table = by_identity([(run, task) for run in runs], metric)
    return around(spread_of(by_seed(table), by_people(table, draws)))


def paired(runs, others, task=None, other_task=None, metric="mAP", draws=2000):
    """The Interval of a metric of `runs` minus that of `others`, pair by pair of seeds, on the same resampled
    identities. Each side has its own test; None is a run's first."""
    return around(spread(runs, others, task, other_task, metric, draws))


def spread(runs, others, task=None, other_task=None, metric="mAP", draws=2000):
    """The Spread of `runs` minus `others`, pair by pair of seeds."""
    one, two = tables_of(runs, others, task, other_task, metric)
    return spread_of(by_seed(one) - by_seed(two), by_people(one, draws) - by_people(two, draws))


def spread_of(seeds, people):
    """The Spread of a mean over seeds (n,); `people` (draws,) is that mean over resampled identities."""
    luck = float("nan")
    if len(seeds) > 1:
        luck = float(seeds.var(ddof=1))  # ddof: the mean is estimated from the same seeds
    return Spread(luck, float(people.var()), float(seeds.mean()), len(seeds))


def tables_of(runs, others, task=None, other_task=None, metric="mAP"):
    """A ByIdentity for each side, of the runs that share a seed, in the same order of seeds."""
    seeds = {run.spec.seed: run for run in others}
    both = [(run, seeds[run.spec.seed]) for run in runs if run.spec.seed in seeds]
    if not both:
        raise ValueError("expected runs that share seeds, found none; measure both with the same seeds.")
    asked = [(run, task) for run, _ in both]
    asked += [(other, other_task) for _, other in both]
    together = by_identity(asked, metric)  # also checks that both sides have the same queries
    one, two = np.split(together.sums, 2)  # (2 x seeds, identities) -> (seeds, identities) each
    return ByIdentity(one, together.counts), ByIdentity(two, together.counts)


def around(found):
    """The Interval of a Spread.

    Half width t sqrt(var(seeds) / n + var(people)). The variance over few seeds is itself an estimate, so t
    is Student's, with the degrees of freedom of Welch and Satterthwaite for the sum; resampling three seeds
    instead would call one row in four without any effect better or worse. With one seed only var(people)
    counts.
    """
    half = quantile(0.975, found.by_luck, found.people, found.seeds) * found.deviation
    return Interval(100 * found.mean, 100 * (found.mean - half), 100 * (found.mean + half))


def chance(found):
    """The two-sided p value of a difference, from the t of its interval: below 0.05 where that leaves out
    zero."""
    if not found.deviation:  # without any scatter a difference is either nothing or certain
        return float(found.mean == 0)
    t = abs(found.mean) / found.deviation
    return float(2 * special.stdtr(freedom(found.by_luck, found.people, found.seeds), -t))


def holm(chances):
    """p values of several comparisons, corrected so that all errors together stay below 5 % (Holm 1979): the
    k-th smallest of m times m - k + 1, and never below a smaller one's."""
    corrected = [1.0] * len(chances)
    largest = 0.0
    for rank, place in enumerate(np.argsort(chances, kind="stable")):
        largest = max(largest, min(1.0, chances[place] * (len(chances) - rank)))
        corrected[place] = largest
    return corrected


def quantile(share, luck, people, seeds):
    """Quantile `share` of Student's t for the sum of two variances, `luck` being estimated from so many
    seeds."""
    return special.stdtrit(freedom(luck, people, seeds), share)


def freedom(luck, people, seeds):
    """Degrees of freedom of Welch and Satterthwaite, (luck + people)^2 / (luck^2 / (seeds - 1)); without luck
    infinite, as of the normal distribution."""
    return (luck + people) ** 2 / (luck**2 / (seeds - 1)) if luck else np.inf


class ByIdentity(NamedTuple):
    """A metric of several runs on the same queries, summed over the queries of each identity."""

    sums: np.ndarray  # (runs, identities), each query in 0..1 times its weight
    counts: (
        np.ndarray
    )  # (identities,) queries, each by its weight: 1 unless the record is an average of tests


def per_query(record, metric):
    """A metric of each query (queries,) in 0..1, the mean of which is the metric; None where a record does
    not keep it: mINP in older runs."""
    if metric[0] == "R" and metric[1:].isdecimal():
        return np.less_equal(record["first"], int(metric[1:])) if "first" in record else None
    return record.get({"mAP": "ap", "mINP": "inp"}.get(metric))


def kept(runs, task=None, metric="mAP"):
    """Whether every run keeps a metric query by query, so that an interval can be computed."""
    return all(per_query(run.record(task), metric) is not None for run in runs)


def by_identity(asked, metric="mAP"):
    """The ByIdentity of each (run, task): images of one person are not independent, so identities are
    resampled. ValueError if the queries differ."""
    sums = []
    first = None  # the identities of the first run, and their numbers of queries
    for run, task in asked:
        scores = run.record(task)
        pids, place = np.unique(scores["pids"], return_inverse=True)  # (identities,), (queries,)
        weights = scores.get("weights", np.ones(len(place)))  # (queries,)
        counts = np.bincount(place, weights)  # (identities,)
        first = first or (pids, counts)
        if not np.array_equal(first[0], pids) or not np.array_equal(first[1], counts):
            raise ValueError(
                "expected runs on the same queries, found different ones; compare runs of one data set."
            )
        # (identities,)
        sums.append(np.bincount(place, weights * per_query(scores, metric)))
    return ByIdentity(np.stack(sums), first[1])


def by_seed(table):
    """The metric of each run (runs,), in 0..1."""
    return table.sums.sum(1) / table.counts.sum()


def by_people(table, draws):
    """The metric over all seeds for resampled identities (draws,): the same resamples for every table
    with as many identities."""
    people = len(table.counts)
    rng = np.random.default_rng(0)  # always the same: `paired` subtracts draw by draw
    picks = rng.integers(people, size=(draws, people))  # with replacement
    sums = table.sums.mean(0)[picks]  # (draws, identities), the mean over seeds
    counts = table.counts[picks]
    return sums.sum(1) / counts.sum(1)  # (draws,)


def detectable(runs, task=None, metric="mAP", draws=2000, level=0.05):
    """The smallest true difference, in points, that a paired comparison of so many seeds finds with 80 %
    power; NaN for fewer than two runs.

    Estimated from pairs of runs of the *same* method, which differ by chance alone: the variance over seeds
    shrinks with their number, the variance over people does not.
    """
    if len(runs) < 2:
        return float("nan")
    changes = []
    for one, two in itertools.combinations(runs, 2):
        changes.append(spread([one], [renamed(two, one)], task, task, metric, draws))
    # the expected change is zero, so the mean square is the variance
    luck = np.mean([change.mean**2 for change in changes])
    people = np.mean([change.people for change in changes])
    return smallest(Spread(float(luck), float(people), 0.0, len(runs)), level)


def smallest(found, level=0.05):
    """The smallest true difference, in points, that a comparison with the scatter of this one tells from zero
    with 80 % power; NaN with one seed."""
    if found.seeds < 2:
        return float("nan")
    return float(100 * power(found.by_luck, found.people, found.seeds, level))


def power(luck, people, seeds, level=0.05):
    """The difference that is found with 80 % power: the sum of the quantiles for the confidence 1 - `level`
    and for 80 % power, times the standard deviation."""
    confidence = quantile(1 - level / 2, luck, people, seeds)  # two-sided
    certainty = quantile(0.8, luck, people, seeds)
    return (confidence + certainty) * (luck + people) ** 0.5


MOST_SEEDS = 50  # where `seeds_needed` gives up


def seeds_needed(found, level=0.05):
    """The number of seeds with which a true difference as large as the one seen is told from zero with 80 %
    power; None where MOST_SEEDS are too few."""
    if not found.mean:
        return None
    for seeds in range(2, MOST_SEEDS + 1):  # var(people) does not shrink, so no number may do
        if power(found.luck / seeds, found.people, seeds, level) <= abs(found.mean):
            return seeds
    return None


def renamed(run, like):
    """The run under the seed of another, so that the two can be paired."""
    return dataclasses.replace(run, spec=run.spec._replace(seed=like.spec.seed))


UNCERTAIN = "undecided"


def verdict(difference, printed):
    """Whether our difference has the sign of the printed one: "holds" or "fails"; "undecided" where the
    interval contains zero."""
    if difference.low <= 0 <= difference.high:
        return UNCERTAIN
    agree = np.sign(difference.mean) == np.sign(printed)
    return "holds" if agree else "fails"
