"""The chapter of HPL: two tasks of one training side by side, each on its own part of the joint set."""

import dataclasses
import re
from types import SimpleNamespace

import guards
import numpy as np
import pytest
from made_runs import noisy, run
from matplotlib import pyplot as plt
from test_kept_visuals import noise

from reid_core.analysis import visuals
from reid_core.report import ablations, chapters, claims, joint, landing, overall, scoreboard, tables
from reid_core.report import page as page_of
from reid_core.report import tokens as looks
from reid_core.report.notebook import NAMES, Chapter, ParameterError
from reid_core.runs import provenance
from reid_core.runs.run import BOOK, OWN, Spec

TEXT, IMAGE = chapters.TASKS["HPL"]
FIRST, SECOND, THIRD, _ = chapters.MODULES
ON = {TEXT: "world_text", IMAGE: "world_market"}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(provenance, "outdated", lambda run: "")


def chapter(data=chapters.JOINT_SET, shelf=BOOK, profile="laptop"):
    page = SimpleNamespace(profile=profile, data=data, seed=0, retrain=False, shelf=shelf)
    return page_of.chapter(page, "HPL")


def record(task, seed, shift, people):
    """The record of a task: another number of people in each, so that they cannot be mistaken."""
    ap = noisy(seed, shift, people).record()["ap"]
    first = [1 if value > 0.5 else 2 for value in ap]
    kept = run(seed, ap, first=first).record()
    return {**kept, "data": ON[task], "task": task.name, "protocol": f"protocol of {task.name}"}


def measured(label="full", text=0.0, image=0.0, data=chapters.JOINT_SET, seeds=3, shelf=BOOK, luck=0, **more):
    """Made-up runs of a label, so many hundredths better than another in each task; of another `luck` they
    differ by chance, too."""
    method = NAMES[label] if label in NAMES else NAMES["HPL"]
    for seed in range(seeds):
        spec = Spec(*method, "full" if label in NAMES else label, data, seed=seed).same
        drawn = seed + 10 * luck
        found = [record(TEXT, drawn, text, 120), record(IMAGE, drawn, image, 150)]
        found = [one for one in found if one["data"] in data.split("+")]
        told = {"origin": "world", "name": data, "fingerprint": f"of {data}"}
        shelf.write(dataclasses.replace(noisy(seed), spec=spec, data=told, scores=found, **more))


def judged(page, id):
    return next(found for found in page.judged if found.claim.id == id)


def rows_of(page):
    """The rows of a table as texts, without tags."""
    return [re.sub(r"<[^>]*>", " ", row) for row in page.partition("<tbody>")[2].split("<tr>")[1:]]


def test_nothing_of_the_chapter_needs_a_run(shelves):
    page = chapter()
    shown = [page.box("chapter"), page.claims(), page.forest(0), page.forest(1), page.curves(), page.cost()]
    shown += [page.scores(), page.gain("caption"), page.reranked(), page.rerun(None)]
    shown += [page.question(name) for name in chapters.QUESTIONS["HPL"]]
    assert all(tables.NOT_RUN in one.data for one in shown)
    assert not any("±" in one.data for one in shown)
    assert landing.links(page, "a prompt", dict.fromkeys(landing.PAGES, "words"))


def test_the_tests_of_a_row_are_those_of_the_parts_of_its_joint_set():
    sides = chapter().sides("modules")
    assert sides[TEXT][FIRST].task == "text to image on world_text"
    assert sides[IMAGE][FIRST].task == "image to image on world_market"
    away = chapter("cuhk_pedes+market1501").sides("modules")
    assert away[TEXT][FIRST].task == "text to image on cuhk_pedes"


def test_each_task_has_its_printed_numbers_and_a_pair_that_the_paper_leaves_out_has_none():
    sides = chapter().sides("modules")
    assert [row.printed for row in sides[TEXT].values()] == [70.45, 70.80, 70.88, 70.89]
    assert [row.printed for row in sides[IMAGE].values()] == [86.91, 88.98, 89.72, 89.82]
    elsewhere = chapter("world_text+world_msmt").sides("modules")
    assert [row.printed for row in elsewhere[IMAGE].values()] == [None] * 4


def test_each_task_is_compared_by_its_own_test(shelves):
    measured("full", text=0.1, image=-0.1)
    measured(FIRST)
    page = chapter()
    assert judged(page, "gain-text").verdict == claims.HOLDS
    assert judged(page, "gain-image").verdict == claims.FAILS
    row = next(row for row in rows_of(page.question("modules").data) if "4) all parts" in row)
    assert row.index("+10") < row.index("holds") < row.index("−10") < row.index("fails")


def test_a_claim_about_first_ranks_is_judged_by_first_ranks(shelves):
    measured("full", text=0.1)
    measured(THIRD)
    found = judged(chapter(), "regularisation")
    one, other = found.one.runs, found.one.others
    first = [np.mean(np.array(run.record(found.one.row.task)["first"]) == 1) for run in one + other]
    assert found.one.change.mean == pytest.approx(100 * (np.mean(first[:3]) - np.mean(first[3:])))
    assert found.one.effect == pytest.approx(76.28 - 75.60), "R1 of Table 3, not mAP"
    told = chapter().claims().data
    assert f"{found.claim.text} (R1)" in told


def test_separate_models_are_compared_with_joint_training_on_the_part_that_both_are_tested_on(shelves):
    measured(FIRST)
    measured("image model alone", image=0.1, data="world_market")
    measured("text model alone", text=-0.1, data="world_text")
    page = chapter()
    assert judged(page, "separate").verdict == claims.HOLDS
    row = next(row for row in rows_of(page.question("separate").data) if "separate models" in row)
    assert row.index("−10") < row.index("worse") < row.index("+10") < row.index("better")


def test_runs_of_one_data_set_pair_by_its_fingerprint_and_others_by_a_part_that_they_share(shelves):
    def on(data, fingerprint="f", seed=0):
        told = {"origin": "world", "name": data, "fingerprint": fingerprint}
        return dataclasses.replace(noisy(seed), spec=Spec("hpl", "hpl", data=data, seed=seed), data=told)

    both = on("world_text+world_market", "g")
    assert ablations.pair(both, on("world_market")) and ablations.pair(on("world_text"), both)
    assert ablations.pair(both, on("leaky:world_text+world_market"))
    assert not ablations.pair(both, on("world_msmt")), "not a part of it"
    assert not ablations.pair(both, on("world_market", seed=1)), "another seed"
    assert not ablations.pair(both, on("world_text+world_market", "older")), "an older world"
    assert not ablations.pair(on("world_market", "older"), on("world_market"))


def test_verdicts_of_both_tasks_are_corrected_together(shelves):
    for luck, label in enumerate((FIRST, SECOND, THIRD)):
        measured(label, luck=luck)
    sides = chapter().sides("modules")
    alone = ablations.compared(sides[TEXT], FIRST)
    both = ablations.compared_together(sides, FIRST)
    assert list(both) == [TEXT, IMAGE] and [one.label for one in both[TEXT]] == list(chapters.MODULES)
    for one, other in zip(alone[1:3], both[TEXT][1:3], strict=True):
        assert other.smallest > one.smallest, "twice as many comparisons resolve less"
    assert "corrected for 4 comparisons (Holm)" in chapter().question("modules").data


def test_the_forest_plot_of_a_task_has_the_verdicts_of_the_table(shelves):
    measured("full", text=0.1, image=-0.1)
    measured(FIRST)
    page = chapter()
    (text, *_), (image, *_) = (page.groups(task) for task in (TEXT, IMAGE))
    assert [one.verdict for one in (text.rows[-1], image.rows[-1])] == ["holds", "fails"]
    assert "World-Text, text to image" in page.forest(0).data
    assert "World-Market, image to image" in page.forest(1).data


def test_the_numbers_of_the_chapter_are_those_that_the_guards_compute_again(shelves):
    measured("full", text=0.1, image=-0.1)
    measured(FIRST)
    measured("image model alone", image=0.1, data="world_market")
    page = chapter()
    for shown in (page.scores(), page.gain("caption"), page.question("modules"), page.claims()):
        assert "±" in shown.data or "[" in shown.data
        assert guards.check_page(shown.data, "page") == []
    assert guards.check_page(page.box("ablate").data, "page") == []


def test_the_table_of_whole_methods_names_both_protocols_and_the_paper_first(shelves):
    measured()
    told = chapter().scores().data
    assert "protocol of text to image; or protocol of image to image" in told
    hpl = next(row for row in rows_of(told) if row.strip().startswith("HPL"))
    assert hpl.index("70.9") < hpl.index("89.8") < hpl.index("±")
    assert list(overall.METRICS) == ["mAP", "R1"] and "76.3" in hpl and "96.0" in hpl


def test_curves_end_at_the_score_of_their_task(shelves):
    losses = {TEXT.term: 2.0, IMAGE.term: 1.0}
    history = [{"stage": "2", "epoch": k, "losses": losses, "seconds": 1.0, "images": 1} for k in (1, 2)]
    measured(text=0.1, image=-0.1, history=history)
    measured(FIRST, history=history)
    told = re.findall(r"<figcaption>(.*?)</figcaption>", chapter().curves().data)
    page = chapter()
    runs = [BOOK.at(spec) for spec in page.specs()[:3]]
    scores = [[run.score(test=page.test(task)) for run in runs] for task in page.tasks]
    for caption, values in zip(told, scores, strict=True):
        assert f"full method ends at {min(values):.1f} to {max(values):.1f} mAP" in caption


def test_a_readers_run_stands_below_the_books_in_both_tasks(shelves):
    measured("full", text=0.1)
    measured(FIRST)
    measured("full", text=0.2, shelf=OWN, seeds=1)
    rows = rows_of(chapter(shelf=OWN).question("modules").data)
    names = [row.split("  ")[0].strip() for row in rows]
    assert any("4) all parts, your run" in row for row in rows), names


def test_the_line_of_a_run_tells_both_tasks(shelves):
    measured(cost={"minutes": 2.0})
    told = chapter().rerun(BOOK.at(Spec("hpl", "hpl", data=chapters.JOINT_SET))).data
    assert "text to image on world_text" in told and "image to image on world_market" in told


def test_one_model_is_priced_against_two_and_the_last_line_adds_them_up(shelves):
    assert f"training minutes ({tables.NOT_RUN})" in chapter().cost().data
    took = [{"stage": "one", "seconds": 60.0, "images": 640}]
    measured("full", history=took)
    measured(IMAGE.alone, data=ON[IMAGE], history=took)
    some = rows_of(chapter().cost().data)
    assert tables.NOT_RUN in some[-1], "one of two was never run"
    data = {"hpl": chapters.JOINT_SET, "sentences": ON[TEXT], "images": ON[IMAGE]}
    one, text, image = (
        joint.parameters_to_answer(Spec("hpl", variant, data=name)) for variant, name in data.items()
    )
    assert image < text < one < text + image
    assert f"{(text + image) / 1e6:.2f}" in some[-1] and f"{one / 1e6:.2f}" in some[-2]
    measured(TEXT.alone, data=ON[TEXT], history=took)
    assert " 2 " in rows_of(chapter().cost().data)[-1], "minutes of both"


def test_data_that_are_no_joint_set_are_refused_in_a_sentence():
    with pytest.raises(ParameterError, match=r"expected 2 data sets joined by \+, .* found world_market;"):
        chapter("world_market")


def test_the_profile_smoke_takes_the_joint_set_that_fills_a_batch():
    page = SimpleNamespace(profile="smoke", data=chapters.JOINT_SET)
    assert joint.fitting(page).data == "world_text+world_msmt"
    page = SimpleNamespace(profile="laptop", data=chapters.JOINT_SET)
    assert joint.fitting(page).data == chapters.JOINT_SET


def test_chapters_of_one_task_are_made_as_before():
    page = SimpleNamespace(profile="laptop", data="world_market", seed=0, retrain=False, shelf=BOOK)
    assert type(page_of.chapter(page, "PromptSG")) is Chapter


def test_the_plan_measures_earlier_chapters_first_and_hpl_with_its_seeds():
    specs = chapters.wanted()
    where = [k for k, spec in enumerate(specs) if spec.method == "hpl"]
    assert where == list(range(where[0], where[-1] + 1))
    assert specs[where[0]] == Spec("hpl", "hpl", "full", chapters.JOINT_SET)
    mine = [spec for spec in specs if spec.method == "hpl"]
    headline = {"full", *(Spec("hpl", "hpl", row).same.row for row in chapters.MODULES)}
    for spec in mine:
        seeds = {one.seed for one in mine if one._replace(seed=0) == spec._replace(seed=0)}
        leaky = spec.data.startswith("leaky:")
        assert seeds == set(chapters.SEEDS if spec.row in headline and not leaky else chapters.FEW)
    assert {spec.data for spec in mine if spec.variant == "sentences"} == {"world_text"}
    assert {spec.data for spec in mine if spec.variant == "images"} == {"world_market"}


def test_every_row_of_a_question_is_measured():
    wanted = set(chapters.wanted())
    page = chapter()
    for name in chapters.QUESTIONS["HPL"]:
        for rows in page.sides(name).values():
            for label, row in rows.items():
                assert set(row.specs[: len(chapters.FEW)]) <= wanted, label


def test_the_scoreboard_sets_image_queries_of_hpl_beside_the_baseline_of_the_same_test(shelves):
    measured("full", image=0.1)
    for seed in range(3):
        one = record(IMAGE, seed, 0.0, 150)
        spec = Spec("clip_reid", "baseline", seed=seed)
        told = {"origin": "world", "name": "world_market", "fingerprint": "f"}
        BOOK.write(dataclasses.replace(noisy(seed), spec=spec, data=told, scores=[one]))
    row = next(row for row in rows_of(scoreboard.board()) if row.strip().startswith("HPL"))
    assert "+10" in row and "holds" in row and "89.8" in row
    assert scoreboard.claims()[1] == sum(map(len, chapters.CLAIMS.values()))


def looked_at(named=12, lean=0.2):
    """Visuals of twelve images whose sentences name a thing in so many, and whose token for sentences has so
    much more of its maps on it."""
    looked = np.full((2, 2, 12, 2), 0.3)
    looked[:, 0, :, 0] += lean + np.linspace(-0.01, 0.01, 12)
    looked[:, :, named:, 0] = np.nan
    chance = np.full((12, 2), 0.2)
    chance[named:, 0] = np.nan
    told = {"told": np.arange(12), "looked": looked, "looked_chance": chance}
    return noise("key")._replace(**told)


@pytest.fixture
def tokens(monkeypatch):
    """`Tokens` on a page without data: of what is kept, and of the word why nothing is."""
    monkeypatch.setattr(looks, "load_data", lambda *_: None)
    monkeypatch.setattr(looks.visuals, "part_with_captions", lambda data: SimpleNamespace(gallery=None))
    monkeypatch.setattr(looks.sentences, "every", lambda gallery: ["a sentence"])
    return lambda one: looks.Tokens(SimpleNamespace(data="", profile=""), one)


def test_without_visuals_the_figures_of_both_tokens_are_placeholders(tokens):
    for one in ("not run", "stale", noise("key")):  # the last of a method with one token
        page = tokens(one)
        assert all(tables.NOT_RUN in shown.data for shown in (page.maps(), page.table(), page.lists()))


def test_the_share_of_a_token_on_things_is_told_from_that_of_the_other(tokens):
    told = tokens(looked_at()).table().data
    assert "things named larger, clothing and body undecided" in told
    assert "things named smaller" in tokens(looked_at(lean=-0.2)).table().data
    things, body = rows_of(told)
    assert "+20.0 [" in things and "+30.0 [" in things and "+0.0 [" in body


def test_a_few_images_are_not_judged(tokens):
    told = tokens(looked_at(named=1)).table().data
    assert "things named not judged (1 image with it)" in told and "things named (1 image)" in told


def test_the_picture_of_the_landing_page_is_of_the_part_with_image_queries(monkeypatch):
    one = noise(explained=4, grid=(8, 4))._replace(rows=np.arange(4))
    monkeypatch.setattr(visuals, "fresh", lambda *_: one)
    page = SimpleNamespace(profile="smoke", data="world_text+world_market", seed=0, shelf=BOOK)
    drawn = landing.heat(SimpleNamespace(name="HPL", page=page))
    assert len(drawn.axes) == 2 and drawn.axes[0].images, "an image, and its map"
