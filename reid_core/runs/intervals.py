"""How far chance may have moved a score or a difference: the luck of training, and who is searched for."""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import stats


class Interval(NamedTuple):
    """In per cent (of average precision) or points (of a difference), with the ends of a 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def half(self):
        return (self.high - self.low) / 2


def interval(runs, task=None, draws=2000):
    """Mean AP of runs that differ in their seed."""
    table = by_identity([(run, task) for run in runs])
    return around(by_seed(table), by_people(table, draws))


def paired(runs, others, task=None, other_task=None, draws=2000):
    """Mean AP of `runs` minus that of `others`, pair by pair of seeds, on the same resampled identities. Each
    side has its way of searching; None is a run's first."""
    one, two = tables_of(runs, others, task, other_task)
    return around(by_seed(one) - by_seed(two), by_people(one, draws) - by_people(two, draws))


def tables_of(runs, others, task=None, other_task=None):
    """Two ByIdentity of the runs that share a seed, in the same order of seeds."""
    seeds = {run.spec.seed: run for run in others}
    both = [(run, seeds[run.spec.seed]) for run in runs if run.spec.seed in seeds]
    if not both:
        raise ValueError("expected runs that share seeds, found none; measure both with the same seeds.")
    sides = zip(zip(*both), (task, other_task))
    together = by_identity([(run, asked) for side, asked in sides for run in side])
    return [ByIdentity(half, together.counts) for half in np.split(together.sums, 2)]


def around(seeds, people):
    """The interval of a mean over seeds (S,); `people` (draws,) is the same mean with others searched for.

    Both are chance: of so few seeds the luck of training is known badly, so that Student's t counts, with the
    degrees of freedom of Welch and Satterthwaite for the sum. Resampling three seeds would call one row in
    four without any effect better or worse. One seed tells nothing of luck: then it is the interval over
    people alone.
    """
    luck = seeds.var(ddof=1) / len(seeds) if len(seeds) > 1 else 0.0
    half = quantile(0.975, luck, people.var(), len(seeds)) * (luck + people.var()) ** 0.5
    return Interval(*(100 * (seeds.mean() + shift) for shift in (0.0, -half, half)))


def quantile(share, luck, people, seeds):
    """Of Student's t, for a sum of two variances of which the first was estimated from so many seeds."""
    return stats.t.ppf(share, (luck + people) ** 2 / (luck**2 / (seeds - 1)) if luck else np.inf)


class ByIdentity(NamedTuple):
    sums: np.ndarray  # (seeds, identities), AP summed over the identity's queries
    counts: np.ndarray  # (identities,)


def by_identity(asked):
    """AP of the queries of each (run, task), gathered by identity: images of one person are not
    independent."""
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
    """Mean AP of each seed, (S,)."""
    return table.sums.sum(1) / table.counts.sum()


def by_people(table, draws):
    """Mean AP over all seeds for resampled identities, (draws,): the same identities for every table of as
    many."""
    picks = np.random.default_rng(0).integers(len(table.counts), size=(draws, len(table.counts)))
    return table.sums.mean(0)[picks].sum(1) / table.counts[picks].sum(1)


def detectable(runs, task=None, draws=2000):
    """How large a true difference of mean AP, in points, must be for a paired comparison of so many seeds to
    find it four times in five.

    Two runs of the *same* method differ by chance alone: by the luck of training, which moves their
    difference and shrinks with the number of seeds, and by who is searched for, which spreads it.
    """
    if len(runs) < 2:
        return float("nan")
    changes = [paired([one], [renamed(two, one)], task, task, draws) for one, two in pairs(runs)]
    luck = np.mean([one.mean**2 for one in changes]) / len(runs)
    people = np.mean([(one.half / 1.96) ** 2 for one in changes])
    factor = sum(quantile(share, luck, people, len(runs)) for share in (0.975, 0.8))
    return float(factor * (luck + people) ** 0.5)


class Spread(NamedTuple):
    """Variances of a paired difference of mean AP (0..1): of one seed, and of who is searched for; and the
    difference."""

    luck: float
    people: float
    mean: float


def spread(runs, others, task=None, other_task=None, draws=2000):
    """The Spread of `runs` minus `others`, pair by pair of seeds."""
    one, two = tables_of(runs, others, task, other_task)
    luck = (by_seed(one) - by_seed(two)).var(ddof=1) if len(one.sums) > 1 else float("nan")
    people = (by_people(one, draws) - by_people(two, draws)).var()
    return Spread(float(luck), float(people), float((by_seed(one) - by_seed(two)).mean()))


MOST_SEEDS = 50  # more than anybody trains


def seeds_needed(found):
    """How many seeds would tell a true difference as large as the one seen from none, four times in five;
    None where no number up to MOST_SEEDS would, because the people who are searched for spread it too much or
    it is too small."""
    for seeds in range(2, MOST_SEEDS + 1):
        luck = found.luck / seeds
        factor = sum(quantile(share, luck, found.people, seeds) for share in (0.975, 0.8))
        if factor * (luck + found.people) ** 0.5 <= abs(found.mean):
            return seeds
    return None


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
