"""Intervals, pairs of runs, and what so many seeds can tell."""

from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import noisy, run

from reid_core import metrics
from reid_core.runs import intervals, measure, records
from reid_core.runs.intervals import detectable, interval, paired, verdict


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng, hits = np.random.default_rng(0), 0
    for _ in range(60):
        ap = rng.beta(2, 2, 80)
        found = interval([run(0, ap)], draws=300)
        hits += found.low <= 50 <= found.high
    assert 50 <= hits <= 60


def test_three_lucky_seeds_are_no_effect():
    """Where the luck of training is all there is, an interval of three seeds leaves out nothing in 95 of 100
    cases."""
    rng, found = np.random.default_rng(0), 0
    people = np.full(50, 0.5)
    for _ in range(200):
        one, two = (
            [run(seed, people + luck) for seed, luck in enumerate(rng.normal(0, 0.02, 3))] for _ in range(2)
        )
        change = paired(one, two, draws=50)
        found += not change.low <= 0 <= change.high
    assert 2 <= found <= 18


def test_every_metric_has_the_interval_of_its_own_queries():
    """One seed, 800 queries of 400 people, 87 % of them with a match at the first rank: the interval is that
    of a share among so many, not nothing."""
    rng = np.random.default_rng(0)
    first = np.where(rng.random(800) < 0.87, 1, rng.integers(2, 20, 800))
    inp = rng.beta(2, 2, 800).round(5)
    one = run(0, rng.beta(2, 2, 800), np.repeat(range(400), 2).tolist(), first=first.tolist(), inp=inp)
    for metric in ("mAP", "R1", "R5", "R10", "mINP"):
        assert interval([one], metric=metric).mean == pytest.approx(one.score(metric))
    share = (first == 1).mean()
    half = interval([one], metric="R1").half
    assert half == pytest.approx(196 * (share * (1 - share) / 800) ** 0.5, rel=0.1) and half > 2
    assert interval([one], metric="R10").half < half
    same = run(0, inp, one.record()["pids"])
    assert interval([one], metric="mINP") == interval([same]), "the same resamples"


def test_a_difference_of_any_metric_is_paired():
    def ranks(seed, share):
        hard = np.random.default_rng(7).random(150)
        luck = np.random.default_rng(seed).normal(0, 0.02, 150)
        return run(seed, [0.5] * 150, first=np.where(hard + luck < share, 1, 2).tolist())

    change = paired([ranks(s, 0.8) for s in range(3)], [ranks(s, 0.6) for s in range(3)], metric="R1")
    assert change.low > 0 and change.mean == pytest.approx(20, abs=5)


def test_an_older_run_keeps_no_inverse_negative_penalty():
    assert not intervals.kept([run(0, [0.5])], None, "mINP") and intervals.kept([run(0, [0.5])])
    assert intervals.kept([run(0, [0.5], inp=[0.1])], None, "mINP")
    assert not intervals.kept([run(0, [0.5])], None, "R1")


def test_a_p_value_says_what_the_interval_says():
    rng = np.random.default_rng(1)
    for _ in range(50):
        found = intervals.Spread(rng.random() / 1e3, rng.random() / 1e3, rng.normal(0, 0.06), seeds=3)
        around = intervals.around(found)
        assert (intervals.chance(found) < 0.05) == (not around.low <= 0 <= around.high)
    assert intervals.chance(intervals.Spread(0.0, 0.0, 0.0, 3)) == 1, "the same runs"
    assert intervals.chance(intervals.Spread(0.0, 0.0, 0.01, 3)) == 0


def test_many_comparisons_are_corrected_step_by_step():
    assert intervals.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert (
        intervals.holm([0.9, 0.8]) == [1, 1] and intervals.holm([]) == [] and intervals.holm([0.04]) == [0.04]
    )


def test_of_many_rows_without_an_effect_a_table_seldom_calls_one():
    rng, called = np.random.default_rng(0), 0
    for _ in range(200):
        spreads = [intervals.spread_of(rng.normal(0, 0.02, 5), rng.normal(0, 0.005, 300)) for _ in range(10)]
        called += min(intervals.holm(list(map(intervals.chance, spreads)))) < 0.05
    assert called <= 20, "uncorrected, about 80 of 200"


def test_what_a_comparison_resolves_comes_from_its_own_pairs():
    ups = (0.0, 0.02, 0.04, 0.06, 0.08)  # the luck of five seeds, three points
    found = intervals.spread([noisy(s, up) for s, up in enumerate(ups)], [noisy(s) for s in range(5)])
    quiet = intervals.spread([noisy(s, 0.04) for s in range(5)], [noisy(s) for s in range(5)])
    assert found.seeds == 5 and intervals.smallest(found) > 4 > 1 > intervals.smallest(quiet)
    assert intervals.smallest(found, level=0.005) > intervals.smallest(found)
    assert np.isnan(intervals.smallest(found._replace(seeds=1)))


def test_images_of_one_person_count_as_one():
    ap, pids = np.repeat([0.2, 0.8, 0.5, 0.4], 25), np.repeat([1, 2, 3, 4], 25).tolist()
    assert interval([run(0, ap, pids)]).half > 2 * interval([run(0, ap)]).half


def test_pairing_sees_what_two_intervals_hide():
    better, base = ([noisy(s, shift, spread=0.02) for s in range(3)] for shift in (0.02, 0.0))
    difference = paired(better, base)
    assert difference.low > 0 and difference.mean == pytest.approx(2, abs=0.5)
    assert interval(base).half > difference.half


def test_runs_on_other_queries_are_not_compared():
    with pytest.raises(ValueError, match="runs on the same queries"):
        paired([run(0, [0.5] * 4)], [run(0, [0.5] * 4, pids=[9, 9, 1, 2])])
    with pytest.raises(ValueError, match="share seeds, found none"):
        paired([noisy(1)], [noisy(2)])


def test_what_can_be_detected_shrinks_with_seeds_and_with_less_noise():
    few, many = (
        detectable([noisy(s) for s in range(2)], draws=300),
        detectable([noisy(s) for s in range(6)], draws=300),
    )
    quiet = detectable([noisy(s, spread=0.01) for s in range(2)], draws=300)
    assert many < few and quiet < few and np.isnan(detectable([noisy(0)]))


def test_luck_in_training_hides_differences_as_small_as_itself():
    """Seeds three points apart, all people alike: no difference of one point could be told."""
    lucky = [noisy(seed, shift) for seed, shift in enumerate((0.0, 0.03, -0.03))]
    steady = [noisy(seed) for seed in range(3)]
    assert detectable(lucky, draws=300) > 5 > 2 > detectable(steady, draws=300)


def test_the_seeds_that_would_tell_are_those_after_which_a_difference_can_be_told():
    """Of a true difference of two points and a luck of three, so many seeds find it four times in five."""
    found = intervals.Spread(luck=0.03**2, people=0.001**2, mean=0.02)
    seeds = intervals.seeds_needed(found)
    rng, told = np.random.default_rng(0), 0
    for _ in range(400):
        half = intervals.quantile(0.975, found.luck / seeds, found.people, seeds)
        some = rng.normal(0.02, 0.03, seeds)
        told += abs(some.mean()) > half * (some.var(ddof=1) / seeds + found.people) ** 0.5
    assert 0.72 < told / 400 < 0.9 and seeds > 10
    assert intervals.seeds_needed(found._replace(people=0.02**2)) is None, (
        "more seeds do not change who is searched for"
    )
    assert intervals.seeds_needed(found._replace(mean=0.0)) is None


def test_the_spread_of_a_difference_is_that_of_its_pairs():
    ups = (0.0, 0.01, 0.04)
    runs, others = ([noisy(s, shift) for s, shift in enumerate(some)] for some in (ups, (0.0, 0.0, 0.0)))
    found = intervals.spread(runs, others)
    assert found.luck == pytest.approx(np.var(ups, ddof=1), rel=0.05) and found.mean == pytest.approx(
        np.mean(ups), abs=1e-3
    )


def test_a_verdict_needs_an_interval_without_zero():
    assert verdict(intervals.Interval(1.0, 0.2, 1.8), printed=3.0) == "holds"
    assert verdict(intervals.Interval(-1.0, -1.8, -0.2), printed=3.0) == "fails"
    assert verdict(intervals.Interval(1.0, -0.2, 2.2), printed=3.0) == "undecided"


def test_two_tests_of_one_run_are_compared_query_by_query():
    runs = [noisy(seed) for seed in range(3)]
    for one in runs:
        record = one.record("image to image")
        one.scores.append({**record, "task": "simplified prompt", "ap": [ap / 2 for ap in record["ap"]]})
    change = paired(runs, runs, "simplified prompt", "image to image")
    assert change.mean == pytest.approx(-50 * np.mean([one.record()["ap"] for one in runs]), abs=1e-6)
    assert change.high < 0


def test_a_run_keeps_the_last_match_of_each_query_and_its_mean_is_held_to_it():
    scores = metrics.from_ranks([np.array([1, 3]), np.array([2])], gallery=9)._replace(pids=np.array([4, 5]))
    told = measure.record(SimpleNamespace(data="toy", after=""), "image to image", scores)
    assert told["inp"] == [0.66667, 0.5]
    records.check_record(told)
    told["summary"]["mINP"] = 60.0
    with pytest.raises(ValueError, match="a mINP of 60.0, where its queries give 58.333"):
        records.check_record(told)
    with pytest.raises(ValueError, match="2 average precisions, where inp has 1 numbers"):
        records.check_record({**told, "inp": [0.5]})
    del told["inp"]
    records.check_record(told)  # an older run
