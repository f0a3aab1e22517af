"""What boxes and claims conclude is what the committed runs say, computed here again from their files: a
conclusion that its runs no longer support fails here."""

import re
from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest

from reid_core.calibrate import lengths
from reid_core.report import ablations, chapters, claims, tables
from reid_core.report import page as page_of
from reid_core.runs import intervals
from reid_core.runs.run import BOOK

CLAIMED = [(name, claim.id) for name, found in chapters.CLAIMS.items() for claim in found]
PAGES = [(name, page) for name, pages in chapters.BOXES.items() for page in pages]
CHAPTERS = {}  # each judged once


def chapter(name):
    if name not in CHAPTERS:
        page = SimpleNamespace(profile="laptop", data=chapters.DATA[name], seed=0, retrain=False, shelf=BOOK)
        CHAPTERS[name] = page_of.chapter(page, name)
    return CHAPTERS[name]


def judged(name, id):
    return next(found for found in chapter(name).judged if found.claim.id == id)


def runs(row):
    """{seed: run} in the files of a Row, of one world."""
    kept = [BOOK.at(spec) for spec in row.specs]
    return {run.spec.seed: run for run in ablations.of_one_world([run for run in kept if run])}


def score(run, test, metric):
    """mAP or R1 of a run, from the precisions or the first ranks of its queries."""
    kept = run.record(test)
    each = {"mAP": np.array(kept["ap"]), "R1": np.array(kept["first"]) == 1}[metric]
    return 100 * float(np.mean(each))


@pytest.mark.parametrize("name, id", CLAIMED)
def test_a_claim_has_the_difference_and_the_verdict_of_the_committed_runs(name, id):
    found = judged(name, id)
    _, better, against, _ = chapter(name).asked(found.claim)
    one, two = runs(better), runs(against)
    both = sorted(set(one) & set(two))
    if not both or not ablations.pair(one[both[0]], two[both[0]]):
        assert found.verdict == tables.NOT_RUN
        return
    metric = found.claim.metric
    gains = [score(one[seed], better.task, metric) - score(two[seed], against.task, metric) for seed in both]
    assert found.one.change.mean == pytest.approx(np.mean(gains), abs=1e-6)
    if any(run.outdated for seed in both for run in (one[seed], two[seed])):
        assert found.verdict == tables.STALE
        return
    assert found.verdict != claims.HOLDS or found.one.change.low > 0, "its interval holds zero"
    assert found.verdict != claims.FAILS or found.one.change.high < 0, "its interval holds zero"


@pytest.mark.parametrize("name, page", PAGES)
def test_a_box_tells_the_verdicts_and_ends_as_the_first_of_them_says(name, page):
    box = chapters.BOXES[name][page]
    told = unescape(re.sub(r"<style>.*?</style>|<[^>]+>", "", chapter(name).box(page).data))
    found = [judged(name, id) for id in box.claims]
    ends = {claims.HOLDS: box.holds, claims.FAILS: box.fails, **claims.OPEN}
    assert told.startswith(box.says) and told.endswith(ends[found[0].verdict])
    for one in found:
        assert one.verdict in told and one.claim.text in told
        assert not one.one.change or tables.points(one.one.change.mean) in told


@pytest.mark.parametrize("name", chapters.CLAIMS)
def test_no_more_claims_are_decided_than_their_number_allows(name):
    """Holm's rule, counted here: the k-th smallest of m p values must be below 0.05 / (m - k + 1)."""
    decided = claims.HOLDS, claims.FAILS
    judged = [one for one in chapter(name).judged if one.verdict in (*decided, claims.UNDECIDED)]
    allowed = 0
    for k, p in enumerate(sorted(intervals.chance(one.one.spread) for one in judged)):
        if p > 0.05 / (len(judged) - k):
            break
        allowed += 1
    assert sum(one.verdict in decided for one in judged) <= allowed


def test_half_of_the_epochs_is_not_steady_for_promptsg_as_the_page_of_the_world_says():
    measured = {data: found[0.5] for (kind, data), found in lengths.points().items() if kind == "promptsg"}
    assert any(point.spread > lengths.STEADY[data] for data, point in measured.items() if point.seeds > 2)
