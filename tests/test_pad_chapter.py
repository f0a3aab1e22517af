"""The chapter of PAD: averages over domains, what was forgotten, and which runs it asks for."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import noisy
from matplotlib import pyplot as plt

from data_prep import catalogue
from reid_core import lifelong
from reid_core.analysis import bench
from reid_core.report import chapters, landing
from reid_core.report import page as page_of
from reid_core.report.chapters import pad
from reid_core.runs import averages, intervals
from reid_core.runs.run import BOOK, Spec

ORDER = ("world_a", "world_b", "world_c", "world_d", "world_e")
METRICS = ("mAP", "R1")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def chapter(profile="laptop"):
    page = SimpleNamespace(profile=profile, data=pad.DATA, seed=0, retrain=False, shelf=BOOK, changes={})
    return page_of.chapter(page, "PAD")


def record(data, after, ap, sizes=None):
    """A record in which every query has the precision `ap`; domains differ in size."""
    count = (sizes or {}).get(data, 4)
    return {
        "data": data,
        "task": "image to image",
        "after": after,
        "summary": {"mAP": 100 * ap, "R1": 100.0},
        "ap": [ap] * count,
        "first": [1] * count,
        "pids": [k // 2 for k in range(count)],
        "skipped": 0,
        "protocol": "everybody",
    }


def in_order(spec, matrix, unseen=0.5, sizes=None):
    """A made-up run of an order with the scores (T, T) in 0..1, and of one unseen set."""
    scores = []
    for row, after in zip(matrix, ORDER):
        scores += [record(data, after, float(ap), sizes) for data, ap in zip(ORDER, row)]
        scores += [record(one, after, unseen) for one in catalogue.unseen(spec.data)]
    data = {"origin": "world", "name": spec.data, "fingerprint": "one"}
    return dataclasses.replace(noisy(spec.seed, 0.0), spec=spec, data=data, scores=scores)


def matrix_of(final, learned=0.9):
    """(5, 5): every domain at `learned` right after it was learned, and at `final` ever after."""
    matrix = np.full((5, 5), 0.1)
    for stage in range(5):
        matrix[stage, :stage] = final
        matrix[stage, stage] = learned
    return matrix


def measured(label, final, seeds=3):
    for seed in range(seeds):
        spec = chapter().specs(label)[seed]
        BOOK.write(in_order(spec, matrix_of(final + 0.001 * seed)))


# Averages


def test_a_run_of_an_order_is_told_by_the_mean_of_its_domains_at_the_end():
    matrix = matrix_of(0.4)
    run = in_order(Spec("pad", "released", data=pad.DATA), matrix)
    assert run.record()["task"] == averages.SEEN
    assert run.score() == pytest.approx(100 * matrix[-1].mean())
    assert run.score(test=averages.UNSEEN) == pytest.approx(50)
    assert run.score(test="image to image on world_b") == pytest.approx(40), "after the last domain"


def test_a_domain_counts_alike_whatever_its_size():
    sizes = {"world_a": 40, "world_b": 2}
    spec = Spec("pad", "released", data=pad.DATA)
    run = in_order(spec, np.tile([0.9, 0.1, 0.5, 0.5, 0.5], (5, 1)), sizes=sizes)
    found = intervals.interval([run])
    assert found.mean == pytest.approx(50) and run.score() == pytest.approx(50)


def test_people_of_different_domains_are_different_people():
    run = in_order(Spec("pad", "released", data=pad.DATA), matrix_of(0.4))
    assert len(np.unique(run.record()["pids"])) == 5 * 2


def test_a_run_on_one_data_set_has_the_tests_that_it_had():
    run = noisy(0, 0.0)
    assert run.tests is run.scores


# Pages


def test_nothing_of_the_chapter_needs_a_run(shelves):
    page = chapter()
    for shown in (
        page.head(),
        page.claims(),
        page.scores(),
        page.scores(on=page.away),
        page.gain("x"),
        page.domains(),
        page.forgetting(),
        page.heat_maps(),
        page.courses(),
        page.assumed(),
        page.recipe(),
        page.competitors(),
        page.storage(),
        page.slots(),
        page.overhead(),
        *map(page.question, chapters.QUESTIONS["PAD"]),
    ):
        assert shown.data
    assert "70.7" in page.scores().data and "69.3" in page.scores(on=page.away).data
    landing.links(page, "x", dict.fromkeys(landing.PAGES, "y"))


def test_what_was_forgotten_is_told_in_points(shelves):
    measured("full", 0.4)
    page = chapter()
    told = page.forgetting().data
    assert "49.9" in told, "every domain falls from 90 to about 40"
    assert "Mean forgetting in points of mAP: PAD 49.9" in page.heat_maps().data
    assert lifelong.forgetting(100 * matrix_of(0.4)).mean() == pytest.approx(50)


def test_the_ladder_compares_means_over_domains_with_the_printed_ones(shelves):
    measured(pad.PLAIN, 0.4)
    measured(pad.HELD, 0.5)
    told = chapter().question("components").data
    # 4 of 5 domains are 10 points better
    assert "+8.0" in told and "69.9" in told


def test_claims_on_unseen_domains_are_judged_there(shelves):
    measured(pad.PLAIN, 0.4)
    measured(pad.WHOLE, 0.6)
    page = chapter()
    found = {one.claim.id: one for one in page.judged}
    assert found["gain"].one.change.mean == pytest.approx(16)
    assert found["unseen"].one.change.mean == pytest.approx(0)


def test_every_domain_stands_in_a_column_of_its_own(shelves):
    measured("full", 0.4)
    told = chapter().domains().data
    assert all(f"World {letter}" in told for letter in "ABCDE") and "90.0" in told and "40.1" in told


def test_the_book_measures_every_row_that_the_chapter_asks_for():
    wanted = set(chapters.wanted())
    page = chapter()
    labels = {label for question in chapters.QUESTIONS["PAD"].values() for label in question.labels}
    for label in labels | set(pad.COMPARED.values()):
        if not label.endswith("all slots at test (D8)"):  # a test of another row's run
            assert set(page.specs(label)[:3]) <= wanted, label
    five = [pad.PLAIN, "full", pad.DESCRIBED, pad.SEQUENTIAL, pad.JOINT]
    assert all(set(page.specs(label)) <= wanted for label in five)
    assert all(set(page.specs(label, pad.ORDER_2)[:3]) <= wanted for label in five)


def test_the_simple_baselines_have_at_least_as_many_epochs_as_pad():
    page = chapter()
    theirs = page.specs(pad.SEQUENTIAL)[0].recipe().stage2_epochs
    assert theirs >= max(page.specs("full")[0].recipe().stage2_epochs)


def test_drift_is_told_of_images_right_after_their_domain_and_at_the_end(shelves):
    assert "not run" in chapter().anchors().data
    for seed in range(2):
        run = in_order(chapter().specs("full")[seed], matrix_of(0.4))
        for one in run.scores:
            own = one["after"] == one["data"]
            one["traits"] = {"anchor cosine": [0.3 if own else 0.2]} if one["data"] in ORDER else {}
        BOOK.write(run)
    told = chapter().anchors().data
    assert "0.300, 0.200" in told and "0.300, 0.300" in told, "of the last domain both are one"
    assert "-0.100" in told or "\u22120.100" in told


def test_whose_slots_images_pick_is_told_of_runs_that_kept_it(shelves):
    assert "not run" in chapter().slots().data
    for seed in range(2):
        run = in_order(chapter().specs("full")[seed], matrix_of(0.4))
        for one in run.scores:
            one["traits"] = {"slots": [50.0, 20.0, 10.0, 15.0, 5.0]}
        recipe = {**run.recipe, "new_slots": 8, "pool_size": 36}
        BOOK.write(dataclasses.replace(run, recipe=recipe))
    told = chapter().slots().data
    assert "at random would give 22, 22, 22, 22, 11" in told and ">50" in told


def test_storage_and_time_of_prompts_are_those_of_the_bench(shelves, monkeypatch):
    kept = {
        "ratios": {"without prompts": 1.0, "as tokens": 1.31},
        "stored": {"CUHK-SYSU": {"words": 11329536, "pool": 2377728, "stage 1": 7.81, "stage 2": 26.07}},
        "model": "ViT",
        "device": "a processor",
    }
    monkeypatch.setattr(bench, "kept", lambda name: kept)
    told = chapter().storage().data
    assert "13.71" in told and "26.1" in told and "7.8" in told
    assert "1.31" in chapter().overhead().data


def test_smoke_trains_on_two_domains_of_the_order():
    assert chapter("smoke").page.data == pad.SHORT
    assert catalogue.order(pad.SHORT) == ORDER[:2] and len(catalogue.unseen(pad.SHORT)) == 1
