"""Books over domains: the measures of the golden files, from records in any order."""

import random

import pytest
from golden import golden

from reid_core import lifelong

CLOSE = {"abs": 1e-9}


def records_of(rows, tested, metric="mAP"):
    """A record for every row (after a domain) and column (a tested set), shuffled."""
    records = [
        {"data": data, "task": "t", "after": f"d{s}", "summary": {metric: value}}
        for s, row in enumerate(rows)
        for data, value in zip(tested, row, strict=True)
    ]
    random.Random(0).shuffle(records)
    return records


@golden("lifelong__bookkeeping")
def test_forgetting_transfer_and_averages_are_those_of_the_definitions(file):
    file = file()
    rows, wanted = file["score_matrix_stage_by_domain"], file["results"]
    order = [f"d{s}" for s in range(len(rows))]
    matrix = lifelong.score_matrix(records_of(rows, order), order)
    start = file["zero_shot_before_any_training"]
    found = {
        "seen_average_per_stage": lifelong.seen_averages(matrix),
        "forgetting_per_domain_max_since_learned": lifelong.forgetting(matrix),
        "backward_transfer_per_domain": lifelong.backward_transfer(matrix),
        "forward_transfer_per_domain": lifelong.forward_transfer(matrix, start),
        "average_incremental_score": lifelong.average_incremental_score(matrix),
        "mean_forgetting_max_since_learned": lifelong.forgetting(matrix).mean(),
        "mean_backward_transfer": lifelong.backward_transfer(matrix).mean(),
        "mean_forward_transfer": lifelong.forward_transfer(matrix, start).mean(),
    }
    for name, value in found.items():
        assert value == pytest.approx(wanted[name], **CLOSE), name
    running = wanted["running_forgetting_per_stage"]
    assert lifelong.running_forgetting(matrix)[1:] == pytest.approx(running[1:], **CLOSE)


@golden("lifelong__bookkeeping")
def test_unseen_sets_have_columns_of_their_own(file):
    file = file()
    rows = file["unseen_scores_stage_by_set"]
    order, unseen = [f"d{s}" for s in range(len(rows))], [f"u{k}" for k in range(len(rows[0]))]
    matrix = lifelong.score_matrix(records_of(rows, unseen), order, unseen)
    assert matrix.mean(1) == pytest.approx(file["results"]["unseen_average_per_stage"], **CLOSE)


@golden("vladr__seen_unseen_average")
def test_averages_over_seen_and_unseen_sets_are_rounded_after_the_mean(file):
    file = file()
    stage = file["stage_index"]
    for ours, theirs in (("mAP", "mAP"), ("R1", "Rank1")):
        for side, sets in (("seen", file["seen_order"][: stage + 1]), ("unseen", file["unseen"])):
            row = [[file["scores"][f"{name}_{theirs}"] for name in sets]]
            matrix = lifelong.score_matrix(records_of(row, sets, ours), ["d0"], sets, metric=ours)
            assert round(float(matrix.mean()), 1) == file["result"][f"{side}_{ours}"]
