"""Learning-rate curves: position -> factor on a group's rate.

A position counts what the published schedule counts: epochs from 1 (the epoch about to run), or steps from 0.
A run of another length maps its own progress onto the published span, so warm-up and milestones keep their
fraction. Read per step, a curve falls where epoch 20 ends; published per epoch, with the epoch from 1, where
it begins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi


@dataclass(frozen=True)
class Schedule:
    """A curve over `span` epochs or steps."""

    factor: Callable
    span: float
    unit: str = "epoch"

    def position(self, epoch, epochs, step, steps, fine):
        """Where in the published curve step `step` of `steps` in epoch `epoch` of `epochs` lies, both from 0.

        A curve over epochs is constant within each epoch unless `fine`.
        """
        if self.unit == "step":
            return (epoch * steps + step) * self.span / (epochs * steps)
        return (epoch + (step + 1) / steps) * self.span / epochs if fine else (epoch + 1) * self.span / epochs


def constant(span):
    return Schedule(lambda position: 1.0, span)


def warmup_milestones(span, warmup, start, milestones, decay=0.1, unit="epoch"):
    """Linear from `start` at 0 to 1 at `warmup`; times `decay` from each milestone on. CLIP-ReID stage 2;
    VLADR per step."""

    def factor(e):
        rising = start + (1 - start) * e / warmup if e < warmup else 1.0
        return rising * decay ** sum(e >= m for m in milestones)  # milestones passed so far

    return Schedule(factor, span, unit)


def warmup_cosine(span, base, lowest, warmup, start):
    """timm's cosine in absolute epochs: `start` to `base` linearly over `warmup`, then the cosine as if it
    had begun at epoch 0, `lowest` at the end; all rates absolute. CLIP-ReID and PAD stage 1; TOP-ReID."""
    if not base:  # no factor makes anything of it
        return constant(span)

    def factor(e):
        if e < warmup:
            return (start + e * (base - start) / warmup) / base  # a factor on `base`
        return (
            (lowest + 0.5 * (base - lowest) * (1 + cos(pi * e / span))) / base if e < span else lowest / base
        )

    return Schedule(factor, span)


def warmup_then_cosine(span, warmup, start, end=0.0):
    """Linear from `start` in epoch 1 to 1 after `warmup` epochs, then a cosine over the rest towards `end`.
    IRRA; HPL stage II."""

    def factor(e):
        t = max(e - 1, 0)  # within epoch 1, where schedules are read per step, nothing has begun yet
        if t < warmup:
            return start + (1 - start) * t / warmup
        return end + (1 - end) * 0.5 * (1 + cos(pi * (t - warmup) / (span - warmup)))

    return Schedule(factor, span)


def exponential(span, gamma):
    """gamma^(e - 1). HPL stage I."""
    return Schedule(lambda e: gamma ** max(e - 1, 0), span)
