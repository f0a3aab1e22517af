"""The chapter of VLADR: two variants whose printed numbers never mix, attributes, and what it measures."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import noisy
from matplotlib import pyplot as plt

from data_prep import catalogue
from reid_core.report import attributes, chapters, landing, reported, scoreboard
from reid_core.report import page as page_of
from reid_core.report.chapters import vladr
from reid_core.runs.run import BOOK

ORDER = ("world_a", "world_b", "world_c", "world_d", "world_e")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def chapter(profile="laptop"):
    page = SimpleNamespace(profile=profile, data=vladr.DATA, seed=0, retrain=False, shelf=BOOK, changes={})
    return page_of.chapter(page, vladr.NAME)


def record(data, after, ap):
    """A record in which every query has the precision `ap`."""
    return {
        "data": data,
        "task": "image to image",
        "after": after,
        "summary": {"mAP": 100 * ap, "R1": 100.0},
        "ap": [ap] * 4,
        "first": [1] * 4,
        "pids": [k // 2 for k in range(4)],
        "skipped": 0,
        "protocol": "everybody",
    }


def by_part(data, after, part, ap):
    """A record of a test with one attribute."""
    return {**record(data, after, ap), "task": f"by {part}"}


def in_order(spec, final, unseen=0.5, learned=0.9, traits=None, parts=()):
    """A made-up run: every domain at `learned` right after it was learned, at `final` ever after."""
    scores = []
    for stage, after in enumerate(ORDER):
        for place, data in enumerate(ORDER):
            ap = {True: final, False: learned}[place < stage] if place <= stage else 0.1
            one = record(data, after, ap)
            scores.append(one if traits is None else {**one, "traits": traits})
            scores += [by_part(data, after, part, ap / (2 + k)) for k, part in enumerate(parts)]
        scores += [record(one, after, unseen) for one in catalogue.unseen(spec.data)]
    data = {"origin": "world", "name": spec.data, "fingerprint": "one"}
    return dataclasses.replace(noisy(spec.seed, 0.0), spec=spec, data=data, scores=scores)


def measured(label, final, seeds=3, **more):
    for seed in range(seeds):
        BOOK.write(in_order(chapter().specs(label)[seed], final + 0.001 * seed, **more))


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
        *map(page.question, chapters.QUESTIONS[vladr.NAME]),
        *map(page.box, chapters.BOXES[vladr.NAME]),
    ):
        assert shown.data
    for shown in (page.attribute_shares(), page.query_collapse(), page.attribute_forgetting()):
        assert "not run" in shown.data
    landing.links(page, "x", dict.fromkeys(landing.PAGES, "y"))


def test_printed_numbers_of_a_variant_stand_beside_it_alone(shelves):
    page = chapter()
    theirs = {side: page.printed_whole(side, vladr.REAL[vladr.DATA]) for side in ("seen", "unseen")}
    assert theirs["seen"][vladr.NAME, "mAP"] == 70.4 and theirs["unseen"][vladr.NAME, "mAP"] == 77.8
    assert theirs["seen"][vladr.DESCRIBED, "mAP"] == 52.3 and theirs["unseen"][vladr.DESCRIBED, "R1"] == 49.8
    assert theirs["seen"][vladr.BASELINE, "mAP"] == 47.1
    second = page.printed_whole("seen", vladr.REAL[vladr.ORDER_2])
    assert second[vladr.DESCRIBED, "mAP"] == 48.7 and (vladr.NAME, "mAP") not in second
    assert "order 1 with LPW" in page.scores().data


def test_rows_of_the_other_variant_have_their_printed_numbers_on_both_sides():
    page = chapter()
    seen, unseen = (page.rows(name, vladr.DATA) for name in ("components", "unseen"))
    assert [row.printed for row in seen.values()] == [47.1, 49.6, 51.0, 52.3, 49.2, 48.8]
    assert [row.printed for row in unseen.values()] == [28.5, 30.8, 32.3, 34.5, 30.1, 29.7]
    assert all(row.specs[0].variant == "described" for row in seen.values())
    effects = {one.claim.id: one.one.effect for one in page.judged}
    assert effects["unseen"] == pytest.approx(6.0) and effects["gain"] == pytest.approx(5.2)
    assert effects["released"] is None, "the authors print no ablation"


@pytest.mark.parametrize("name, known", [("order 1", "order1"), ("order 2 with LPW", "lpw_order2")])
def test_an_order_has_the_name_that_the_list_of_printed_numbers_gives_it(name, known):
    place = reported.place_of(f"{catalogue.LIFELONG}{name}")
    assert place == {"dataset": "seen_avg", "protocol": f"lifelong_{known}"}
    assert catalogue.title(f"{catalogue.LIFELONG}{name}") == name


def test_the_components_compare_means_over_domains_with_the_printed_ones(shelves):
    measured(vladr.PLAIN, 0.4)
    measured(vladr.CMA, 0.5)
    told = chapter().question("components").data
    assert "+8.0" in told and "51.0" in told, "4 of 5 domains are 10 points better"
    assert "MTAD=" not in told.split("title=")[0], "rows have short names"


def test_claims_on_unseen_domains_are_judged_there(shelves):
    measured(vladr.PLAIN, 0.4)
    measured(vladr.IDA, 0.6, unseen=0.6)
    found = {one.claim.id: one for one in chapter().judged}
    assert found["gain"].one.change.mean == pytest.approx(16)
    assert found["unseen"].one.change.mean == pytest.approx(10)


def test_the_book_measures_every_row_that_the_chapter_asks_for():
    wanted = set(chapters.wanted())
    page = chapter()
    labels = {label for question in chapters.QUESTIONS[vladr.NAME].values() for label in question.labels}
    labels |= {side for claim in vladr.CLAIMS for side in (claim.better, claim.against)}
    for label in labels | set(vladr.COMPARED.values()):
        assert set(page.specs(label)[:3]) <= wanted, label
    five = ["full", vladr.DESCRIBED, *vladr.PRINTED_ROWS, vladr.SEQUENTIAL, vladr.JOINT]
    assert all(set(page.specs(label)) <= wanted for label in five)
    assert all(set(page.specs(label, vladr.ORDER_2)[:3]) <= wanted for label in five)


def test_the_simple_baselines_have_the_epochs_of_vladr_and_its_two_views():
    page = chapter()
    theirs, ours = (page.specs(label)[0].recipe() for label in (vladr.SEQUENTIAL, "full"))
    assert theirs.stage2_epochs == ours.stage2_epochs and theirs.strong_view and ours.strong_view
    assert not page.specs(vladr.ONE_VIEW["weight fusion"])[0].recipe().strong_view


def test_no_two_rows_of_a_question_are_called_alike():
    for name, question in chapters.QUESTIONS[vladr.NAME].items():
        names = list(map(chapters.shown, question.labels))
        assert len(set(names)) == len(names) and not any("=" in one for one in names), name


def test_what_queries_look_at_is_told_beside_the_other_queries(shelves):
    shares = np.full((4, 5), 10.0)
    shares[1, 1] = 40.0
    shares[3, 3] = 7.0
    assert attributes.own_part(shares) == pytest.approx([0, 30, 0, -3])
    assert attributes.own_part(np.ones((1, 5))) == pytest.approx([1]), "one query has no others"
    measured("full", 0.4, traits={"attribute shares": shares.tolist(), "query cosine": [0.99]})
    told = chapter().attribute_shares().data
    assert "VLADR, head +0.0, upper +30.0, lower +0.0, foot −3.0." in told and "rates per epoch" not in told


def test_query_collapse_is_told_after_each_domain(shelves):
    for label, cosine in (("full", 0.99), (vladr.PER_EPOCH, 0.25)):
        measured(label, 0.4, traits={"query cosine": [cosine]})
    page = chapter()
    told = page.query_collapse().data
    assert "VLADR 0.990, rates per epoch 0.250" in told
    run = BOOK.find(page.specs("full")[0])
    assert page.cosines(run) == pytest.approx([0.99] * 5)


def test_forgetting_is_told_of_each_attribute(shelves):
    measured("full", 0.4, parts=attributes.PARTS)
    told = chapter().attribute_forgetting().data
    assert "49.9" in told, "the whole feature falls from 90 to about 40"
    assert all(f">{part}<" in told for part in attributes.PARTS) and "24.9" in told


def test_the_front_page_compares_vladr_with_fine_tuning_on_the_same_views(shelves):
    entry = next(one for one in scoreboard.FIVE if one.method == "vladr")
    assert scoreboard.paper_map(entry) == 70.4
    row = scoreboard.reference(entry)
    assert row.specs == chapter().specs(vladr.SEQUENTIAL) and row.printed is None
    assert "sequential fine-tuning, two views" in scoreboard.board() or "not run" in scoreboard.board()


def test_smoke_trains_on_two_domains_of_the_order():
    assert chapter("smoke").page.data == vladr.SHORT
