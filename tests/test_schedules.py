"""Learning-rate curves; published tables are in fidelity."""

import pytest

from reid_core.schedules import (
    Schedule,
    constant,
    exponential,
    warmup_cosine,
    warmup_milestones,
    warmup_then_cosine,
)


def test_clip_reid_stage_2_at_the_epochs_of_the_card():
    rate = lambda e: 5e-6 * warmup_milestones(60, 10, 0.1, (30, 50)).factor(e)  # noqa: E731
    assert [rate(e) for e in (1, 10, 30, 50)] == pytest.approx([9.5e-7, 5e-6, 5e-7, 5e-8])


def test_clip_reid_stage_1_at_the_epochs_of_the_card():
    rate = lambda e: 3.5e-4 * warmup_cosine(120, 3.5e-4, 1e-6, 5, 1e-5).factor(e)  # noqa: E731
    assert [rate(e) for e in (1, 4, 120)] == pytest.approx([7.8e-5, 2.82e-4, 1e-6])


def test_hpl_falls_by_a_fifth_each_epoch():
    assert 0.02 * exponential(10, 0.8).factor(10) == pytest.approx(0.00268, rel=1e-2)
    assert warmup_then_cosine(60, 5, 0.1).factor(1) == pytest.approx(0.1)


@pytest.mark.parametrize(
    "curve",
    [
        constant(6),
        warmup_cosine(6, 1.0, 0.0, 0.5, 0.0),
        warmup_milestones(6, 1, 0.1, (3,)),
        warmup_then_cosine(6, 0.5, 0.02),
        warmup_then_cosine(60, 5, 0.1),
        exponential(6, 0.8),
    ],
)
def test_no_curve_leaves_the_range_from_nothing_to_its_rate_within_an_epoch(curve):
    """Read per step, the first epoch lies before position 1: a line that is extended to there turns
    negative."""
    places = [curve.position(epoch, 6, step, 10, True) for epoch in range(6) for step in range(10)]
    assert all(0 <= curve.factor(place) <= 1 + 1e-9 for place in places)


def test_at_full_length_a_position_is_the_epoch_exactly():
    schedule = warmup_milestones(60, 10, 0.1, (30, 50))
    assert [schedule.position(e, 60, 0, 183, False) for e in range(60)] == list(range(1, 61))


def test_a_shorter_run_keeps_the_fractions():
    schedule = warmup_milestones(60, 10, 0.1, (30, 50))
    places = [schedule.position(e, 15, s, 24, True) for e in range(15) for s in range(24)]
    factors = [schedule.factor(place) for place in places]
    assert places[-1] == pytest.approx(60) and factors[59] == pytest.approx(1.0) and factors[58] < 1
    assert factors.index(next(f for f in factors[60:] if f < 0.5)) == 179  # half of 360 steps


def test_a_curve_over_steps_counts_steps():
    schedule = warmup_milestones(300, 10, 0.01, (30,), unit="step")
    assert schedule.position(2, 3, 5, 100, False) == 205 and schedule.position(1, 3, 0, 10, False) == 100


def test_a_constant_is_constant():
    assert isinstance(constant(5), Schedule) and constant(5).factor(3) == 1
