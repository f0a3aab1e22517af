"""The chapter of DMPT: four data sets, spectra that are missing at test, and what passes between them."""

import dataclasses
import re
from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import noisy, run
from matplotlib import pyplot as plt

from reid_core.analysis import bench
from reid_core.report import chapters, landing, scoreboard, spectra, tables
from reid_core.report import page as page_of
from reid_core.report.chapters import dmpt
from reid_core.runs import provenance
from reid_core.runs.run import BOOK, Spec

WORLD = {"origin": "world", "name": dmpt.DATA, "fingerprint": "of the spectra"}
DARK = "image to image without rgb, zeros"


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(provenance, "outdated", lambda run: "")


def chapter(data=dmpt.DATA, profile="laptop"):
    page = SimpleNamespace(profile=profile, data=data, seed=0, retrain=False, shelf=BOOK)
    return page_of.chapter(page, "DMPT")


def measured(row="full", shift=0.0, data=dmpt.DATA, seeds=3, tests=()):
    """Made-up runs of a row, so many hundredths better than another; `tests` {test: shift of its own}."""
    for seed in range(seeds):
        scores = [record(seed, shift, data=data)]
        for name, more in dict(tests).items():
            scores.append(record(seed, shift + more, data=data, task=name))
        spec = Spec("dmpt", "dmpt", row, data, seed=seed).same
        about = {"spec": spec, "data": {**WORLD, "name": data}, "scores": scores}
        BOOK.write(dataclasses.replace(noisy(seed), **about))


def record(seed, shift, **about):
    """The record of a made-up test with first ranks."""
    ap = noisy(seed, shift).record()["ap"]
    return {**run(seed, ap, first=[1 if value > 0.5 else 2 for value in ap]).record(), **about}


def rows_of(table):
    """The rows of a table as texts, without tags."""
    return [re.sub(r"<[^>]*>", " ", row) for row in table.data.partition("<tbody>")[2].split("<tr>")[1:]]


def test_nothing_of_the_chapter_needs_a_run(shelves):
    page = chapter()
    shown = [page.box("chapter"), page.claims(), page.forest(), page.curves(), page.cost(), page.by_hour()]
    shown += [page.scores(kind) for kind in spectra.KINDS]
    shown += [page.contamination(), page.efficiency(), page.gain("caption"), page.rerun(None)]
    shown += [page.question(name) for name in dmpt.QUESTIONS]
    assert all(tables.NOT_RUN in one.data for one in shown)
    assert not any("±" in one.data for one in shown)
    assert landing.links(page, "a prompt", dict.fromkeys(landing.PAGES, "words"))


def test_the_tables_of_persons_and_vehicles_print_what_the_paper_prints_of_each(shelves):
    page = chapter()
    assert page.printed_whole("rgbnt201")["DMPT, CLIP", "mAP"] == 78.5
    assert page.printed_whole("rgbnt201")["Baseline 1, CLIP", "mAP"] == 71.7, "of Table 3"
    assert page.printed_whole("market1501_mm")["Baseline 1, ImageNet", "R1"] == 83.8
    vehicles = page.printed_whole("msvr310")
    assert vehicles["DMPT, ImageNet", "R1"] == 47.3 and ("Baseline 1, ImageNet", "mAP") not in vehicles
    told = page.scores("vehicles").data
    assert "RGBNT100" in told and "MSVR310" in told and "RGBNT201" not in told


def test_each_data_set_has_a_model_of_its_own(shelves):
    measured(data="world_msvr310")
    assert "±" in chapter().scores("vehicles").data and "±" not in chapter().scores("persons").data


def test_the_claim_on_the_second_set_is_judged_there(shelves):
    measured(dmpt.IMAGENET[0], 0.1, data=dmpt.PERSONS[1])
    measured(dmpt.IMAGENET[1], data=dmpt.PERSONS[1])
    found = next(one for one in chapter().judged if one.claim.id == "gain-away")
    assert found.verdict == "holds" and found.place == "World-MarketMM"
    assert found.one.effect == pytest.approx(69.8 - 65.5), "both with ImageNet weights"


def test_every_subset_of_spectra_is_a_test_of_the_full_row():
    rows = chapter().rows("missing", dmpt.DATA)
    assert len(rows) == 7 and len(set(row.task for row in rows.values())) == 7
    assert {spec.row for row in rows.values() for spec in row.specs} == {"full"}
    assert rows["near infrared and thermal"].task == DARK
    assert rows["visible alone"].task == "image to image without nir and tir, zeros"


def test_a_missing_spectrum_is_compared_with_all_three_of_the_same_runs(shelves):
    measured(tests={DARK: -0.05})
    row = next(row for row in rows_of(chapter().question("missing")) if "near infrared and thermal" in row)
    assert "−5.0" in row and "worse" in row


def test_losing_a_spectrum_is_told_for_day_and_night_apart(shelves, monkeypatch):
    measured(tests={DARK: -0.05})
    hours = np.array(["day", "night"] * 75)
    for seed in range(3):
        spec = Spec("dmpt", "dmpt", "full", dmpt.DATA, seed=seed).same
        kept = BOOK.at(spec)
        whole, dark = kept.scores
        night = hours == "night"
        dark = {**dark, "ap": np.where(night, whole["ap"], dark["ap"]).tolist()}
        dark["summary"] = {**dark["summary"], "mAP": 100 * float(np.mean(dark["ap"]))}
        BOOK.write(dataclasses.replace(kept, scores=[whole, dark]))
    monkeypatch.setattr(spectra, "hours_of", lambda page, runs: hours)
    row = next(row for row in rows_of(chapter().by_hour()) if "near infrared and thermal" in row)
    assert row.index("−5.0") < row.index("+0.0"), "by day, then at night"


def test_the_hours_of_queries_are_known_for_runs_on_the_same_queries_alone(monkeypatch):
    page = chapter(profile="smoke").page
    data = spectra.load_data(page.data, page.profile)
    there = run(0, [0.5] * len(data.query), data.query.pids.tolist())
    hours = spectra.hours_of(page, [there])
    assert set(hours) == {"day", "night"} and len(hours) == len(data.query)
    assert spectra.hours_of(page, [run(0, [0.5])]) is None and spectra.hours_of(page, []) is None


def test_what_a_token_gains_from_others_is_told_for_each_spectrum(shelves):
    by = "image to image by {}, {} the interaction".format
    tests = {by("tir", "before"): -0.2, by("tir", "after"): -0.1}
    measured(tests=tests)
    rows = rows_of(chapter().contamination())
    assert len(rows) == 9
    thermal = next(row for row in rows if row.split()[:3] == ["full", "method,", "thermal"])
    assert "+10.0" in thermal
    assert all("not run" in row for row in rows if row is not thermal)


def test_memory_and_time_stand_beside_the_share_of_what_learns(shelves, monkeypatch):
    told = {"trained": 17_885_440, "per cent": 6.47, "kept": 90.0, "seconds": 0.8}
    kept = {"rows": {"full": told}, "model": "ViT-B", "batch": 4, "device": "a machine"}
    monkeypatch.setattr(bench, "kept", lambda name: kept)
    (row,) = rows_of(chapter().efficiency())
    assert row.split() == ["full", "method", "17,885,440", "6.5", "90", "205", "0.80"]


def test_the_scoreboard_compares_dmpt_with_its_own_baseline(shelves):
    measured(shift=0.1, seeds=5)
    measured(dmpt.VISUAL, seeds=5)
    told = scoreboard.board()
    line = re.sub(r"<[^>]*>", " ", next(row for row in told.split("<tr>") if "DMPT" in row))
    assert "World-RGBNT201" in line and "(against semantic prompts (Baseline 1))" in line and "holds" in line


def test_the_book_measures_every_row_that_the_chapter_asks_for():
    wanted = set(chapters.wanted())
    page = chapter()
    for name in dmpt.QUESTIONS:
        for row in page.rows(name, dmpt.DATA).values():
            assert set(row.specs[: len(chapters.FEW)]) <= wanted
    for kind in spectra.KINDS.values():
        for data in kind:
            for label, _ in spectra.WHOLE.values():
                assert set(page.specs(label, data)[: len(chapters.FEW)]) <= wanted


def test_two_shots_of_one_person_are_shown_by_day_and_at_night():
    pids = np.array([1, 1, 2, 2, 2])
    hours = np.array(["day", "day", "night", "day", "night"])
    assert spectra.two_of_one(pids, hours) == [3, 2]
    assert spectra.two_of_one(pids, np.array([""] * 5)) == [0, 1], "nobody knows"
